"""Progress of a run: a live display, or plain lines without a terminal; and for other terminals.

Displays write to the given console, which is standard error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from math import inf
from pathlib import Path
from time import monotonic, time
from typing import NamedTuple

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from b1k_eval.diagnosis.failures import why
from b1k_eval.files import to_json
from b1k_eval.loop.events import EpisodeResult, StepEvent, Subscriber
from b1k_eval.records.episode import EpisodeKey, EpisodeRecord
from b1k_eval.records.run_files import PROGRESS_FILE

UPDATE_INTERVAL_S = 0.25
"""Time between reports of a running episode [s]; in between the loop only reads a clock."""

PLAIN_INTERVAL_S = 60.0
"""Time between lines per running episode where there is no terminal [s]."""

_FILE_INTERVAL_S = 1.0
"""Time between writes of the file that `Telling` keeps [s]."""

OUTCOME_STYLES: Mapping[str, str] = {"success": "green", "failure": "yellow", "error": "red"}


class EpisodeProgress(NamedTuple):
    """Progress of a running episode: steps, q-score, and the policy's skill and progress reports.

    After the last step, `pictures_left` counts pictures still to be encoded; None until then.
    """

    step: int
    q_score: float
    skill: str | None
    progress: float | None
    pictures_left: int | None = None


class ProgressSubscriber(Subscriber):
    """Sends a snapshot every `interval_s`."""

    def __init__(
        self,
        send: Callable[[EpisodeProgress], None],
        *,
        interval_s: float = UPDATE_INTERVAL_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._send = send
        self._interval_s = interval_s
        self._clock = clock
        self._due = clock()
        self._end = EpisodeProgress(0, 0.0, None, None)

    def on_step(self, event: StepEvent) -> None:
        """Send a snapshot if one is due."""
        now = self._clock()
        if now < self._due:
            return
        self._due = now + self._interval_s
        self._send(_snapshot(event))

    def on_end(self, result: EpisodeResult) -> None:
        """Keep the final state for `waiting_for_video`."""
        q_score = 0.0 if result.goal is None else result.goal.q_score
        self._end = EpisodeProgress(result.steps, q_score, None, None)

    def waiting_for_video(self, pictures_left: int) -> None:
        """Report that the loop is over and the video is not; not rate-limited here."""
        self._send(self._end._replace(pictures_left=pictures_left))


def _snapshot(event: StepEvent) -> EpisodeProgress:
    skill = None if event.skill is None else event.skill.label
    return EpisodeProgress(event.result.step, event.goal.q_score, skill, event.progress)


class _Active:
    """The display's state of a running episode."""

    def __init__(self, number: int, now: float, where: str | None) -> None:
        self.number = number
        self.where = "" if where is None else f" on {where}"
        self.started = now
        self.snapshot = EpisodeProgress(0, 0.0, None, None)
        self.first: tuple[float, int] | None = None  # time and step of the first snapshot
        self.rate = 0.0  # control steps per second since then, so that the reset does not count
        self.last_line = now

    def update(self, snapshot: EpisodeProgress, now: float) -> None:
        self.snapshot = snapshot
        if self.first is None:
            self.first = (now, snapshot.step)
        elif now > self.first[0] and snapshot.pictures_left is None:
            self.rate = (snapshot.step - self.first[1]) / (now - self.first[0])


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


class _Counting(Reporter):
    """State of a display: counts, running episodes, and an estimate of the time left."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self.clock = clock
        self.total = self.done = self.begun = 0
        self.max_steps = self.workers = 1
        self.counts = dict.fromkeys(OUTCOME_STYLES, 0)
        self.durations: list[float] = []
        self.active: dict[EpisodeKey, _Active] = {}

    def run_started(self, total: int, done: int, max_steps: int, workers: int) -> None:
        self.total, self.done, self.begun = total, done, done
        self.max_steps, self.workers = max_steps, workers

    def episode_started(self, key: EpisodeKey, where: str | None = None) -> None:
        self.begun += 1
        self.active[key] = _Active(self.begun, self.clock(), where)

    def episode_dropped(self, key: EpisodeKey, why: str) -> None:
        self.begun -= 1
        del self.active[key]
        self.note(f"{key.folder} begins again: {why}")

    def step(self, key: EpisodeKey, snapshot: EpisodeProgress) -> None:
        self.active[key].update(snapshot, self.clock())

    def episode_ended(self, record: EpisodeRecord) -> None:
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


class Telling(_Counting):
    """Passes everything on to a display, and writes it into the run folder for who watches there.

    At most once a second, without flushing: the file is for the moment only, and gone when the run
    has ended; a killed run leaves it (`records.state`). A disk that is full costs the file alone.
    """

    def __init__(
        self, display: Reporter, folder: Path, *, clock: Callable[[], float] = monotonic
    ) -> None:
        super().__init__(clock=clock)
        self._display = display
        self._file = folder / PROGRESS_FILE
        self._due = -inf

    def run_started(self, total: int, done: int, max_steps: int, workers: int) -> None:
        """Pass on, and write."""
        super().run_started(total, done, max_steps, workers)
        self._display.run_started(total, done, max_steps, workers)
        self._write()

    def episode_started(self, key: EpisodeKey, where: str | None = None) -> None:
        """Pass on, and write."""
        super().episode_started(key, where)
        self._display.episode_started(key, where)
        self._write()

    def episode_dropped(self, key: EpisodeKey, why: str) -> None:
        """Pass on; the display says why."""
        self.begun -= 1
        del self.active[key]
        self._display.episode_dropped(key, why)

    def step(self, key: EpisodeKey, snapshot: EpisodeProgress) -> None:
        """Pass on, and write if a second has passed."""
        super().step(key, snapshot)
        self._display.step(key, snapshot)
        if self.clock() >= self._due:
            self._write()

    def episode_ended(self, record: EpisodeRecord) -> None:
        """Pass on, and write."""
        super().episode_ended(record)
        self._display.episode_ended(record)
        self._write()

    def note(self, text: str) -> None:
        """Pass on."""
        self._display.note(text)

    def close(self) -> None:
        """Remove the file; the display is its maker's to close."""
        with suppress(OSError):
            self._file.unlink()

    def _write(self) -> None:
        self._due = self.clock() + _FILE_INTERVAL_S
        told = {
            "time": time(),
            "total": self.total,
            "done": self.done,
            "left_s": self.time_left_s(),
            "max_steps": self.max_steps,
            "episodes": [
                {
                    "episode": key.folder,
                    "where": active.where,
                    "steps_per_s": active.rate,
                    **active.snapshot._asdict(),
                }
                for key, active in self.active.items()
            ],
        }
        temp = self._file.with_name(f"{PROGRESS_FILE}.new")
        with suppress(OSError):
            temp.write_text(to_json(told, indent=None), encoding="utf-8")
            temp.replace(self._file)


class PlainReporter(_Counting):
    """Writes a line per start, per end, and every minute."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = monotonic) -> None:
        super().__init__(clock=clock)
        self.console = console

    def run_started(self, total: int, done: int, max_steps: int, workers: int) -> None:
        """Write the number of episodes."""
        super().run_started(total, done, max_steps, workers)
        there = f", {done} of them done already" if done else ""
        self._line(f"{total} episode{'' if total == 1 else 's'}{there}")

    def episode_started(self, key: EpisodeKey, where: str | None = None) -> None:
        """Write a line."""
        super().episode_started(key, where)
        place = self.active[key].where
        self._line(f"episode {self.begun} of {self.total}: {key.folder} started{place}")

    def step(self, key: EpisodeKey, snapshot: EpisodeProgress) -> None:
        """Write a line every minute."""
        super().step(key, snapshot)
        active = self.active[key]
        if self.clock() - active.last_line < PLAIN_INTERVAL_S:
            return
        active.last_line = self.clock()
        head = f"episode {active.number} of {self.total}: {key.folder}"
        if snapshot.pictures_left is not None:
            self._line(f"{head} {finishing(snapshot.pictures_left)}")
            return
        skill = f", {snapshot.skill}" if snapshot.skill else ""
        self._line(
            f"{head} step {snapshot.step}, "
            f"q {snapshot.q_score:.2f}{skill}, {active.rate:.0f} steps/s, {self.left_text()}"
        )

    def episode_ended(self, record: EpisodeRecord) -> None:
        """Write a line."""
        number = self.active[record.key].number
        super().episode_ended(record)
        self._line(f"episode {number} of {self.total}: {record.name} {ending(record)}")

    def note(self, text: str) -> None:
        """Write a line."""
        self._line(text)

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveReporter(_Counting):
    """Redraws in place: two lines per running episode, one for the run."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = monotonic) -> None:
        super().__init__(clock=clock)
        self.console = console
        self._live = Live(
            console=console, get_renderable=self._render, refresh_per_second=4, transient=True
        )

    def run_started(self, total: int, done: int, max_steps: int, workers: int) -> None:
        """Start drawing."""
        super().run_started(total, done, max_steps, workers)
        self._live.start()

    def episode_ended(self, record: EpisodeRecord) -> None:
        """Write a line above the display."""
        super().episode_ended(record)
        line = Text(f"{record.name} ")
        line.append(ending(record), style=OUTCOME_STYLES[record.outcome])
        self.console.print(line)

    def note(self, text: str) -> None:
        """Write a line above the display."""
        self.console.print(text, markup=False)

    def close(self) -> None:
        """Stop drawing."""
        self._live.stop()

    def _render(self) -> RenderableType:
        lines: list[RenderableType] = []
        # Copied first: rich draws from a thread of its own while the loop adds and removes.
        for key, active in list(self.active.items()):
            now = active.snapshot
            head = Text(
                f"episode {active.number} of {self.total}  {key.folder}{active.where}  ",
                no_wrap=True,
            )
            said = now.skill or ""
            if now.progress is not None:
                said += f" {now.progress:.0%}"
            if now.pictures_left is not None:
                said = finishing(now.pictures_left)
            head.append(said.strip(), style="cyan")
            row = Table.grid(padding=(0, 2))
            row.add_row(
                ProgressBar(total=self.max_steps, completed=now.step, width=24),
                f"step {now.step}",
                f"q {now.q_score:.2f}",
                f"{active.rate:.0f} steps/s",
            )
            lines += [head, row]
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        return Group(*lines, Text(f"{counts}; {self.left_text()}", style="dim"))


def make_reporter(console: Console) -> Reporter:
    """Return a live display on a terminal, plain lines elsewhere."""
    return LiveReporter(console) if console.is_terminal else PlainReporter(console)
