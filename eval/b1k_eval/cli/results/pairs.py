"""Printing the comparison of a pair of runs, or of a run and published scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from b1k_eval.cli.console import show_limits


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
                f"  {name}: {round(scale * found['difference'], digits) + 0.0:+.{digits}f}"
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


def show_published(console: Console, document: Mapping[str, Any]) -> None:
    """Print a run held against published scores; see `published.comparing`."""

    def line(text: str, style: str = "") -> None:
        console.print(text, style=style, soft_wrap=True)

    said: list[str] = []
    for each in document["comparisons"]:
        line(f"{document['run']} against {document['published']}, {each['task']}", "bold")
        decided = {True: "green", False: "red", None: "yellow"}[each["compatible"]]
        line(f"  {each['verdict']}", decided)
        about = _about(each)
        for text in about:
            if text not in said:  # fifty tasks of one source have much in common
                line(f"  {text}", "dim")
        said = about
    for each in document["over_tasks"]:
        line(f"{document['run']} against {document['published']}", "bold")
        line(f"  {each['verdict']}", "green" if each["compatible"] else "red")
    marked = [document["label"]] if document["privileged"] else []
    show_limits(console, document["sim"], marked)


def _about(each: Mapping[str, Any]) -> list[str]:
    """Return what a comparison with a published score stands on, in lines."""
    found = []
    for kind, words in (("blocking", "not the same experiment"), ("notable", "protocols differ")):
        entries = "; ".join(entry["text"] for entry in each["differences"][kind])
        found += [f"{words}, here against published: {entries}"] if entries else []
    if each["not_stated"]:
        found.append(f"not stated of the published score: {', '.join(each['not_stated'])}")
    found.append(f"source: {each['score']['source']}")
    if each["score"]["note"]:
        found.append(f"note: {each['score']['note']}")
    return found


def range_text(
    interval: Mapping[str, Any] | None, scale: float, digits: int, *, before: str = ""
) -> str:
    """Return an interval in parentheses after `before`; nothing for none."""
    if interval is None:
        return ""
    low, high = (scale * interval[end] for end in ("low", "high"))
    return f"{before}({low:.{digits}f} to {high:.{digits}f})"
