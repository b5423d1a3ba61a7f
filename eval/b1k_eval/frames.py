"""Runs, episodes, steps and sub-goals as pandas DataFrames; the only module that imports pandas.

The same frames are the tables of `report`, the columns of `compare` and what `b1k_eval.Run` gives.
Dtypes do not depend on the values: a column that may lack a value has a nullable dtype (`Int64`,
`boolean`, `string`), or is float64 with NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from b1k_eval.diagnosis.failures import why
from b1k_eval.diagnosis.funnel import Funnel
from b1k_eval.files import spelled_out
from b1k_eval.records.columns import COLUMNS, NEWER
from b1k_eval.records.loading import EpisodeData, RunData, read_trace

if TYPE_CHECKING:
    import pandas as pd

Row: TypeAlias = Mapping[str, Any]


class Column(NamedTuple):
    """A column of a frame: its dtype, and its meaning with unit."""

    dtype: str
    meaning: str


def _ends(what: str) -> dict[str, Column]:
    return {
        f"{what}_low": Column("float64", "lower end of its interval"),
        f"{what}_high": Column("float64", "upper end"),
        f"{what}_interval": Column("string", "method of the interval"),
    }


RUNS: Mapping[str, Column] = {
    "run": Column("string", "name of the run: its policy, else its folder"),
    "folder": Column("string", "run folder"),
    "task": Column("string", "name of the task; a run of several has a row for each"),
    "sim": Column("string", "mujoco or omnigibson"),
    "protocol": Column("string", "2025 or 2026"),
    "privileged": Column("bool", "the policy reads the simulator's state"),
    "planned": Column("int64", "episodes of the run"),
    "success": Column("int64", "episodes that ended so"),
    "failure": Column("int64", "the same"),
    "error": Column("int64", "the same; not scored"),
    "pending": Column("int64", "episodes still to run"),
    "left_out": Column("int64", "episodes whose files are damaged"),
    "success_rate": Column("float64", "share of the scored episodes, in [0, 1]; more is better"),
    **_ends("success_rate"),
    "success_rate_exact_low": Column("float64", "lower end of the exact interval"),
    "success_rate_exact_high": Column("float64", "upper end"),
    "q_score": Column("float64", "mean of the scored episodes, in [0, 1]; more is better"),
    **_ends("q_score"),
    "task_progress": Column("float64", "mean of the public metric, in [0, 1]; more is better"),
    **_ends("task_progress"),
    "steps": Column("float64", "mean control steps of the scored episodes (1/30 s each)"),
    "simulated_s": Column("float64", "mean simulated time [s]"),
    "distance_base_m": Column("float64", "mean way of the base [m]"),
    "distance_left_m": Column("float64", "mean way of the left hand [m]"),
    "distance_right_m": Column("float64", "mean way of the right hand [m]"),
    "latency_s": Column("float64", "mean wall time of an inference [s]"),
}
"""Columns of `runs`."""

EPISODES: Mapping[str, Column] = {
    "episode": Column("string", "TASK-INSTANCE-ROLLOUT"),
    "task": Column("string", "name of the task"),
    "instance": Column("int64", "initial state, within the split"),
    "rollout": Column("int64", "number of the try, from 0"),
    "seed": Column("int64", "seed of the episode"),
    "outcome": Column("string", "success, failure or error"),
    "success": Column("boolean", "missing for an error"),
    "q_score": Column("float64", "in [0, 1], more is better; NaN for an error"),
    "task_progress": Column("float64", "public metric, in [0, 1], more is better; NaN without one"),
    "steps": Column("int64", "control steps (1/30 s each)"),
    "simulated_s": Column("float64", "simulated time [s]"),
    "inferences": Column("int64", "how often the policy was asked"),
    "latency_s": Column("float64", "mean wall time of an inference [s], resets included"),
    "wall_s": Column("float64", "wall time of the episode [s]"),
    "distance_m": Column("float64", "way of the base [m]; NaN for an error"),
    "failure_reason": Column("string", "cause where the policy was at fault"),
    "message": Column("string", "fault or error in words"),
    "label": Column("string", "why a failure failed, as a label; missing if it cannot be told"),
    "why": Column("string", "why a failure or error came about, in words"),
    "video": Column("string", "path of video.mp4; missing without one"),
}
"""Columns of `episodes`, before `first_step_SUBGOAL` (Int64; missing for never, 0 for the start) of
each sub-goal of the run's tasks."""

_DTYPES = {"bool": "bool", "int": "Int64", "float": "float64", "string": "string"}
_STEP_DTYPES: Mapping[str, str] = {
    name: "int64" if column.name == "step" else _DTYPES[column.kind.rstrip("0123456789")]
    for column in COLUMNS
    for name in column.names
}


def runs(rows: Sequence[Row]) -> pd.DataFrame:
    """Return one row per run and task, from the rows of `comparison.summary`."""
    found = []
    for row in rows:
        success, q_score, progress = row["success"], row["q_score"], row["task_progress"]
        exact = success["exact"] or {}
        found.append(
            {
                **{name: row[name] for name in RUNS if name in row and name != "success"},
                **row["counts"],
                "run": row["name"],
                "folder": row["path"],
                "left_out": len(row["damaged"]),
                "success_rate": success["rate"],
                **_interval("success_rate", success["interval"]),
                "success_rate_exact_low": exact.get("low"),
                "success_rate_exact_high": exact.get("high"),
                "q_score": q_score["mean"],
                **_interval("q_score", q_score["interval"]),
                "task_progress": progress["mean"],
                **_interval("task_progress", progress["interval"]),
                **{f"distance_{part}_m": way for part, way in row["distance_m"].items()},
            }
        )
    return _of_rows(found, {name: column.dtype for name, column in RUNS.items()})


def _interval(name: str, interval: Row | None) -> dict[str, Any]:
    known = interval or {}
    return {
        f"{name}_low": known.get("low"),
        f"{name}_high": known.get("high"),
        f"{name}_interval": known.get("method"),
    }


def episodes(data: Sequence[RunData]) -> pd.DataFrame:
    """Return one row per finished episode, from what a run has for each task."""
    subgoals: dict[str, None] = {}
    found = []
    for episode in (episode for run in data for episode in run.episodes):
        first = {f"first_step_{name}": step for name, step in episode.subgoals.items()}
        subgoals.update(dict.fromkeys(first))
        found.append(episode_row(episode) | first)
    dtypes = {name: column.dtype for name, column in EPISODES.items()}
    return _of_rows(found, dtypes | dict.fromkeys(subgoals, "Int64"))


def labelled_episodes(
    names: Sequence[str], data: Sequence[RunData], labels: Sequence[Sequence[Row]]
) -> pd.DataFrame:
    """Return `episodes` of several runs, with the run's name and what the traces told.

    Args:
        names: Names of the runs.
        data: The runs, of one task.
        labels: `label` and `why` of each run's episodes, which older results do not have.
    """
    import pandas as pd

    tables = []
    for name, run, rows in zip(names, data, labels, strict=True):
        table = episodes([run])
        told = {each: [row[each] for row in rows] for each in ("label", "why")}
        dtypes = {"run": "string", **{each: str(dtype) for each, dtype in table.dtypes.items()}}
        tables.append(_frame({**table, **told, "run": [name] * len(rows)}, dtypes))
    return pd.concat(tables, ignore_index=True)


def episode_row(episode: EpisodeData) -> dict[str, Any]:
    """Return an episode's values for the columns of `EPISODES`, None for missing ones."""
    video, efficiency = episode.video, episode.efficiency or {}
    asked = episode.inferences
    return {
        **{name: value for name, value in vars(episode).items() if name in EPISODES},
        "episode": episode.name,
        "task_progress": episode.progress,
        "latency_s": episode.timing["policy_s"] / asked if asked else None,
        "wall_s": episode.timing.get("wall_s"),  # an imported result has none
        "distance_m": efficiency.get("agent_distance", {}).get("base"),
        "label": None if episode.diagnosis is None else episode.diagnosis["label"],
        "why": why(episode, episode.diagnosis),
        "video": None if video is None else str(video),
    }


def steps(episode: EpisodeData) -> pd.DataFrame:
    """Return one row per control step: the columns of the episode's trace.

    Columns that the trace of an older version lacks are there, and missing in every row.

    Raises:
        DamagedTraceError: The trace is missing or cannot be read.
    """
    trace = read_trace(episode)
    values = trace.read(*dict.fromkeys((*trace.names, *NEWER)))
    dtypes = {name: _STEP_DTYPES.get(name, "bool") for name in values}  # truths are bool
    return _frame({name: _missing(column) for name, column in values.items()}, dtypes)


def _missing(values: Any) -> Any:  # noqa: ANN401 - numpy arrays
    """Turn the -1 that stands for a missing integer into a missing one."""
    if values.dtype != "int64" or (values >= 0).all():
        return values
    import pandas as pd

    return pd.arrays.IntegerArray(values.copy(), values < 0)


def subgoals(names: Sequence[str], funnels: Sequence[Funnel | None]) -> pd.DataFrame:
    """Return one row per run and sub-goal; none for a run whose task has no sub-goals."""
    found = [
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
    texts = dict.fromkeys(("run", "subgoal", "label"), "string")
    counts = dict.fromkeys(("reached", "scored"), "int64")
    return _of_rows(found, {**texts, **counts, "median_first_step": "float64"})


def of_rows(rows: Sequence[Row]) -> pd.DataFrame:
    """Return rows as a frame, with the dtypes that their values have."""
    import pandas as pd

    return pd.DataFrame(rows)


def _of_rows(rows: Sequence[Row], dtypes: Mapping[str, str]) -> pd.DataFrame:
    return _frame({name: [row.get(name) for row in rows] for name in dtypes}, dtypes)


def _frame(columns: Row, dtypes: Mapping[str, str]) -> pd.DataFrame:
    """Return a frame of the columns that have a dtype; None is a missing value."""
    import pandas as pd

    found = {}
    for name, dtype in dtypes.items():
        values = columns[name]
        if dtype == "string":  # in Arrow's memory, which takes no surrogates
            values = [spelled_out(each) if isinstance(each, str) else None for each in values]
        found[name] = pd.Series(values, dtype=dtype)
    return pd.DataFrame(found)
