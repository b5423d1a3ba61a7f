"""What every field of a contract is: which mistake it stands for, how sure it is, what it means.

The one home of these words: `EvalContract` checks its values with them, `b1k-eval contract` prints
them, docs/contract.md is held to them by a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from b1k_envs.base import VIEWS
from b1k_envs.r1pro import ACTION_SLICES, PROPRIO_2025
from b1k_policies.contract.codecs import (
    BOOL_MASK,
    CAMERAS,
    COLUMNS,
    FLAG,
    OPTIONAL_NAMES,
    OPTIONAL_TEXT,
    TEXT,
    Codec,
    ContractValueError,
    choice,
    names,
    near_miss,
    optional_real,
    optional_whole,
    real_triple,
    whole,
)
from b1k_policies.contract.normalisation import NORMALISATION

FORMAT = "b1k-eval-contract/1"
"""Value of the key `format` in the JSON of a contract."""

Effect = Literal["bytes", "meaning", "label"]
"""What a wrong value spoils: the bytes a model sees, the meaning of its numbers, or a name only."""

Sure = Literal["card", "public", "open", "choice"]
"""How a preset knows a value: the model card says so; public code of the same model family or of
BEHAVIOR-1K; nobody outside the checkpoint's own files knows (the preset's value is a default that
the files replace); or whoever runs it chooses."""


@dataclass(frozen=True, kw_only=True)
class FieldInfo:
    """What is known of a field besides its value.

    Attributes:
        name: Name in the contract, in its JSON and after `--set`.
        effect: What a wrong value spoils.
        sure: How the presets know their value.
        meaning: One line for people, with unit and frame.
        codec: Reads and checks its values.
    """

    name: str
    effect: Effect
    sure: Sure
    meaning: str
    codec: Codec


def _fact(name: str, effect: Effect, sure: Sure, meaning: str, codec: Codec) -> FieldInfo:
    return FieldInfo(name=name, effect=effect, sure=sure, meaning=meaning, codec=codec)


_PARTS = tuple(ACTION_SLICES)

_FACTS: tuple[FieldInfo, ...] = (
    _fact("name", "label", "card", "Name of this contract, for people.", TEXT),
    _fact(
        "image_size", "bytes", "card", "Width and height of a view as sent [px].", whole(14, 4096)
    ),
    _fact(
        "geometry_size",
        "meaning",
        "card",
        "Width to which the geometry encoder inside the model brings its pictures [px].",
        optional_whole(14, 4096),
    ),
    _fact(
        "resize_filter",
        "bytes",
        "card",
        "Filter that takes the native picture to image_size.",
        choice("bicubic", "bilinear", "nearest"),
    ),
    _fact(
        "resize_antialias",
        "bytes",
        "public",
        "Widen the filter when shrinking, as PIL and torchvision do.",
        FLAG,
    ),
    _fact("colour_order", "bytes", "card", "Order of the colour planes.", choice("rgb", "bgr")),
    _fact(
        "image_mean",
        "bytes",
        "card",
        "Subtracted after scaling to [0, 1], in the order of the planes.",
        real_triple(0, 1),
    ),
    _fact(
        "image_std",
        "bytes",
        "card",
        "Divided by after that, in the order of the planes.",
        real_triple(0, 1, positive=True),
    ),
    _fact("view_order", "bytes", "card", "Which view each image and each K is.", names(VIEWS)),
    _fact(
        "native_intrinsics",
        "bytes",
        "public",
        "Size and focal length of each view before resizing [px].",
        CAMERAS,
    ),
    _fact(
        "scale_intrinsics",
        "bytes",
        "card",
        "Send K scaled to image_size, not the native one.",
        FLAG,
    ),
    _fact("posed", "bytes", "card", "Send extrinsics and intrinsics at all.", FLAG),
    _fact(
        "extrinsics_rows",
        "bytes",
        "card",
        "Whose pose is in each extrinsics row, as trained (not as it should have been).",
        names(VIEWS),
    ),
    _fact(
        "extrinsics_direction",
        "bytes",
        "open",
        "What the 4x4 does: takes points of the camera frame to the base frame, or back.",
        choice("camera_to_base", "base_to_camera"),
    ),
    _fact(
        "camera_axes",
        "bytes",
        "open",
        "Camera frame: usd (+x right, +y up, looks along -z) or opencv (+y down, along +z).",
        choice("usd", "opencv"),
    ),
    _fact(
        "proprio_parts",
        "bytes",
        "open",
        "Slices of the evaluator's proprio, in order; a gripper's two fingers become one.",
        names(tuple(PROPRIO_2025)),
    ),
    _fact(
        "gripper_proprio",
        "bytes",
        "open",
        "A gripper from its finger openings q1, q2 [m]: signed 2*(q1+q2)/0.10 - 1, "
        "fraction (q1+q2)/0.10, sum q1+q2.",
        choice("signed", "fraction", "sum"),
    ),
    _fact(
        "base_qvel_frame",
        "bytes",
        "open",
        "Frame of base_qvel: world (fixed axes), robot, or as_recorded by the protocol in force.",
        choice("as_recorded", "world", "robot"),
    ),
    _fact(
        "proprio_normalisation",
        "bytes",
        "open",
        "Statistics by which the proprio is normalised before it is sent, or none.",
        NORMALISATION,
    ),
    _fact(
        "proprio_mask",
        "bytes",
        "open",
        "Columns of the proprio that are sent as 0; offsets are still added to what they were.",
        COLUMNS,
    ),
    _fact("domain_id", "bytes", "card", "Embodiment index sent to the model.", whole(0)),
    _fact(
        "language_length",
        "bytes",
        "open",
        "Tokens the instruction is padded or cut to.",
        whole(1, 4096),
    ),
    _fact(
        "prompt",
        "bytes",
        "open",
        "Instruction sent, whatever the task; none sends the task's own.",
        OPTIONAL_TEXT,
    ),
    _fact(
        "denoising_steps", "bytes", "choice", "Integration steps of one inference.", whole(1, 1000)
    ),
    _fact(
        "dtype",
        "bytes",
        "choice",
        "Floating point of weights and inference.",
        choice("float32", "bfloat16", "float16"),
    ),
    _fact("action_mode", "meaning", "card", "Action space of the model's config.", TEXT),
    _fact(
        "action_parts",
        "meaning",
        "public",
        "Parts of the robot in the order of the model's columns.",
        names(_PARTS, all_of_them=True),
    ),
    _fact(
        "action_normalisation",
        "meaning",
        "card",
        "Statistics by which the model's actions are normalised, undone before anything else.",
        NORMALISATION,
    ),
    _fact(
        "delta_spec",
        "meaning",
        "card",
        "Runs of columns: +n are offsets, -n are commands already.",
        BOOL_MASK,
    ),
    _fact(
        "delta_reference",
        "meaning",
        "card",
        "What offsets are added to: the proprio at inference, for every row.",
        choice("proprio"),
    ),
    _fact("chunk_length", "meaning", "card", "Rows of one chunk.", whole(1, 1000)),
    _fact(
        "first_action",
        "meaning",
        "card",
        "First row to execute; 1 where row 0 is the action already commanded.",
        whole(0),
    ),
    _fact(
        "steps_per_row",
        "meaning",
        "public",
        "Control steps of 1/30 s for which each row is commanded.",
        whole(1, 300),
    ),
    _fact(
        "gripper_threshold",
        "meaning",
        "open",
        "Gripper commands from this up are executed as +1 (open), others as -1; none: as they are.",
        optional_real(-1, 1),
    ),
    _fact(
        "progress_output",
        "meaning",
        "card",
        "What progress_head gives: a probability, a logit (one sigmoid to go), or no head.",
        choice("probability", "logit", "none"),
    ),
    _fact("skill_count", "meaning", "card", "Classes of skill_classifier.", whole(1)),
    _fact(
        "skill_names",
        "meaning",
        "open",
        "Names of the classes in order of index; none prints the index.",
        OPTIONAL_NAMES,
    ),
)

FIELDS: Mapping[str, FieldInfo] = MappingProxyType({fact.name: fact for fact in _FACTS})
"""Every field by name, in order."""

_SINCE: Mapping[str, Any] = MappingProxyType(
    {
        "base_qvel_frame": "as_recorded",
        "proprio_normalisation": None,
        "proprio_mask": [],
        "action_normalisation": None,
        "steps_per_row": 1,
        "gripper_threshold": None,
    }
)
"""Fields that the first contracts did not have, and what held then."""


def completed(document: Mapping[str, Any]) -> dict[str, Any]:
    """A whole contract's JSON of any version, with the fields that came later as they held then.

    A document that lacks more than those is returned as it is.
    """
    # What is `geometry_size` now was taken for the size of the pictures.
    later = {"geometry_size": document.get("image_size"), **_SINCE}
    if not all(name in document for name in FIELDS if name not in later):
        return dict(document)
    return {**later, **document}


def decode_value(name: str, value: Any) -> Any:  # noqa: ANN401 - the field's own type
    """A field's canonical value from a Python or JSON value.

    Raises:
        ContractValueError: It cannot be meant; the text names the field and what it expects.
    """
    try:
        return field_info(name).codec.decode(value)
    except ContractValueError:
        raise
    except ValueError as error:
        raise ContractValueError(f"{name} {error}") from error


def field_info(name: str) -> FieldInfo:
    """What is known of a field.

    Raises:
        ContractValueError: No such field; with near misses.
    """
    if name not in FIELDS:
        raise ContractValueError(f"{name!r} is no field of a contract{near_miss(name, [*FIELDS])}")
    return FIELDS[name]


def check_keys(document: Mapping[str, Any], also: tuple[str, ...] = ()) -> None:
    """Refuse a key that is no field, and a `format` of another version.

    Raises:
        ContractValueError: With near misses.
    """
    for key in document:
        if key != "format" and key not in also:
            field_info(key)
    found = document.get("format", FORMAT)
    if found != FORMAT:
        raise ContractValueError(f"format is {found!r}, this version reads {FORMAT!r}")
