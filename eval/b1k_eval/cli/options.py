"""Making a verb's options from their declarations (`b1k_policies.options`).

A verb names them in its signature, at the place where they are to be listed:

    def run(asked: Annotated[Typed, Options(RunSettings)], json_output: JsonOption = False)

and gets a dictionary of what was typed, by field. What was not typed is left out, so that it can be
completed by the record of the run to resume, and only then by the defaults.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_args, get_origin

import typer

from b1k_policies.options import Declared, RequestType, at_home, flat

Typed: TypeAlias = dict[str, Any]
"""The typed values by field of the requests, with `~` in paths resolved."""

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]

PublishedFile = Annotated[
    Path | None,
    typer.Option(
        "--published-file",
        metavar="FILE",
        help="Published scores of your own, a CSV file with the columns of `published`.",
        show_default="those of this package alone",
    ),
]


class Options:
    """The options of a request and of the requests inside it."""

    def __init__(
        self, kind: RequestType, *names: str, but: tuple[str, ...] = (), **other: dict[str, Any]
    ) -> None:
        """Take all options of a request, or those named.

        Args:
            kind: Class of the request.
            names: Names of the options to take; none for all.
            but: Names of options to leave out.
            other: Attributes of `Option` to replace, by name of the option, and as `preset` a value
                that holds if nothing is typed.
        """
        self._kind, self._names, self._but, self._other = kind, names, but, other

    def parameters(self) -> Iterator[inspect.Parameter]:
        """Yield a parameter for each option, as typer reads it."""
        for each in flat(self._kind):
            if (not self._names or each.name in self._names) and each.name not in self._but:
                yield _parameter(each, **self._other.get(each.name, {}))


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
            help=option.help + (option.also() if option.also else ""),
            metavar=option.metavar,
            show_default=True if preset is not None or shown is None else shown,
            rich_help_panel=option.heading,
        ),
    )


def _typed(hint: Any, *, parsed: bool) -> Any:  # noqa: ANN401 - types
    """Return the type of what is typed for a field: a number, a flag, words, or else a word."""
    kinds = get_args(hint) if get_origin(hint) not in (None, tuple) else (hint,)
    if get_origin(hint) is tuple and not parsed:
        return list[get_args(hint)[0]]  # type: ignore[misc]
    return next((kind for kind in kinds if kind in (bool, int, float)), str)


def spelled_out(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function for typer, with every option spelled out and `~` in paths resolved."""
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
                # typer gives [] for an option with many values that was not typed.
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
