"""A run as a value: its tables, its page, how it looks in a notebook; and comparing runs.

A run is read when it is made, from its folder, finished or not. Damaged episodes are left out and
counted (`left_out` of the summary), as everywhere.
"""

from __future__ import annotations

import base64
import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b1k_envs.errors import UnavailableError, UsageError
from b1k_eval import frames
from b1k_eval.records.loading import EpisodeData, RunData, read_tasks
from b1k_policies.options import at_home

if TYPE_CHECKING:
    import pandas as pd

_PICTURE_PX = 480
"""Width of the picture in a notebook."""

_SHOWN = (
    *("task", "planned", "success", "failure", "error"),
    *("success_rate", "success_rate_low", "success_rate_high", "q_score", "simulated_s"),
)
"""Columns of the summary that are shown in a notebook."""


@dataclass(frozen=True, eq=False, repr=False)  # eq: what it read may have changed since
class Run:
    """A run folder, as it was when it was read; `os.fspath` gives its path.

    Attributes:
        path: The run folder.
        data: What was read, by task.
        remarks: What a reader should know before trusting the results.
    """

    path: Path
    data: tuple[RunData, ...]
    remarks: tuple[str, ...] = ()

    @cached_property
    def episodes(self) -> pd.DataFrame:
        """One row per finished episode; columns as in `frames.EPISODES`."""
        return frames.episodes(self.data)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """One row per task; columns as in `frames.RUNS`."""
        from b1k_eval.comparison.summary import summarise_runs  # scipy, which takes a second

        found = [summarise_runs([run], names=[run.label])["runs"][0] for run in self.data]
        return frames.runs(found)

    @property
    def success_rate(self) -> float:
        """Share of successes among the scored episodes; NaN without any."""
        return _mean([float(e.outcome == "success") for e in self._scored()])

    @property
    def q_score(self) -> float:
        """Mean q-score of the scored episodes; NaN without any."""
        return _mean([float(e.q_score or 0.0) for e in self._scored()])

    @property
    def task_progress(self) -> float:
        """Mean task progress of the scored episodes that have it, in [0, 1]; NaN without any."""
        return _mean([e.progress for e in self._scored() if e.progress is not None])

    def steps(self, episode: Any) -> pd.DataFrame:  # noqa: ANN401 - see the argument
        """Return the trace of an episode, one row per control step (`records.columns`).

        Args:
            episode: Its name, its instance, (instance, rollout), or a row of `episodes`.

        Raises:
            UsageError: There is no such finished episode, or more than one.
            DamagedTraceError: Its trace cannot be read.
        """
        return frames.steps(self._find(episode))

    def report(
        self, out: str | os.PathLike[str] | None = None, *, copy_videos: bool = False
    ) -> Path:
        """Write the page of `b1k-eval report`, and return its path.

        Args:
            out: Folder for it; None for the run's.
            copy_videos: Copy the videos, so that the page can be moved with its folder.

        Raises:
            UnavailableError: A package of the extra `report` is missing.
            StorageError: It cannot be written.
        """
        from b1k_eval.report.page import Extras, write_page
        from b1k_eval.report.task_pages import write_task_pages

        folder = self.path if out is None else Path(at_home(os.fspath(out)))
        extras = Extras(copy_videos=copy_videos)
        if len(self.data) > 1:
            return write_task_pages([self.data], folder, extras)[0]
        return write_page(self.data, folder, extras).page

    def _scored(self) -> Iterator[EpisodeData]:
        return (episode for run in self.data for episode in run.scored)

    def _find(self, wanted: Any) -> EpisodeData:  # noqa: ANN401 - see `steps`
        known = {e.name: e for run in self.data for e in run.episodes}
        name = getattr(wanted, "episode", wanted)
        if isinstance(name, str):
            fitting = [known[name]] if name in known else []
        else:
            ends = name if isinstance(name, tuple) else (name,)
            fitting = [e for e in known.values() if (*e.key,)[1 : 1 + len(ends)] == ends]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise UsageError(f"{self.path}: {name!r} fits {', '.join(e.name for e in fitting)}")
        near = difflib.get_close_matches(str(name), known, n=3) or list(known)[:3]
        has = f"it has {len(known)}, such as {', '.join(near)}" if near else "it has none"
        raise UsageError(f"{self.path} has no finished episode {name!r}: {has}")

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __repr__(self) -> str:
        counts = {name: sum(run.counts[name] for run in self.data) for name in self.data[0].counts}
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        tasks = ", ".join(run.task for run in self.data)
        return f"<Run {str(self.path)!r}: {tasks}, {self.data[0].label}; {told}>"

    def _repr_html_(self) -> str:
        """Show the summary and, if a video can be read, its first picture."""
        videos = (episode.video for run in self.data for episode in run.episodes)
        picture = next((found for v in videos if v and (found := _first_picture(v))), "")
        notes = [*self.remarks]
        if self.data[0].identity["settings"]["sim"] == "mujoco":
            notes.append("MuJoCo twin: not a benchmark score.")
        return "".join(
            (
                f"<p><b>{escape(self.data[0].label)}</b> {escape(str(self.path))}</p>",
                _html(self.summary[[*_SHOWN]]),
                picture,
                *(f"<p><small>{escape(note)}</small></p>" for note in notes),
            )
        )


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """What `b1k-eval compare` says of runs.

    Attributes:
        table: One row per run and task; columns as in `frames.RUNS`.
        verdict: A sentence for each pair of runs, the later against the earlier.
        decided: Whether every pair differs beyond chance.
        document: All of it as `b1k-eval compare --json` has it, funnels and failures left out.
    """

    table: pd.DataFrame
    verdict: str
    decided: bool
    document: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"<Comparison: {self.verdict}>"

    def _repr_html_(self) -> str:
        said = "".join(f"<p>{escape(line)}</p>" for line in self.verdict.splitlines())
        return said + _html(self.table[["run", *_SHOWN]])


def load_run(path: str | os.PathLike[str], *, remarks: Sequence[str] = ()) -> Run:
    """Read a run folder, finished or not.

    Args:
        path: The run folder.
        remarks: Added to those that its sessions recorded.

    Raises:
        UsageError: There is no run, or run.json is damaged.
    """
    folder = Path(at_home(os.fspath(path)))
    data = read_tasks(folder)
    recorded = [text for session in data[0].sessions for text in session.get("remarks", ())]
    return Run(path=folder, data=data, remarks=tuple(dict.fromkeys((*remarks, *recorded))))


def compare(
    *runs: Run | str | os.PathLike[str], level: float = 0.95, seed: int = 0, mix: bool = False
) -> Comparison:
    """Compare runs on the instances they share, as `b1k-eval compare` does.

    Args:
        runs: Two or more, or their folders; the first is the baseline.
        level: Coverage of the intervals; 1 - level is the level of the tests.
        seed: Seed of bootstrap and random sign flips.
        mix: Compare different experiments on what they share.

    Raises:
        UsageError: There is no such run, or the runs are not comparable and `mix` is not set.
    """
    from b1k_eval.comparison.summary import summarise_runs
    from b1k_eval.comparison.task_summary import summarise_tasks

    if len(runs) < 2:
        raise UsageError(f"compare needs two runs or more, got {len(runs)}")
    data = [run.data if isinstance(run, Run) else load_run(run).data for run in runs]
    if any(len(run) > 1 for run in data):
        document = summarise_tasks(data, seed=seed, level=level, mix=mix)
        rows = [row for task in document["tasks"] for row in task["runs"]]
    else:
        document = summarise_runs([run[0] for run in data], seed=seed, level=level, mix=mix)
        rows = document["runs"]
    pairs = document["pairs"]
    return Comparison(
        table=frames.runs(rows),
        verdict="\n".join(pair["verdict"] for pair in pairs),
        decided=all(pair["decided"] for pair in pairs),
        document=document,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _html(table: pd.DataFrame) -> str:
    shown: str = table.to_html(index=False, float_format="{:.3g}".format, na_rep="-")
    return shown


def _first_picture(video: Path) -> str:
    """Return a video's first picture as an HTML image; empty if it cannot be read."""
    from b1k_eval.video.recording import opened
    from b1k_eval.video.text import import_cv2

    try:
        cv2 = import_cv2()
        with opened(video) as capture:
            read, picture = capture.read()
    except (OSError, UnavailableError):
        return ""
    if not read:
        return ""
    height = round(picture.shape[0] * _PICTURE_PX / picture.shape[1])
    small = cv2.resize(picture, (_PICTURE_PX, height), interpolation=cv2.INTER_AREA)
    data = base64.b64encode(cv2.imencode(".jpg", small)[1].tobytes()).decode()
    name = escape(video.parent.name)
    return f'<img alt="first picture of {name}" src="data:image/jpeg;base64,{data}">'
