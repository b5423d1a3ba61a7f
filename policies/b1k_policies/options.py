"""Declaring an option once, on the field of the request that it sets.

A request is a frozen dataclass whose fields carry an `Option` in their annotation:

    seed: Annotated[int, Option(help="Seed of the run.", minimum=0)] = 0

Its place on a command line (`b1k_eval.cli.options`), its check, its entry in run.json and the
reading of that entry follow from it. A field that holds another request stands for all its options.
Each field is checked here by itself; the request checks how its fields go together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

from b1k_envs.errors import UsageError

RequestType: TypeAlias = Any
"""The class of a request. `Any`, as no type says that a class is a dataclass and hashable."""


WHAT, POLICY = "What is run", "Policy, and how it acts"
EXECUTION, OUTPUT, STATISTICS = "Execution", "Output", "Statistics"
"""Headings of `run --help`."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """What a command line, a check and a record need to know about a field.

    Attributes:
        help: One sentence, for `--help` and for readers of the request.
        also: Returns what `--help` adds to it: what there is on this machine.
        flag: Its flag, such as `--video/--no-video`; None for one made from the field's name.
        default: What holds when it is not typed, in words; None for the field's own default.
        metavar: What `--help` calls its value; None for the name of its type.
        heading: The heading under which `--help` lists it; None for the first.
        minimum: The smallest number allowed.
        typed: Type of the typed value; None for the field's, or `str` if that is not a plain one.
        parse: Turns the typed value into the field's; None if they are the same.
        consent: Whether a person gives it anew each time: it is neither recorded nor read back.
        before: What held in runs older than the option, as a function of what they recorded, or
            `default` for the field's default; None for an option that every run has.
    """

    help: str
    also: Callable[[], str] | None = None
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
    """A declared field of a request.

    Attributes:
        name: Name of the field.
        hint: Its type, without the annotations.
        default: Its default; `dataclasses.MISSING` for none.
        option: Its option; None for a field that holds another request.
    """

    name: str
    hint: Any
    default: Any
    option: Option | None

    @property
    def inner(self) -> RequestType:
        """The class of the request that the field holds, or None."""
        return next((kind for kind in _alternatives(self.hint) if is_dataclass(kind)), None)

    @property
    def flag(self) -> str:
        """Its flag on the command line."""
        own = None if self.option is None else self.option.flag
        return own or "--" + self.name.replace("_", "-")


@cache
def declared(kind: RequestType) -> Mapping[str, Declared]:
    """Return the fields of a request, by name."""
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


def flat(kind: RequestType) -> Iterator[Declared]:
    """Yield the options of a request and of the requests inside it."""
    for each in declared(kind).values():
        if each.option is None:
            yield from flat(each.inner)
        else:
            yield each


def flag(kind: RequestType, name: str) -> str:
    """Return the command line's flag for a field of a request."""
    return declared(kind)[name].flag.partition("/")[0]


def consents(kind: RequestType) -> tuple[str, ...]:
    """Return the fields of a request that are never recorded."""
    return tuple(
        name for name, each in declared(kind).items() if each.option and each.option.consent
    )


def _recorded(kind: RequestType) -> tuple[str, ...]:
    """Return the fields of a request that run.json has."""
    never = consents(kind)
    return tuple(name for name in declared(kind) if name not in never)


def parsed(kind: RequestType, typed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values typed for a request, by field; texts are parsed."""
    values = {}
    for name, each in declared(kind).items():
        value = typed.get(name)
        if value is None:
            continue
        parse = each.option.parse if each.option and isinstance(value, str | Path) else None
        values[name] = value if parse is None else parse(value)
    return values


def check_kinds(kind: RequestType, values: Mapping[str, Any]) -> None:
    """Check the types of parsed values that no command line has read.

    Raises:
        UsageError: One is of another type than its field.
    """
    for each in flat(kind):
        if each.name not in values or _words(each.hint):  # words are told by `check`
            continue
        try:
            _value(values[each.name], each.hint, each.flag)
        except _DamageError:
            wanted = str(getattr(each.hint, "__name__", each.hint)).removesuffix(" | None")
            raise UsageError(f"{each.flag} {values[each.name]!r} is not of type {wanted}") from None


def check(request: Any) -> None:  # noqa: ANN401 - any request
    """Check every field of a request.

    Raises:
        UsageError: A value is too small, or not one of the allowed words.
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
    """Resolve `~` in a path as typed: shells leave it in `--out=~/run` and `replay:~/x`.

    The `~` of a user who does not exist is kept: it may be part of a name.
    """
    if not word.startswith("~"):
        return word
    try:
        return str(Path(word).expanduser())
    except RuntimeError:
        return word


# --- the record ----------------------------------------------------------------------------------


def record(request: Any) -> dict[str, Any]:  # noqa: ANN401 - any request
    """Return a request as JSON values, without consents."""
    kind: RequestType = type(request)
    values = {}
    for name in _recorded(kind):
        value = getattr(request, name)
        values[name] = record(value) if is_dataclass(value) else _as_json(value)
    return values


def _as_json(value: Any) -> Any:  # noqa: ANN401 - a field's value
    return list(value) if isinstance(value, tuple) else value


def completed(kind: RequestType, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Add to what a run recorded the JSON values that held for options newer than the run."""
    values = {**recorded}
    for name, each in declared(kind).items():
        before = None if each.option is None else each.option.before
        if each.inner is not None and isinstance(values.get(name), dict):
            values[name] = completed(each.inner, values[name])
        elif before is not None and name not in recorded:
            values[name] = _as_json(each.default if before == "default" else before(recorded))
    return values


def read(
    kind: RequestType,
    recorded: Any,  # noqa: ANN401 - whatever JSON was found
    where: str,
    *,
    others: bool,
) -> dict[str, Any]:
    """Read the fields of a request from a JSON object.

    Args:
        kind: Class of the request.
        recorded: The JSON value found in run.json.
        where: Its place there, for messages.
        others: Whether the object may have other keys.

    Returns:
        Values by field, without consents; a request inside is a mapping of its own.

    Raises:
        UsageError: The value is not an object, a field is missing or of another type, or the
            request has no such field.
    """
    try:
        return _read(kind, recorded, where, others=others)
    except _DamageError as damage:
        raise UsageError(
            f"run.json is damaged ({damage}): restore the file, or start the run again under "
            "another --out"
        ) from None


class _DamageError(Exception):
    """A JSON value does not fit its type."""


def _read(kind: RequestType, recorded: Any, where: str, *, others: bool) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(recorded, dict):
        raise _DamageError(f"{where} is {recorded!r}, not an object")
    known, mine = completed(kind, recorded), declared(kind)
    wanted = _recorded(kind)
    for name in wanted:
        if name not in known:
            raise _DamageError(f"{where} lacks {name!r}")
    for name in known:
        if name not in mine and not others:
            raise _DamageError(f"{where} has an unknown {name!r}")
    return {name: _value(known[name], mine[name].hint, f"{where}.{name}") for name in wanted}


def _value(found: Any, hint: Any, where: str) -> Any:  # noqa: ANN401 - JSON values and types
    """Read a JSON value as a type: plain, literal, union, request, or tuple of any length."""
    for kind in _alternatives(hint):
        if is_dataclass(kind) and isinstance(found, dict):
            return _read(kind, found, where, others=False)
        if get_origin(kind) is tuple and isinstance(found, list | tuple):
            with suppress(_DamageError):  # the error below names the whole value, not one entry
                return tuple(_value(each, get_args(kind)[0], where) for each in found)
        if found in _words(kind) or type(found) is kind or (kind is float and type(found) is int):
            return found  # by its exact type, because true and false are ints to Python
    raise _DamageError(f"{where} is {found!r}")


def _alternatives(hint: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """Return the types of a union; any other type alone."""
    if get_origin(hint) in (None, tuple, Literal):
        return (hint,)
    return get_args(hint)


def _words(hint: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """Return the values of a `Literal`, which may be part of a union."""
    found = (kind for kind in _alternatives(hint) if get_origin(kind) is Literal)
    return next(map(get_args, found), ())
