"""What the process of a tracker does: it reads a run folder as it grows, and logs what is new.

The folder is the queue: nothing of the run waits for a tracker, and what a tracker has missed is
still there for the next session. A ledger in the folder has what was handed over. Its line is
written before the tracker's call: a process that is killed in between loses that one point of the
curves, which the table at the end has, and no step is ever there twice.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from b1k_envs.claims import ClaimedError, claim
from b1k_envs.errors import B1kEvalError
from b1k_eval.execution import TrackerName
from b1k_eval.files import to_json
from b1k_eval.frames import episode_row
from b1k_eval.records.episode import OUTCOMES, DamagedRecordError
from b1k_eval.records.loading import EpisodeData, RunLines, read_episode, read_run_lines
from b1k_eval.records.run_files import EPISODES_FILE, LOCK_FILE, parse_object
from b1k_eval.trackers.adapters import Logged, Tracker

LEDGER_FILE = "trackers.jsonl"

_PREDECESSOR_S = 120.0
"""How long to wait for the process of a session that was killed, which still logs its rest [s]."""

_NUMBERS = (
    *("q_score", "task_progress", "steps", "simulated_s", "inferences", "latency_s", "wall_s"),
    "distance_m",
)
"""Columns of `frames.EPISODES` that are logged as curves."""


class Ledger:
    """What was handed over to one tracker, by the lines of a file that all of them share.

    Attributes:
        id: Id of the run in the tracker; None before the first session.
        episodes: Names of the episodes, in the order of their steps.
        videos: How many videos.
        ended: Number of episodes at the last end; -1 for none.
    """

    def __init__(self, folder: Path, tracker: TrackerName) -> None:
        """Read the file; a line that a killed process has torn counts as none."""
        self._file, self._tracker = folder / LEDGER_FILE, tracker
        self.id: str | None = None
        self.episodes: dict[str, None] = {}
        self.videos, self.ended = 0, -1
        try:
            lines = self._file.read_bytes().splitlines()
        except FileNotFoundError:
            return
        for raw in lines:
            try:
                line = parse_object(raw)
            except DamagedRecordError:
                continue
            if line.pop("tracker", None) == tracker:
                self._take(line)

    def add(self, **what: str | int) -> None:
        """Write a line: `id`, `episode`, `video` or `ended`."""
        line = to_json({"tracker": self._tracker, **what}, indent=None).encode()
        with self._file.open("ab", buffering=0) as file:  # one write: others append as well
            file.write(line)
        self._take(what)

    def _take(self, what: Mapping[str, Any]) -> None:
        self.id = what.get("id", self.id)
        self.ended = what.get("ended", self.ended)
        self.videos += "video" in what
        if "episode" in what:
            self.episodes[what["episode"]] = None


def follow(
    name: TrackerName,
    tracker: Tracker,
    folder: Path,
    videos: int,
    over: Callable[[], bool],
    started: Callable[[], None] = lambda: None,
) -> None:
    """Log a run as it grows, until it is over.

    Args:
        name: The tracker.
        tracker: The same, not started yet.
        folder: The run folder.
        videos: How many videos at most, over all sessions.
        over: Waits a moment, and says whether the run is over.
        started: Called once the tracker has begun.

    Raises:
        ClaimedError: Another process still logs this run to this tracker.
        Exception: Whatever the tracker raises.
    """
    lock = _claim(folder / f"{LOCK_FILE}-{name}")
    try:
        ledger = Ledger(folder, name)
        run = read_run_lines(folder)
        what = _logged(folder, run, ledger.id)
        tracker.start(what)
        if ledger.id is None:
            ledger.add(id=what.id)
        started()
        seen: tuple[int, ...] = ()
        last = False
        while not last:
            last = over()  # before looking, so that nothing is missed
            now = _stamp(folder / EPISODES_FILE)
            if now != seen:
                seen, run = now, read_run_lines(folder)
                _log_new(tracker, ledger, folder, run, videos)
        if len(ledger.episodes) not in (0, ledger.ended):
            ledger.add(ended=len(ledger.episodes))
            _log_end(tracker, folder, run, len(ledger.episodes) - 1)
        tracker.finish(complete=len(run.lines) == sum(map(len, run.plans)))
    finally:
        lock.close()


def _claim(path: Path) -> Any:  # noqa: ANN401 - `Claim`, which only closes
    until = monotonic() + _PREDECESSOR_S
    while True:
        try:
            return claim(path)
        except ClaimedError:
            if monotonic() > until:
                raise
            sleep(0.5)


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _logged(folder: Path, run: RunLines, known: str | None) -> Logged:
    """Return what the run is called there; its id follows from the folder and the first session."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", folder.resolve().name)
    first = run.record["sessions"][0].get("started_at", "")
    digest = hashlib.sha256(f"{name} {first}".encode()).hexdigest()[:8]
    identity = run.record["identity"]
    told = {
        "policy": run.label,
        "tasks": ", ".join(each["settings"]["task"] for each in run.identities),
        "privileged": identity.get("privileged"),
        "b1k_eval": identity.get("b1k_eval"),
        "folder": str(folder.resolve()),
        "settings": run.identities[0]["settings"],
    }
    return Logged(
        id=known or f"{name[:64]}-{digest}",
        name=name,
        kind="run",
        folder=folder,
        settings=dict(_flat(told)),
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            plain = value is None or isinstance(value, (bool, int, float, str))
            yield f"{prefix}{name}", value if plain else json.dumps(value)


def _log_new(tracker: Tracker, ledger: Ledger, folder: Path, run: RunLines, videos: int) -> None:
    """Log the scored episodes that the ledger lacks; errors are no evidence, and may be retried."""
    of_name = {key.folder: line for key, line in run.lines.items()}
    scored = [of_name[name] for name in ledger.episodes if name in of_name]
    wins = sum(line["outcome"] == "success" for line in scored)
    scores = sum(line["q_score"] for line in scored if line["outcome"] != "error")
    for key, line in run.lines.items():
        if line["outcome"] == "error" or key.folder in ledger.episodes:
            continue
        try:
            episode = read_episode(folder, key, line)
        except DamagedRecordError:
            continue  # left out, as everywhere
        step = len(ledger.episodes)
        wins += episode.outcome == "success"
        scores += episode.q_score or 0.0
        values = _values(episode, key.task if len(run.plans) > 1 else None)
        values |= {"success_rate": wins / (step + 1), "mean_q_score": scores / (step + 1)}
        ledger.add(episode=key.folder)
        tracker.log(values, step)
        if ledger.videos < videos and episode.video is not None:
            ledger.add(video=key.folder)
            tracker.video(key.folder, episode.video, step)


def _values(episode: EpisodeData, task: str | None) -> dict[str, float]:
    """Return the numbers of an episode by name, with the task's name before them if there are more.

    A sub-goal that was never reached has no number.
    """
    row = episode_row(episode)
    found: dict[str, Any] = {"success": episode.outcome == "success"}
    found |= {name: row[name] for name in (*_NUMBERS, "instance", "rollout")}
    found["subgoals_reached"] = sum(step is not None for step in episode.subgoals.values())
    found |= {f"subgoal_step/{name}": step for name, step in episode.subgoals.items()}
    prefix = "" if task is None else f"{task}/"
    return {
        f"{prefix}{name}": float(value)
        for name, value in found.items()
        if value is not None and math.isfinite(value)
    }


def _log_end(tracker: Tracker, folder: Path, run: RunLines, step: int) -> None:
    """Log the counts and the table of all episodes."""
    rows = []
    for key, line in run.lines.items():
        try:
            rows.append(episode_row(read_episode(folder, key, line)))
        except DamagedRecordError:
            continue
    outcomes = [line["outcome"] for line in run.lines.values()]
    counted = {name: outcomes.count(name) for name in OUTCOMES}
    values = {f"count/{name}": float(number) for name, number in counted.items()}
    tracker.log({**values, "count/planned": float(sum(map(len, run.plans)))}, step)
    tracker.table("episodes", rows, step)


def log_comparison(tracker: Tracker, document: Mapping[str, Any]) -> None:
    """Log what `compare` has found as a run of its own.

    Args:
        tracker: Not started yet.
        document: From `starting.log_comparison`.

    Raises:
        Exception: Whatever the tracker raises.
    """
    tracker.start(Logged(**{**document["what"], "folder": Path(document["what"]["folder"])}))
    tracker.log(document["values"], 0)
    tracker.table("runs", document["runs"], 0)
    tracker.text("verdict", document["verdict"], 0)
    tracker.finish(complete=True)


def in_words(name: str, error: Exception) -> str:
    """Describe in one line why a tracker could not be used."""
    said = " ".join(str(error).split())
    kind = "" if isinstance(error, B1kEvalError) else f"{type(error).__name__}: "
    return f"{name} is not logged to any more: {kind}{said[:300]}"
