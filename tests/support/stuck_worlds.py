"""Worlds that do what OmniGibson may do, to be built in a worker: hang, crash, leave, fail."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from doubles import RandomWalkPolicy, ToyEnv

from b1k_envs.base import Float32Array, Observation, StepResult, Worlds, make_several
from b1k_envs.errors import EnvError, HostFaultError, UnavailableError
from b1k_envs.tasks.table import get_task, human_stats
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.records.store import open_run
from b1k_eval.run.episode import Assembly
from b1k_eval.run.launch import launch, plan_episodes
from b1k_eval.run.progress.reporter import Reporter
from b1k_eval.run.watchdog import CallLimits

TASK = get_task(31)
RECORD = {"format": 1, "identity": {"settings": {}}, "sessions": [{"started_at": "-"}]}


def hang() -> None:
    """A call that never returns, as the native one of a simulator that waits for itself."""
    reader, _ = os.pipe()
    os.read(reader, 1)


def fail(what: str) -> None:
    """Go wrong in one of the ways there are."""
    if what == "hang":
        hang()
    elif what == "exit":
        sys.exit(3)
    elif what == "abort":
        sys.stderr.write("native code has a last word\n")
        os.abort()
    elif what == "memory":
        raise HostFaultError("out of memory during a step in OmniGibson")
    elif what == "raise":
        raise EnvError("OmniGibson failed during a step")
    elif what == "nan":
        raise EnvError("observation proprio has NaN")
    elif what == "other":
        raise IndexError("list index out of range")


class StuckEnv(ToyEnv):
    """Goes wrong in a phase of the episodes named; says so before every call that is watched."""

    def __init__(
        self,
        *,
        phase: str = "none",
        how: str = "none",
        instances: Sequence[int] = (),
        marker: str | None = None,
    ) -> None:
        """Choose what goes wrong.

        Args:
            phase: start, reset, step, observe, or none.
            how: See `fail`.
            instances: In which episodes; for `start`, any makes it fail.
            marker: File that gets a line with this process's id for every world that is built.
        """
        super().__init__(max_steps=20)
        self.info = replace(self.info, settings={"toy": True, "drift_m": float("nan")})
        self.phase, self.how, self.instances = phase, how, instances
        self.instance = -1
        if marker is not None:
            with open(marker, "a", encoding="utf-8") as out:  # noqa: PTH123 - shared by processes
                out.write(f"{os.getpid()}\n")
        if phase == "start":
            fail(how)

    def _at(self, phase: str) -> None:
        if phase == self.phase and self.instance in self.instances:
            fail(self.how)

    def reset(self, instance: int, rollout: int, seed: int) -> None:
        self.instance = instance
        self._at("reset")
        super().reset(instance, rollout, seed)

    def step(self, action: Float32Array) -> StepResult:
        if self.step_count == 3:
            self._at("step")
        return super().step(action)

    def observe(self, *, images: bool = True) -> Observation:
        self._at("observe")
        return super().observe(images=images)


class Hearing(Reporter):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def stuck_worlds(count: int, independent: bool, **options: Any) -> Worlds:
    """So many of them; moved together, as OmniGibson's are, unless they are independent."""
    worlds = make_several(partial(StuckEnv, **options), count)
    worlds.independent = independent
    return worlds


def run_stuck(
    folder,
    episodes=5,
    *,
    workers=1,
    num_envs=1,
    independent=False,
    limits=None,
    policy=None,
    **options,
):
    """A run in watched workers."""
    assembly = Assembly(
        make_worlds=partial(stuck_worlds, num_envs, independent, **options),
        num_envs=num_envs,
        limits=limits or CallLimits(start_s=60, reset_s=60, step_s=60, observe_s=60, close_s=60),
        make_policy=policy or RandomWalkPolicy,
        make_chunking=partial(RecedingHorizon, 4),
        human=human_stats(TASK),
        max_steps=20,
    )
    store = open_run(folder, RECORD, resume=True)
    reporter = Hearing()
    plan = plan_episodes(TASK, range(episodes), 1, seed=3, protocol="2026")
    try:
        launch(assembly, plan, store, reporter=reporter, workers=workers)
    finally:
        store.close()
    return store, reporter


class AbsentPolicy(RandomWalkPolicy):
    """Cannot be had while a file is not there, as a server that has gone."""

    def __init__(self, there: str) -> None:
        super().__init__()
        if not os.path.exists(there):  # noqa: PTH110
            with open(there, "w", encoding="utf-8"):  # noqa: PTH123
                pass
            raise UnavailableError("no policy server within 10 s")
