"""Runs, episodes and sub-goals as tables: CSV, parquet and Markdown, for papers."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from b1k_envs.parquet import require_pyarrow
from b1k_eval.diagnosis.funnel import Funnel
from b1k_eval.files import spelled_out, write_atomic

Kind = Literal["csv", "parquet", "markdown"]
Row = dict[str, Any]
Table = list[Row]

ENDINGS: Mapping[Kind, str] = {"csv": "csv", "parquet": "parquet", "markdown": "md"}


def runs_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return one row per run, from the rows of `comparison.summary`; shares in [0, 1] or None."""
    table = []
    for row in rows:
        success, q_score = row["success"], row["q_score"]
        table.append(
            {
                "run": row["name"],
                "folder": row["path"],
                "task": row["task"],
                "sim": row["sim"],
                "protocol": row["protocol"],
                "privileged": row["privileged"],
                "planned": row["planned"],
                "success": row["counts"]["success"],
                "failure": row["counts"]["failure"],
                "error": row["counts"]["error"],
                "pending": row["pending"],
                "left_out": len(row["damaged"]),
                "success_rate": success["rate"],
                **_ends("success_rate", success["interval"]),
                "q_score": q_score["mean"],
                **_ends("q_score", q_score["interval"]),
                "steps": row["steps"],
                "simulated_s": row["simulated_s"],
                **{f"distance_{part}_m": way for part, way in row["distance_m"].items()},
                "latency_s": row["latency_s"],
            }
        )
    return table


def _ends(name: str, interval: Mapping[str, Any] | None) -> Row:
    known = interval or {}
    return {
        f"{name}_low": known.get("low"),
        f"{name}_high": known.get("high"),
        f"{name}_interval": known.get("method"),
    }


def episodes_table(
    names: Sequence[str], episodes: Sequence[Sequence[tuple[Row, Mapping[str, int | None]]]]
) -> Table:
    """Return one row per episode.

    Args:
        names: Names of the runs.
        episodes: Per run and episode, `episodes.EpisodePage.row` and the first step of each
            sub-goal.
    """
    kept = (
        "instance",
        "rollout",
        "outcome",
        "q",
        "steps",
        "simulated_s",
        "inferences",
        "latency_s",
        "wall_s",
        "distance_m",
        "label",
        "why",
    )
    table = []
    for name, of_run in zip(names, episodes, strict=True):
        for row, subgoals in of_run:
            first = {f"first_step_{subgoal}": step for subgoal, step in subgoals.items()}
            table.append({"run": name, **{key: row[key] for key in kept}, **first})
    return table


def subgoals_table(names: Sequence[str], funnels: Sequence[Funnel | None]) -> Table:
    """Return one row per run and sub-goal; none for a run whose task has no sub-goals."""
    return [
        {
            "run": name,
            "subgoal": reached.name,
            "label": reached.label,
            "reached": reached.count,
            "scored": funnel.scored,
            "median_first_step": reached.median_step,
        }
        for name, funnel in zip(names, funnels, strict=True)
        if funnel is not None
        for reached in funnel.subgoals
    ]


def write_table(folder: Path, name: str, table: Table, kind: Kind) -> Path:
    """Write a table under its name.

    Raises:
        OSError: It cannot be written.
    """
    path = folder / f"{name}.{ENDINGS[kind]}"
    written = [
        {name: spelled_out(v) if isinstance(v, str) else v for name, v in row.items()}
        for row in table
    ]
    write_atomic(path, _WRITERS[kind](written))
    return path


def _columns(table: Table) -> list[str]:
    return list(dict.fromkeys(column for row in table for column in row))


def _csv(table: Table) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, _columns(table), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)  # None becomes an empty cell
    return stream.getvalue().encode("utf-8")


def _markdown(table: Table) -> bytes:
    columns = _columns(table)
    lines = [columns, ["---"] * len(columns)]
    lines += [[_cell(row.get(column)) for column in columns] for row in table]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines).encode("utf-8")


def _cell(value: Any) -> str:  # noqa: ANN401 - a value of a table
    if value is None:
        return ""
    text = f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    for character in "\\|`*_[]":  # markup in Markdown; names of policies have underscores
        text = text.replace(character, f"\\{character}")
    return " ".join(text.replace("<", "&lt;").split())


def _parquet(table: Table) -> bytes:
    require_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: [row.get(name) for row in table] for name in _columns(table)}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


_WRITERS: Mapping[Kind, Callable[[Table], bytes]] = {
    "csv": _csv,
    "parquet": _parquet,
    "markdown": _markdown,
}
