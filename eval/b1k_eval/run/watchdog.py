"""Knowing that a simulator hangs: deadlines in shared memory.

OmniGibson can stop for ever in a call, while it loads a scene as well as in a step, and then no
thread of its own process can be relied on to notice. So the process that runs it writes, before
each call, by when it will be back, and erases that afterwards. Its parent reads, and kills it when
the time has passed. Both read one clock: `time.monotonic` counts from the start of the machine.

Only the simulator is held to limits. How long a policy takes is the policy's affair.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import BaseContext
from time import monotonic
from typing import Any, Literal, NamedTuple, get_args

from b1k_envs.base import Env, Float32Array, GoalStatus, Observation, StepResult, VideoFrame

Phase = Literal["start", "reset", "step", "observe", "close"]

_PHASES: tuple[Phase, ...] = get_args(Phase)

_WORDS: dict[Phase, str] = {
    "start": "starting the world",
    "reset": "resetting the world and loading the instance",
    "step": "a control step",
    "observe": "rendering or reading the world",
    "close": "closing the world",
}

Guard = Callable[[Phase], AbstractContextManager[None]]
"""Put around a call into the simulator."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long a call into the simulator may take [s].

    Attributes:
        start_s: Starting the simulator and loading the scene; a first start compiles shaders.
        reset_s: A reset, with the instance's state.
        step_s: One control step.
        observe_s: Rendering, or reading the goal.
        close_s: Closing it.
    """

    start_s: float = 1800.0
    reset_s: float = 600.0
    step_s: float = 120.0
    observe_s: float = 120.0
    close_s: float = 60.0

    def of(self, phase: Phase) -> float:
        """The limit of a phase [s]."""
        limit: float = getattr(self, f"{phase}_s")
        return limit


class Overdue(NamedTuple):
    """A call that is not back in time."""

    phase: Phase
    limit_s: float

    def words(self) -> str:
        """What happened, in a sentence."""
        return (
            f"the simulator hangs: {_WORDS[self.phase]} took longer than {self.limit_s:g} s "
            "(watchdog)"
        )


class Watch:
    """The shared memory of one worker: the worker writes, its parent reads.

    Pass it among the arguments of a process that is being started, and in no other way.
    """

    def __init__(self, limits: Limits, context: BaseContext) -> None:
        self.limits = limits
        self._cell: Any = context.RawArray("d", 3)  # deadline (0: none), limit, index of the phase

    def expect(self, phase: Phase, *, since: float | None = None, times: int = 1) -> None:
        """Promise to be back within the limit of a phase.

        Args:
            phase: What begins.
            since: When it began, by `time.monotonic`; None for now.
            times: How many such calls may come one after the other.
        """
        limit = self.limits.of(phase) * times
        self._cell[1] = limit
        self._cell[2] = _PHASES.index(phase)
        self._cell[0] = (monotonic() if since is None else since) + limit

    def clear(self) -> None:
        """Say that nothing is running that could hang."""
        self._cell[0] = 0.0

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """`expect` and `clear` around a call; a `Guard`."""
        self.expect(phase)
        try:
            yield
        finally:
            self.clear()

    def overdue(self, now: float) -> Overdue | None:
        """What should have been done by `now` and is not; None where all is well."""
        seen = tuple(self._cell)
        deadline, limit, index = seen
        if deadline == 0.0 or now < deadline or tuple(self._cell) != seen:
            return None  # unequal: it came back while we were reading
        return Overdue(_PHASES[int(index)], limit)


class LaneWatch:
    """The watch of a worker whose world has several lanes, each on a thread of its own.

    A lane that has asked for a step, or for its reset, waits until all the others have, and with
    them for their policies. The simulator is at work, and the limit runs, once all have asked.
    """

    def __init__(self, watch: Watch, lanes: int) -> None:
        self._watch = watch
        self._lock = threading.Lock()
        self._count = lanes
        self._active = set(range(lanes))
        self._inside: dict[int, tuple[Phase, float]] = {}

    def guard(self, lane: int) -> Guard:
        """The guard of a lane."""
        return partial(self._phase, lane)

    def leave(self, lane: int) -> None:
        """The lane's job is over: the others no longer wait for it."""
        with self._lock:
            self._active.discard(lane)
            self._update()

    @contextmanager
    def _phase(self, lane: int, phase: Phase) -> Iterator[None]:
        with self._lock:
            self._inside[lane] = (phase, monotonic())
            self._update()
        try:
            yield
        finally:
            with self._lock:
                del self._inside[lane]
                self._update()

    def _update(self) -> None:
        alone = [entry for entry in self._inside.values() if entry[0] not in ("reset", "step")]
        if alone:  # served one after the other
            phase, since = min(alone, key=lambda entry: entry[1])
            self._watch.expect(phase, since=since, times=self._count)
        elif self._inside and self._active <= self._inside.keys():
            phase = max((entry[0] for entry in self._inside.values()), key=self._watch.limits.of)
            self._watch.expect(phase)
        else:
            self._watch.clear()


class WatchedEnv(Env):
    """An env whose every call is put under a guard."""

    def __init__(self, env: Env, guard: Guard) -> None:
        self._env = env
        self._guard = guard
        self.info = env.info

    def reset(self, instance: int, rollout: int, seed: int) -> None:
        """As the env does."""
        with self._guard("reset"):
            self._env.reset(instance, rollout, seed)

    def step(self, action: Float32Array) -> StepResult:
        """As the env does."""
        with self._guard("step"):
            return self._env.step(action)

    def observe(self, *, images: bool = True) -> Observation:
        """As the env does."""
        with self._guard("observe"):
            return self._env.observe(images=images)

    def goal(self) -> GoalStatus:
        """As the env does."""
        with self._guard("observe"):
            return self._env.goal()

    def subgoals(self) -> dict[str, bool]:
        """As the env does."""
        with self._guard("observe"):
            return self._env.subgoals()

    def frame(self, *, light: bool = False) -> VideoFrame:
        """As the env does."""
        with self._guard("observe"):
            return self._env.frame(light=light)

    def privileged_state(self) -> Any:  # noqa: ANN401 - each simulator has its own type
        """As the env does."""
        with self._guard("observe"):
            return self._env.privileged_state()

    def close(self) -> None:
        """As the env does."""
        with self._guard("close"):
            self._env.close()
