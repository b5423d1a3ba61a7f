"""A live display on a terminal, lines elsewhere; both on the given console: standard error."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from b1k_eval.records.episode import EpisodeKey, EpisodeRecord
from b1k_eval.run.progress.reporter import (
    OUTCOME_STYLES,
    Active,
    Counting,
    Reporter,
    ending,
    finishing,
)
from b1k_eval.run.progress.snapshot import EpisodeProgress

PLAIN_INTERVAL_S = 60.0
"""Time between lines about the run where there is no terminal [s]."""

_NAMED = 4
"""Running episodes that such a line has; of the others it has their number."""


class PlainReporter(Counting):
    """Writes a line per episode, when it ends, and one a minute about what is running."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = monotonic) -> None:
        super().__init__(clock=clock)
        self.console = console
        self._due = clock() + PLAIN_INTERVAL_S

    def run_started(self, total: int, done: int, max_steps: int, workers: int) -> None:
        """Write the number of episodes."""
        super().run_started(total, done, max_steps, workers)
        there = f", {done} of them done already" if done else ""
        self._line(f"{total} episode{'' if total == 1 else 's'}{there}")
        self._due = self.clock() + PLAIN_INTERVAL_S

    def step(self, key: EpisodeKey, snapshot: EpisodeProgress) -> None:
        """Write a line every minute."""
        super().step(key, snapshot)
        if self.clock() < self._due:
            return
        self._due = self.clock() + PLAIN_INTERVAL_S
        running = [_running(key, active) for key, active in [*self.active.items()][:_NAMED]]
        if len(self.active) > _NAMED:
            running.append(f"{len(self.active) - _NAMED} more")
        self._line(f"{self.done} of {self.total} done, {self.left_text()}; {'; '.join(running)}")

    def episode_ended(self, record: EpisodeRecord) -> None:
        """Write a line."""
        active = self.active[record.key]
        super().episode_ended(record)
        name = f"{record.name}{active.where}"
        self._line(f"episode {active.number} of {self.total}: {name} {ending(record)}")

    def note(self, text: str) -> None:
        """Write a line."""
        self._line(text)

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _running(key: EpisodeKey, active: Active) -> str:
    now = active.snapshot
    if now.pictures_left is not None:
        return f"{key.folder}{active.where} {finishing(now.pictures_left)}"
    skill = f", {now.skill}" if now.skill else ""
    pace = f"q {now.q_score:.2f}{skill}, {active.rate:.0f} steps/s"
    return f"{key.folder}{active.where} step {now.step}, {pace}"


class LiveReporter(Counting):
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
