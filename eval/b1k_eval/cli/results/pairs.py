"""Printing the comparison of a pair of runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console


def show_pair(console: Console, pair: Mapping[str, Any]) -> None:
    """Print the comparison of two runs, or of two runs over tasks."""

    def line(text: str, style: str = "") -> None:
        console.print(text, style=style, soft_wrap=True)

    line(f"{pair['second']} against {pair['first']}", "bold")
    line(f"  {pair['verdict']}", "green" if pair["decided"] else "yellow")
    success, q_score, betting = pair["success"], pair["q_score"], pair.get("sequential")
    if success is not None and success["pairs"]:
        line(
            f"  success: {success['second_better']} better, {success['first_better']} worse, "
            f"{success['ties']} tied; {success['test']}, p = {success['p_value']:.3g}"
            + (
                f", {pair['p_adjusted']:.3g} adjusted (Holm)"
                if pair["p_adjusted"] != success["p_value"]
                else ""
            )
        )
    for name, found, scale, digits in (
        ("q-score", q_score, 1, 2),
        ("task progress in %", pair.get("task_progress"), 100, 1),
    ):
        if found is not None:
            line(
                f"  {name}: {scale * found['difference']:+.{digits}f}"
                f"{range_text(found['interval'], scale, digits, before=' ')}; "
                f"{found['test']}, p = {found['p_value']:.3g}"
            )
    if betting is not None:
        when = f", decided after {betting['decided_at']}" if betting["decided_at"] else ""
        line(f"  anytime-valid: e-value {betting['e_value']:.3g}{when}")
    for kind, words in (
        ("blocking", "not the same experiment"),
        ("contract", "contracts differ"),
        ("notable", "also differ"),
    ):
        entries = pair["differences"][kind]
        if entries:
            line(f"  {words}: {'; '.join(entry['text'] for entry in entries)}")


def range_text(
    interval: Mapping[str, Any] | None, scale: float, digits: int, *, before: str = ""
) -> str:
    """Return an interval in parentheses after `before`; nothing for none."""
    if interval is None:
        return ""
    low, high = (scale * interval[end] for end in ("low", "high"))
    return f"{before}({low:.{digits}f} to {high:.{digits}f})"
