"""Detecting that a simulator hangs: deadlines in shared memory.

OmniGibson can hang in any call, and then no thread of its own process can be relied on to notice.
So before each call its process writes a deadline, and erases it afterwards. The parent reads it,
and kills the process when the time has passed. Both use one clock: `time.monotonic` counts from
the start of the machine.

Only the simulator has limits; a policy may take as long as it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from time import monotonic
from typing import Any, Literal, NamedTuple, get_args

from b1k_envs.base import (
    Checks,
    Env,
    Float32Array,
    GoalStatus,
    Observation,
    ProgressVariant,
    Start,
    StepResult,
    VideoFrame,
    Worlds,
)

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
"""Context manager around a call into the simulator."""


@dataclass(frozen=True, kw_only=True)
class CallLimits:
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
        """Return the limit of a phase [s]."""
        limit: float = getattr(self, f"{phase}_s")
        return limit


class Overdue(NamedTuple):
    """A call that has passed its deadline."""

    phase: Phase
    limit_s: float

    def words(self) -> str:
        """Return what happened, in a sentence."""
        return (
            f"the simulator hangs: {_WORDS[self.phase]} took longer than {self.limit_s:g} s "
            "(watchdog)"
        )


class Watch:
    """The shared memory of one worker: the worker writes, its parent reads.

    It can be passed only among the arguments of a process that is being started.
    """

    def __init__(self, limits: CallLimits, context: BaseContext) -> None:
        self.limits = limits
        self._cell: Any = context.RawArray("d", 3)  # deadline (0: none), limit, index of the phase

    def expect(self, phase: Phase) -> None:
        """Set the deadline of a call."""
        limit = self.limits.of(phase)
        # The deadline last: it makes the other two valid.
        self._cell[1] = limit
        self._cell[2] = _PHASES.index(phase)
        self._cell[0] = monotonic() + limit

    def clear(self) -> None:
        """Remove the deadline."""
        self._cell[0] = 0.0

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Put `expect` and `clear` around a call; a `Guard`."""
        self.expect(phase)
        try:
            yield
        finally:
            self.clear()

    def overdue(self, now: float) -> Overdue | None:
        """Return the call that has passed its deadline by `now`, or None."""
        seen = tuple(self._cell)
        deadline, limit, index = seen
        if deadline == 0.0 or now < deadline or tuple(self._cell) != seen:
            return None  # unequal: the call returned while we were reading
        return Overdue(_PHASES[int(index)], limit)


class WatchedEnv(Env):
    """An env with a guard around every call."""

    def __init__(self, env: Env, guard: Guard) -> None:
        self._env = env
        self._guard = guard
        self.info = env.info

    def reset(self, instance: int, rollout: int, seed: int) -> None:
        """See `Env`."""
        with self._guard("reset"):
            self._env.reset(instance, rollout, seed)

    def step(self, action: Float32Array) -> StepResult:
        """See `Env`."""
        with self._guard("step"):
            return self._env.step(action)

    def observe(self, *, images: bool = True) -> Observation:
        """See `Env`."""
        with self._guard("observe"):
            return self._env.observe(images=images)

    def goal(self) -> GoalStatus:
        """See `Env`."""
        with self._guard("observe"):
            return self._env.goal()

    def subgoals(self) -> dict[str, bool]:
        """See `Env`."""
        with self._guard("observe"):
            return self._env.subgoals()

    def checks(self, variant: ProgressVariant) -> Checks:
        """See `Env`."""
        with self._guard("observe"):
            return self._env.checks(variant)

    def frame(self, *, light: bool = False) -> VideoFrame:
        """See `Env`."""
        with self._guard("observe"):
            return self._env.frame(light=light)

    def privileged_state(self) -> Any:  # noqa: ANN401 - each simulator has its own type
        """See `Env`."""
        with self._guard("observe"):
            return self._env.privileged_state()

    def close(self) -> None:
        """See `Env`."""
        with self._guard("close"):
            self._env.close()


class WatchedWorlds(Worlds):
    """Worlds with a guard around every call; a call has one limit for all its envs."""

    def __init__(self, worlds: Worlds, guard: Guard) -> None:
        super().__init__([WatchedEnv(env, guard) for env in worlds.envs])
        self.independent = worlds.independent
        self._worlds = worlds
        self._guard = guard

    def reset(self, starts: Mapping[int, Start]) -> dict[int, Exception | None]:
        """See `Worlds`."""
        with self._guard("reset"):
            return self._worlds.reset(starts)

    def step(self, actions: Mapping[int, Float32Array]) -> dict[int, StepResult | Exception]:
        """See `Worlds`."""
        with self._guard("step"):
            return self._worlds.step(actions)

    def close(self) -> None:
        """See `Worlds`."""
        with self._guard("close"):
            self._worlds.close()
