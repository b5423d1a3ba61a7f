"""The tiny checkpoints: as their cards say, sensitive to every input, tame, and repeatable."""

from __future__ import annotations

import json
import re
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from b1k_envs.errors import UsageError
from b1k_policies.contract.contract import EvalContract
from b1k_policies.contract.presets import PRESETS
from b1k_policies.contract.resolved import ContractConflictError
from b1k_policies.contract.resolving import resolve

if TYPE_CHECKING:
    import torch

    Batch = dict[str, torch.Tensor]
    Change = Callable[[Batch], dict[str, Any]]

CARD = {  # what the model cards print of config.json, v4 then v17
    "action_mode": ("auto", "auto"),
    "real_action_dim": (23, 23),
    "max_action_dim": (23, 23),
    "dim_proprio": (23, 23),
    "num_skills": (34, 34),
    "skill_classifier_weight": (0.1, 0.5),
    "use_progress_head": (True, True),
    "progress_head_weight": (0.1, 0.1),
    "geometry_conditioning.da3_model_name": (
        "depth-anything/DA3-BASE",
        "depth-anything/DA3-LARGE",
    ),
    "geometry_conditioning.da3_input_dim": (768, 1024),
    "geometry_conditioning.da3_process_res": (504, 224),
    "geometry_conditioning.num_geometry_tokens": (32, 240),
    "geometry_conditioning.use_posed_da3": (True, True),
    "geometry_conditioning.freeze_da3": (True, True),
}
OFFSETS = [3, 4, 5, *range(7, 14), *range(15, 22)]


class Tiny(NamedTuple):
    folder: Path
    contract: EvalContract
    load: Callable[[str], ModuleType]
    model: Any
    tokenizer: Any

    def generate(self, batch: Batch, *, seed: int = 0, **changes: Any) -> torch.Tensor:
        import torch

        torch.manual_seed(seed)
        with torch.inference_mode():
            return self.model.generate_actions(**{**batch, **changes})


@pytest.fixture(scope="module", params=["v4", "v17"])
def tiny(request, tiny_maker) -> Iterator[Tiny]:
    """A checkpoint loaded as its card says, its package importable for the while."""
    from transformers import AutoTokenizer

    folder = request.getfixturevalue(f"tiny_{request.param}")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    with tiny_maker.imported(folder / "code" / "da3_xvla") as load:
        config = load("models.configuration_xvla").XVLAConfig.from_pretrained(folder)
        model = load("models.modeling_xvla").XVLA.from_pretrained(folder, config=config).eval()
        yield Tiny(folder, PRESETS[request.param], load, model, tokenizer)


@pytest.fixture(scope="module")
def batch(tiny) -> Batch:
    """One observation: smooth pictures, three cameras that look to different sides."""
    import torch

    noise = torch.Generator().manual_seed(3)
    size = tiny.contract.image_size
    blobs = torch.randn(3, 3, 6, 6, generator=noise)
    poses = torch.eye(4).repeat(3, 1, 1)
    for row, angle in enumerate((0.2, 1.1, -0.7)):
        c, s = np.cos(angle), np.sin(angle)
        poses[row, :3, :3] = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    poses[:, :3, 3] = torch.tensor([[0.1, 0.0, 1.5], [0.5, 0.3, 1.0], [0.6, -0.4, 0.9]])
    words = tiny.tokenizer(tiny.contract.prompt, padding="max_length", max_length=50)
    return {
        "input_ids": torch.tensor([words["input_ids"]]),
        "image_input": torch.nn.functional.interpolate(blobs, (size, size), mode="bicubic")[None],
        "image_mask": torch.ones(1, 3, dtype=torch.bool),
        "proprio": 0.3 * torch.randn(1, 23, generator=noise),
        "domain_id": torch.tensor([19]),
        "extrinsics": poses[None],
        "intrinsics": torch.tensor(tiny.contract.intrinsics_matrices, dtype=torch.float32)[None],
        "skill_id": torch.tensor([5]),
        "skill_progress": torch.tensor([0.4]),
    }


# --- the folder -----------------------------------------------------------------------------------


def test_the_folder_is_complete_and_small(tiny):
    files = {path.name for path in tiny.folder.iterdir()}
    assert files == {
        "config.json", "model.safetensors", "EVAL_CONTRACT.json", "README.md", "code",
        "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json",
        "merges.txt",
    }  # fmt: skip
    everything = [path for path in tiny.folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in everything) < 8_000_000
    assert not [path for path in everything if path.suffix == ".pyc"]
    assert "Random weights" in (tiny.folder / "README.md").read_text()


@pytest.mark.parametrize("key", CARD)
def test_config_json_says_what_the_card_says(tiny, key):
    value = json.loads((tiny.folder / "config.json").read_text())
    for part in key.split("."):
        value = value[part]
    assert value == CARD[key][0 if tiny.contract.name == "v4" else 1]


def test_the_weights_are_a_safetensors_file_for_torch(tiny):
    with (tiny.folder / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    assert header.pop("__metadata__") == {"format": "pt"}
    assert {entry["dtype"] for entry in header.values()} == {"F32"}
    assert header["skill_classifier.weight"]["shape"][0] == 34


def test_the_same_seed_gives_the_same_bytes_and_leaves_torchs_generator_alone(
    tiny, tiny_maker, tmp_path
):
    import torch

    before = torch.get_rng_state()
    tiny_maker.make_tiny_checkpoint(tiny.contract.name, tmp_path / "again", seed=0)
    tiny_maker.make_tiny_checkpoint(tiny.contract.name, tmp_path / "other", seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert "da3_xvla" in sys.modules  # the fixture's, put back
    for path in tiny.folder.rglob("*"):
        name = path.relative_to(tiny.folder)
        if path.is_file():
            assert (tmp_path / "again" / name).read_bytes() == path.read_bytes(), name
    weights = "model.safetensors"
    assert (tmp_path / "other" / weights).read_bytes() != (tiny.folder / weights).read_bytes()


def test_importing_the_package_leaves_no_trace(tiny_v17, tiny_maker):
    path = list(sys.path)
    with tiny_maker.imported(tiny_v17 / "code" / "da3_xvla") as load:
        found = load("models.modeling_xvla")
        assert Path(found.__file__).is_relative_to(tiny_v17)
    assert sys.modules.get(found.__name__) is not found
    assert sys.path == path
    assert not list(tiny_v17.rglob("__pycache__"))


def test_a_folder_in_use_and_an_unknown_version_are_refused(
    tiny_v17, tiny_maker, tmp_path, monkeypatch, capsys
):
    with pytest.raises(UsageError, match=r"no version 'v18': choose one of v4, v17, family"):
        tiny_maker.make_tiny_checkpoint("v18", tmp_path)
    before = (tiny_v17 / "model.safetensors").read_bytes()
    monkeypatch.setattr(sys, "argv", ["make_tiny_checkpoint.py", "v4", str(tiny_v17)])
    assert tiny_maker.main() == 2
    assert f"{tiny_v17} exists and is not an empty folder" in capsys.readouterr().err
    assert (tiny_v17 / "model.safetensors").read_bytes() == before


# --- the contract ---------------------------------------------------------------------------------


def test_the_files_give_the_preset_with_nothing_left_over(tiny):
    found = resolve(tiny.folder)
    assert found.contract == tiny.contract
    assert found.not_understood == ()
    assert found.forced == ()
    unsaid = {name for name, s in found.sources.items() if s.source.startswith("preset")}
    # K is stated and confirms the two; the order of the skills is what no file may make up.
    assert unsaid == {"native_intrinsics", "scale_intrinsics", "skill_names"}
    assert any("intrinsics.head" in w for w in found.sources["native_intrinsics"].confirmed_by)


WRONG_CLIENTS = (
    "image_size=336", "resize_filter=bilinear", "resize_antialias=false", "colour_order=bgr",
    "image_mean=0.5,0.5,0.5", "image_std=0.5,0.5,0.5", "view_order=left_wrist,head,right_wrist",
    "scale_intrinsics=false", "posed=false", "extrinsics_rows=right_wrist,left_wrist,head",
    "extrinsics_direction=base_to_camera", "camera_axes=opencv", "gripper_proprio=sum",
    "domain_id=0", "language_length=64", "prompt=clean boxing gloves", "chunk_length=29",
    "delta_spec=-3,4,7,-1,7,-1", "first_action=2", "progress_output=none", "skill_count=12",
)  # fmt: skip


@pytest.mark.parametrize("setting", WRONG_CLIENTS)
def test_a_client_that_would_send_or_read_something_else_is_refused(tiny, setting):
    with pytest.raises(ContractConflictError):
        resolve(tiny.folder, settings=[setting])


# --- the tokenizer --------------------------------------------------------------------------------


def test_the_tokenizer_is_made_like_barts(tiny):
    tokenizer = tiny.tokenizer
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    assert tokenizer.convert_tokens_to_ids(special) == [0, 1, 2, 3, len(tokenizer) - 1]
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.mask_token) \
        == ("<s>", "</s>", "<pad>", "<mask>")  # fmt: skip
    # As text, not as pairs: older versions of the library read nothing else.
    merges = json.loads((tiny.folder / "tokenizer.json").read_text())["model"]["merges"]
    assert (tiny.folder / "merges.txt").read_text().splitlines()[1:] == merges


def test_the_prompt_takes_well_below_50_tokens_that_spell_it(tiny):
    ids = tiny.tokenizer(tiny.contract.prompt)["input_ids"]
    words = {i: token for token, i in json.loads((tiny.folder / "vocab.json").read_text()).items()}
    assert ids[0] == 0
    assert ids[-1] == 2
    assert len(ids) <= 40
    assert "".join(words[i] for i in ids[1:-1]).replace("Ġ", " ") == tiny.contract.prompt
    padded = tiny.tokenizer(tiny.contract.prompt, padding="max_length", max_length=50)["input_ids"]
    assert padded == ids + [1] * (50 - len(ids))


def test_no_text_is_unknown_to_it(tiny):
    text = "Größe 手袋 ~ \t 7"
    ids = tiny.tokenizer(text)["input_ids"]
    assert 3 not in ids
    assert tiny.tokenizer.decode(ids[1:-1], clean_up_tokenization_spaces=False) == text


# --- the model ------------------------------------------------------------------------------------


def test_a_chunk_is_float32_and_the_same_for_the_same_seed(tiny, batch):
    import torch

    first = tiny.generate(batch)
    assert first.dtype == torch.float32
    assert first.shape == (1, 30, 23)
    assert torch.equal(tiny.generate(batch), first)
    assert (tiny.generate(batch, seed=1) - first).abs().max() > 1e-3


def nudge(key: str, *index: int, by: float) -> Change:
    """The first sample's `key`, with `by` added at an index."""

    def change(batch: Batch) -> dict[str, Any]:
        value = batch[key].clone()
        value[(0, *index)] += by
        return {key: value}

    return change


def swap(key: str, axis: int) -> Change:
    """`key` with the first and the last entry along an axis exchanged."""

    def change(batch: Batch) -> dict[str, Any]:
        value = batch[key].movedim(axis, 0)
        return {key: value[[2, 1, 0]].movedim(0, axis)}

    return change


def mask(view: int) -> Change:
    def change(batch: Batch) -> dict[str, Any]:
        value = batch["image_mask"].clone()
        value[0, view] = False
        return {"image_mask": value}

    return change


VIEWS, K_ENTRIES = range(3), ((0, 0), (1, 1), (0, 2), (1, 2))
CHANGES: dict[str, Change] = {
    **{f"plane {v} {c}": nudge("image_input", v, c, by=0.1) for v in VIEWS for c in range(3)},
    **{
        f"pose {v} {i} {j}": nudge("extrinsics", v, i, j, by=0.2)
        for v in VIEWS for i in range(3) for j in range(4)
    },
    **{f"K {v} {i} {j}": nudge("intrinsics", v, i, j, by=5) for v in VIEWS for i, j in K_ENTRIES},
    **{f"mask {v}": mask(v) for v in VIEWS},
    **{f"proprio {c}": nudge("proprio", c, by=0.05) for c in range(23)},
    "colours swapped": swap("image_input", 2),
    "pictures swapped": swap("image_input", 1),
    "poses swapped": swap("extrinsics", 1),
    "cameras swapped": swap("intrinsics", 1),
    "a word": nudge("input_ids", 5, by=1),
    "padding": lambda batch: {"input_ids": batch["input_ids"][:, :40]},
    "domain": nudge("domain_id", by=-1),
    "skill": nudge("skill_id", by=1),
    "progress": nudge("skill_progress", by=0.1),
    "no progress": lambda _: {"skill_progress": None},
    "steps": lambda _: {"steps": 3},
}  # fmt: skip


@pytest.fixture(scope="module")
def unchanged(tiny, batch) -> torch.Tensor:
    return tiny.generate(batch, steps=2)


@pytest.mark.parametrize("name", CHANGES)
def test_every_input_matters(tiny, batch, unchanged, name):
    changed = tiny.generate(batch, **{"steps": 2, **CHANGES[name](batch)})
    # float32 noise is below 1e-6: see the batch of two below
    assert (changed - unchanged).abs().max() > 1e-5


def test_a_sample_does_not_depend_on_its_neighbour(tiny, batch):
    import torch

    pair = {key: torch.cat([value, value]) for key, value in batch.items()}
    other = {**pair, "proprio": pair["proprio"] + torch.tensor([[0.0], [0.2]])}
    first, second = tiny.generate(pair), tiny.generate(other)
    assert (second[0] - first[0]).abs().max() < 1e-6
    assert (second[1] - first[1]).abs().max() > 1e-3


@pytest.mark.parametrize("view", VIEWS)
def test_a_masked_view_has_no_influence(tiny, batch, view):
    import torch

    hidden = {**batch, **mask(view)(batch), "steps": 2}
    expected = tiny.generate(hidden)
    for change in (
        nudge("image_input", view, by=1.0),
        nudge("extrinsics", view, 0, 3, by=1.0),
        nudge("intrinsics", view, 0, 0, by=20.0),
    ):
        assert torch.equal(tiny.generate({**hidden, **change(batch)}), expected)


def test_actions_are_tame_whatever_comes(tiny, batch):
    import torch

    noise = torch.Generator().manual_seed(0)
    for seed in range(5):
        proprio = 3 * torch.randn(1, 23, generator=noise)
        wild = {**batch, "proprio": proprio, "skill_id": torch.tensor([seed])}
        actions = tiny.generate(wild, seed=seed)
        assert actions.abs().max() <= 0.3
        assert actions[..., OFFSETS].abs().max() <= 0.15


def test_offsets_lead_back_to_the_posture_of_a_reset(tiny, batch):
    from b1k_envs.r1pro import JOINT_ORDER, RESET_JOINT_POSITION

    home = batch["proprio"].clone().zero_()
    for column in (3, 4, 5):
        joint = JOINT_ORDER.index(f"torso_joint{column - 2}")
        home[0, column] = RESET_JOINT_POSITION[joint]
    for direction in (-1, 1):
        far = home.clone()
        far[0, OFFSETS] += 3.0 * direction
        assert (direction * tiny.generate(batch, proprio=far)[..., OFFSETS] < 0).all()


def calls(module: Any, run: Callable[[], Any]) -> list[torch.Tensor]:
    """What a module returned during a run, one entry a call."""
    seen: list[torch.Tensor] = []
    hook = module.register_forward_hook(lambda _m, _i, output: seen.append(output.clone()))
    try:
        run()
    finally:
        hook.remove()
    return seen


def test_the_classifier_is_asked_once_and_chooses_where_no_skill_is_given(tiny, batch):
    import torch

    assert type(tiny.model.skill_classifier) is torch.nn.Linear
    (given,) = calls(tiny.model.skill_classifier, lambda: tiny.generate(batch))
    assert given.shape == (1, 34)
    likeliest = given.argmax(dim=-1)
    assert likeliest.item() != batch["skill_id"].item()
    chosen = tiny.generate(batch, skill_id=None)
    assert torch.equal(chosen, tiny.generate(batch, skill_id=likeliest))
    assert not torch.equal(chosen, tiny.generate(batch))


def test_the_progress_head_is_asked_once_and_ends_as_its_card_says(tiny, batch):
    from torch import nn

    head = tiny.model.progress_head
    (progress,) = calls(head, lambda: tiny.generate(batch))
    assert progress.shape == (1, 1)
    if tiny.contract.progress_output == "logit":
        assert type(head) is nn.Linear
    else:
        assert [type(layer) for layer in head] == [nn.Linear, nn.Sigmoid]
        assert 0 < progress.item() < 1


def test_florence_sees_224_px_and_da3_sees_all(tiny, batch):
    model, inner = tiny.model, tiny.contract.image_size
    (florence,) = calls(model.vlm.patches, lambda: tiny.generate(batch))
    (da3,) = calls(model.da3.patches, lambda: tiny.generate(batch))
    assert florence.shape[-2:] == (224 // 32, 224 // 32)
    assert da3.shape[-2:] == (inner // 14, inner // 14)


def test_a_ray_passes_through_the_middle_of_its_patch(tiny, batch):
    rays = tiny.load("models.da3_inline").patch_rays(
        batch["extrinsics"], batch["intrinsics"], tiny.contract.image_size
    )
    pose = batch["extrinsics"][0, 1].double().numpy()
    k = batch["intrinsics"][0, 1].double().numpy()
    across = tiny.contract.image_size // 14
    for row, column in ((0, 0), (3, 7), (across - 1, 2)):
        direction, centre, moment = rays[0, 1, row * across + column].double().numpy().reshape(3, 3)
        seen = np.linalg.inv(pose) @ np.append(centre + 2.5 * direction, 1.0)
        right, down, ahead = seen[0], -seen[1], -seen[2]  # USD camera to OpenCV
        u, v, w = k @ (right, down, ahead)
        np.testing.assert_allclose((u / w, v / w), (14 * column + 7, 14 * row + 7), atol=1e-3)
        np.testing.assert_allclose(np.linalg.norm(direction), 1.0, atol=1e-6)
        np.testing.assert_allclose(moment, np.cross(centre, direction), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_under_autocast_gives_nearly_the_same(tiny, batch, dtype):
    import copy

    import torch

    narrow = getattr(torch, dtype)
    short = tiny._replace(model=copy.deepcopy(tiny.model).to(narrow))
    cast = {**batch, **{key: batch[key].to(narrow) for key in ("image_input", "proprio")}}
    with torch.autocast("cpu", narrow):
        actions = short.generate(cast)
        assert torch.equal(short.generate(cast), actions)
    assert actions.dtype == torch.float32
    assert 0 < (actions - tiny.generate(batch)).abs().max() < 0.02


def variant(tiny: Tiny, **changes: Any) -> Tiny:
    """The same model with other keys in its config, and new weights."""
    document = json.loads((tiny.folder / "config.json").read_text())
    geometry = {**document["geometry_conditioning"], **changes.pop("geometry", {})}
    config = tiny.load("models.configuration_xvla").XVLAConfig(
        **{**document, **changes, "geometry_conditioning": geometry}
    )
    return tiny._replace(model=tiny.load("models.modeling_xvla").XVLA(config).eval())


def test_a_model_without_heads_can_be_built(tiny, batch):
    bare = variant(tiny, num_skills=0, use_progress_head=False)
    assert bare.model.skill_classifier is None
    assert bare.model.progress_head is None
    assert not [name for name in bare.model.state_dict() if re.search("skill|progress_h", name)]
    assert bare.generate(batch, skill_id=None).shape == (1, 30, 23)
    with pytest.raises(ValueError, match=r"num_skills is 0: there is no skill to choose"):
        bare.generate(batch)


def test_a_model_that_is_not_posed_takes_no_poses(tiny, batch):
    import torch

    unposed = variant(tiny, geometry={"use_posed_da3": False})
    poseless = unposed.generate(batch, extrinsics=None, intrinsics=None)
    assert torch.equal(unposed.generate(batch), poseless)
    with pytest.raises(ValueError, match=r"extrinsics and intrinsics must be given"):
        tiny.generate(batch, extrinsics=None, intrinsics=None)


def test_pictures_of_another_size_pass_unnoticed_as_in_the_real_model(tiny, batch):
    """Which is why the client has to be checked."""
    import torch

    smaller = tiny.generate(batch, image_input=batch["image_input"][..., 14:, 14:])
    assert torch.isfinite(smaller).all()
    assert not torch.allclose(smaller, tiny.generate(batch), atol=1e-3)


def test_pictures_that_are_not_square_and_no_view_at_all_are_refused(tiny, batch):
    with pytest.raises(ValueError, match=r"image_input is .*, expects \[B, 3, 3, S, S\]"):
        tiny.generate(batch, image_input=batch["image_input"][..., 14:, :])
    with pytest.raises(ValueError, match=r"image_mask leaves no view"):
        tiny.generate(batch, image_mask=batch["image_mask"] & False)
