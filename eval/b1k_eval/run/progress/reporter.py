"""The events of a run as it goes on, counted, with an estimate of the time left, and in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from types import MappingProxyType

from b1k_eval.diagnosis.failures import why
from b1k_eval.records.episode import EpisodeKey, EpisodeRecord
from b1k_eval.run.progress.snapshot import EpisodeProgress

OUTCOME_STYLES: Mapping[str, str] = MappingProxyType(
    {"success": "green", "failure": "yellow", "error": "red"}
)


class Reporter:
    """Receives the events of a run from `launch`. The base class displays nothing."""

    def run_started(self, total: int, done: int, max_steps: int, workers: int) -> None:
        """`total` episodes are planned, of which `done` are finished."""

    def episode_started(self, key: EpisodeKey, where: str | None = None) -> None:
        """An episode begins, at a place of a cluster or on this machine."""

    def episode_dropped(self, key: EpisodeKey, why: str) -> None:
        """An episode under way was lost, and will begin again."""

    def step(self, key: EpisodeKey, snapshot: EpisodeProgress) -> None:
        """A running episode made progress."""

    def episode_ended(self, record: EpisodeRecord) -> None:
        """An episode ended."""

    def note(self, text: str) -> None:
        """Show a message to the user."""

    def close(self) -> None:
        """Restore the terminal; safe to call twice."""


class Active:
    """A running episode, as far as it has told."""

    def __init__(self, number: int, now: float, where: str | None) -> None:
        self.number = number
        self.where = "" if where is None else f" on {where}"
        self.started = now
        self.snapshot = EpisodeProgress(0, 0.0, None, None)
        self.first: tuple[float, int] | None = None  # time and step of the first snapshot
        self.rate = 0.0  # control steps per second since then, so that the reset does not count

    def update(self, snapshot: EpisodeProgress, now: float) -> None:
        """Take in what it said, and how fast it is."""
        self.snapshot = snapshot
        if self.first is None:
            self.first = (now, snapshot.step)
        elif now > self.first[0] and snapshot.pictures_left is None:
            self.rate = (snapshot.step - self.first[1]) / (now - self.first[0])


class Counting(Reporter):
    """State of a display: counts, running episodes, and an estimate of the time left."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self.clock = clock
        self.total = self.done = self.begun = 0
        self.max_steps = self.workers = 1
        self.counts = dict.fromkeys(OUTCOME_STYLES, 0)
        self.durations: list[float] = []
        self.active: dict[EpisodeKey, Active] = {}

    def run_started(self, total: int, done: int, max_steps: int, workers: int) -> None:
        """Begin to count."""
        self.total, self.done, self.begun = total, done, done
        self.max_steps, self.workers = max_steps, workers

    def episode_started(self, key: EpisodeKey, where: str | None = None) -> None:
        """Number it."""
        self.begun += 1
        self.active[key] = Active(self.begun, self.clock(), where)

    def episode_dropped(self, key: EpisodeKey, why: str) -> None:
        """Take it back, and say so."""
        self.begun -= 1
        del self.active[key]
        self.note(f"{key.folder} begins again: {why}")

    def step(self, key: EpisodeKey, snapshot: EpisodeProgress) -> None:
        """Keep what it said."""
        self.active[key].update(snapshot, self.clock())

    def episode_ended(self, record: EpisodeRecord) -> None:
        """Count how it ended."""
        ended = self.active.pop(record.key)
        self.done += 1
        self.counts[record.outcome] += 1
        self.durations.append(self.clock() - ended.started)

    def time_left_s(self) -> float | None:
        """Estimate the time to the end of the run [s]; None before anything was measured.

        From the mean duration of finished episodes; before the first has finished, an upper bound
        from the speed of the running ones and the step limit.
        """
        remaining = self.total - self.done
        if self.durations:
            mean = sum(self.durations) / len(self.durations)
            now = self.clock()
            running = sum(max(mean - (now - a.started), 0.0) for a in self.active.values())
            waiting = remaining - len(self.active)
            return (waiting * mean + running) / self.workers
        rate = sum(a.rate for a in self.active.values())
        if rate <= 0:
            return None
        steps = remaining * self.max_steps - sum(a.snapshot.step for a in self.active.values())
        return steps / rate

    def left_text(self) -> str:
        """Return the time left in words."""
        left = self.time_left_s()
        if left is None:
            return "time left unknown"
        at_most = "" if self.durations else "at most "
        return f"{at_most}{duration(left)} left"


def duration(seconds: float) -> str:
    """Format as `42 s`, `3 min 20 s` or `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def finishing(pictures_left: int) -> str:
    """Describe an episode whose loop is over and whose video is not."""
    return f"finishing the video, {pictures_left} picture{'' if pictures_left == 1 else 's'} left"


def ending(record: EpisodeRecord) -> str:
    """Describe in one line how an episode ended."""
    q = "-" if record.q_score is None else f"{record.q_score:.2f}"
    text = f"{record.outcome}, q {q}, {record.steps} steps"
    wall = record.timing.get("wall_s")
    if wall is not None:
        text += f", {duration(wall)}"
    if record.outcome != "success" and record.reached is not None:
        text += f", {record.reached} sub-goals reached"
    said = why(record, record.diagnosis)
    return text if said is None else f"{text}, {said.splitlines()[0]}"
