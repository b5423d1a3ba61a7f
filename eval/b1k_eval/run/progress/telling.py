"""Progress for who watches a run from another process: `list --watch`, the live page."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from math import inf
from pathlib import Path
from time import monotonic, time

from b1k_eval.files import to_json
from b1k_eval.records.episode import EpisodeKey, EpisodeRecord
from b1k_eval.records.run_files import PROGRESS_FILE
from b1k_eval.run.progress.reporter import Counting, Reporter
from b1k_eval.run.progress.snapshot import EpisodeProgress

_FILE_INTERVAL_S = 1.0
"""Time between writes of the file that `Telling` keeps [s]."""


class Telling(Counting):
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
