"""How one field of a contract is read, checked and written: from Python, JSON or `--set` text.

A codec knows nothing of checkpoints. `decode` turns a Python or JSON value into its canonical,
immutable form, or raises `ValueError` saying what it expected; `encode` turns that into JSON
again; `from_text` turns what a person typed after `--set field=` into a value for `decode`.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from b1k_envs.base import VIEWS, View
from b1k_envs.errors import UsageError


class ContractValueError(UsageError, ValueError):
    """A contract, or a setting of one, is not valid. Exit code 2."""


def json_or_raw(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Read JSON; what is none stays text, so that `decode` can say what the field expects."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _typed(text: str) -> Any:  # noqa: ANN401 - any JSON value
    return {"true": True, "yes": True, "false": False, "no": False}.get(
        text.lower(), json_or_raw(text)
    )


def _split(text: str) -> Any:  # noqa: ANN401 - any JSON value
    if text.lstrip().startswith(("[", "{", "null")):
        return _typed(text)
    return [_typed(part.strip()) for part in text.split(",")]


@dataclass(frozen=True)
class Codec:
    """Reads, checks and writes the values of one kind of field.

    Attributes:
        decode: Returns the canonical value, or raises `ValueError`.
        form: How a value is written in JSON, for people.
        from_text: Turns typed text into a value for `decode`.
        encode: Turns the canonical value into JSON.
        options: The words allowed for a value, or for each of its entries; () for any.
    """

    decode: Callable[[Any], Any]
    form: str
    from_text: Callable[[str], Any] = _typed
    encode: Callable[[Any], Any] = lambda value: value
    options: tuple[str, ...] = ()


def optional(inner: Codec) -> Codec:
    """Codec of a value of another codec, or none."""
    return Codec(
        lambda value: None if value is None else inner.decode(value),
        f"{inner.form} | null",
        lambda text: None if text.lower() in ("none", "null") else inner.from_text(text),
        lambda value: None if value is None else inner.encode(value),
        inner.options,
    )


@dataclass(frozen=True, kw_only=True)
class NativeCamera:
    """The camera that took a view: square picture, square pixels, centred principal point.

    Attributes:
        view: Name of the view.
        size: Width and height of the native picture [px].
        focal: fx = fy at that size [px]; cx = cy = size / 2.
    """

    view: View
    size: int
    focal: float


def near_miss(word: str, known: Sequence[str]) -> str:
    """Return `; did you mean X?` or `; choose from A, B, C`, to end an error text with."""
    near = difflib.get_close_matches(word.lower(), known, n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else f"; choose from {', '.join(known)}"


def as_text(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return a JSON value as text for a cell of a table."""
    if value is None:
        return "none"
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(entry, (str, int, float)) for entry in value):
        return ", ".join(str(entry) for entry in value)
    return json.dumps(value, ensure_ascii=False)


def is_whole(value: object) -> bool:
    """Whether a JSON value is a whole number: to Python `true` is an int, too."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether a JSON value is a number, which may be infinite."""
    return is_whole(value) or isinstance(value, float)


def _items(value: Any, expects: str) -> list[Any]:  # noqa: ANN401 - judged here
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"expects {expects}, got {value!r}")
    return list(value)


# --- codecs ----------------------------------------------------------------------------------


def whole(low: int, high: int | None = None) -> Codec:
    """Codec of a whole number from `low` to `high`."""
    expects = f"a whole number from {low}" + (f" to {high}" if high is not None else " up")

    def decode(value: Any) -> int:  # noqa: ANN401 - judged here
        if not is_whole(value) or value < low or (high is not None and value > high):
            raise ValueError(f"expects {expects}, got {value!r}")
        return int(value)

    return Codec(decode, "WHOLE NUMBER")


def real(low: float, high: float) -> Codec:
    """Codec of a number in [low, high]; its text allows none, see `optional`."""

    def decode(value: Any) -> float:  # noqa: ANN401 - judged here
        if not is_number(value) or not low <= value <= high:
            raise ValueError(f"expects a number from {low:g} to {high:g}, or none, got {value!r}")
        return float(value)

    return Codec(decode, "NUMBER")


def _decode_progress(value: Any) -> float | str:  # noqa: ANN401 - judged here
    if value == "previous":
        return "previous"
    if not is_number(value) or not 0.0 <= value <= 1.0:
        raise ValueError(f"expects none, a number from 0 to 1, or previous, got {value!r}")
    return float(value)


PROGRESS = optional(Codec(_decode_progress, 'NUMBER | "previous"'))


def _decode_flag(value: Any) -> bool:  # noqa: ANN401 - judged here
    if not isinstance(value, bool):
        raise ValueError(f"expects true or false, got {value!r}")
    return value


FLAG = Codec(_decode_flag, "true | false")


def _decode_text(value: Any) -> str:  # noqa: ANN401 - judged here
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"expects a text that is not empty, got {value!r}")
    return value


TEXT = Codec(_decode_text, '"TEXT"', str)


def choice(*options: str) -> Codec:
    """Codec of one word out of `options`."""

    def decode(value: Any) -> str:  # noqa: ANN401 - judged here
        if value not in options or not isinstance(value, str):
            hint = near_miss(str(value), options)
            raise ValueError(f"expects one of {', '.join(options)}, got {value!r}{hint}")
        return value

    return Codec(decode, " | ".join(map(json.dumps, options)), str.lower, options=options)


def real_triple(low: float, high: float, *, positive: bool = False) -> Codec:
    """Codec of three finite numbers in [low, high], one per colour; `positive` excludes 0."""
    bounds = f"in {'(' if positive else '['}{low:g}, {high:g}]"
    expects = f"three numbers {bounds}, in the order of the colours"

    def decode(value: Any) -> tuple[float, ...]:  # noqa: ANN401 - judged here
        numbers = _items(value, expects)
        if len(numbers) != 3:
            raise ValueError(f"expects {expects}, got {len(numbers)} of them")
        for number in numbers:
            # A comparison with NaN is false, so NaN and infinity are outside, too.
            if not is_number(number) or not low <= number <= high or (positive and number <= 0):
                raise ValueError(f"expects {expects}, got {number!r}")
        return tuple(map(float, numbers))

    return Codec(decode, "[NUMBER, NUMBER, NUMBER]", _split, list)


def names(known: Sequence[str], *, all_of_them: bool = False) -> Codec:
    """Codec of distinct names out of `known`, in order; `all_of_them` asks for every one."""
    expects = f"{'every one' if all_of_them else 'some'} of {', '.join(known)}, in order"

    def decode(value: Any) -> tuple[str, ...]:  # noqa: ANN401 - judged here
        found = _items(value, expects)
        for name in found:
            if name not in known or not isinstance(name, str):
                raise ValueError(
                    f"expects {expects}, got {name!r}{near_miss(str(name), tuple(known))}"
                )
        if len(set(found)) != len(found):
            raise ValueError(f"names {', '.join(found)}: one occurs twice")
        if not found or (all_of_them and len(found) != len(known)):
            raise ValueError(f"expects {expects}, got {', '.join(found) or 'none'}")
        return tuple(found)

    few = [json.dumps(name) for name in known] if len(known) < 7 else ['"NAME"', "..."]
    return Codec(decode, f"[{', '.join(few)}] in its order", _split, list, tuple(known))


def _decode_any_names(value: Any) -> tuple[str, ...]:  # noqa: ANN401 - judged here
    found = _items(value, "a list of names, or none")
    for name in found:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"expects a list of names, got {name!r} in it")
    if len(set(found)) != len(found) or not found:
        raise ValueError("expects names that are there and differ from each other")
    return tuple(found)


ANY_NAMES = Codec(_decode_any_names, '["NAME", ...]', _split, list)


def _decode_bool_mask(value: Any) -> tuple[int, ...]:  # noqa: ANN401 - judged here
    """Decode runs as `make_bool_mask` takes them; runs of one sign are merged."""
    # Merged, so that two spellings of one mask are equal: contracts are compared by value.
    merged: list[int] = []
    for run in _items(value, "runs of columns such as -3, 3, -1"):
        if not is_whole(run) or run == 0:
            raise ValueError(f"expects whole numbers other than 0, got {run!r}")
        if merged and (merged[-1] > 0) == (run > 0):
            merged[-1] += run
        else:
            merged.append(run)
    if not merged:
        raise ValueError("expects at least one run of columns")
    return tuple(merged)


BOOL_MASK = Codec(
    _decode_bool_mask,
    "[RUN, ...]",
    lambda text: _split(text if "," in text else ",".join(text.split())),  # as docs write it, too
    list,
)


def _decode_columns(value: Any) -> tuple[int, ...]:  # noqa: ANN401 - judged here
    """Decode indices of columns to ascending order, so that equal sets are equal values."""
    columns = _items(value, "indices of columns such as 0, 1, 2, or none")
    for column in columns:
        if not is_whole(column) or column < 0:
            raise ValueError(f"expects indices of columns from 0 up, got {column!r}")
    if len(set(columns)) != len(columns):
        raise ValueError(f"names columns {', '.join(map(str, columns))}: one occurs twice")
    return tuple(sorted(columns))


COLUMNS = Codec(
    _decode_columns,
    "[COLUMN, ...]",
    lambda text: [] if text.lower() == "none" else _split(text),
    list,
)


def _decode_cameras(value: Any) -> tuple[NativeCamera, ...]:  # noqa: ANN401 - judged here
    if isinstance(value, (tuple, list)) and all(isinstance(c, NativeCamera) for c in value):
        value = _encode_cameras(value)
    if not isinstance(value, Mapping):
        example = '{"head": {"size": 720, "focal": 306.0}, ...}'
        raise ValueError(f"expects an object such as {example}, got {value!r}")
    for view, camera in value.items():
        if view not in VIEWS:
            raise ValueError(f"{view!r} is no view{near_miss(str(view), VIEWS)}")
        if not isinstance(camera, Mapping) or set(camera) != {"size", "focal"}:
            raise ValueError(f"{view}: expects size and focal, got {camera!r}")
        whole(1).decode(camera["size"])
        focal = camera["focal"]
        if not is_number(focal):
            raise ValueError(f"{view}: focal expects a number of pixels, got {focal!r}")
        if not 0 < focal < math.inf:
            raise ValueError(f"{view}: focal expects a number of pixels above 0, got {focal}")
    # In the order of VIEWS, whatever the file's order: equal cameras must be equal values.
    return tuple(
        NativeCamera(view=view, size=value[view]["size"], focal=float(value[view]["focal"]))
        for view in VIEWS
        if view in value
    )


def _encode_cameras(cameras: Sequence[NativeCamera]) -> dict[str, Any]:
    return {c.view: {"size": c.size, "focal": c.focal} for c in cameras}


CAMERAS = Codec(_decode_cameras, '{"VIEW": {"size": PX, "focal": PX}, ...}', encode=_encode_cameras)
