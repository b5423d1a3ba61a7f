"""How an option is declared: once, on the field of the request that it sets.

A request is a frozen dataclass whose fields carry an `Option` in their annotation:

    seed: Annotated[int, Option(help="Seed of the run.", minimum=0)] = 0

From that come its place on a command line (`b1k_eval.cli.options`), its check, its entry in
run.json, and the reading of it. A field that holds another request stands for all its options.
What is checked here is one field at a time; how fields go together, the request itself checks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

from b1k_envs.errors import UsageError

RequestType: TypeAlias = Any
"""The class of a request: no type says that it is a dataclass and can be hashed."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """What a command line, a check and a record need to know of a field.

    Attributes:
        help: One sentence, for `--help` and for readers of the request.
        flag: Its words on the command line, as `--video/--no-video`; None for the field's name.
        default: In words, what holds where it is not typed; None for the field's own default.
        metavar: What `--help` calls its value; None for the name of its type.
        heading: Under which `--help` lists it; None for the first.
        minimum: The smallest number that can be meant.
        typed: The type of what is typed; None for the field's, or `str` where that is no plain one.
        parse: From what is typed to the field's value; None where they are the same.
        consent: Given by a person each time: neither recorded nor read from a record.
        before: What held in runs that are older than the option, as a function of what they have
            recorded, or `default` for the field's; None for an option that every run has.
    """

    help: str
    flag: str | None = None
    default: str | None = None
    metavar: str | None = None
    heading: str | None = None
    minimum: int | None = None
    typed: type[Any] | None = None
    parse: Callable[[Any], Any] | None = None
    consent: bool = False
    before: Callable[[Mapping[str, Any]], Any] | Literal["default"] | None = None


@dataclass(frozen=True, kw_only=True)
class Declared:
    """A field of a request.

    Attributes:
        name: Of the field.
        hint: Its type, without what is attached to it.
        default: Its default; `dataclasses.MISSING` for none.
        option: How it is asked for; None for a field that holds another request.
    """

    name: str
    hint: Any
    default: Any
    option: Option | None

    @property
    def inner(self) -> RequestType:
        """The request that it holds, or None."""
        return next((kind for kind in _alternatives(self.hint) if is_dataclass(kind)), None)

    @property
    def flag(self) -> str:
        """Its words on the command line."""
        own = None if self.option is None else self.option.flag
        return own or "--" + self.name.replace("_", "-")


@cache
def declared(kind: RequestType) -> Mapping[str, Declared]:
    """The fields of a request, by name."""
    hints = get_type_hints(kind, include_extras=True)
    found: dict[str, Declared] = {}
    for field in fields(kind):
        hint, attached = hints[field.name], []
        if get_origin(hint) is Annotated:
            hint, *attached = get_args(hint)
        option = next((each for each in attached if isinstance(each, Option)), None)
        found[field.name] = Declared(
            name=field.name, hint=hint, default=field.default, option=option
        )
    return found


def flag(kind: RequestType, name: str) -> str:
    """The command line's word for a field of a request."""
    return declared(kind)[name].flag.partition("/")[0]


def consents(kind: RequestType) -> tuple[str, ...]:
    """The fields of a request that a record never has."""
    return tuple(
        name for name, each in declared(kind).items() if each.option and each.option.consent
    )


def parsed(kind: RequestType, typed: Mapping[str, Any]) -> dict[str, Any]:
    """The values that were typed for a request, by field; words become what the field holds."""
    values = {}
    for name, each in declared(kind).items():
        value = typed.get(name)
        if value is None:
            continue
        parse = each.option.parse if each.option and isinstance(value, str | Path) else None
        values[name] = value if parse is None else parse(value)
    return values


def check(request: Any) -> None:  # noqa: ANN401 - any request
    """Hold every field to the values that can be meant.

    Raises:
        UsageError: One is too small, or none of a few words.
    """
    kind: RequestType = type(request)
    for name, each in declared(kind).items():
        value, words = getattr(request, name), _words(each.hint)
        if value is None or each.option is None:
            continue
        if each.option.minimum is not None and value < each.option.minimum:
            raise UsageError(f"{flag(kind, name)} {value} must be at least {each.option.minimum}")
        if words and value not in words:
            raise UsageError(
                f"{flag(kind, name)} {value!r} is unknown: choose one of {', '.join(words)}"
            )


def at_home(word: str) -> str:
    """A path as it was typed, with `~` resolved: shells leave it in `--out=~/run` and `replay:~/x`.

    That of a user who does not exist is left: it may be a name.
    """
    if not word.startswith("~"):
        return word
    try:
        return str(Path(word).expanduser())
    except RuntimeError:
        return word


# --- the record ----------------------------------------------------------------------------------


def record(request: Any) -> dict[str, Any]:  # noqa: ANN401 - any request
    """A request as JSON values, without consents."""
    kind: RequestType = type(request)
    values = {}
    for name in declared(kind):
        if name not in consents(kind):
            value = getattr(request, name)
            value = list(value) if isinstance(value, tuple) else value
            values[name] = record(value) if is_dataclass(value) else value
    return values


def completed(kind: RequestType, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """What a run recorded, and what held then of options that it is older than."""
    values = {**recorded}
    for name, each in declared(kind).items():
        before = None if each.option is None else each.option.before
        if each.inner is not None and isinstance(values.get(name), dict):
            values[name] = completed(each.inner, values[name])
        elif before is not None and name not in recorded:
            values[name] = each.default if before == "default" else before(recorded)
    return values


def read(
    kind: RequestType,
    recorded: Any,  # noqa: ANN401 - whatever JSON was found
    where: str,
    *,
    others: bool,
) -> dict[str, Any]:
    """The fields of a request out of a JSON object.

    Args:
        kind: The request.
        recorded: What stands in run.json.
        where: Its place there, for messages.
        others: Whether the object may have more.

    Returns:
        Values by field, without consents; those of a request inside again by field.

    Raises:
        UsageError: It is no object, or a field is missing, has a value of another type, or is
            none of the request's.
    """
    try:
        return _read(kind, recorded, where, others=others)
    except _DamageError as damage:
        raise UsageError(
            f"run.json is damaged ({damage}): restore the file, or start the run again under "
            "another --out"
        ) from None


class _DamageError(Exception):
    """A JSON value that is none of a type."""


def _read(kind: RequestType, recorded: Any, where: str, *, others: bool) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(recorded, dict):
        raise _DamageError(f"{where} is {recorded!r}, no object")
    known, mine = completed(kind, recorded), declared(kind)
    wanted = [name for name in mine if name not in consents(kind)]
    for name in wanted:
        if name not in known:
            raise _DamageError(f"{where} lacks {name!r}")
    for name in known:
        if name not in mine and not others:
            raise _DamageError(f"{where} has an unknown {name!r}")
    return {name: _value(known[name], mine[name].hint, f"{where}.{name}") for name in wanted}


def _value(found: Any, hint: Any, where: str) -> Any:  # noqa: ANN401 - JSON values and types
    """A JSON value as what a type holds: plain, literal, union, request, or tuple of any length."""
    for kind in _alternatives(hint):
        if is_dataclass(kind) and isinstance(found, dict):
            return _read(kind, found, where, others=False)
        if get_origin(kind) is tuple and isinstance(found, list | tuple):
            with suppress(_DamageError):  # to be told of the whole
                return tuple(_value(each, get_args(kind)[0], where) for each in found)
        if found in _words(kind) or type(found) is kind or (kind is float and type(found) is int):
            return found  # by its exact type: true and false are no numbers
    raise _DamageError(f"{where} is {found!r}")


def _alternatives(hint: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """The types of a union; any other type is alone."""
    if get_origin(hint) in (None, tuple, Literal):
        return (hint,)
    return get_args(hint)


def _words(hint: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """The values of a `Literal`, which may be one of a union."""
    found = (kind for kind in _alternatives(hint) if get_origin(kind) is Literal)
    return next(map(get_args, found), ())
