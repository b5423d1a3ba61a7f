"""`compare` of two studies of `stress`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from b1k_eval.cli.console import out_console, print_json
from b1k_eval.stress import comparing


def print_studies(
    first: Path, second: Path, *, seed: int, level: float, mix: bool, json_output: bool
) -> None:
    """Compare them and print the table, or the document.

    Raises:
        UsageError: See `comparing.compare_studies`.
    """
    document = comparing.compare_studies(first, second, seed=seed, level=level, mix=mix)
    if json_output:
        print_json(document)
        return
    console = out_console()
    one, two = document["labels"]
    table = Table(title="Success kept over the doses that both tried", title_justify="left")
    for name in ("axis", "doses", one, two, "halves at", "p"):
        table.add_column(name, overflow="fold")
    base = document["undisturbed"]
    if base is not None:
        table.add_row("undisturbed", "0", *(f"{mean:.0%}" for mean in base["means"]), "", "")
    for curve in document["curves"]:
        doses = ", ".join(f"{dose:g}" for dose in curve["doses"])
        halves = " and ".join(_half(half) for half in curve["halving"])
        table.add_row(
            curve["name"], f"{doses} {curve['unit']}".strip(),
            *(f"{mean:.0%}" for mean in curve["means"]), halves, f"{curve['p_corrected']:.2g}",
        )  # fmt: skip
    console.print(table)
    for curve in document["curves"]:
        console.print(comparing.in_words(document, curve), soft_wrap=True)


def _half(half: dict[str, Any] | None) -> str:
    if half is None or half["estimate"] is None:
        return "-"
    high = "open" if half["high"] is None else f"{half['high']:g}"
    return f"{half['estimate']:.2g} [{half['low']:g}, {high}]"
