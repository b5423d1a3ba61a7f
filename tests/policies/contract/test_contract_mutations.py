"""One wrong field at a time: the golden checks must notice every one, and say where.

Under a contract with one field changed a batch is built and a chunk decoded, and held to the model
cards by the checks of `observations.py`, which read no contract. A field that no check of bytes
could notice is in `EXEMPT`, with the place that answers for it. What a checkpoint's own files
state cannot be changed by `--set` either.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from observations import (
    CARDS,
    Faults,
    batch_faults,
    decode_faults,
    executable_faults,
    extrinsics_faults,
    gripper_sights,
    image_faults,
    intrinsics_faults,
    made_observation,
    proprio_faults,
    sight_faults,
    tokens,
)

from b1k_envs.errors import ActionError, UsageError
from b1k_policies.contract.codecs import NativeCamera
from b1k_policies.contract.contract import EvalContract, diff
from b1k_policies.contract.fields import FIELDS
from b1k_policies.contract.normalisation import Normalisation
from b1k_policies.contract.presets import PRESETS, PROPRIO_GRIPPERS_LAST, V4, V17
from b1k_policies.contract.resolved import ContractConflictError
from b1k_policies.contract.resolving import resolve
from b1k_policies.xvla.actions import decode, executable
from b1k_policies.xvla.batch import build_batch

CHECKS: Mapping[str, str] = {
    "batch": "keys, dtypes, shapes, domain_id",
    "images": "every view against PIL and numpy",
    "extrinsics": "rows against cam_rel_poses",
    "intrinsics": "figures of the card",
    "proprio": "23 indices written out",
    "sight": "a closing gripper where pose and K put it",
    "decode": "the card's loop, column by column",
    "executable": "rows left to command",
    "refused": "batch or decode refuses it",
}
"""The golden checks, and what each compares with."""


@dataclass(frozen=True)
class Mutation:
    """A field's wrong value.

    Attributes:
        value: The value, the same for both presets.
        noticed_by: Exactly those of `CHECKS` that must disagree.
        of_the_other: The value is the other preset's: the mistake that started all this.
    """

    value: Any
    noticed_by: tuple[str, ...]
    of_the_other: bool = False

    def under(self, field: str, preset: EvalContract) -> Any:
        """The wrong value for one preset, named or not."""
        if not self.of_the_other:
            return self.value
        return getattr(V4 if preset.image_size == V17.image_size else V17, field)


def _wrong(value: Any, *noticed_by: str) -> Mutation:
    return Mutation(value, noticed_by)


def _the_others(*noticed_by: str) -> Mutation:
    return Mutation(None, noticed_by, of_the_other=True)


_OTHER_FOCAL = tuple(
    NativeCamera(view=c.view, size=c.size, focal=300.0 if c.view == "head" else c.focal)
    for c in V17.native_intrinsics
)
_SHIFTED = Normalisation(kind="mean_std", first=(0.1,) * 23, second=(2.0,) * 23, epsilon=0.0)
_ARMS_SWAPPED = ("base", "trunk", "arm_right", "gripper_right", "arm_left", "gripper_left")

MUTATIONS: Mapping[str, Mutation] = {
    "image_size": _the_others("batch", "images", "intrinsics"),
    "resize_filter": _wrong("bilinear", "images"),
    "resize_antialias": _wrong(False, "images"),
    "colour_order": _wrong("bgr", "images"),
    "image_mean": _wrong((0.5, 0.5, 0.5), "images"),
    "image_std": _wrong((0.5, 0.5, 0.5), "images"),
    "view_order": _wrong(("head", "right_wrist", "left_wrist"), "images", "sight"),
    "native_intrinsics": _wrong(_OTHER_FOCAL, "intrinsics"),
    "scale_intrinsics": _wrong(False, "intrinsics", "sight"),
    "posed": _wrong(False, "batch", "extrinsics", "intrinsics", "sight"),
    "extrinsics_rows": _the_others("extrinsics", "sight"),
    "extrinsics_direction": _wrong("base_to_camera", "extrinsics", "sight"),
    "camera_axes": _wrong("opencv", "extrinsics", "sight"),
    "proprio_parts": _wrong(PROPRIO_GRIPPERS_LAST, "proprio"),
    "gripper_proprio": _wrong("fraction", "proprio"),
    "base_qvel_frame": _wrong("robot", "proprio"),
    "proprio_normalisation": _wrong(_SHIFTED, "proprio"),
    "proprio_mask": _wrong((0, 1, 2, 6, 14, 22), "proprio"),
    "domain_id": _wrong(0, "batch"),
    "language_length": _wrong(64, "refused"),
    "action_parts": _wrong(_ARMS_SWAPPED, "decode"),
    "action_normalisation": _wrong(_SHIFTED, "decode"),
    "delta_spec": _wrong((-3, 4, 7, -1, 7, -1), "decode"),
    "chunk_length": _wrong(50, "refused"),
    "first_action": _the_others("executable"),
    "steps_per_row": _wrong(4, "executable"),
    "gripper_threshold": _wrong(0.0, "executable"),
}
"""Field: its wrong value and what notices it. docs/contract.md shows the same table."""

EXEMPT: Mapping[str, str] = {
    "geometry_size": "inside the model; compared with config.json when the contract is found",
    "prompt": "becomes input_ids in the tokenizer, before a batch is built",
    "skill_progress": "given to build_batch by the policy, which knows what was said before",
    "denoising_steps": "an argument of generate_actions beside the batch, free to choose",
    "dtype": "of the weights and of autocast, free to choose; the batch is float32 on the CPU",
    "action_mode": "compared with config.json when the contract is found",
    "delta_reference": "has one value, any other is no contract",
    "progress_output": "acts on what a hook reads, after the model",
    "skill_count": "compared with the classifier's width when the model is loaded",
    "skill_names": "words for people",
}
"""Field: why no check of bytes or of the decode can notice it."""

FREE = ("denoising_steps", "dtype")
OTHERWISE: Mapping[str, Any] = {
    "geometry_size": 336,
    "prompt": "Fold the towels.",
    "skill_progress": "previous",
    "denoising_steps": 5,
    "dtype": "bfloat16",
    "action_mode": "ee6d",
    "progress_output": "none",
    "skill_count": 35,
    "skill_names": tuple(f"step {i}" for i in range(34)),
}
"""Another value of an exempt field, where there is one."""


@pytest.fixture(scope="module")
def sights(_twin_2025):
    _twin_2025.reset(0, 0, 0)
    return gripper_sights(_twin_2025)


def golden_faults(contract: EvalContract, preset: str, sights) -> dict[str, Faults]:
    """What `CHECKS` have to say of batches and chunks under a contract, without the silent ones.

    Args:
        contract: Builds and decodes.
        preset: Whose card decides what is right.
        sights: Both hands of the twin.
    """
    card = CARDS[preset]
    seen = [made_observation(0), made_observation(1, "2026")]

    def build(observations):
        return build_batch(observations, contract, tokens(len(observations)))

    faults: dict[str, Faults] = {"refused": []}
    try:
        batch = build(seen)
        faults["batch"] = batch_faults(batch, card, len(seen))
        faults["images"] = image_faults(batch, seen, card)
        faults["extrinsics"] = extrinsics_faults(batch, seen, card)
        faults["intrinsics"] = intrinsics_faults(batch, card)
        faults["proprio"] = proprio_faults(batch, seen)
        faults["sight"] = sight_faults(build, sights, card.own_rows)
    except UsageError as refusal:
        faults["refused"].append(str(refusal))
    try:
        faults["decode"] = decode_faults(lambda p, proprio: decode(p, proprio, contract))
    except ActionError as refusal:
        faults["refused"].append(str(refusal))
    faults["executable"] = executable_faults(lambda chunk: executable(chunk, contract), card)
    return {check: found for check, found in faults.items() if found}


@pytest.mark.parametrize("preset", PRESETS)
def test_the_checks_find_nothing_wrong_with_the_presets(preset, sights):
    assert golden_faults(PRESETS[preset], preset, sights) == {}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("field", MUTATIONS)
def test_a_wrong_field_is_noticed_by_exactly_the_checks_that_should(field, preset, sights):
    mutation, contract = MUTATIONS[field], PRESETS[preset]
    change: dict[str, Any] = {field: mutation.under(field, contract)}
    faults = golden_faults(dataclasses.replace(contract, **change), preset, sights)
    assert set(faults) == set(mutation.noticed_by), faults


def test_every_field_that_decides_bytes_or_meaning_is_mutated_or_exempt():
    deciding = {name for name, info in FIELDS.items() if info.effect != "label"}
    assert set(MUTATIONS) | set(EXEMPT) == deciding
    assert not set(MUTATIONS) & set(EXEMPT)
    assert {check for m in MUTATIONS.values() for check in m.noticed_by} == set(CHECKS)
    for field, mutation in MUTATIONS.items():
        for preset in PRESETS.values():
            assert mutation.under(field, preset) != getattr(preset, field)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("field", EXEMPT)
def test_an_exempt_field_really_changes_nothing_that_is_checked(field, preset, sights):
    """Or it would belong to the mutations."""
    if field not in OTHERWISE:
        with pytest.raises(UsageError, match="delta_reference expects one of proprio"):
            dataclasses.replace(V17, delta_reference="first_action")
        return
    contract = dataclasses.replace(PRESETS[preset], **{field: OTHERWISE[field], **_width(field)})
    assert golden_faults(contract, preset, sights) == {}


def _width(field: str) -> dict[str, Any]:
    return {"skill_names": None} if field == "skill_count" else {}


# --- by hand, against the checkpoint's own files -------------------------------------------------


@pytest.fixture(params=["as a card", "as to_dict"])
def folder(request, preset, tmp_path):
    """A checkpoint folder of a preset, in a card's words, or in ours, which name every field."""
    if request.param == "as a card":
        return request.getfixturevalue(f"tiny_{preset}")
    named = dataclasses.replace(PRESETS[preset], skill_names=tuple(f"skill {i}" for i in range(34)))
    size = {"geometry_conditioning": {"da3_process_res": CARDS[preset].size}}
    (tmp_path / "config.json").write_text(json.dumps(size), "utf-8")
    (tmp_path / "EVAL_CONTRACT.json").write_text(json.dumps(named.to_dict()), "utf-8")
    return tmp_path


def setting(field: str, value: Any) -> str:
    """As typed after --set."""
    written = FIELDS[field].codec.encode(value)
    return f"{field}={written if isinstance(written, str) else json.dumps(written)}"


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("field", [*MUTATIONS, *OTHERWISE])
def test_what_the_checkpoint_states_cannot_be_set_otherwise(field, preset, folder):
    stated = resolve(folder).contract
    assert diff(dataclasses.replace(stated, skill_names=None), PRESETS[preset]) == ()
    mutation = MUTATIONS.get(field)
    other = OTHERWISE[field] if mutation is None else mutation.under(field, stated)
    if field in FREE or (field == "skill_names" and stated.skill_names is None):  # not stated
        found = resolve(folder, settings=[setting(field, other)])
        assert getattr(found.contract, field) == other
        assert found.sources[field].source == "--set"
        assert not found.is_forced
        return
    with pytest.raises(ContractConflictError) as refused:
        resolve(folder, settings=[setting(field, other)])
    assert refused.value.exit_code == 3
    names = [difference.name for difference in refused.value.differences]
    # a card states K as sent, not the camera that it comes from
    assert field in names or ("intrinsics" in field and "intrinsics.head" in names)
    assert "--set" in str(refused.value)


def test_the_free_fields_are_those_that_the_contract_calls_a_choice():
    assert list(FREE) == [name for name, info in FIELDS.items() if info.sure == "choice"]


def test_the_docs_list_every_field_and_what_notices_it():
    text = (Path(__file__).parents[3] / "docs" / "contract.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([a-z, ]+) \|$", text, re.MULTILINE))
    assert rows == {name: ", ".join(sorted(m.noticed_by)) for name, m in MUTATIONS.items()}
