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


@dataclass(frozen=True)
class Codec:
    """Reads, checks and writes the values of one kind of field.

    Attributes:
        decode: Returns the canonical value, or raises `ValueError`.
        from_text: Turns typed text into a value for `decode`.
        form: How a value is written in JSON, for people.
        encode: Turns the canonical value into JSON.
        options: The words allowed for a value, or for each of its entries; () for any.
    """

    decode: Callable[[Any], Any]
    from_text: Callable[[str], Any]
    form: str
    encode: Callable[[Any], Any] = lambda value: value
    options: tuple[str, ...] = ()


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


def spelled(text: str) -> str:
    """Normalise a text for the look-up of spellings: lower case, words joined by `_`.

    A text with digits keeps its punctuation: in `[-1, 1]` the dash is a minus, not a hyphen.
    """
    text = " ".join(text.lower().split())
    if any(character.isdigit() for character in text):
        return text
    return text.replace("-", "_").replace(" ", "_")


# --- text ------------------------------------------------------------------------------------


def _json_or_raw(text: str) -> Any:  # noqa: ANN401 - any JSON value
    # What is no JSON stays text, so that `decode` refuses it and says what the field expects.
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return {"true": True, "yes": True, "false": False, "no": False}.get(text.lower(), text)


def _json_or_none(text: str) -> Any:  # noqa: ANN401 - any JSON value
    return None if text.lower() in ("none", "null") else _json_or_raw(text)


def _raw_or_none(text: str) -> str | None:
    return None if text.lower() in ("none", "null") else text


def _split(text: str) -> Any:  # noqa: ANN401 - any JSON value
    if text.lstrip().startswith(("[", "{", "null")):
        return _json_or_raw(text)
    return [_json_or_raw(part.strip()) for part in text.split(",")]


def _split_or_none(text: str) -> Any:  # noqa: ANN401 - any JSON value
    return None if text.lower() in ("none", "null") else _split(text)


# --- codecs ----------------------------------------------------------------------------------


def whole(low: int, high: int | None = None) -> Codec:
    """Codec of a whole number from `low` to `high`."""
    expects = f"a whole number from {low}" + (f" to {high}" if high is not None else " up")

    def decode(value: Any) -> int:  # noqa: ANN401 - judged here
        # A bool is an int to Python: without this, `true` would pass as 1.
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"expects {expects}, got {value!r}")
        if value < low or (high is not None and value > high):
            raise ValueError(f"expects {expects}, got {value}")
        return value

    return Codec(decode, _json_or_raw, "WHOLE NUMBER")


def _decode_flag(value: Any) -> bool:  # noqa: ANN401 - judged here
    if not isinstance(value, bool):
        raise ValueError(f"expects true or false, got {value!r}")
    return value


FLAG = Codec(_decode_flag, _json_or_raw, "true | false")


def choice(*options: str) -> Codec:
    """Codec of one word out of `options`."""

    def decode(value: Any) -> str:  # noqa: ANN401 - judged here
        if value not in options or not isinstance(value, str):
            hint = near_miss(str(value), options)
            raise ValueError(f"expects one of {', '.join(options)}, got {value!r}{hint}")
        return value

    form = " | ".join(f'"{option}"' for option in options)
    return Codec(decode, lambda text: text.lower(), form, options=options)


def _decode_text(value: Any) -> str:  # noqa: ANN401 - judged here
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"expects a text that is not empty, got {value!r}")
    return value


TEXT = Codec(_decode_text, lambda text: text, '"TEXT"')
OPTIONAL_TEXT = Codec(
    lambda value: None if value is None else _decode_text(value), _raw_or_none, '"TEXT" | null'
)


def _items(value: Any, expects: str) -> list[Any]:  # noqa: ANN401 - judged here
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"expects {expects}, got {value!r}")
    return list(value)


def real_triple(low: float, high: float, *, positive: bool = False) -> Codec:
    """Codec of three finite numbers in [low, high], one per colour; `positive` excludes 0."""
    bounds = f"in {'(' if positive else '['}{low:g}, {high:g}]"
    expects = f"three numbers {bounds}, in the order of the colours"

    def decode(value: Any) -> tuple[float, float, float]:  # noqa: ANN401 - judged here
        numbers = _items(value, expects)
        if len(numbers) != 3:
            raise ValueError(f"expects {expects}, got {len(numbers)} of them")
        for number in numbers:
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                raise ValueError(f"expects {expects}, got {number!r}")
            inside = math.isfinite(number) and low <= number <= high
            if not inside or (positive and number <= 0):
                raise ValueError(f"expects {expects}, got {number}")
        return (float(numbers[0]), float(numbers[1]), float(numbers[2]))

    return Codec(decode, _split, "[NUMBER, NUMBER, NUMBER]", list)


def names(known: Sequence[str], *, all_of_them: bool = False) -> Codec:
    """Codec of distinct names out of `known`, in order; `all_of_them` asks for every one."""

    def decode(value: Any) -> tuple[str, ...]:  # noqa: ANN401 - judged here
        expects = f"{'every one' if all_of_them else 'some'} of {', '.join(known)}, in order"
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
    form = f"[{', '.join(few)}] in its order"
    return Codec(decode, _split, form, list, tuple(known))


def _decode_optional_names(value: Any) -> tuple[str, ...] | None:  # noqa: ANN401 - judged here
    if value is None:
        return None
    found = _items(value, "a list of names, or none")
    for name in found:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"expects a list of names, got {name!r} in it")
    if len(set(found)) != len(found) or not found:
        raise ValueError("expects names that are there and differ from each other")
    return tuple(found)


OPTIONAL_NAMES = Codec(
    _decode_optional_names,
    _split_or_none,
    '["NAME", ...] | null',
    lambda value: None if value is None else list(value),
)


def _decode_bool_mask(value: Any) -> tuple[int, ...]:  # noqa: ANN401 - judged here
    """Decode runs as `make_bool_mask` takes them; runs of one sign are merged."""
    # Merged, so that two spellings of one mask are equal: contracts are compared by value.
    merged: list[int] = []
    for run in _items(value, "runs of columns such as -3, 3, -1"):
        if isinstance(run, bool) or not isinstance(run, int) or run == 0:
            raise ValueError(f"expects whole numbers other than 0, got {run!r}")
        if merged and (merged[-1] > 0) == (run > 0):
            merged[-1] += run
        else:
            merged.append(run)
    if not merged:
        raise ValueError("expects at least one run of columns")
    return tuple(merged)


BOOL_MASK = Codec(_decode_bool_mask, _split, "[RUN, ...]", list)


def _decode_columns(value: Any) -> tuple[int, ...]:  # noqa: ANN401 - judged here
    """Decode indices of columns to ascending order, so that equal sets are equal values."""
    columns = _items(value, "indices of columns such as 0, 1, 2, or none")
    for column in columns:
        if isinstance(column, bool) or not isinstance(column, int) or column < 0:
            raise ValueError(f"expects indices of columns from 0 up, got {column!r}")
    if len(set(columns)) != len(columns):
        raise ValueError(f"names columns {', '.join(map(str, columns))}: one occurs twice")
    return tuple(sorted(columns))


COLUMNS = Codec(
    _decode_columns,
    lambda text: [] if text.lower() in ("none", "[]") else _split(text),
    "[COLUMN, ...]",
    list,
)


def optional_real(low: float, high: float) -> Codec:
    """Codec of a number in [low, high], or none."""

    def decode(value: Any) -> float | None:  # noqa: ANN401 - judged here
        if value is None:
            return None
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not low <= value <= high:
            raise ValueError(f"expects a number from {low:g} to {high:g}, or none, got {value!r}")
        return float(value)

    return Codec(decode, _json_or_none, "NUMBER | null")


def optional_whole(low: int, high: int) -> Codec:
    """Codec of a whole number from `low` to `high`, or none."""
    inner = whole(low, high)
    return Codec(
        lambda value: None if value is None else inner.decode(value),
        _json_or_none,
        f"{inner.form} | null",
    )


def _decode_cameras(value: Any) -> tuple[NativeCamera, ...]:  # noqa: ANN401 - judged here
    expects = 'an object such as {"head": {"size": 720, "focal": 306.0}, ...}'
    if isinstance(value, (tuple, list)) and all(isinstance(c, NativeCamera) for c in value):
        value = {camera.view: {"size": camera.size, "focal": camera.focal} for camera in value}
    if not isinstance(value, Mapping):
        raise ValueError(f"expects {expects}, got {value!r}")
    for view, camera in value.items():
        if view not in VIEWS:
            raise ValueError(f"{view!r} is no view{near_miss(str(view), VIEWS)}")
        if not isinstance(camera, Mapping) or set(camera) != {"size", "focal"}:
            raise ValueError(f"{view}: expects size and focal, got {camera!r}")
        whole(1).decode(camera["size"])
        focal = camera["focal"]
        if isinstance(focal, bool) or not isinstance(focal, (int, float)):
            raise ValueError(f"{view}: focal expects a number of pixels, got {focal!r}")
        if not math.isfinite(focal) or focal <= 0:
            raise ValueError(f"{view}: focal expects a number of pixels above 0, got {focal}")
    # In the order of VIEWS, whatever the file's order: equal cameras must be equal values.
    return tuple(
        NativeCamera(view=view, size=value[view]["size"], focal=float(value[view]["focal"]))
        for view in VIEWS
        if view in value
    )


CAMERAS = Codec(
    _decode_cameras,
    _json_or_raw,
    '{"VIEW": {"size": PX, "focal": PX}, ...}',
    lambda value: {c.view: {"size": c.size, "focal": c.focal} for c in value},
)
