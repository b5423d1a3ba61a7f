"""The ways of running the same episodes, each by the engine that `run` has.

What a pass does not prove: that the ways are equal with other numbers of workers or worlds, or for
longer episodes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from b1k_envs.errors import UnavailableError
from b1k_envs.threads import die_with_parent
from b1k_eval.execution import Execution
from b1k_eval.records.episode import EpisodeKey, EpisodeRecord
from b1k_eval.records.merging import merge_runs
from b1k_eval.records.run_files import RUN_FILE
from b1k_eval.run.progress.reporter import Reporter
from b1k_eval.run.session import ReadyRun
from b1k_eval.settings import RunSettings
from b1k_policies.base import ActionChunk, Query
from b1k_policies.remote.server import require_websockets

_KILL_AFTER_S = 0.05  # into an episode


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The episodes, and with what they are run.

    Attributes:
        tasks: What to run, by task; at least two episodes in all.
        alone: How to run them one by one.
        at_once: Workers, worlds and shards of the ways that have several, at least 2.
        argv: Command line, for the record.
        reporter: Makes the display of a run.
    """

    tasks: tuple[RunSettings, ...]
    alone: Execution
    at_once: int
    argv: Sequence[str]
    reporter: Callable[[], Reporter] = Reporter

    def run(
        self,
        folder: Path,
        *,
        shard: str | None = None,
        prepared: Callable[[ReadyRun], None] = lambda _: None,
        **how: Any,  # noqa: ANN401 - fields of `Execution`
    ) -> None:
        """Run the missing episodes of a folder, which may exist.

        Args:
            folder: The run folder.
            shard: Which share of them; None for all.
            prepared: Called with the run before its first episode.
            how: What is not as in `alone`.
        """
        tasks = [replace(each, shard=shard) for each in self.tasks]
        execution = replace(self.alone, **how)
        ready = ReadyRun(tasks, execution, folder, argv=self.argv, resume=True)
        try:
            prepared(ready)
            reporter = self.reporter()
            try:
                ready.run(reporter)
            finally:
                reporter.close()
        finally:
            ready.close()


def _lanes(trial: Trial, folder: Path) -> None:
    def ask_one_by_one(ready: ReadyRun) -> None:
        policy = ready.policy
        if policy.stateless:
            if ready.worlds is None:
                raise UnavailableError("this simulator's processes ask in batches: see `batches`")
            whole = policy.infer_batch
            policy.infer_batch = partial(_each_alone, whole)  # type: ignore[method-assign]

    trial.run(folder, num_envs=trial.at_once, prepared=ask_one_by_one)


def _each_alone(
    whole: Callable[[Sequence[Query]], list[ActionChunk]], queries: Sequence[Query]
) -> list[ActionChunk]:
    return [chunk for query in queries for chunk in whole([query])]


def _batches(trial: Trial, folder: Path) -> None:
    def check(ready: ReadyRun) -> None:
        if not ready.policy.stateless:
            raise UnavailableError("the policy has a state: each world has its own, see `lanes`")

    trial.run(folder, num_envs=trial.at_once, prepared=check)


def _shared(trial: Trial, folder: Path) -> None:
    if trial.tasks[0].checkpoint is None:
        raise UnavailableError("the policy is no checkpoint: there is no model to share")
    require_websockets()
    trial.run(folder, workers=trial.at_once, share_policy="auto")


def _order(trial: Trial, folder: Path) -> None:
    def turn_round(ready: ReadyRun) -> None:
        ready.plan = ready.plan[::-1]

    trial.run(folder, prepared=turn_round)


def _resume(trial: Trial, folder: Path) -> None:
    """Run in a process that is killed, and do the rest here."""
    if not (folder / RUN_FILE).exists():
        process = multiprocessing.get_context("spawn").Process(
            target=_until_killed, args=(replace(trial, reporter=_Killer), folder)
        )
        process.start()
        process.join()
        if process.exitcode != -signal.SIGKILL:
            raise UnavailableError(
                f"the run that was to be killed ended by itself (exit code {process.exitcode})"
            )
    trial.run(folder)


def _until_killed(trial: Trial, folder: Path) -> None:
    die_with_parent()
    trial.run(folder)


class _Killer(Reporter):
    """Kills its own process in the second episode, at the latest before the last."""

    def run_started(self, total: int, done: int, max_steps: int, workers: int) -> None:
        """See `Reporter`."""
        self._total, self._begun, self._ended = total, 0, 0

    def episode_started(self, key: EpisodeKey, where: str | None = None) -> None:
        """See `Reporter`."""
        self._begun += 1
        if self._begun == 2:
            threading.Timer(_KILL_AFTER_S, _kill).start()

    def episode_ended(self, record: EpisodeRecord) -> None:
        """See `Reporter`."""
        self._ended += 1
        if self._ended == self._total - 1:
            _kill()


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _shards(trial: Trial, folder: Path) -> None:
    count = trial.at_once
    parts = [folder.with_name(f"{folder.name}-{n}-of-{count}") for n in range(count)]
    if (folder / RUN_FILE).exists():
        return  # merged already
    for number, part in enumerate(parts):
        trial.run(part, shard=f"{number}/{count}")
    merge_runs(parts, folder)


def _ray(trial: Trial, folder: Path) -> None:
    if find_spec("ray") is None:
        raise UnavailableError("Ray is not installed: pip install '.[ray]' in the checkout")
    trial.run(folder, ray="local", workers=trial.at_once)


WAYS: Mapping[str, tuple[str, Callable[[Trial, Path], None]]] = {
    "again": ("one by one, a second time", Trial.run),
    "workers": (
        "{n} processes with a policy each",
        lambda trial, folder: trial.run(folder, workers=trial.at_once),
    ),
    "lanes": ("{n} worlds in one process, each asking alone", _lanes),
    "batches": ("{n} worlds in one process, one call of the policy for all", _batches),
    "shared": ("{n} processes that share one copy of the model", _shared),
    "order": ("the last episode first", _order),
    "resume": ("killed in the second episode, and resumed", _resume),
    "shards": ("{n} shards, one after the other, and merged", _shards),
    "ray": ("{n} workers of a Ray cluster on this machine", _ray),
}
"""What each way is, with `{n}` for the number at once, and the function that runs the missing
episodes in a folder; it raises UnavailableError or UsageError where that cannot be."""
