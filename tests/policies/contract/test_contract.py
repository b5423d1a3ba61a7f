"""The contract value: figures of the card, the mask column by column, refusals, JSON."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from b1k_envs.errors import UsageError
from b1k_envs.r1pro import ACTION_SLICES
from b1k_policies.contract.codecs import ContractValueError
from b1k_policies.contract.contract import EvalContract, diff
from b1k_policies.contract.fields import FIELDS
from b1k_policies.contract.presets import PRESETS, PROPRIO_GRIPPERS_LAST, V4, V17

# The card's table of changes, typed off it: fx = fy, cx = cy.
CARD_K = {
    ("v4", "head"): (214.2, 252),
    ("v4", "left_wrist"): (408.1, 252),
    ("v4", "right_wrist"): (408.1, 252),
    ("v17", "head"): (95.2, 112),
    ("v17", "left_wrist"): (181.4, 112),
    ("v17", "right_wrist"): (181.4, 112),
}

# make_bool_mask(-3, 3, -1, 7, -1, 7, -1), written out column by column.
CARD_MASK = [
    (0, "base vx", False),
    (1, "base vy", False),
    (2, "base wz", False),
    (3, "torso 1", True),
    (4, "torso 2", True),
    (5, "torso 3", True),
    (6, "torso 4", False),
    (7, "left arm 1", True),
    (8, "left arm 2", True),
    (9, "left arm 3", True),
    (10, "left arm 4", True),
    (11, "left arm 5", True),
    (12, "left arm 6", True),
    (13, "left arm 7", True),
    (14, "left gripper", False),
    (15, "right arm 1", True),
    (16, "right arm 2", True),
    (17, "right arm 3", True),
    (18, "right arm 4", True),
    (19, "right arm 5", True),
    (20, "right arm 6", True),
    (21, "right arm 7", True),
    (22, "right gripper", False),
]


@pytest.mark.parametrize(("preset", "view"), CARD_K)
def test_intrinsics_are_the_cards_to_a_tenth_of_a_pixel(preset, view):
    focal, centre = CARD_K[preset, view]
    k = PRESETS[preset].intrinsics(view)
    assert k == pytest.approx(
        np.array([[focal, 0, centre], [0, focal, centre], [0, 0, 1]]), abs=0.1
    )
    assert k.dtype == np.float64


def test_intrinsics_come_in_view_order():
    turned = dataclasses.replace(V17, view_order=("left_wrist", "right_wrist", "head"))
    assert turned.intrinsics_matrices.shape == (3, 3, 3)
    assert turned.intrinsics_matrices[:, 0, 0] == pytest.approx([181.4, 181.4, 95.2], abs=0.1)


def test_unscaled_intrinsics_are_the_native_camera():
    k = dataclasses.replace(V17, scale_intrinsics=False).intrinsics("head")
    assert (k[0, 0], k[1, 1], k[0, 2], k[1, 2]) == (306.0, 306.0, 360.0, 360.0)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_delta_mask_is_the_cards_column_by_column(preset):
    mask = PRESETS[preset].delta_mask
    assert [(i, name, bool(mask[i])) for i, name, _ in CARD_MASK] == CARD_MASK
    assert (mask.shape, mask.sum(), (~mask).sum()) == ((23,), 17, 6)


def test_the_mask_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        V17.delta_mask[0] = True


def test_v4_and_v17_differ_in_five_fields_and_no_other():
    changed = {c.name: (c.first, c.second) for c in diff(V4, V17) if c.effect is not None}
    assert changed == {
        "image_size": (504, 224),
        "geometry_size": (504, 224),
        "extrinsics_rows": (
            ["left_wrist", "right_wrist", "head"],
            ["head", "left_wrist", "right_wrist"],
        ),
        "first_action": (1, 0),
        "progress_output": ("probability", "logit"),
    }
    derived = [c.name for c in diff(V4, V17) if c.effect is None]
    assert derived == [f"intrinsics.{v}" for v in ("head", "left_wrist", "right_wrist")]


def test_a_contract_does_not_differ_from_itself_under_another_name():
    assert diff(V17, dataclasses.replace(V17, name="v18")) == ()


def test_what_both_presets_share_is_the_cards():
    for preset in (V4, V17):
        assert preset.image_mean == (0.485, 0.456, 0.406)
        assert preset.image_std == (0.229, 0.224, 0.225)
        assert preset.view_order == ("head", "left_wrist", "right_wrist")
        assert (preset.resize_filter, preset.resize_antialias) == ("bicubic", True)
        assert (preset.chunk_length, preset.domain_id, preset.skill_count) == (30, 19, 34)
        assert (preset.language_length, preset.denoising_steps) == (50, 10)
        assert (preset.extrinsics_direction, preset.camera_axes) == ("camera_to_base", "usd")
        assert preset.proprio_dim == 23
        assert preset.skill_names is None
        assert preset.prompt.startswith("Wash the two dusty boxing gloves from the countertop")


def test_grippers_are_scaled_to_both_ends():
    for word, closed, opened in (("signed", -1, 1), ("fraction", 0, 1), ("sum", 0, 0.10)):
        slope, offset = dataclasses.replace(V17, gripper_proprio=word).gripper_scaling
        assert slope * 0.0 + offset == pytest.approx(closed)
        assert slope * (0.05 + 0.05) + offset == pytest.approx(opened)


def test_action_columns_are_named_by_the_robot():
    columns = {name: (s.start, s.stop) for name, s in V17.action_slices.items()}
    assert columns == {
        "base": (0, 3),
        "trunk": (3, 7),
        "arm_left": (7, 14),
        "gripper_left": (14, 15),
        "arm_right": (15, 22),
        "gripper_right": (22, 23),
    }
    assert V17.robot_columns.tolist() == list(range(23))


def test_a_model_with_the_arms_swapped_is_put_in_the_robots_order():
    parts = ("base", "trunk", "arm_right", "gripper_right", "arm_left", "gripper_left")
    swapped = dataclasses.replace(V17, action_parts=parts)
    model = np.arange(100, 123)
    robot = model[swapped.robot_columns]
    assert robot[ACTION_SLICES["arm_left"]].tolist() == list(range(115, 122))
    assert robot[ACTION_SLICES["gripper_right"]].tolist() == [114]


def test_grippers_last_in_the_proprio_put_the_right_arm_one_column_off():
    assert V17.misaligned_deltas == ()
    last = dataclasses.replace(V17, proprio_parts=PROPRIO_GRIPPERS_LAST)
    assert last.proprio_dim == 23
    assert last.misaligned_deltas == tuple(range(15, 22))


def test_one_mask_has_one_spelling():
    spelt = dataclasses.replace(V17, delta_spec=(-1, -2, 3, -1, 3, 4, -1, 7, -1))
    assert spelt == V17


# --- refusals --------------------------------------------------------------------------------


def stats(columns=23, std=0.5):
    return {"kind": "mean_std", "mean": [0.0] * columns, "std": [std] * columns}


REFUSED = [
    ({"image_size": "224"}, "image_size expects a whole number from 14 to 4096, got '224'"),
    ({"image_size": True}, "image_size expects a whole number from 14 to 4096, got True"),
    ({"image_size": 7}, "image_size expects a whole number from 14 to 4096, got 7"),
    ({"resize_filter": "bicubc"}, "got 'bicubc'; did you mean bicubic?"),
    ({"resize_antialias": 1}, "resize_antialias expects true or false, got 1"),
    ({"image_mean": (123.7, 116.3, 103.5)}, "image_mean expects three numbers in [0, 1]"),
    ({"image_std": (0.0, 0.2, 0.2)}, "image_std expects three numbers in (0, 1]"),
    ({"image_mean": (0.5, 0.5)}, "got 2 of them"),
    ({"image_mean": (float("nan"), 0.5, 0.5)}, "got nan"),
    ({"view_order": ("head", "left_wris", "right_wrist")}, "did you mean left_wrist"),
    ({"view_order": ("head", "head", "left_wrist")}, "one occurs twice"),
    ({"extrinsics_rows": ("head", "left_wrist")}, "they must be the same views"),
    ({"native_intrinsics": {"head": {"size": 720, "focal": 306.0}}}, "lacks left_wrist, right_wri"),
    ({"native_intrinsics": {"head": {"size": 720}}}, "head: expects size and focal"),
    ({"native_intrinsics": {"head": {"size": 720, "focal": -1.0}}}, "pixels above 0, got -1.0"),
    ({"geometry_size": 7}, "geometry_size expects a whole number from 14 to 4096, got 7"),
    ({"base_qvel_frame": "spawn"}, "expects one of as_recorded, world, robot, got 'spawn'"),
    ({"proprio_mask": (0, 0)}, "names columns 0, 0: one occurs twice"),
    ({"proprio_mask": (-1,)}, "expects indices of columns from 0 up, got -1"),
    ({"proprio_mask": (2, 23)}, "proprio_mask names column 23, but the proprio's last is 22"),
    ({"steps_per_row": 0}, "steps_per_row expects a whole number from 1 to 300, got 0"),
    ({"gripper_threshold": 1.5}, "expects a number from -1 to 1, or none, got 1.5"),
    ({"proprio_normalisation": "mean_std"}, "expects the numbers with the kind"),
    ({"proprio_normalisation": {"kind": "robust"}}, "expects none, or an object such as"),
    ({"proprio_normalisation": stats(22)}, "proprio_normalisation has 22 columns, the proprio has"),
    ({"action_normalisation": stats(32)}, "action_normalisation has 32 columns, the action has 23"),
    ({"action_normalisation": {**stats(), "max": []}}, "got the keys kind, mean, std, max"),
    ({"action_normalisation": {**stats(), "std": [1.0]}}, "has 23 numbers of one kind and 1 of"),
    ({"action_normalisation": stats(std=-1.0)}, "std of column 0 are 0 and -1, epsilon 1e-06"),
    ({"action_normalisation": {**stats(std=0.0), "epsilon": 0}}, "has a column without width"),
    ({"action_normalisation": {**stats(), "mean": [None] * 23}}, "mean expects finite numbers"),
    ({"proprio_normalisation": stats(), "proprio_mask": (0,)}, "which comes first is nowhere said"),
    ({"proprio_parts": ("base_qve",)}, "did you mean base_qvel"),
    ({"proprio_parts": ("base_qvel", "trunk_qpos")}, "proprio_parts give 7 numbers"),
    ({"gripper_proprio": "mean"}, "expects one of signed, fraction, sum, got 'mean'"),
    ({"delta_spec": (-3, 3)}, "delta_spec covers 6 columns, the action has 23"),
    ({"delta_spec": (-3, 0, 20)}, "expects whole numbers other than 0, got 0"),
    ({"delta_reference": "previous"}, "expects one of proprio, got 'previous'"),
    ({"action_parts": ("base", "trunk")}, "expects every one of base, trunk, arm_left"),
    ({"first_action": 30}, "first_action is 30, but a chunk ends at row 29"),
    ({"first_action": -1}, "first_action expects a whole number from 0 up, got -1"),
    ({"progress_output": "sigmoid"}, "expects one of probability, logit, none"),
    ({"skill_names": ("move to", "turn to")}, "gives 2 names, skill_count says 34"),
    ({"dtype": "float64"}, "expects one of float32, bfloat16, float16"),
    ({"prompt": " "}, "prompt expects a text that is not empty"),
    ({"name": ""}, "name expects a text that is not empty"),
]


@pytest.mark.parametrize(("change", "text"), REFUSED, ids=[str(c)[:60] for c, _ in REFUSED])
def test_a_contract_that_cannot_be_meant_is_refused(change, text):
    with pytest.raises(ContractValueError) as refused:
        dataclasses.replace(V17, **change)
    assert text in str(refused.value)
    assert isinstance(refused.value, UsageError)
    assert isinstance(refused.value, ValueError)


def test_no_field_has_a_default():
    with pytest.raises(TypeError, match="camera_axes"):
        EvalContract(**{n: getattr(V17, n) for n in FIELDS if n != "camera_axes"})


def test_a_contract_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        V17.image_size = 504


# --- JSON and the table of fields ---------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_json_and_pickle_lose_nothing(preset):
    contract = dataclasses.replace(
        PRESETS[preset],
        image_mean=(0.1 + 0.2, 1 / 3, 0.0),
        skill_names=tuple(f"skill {i}" for i in range(34)),
        prompt=None,
        proprio_normalisation={"kind": "quantiles", "q01": [-1 / 3] * 23, "q99": [0.1 + 0.2] * 23},
        action_normalisation=stats(),
        gripper_threshold=0.1 + 0.2,
    )
    again = EvalContract.from_dict(json.loads(json.dumps(contract.to_dict())))
    assert again == contract
    assert hash(again) == hash(contract)
    assert pickle.loads(pickle.dumps(contract)) == contract


def test_lists_become_tuples_and_the_givers_list_is_not_kept():
    views = ["head", "left_wrist", "right_wrist"]
    contract = dataclasses.replace(V17, view_order=views)
    views.clear()
    assert contract.view_order == ("head", "left_wrist", "right_wrist")


def test_unknown_and_missing_keys_of_the_json_are_refused():
    document = V17.to_dict()
    with pytest.raises(
        ContractValueError, match=r"'image_sizes' is no field .* did you mean image_"
    ):
        EvalContract.from_dict({**document, "image_sizes": 3})
    with pytest.raises(ContractValueError, match="the contract lacks domain_id, dtype"):
        EvalContract.from_dict(
            {k: v for k, v in document.items() if k not in ("dtype", "domain_id")}
        )
    with pytest.raises(ContractValueError, match="this version reads 'b1k-eval-contract/1'"):
        EvalContract.from_dict({**document, "format": "b1k-eval-contract/2"})


@pytest.mark.parametrize("preset", PRESETS)
def test_a_contract_of_before_the_newer_fields_means_what_held_then(preset):
    newer = {
        "geometry_size", "base_qvel_frame", "proprio_normalisation", "proprio_mask",
        "action_normalisation", "steps_per_row", "gripper_threshold", "skill_progress",
    }  # fmt: skip
    old = {k: v for k, v in PRESETS[preset].to_dict().items() if k not in newer}
    assert len(old) == 31
    assert EvalContract.from_dict(old) == PRESETS[preset]
    with pytest.raises(ContractValueError, match=r"the contract lacks geometry_size, .* dtype, "):
        EvalContract.from_dict({k: v for k, v in old.items() if k != "dtype"})


def test_the_json_is_plain():
    document = json.loads(json.dumps(V4.to_dict()))
    assert document["native_intrinsics"]["head"] == {"size": 720, "focal": 306.0}
    assert document["delta_spec"] == [-3, 3, -1, 7, -1, 7, -1]
    assert document["skill_names"] is None


def test_every_field_says_what_it_is():
    assert list(FIELDS) == [each.name for each in dataclasses.fields(EvalContract)]
    text = (Path(__file__).parents[3] / "docs" / "contract.md").read_text("utf-8")
    page = text.split("## The fields")[1].split("\n## ")[0]
    for info in FIELDS.values():
        assert info.meaning.endswith("."), info.name
        assert f"`{info.name}`" in page, info.name
        (row,) = [r for r in page.splitlines() if r.startswith(f"| `{info.name}` |")]
        assert f"| {info.effect} | {info.sure} |" in row, row


def test_every_figure_is_plain_json():
    for preset in PRESETS.values():
        assert json.loads(json.dumps(preset.derived())) == preset.derived()
    assert V17.derived()["delta_columns"] == [i for i, _, offset in CARD_MASK if offset]
