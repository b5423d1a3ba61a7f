"""`--policy-arg KEY=VALUE`, typed by the annotations of a policy's constructor."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from b1k_envs.errors import UsageError
from b1k_policies.options import at_home

_BOOLS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_KINDS = "bool, int, float, str, Path, Literal, Optional, and lists of those"


def check_arguments(words: Sequence[str]) -> dict[str, str]:
    """Split typed arguments into texts by key.

    Raises:
        UsageError: One has no `=`, or a key is given twice.
    """
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.isidentifier():
            raise UsageError(f"--policy-arg {word!r}: give KEY=VALUE, such as scale=0.5")
        if key in given:
            raise UsageError(f"--policy-arg {key} is given twice: {given[key]} and {value}")
        given[key] = value
    return given


def typed_arguments(cls: type[Any], words: Sequence[str]) -> dict[str, Any]:
    """Return the arguments for a constructor.

    Args:
        cls: The class.
        words: `KEY=VALUE` each.

    Raises:
        UsageError: An argument is unknown or missing, has no type that can be typed, or its value
            does not convert; the text names it, its type and the constructor.
    """
    given, parameters = check_arguments(words), _parameters(cls)
    shown = signature_words(cls)
    for key in given:
        if key not in parameters:
            near = difflib.get_close_matches(key, parameters, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"--policy-arg {key}: {shown} has no argument {key}{hint}")
    lacking = [
        f"{name} ({_name(_hint(cls, each))})"
        for name, each in parameters.items()
        if each.default is each.empty and name not in given
    ]
    if lacking:
        raise UsageError(
            f"--policy-arg {lacking[0].partition(' ')[0]}=... is missing: {shown} needs "
            f"{', '.join(lacking)}"
        )
    return {
        key: _value(text, _hint(cls, parameters[key]), f"--policy-arg {key}={text}: {shown}")
        for key, text in given.items()
    }


def all_arguments(cls: type[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return every argument of a constructor, defaults included, as JSON values."""
    defaults = {name: each.default for name, each in _parameters(cls).items()}
    return {name: _json(value) for name, value in {**defaults, **given}.items()}


def signature_words(cls: type[Any]) -> str:
    """Return the constructor as it is called: `MyPolicy(scale: float = 1.0)`."""
    words = []
    for name, each in _parameters(cls).items():
        default = "" if each.default is each.empty else f" = {each.default!r}"
        words.append(f"{name}: {_name(_hint(cls, each))}{default}")
    return f"{cls.__name__}({', '.join(words)})"


def _parameters(cls: type[Any]) -> dict[str, inspect.Parameter]:
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = inspect.signature(cls).parameters
    return {name: each for name, each in found.items() if each.kind in by_name}


def _hint(cls: type[Any], parameter: inspect.Parameter) -> Any:  # noqa: ANN401 - a type
    """Return the type of a parameter; `inspect.Parameter.empty` for one that has or tells none."""
    if parameter.annotation is parameter.empty:
        return parameter.empty
    holder = SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    names = getattr(cls.__init__, "__globals__", {})
    try:
        return get_type_hints(holder, globalns=names)[parameter.name]
    except Exception:  # noqa: BLE001 - a name that is imported for a type checker only
        return parameter.empty


def _value(text: str, hint: Any, where: str) -> Any:  # noqa: ANN401 - types and values
    found = [value for kind in _alternatives(hint) if (value := _read(text, kind)) is not _NOT]
    if found:
        return found[0]
    if any(_reader(kind) is None for kind in _alternatives(hint)):
        raise UsageError(f"{where} has no type there that can be typed ({_KINDS})")
    raise UsageError(f"{where} takes {_name(hint)} there")


_NOT = object()
"""What a text that does not convert is read as."""


def _read(text: str, kind: Any) -> Any:  # noqa: ANN401
    reader = _reader(kind)
    try:
        return _NOT if reader is None else reader(text)
    except (ValueError, KeyError):
        return _NOT


def _reader(kind: Any) -> Callable[[str], Any] | None:  # noqa: ANN401
    """Return the function that reads a text as a type; None if there is none."""
    if kind is bool:
        return lambda text: _BOOLS[text.lower()]
    if kind is NoneType:
        return lambda text: {"none": None}[text.lower()]
    if kind is Path:
        return lambda text: Path(at_home(text)).absolute()
    if kind in (int, float, str):
        return kind  # type: ignore[no-any-return]
    if get_origin(kind) is Literal:
        return lambda text: {str(word): word for word in get_args(kind)}[text]
    many = get_origin(kind) in (list, Sequence) or (
        get_origin(kind) is tuple and get_args(kind)[1:] == (...,)
    )
    if many:
        make, inner = (tuple if get_origin(kind) is tuple else list), get_args(kind)[0]
        if all(_reader(each) is not None for each in _alternatives(inner)):
            return lambda text: make(_entry(part, inner) for part in text.split(",") if text)
    return None


def _entry(text: str, kind: Any) -> Any:  # noqa: ANN401
    found = [value for each in _alternatives(kind) if (value := _read(text, each)) is not _NOT]
    if not found:
        raise ValueError(text)
    return found[0]


def _alternatives(hint: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """Return the types of a union, `None` first, so that `none` is never read as a text."""
    if get_origin(hint) not in (Union, UnionType):
        return (hint,)
    return tuple(sorted(get_args(hint), key=lambda kind: kind is not NoneType))


def _name(hint: Any) -> str:  # noqa: ANN401
    if hint is inspect.Parameter.empty:
        return "no type"
    if get_origin(hint) in (Union, UnionType):
        return " | ".join(map(_name, get_args(hint)))
    if hint is NoneType:
        return "None"
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    inner = ", ".join("..." if each is ... else _name(each) for each in get_args(hint))
    name = getattr(get_origin(hint) or hint, "__name__", str(hint))
    return f"{name}[{inner}]" if inner else name


def _json(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, list | tuple):
        return [_json(each) for each in value]
    plain = value is None or isinstance(value, bool | int | str)
    return value if plain or (isinstance(value, float) and isfinite(value)) else str(value)
