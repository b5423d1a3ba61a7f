"""The options of a verb, made from where they are declared (`b1k_policies.options`).

A verb says which in its own signature, at the place where they are to be listed:

    def run(asked: Annotated[Typed, Options(RunSettings)], json_output: JsonOption = False)

and gets a dictionary of what was typed, by field: nothing of what was not, so that the record of a
run that is resumed, and only then the defaults, can complete it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_args, get_origin

import typer

from b1k_policies.options import Declared, RequestType, at_home, declared

Typed: TypeAlias = dict[str, Any]
"""What was typed, by field of the requests; paths with `~` resolved."""

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


class Options:
    """Options of a request, and of the requests inside it."""

    def __init__(
        self, kind: RequestType, *names: str, but: tuple[str, ...] = (), **other: dict[str, Any]
    ) -> None:
        """All options, or those named.

        Args:
            kind: The request.
            names: Which; none for all.
            but: Which not.
            other: By name, what is said otherwise here: attributes of `Option`, and as `preset`
                a value that holds where nothing is typed.
        """
        self._kind, self._names, self._but, self._other = kind, names, but, other

    def parameters(self) -> Iterator[inspect.Parameter]:
        """A parameter for each, as typer reads it."""
        for each in _flat(self._kind):
            if (not self._names or each.name in self._names) and each.name not in self._but:
                yield _parameter(each, **self._other.get(each.name, {}))


def _flat(kind: RequestType) -> Iterator[Declared]:
    for each in declared(kind).values():
        if each.option is None:
            yield from _flat(each.inner)
        else:
            yield each


def _parameter(each: Declared, preset: Any = None, **other: Any) -> inspect.Parameter:  # noqa: ANN401
    assert each.option is not None
    option = replace(each.option, **other)
    typed = option.typed or _typed(each.hint, parsed=option.parse is not None)
    shown = option.default
    if shown is None and type(each.default) in (str, int, float):
        shown = str(each.default)
    return inspect.Parameter(
        each.name,
        inspect.Parameter.KEYWORD_ONLY,
        annotation=typed | None if preset is None else typed,
        default=typer.Option(
            preset,
            each.flag,
            help=option.help,
            metavar=option.metavar,
            show_default=True if preset is not None or shown is None else shown,
            rich_help_panel=option.heading,
        ),
    )


def _typed(hint: Any, *, parsed: bool) -> Any:  # noqa: ANN401 - types
    """What is typed for a field: a number, a flag, words; else one word."""
    kinds = get_args(hint) if get_origin(hint) not in (None, tuple) else (hint,)
    if get_origin(hint) is tuple and not parsed:
        return list[get_args(hint)[0]]  # type: ignore[misc]
    return next((kind for kind in kinds if kind in (bool, int, float)), str)


def spelled_out(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function as typer takes it: with every option spelled out, and paths as `at_home`."""
    own = inspect.signature(function, eval_str=True).parameters.values()
    groups = {each.name: _options_of(each) for each in own}
    spelled: list[inspect.Parameter] = []
    for each in own:
        group = groups[each.name]
        alone = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
        spelled += alone if group is None else group.parameters()

    @functools.wraps(function)
    def called(**given: Any) -> Any:  # noqa: ANN401 - whatever a verb has
        given = {name: _at_home(value) for name, value in given.items()}
        for name, group in groups.items():
            if group is not None:
                values = {each.name: given.pop(each.name) for each in group.parameters()}
                given[name] = {k: v for k, v in values.items() if v is not None and v != []}
        return function(**given)

    called.__signature__ = inspect.Signature(spelled)  # type: ignore[attr-defined]
    called.__annotations__ = {each.name: each.annotation for each in spelled}
    return called


def _options_of(parameter: inspect.Parameter) -> Options | None:
    attached = getattr(parameter.annotation, "__metadata__", ())
    return next((each for each in attached if isinstance(each, Options)), None)


def _at_home(value: Any) -> Any:  # noqa: ANN401 - whatever an option has
    if isinstance(value, list):
        return [_at_home(each) for each in value]
    return Path(at_home(str(value))) if isinstance(value, Path) else value
