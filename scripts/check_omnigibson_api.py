"""Look up everything of OmniGibson that the adapter uses in a source tree, without importing it.

    python scripts/check_omnigibson_api.py --source ~/BEHAVIOR-1K [--generation 2026] [--json]

The tree is a checkout of BEHAVIOR-1K or its folder OmniGibson; nothing in it is run, so no GPU, no
Isaac Sim and no torch is needed. The table is `lib/og_touchpoints.py`.

Answers: `ok` with file and line; `missing`, the file was read and has no such thing; `differs`, it
is another kind of thing or does not take an argument; `not in this tree`, the file is not there;
`unknown`, only a running program could tell, with the reason.

Exit codes: 0 nothing is missing, differs or lies outside the tree; 1 something does; 2 wrong usage.
An `unknown` does not count: it has to be settled by reading or on a GPU.

What a pass does not prove: that what is found still means the same.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import typer
from lib.og_calls import key, macro, refusal
from lib.og_source import Absent, Class, Found, Missing, SourceTree, Unknown
from lib.og_touchpoints import OWNERS, TOUCHPOINTS, Touchpoint

from b1k_envs.base import ProtocolYear

Status = Literal["ok", "missing", "differs", "not in this tree", "unknown"]
ORDER: tuple[Status, ...] = ("missing", "differs", "not in this tree", "unknown", "ok")
FAILURES: frozenset[Status] = frozenset({"missing", "differs", "not in this tree"})

MARKS: dict[ProtocolYear, str] = {"2025": "omnigibson.learning.eval", "2026": "omnigibson.eval"}
"""Package that only a tree of that generation has."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The result for one row.

    Attributes:
        owner: Dotted path of the row's owner.
        member: As in the row.
        kind: As in the row.
        use: As in the row.
        status: See the module header.
        place: `path:line` of what was found.
        reason: Why it is not `ok`.
    """

    owner: str
    member: str
    kind: str
    use: str
    status: Status
    place: str = ""
    reason: str = ""


def look_up(tree: SourceTree, row: Touchpoint, generation: ProtocolYear) -> Answer:
    """Look up one row."""
    owner = OWNERS[row.owner][generation]
    status, place, reason = _look_up(tree, row, owner)
    return Answer(
        owner=owner,
        member=row.member,
        kind=row.kind,
        use=row.use,
        status=status,
        place=place,
        reason=reason,
    )


def _look_up(tree: SourceTree, row: Touchpoint, owner: str) -> tuple[Status, str, str]:
    cls = None
    if row.kind == "foreign":
        answer: Found | Missing | Absent | Unknown = Unknown(
            f"{owner} is of Isaac Sim, not of OmniGibson"
        )
    elif row.kind == "macro":
        answer = macro(tree, owner, row.member)
    elif row.kind == "key":
        answer = key(tree, owner, row.member)
    elif owner.rpartition(".")[2][0].isupper():
        cls = tree.class_of(owner)
        answer = tree.member(cls, row.member) if isinstance(cls, Class) else cls
    elif tree.module(owner) is None:
        answer = Absent(f"no file for {owner}")
    else:
        answer = tree.find(f"{owner}.{row.member}")
    match answer:
        case Missing(reason):
            return "missing", "", reason
        case Absent(reason):
            return "not in this tree", "", reason
        case Unknown(reason):
            return "unknown", "", reason
        case Found():
            return _fits(tree, row, answer, cls if isinstance(cls, Class) else None)


def _fits(
    tree: SourceTree, row: Touchpoint, found: Found, cls: Class | None
) -> tuple[Status, str, str]:
    """Check that what was found is of the row's kind and takes its arguments."""
    accepted = _KINDS[row.kind]
    if found.kind not in accepted:
        return "differs", found.place, f"is a {found.kind}, the adapter takes it for a {row.kind}"
    if row.kind == "setting" and not found.settable:
        return "differs", found.place, "is a property without a setter"
    if row.kind in ("method", "function"):
        refused = refusal(tree, found, cls, row.arguments)
        if refused is not None:
            status: Status = "unknown" if isinstance(refused, Unknown) else "differs"
            return status, found.place, refused.reason
    return "ok", found.place, ""


_KINDS: dict[str, tuple[str, ...]] = {
    "class": ("class",),
    "function": ("function", "class"),
    "method": ("function",),
    "attribute": ("attribute", "property"),
    "setting": ("attribute", "property"),
    "macro": ("attribute",),
    "key": ("attribute",),
}


_WORDS = {
    "method": "{}.{}()",
    "function": "{}.{}()",
    "setting": "{}.{} =",
    "macro": "{}: macro {}",
    "key": '{}: "{}"',
    "foreign": '{}: "{}"',
}
"""How an owner and its member are written, by kind; otherwise with a dot."""


def check(tree: SourceTree, generation: ProtocolYear) -> list[Answer]:
    """Look up every row of a generation, and list failures first."""
    rows = [row for row in TOUCHPOINTS if generation in row.generations]
    answers = [look_up(tree, row, generation) for row in rows]
    return sorted(answers, key=lambda answer: ORDER.index(answer.status))


def generation_of(tree: SourceTree) -> ProtocolYear:
    """Return the generation of a tree, by the folder of its evaluator."""
    there = [year for year, name in MARKS.items() if tree.has(name)]
    if len(there) != 1:
        raise typer.BadParameter(
            f"{tree.root} has {'both' if there else 'none'} of {', '.join(MARKS.values())}, so it "
            "does not tell its generation: say --generation 2025 or 2026",
            param_hint="--generation",
        )
    return there[0]


def table(answers: list[Answer]) -> str:
    """Return the answers as text: one line each, then the counts."""
    lines = []
    for answer in answers:
        name = _WORDS.get(answer.kind, "{}.{}").format(answer.owner, answer.member)
        where = f"{answer.place} {answer.reason}".strip()
        lines.append(f"{answer.status:<17} {name}  {where}")
    counts = Counter(answer.status for answer in answers)
    lines.append(", ".join(f"{counts[status]} {status}" for status in ORDER if counts[status]))
    return "\n".join(lines)


class Choice(str, Enum):
    """Values of --generation."""

    Y2025 = "2025"
    Y2026 = "2026"
    AUTO = "auto"


def main(
    source: Annotated[
        Path,
        typer.Option(exists=True, file_okay=False, help="A checkout of BEHAVIOR-1K."),
    ],
    generation: Annotated[Choice, typer.Option(help="Whose rows.")] = Choice.AUTO,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look up everything of OmniGibson that the adapter touches."""
    tree = SourceTree(source)
    if not tree.has("omnigibson"):
        raise typer.BadParameter(
            f"neither {source} nor a folder OmniGibson in it holds a package omnigibson",
            param_hint="--source",
        )
    year: ProtocolYear = generation_of(tree) if generation is Choice.AUTO else generation.value
    answers = check(tree, year)
    if as_json:
        report = {"generation": year, "answers": [asdict(answer) for answer in answers]}
        typer.echo(json.dumps(report, indent=1))
    else:
        typer.echo(f"OmniGibson {year} in {source}")
        typer.echo(table(answers))
    if any(answer.status in FAILURES for answer in answers):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
