"""Reads what people write about a contract: `[B, 3, 3, 224, 224]`, `camera-to-base`, `HEAD_K`.

The schema of a checkpoint's EVAL_CONTRACT.json is not public, so each reader takes the plausible
ways of writing one thing and gives statements: (field or derived figure, JSON value). A reader
that is not sure returns None; its key is then listed as not understood, never guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from b1k_envs.base import View
from b1k_envs.r1pro import ACTION_DIM, CAM_REL_POSES_ORDER
from b1k_policies.contract.contract import IMAGENET_MEAN, IMAGENET_STD

Found = list[tuple[str, Any]] | None
"""What a value states; None where it could not be read."""
Reader = Callable[[Any], Found]

_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_SIDE = r"(\d{2,4})(?![\d/]|\.\d)"
_NEGATION = r"(?:\b(?:not|no|non|never|without)\b|n't\b)"


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def as_is(name: str) -> Reader:
    """The value itself; the field's codec judges it later."""
    return lambda value: [(name, value)]


def integer(name: str) -> Reader:
    """A whole number, or a text that holds exactly one apart from a shape in brackets."""

    def read(value: Any) -> Found:  # noqa: ANN401 - any JSON value
        if isinstance(value, str):
            numbers = re.findall(r"\b\d+\b", re.sub(r"\[[^\]]*\]", "", value))
            return [(name, int(numbers[0]))] if len(numbers) == 1 else None
        return [(name, value)] if _is_int(value) else None

    return read


def flag(when_true: tuple[str, Any], when_false: tuple[str, Any] | None) -> Reader:
    """A boolean that stands for a value of some field."""

    def read(value: Any) -> Found:  # noqa: ANN401 - any JSON value
        if not isinstance(value, bool):
            return None
        found = when_true if value else when_false
        return [] if found is None else [found]

    return read


# --- pictures --------------------------------------------------------------------------------


def shape_of(value: Any) -> list[Any] | None:  # noqa: ANN401 - any JSON value
    """The entries of a shape, from a list or from brackets in a text; letters stay letters."""
    if isinstance(value, str):
        match = re.search(r"\[([^\]]*)\]", value)
        value = [part.strip() for part in match[1].split(",")] if match else None
    if not isinstance(value, list):
        return None
    return [int(v) if isinstance(v, str) and v.isdigit() else v for v in value]


def image_size(value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """224, [224, 224], "224x224", {"height": 224, "width": 224}, or [B, views, 3, 224, 224]."""
    if _is_int(value):
        return [("image_size", value)]
    if isinstance(value, dict):
        sides = {value.get(key) for key in value if key in ("height", "width", "h", "w")}
        if len(value) == 2 and len(sides) == 1 and _is_int(side := sides.pop()):
            return [("image_size", side)]
        return None
    if isinstance(value, str) and "[" not in value:
        match = re.fullmatch(r"\D*(\d{2,4})(?:\s*(?:x|by)\s*(\d{2,4}))?\D*", value)
        if match is None or match[2] not in (None, match[1]):
            return None
        return [("image_size", int(match[1]))]
    shape = shape_of(value)
    if shape is None or len(shape) < 2 or not _is_int(shape[-1]) or shape[-1] != shape[-2]:
        return None
    found: list[tuple[str, Any]] = [("image_size", shape[-1])]
    if len(shape) == 5 and _is_int(shape[1]):
        found.append(("view_count", shape[1]))
    return found


def resize(value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """Words such as "BICUBIC to 224x224, antialias"; 3 and 2 as PIL numbers its filters."""
    if _is_int(value):
        by_number = {3: "bicubic", 2: "bilinear", 0: "nearest"}
        return [("resize_filter", by_number[value])] if value in by_number else None
    if not isinstance(value, str):
        return None
    text = value.lower()
    filters = [word for word in ("bicubic", "bilinear", "nearest") if word in text]
    if len(filters) != 1:
        return None
    found: list[tuple[str, Any]] = [("resize_filter", filters[0])]
    if "antialias" in text.replace("-", ""):
        negated = re.search(r"(no|not|without|non)[\s-]*anti|antialias\s*=\s*false", text)
        found.append(("resize_antialias", negated is None))
    sizes = _target_sizes(text)
    if len(sizes) > 1:
        return None
    return [*found, *(("image_size", size) for size in sizes)]


def _target_sizes(text: str) -> set[int]:
    """Sizes that a text resizes to: after "to" or an arrow, else as NxN; no other number is one."""
    pairs_after_to = rf"(?:\bto|→|->)\s*[(\[]?\s*(?:{_SIDE}\s*[x\xd7,]\s*{_SIDE}|{_SIDE})"
    found = re.findall(pairs_after_to, text)
    if not found:
        found = re.findall(rf"(?<!\d){_SIDE}\s*[x\xd7]\s*{_SIDE}", text)
    return {int(side) for sides in found for side in sides if side}


def colours(value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """RGB or BGR."""
    text = "".join(value) if isinstance(value, list) and all(map(_is_str, value)) else value
    match = re.search(r"\b(rgb|bgr)\b", text.lower()) if isinstance(text, str) else None
    return [("colour_order", match[1])] if match else None


def _is_str(value: object) -> bool:
    return isinstance(value, str)


def normalisation(value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """Words such as "ImageNet", "imagenet (RGB)"."""
    if not isinstance(value, str) or "imagenet" not in value.lower():
        return None
    if re.search(_NEGATION, value.lower()):
        return None
    return [
        ("image_mean", list(IMAGENET_MEAN)),
        ("image_std", list(IMAGENET_STD)),
        *(colours(value) or []),
    ]


def colour_triple(name: str) -> Reader:
    """Three numbers in [0, 1]."""

    def read(value: Any) -> Found:  # noqa: ANN401 - any JSON value
        fits = isinstance(value, list) and len(value) == 3
        return (
            [(name, value)] if fits and all(_is_number(v) and 0 <= v <= 1 for v in value) else None
        )

    return read


def image_text(value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """A line as the card's: [B, 3, 3, 224, 224], head, left, right (RGB, ImageNet-norm)."""
    found = image_size(value)
    if found is None or not isinstance(value, str):
        return found
    rest = re.sub(r"\[[^\]]*\]", "", value, count=1)
    listed = [view for word in re.findall(r"[a-z_]+", rest.lower()) if (view := _view(word))]
    if len(listed) == 3:
        found.append(("view_order", listed))
    return [*found, *(normalisation(rest) or colours(rest) or [])]


# --- views and poses ---------------------------------------------------------------------------


def _view(word: Any) -> View | None:  # noqa: ANN401 - any JSON value
    text = str(word).lower()
    tokens = set(re.split(r"[^a-z0-9]+", text))
    if tokens & {"head", "zed", "headcam"}:
        return "head"
    if "left" in tokens:
        return "left_wrist"
    return "right_wrist" if "right" in tokens else None


def _views(value: Any) -> list[View] | None:  # noqa: ANN401 - any JSON value
    if isinstance(value, str):
        value = [part for part in re.split(r"[,;|>\[\]()]|->|\bthen\b", value) if part.strip(" -")]
    if isinstance(value, dict) and all(_is_int(v) for v in value.values()):
        value = sorted(value, key=value.__getitem__)  # {"head": 0, "left": 1, ...}
    if not isinstance(value, list):
        return None
    if all(isinstance(entry, dict) for entry in value):
        value = [entry.get("name", entry.get("view")) for entry in value]
    views = [_view(entry) for entry in value]
    known = [view for view in views if view is not None]
    return known if known and len(known) == len(views) == len(set(known)) else None


def view_list(name: str) -> Reader:
    """[head, left_wrist, right_wrist], "head, left, right", or {"head": 0, ...}."""

    def read(value: Any) -> Found:  # noqa: ANN401 - any JSON value
        views = _views(value)
        return None if views is None else [(name, views)]

    return read


def block_to_view(value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """[1, 2, 0]: block b of `cam_rel_poses` (left_wrist, right_wrist, head) goes to row map[b]."""
    if not isinstance(value, list) or not all(map(_is_int, value)) or sorted(value) != [0, 1, 2]:
        return None
    rows: list[View] = ["head", "head", "head"]
    for block, row in enumerate(value):
        rows[row] = CAM_REL_POSES_ORDER[block]
    return [("extrinsics_rows", rows)]


def direction(value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """Words such as "camera-to-base" or "w2c", with axes and order where named beside it."""
    if not isinstance(value, str):
        return None
    text = re.sub(r"[\s_-]+", " ", value.lower())
    found: list[tuple[str, Any]] = []
    forth = re.search(r"\b(cam(era)? ?(to|2) ?(base|robot|world)|c2[bw])\b", text)
    back = re.search(r"\b((base|robot|world) ?(to|2) ?cam(era)?|[bw]2c)\b", text)
    if forth and back:
        return None
    if forth or back:
        found.append(("extrinsics_direction", "camera_to_base" if forth else "base_to_camera"))
    found += axes(value) or []
    order = re.search(r"order\W*\[?([a-z_, ]+)", value.lower())
    if order and (views := _views(order[1])):
        found.append(("extrinsics_rows", views))
    return found or None


def axes(value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """Words such as "USD", "OpenGL", "OpenCV"."""
    text = value.lower().replace(" ", "") if isinstance(value, str) else ""
    usd, opencv = bool(re.search("usd|opengl", text)), "opencv" in text
    if usd == opencv:
        return None
    return [("camera_axes", "usd" if usd else "opencv")]


def k_matrix(*views: View) -> Reader:
    """K of views as sent: an object, a 3x3, fx fy cx cy, or "fx=fy=95.2, cx=cy=112".

    An object with its own width or size states the native camera instead.
    """

    def read(value: Any) -> Found:  # noqa: ANN401 - any JSON value
        figures = _k_figures(value)
        if figures is None:
            return None
        size = None
        if isinstance(value, dict):
            size = value.get("width", value.get("size", value.get("native_size")))
        if size is None:
            return [(f"intrinsics.{view}", figures) for view in views]
        return [(f"native.{view}", [size, *figures]) for view in views]

    return read


def _k_figures(value: Any) -> list[float] | None:  # noqa: ANN401 - any JSON value
    if isinstance(value, str):
        text = re.sub(r"\s", "", value.lower())
        pairs = re.findall(rf"((?:[fc][xy]=)+)({_NUMBER})", text)
        value = {key: float(n) for keys, n in pairs for key in re.findall("[fc][xy]", keys)}
    if isinstance(value, dict):
        lower = {str(key).lower(): entry for key, entry in value.items()}
        focal = lower.get("f", lower.get("focal"))
        figures = [lower.get("fx", focal), lower.get("fy", focal), lower.get("cx"), lower.get("cy")]
    elif isinstance(value, list) and len(value) == 3 and all(_is_row(row) for row in value):
        figures = [value[0][0], value[1][1], value[0][2], value[1][2]]
    else:
        figures = value if isinstance(value, list) and len(value) == 4 else [None]
    known = [float(f) for f in figures if f is not None and _is_number(f)]
    return known if len(known) == 4 else None


def _is_row(row: object) -> bool:
    return isinstance(row, list) and len(row) == 3


# --- robot ------------------------------------------------------------------------------------


def _part(word: Any, proprio: bool) -> str | None:  # noqa: ANN401 - any JSON value
    tokens = set(re.split(r"[^a-z]+", str(word).lower()))
    side = "left" if "left" in tokens else "right" if "right" in tokens else None
    if tokens & {"gripper", "grippers", "finger", "fingers"}:
        found = f"gripper_{side}" if side else None
    elif "arm" in tokens:
        found = f"arm_{side}" if side else None
    elif tokens & {"torso", "trunk"}:
        return "trunk_qpos" if proprio else "trunk"
    elif "base" in tokens:
        return "base_qvel" if proprio else "base"
    else:
        return None
    return f"{found}_qpos" if found and proprio else found


def parts(name: str, *, proprio: bool) -> Reader:
    """Parts of the robot in order: [base_qvel, torso, left_arm, left_gripper, ...]."""

    def read(value: Any) -> Found:  # noqa: ANN401 - any JSON value
        if isinstance(value, str):
            value = [part for part in re.split(r"[,;|]", value) if part.strip()]
        if not isinstance(value, list) or not all(map(_is_str, value)):
            return None
        listed = [_part(word, proprio) for word in value]
        whole = None not in listed and len(set(listed)) == len(listed) == 6
        return [(name, listed)] if whole else None

    return read


def gripper(value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """Words such as "2*(q1+q2)/0.10 - 1", "[-1, 1]", "sum", "fraction"."""
    if not isinstance(value, str) or re.search(rf"{_NEGATION}|unsigned", value.lower()):
        return None
    text = re.sub(r"\s", "", value.lower())
    found = [
        name
        for pattern, name in (
            (r"signed|\[-1,\+?1\]|^2\*?\(q1\+q2\)/0?\.10?-1$", "signed"),
            (r"fraction|\[0,1\]|^\(q1\+q2\)/0?\.10?$", "fraction"),
            (r"^(raw_?)?sum$|^\(?q1\+q2\)?$", "sum"),
        )
        if re.search(pattern, text)
    ]
    return [("gripper_proprio", found[0])] if len(found) == 1 else None


def delta_spec(value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """make_bool_mask(-3, 3, -1, ...) as text or list, or 23 booleans."""
    if isinstance(value, str):
        value = [int(n) for n in re.findall(r"[-+]?\d+", value)]
    if not isinstance(value, list) or not value:
        return None
    if all(isinstance(v, bool) for v in value):
        return [("delta_spec", [1 if v else -1 for v in value])]
    return [("delta_spec", value)] if all(map(_is_int, value)) else None


def delta_indices(*, offsets: bool) -> Reader:
    """The columns that are offsets (or, the other way round, commands)."""

    def read(value: Any) -> Found:  # noqa: ANN401 - any JSON value
        columns = range(ACTION_DIM)
        if not isinstance(value, list) or not all(_is_int(v) and v in columns for v in value):
            return None
        return [("delta_spec", [1 if (c in value) == offsets else -1 for c in columns])]

    return read


def width(name: str) -> Reader:
    """The last number of a shape, or a bare number."""

    def read(value: Any) -> Found:  # noqa: ANN401 - any JSON value
        shape: Sequence[Any] | None = [value] if _is_int(value) else shape_of(value)
        return [(name, shape[-1])] if shape and _is_int(shape[-1]) else None

    return read


def chunk_shape(value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """[B, 30, 23]."""
    shape = shape_of(value)
    if shape is None or len(shape) < 2 or not all(map(_is_int, shape[-2:])):
        return None
    return [("chunk_length", shape[-2]), ("action_dim", shape[-1])]


def reference(value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """Words such as "proprio"; "the chunk's first action", the card's other words, is unclear."""
    text = value.lower() if isinstance(value, str) else ""
    if not re.search("proprio|state", text) or re.search(_NEGATION, text):
        return None
    return [("delta_reference", "proprio")]


# --- what the model says -----------------------------------------------------------------------


def progress(value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """What the head gives: "logit", "bare Linear", or "probability", "Sigmoid inside the head"."""
    if not isinstance(value, str):
        return None
    text = value.lower()
    if text.strip() == "none":
        return [("progress_output", "none")]
    logit = bool(re.search("logit|bare linear|^linear|raw linear", text))
    probability = bool(re.search(r"probab|sigmoid (is )?inside|linear,? ?\+?sigmoid", text))
    # "not a probability" says what it is not; "bare Linear, no sigmoid" still says what it is.
    negated = re.search(rf"{_NEGATION}[^,;.]*(?:logit|linear|probab|sigmoid (?:is )?inside)", text)
    if logit == probability or negated:
        return None
    return [("progress_output", "logit" if logit else "probability")]


def skills(value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """Names in order, {"0": name, ...} or {name: 0, ...}."""
    if isinstance(value, dict) and value:
        pairs = [
            (int(k), v) if str(k).isdigit() and _is_str(v) else (v, k) for k, v in value.items()
        ]
        if sorted(i for i, _ in pairs if _is_int(i)) != list(range(len(pairs))):
            return None
        value = [name for _, name in sorted(pairs)]
    if not isinstance(value, list) or not value or not all(map(_is_str, value)):
        return None
    return [("skill_names", value), ("skill_count", len(value))]


def dtype(value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """Words such as "bf16", "torch.bfloat16", "float32"."""
    text = value.lower().removeprefix("torch.") if isinstance(value, str) else ""
    short = {"bf16": "bfloat16", "fp32": "float32", "fp16": "float16", "half": "float16"}
    text = short.get(text, text)
    return [("dtype", text)] if text in short.values() else None


def version(value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """A name that holds v4, v17, v18, ...; other names say nothing."""
    found = set(re.findall(r"(?<![a-z0-9])v\d+(?![0-9.])", value.lower())) if _is_str(value) else ()
    return [("name", found.pop())] if len(found) == 1 else None
