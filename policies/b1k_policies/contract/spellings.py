"""What a key and its value in a checkpoint's files state: the table of known spellings.

The schema of EVAL_CONTRACT.json is not public. So it is read by known spellings only: keys and
words of the model card, of config.json and of the family's public code, which stand with each field
(`fields`), and the few below that state a figure. Nothing else is guessed at: a reader raises
`ValueError` for what it does not know.

Sources: the model card of DA3-XVLA v17.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

from b1k_envs.base import VIEWS
from b1k_envs.r1pro import ACTION_DIM, CAM_REL_POSES_ORDER, CONTROL_HZ
from b1k_policies.contract.codecs import ContractValueError, is_whole
from b1k_policies.contract.fields import FIELDS, decode_value, spelled
from b1k_policies.contract.presets import IMAGENET_MEAN, IMAGENET_STD, PRESETS

Found = list[tuple[str, Any]]
"""What a value states, as pairs of (field or figure, value)."""


def understood(key: str, value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """Return what a value states under a known spelling of a key.

    Raises:
        ValueError: The value has no known spelling.
    """
    about, figures = KEYS[key], _FIGURES.get(key)
    try:
        if figures is not None:
            return [(n, decode_value(n, v) if n in FIELDS else v) for n, v in figures(value)]
    # A reader can fail in any of these ways on another shape; a field's own row is tried next.
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        if not about:
            raise ValueError(str(error) if isinstance(error, ContractValueError) else "") from error
    return [(about, _value(about, value))]


def _value(name: str, value: Any) -> Any:  # noqa: ANN401 - JSON, and the field's own type
    """Read a field's value by the spellings in its row."""
    row = FIELDS[name]
    known = row.known(value)
    if known is not None:
        return known[0]
    if isinstance(value, str) and name != "skill_names":  # a sentence is not a list of names
        value = row.codec.from_text(value.removeprefix("make_bool_mask(").removesuffix(")"))
    if isinstance(value, list):
        value = [(row.known(v) or (v,))[0] if isinstance(v, str) else v for v in value]
    return decode_value(name, value)


def names_of(path: list[str]) -> list[str]:
    """Return the spellings by which a path is looked up: with its sections, then without."""
    *sections, last = map(snake, path)
    if not all(section in _SECTIONS for section in sections):
        return []
    whole = "_".join(filter(None, [*map(_SECTIONS.get, sections), _SECTIONS.get(last) or last]))
    return [n for n in dict.fromkeys((whole, last)) if n and (n not in _TOP or not sections)]


def snake(key: str) -> str:
    """Return a key in lower case, its words joined by `_`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key)
    return re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")


# --- readers of figures -------------------------------------------------------------------------


def _shape(*wanted: str | None) -> Callable[[Any], Found]:
    """Read [B, 30, 23], as a list or as the card writes it; `wanted` counts from the end."""

    def read(value: Any) -> Found:  # noqa: ANN401 - any JSON value
        said: Found = []
        if isinstance(value, str):
            kind, _, rest = value.partition("[")
            inside, closed, more = rest.partition("]")
            said = _CARD_LINES[more.strip(" ,#")]
            if not closed or kind.strip() not in ("", "FloatTensor", "LongTensor", "BoolTensor"):
                raise ValueError
            value = [int(v) if v.strip().isdigit() else v.strip() for v in inside.split(",")]
        elif is_whole(value):
            value = [value]
        if not isinstance(value, list):
            raise TypeError
        places = zip(reversed(value), wanted, strict=False)
        # Height and width have one name: if two entries remain for it, they differ.
        figures = dict.fromkeys((name, entry) for entry, name in places if name is not None)
        if len({name for name, _ in figures}) < len(figures) or not all(
            is_whole(entry) for _, entry in figures
        ):
            raise ValueError("not one size")
        if not figures and not said:
            raise ValueError("states nothing")
        return [*figures, *said]

    return read


def _image_size(value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """Read 224, "224x224", {"height": 224, "width": 224}, or [B, 3, 3, 224, 224]."""
    if isinstance(value, str) and "[" not in value:
        value = [int(side) for side in value.replace("\xd7", "x").split("x")]
    elif isinstance(value, Mapping) and set(value) in ({"height", "width"}, {"h", "w"}):
        value = [*value.values()]
    return _shape("image_size", "image_size", None, "view_count")(value)


def _k(*views: str) -> Callable[[Any], Found]:
    """Read K: an object, 3x3, fx fy cx cy, or "fx=fy=95.2, cx=cy=112"; a width makes it native."""

    def read(value: Any) -> Found:  # noqa: ANN401 - any JSON value
        if isinstance(value, str):
            pairs = [part.replace(" ", "").split("=") for part in value.split(",")]
            value = {key: float(figure) for *keys, figure in pairs for key in keys}
        if isinstance(value, list) and len(value) == 3:
            value = [value[0][0], value[1][1], value[0][2], value[1][2]]
        size = value.get("width") if isinstance(value, Mapping) else None
        figures = (
            [value[k] for k in ("fx", "fy", "cx", "cy")] if isinstance(value, Mapping) else value
        )
        figures = [float(figure) for figure in figures]
        if len(figures) != 4:
            raise ValueError("not fx, fy, cx, cy")
        if size is None:
            return [(f"intrinsics.{view}", figures) for view in views]
        return [(f"native.{view}", [size, *figures]) for view in views]

    return read


def _block_to_view(value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """Read [1, 2, 0]: block b of `cam_rel_poses` (left, right wrist, head) goes to row map[b]."""
    if sorted(value) != [*range(len(VIEWS))]:
        raise ValueError(f"expects a row of 0 to {len(VIEWS) - 1} for each block")
    return [("extrinsics_rows", [CAM_REL_POSES_ORDER[value.index(r)] for r in sorted(value)])]


def _delta_flags(value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """Read a flag for each of the 23 columns."""
    if not all(isinstance(entry, bool) for entry in value):
        raise ValueError("not flags")
    return [("delta_spec", [1 if entry else -1 for entry in value])]


def _delta_columns(offsets: bool) -> Callable[[Any], Found]:
    """Read the indices of the columns that are offsets, or of those that are not."""

    def read(value: Any) -> Found:  # noqa: ANN401 - any JSON value
        chosen = decode_value("proprio_mask", value)  # its codec checks any indices of columns
        if max(chosen, default=0) >= ACTION_DIM:
            raise ValueError(f"the action has {ACTION_DIM} columns")
        runs = [1 if (column in chosen) == offsets else -1 for column in range(ACTION_DIM)]
        return [("delta_spec", runs)]

    return read


def _row_seconds(value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """Read how long a row lasts [s]; only a whole number of control steps states the field."""
    steps = value * CONTROL_HZ
    # 2 % of room, because people round 1/30 to 0.033 (1 % off) and 4/30 to 0.133.
    if round(steps) >= 1 and abs(steps - round(steps)) <= 0.02 * round(steps):
        return [("steps_per_row", round(steps))]
    return [("row_seconds", round(value, 3))]


def _skills(value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """Read names in order, or {"0": name, ...}."""
    if isinstance(value, Mapping):
        value = [value[str(index)] for index in range(len(value))]
    return [("skill_names", _value("skill_names", value)), ("skill_count", len(value))]


def _version(value: Any, known: Collection[str] = ()) -> Found:  # noqa: ANN401 - any JSON value
    """Read a name that has exactly one part such as v4 or v17, as the card's address has."""
    parts = {*re.split(r"[-_/ ]", spelled(value))}
    (found,) = (p for p in parts if re.fullmatch(r"v\d+", p) and (not known or p in known))
    return [("name", found)]


def _figure(name: str, kind: type) -> Callable[[Any], Found]:
    def read(value: Any) -> Found:  # noqa: ANN401 - any JSON value
        if type(value) is not kind:
            raise ValueError(f"not {kind.__name__}")
        return [(name, value)]

    return read


_IMAGENET: Found = [("image_mean", IMAGENET_MEAN), ("image_std", IMAGENET_STD)]
_CARD_LINES: Mapping[str, Found] = MappingProxyType(
    {
        "": [],
        "ImageNet": _IMAGENET,
        "ImageNet-norm": _IMAGENET,
        "ImageNet-norm in RGB order": [*_IMAGENET, ("colour_order", "rgb")],
        "head, left, right (RGB, ImageNet-norm)": [
            ("view_order", VIEWS), ("colour_order", "rgb"), *_IMAGENET,
        ],
        "resize to 224\xd7224, BICUBIC": [("image_size", 224), ("resize_filter", "bicubic")],
        "23-dim extracted state, NOT 256": [("proprio_dim", 23)],
        "19 (R1Pro)": [("domain_id", 19)],
        "19 (R1Pro); auto-overridden by skill_id internally": [("domain_id", 19)],
        "SE(3), camera-to-base, ORDER [head, left, right]": [
            ("extrinsics_direction", "camera_to_base"), ("extrinsics_rows", VIEWS),
        ],
        "K at 224 resolution": [("image_size", 224)],
    }
)  # fmt: skip
"""Lines of the card, to the letter."""

_NAMES = "name contract model model_name model_version checkpoint checkpoint_name repo_id"
_FIGURES: Mapping[str, Callable[[Any], Found]] = MappingProxyType({
    key: read
    for keys, read in (
        ("image_size img_size input_size image_resolution image_shape image_input_size target_size "
         "intrinsics_resolution image", _image_size),
        ("image_mask", _shape("view_count")),
        ("num_views num_image_views view_count", _figure("view_count", int)),
        ("head_k intrinsics_head", _k("head")),
        ("wrist_k intrinsics_wrist", _k("left_wrist", "right_wrist")),
        ("left_wrist_k intrinsics_left_wrist", _k("left_wrist")),
        ("right_wrist_k intrinsics_right_wrist", _k("right_wrist")),
        ("parquet_to_view extrinsics_parquet_to_view", _block_to_view),
        ("extrinsics", _shape(None, None, "view_count")),
        ("intrinsics", _shape(None, None, "view_count")),
        ("domain_id", _shape(None)),
        ("proprio proprio_dim dim_proprio", _shape("proprio_dim")),
        ("action_dim real_action_dim", _figure("action_dim", int)),
        ("pred_actions action_output", lambda v: _shape("action_dim", "chunk_length")(v)[::-1]),
        ("delta_mask", _delta_flags),
        ("idx_for_delta", _delta_columns(offsets=True)),
        ("idx_for_abs", _delta_columns(offsets=False)),
        ("normalization image_normalization resize image_resize", lambda v: _CARD_LINES[v]),
        ("row_period_s row_seconds", _row_seconds),
        ("action_hz", lambda value: _row_seconds(1 / value)),
        ("chunk_seconds chunk_duration_s qdur", lambda v: [("chunk_seconds", round(v + 0.0, 3))]),
        ("gripper_binarised binarize_gripper gripper_binarized action_gripper_binarized",
         _figure("gripper_binarised", bool)),
        ("use_progress_head", _figure("progress_head", bool)),
        ("skill_names id_to_skill skill_prompt_hub skills", _skills),
        (_NAMES, _version),
        ("version contract_version", lambda value: _version(value, PRESETS)),
        ("base", lambda value: [("base", PRESETS[value].name)]),
    )
    for key in keys.split()
})  # fmt: skip
"""Readers of the keys whose values are not simply the JSON value of one field."""

KEYS: Mapping[str, str] = MappingProxyType({
    **dict.fromkeys(_FIGURES, ""),
    **{key: name for name, row in FIELDS.items() for key in row.spellings},
    "name": "",  # a name without a version states nothing
})  # fmt: skip
"""Every known spelling of a key, with the field it is about; empty for a figure."""
_TOP = ("dtype precision prompt instruction skills version contract_version base "
        + _NAMES).split()  # fmt: skip
"""Keys that are about the whole checkpoint only at the top; further in they are about something
else: the dtype of one tensor, the skills of one task. A bare `version` may be the schema's: it
counts only if it names a preset."""
_SECTIONS: Mapping[str, str] = MappingProxyType({
    **dict.fromkeys(("image_input", "image_preprocessing", "preprocessing", "images"), "image"),
    **dict.fromkeys(("batch", "config", "geometry_conditioning"), ""),
    **{word: word for word in ("image", "intrinsics", "extrinsics", "proprio", "action", "language",
                               "normalization", "progress_head", "skill")},
    "state": "proprio",
})  # fmt: skip
"""Objects that are read into, and the prefix they add to the keys inside them."""
