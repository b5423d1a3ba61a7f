"""`b1k-eval contract NAME|CKPT` and `b1k-eval contract diff A B`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from b1k_envs.errors import UsageError
from b1k_eval.cli.console import out_console, print_json
from b1k_eval.cli.options import Options, Typed
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.contract.codecs import as_text, near_miss
from b1k_policies.contract.contract import Change, diff
from b1k_policies.contract.fields import FIELDS, json_value
from b1k_policies.contract.presets import PRESETS
from b1k_policies.contract.resolved import FieldSource, ResolvedContract
from b1k_policies.contract.resolving import resolve
from b1k_policies.options import at_home, parsed
from b1k_policies.xvla.files.folder import find_folder


def contract(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar=f"{'|'.join(PRESETS)}|CKPT|FILE, or: diff A B",
            help="A preset, a checkpoint folder or a contract file; or `diff` and two of them.",
        ),
    ],
    asked: Annotated[Typed, Options(CheckpointRequest, "contract", "settings", "force_contract")],
    json_output: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Print an evaluation contract and where each field comes from, or compare two.

    Exit code 3 when a checkpoint's files contradict each other or what would be sent.
    """
    given = parsed(CheckpointRequest, asked)

    def find(word: str) -> ResolvedContract:
        force = "force_contract" in given
        return _find(at_home(word), given.get("contract"), given.get("settings", ()), force)

    if what[0] == "diff":
        if len(what) != 3:
            raise UsageError(
                f"contract diff compares two contracts, got {len(what) - 1}: "
                "as in `b1k-eval contract diff v4 v17`"
            )
        _compare(what[1], what[2], find(what[1]), find(what[2]), json_output)
        return
    if len(what) != 1:
        raise UsageError(
            f"contract prints one contract, got {len(what)} words; to compare two: "
            f"`b1k-eval contract diff {what[0]} {what[1]}`"
        )
    found = find(what[0])
    if json_output:
        print_json(found.to_dict())
    else:
        show_contract(out_console(), what[0], found)


def show_contract(console: Console, title: str, found: ResolvedContract) -> None:
    """Print a contract: fields, what follows from them, what was not understood, remarks."""
    table = Table(title=f"Contract of {title}: {found.contract.name}")
    for name in ("field", "value", "from", "sure"):
        table.add_column(name, overflow="fold")
    for name, info in FIELDS.items():
        value = as_text(json_value(name, getattr(found.contract, name)))
        source = found.sources[name]
        table.add_row(name, value, _source(source), info.sure)
    table.add_section()
    for name, figure in found.contract.derived().items():
        table.add_row(name, as_text(figure), "derived", "", style="dim")
    console.print(table)
    for heading, lines in (
        ("Forced against the checkpoint's own files", [str(row) for row in found.forced]),
        ("Not understood", found.not_understood),
        ("Remarks", found.remarks),
    ):
        if lines:
            console.print(heading, style="bold")
            for line in lines:
                console.print(f"  - {line}", soft_wrap=True)


def _find(
    word: str, contract_word: str | None, settings: Sequence[str], force: bool
) -> ResolvedContract:
    if word in PRESETS or Path(word).is_file():
        if contract_word is not None:
            raise UsageError(f"--contract is for a checkpoint folder, and {word!r} is a contract")
        return resolve(None, contract=word, settings=settings, force=force)
    if not Path(word).is_dir() and "/" not in word:
        raise UsageError(f"{word!r} is no preset, folder or file{near_miss(word, [*PRESETS])}")
    found = find_folder(word, weights=False)
    resolved = resolve(found.folder, contract=contract_word, settings=settings, force=force)
    return replace(resolved, remarks=(*found.remarks, *resolved.remarks))


def _compare(
    first_word: str,
    second_word: str,
    first: ResolvedContract,
    second: ResolvedContract,
    json_output: bool,
) -> None:
    changes = diff(first.contract, second.contract)
    if json_output:
        print_json(
            {
                "first": {"what": first_word, "contract": first.contract.to_dict()},
                "second": {"what": second_word, "contract": second.contract.to_dict()},
                "changes": [_record(change) for change in changes],
            }
        )
        return
    console = out_console()
    if not changes:
        console.print(f"{first_word} and {second_word}: the same contract.")
        return
    table = Table(title=f"From {first_word} to {second_word}")
    for name in ("field", first_word, second_word, "a mix-up spoils"):
        table.add_column(name, overflow="fold")
    spoils = {"bytes": "what the model sees", "meaning": "what its numbers mean", None: "(derived)"}
    for change in changes:
        row = (change.name, as_text(change.first), as_text(change.second))
        table.add_row(*row, spoils.get(change.effect, ""))
    console.print(table)


def _record(change: Change) -> dict[str, Any]:
    return {
        "name": change.name,
        "first": change.first,
        "second": change.second,
        "effect": change.effect or "derived",
        "sure": change.sure,
    }


def _source(source: FieldSource) -> str:
    text = source.source
    if source.confirmed_by:  # only their number here; `--json` lists them
        text += f" (+{len(source.confirmed_by)} agree)"
    return f"{text} FORCED" if source.forced else text
