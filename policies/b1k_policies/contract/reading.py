"""Reading what a checkpoint's own files state about its contract, key by key.

The schema of EVAL_CONTRACT.json is not public. So it is read by known spellings only: keys and
words of the model card, of config.json and of the family's public code, which stand with each field
(`fields`), and the few below that state a figure. Nothing else is guessed at: it is listed as not
understood, with the line that would say it in a contract file of this project.
config.json is read by its exact keys, since the Florence and DA3 configurations inside it use the
same words for other things.

Sources: the model card of DA3-XVLA v17; transformers (`CLIPImageProcessor.to_dict`).
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from b1k_envs.base import VIEWS
from b1k_envs.r1pro import ACTION_DIM, CAM_REL_POSES_ORDER, CONTROL_HZ
from b1k_policies.contract.codecs import ContractValueError, spelled
from b1k_policies.contract.fields import FIELDS, FORMAT, decode_value
from b1k_policies.contract.presets import IMAGENET_MEAN, IMAGENET_STD, PRESETS, read_fields

CONTRACT_FILE = "EVAL_CONTRACT.json"
CONFIG_FILE = "config.json"
PROCESSOR_FILE = "preprocessor_config.json"

Found = list[tuple[str, Any]]
"""What a value states, as pairs of (field or figure, value)."""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement of a file.

    Attributes:
        name: A field, a figure of `EvalContract.derived`, or `native.VIEW` ([size, fx, fy, cx,
            cy]), or `base`.
        value: The canonical value of a field; a JSON value otherwise.
        where: `FILE:key.of.key`.
    """

    name: str
    value: Any
    where: str


@dataclass(frozen=True, kw_only=True)
class Unread:
    """A key that may concern the contract and that this version does not understand.

    Attributes:
        file: Name of the file.
        key: `key.of.key`.
        value: Its JSON value.
        field: The field of which the key is a known spelling; None for none.
        why: What is wrong with the value, if that is known.
    """

    file: str
    key: str
    value: Any
    field: str | None = None
    why: str = ""

    def __str__(self) -> str:
        text = json.dumps(self.value, ensure_ascii=False)
        text = f"{self.file}:{self.key}: {text if len(text) <= 60 else f'{text[:57]}...'}"
        path = self.key.split(".")
        near = difflib.get_close_matches((_names(path) or [snake(path[-1])])[0], _KEYS, 1, 0.75)
        about = self.field or next((_KEYS[key] for key in near), "")
        line, why = '"FIELD": VALUE (docs/contract.md)', self.why
        if about:
            line, why = FIELDS[about].line, "" if FIELDS[about].codec.options else why
        return f"{text}{why and f' ({why})'}; if it counts, add {line} to a --contract file"


@dataclass(kw_only=True)
class Reading:
    """What was understood of a file, and what was not.

    Attributes:
        statements: Everything stated, in the order of the file.
        unread: What was not understood, in the same order.
        document: The file as read.
    """

    statements: list[Statement] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    document: Mapping[str, Any] = field(default_factory=dict)

    @property
    def not_understood(self) -> list[str]:
        """`FILE:key: value` of each key not understood, and what to do about it."""
        return [str(each) for each in self.unread]

    def value(self, dotted: str) -> Any:  # noqa: ANN401 - any JSON value
        """Return the value at a dotted key, or None."""
        found: Any = self.document
        for segment in dotted.split("."):
            found = found.get(segment) if isinstance(found, Mapping) else None
        return found


# --- values: a reader raises ValueError for what it does not know --------------------------------


def _field(name: str, value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """Read a field's value by the spellings in its row."""
    info = FIELDS[name]
    for word, meant in info.words.items():
        key = spelled(value) if isinstance(value, str) else value
        # By type too: 1 == True, so a flag would be taken for a number that has a meaning here.
        if type(word) is type(key) and word == key:
            return [(name, meant)]
    if isinstance(value, str) and name != "skill_names":  # a sentence is not a list of names
        value = info.codec.from_text(value.removeprefix("make_bool_mask(").removesuffix(")"))
    if isinstance(value, list):
        value = [info.words.get(spelled(v), v) if isinstance(v, str) else v for v in value]
    return [(name, decode_value(name, value))]


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
        elif _is_int(value):
            value = [value]
        if not isinstance(value, list):
            raise TypeError
        places = zip(reversed(value), wanted, strict=False)
        # Height and width have one name: if two entries remain for it, they differ.
        figures = dict.fromkeys((name, entry) for entry, name in places if name is not None)
        if len({name for name, _ in figures}) < len(figures) or not all(
            _is_int(entry) for _, entry in figures
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
        figures = [value[k] for k in ("fx", "fy", "cx", "cy")] if _is_map(value) else value
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
    if _is_map(value):
        value = [value[str(index)] for index in range(len(value))]
    return [*_field("skill_names", value), ("skill_count", len(value))]


def _version(value: Any, known: Collection[str] = ()) -> Found:  # noqa: ANN401 - any JSON value
    """Read a name that has exactly one part such as v4 or v17, as the card's address has."""
    parts = {*spelled(value).replace("-", "_").replace("/", "_").replace(" ", "_").split("_")}
    (found,) = [
        p for p in parts if p[:1] == "v" and p[1:].isdigit() and (not known or p in PRESETS)
    ]
    return [("name", found)]


def _figure(name: str, kind: type) -> Callable[[Any], Found]:
    def read(value: Any) -> Found:  # noqa: ANN401 - any JSON value
        if type(value) is not kind:
            raise ValueError(f"not {kind.__name__}")
        return [(name, value)]

    return read


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_map(value: object) -> bool:
    return isinstance(value, Mapping)


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
        ("name contract model model_name model_version checkpoint checkpoint_name repo_id",
         _version),
        ("version contract_version", lambda value: _version(value, PRESETS)),
        ("base", lambda value: [("base", PRESETS[value].name)]),
    )
    for key in keys.split()
})  # fmt: skip
"""Readers of the keys whose values are not simply the JSON value of one field."""

_KEYS: Mapping[str, str] = MappingProxyType(
    {**dict.fromkeys(_FIGURES, ""),
     **{key: name for name, info in FIELDS.items() for key in (name, *info.keys)},
     "name": ""}  # a name without a version states nothing
)  # fmt: skip
"""Every known spelling of a key, with the field it is about; empty for a figure."""
_TOP = (
    "dtype", "precision", "prompt", "instruction", "skills", "name", "contract", "model",
    "model_name", "model_version", "checkpoint", "checkpoint_name", "repo_id", "version",
    "contract_version", "base",
)  # fmt: skip
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
_OTHER_MODEL = ("train", "change", "diff", "previous", "prior", "legacy", "deprecated", "wrong",
                "fix", "history", "optim", "old")  # fmt: skip
"""Word beginnings that mark parts about another model, or about how this one came about."""
_CONFIG_KEYS: tuple[str, ...] = (
    "action_mode", "real_action_dim", "dim_proprio", "num_actions", "num_skills", "skill_names",
    "use_progress_head", "num_denoising_steps", "num_views", "num_image_views", "domain_id",
    "language_max_length", "tokenizer_max_length", "torch_dtype", "dtype", "da3_process_res",
    "use_posed_da3", "geometry_conditioning.da3_process_res",
    "geometry_conditioning.use_posed_da3", "idx_for_mask_proprio", "qdur", "action_hz",
    "gripper_threshold", "base_qvel_frame",
)  # fmt: skip
_PROCESSOR_KEYS: Mapping[str, tuple[str | None, str]] = MappingProxyType({
    "size": ("do_resize", "image_size"), "crop_size": ("do_center_crop", "image_size"),
    "resample": ("do_resize", "resize_filter"), "image_mean": ("do_normalize", "image_mean"),
    "image_std": ("do_normalize", "image_std"), "num_views": (None, "num_views"),
})  # fmt: skip
"""For each key of the processor's file: the switch that makes it count, and its spelling."""


def understood(key: str, value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """Return what a value states under a known spelling of a key.

    Raises:
        ValueError: The value has no known spelling.
    """
    try:
        if key in _FIGURES:
            found = _FIGURES[key](value)
            return [(n, decode_value(n, v) if n in FIELDS else v) for n, v in found]
    except (
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        ZeroDivisionError,
    ) as error:
        # A reader can fail in any of these ways on another shape; a field's own row is tried next.
        if not _KEYS[key]:
            raise ValueError(str(error) if isinstance(error, ContractValueError) else "") from error
    return _field(_KEYS[key], value)


def snake(key: str) -> str:
    """Return a key in lower case, its words joined by `_`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key)
    return re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")


def _names(path: list[str]) -> list[str]:
    """Return the spellings by which a path is looked up: with its sections, then without."""
    *sections, last = [snake(key) for key in path]
    if not all(section in _SECTIONS for section in sections):
        return []
    whole = "_".join(
        [_SECTIONS[s] for s in sections if _SECTIONS[s]] + [_SECTIONS.get(last) or last]
    )
    return [n for n in dict.fromkeys((whole, last)) if n and (n not in _TOP or not sections)]


# --- files ---------------------------------------------------------------------------------------


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        ContractValueError: The file cannot be read, is not JSON, or does not hold an object.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ContractValueError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # not JSON, or not UTF-8
        raise ContractValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ContractValueError(f"{path} must hold a JSON object, got {type(document).__name__}")
    return document


def read_contract_file(document: Mapping[str, Any]) -> Reading:
    """Read an EVAL_CONTRACT.json of any shape, or in this project's format if it says so.

    Raises:
        ContractValueError: Its `format` is this project's, and a key is unknown (the text has near
            misses), a value is not valid, or the version is another.
    """
    reading = Reading(document=document)
    if not str(document.get("format", "")).startswith(FORMAT.partition("/")[0] + "/"):
        _walk(reading, document, [])
        return reading
    try:
        base, fields = read_fields(document)
    except ContractValueError as error:
        raise ContractValueError(f"{CONTRACT_FILE}: {error}") from error
    stated = fields if base is None else {**fields, "base": base}
    reading.statements += [
        Statement(name=name, value=value, where=f"{CONTRACT_FILE}:{name}")
        for name, value in stated.items()
    ]
    return reading


def read_config(document: Mapping[str, Any]) -> Reading:
    """Read the keys of a config.json that concern the contract; the rest is the model's own."""
    reading = Reading(document=document)
    for key in _CONFIG_KEYS:
        value = reading.value(key)
        if value is not None:
            _take(reading, CONFIG_FILE, key, value, key.rsplit(".", 1)[-1])
    return reading


def read_processor(folder: Path | None) -> list[Statement]:
    """Read what the image processor's file states about the pictures; nothing if there is no file.

    Raises:
        ContractValueError: The file does not hold a JSON object.
    """
    if folder is None or not (folder / PROCESSOR_FILE).is_file():
        return []
    reading = Reading(document=read_json(folder / PROCESSOR_FILE))
    for key, (switch, spelling) in _PROCESSOR_KEYS.items():
        if key in reading.document and reading.document.get(switch or "", not switch) is True:
            _take(reading, PROCESSOR_FILE, key, reading.document[key], spelling)
    return reading.statements


def _walk(reading: Reading, node: Mapping[str, Any], path: list[str]) -> None:
    for key, value in node.items():
        here = [*path, str(key)]
        if any(word.startswith(_OTHER_MODEL) for word in snake(str(key)).split("_")):
            why = "not read, it may speak of another model"
            unread = Unread(file=CONTRACT_FILE, key=".".join(here), value=value, why=why)
            reading.unread.append(unread)
            continue
        spelling = next((name for name in _names(here) if name in _KEYS), None)
        before = len(reading.unread)
        _take(reading, CONTRACT_FILE, ".".join(here), value, spelling)
        # An object that is not understood as a whole is read key by key instead.
        if len(reading.unread) > before and isinstance(value, Mapping):
            del reading.unread[before:]
            _walk(reading, value, here)


def _take(reading: Reading, file: str, key: str, value: Any, spelling: str | None) -> None:  # noqa: ANN401
    about, why = None, ""
    if spelling is not None:
        try:
            found = understood(spelling, value)
        except (ValueError, KeyError, TypeError) as error:
            about, why = _KEYS[spelling] or None, str(error)
        else:
            where = f"{file}:{key}"
            reading.statements += [Statement(name=n, value=v, where=where) for n, v in found]
            return
    if isinstance(value, str) and key.startswith(("_", "$")):
        return  # keys like `_comment` and `$schema` are about the file, not the model
    reading.unread.append(Unread(file=file, key=key, value=value, field=about, why=why))
