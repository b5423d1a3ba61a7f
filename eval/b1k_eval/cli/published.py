"""`b1k-eval published [TASK]`: the table of published scores."""

from __future__ import annotations

from string import ascii_lowercase
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from b1k_envs.errors import UsageError
from b1k_eval.cli.console import out_console, print_json
from b1k_eval.cli.options import JsonOption, PublishedFile

if TYPE_CHECKING:
    from b1k_eval.published.table import PublishedScore


def published(
    task: Annotated[
        str | None,
        typer.Argument(
            metavar="TASK",
            help="Only scores of these tasks, by index, name or range.",
            show_default="all tasks",
        ),
    ] = None,
    published_file: PublishedFile = None,
    json_output: JsonOption = False,
) -> None:
    """List published scores, to hold a run against: compare RUN published:NAME.

    What a source does not state is not filled in. --published-file adds rows of your own.
    """
    from b1k_envs.tasks.selection import select_tasks
    from b1k_eval.published.table import METRIC_WORDS, published_scores

    scores = published_scores(published_file)
    if task is not None:
        wanted = {each.name for each in select_tasks(task)}
        scores = tuple(score for score in scores if wanted.issuperset(score.tasks))
        if not scores:
            raise UsageError(
                f"no published score of {task} is known: --published-file FILE adds rows of yours"
            )
    if json_output:
        print_json({"scores": [score.as_json() for score in scores]})
        return
    sources = list(dict.fromkeys(score.source for score in scores))
    notes = list(dict.fromkeys(text for score in scores if (text := _note(score))))
    table = Table(title="Published scores", title_justify="left")
    for name in ("task", "policy", "metric", "value", "episodes", "states", "source"):
        right = name in ("value", "episodes")
        justify: Literal["left", "right"] = "right" if right else "left"
        table.add_column(name, overflow="fold", justify=justify, no_wrap=name == "policy")
    for score in scores:
        marks = f"[{sources.index(score.source) + 1}]"
        note = _note(score)
        if note:
            marks += f" ({_letter(notes.index(note))})"
        states = "-" if score.split is None else score.split.removesuffix("-test")
        table.add_row(
            score.task, score.policy, METRIC_WORDS[score.metric], score.shown(),
            "-" if score.episodes is None else str(score.episodes), states, marks,
        )  # fmt: skip
    console = out_console()
    console.print(table)
    for number, source in enumerate(sources, start=1):
        console.print(f"[{number}] {source}", soft_wrap=True)
    for number, note in enumerate(notes):
        console.print(f"({_letter(number)}) {note}", soft_wrap=True)


def _note(score: PublishedScore) -> str:
    doubt = None if score.doubt is None else f"not to be compared: {score.doubt}"
    return "; ".join(text for text in (score.note, doubt) if text)


def _letter(number: int) -> str:
    """Return a, b, ..., z, and after that numbers."""
    return ascii_lowercase[number] if number < len(ascii_lowercase) else str(number)
