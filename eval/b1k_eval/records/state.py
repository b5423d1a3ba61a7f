"""How a run stands, for who looks on from another process: its counts, and whether it goes on.

Read from run.json, the lines of episodes.jsonl, the folder's lock, and what the process that runs
it last said (`PROGRESS_FILE`); episodes' own files are not opened. A run on another machine counts
as running only where the file system shares its locks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from b1k_envs.claims import held
from b1k_envs.errors import UsageError
from b1k_eval.loop.events import Outcome
from b1k_eval.records.episode import OUTCOMES, DamagedRecordError
from b1k_eval.records.loading import read_run_lines
from b1k_eval.records.run_files import (
    EPISODES_FILE,
    LOCK_FILE,
    PROGRESS_FILE,
    RUN_FILE,
    parse_object,
)

Standing = Literal["running", "complete", "stopped", "killed", "unknown"]
"""Stopped: ended before all its episodes, by Ctrl-C or once it was decided. Killed: the same
without a word. Unknown: unfinished, and no lock tells whether a process still runs it."""


@dataclass(frozen=True, kw_only=True)
class RunState:
    """How a run stands.

    Attributes:
        path: The run folder.
        label: As `RunData.label`.
        tasks: Names of its tasks.
        sim: The simulator.
        standing: Whether it goes on.
        planned: Number of its episodes.
        counts: Finished ones by outcome.
        damaged: Lines that cannot be used.
        success_rate: Of the scored ones; None without any.
        q_score: Their mean; None without any.
        changed: When an episode last ended, else when it was started [s since 1970].
        progress: What its process last said, see `run.progress.telling.Telling`; None once it has
            ended.
    """

    path: Path
    label: str
    tasks: tuple[str, ...]
    sim: str
    standing: Standing
    planned: int
    counts: Mapping[Outcome, int]
    damaged: int
    success_rate: float | None
    q_score: float | None
    changed: float
    progress: Mapping[str, Any] | None

    @property
    def done(self) -> int:
        """Number of finished episodes."""
        return sum(self.counts.values())


def read_state(path: Path) -> RunState:
    """Read how a run stands.

    Raises:
        UsageError: There is no run, or run.json is damaged.
    """
    # The lock before the lines: a run that ends in between is then complete, and not killed.
    alive = held(path / LOCK_FILE)
    progress = _progress(path)
    run = read_run_lines(path)
    counted = Counter(line["outcome"] for line in run.lines.values())
    planned = sum(map(len, run.plans))
    standing: Standing = "complete"
    if alive:
        standing = "running"
    elif len(run.lines) + len(run.damaged) < planned:
        standing = "stopped" if progress is None else "killed"
        standing = "unknown" if alive is None else standing
    scores = [line.get("q_score") for line in run.lines.values() if line["outcome"] != "error"]
    known = [float(score) for score in scores if isinstance(score, int | float)]
    lines = path / EPISODES_FILE
    return RunState(
        path=path,
        label=run.label,
        tasks=tuple(str(identity["settings"]["task"]) for identity in run.identities),
        sim=str(run.identities[0]["settings"]["sim"]),
        standing=standing,
        planned=planned,
        counts={outcome: counted[outcome] for outcome in OUTCOMES},
        damaged=len(run.damaged),
        success_rate=counted["success"] / len(scores) if scores else None,
        q_score=sum(known) / len(known) if known else None,
        changed=(lines if lines.exists() else path / RUN_FILE).stat().st_mtime,
        progress=progress,
    )


def runs_in(folders: Sequence[Path]) -> list[Path]:
    """Return the run folders among folders, and directly below those that are none.

    Raises:
        UsageError: A folder cannot be read.
    """
    found: list[Path] = []
    for folder in folders:
        try:
            inside = [folder] if (folder / RUN_FILE).is_file() else sorted(folder.iterdir())
        except OSError as error:
            raise UsageError(f"{folder} cannot be read ({error.strerror})") from error
        found += [entry for entry in inside if (entry / RUN_FILE).is_file()]
    return found


def _progress(path: Path) -> dict[str, Any] | None:
    try:
        return parse_object((path / PROGRESS_FILE).read_bytes())
    except (OSError, DamagedRecordError):
        return None
