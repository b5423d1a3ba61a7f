"""The page of runs that may still be going on, made anew when an episode has ended.

It is made of the results alone, so that two thousand episodes take seconds: a trace is read when
its episode is opened. What needs all traces, the policy's self-reports, is left to `report`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote

from b1k_envs.errors import UsageError
from b1k_eval.files import spelled_out
from b1k_eval.records.loading import EpisodeData, read_tasks
from b1k_eval.records.run_files import EPISODES_FILE, RUN_FILE
from b1k_eval.records.state import RunState, read_state
from b1k_eval.report.episodes import read_episode_page
from b1k_eval.report.overview import drawings, find
from b1k_eval.report.page import detail_of, index_of, page_html, script
from b1k_eval.run.progress.reporter import duration, finishing

_INTERVAL_S = 0.5
"""Time between two looks [s]; nine times what the last one took if that is longer."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """The page at a time.

    Attributes:
        version: Number of this making, from 1.
        html: The page.
        index: What it loads of all episodes.
        episodes: The episodes by id.
    """

    version: int
    html: str
    index: dict[str, Any]
    episodes: dict[str, EpisodeData]


class LivePages:
    """Keeps the page of some runs; `made` and `lines` may be read by any thread.

    Attributes:
        made: The page as last made.
        lines: How each run stands, in words.
    """

    def __init__(self, runs: Sequence[Path], *, mix: bool) -> None:
        """Make the page for the first time.

        Raises:
            UsageError: There is no such run, it has several tasks, or they are not comparable.
            UnavailableError: A package of the extra `report` is missing.
        """
        self._runs, self._mix = runs, mix
        self._over = threading.Event()
        self._seen = self._stamps()
        self.lines = [_words(read_state(path)) for path in runs]
        self.made = self._make(1)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the following."""
        self._over.set()
        self._thread.join()

    def detail(self, name: str) -> str:
        """Return the script of an episode; KeyError for an unknown id."""
        episode = self.made.episodes[name]
        video = f"/videos/{quote(name)}.mp4"
        return script("detail", name, detail_of(read_episode_page(episode), video))

    def _follow(self) -> None:
        wait = _INTERVAL_S
        while not self._over.wait(wait):
            began = monotonic()
            try:
                now = self._stamps()
                self.lines = [_words(read_state(path)) for path in self._runs]
                if now != self._seen:
                    self.made, self._seen = self._make(self.made.version + 1), now
            except (OSError, UsageError) as error:  # a folder that is being moved, a run damaged
                self.lines = [f"The runs cannot be read now: {error}"]
            wait = max(_INTERVAL_S, 9 * (monotonic() - began))

    def _make(self, version: int) -> Made:
        read = []
        for path in self._runs:
            run, *others = read_tasks(path)
            if others:
                raise UsageError(
                    f"{path} is a run of {1 + len(others)} tasks, and view shows runs of one: "
                    f"b1k-eval report {path}; b1k-eval list {path} --watch"
                )
            read.append(run)
        found = find(read, mix=self._mix, traces=False)
        ids = [[f"r{n}/{e.name}" for e in run.data.episodes] for n, run in enumerate(found.runs)]
        flat = [name for names in ids for name in names]
        return Made(
            version=version,
            html=spelled_out(page_html(found, drawings(found), live=True)),
            index=index_of(found, ids),
            episodes=dict(zip(flat, (e for run in read for e in run.episodes), strict=True)),
        )

    def _stamps(self) -> list[tuple[int, int]]:
        files = [path / name for path in self._runs for name in (RUN_FILE, EPISODES_FILE)]
        stats = [file.stat() if file.exists() else None for file in files]
        return [(0, 0) if stat is None else (stat.st_size, stat.st_mtime_ns) for stat in stats]


def _words(state: RunState) -> str:
    """Describe how a run stands, in a line."""
    line = f"{state.path.name}: {state.standing}, {state.done} of {state.planned} episodes."
    if state.standing in ("killed", "stopped"):
        return f"{line} b1k-eval run --resume --out {state.path} goes on."
    told = state.progress if state.standing == "running" else None
    if told is None:
        return line
    for each in told["episodes"]:
        now = f"step {each['step']}, q {each['q_score']:.2f}"
        if each["pictures_left"] is not None:
            now = finishing(each["pictures_left"])
        line += f" {each['episode']}: {now}."
    left = told["left_s"]
    return line if left is None else f"{line} About {duration(left)} left."
