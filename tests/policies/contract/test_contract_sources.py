"""Reading a contract from a checkpoint folder: order, overrides, conflicts, lenient reading."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import pytest

from b1k_envs.errors import ContractMismatchError, UsageError
from b1k_policies.contract import fitting as contract_fitting
from b1k_policies.contract import resolving as contract_sources
from b1k_policies.contract import spellings as contract_spellings
from b1k_policies.contract.contract import EvalContract
from b1k_policies.contract.fields import FIELDS
from b1k_policies.contract.presets import V4, V17
from b1k_policies.contract.reading import read_contract_file
from b1k_policies.contract.resolved import ContractConflictError
from b1k_policies.contract.resolving import parse_setting, resolve

# As the v17 card prints it, plus keys a saved X-VLA configuration has.
CONFIG_V17 = {
    "model_type": "xvla",
    "action_mode": "auto",
    "real_action_dim": 23,
    "max_action_dim": 23,
    "dim_proprio": 23,
    "num_actions": 30,
    "num_skills": 34,
    "skill_classifier_weight": 0.5,
    "use_progress_head": True,
    "progress_head_weight": 0.1,
    "florence_config": {"torch_dtype": "float16", "vision_config": {"image_size": 768}},
    "geometry_conditioning": {
        "da3_model_name": "depth-anything/DA3-LARGE",
        "da3_input_dim": 1024,
        "da3_process_res": 224,
        "num_geometry_tokens": 240,
        "use_posed_da3": True,
        "freeze_da3": True,
    },
}
CONFIG_V4 = {
    **CONFIG_V17,
    "skill_classifier_weight": 0.1,
    "geometry_conditioning": {
        **CONFIG_V17["geometry_conditioning"],
        "da3_model_name": "depth-anything/DA3-BASE",
        "da3_process_res": 504,
        "num_geometry_tokens": 32,
    },
}


@pytest.fixture
def folder(tmp_path):
    """Writes a checkpoint folder; a config of None leaves it out."""

    def write(config, contract=None):
        for name, document in (("config.json", config), ("EVAL_CONTRACT.json", contract)):
            if document is not None:
                text = document if isinstance(document, str) else json.dumps(document)
                (tmp_path / name).write_text(text)
        return tmp_path

    return write


def config_with(config=CONFIG_V17, **changes):
    """A copy of a configuration; a value of None takes a key away."""
    changed = copy.deepcopy(config)
    for key, value in changes.items():
        home = (
            changed["geometry_conditioning"] if key in changed["geometry_conditioning"] else changed
        )
        if value is None:
            del home[key]
        else:
            home[key] = value
    return changed


def rows(error):
    return {difference.name: difference for difference in error.differences}


# --- the order of reading ---------------------------------------------------------------------


@pytest.mark.parametrize(("config", "preset"), [(CONFIG_V17, V17), (CONFIG_V4, V4)])
def test_the_size_chooses_the_preset(folder, config, preset):
    found = resolve(folder(config))
    assert found.contract == preset
    inside = found.sources["geometry_size"]
    assert inside.source == "config.json:geometry_conditioning.da3_process_res"
    assert inside.confirmed_by == (f"preset {preset.name}",)
    assert found.sources["image_size"].source == f"preset {preset.name}"
    assert found.sources["chunk_length"].source == "config.json:num_actions"
    assert found.sources["extrinsics_rows"].source == f"preset {preset.name}"
    assert "config.json:dim_proprio" in found.sources["proprio_parts"].confirmed_by
    assert "config.json:use_progress_head" in found.sources["progress_output"].confirmed_by
    assert not found.is_forced
    assert found.remarks[:2] == (
        "the checkpoint has no EVAL_CONTRACT.json",
        f"taken for {preset.name} by the size inside its geometry encoder; no file names it or "
        "states that of the pictures",
    )


def test_the_florence_configuration_inside_config_json_is_not_taken_for_the_contract(folder):
    found = resolve(folder(CONFIG_V17))
    assert all("florence" not in statement.where for statement in found.understood)
    assert found.contract.image_size == 224
    assert found.sources["dtype"].source == "preset v17"


def test_a_size_that_fits_no_preset_asks_for_a_contract(folder):
    with pytest.raises(UsageError) as refused:
        resolve(folder(config_with(da3_process_res=336)))
    text = str(refused.value)
    assert "config.json:geometry_conditioning.da3_process_res says 336 px inside" in text
    assert "fits no preset (v4 504 with 504 inside, v17 224 with 224 inside); pass --contr" in text


@pytest.fixture
def a_v18_of_v17s_size(monkeypatch):
    v18 = dataclasses.replace(V17, name="v18", first_action=2)
    presets = {"v4": V4, "v17": V17, "v18": v18}
    for module in (contract_sources, contract_spellings, contract_fitting):
        monkeypatch.setattr(module, "PRESETS", presets)
    return v18


def test_of_two_presets_of_one_size_the_named_one_is_taken(folder, a_v18_of_v17s_size):
    assert resolve(folder(CONFIG_V17, {"name": "v18"})).contract == a_v18_of_v17s_size
    found = resolve(folder(CONFIG_V17, {"checkpoint": "task31-v17-ckpt50000"}))
    assert found.contract == V17
    assert found.sources["first_action"].source == "preset v17"
    assert resolve(folder(CONFIG_V4, {})).contract == V4


@pytest.mark.parametrize(
    ("contract", "text"),
    [
        (None, "fits several presets (v17, v18), and no file names one; pass --contract"),
        ({"name": "v4"}, "(v17, v18), and EVAL_CONTRACT.json:name says 'v4'; pass --contract"),
    ],
)
def test_of_two_presets_of_one_size_none_is_guessed(folder, a_v18_of_v17s_size, contract, text):
    with pytest.raises(UsageError) as refused:
        resolve(folder(CONFIG_V17, contract))
    assert text in str(refused.value)
    assert "fits no preset" not in str(refused.value)


def test_the_advice_of_a_conflict_names_every_preset_of_the_size(folder, a_v18_of_v17s_size):
    with pytest.raises(ContractConflictError, match=r"by size the files fit v17 or v18\)"):
        resolve(folder(CONFIG_V17), contract="v4")


def test_without_a_size_nothing_is_guessed(folder):
    with pytest.raises(
        UsageError, match=r"states the size .* no preset can be chosen; pass --contr"
    ):
        resolve(folder(config_with(da3_process_res=None)))


def test_a_name_in_the_contract_file_chooses_where_no_size_is_stated(folder):
    found = resolve(
        folder(config_with(da3_process_res=None), {"checkpoint": "task31-v4-ckpt100000"})
    )
    assert found.contract == V4


def test_no_folder_no_config_and_broken_files_say_so(tmp_path, folder):
    with pytest.raises(UsageError, match=r"nowhere is no folder; give the folder of a checkpoint"):
        resolve(tmp_path / "nowhere")
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UsageError, match=r"has no config.json, .* it holds model.safetensors"):
        resolve(tmp_path)
    with pytest.raises(UsageError, match=r"config.json is not JSON: Expecting"):
        resolve(folder("{"))
    with pytest.raises(UsageError, match=r"EVAL_CONTRACT.json must hold a JSON object, got list"):
        resolve(folder(CONFIG_V17, "[]"))


def test_open_fields_are_named_until_a_file_settles_them(folder):
    (remark,) = [r for r in resolve(folder(CONFIG_V17)).remarks if r.startswith("open, ")]
    assert "gripper_proprio" in remark
    assert "camera_axes" in remark
    found = resolve(folder(CONFIG_V17, {"gripper_scaling": "q1+q2", "camera_axes": "OpenCV"}))
    (remark,) = [r for r in found.remarks if r.startswith("open, ")]
    assert (found.contract.gripper_proprio, found.contract.camera_axes) == ("sum", "opencv")
    assert found.sources["camera_axes"].source == "EVAL_CONTRACT.json:camera_axes"
    assert "gripper_proprio" not in remark
    assert "camera_axes" not in remark


def test_v4s_crossed_poses_are_remarked_on(folder):
    remarks = resolve(folder(CONFIG_V4)).remarks
    assert "extrinsics row 0 has the pose of left_wrist, image 0 is head" in remarks


def test_another_model_of_the_same_size_is_remarked_on(folder):
    remarks = resolve(folder(config_with(num_geometry_tokens=64))).remarks
    (remark,) = [r for r in remarks if "perhaps another model" in r]
    assert "geometry_conditioning.num_geometry_tokens is 64, the card of v17 says 240" in remark


# --- two sizes, and the processor's file --------------------------------------------------------


PUBLIC = config_with(
    CONFIG_V4, num_geometry_tokens=64, skill_classifier_weight=None, use_posed_da3=None
)
PROCESSOR = {
    "do_resize": True, "size": {"height": 224, "width": 224}, "resample": 3, "do_normalize": True,
    "do_center_crop": False, "crop_size": {"height": 768, "width": 768},
    "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "num_views": 3,
}  # fmt: skip


@pytest.fixture
def with_processor(folder, tmp_path):
    """A folder with a preprocessor_config.json too."""

    def write(config, contract=None, **changes):
        text = json.dumps({**PROCESSOR, **changes})
        (tmp_path / "preprocessor_config.json").write_text(text)
        return folder(config, contract)

    return write


def test_504_inside_the_encoder_is_v4_only_with_the_rest_of_its_card(folder):
    assert resolve(folder(CONFIG_V4)).contract == V4
    with pytest.raises(UsageError) as refused:
        resolve(folder(PUBLIC))
    text = str(refused.value)
    assert (
        "says 504 px inside the geometry encoder, and nothing says how large the pictures" in text
    )
    assert "504 px in v4, 224 px in the public code of this family" in text
    assert "pass --contract v4, or --contract FILE with image_size 224" in text


def test_224_px_with_504_inside_are_not_taken_for_v4(with_processor, tmp_path):
    for config in (CONFIG_V4, PUBLIC):
        with pytest.raises(UsageError) as refused:
            resolve(with_processor(config))
        text = str(refused.value)
        assert "preprocessor_config.json:size says 224 px" in text
        assert "says 504 px inside the geometry encoder, which fits no preset (v4 504 with" in text
    file = tmp_path / "mine.json"
    file.write_text('{"base": "v17", "name": "public", "geometry_size": 504}')
    found = resolve(tmp_path, contract=str(file)).contract
    assert (found.image_size, found.geometry_size) == (224, 504)
    assert found.intrinsics("head")[0, 2] == 112


def test_the_processors_file_settles_what_nobody_else_says(with_processor):
    found = resolve(with_processor(CONFIG_V17))
    assert found.contract == V17
    assert found.sources["image_size"].source == "preprocessor_config.json:size"
    assert "preprocessor_config.json:resample" in found.sources["resize_filter"].source
    with pytest.raises(ContractConflictError, match=r"resize_filter: preproc\S+:resample says"):
        resolve(with_processor(CONFIG_V17, resample=2))
    with pytest.raises(ContractConflictError, match=r"image_mean: preproc\S+:image_mean says"):
        resolve(with_processor(CONFIG_V17, image_mean=[0.5, 0.5, 0.5]))
    resolve(with_processor(CONFIG_V17, image_mean=[0.5, 0.5, 0.5], do_normalize=False))


def test_the_processors_file_gives_way_and_that_is_said(with_processor):
    told = "preprocessor_config.json:size says 224, image_size is 504"
    named = resolve(with_processor(CONFIG_V4), contract="v4")
    stated = resolve(with_processor(CONFIG_V4, {"image_size": 504}))
    for found, by in ((named, "(--contract v4)"), (stated, "(EVAL_CONTRACT.json:image_size)")):
        assert found.contract == V4
        assert not found.is_forced
        assert any(r.startswith(f"{told} {by}: the processor's file") for r in found.remarks)


# --- how long a row lasts, frames, masks, grippers ----------------------------------------------


@pytest.mark.parametrize(
    ("contract", "field", "value"),
    [
        ({"proprio": {"base_qvel_frame": "world"}}, "base_qvel_frame", "world"),
        ({"base_velocity_frame": "Robot"}, "base_qvel_frame", "robot"),
        ({"idx_for_mask_proprio": [22, 0, 1, 2, 6, 14]}, "proprio_mask", (0, 1, 2, 6, 14, 22)),
        ({"gripper_threshold": 0.25}, "gripper_threshold", 0.25),
        ({"action": {"gripper_binarized": False}}, "gripper_threshold", None),
        ({"row_period_s": 0.033}, "steps_per_row", 1),
        ({"action_hz": 30}, "steps_per_row", 1),
        ({"chunk_duration_s": 1.0}, "steps_per_row", 1),
    ],
    ids=str,
)
def test_the_newer_fields_are_read_in_several_words(folder, contract, field, value):
    found = resolve(folder(CONFIG_V17, contract))
    assert found.not_understood == ()
    assert getattr(found.contract, field) == value
    assert not any(row["forced"] for row in found.to_dict()["sources"].values())


@pytest.mark.parametrize("stated", [{"qdur": 4.0}, {"action_hz": 7.5}, {"row_period_s": 0.133}])
def test_rows_of_another_period_are_refused_until_somebody_holds_them(folder, stated):
    path = folder(CONFIG_V17, stated)
    with pytest.raises(ContractConflictError, match="If this checkpoint is not v17, describe it"):
        resolve(path)
    found = resolve(path, settings=["steps_per_row=4"])
    assert found.contract.executed_steps == 120
    assert not found.is_forced


def test_a_period_of_no_whole_number_of_steps_cannot_be_had(folder):
    path = folder(CONFIG_V17, {"action_hz": 20})
    for settings in ([], ["steps_per_row=1"], ["steps_per_row=2"]):
        with pytest.raises(ContractConflictError, match=r"row_seconds: .*hz says 0\.05, step"):
            resolve(path, settings=settings)


def test_a_gripper_that_snaps_needs_its_threshold(folder):
    path = folder(CONFIG_V17, {"binarize_gripper": True})
    with pytest.raises(ContractConflictError, match=r"gripper_binarised: .*says true, grip"):
        resolve(path)
    assert resolve(path, settings=["gripper_threshold=0"]).contract.gripper_threshold == 0.0


def test_a_mask_in_config_json_is_the_contracts(folder):
    found = resolve(folder({**CONFIG_V17, "idx_for_mask_proprio": [0, 1, 2, 6, 14, 22]}))
    assert found.contract.proprio_mask == (0, 1, 2, 6, 14, 22)
    assert found.sources["proprio_mask"].source == "config.json:idx_for_mask_proprio"


# --- files against the preset, and against each other -----------------------------------------


CONTRADICTIONS = [
    (config_with(num_actions=50), None, "chunk_length", 50, 30),
    (config_with(dim_proprio=26), None, "proprio_dim", 26, 23),
    (config_with(real_action_dim=7), None, "action_dim", 7, 23),
    (config_with(num_skills=12), None, "skill_count", 12, 34),
    (config_with(use_progress_head=False), None, "progress_head", False, True),
    (config_with(use_posed_da3=False), None, "posed", False, True),
    (config_with(action_mode="ee6d"), None, "action_mode", "ee6d", "auto"),
    (CONFIG_V17, {"version": "v4"}, "name", "v4", "v17"),
    (CONFIG_V17, {"resize": "bilinear"}, "resize_filter", "bilinear", "bicubic"),
    (CONFIG_V17, {"antialias": False}, "resize_antialias", False, True),
    (CONFIG_V17, {"color_order": "BGR"}, "colour_order", "bgr", "rgb"),
    (CONFIG_V17, {"image_std": [0.5, 0.5, 0.5]}, "image_std", [0.5] * 3, [0.229, 0.224, 0.225]),
    (CONFIG_V17, {"view_order": ["left", "right", "head"]}, "view_order",
     ["left_wrist", "right_wrist", "head"], ["head", "left_wrist", "right_wrist"]),
    (CONFIG_V17, {"extrinsics_order": ["left", "right", "head"]}, "extrinsics_rows",
     ["left_wrist", "right_wrist", "head"], ["head", "left_wrist", "right_wrist"]),
    (CONFIG_V17, {"HEAD_K": {"fx": 214.2, "fy": 214.2, "cx": 252, "cy": 252}}, "intrinsics.head",
     [214.2, 214.2, 252, 252], [95.2, 95.2, 112, 112]),
    (CONFIG_V17, {"num_views": 2}, "view_count", 2, 3),
    (CONFIG_V17, {"delta_mask": [-3, 4, 7, -1, 7, -1]}, "delta_spec",
     [-3, 11, -1, 7, -1], [-3, 3, -1, 7, -1, 7, -1]),
    (CONFIG_V17, {"first_action": 1}, "first_action", 1, 0),
    (CONFIG_V17, {"progress_head": "probability"}, "progress_output", "probability", "logit"),
    (CONFIG_V17, {"domain_id": 0}, "domain_id", 0, 19),
]  # fmt: skip


@pytest.mark.parametrize(
    ("config", "contract", "name", "stated", "ours"), CONTRADICTIONS, ids=lambda v: str(v)[:30]
)
def test_files_that_contradict_the_preset_stop_the_run(
    folder, config, contract, name, stated, ours
):
    with pytest.raises(ContractConflictError) as stopped:
        resolve(folder(config, contract))
    row = rows(stopped.value)[name]
    assert (row.stated, row.other) == (stated, ours)
    assert stopped.value.exit_code == 3
    assert isinstance(stopped.value, ContractMismatchError)
    assert "If this checkpoint is not v17, describe it in EVAL_CONTRACT.json" in str(stopped.value)


def test_the_text_of_a_conflict_is_a_table_with_sources(folder):
    contract = {"image": {"size": 504}, "action": {"first_action": 1}}
    with pytest.raises(ContractConflictError) as stopped:
        resolve(folder(CONFIG_V4, {**contract, "progress_output": "logit"}))
    lines = str(stopped.value).splitlines()
    assert lines[0].endswith("contract and checkpoint disagree on 1 field:")
    assert lines[1] == (
        '  progress_output: EVAL_CONTRACT.json:progress_output says "logit", '
        'preset v4 says "probability";'
    )


def test_files_that_contradict_each_other_stop_the_run(folder):
    with pytest.raises(ContractConflictError) as stopped:
        resolve(folder(CONFIG_V17, {"chunk_size": 30, "image_size": 224, "num_skills": 33}))
    assert "EVAL_CONTRACT.json:num_skills says 33, config.json:num_skills says 34" in str(
        stopped.value
    )


def test_one_file_that_contradicts_itself_stops_the_run(folder):
    contract = {"view_order": "head, left, right", "image": {"order": ["left", "right", "head"]}}
    with pytest.raises(ContractConflictError, match=r"EVAL_CONTRACT\.json:image\.order says"):
        resolve(folder(CONFIG_V17, contract))


def test_a_stated_k_may_be_rounded_to_a_tenth_and_no_further(folder):
    wrist = {"fx": 181.4, "fy": 181.4, "cx": 112.0, "cy": 112.0}  # exactly 181.376
    found = resolve(folder(CONFIG_V17, {"WRIST_K": wrist}))
    assert found.sources["native_intrinsics"].confirmed_by[-1] == "EVAL_CONTRACT.json:WRIST_K"
    with pytest.raises(ContractConflictError, match=r"intrinsics.left_wrist.*181\.6"):
        resolve(folder(CONFIG_V17, {"WRIST_K": {**wrist, "fx": 181.6}}))


def test_a_native_k_stated_with_its_size_is_checked_as_such(folder):
    native = {"fx": 306.0, "fy": 306.0, "cx": 360, "cy": 360, "width": 720}
    resolve(folder(CONFIG_V17, {"intrinsics": {"head": native}}))
    with pytest.raises(ContractConflictError, match=r"native.head: .*640"):
        resolve(folder(CONFIG_V17, {"intrinsics": {"head": {**native, "width": 640}}}))


def test_when_forced_the_files_win_over_a_preset_nobody_named(folder):
    found = resolve(folder(CONFIG_V17, {"first_action": 1}), force=True)
    assert found.contract.first_action == 1
    assert found.sources["first_action"].forced
    assert found.is_forced
    assert [row.name for row in found.forced] == ["first_action"]


# --- what is given by hand -----------------------------------------------------------------------


def test_v4_named_for_a_v17_folder_is_refused_with_every_difference_the_files_show(folder):
    contract = {
        "HEAD_K": "fx=fy=95.2, cx=cy=112",
        "PARQUET_TO_VIEW": [1, 2, 0],
        "first_action": 0,
        "progress_head": "bare Linear",
    }
    path = folder(CONFIG_V17, contract)
    with pytest.raises(ContractConflictError) as stopped:
        resolve(path, contract="v4")
    assert set(rows(stopped.value)) == {
        "geometry_size", "intrinsics.head", "extrinsics_rows", "first_action", "progress_output",
    }  # fmt: skip
    assert "(by size the files fit v17), or pass --force-contract" in str(stopped.value)
    forced = resolve(path, contract="v4", force=True)
    assert forced.contract == V4
    assert forced.sources["geometry_size"].forced
    assert forced.sources["image_size"].source == "--contract v4"
    assert forced.sources["native_intrinsics"].forced  # the K the file states is not the one sent
    assert not forced.sources["domain_id"].forced
    assert len(forced.forced) == 5


def test_naming_the_preset_that_fits_changes_nothing_but_the_source(folder):
    found = resolve(folder(CONFIG_V17), contract="v17")
    assert found.contract == V17
    assert not found.is_forced
    assert found.sources["first_action"].source == "--contract v17"


def test_the_files_win_over_a_named_presets_open_fields(folder):
    found = resolve(folder(CONFIG_V17, {"gripper_scaling": "sum"}), contract="v17")
    assert found.contract.gripper_proprio == "sum"


def test_a_set_field_that_the_files_leave_open_is_taken_and_recorded(folder):
    found = resolve(folder(CONFIG_V4), settings=["extrinsics_rows=head,left_wrist,right_wrist"])
    assert found.contract.extrinsics_rows == ("head", "left_wrist", "right_wrist")
    assert found.sources["extrinsics_rows"].source == "--set"
    assert not found.is_forced
    assert any(r.startswith("extrinsics_rows is [") and "of v4" in r for r in found.remarks)


def test_a_set_field_that_the_files_state_is_refused_unless_forced(folder):
    path = folder(CONFIG_V17, {"image_size": 224})
    with pytest.raises(ContractConflictError, match=r"json:image_size says 224, --set says 504;"):
        resolve(path, settings=["image_size=504"])
    forced = resolve(path, settings=["image_size=504"], force=True)
    assert forced.contract.image_size == 504
    assert forced.sources["image_size"].forced
    assert forced.contract.first_action == 0
    assert str(forced.forced[0]).endswith("--set says 504")


def test_setting_what_the_files_state_anyway_is_fine(folder):
    found = resolve(folder(CONFIG_V17), settings=["image_size=224"])
    assert found.sources["image_size"].source == "--set"
    assert not found.is_forced


def test_dtype_and_steps_are_the_runners_choice_even_against_the_files(folder):
    path = folder(
        {**CONFIG_V17, "torch_dtype": "bfloat16"}, {"denoising_steps": 5, "dtype": "fp32"}
    )
    found = resolve(path)
    assert (found.contract.dtype, found.contract.denoising_steps) == ("float32", 5)
    found = resolve(path, settings=["dtype=float16", "denoising_steps=20"])
    assert (found.contract.dtype, found.contract.denoising_steps) == ("float16", 20)
    assert not found.is_forced


@pytest.mark.parametrize("named", [None, "v17"])
def test_a_value_that_nobody_spelt_out_is_by_default(folder, tmp_path, named):
    path = folder(CONFIG_V17, {"name": "v17", "first_action": 0})
    sources = resolve(path, contract=named, settings=["dtype=float16"]).sources
    assert sources["denoising_steps"].by_default
    assert not sources["chunk_length"].by_default  # config.json
    assert not sources["first_action"].by_default  # EVAL_CONTRACT.json, as the preset has it
    assert not sources["dtype"].by_default
    file = tmp_path / "mine.json"
    file.write_text('{"base": "v17", "domain_id": 19}')
    sources = resolve(path, contract=str(file)).sources
    assert sources["denoising_steps"].by_default
    assert not sources["domain_id"].by_default


SETTINGS = [
    ("image_size=504", ("image_size", 504)),
    ("resize_antialias=false", ("resize_antialias", False)),
    ("resize_antialias=no", ("resize_antialias", False)),
    ("colour_order=BGR", ("colour_order", "bgr")),
    ("image_mean=0.5,0.5,0.5", ("image_mean", (0.5, 0.5, 0.5))),
    ("image_mean=[0.5, 0.5, 0]", ("image_mean", (0.5, 0.5, 0.0))),
    ("view_order= right_wrist, left_wrist", ("view_order", ("right_wrist", "left_wrist"))),
    ("delta_spec=-3,3,-1,7,-1,7,-1", ("delta_spec", (-3, 3, -1, 7, -1, 7, -1))),
    ("delta_spec=-3 3 -17", ("delta_spec", (-3, 3, -17))),
    ("delta_spec=-23", ("delta_spec", (-23,))),
    ("prompt=none", ("prompt", None)),
    ("prompt=Open the washer=now", ("prompt", "Open the washer=now")),
    ("skill_names=none", ("skill_names", None)),
    ("skill_names=move to,turn to", ("skill_names", ("move to", "turn to"))),
    ("name=17", ("name", "17")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "parsed"), SETTINGS)
def test_settings_are_typed(text, parsed):
    assert parse_setting(text) == parsed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image_size", "--set 'image_size': expects field=value, as in image_size=504"),
        ("image_sise=504", "'image_sise' is no field of a contract; did you mean image_size"),
        ("image_size=big", "image_size expects a whole number from 14 to 4096, got 'big'"),
        ("image_size=224.0", "got 224.0"),
        ("dtype=bf16", "did you mean bfloat16"),
        ("resize_antialias=1", "resize_antialias expects true or false, got 1"),
        ("zzz=1", "choose from name, image_size"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(text, message):
    with pytest.raises(UsageError) as refused:
        parse_setting(text)
    assert message in str(refused.value)


def test_a_contract_file_is_read_whole_partly_or_as_printed(tmp_path):
    whole = tmp_path / "whole.json"
    whole.write_text(json.dumps(V4.to_dict()))
    assert resolve(contract=str(whole)).contract == V4
    printed = tmp_path / "printed.json"
    printed.write_text(json.dumps(resolve(contract="v4").to_dict()))
    assert resolve(contract=str(printed)).contract == V4
    partly = tmp_path / "v18.json"
    partly.write_text('{"base": "v17", "name": "v18", "first_action": 1}')
    found = resolve(contract=str(partly), settings=["domain_id=20"])
    assert (found.contract.name, found.contract.first_action) == ("v18", 1)
    assert (found.contract.domain_id, found.contract.image_size) == (20, 224)
    assert found.sources["first_action"].source == str(partly)
    assert found.sources["image_size"].source == f"{partly} (base v17)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"base": "v17", "first_acton": 1}',
            "'first_acton' is no field of a contract; did you me",
        ),
        ('{"base": "v71"}', "base 'v71' is no preset; did you mean v17?"),
        ('{"name": "v18", "image_size": 224}', "the contract lacks geometry_size, resize"),
        ('{"base": "v17", "image_size": "x"}', "image_size expects a whole number"),
    ],
)
def test_a_contract_file_that_cannot_be_meant_is_refused(tmp_path, text, message):
    path = tmp_path / "c.json"
    path.write_text(text)
    with pytest.raises(UsageError) as refused:
        resolve(contract=str(path))
    assert message in str(refused.value)


def test_a_contract_that_is_neither_preset_nor_file_is_refused():
    with pytest.raises(UsageError, match=r"--contract 'v5' is neither a preset nor a file"):
        resolve(contract="v5")


def test_a_contract_file_may_not_contradict_the_checkpoint_even_in_open_fields(folder, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"base": "v17", "name": "mine", "gripper_proprio": "fraction"}')
    checkpoint = folder(CONFIG_V17, {"version": "v17", "gripper_scaling": "sum"})
    with pytest.raises(ContractConflictError) as stopped:
        resolve(checkpoint, contract=str(path))
    assert set(rows(stopped.value)) == {"gripper_proprio"}


def test_a_partial_file_without_a_base_is_filled_from_the_preset_that_fits(folder, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"first_action": 2}')
    found = resolve(folder(CONFIG_V17), contract=str(path))
    assert found.contract.first_action == 2
    assert found.sources["domain_id"].source == "preset v17"


def test_a_name_given_by_hand_contradicts_nothing(folder):
    found = resolve(folder(CONFIG_V17, {"version": "v17"}), settings=["name=tuesday"])
    assert found.contract.name == "tuesday"
    assert not found.is_forced


# --- a third checkpoint -----------------------------------------------------------------------


def test_a_v18_says_its_base_and_what_differs_and_needs_no_code(folder):
    contract = {"name": "v18", "base": "v17", "first_action": 2, "image_size": 336}
    found = resolve(folder(config_with(da3_process_res=336), contract))
    assert (found.contract.first_action, found.contract.image_size) == (2, 336)
    assert found.contract.name == "v18"
    assert found.contract.domain_id == 19
    assert found.sources["domain_id"].source == "base v17"
    assert found.contract.intrinsics("head")[0, 0] == pytest.approx(306.0 * 336 / 720)
    assert not found.is_forced


def test_a_v18_may_spell_out_everything(folder):
    document = {
        **V17.to_dict(),
        "name": "v18",
        "extrinsics_rows": ["left_wrist", "right_wrist", "head"],
    }
    found = resolve(folder(CONFIG_V17, document))
    assert found.contract == EvalContract.from_dict(document)
    assert {s.source.split(":")[0] for s in found.sources.values()} == {"EVAL_CONTRACT.json"}
    assert found.not_understood == ()


def test_a_v18_that_says_neither_is_not_taken_for_v17(folder):
    with pytest.raises(UsageError) as refused:
        resolve(folder(CONFIG_V17, {"name": "v18"}))
    text = str(refused.value)
    assert "EVAL_CONTRACT.json:name says 'v18', which is none of the presets (v4, v17)" in text
    assert 'or a base ("base": "v17"), or pass --contract' in text


def test_a_file_that_calls_itself_v17_cannot_depart_from_it_through_a_base(folder):
    with pytest.raises(ContractConflictError, match="first_action"):
        resolve(folder(CONFIG_V17, {"name": "v17", "base": "v17", "first_action": 1}))


# --- lenient reading ------------------------------------------------------------------------


NESTED = {
    "_comment": "authoritative",
    "model_version": "v17",
    "image_preprocessing": {
        "size": [224, 224],
        "resize": "BICUBIC",
        "antialias": True,
        "normalization": {
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "order": "RGB",
        },
        "view_order": ["head", "left", "right"],
    },
    "intrinsics": {
        "head": [[95.2, 0, 112], [0, 95.2, 112], [0, 0, 1]],
        "wrist": [181.4, 181.4, 112, 112],
        "resolution": 224,
    },
    "extrinsics": {"convention": "camera-to-base", "order": ["head", "left_wrist", "right_wrist"]},
    "action": {"chunk_size": 30, "delta_mask": "make_bool_mask(-3, 3, -1, 7, -1, 7, -1)"},
    "progressHead": {"type": "bare Linear"},
    "skill": {"num_classes": 34},
    "changes_from_v4": {"image_size": "504 -> 224"},
    "latent_segmenter": False,
}
LIKE_THE_CARD = {
    "checkpoint": "JackLiu0406/da3-xvla-b1k-task31-v17-ckpt50000",
    "batch": {
        "input_ids": "LongTensor [B, L]",
        "image_input": "FloatTensor [B, 3, 3, 224, 224], head, left, right (RGB, ImageNet-norm)",
        "proprio": "FloatTensor [B, 23]",
        "domain_id": "LongTensor [B], 19 (R1Pro)",
        "extrinsics": "FloatTensor [B, 3, 4, 4], SE(3), camera-to-base, ORDER [head, left, right]",
    },
    "HEAD_K": "fx=fy=95.2, cx=cy=112",
    "WRIST_K": "fx=fy=181.4, cx=cy=112",
    "PARQUET_TO_VIEW": [1, 2, 0],
    "idx_for_delta": [3, 4, 5, *range(7, 14), *range(15, 22)],
    "pred_actions": "[B, 30, 23]",
}
FLAT = {
    "version": 17,
    "img_size": "224x224",
    "resize": "bicubic",
    "channel_order": "RGB",
    "normalization": "ImageNet",
    "cameras": ["head", "left_wrist", "right_wrist"],
    "extrinsics_convention": "camera-to-base",
    "camera_axes": "OpenGL",
    "pose_order": "head, left, right",
    "proprio_layout": "base_qvel, trunk_qpos, arm_left_qpos, gripper_left_qpos, arm_right_qpos, "
                      "gripper_right_qpos",
    "gripper_scaling": "2*(q1+q2)/0.10 - 1",
    "delta_mask": [i in {3, 4, 5} or 7 <= i < 14 or 15 <= i < 22 for i in range(23)],
    "action_horizon": 30,
    "first_executable_action": 0,
    "progress_head": "logit",
    "id_to_skill": {str(i): f"skill {i}" for i in range(34)},
    "tokenizer_max_length": 50,
    "instruction": V17.prompt,
    "precision": "bf16",
    "num_inference_steps": 10,
}  # fmt: skip


@pytest.mark.parametrize(
    ("document", "stated", "not_understood"),
    [
        (
            NESTED,
            {
                "name", "image_size", "resize_filter", "resize_antialias", "image_mean",
                "image_std", "colour_order", "view_order", "intrinsics.head",
                "intrinsics.left_wrist", "intrinsics.right_wrist", "extrinsics_direction",
                "extrinsics_rows", "chunk_length", "delta_spec", "progress_output", "skill_count",
            },
            ["changes_from_v4", "latent_segmenter"],
        ),
        (
            LIKE_THE_CARD,
            {
                "name", "image_size", "view_count", "view_order", "image_mean", "image_std",
                "colour_order", "proprio_dim", "domain_id", "extrinsics_direction",
                "extrinsics_rows", "intrinsics.head", "intrinsics.left_wrist",
                "intrinsics.right_wrist", "delta_spec", "chunk_length", "action_dim",
            },
            ["batch.input_ids"],
        ),
        (
            FLAT,
            {
                "image_size", "resize_filter", "colour_order", "image_mean", "image_std",
                "view_order", "extrinsics_direction", "camera_axes", "extrinsics_rows",
                "proprio_parts", "gripper_proprio", "delta_spec", "chunk_length", "first_action",
                "progress_output", "skill_names", "skill_count", "language_length", "prompt",
                "dtype", "denoising_steps",
            },
            ["version"],
        ),
    ],
    ids=["nested", "like the card", "flat"],
)  # fmt: skip
def test_plausible_shapes_are_understood_and_agree_with_v17(
    folder, document, stated, not_understood
):
    found = resolve(folder(CONFIG_V17, document))
    from_file = {s.name for s in found.understood if s.where.startswith("EVAL_CONTRACT.json:")}
    assert from_file == stated
    keys = [line.split(":")[1] for line in found.not_understood]
    assert keys == not_understood
    assert [row for row in found.to_dict()["sources"].values() if row["forced"]] == []
    for name in set(stated) & {"image_size", "view_order", "extrinsics_rows", "delta_spec"}:
        assert getattr(found.contract, name) == getattr(V17, name)


def test_skill_names_come_from_the_file_and_from_nowhere_else(folder):
    found = resolve(folder(CONFIG_V17, FLAT))
    assert found.contract.skill_names is not None
    assert found.contract.skill_names[11] == "skill 11"
    assert resolve(folder(CONFIG_V17, {})).contract.skill_names is None


VIEWS_LINE = '"view_order": ["head", "left_wrist", "right_wrist"] in its order'
PROGRESS_LINE = '"progress_output": "probability" | "logit" | "none"'
GRIPPER_LINE = '"gripper_proprio": "signed" | "fraction" | "sum"'
FILTER_LINE = '"resize_filter": "bicubic" | "bilinear" | "nearest"'


@pytest.mark.parametrize(
    ("document", "line"),
    [
        ({"resize": "BICUBIC to 224x224, antialias"}, FILTER_LINE),
        ({"image": {"resize": "bicubic or bilinear"}}, FILTER_LINE),
        ({"cameras": [{"name": "head_rgb"}, {"name": "left_rgb"}]}, VIEWS_LINE),
        ({"view_order": "first the head, then left and right"}, VIEWS_LINE),
        ({"gripper_scaling": "unsigned [0, 1]"}, GRIPPER_LINE),
        ({"gripper_scaling": "[-1, 1] mapped to [0, 1]"}, GRIPPER_LINE),
        ({"gripper_scaling": "not signed"}, GRIPPER_LINE),
        ({"progress_head": "raw value, not a probability"}, PROGRESS_LINE),
        ({"progress_head": "logit: a bare Linear, apply a sigmoid once"}, PROGRESS_LINE),
        ({"progress_head_type": "Linear (not Sequential(Linear, Sigmoid))"}, PROGRESS_LINE),
        ({"progres_head": "logit"}, PROGRESS_LINE),  # the nearest key
        ({"camera_axes": "USD: +x right, +y up"}, '"camera_axes": "usd" | "opencv"'),
        ({"extrinsics_convention": "c2b"},
         '"extrinsics_direction": "camera_to_base" | "base_to_camera"'),
        ({"delta_reference": "the first action, not the proprio"}, '"delta_reference": "proprio"'),
        ({"base_qvel_frame": "world-fixed (spawn) axes"},
         '"base_qvel_frame": "as_recorded" | "world" | "robot"'),
        ({"domain_id": "nineteen"}, '"domain_id": WHOLE NUMBER'),
        ({"normalization": "not ImageNet"}, '"FIELD": VALUE (docs/contract.md)'),
        ({"progress_is_logit": True}, '"FIELD": VALUE (docs/contract.md)'),
        ({"unheard_of": {"image_size": 504}}, '"image_size": WHOLE NUMBER'),
    ],
    ids=str,
)  # fmt: skip
def test_words_that_no_table_has_are_listed_with_the_line_to_add(folder, document, line):
    found = resolve(folder(CONFIG_V17, document))
    (told,) = found.not_understood
    assert told.endswith(f"; if it counts, add {line} to a --contract file")
    assert told.startswith(f"EVAL_CONTRACT.json:{next(iter(document))}")
    assert found.contract == V17
    assert not any(s.where.startswith("EVAL_CONTRACT.json") for s in found.understood)


def test_the_line_to_add_settles_the_field(folder, tmp_path):
    path = folder(CONFIG_V17, {"gripper_scaling": "q1 + q2, summed"})
    (told,) = resolve(path).not_understood
    assert 'add "gripper_proprio": "signed" | "fraction" | "sum" to a --contract file' in told
    file = tmp_path / "mine.json"
    file.write_text('{"gripper_proprio": "sum"}')
    assert resolve(path, contract=str(file)).contract.gripper_proprio == "sum"


def test_every_spelling_of_a_field_is_understood_and_no_key_stands_for_two():
    keys = [key for row in FIELDS.values() for key in row.spellings]
    assert len(set(keys)) == len(keys)
    for info in FIELDS.values():
        if info.name in ("name", "native_intrinsics"):
            continue
        value = info.codec.encode(getattr(V4, info.name))
        for key in info.spellings:
            stated = {s.name: s.value for s in read_contract_file({key: value}).statements}
            assert stated.get(info.name) == getattr(V4, info.name), key


@pytest.mark.parametrize(
    "unclear",
    [
        {"progress_head_activation": "sigmoid"},  # done inside, or to be done?
        {"progress_head_type": "sigmoid"},
        {"delta_reference": "the chunk's first action"},
        {"version": "1.0"},
        {"contract_version": "v1"},
        {"image_size": [224, 504]},
        {"image_size": "224 or 504"},
        {"image_mean": [123.675, 116.28, 103.53]},
        {"extrinsics": "camera-to-base, was base-to-camera"},
        {"view_order": ["head", "left", "ego"]},
        {"first_action": "the next one"},
        {"action_layout": ["base xyz", "base xyz delta", "base yaw"]},
        {"skill_names": {"0": "move to", "2": "turn to"}},
        {"training": {"image_size": 504}},
        {"v4": {"image_size": 504}, "v17": {"image_size": 224}},
        {"image_size": 5},
        {"batch": {"dtype": "float16"}},  # of one tensor
        {"task": {"skills": ["move to", "turn to"]}},  # of one task
        {"notes": {"instruction": "resize first"}},
        {"action": {"interpolation": "nearest"}},
        {"domain_id": None},
    ],
    ids=str,
)
def test_what_is_unclear_is_listed_and_never_guessed(unclear):
    reading = read_contract_file(unclear)
    assert reading.statements == []
    listed = {line.split(":")[1].split(".")[0] for line in reading.not_understood}
    assert listed == set(unclear)


def test_what_is_found_can_be_recorded_and_sent_to_a_worker(folder):
    found = resolve(folder(CONFIG_V17, NESTED), settings=["dtype=bfloat16"])
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert EvalContract.from_dict(document["contract"]) == found.contract
    assert document["sources"]["dtype"]["source"] == "--set"
    assert document["sources"]["camera_axes"] == {
        "source": "preset v17", "confirmed_by": [], "forced": False,
        "by_default": True, "effect": "bytes", "sure": "open",
    }  # fmt: skip
    assert pickle.loads(pickle.dumps(found)) == found


def test_a_conflict_survives_the_way_from_a_worker(folder):
    with pytest.raises(ContractConflictError) as stopped:
        resolve(folder(CONFIG_V17, {"first_action": 1}))
    again = pickle.loads(pickle.dumps(stopped.value))
    assert str(again) == str(stopped.value)
    assert again.differences == stopped.value.differences
