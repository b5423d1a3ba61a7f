"""The interface between a simulator and everything above it.

Stepping and observing are two calls because a policy that executes ten actions of a chunk needs
one picture, not ten. An Observation has nothing privileged; a scripted expert reads
`Env.privileged_state`, which marks the run.

Conventions: lengths in m, angles in rad, time in s; world and base frames are right-handed with
z up, x forward; poses are 4x4 `float32` matrices taking frame coordinates to base coordinates;
camera frames have USD/OpenGL axes (+x right, +y up, looking along -z), quaternions are x, y, z, w.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

ProtocolYear = Literal["2025", "2026"]
"""Year of the BEHAVIOR challenge, whose rules and evaluator are in force."""
Sim = Literal["mujoco", "omnigibson"]
Split = Literal["train", "public-test", "hidden-test"]
View = Literal["head", "left_wrist", "right_wrist"]
ProgressVariant = Literal["links-fraction", "roots-symbol"]
"""How task progress decides `near` and "opened": see `tasks.task_progress`."""

VIEWS: tuple[View, ...] = ("head", "left_wrist", "right_wrist")
"""Order of the views in every array, unless a contract says otherwise."""

T = TypeVar("T")

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)  # eq: arrays have no single truth value
class Observation:
    """What a policy may see at one control step. Arrays are read-only.

    Attributes:
        images: Per view, uint8 [H, W, 3], RGB, row 0 on top.
        camera_to_base: Per view, float32 [4, 4], camera frame (USD axes) to robot base frame, at
            the time of the picture in `images`.
        cam_rel_poses: float32 [21], the same poses as the evaluator records them: blocks
            left_wrist, right_wrist, head, each position [m] and quaternion x, y, z, w.
        proprio: float32 [256] (2025) or [61] (2026), slices in `r1pro.PROPRIO_LAYOUTS`.
        protocol: Year of the layout of `proprio`.
        task_index: Index of the task in the challenge table.
        step: Control steps since reset.
        time: Simulated time since reset [s].
        depth: Per view of `images`, float32 [H, W], distance along the camera's axis [m] (as
            OmniGibson's `depth_linear`), inf where nothing is. None if the env has no depth.
        focal: Factor on the focal lengths that a policy is told; only a disturbance makes it
            another than 1. It is not sent to servers, which have the cameras' table.
    """

    images: Mapping[View, UInt8Array]
    camera_to_base: Mapping[View, Float32Array]
    cam_rel_poses: Float32Array
    proprio: Float32Array
    protocol: ProtocolYear
    task_index: int
    step: int
    time: float
    depth: Mapping[View, Float32Array] | None = None
    focal: float = 1.0


@dataclass(frozen=True, kw_only=True)
class GoalStatus:
    """State of the BDDL goal.

    Attributes:
        predicates: Truth of each literal of the ground goal options by name, e.g.
            `not covered boxing_glove.n.01_1 dust.n.01_1`.
        q_score: Official partial score in [0, 1]; see `goals.GoalTracker`.
        success: Whole goal satisfied.
    """

    predicates: Mapping[str, bool]
    q_score: float
    success: bool


class Checks(NamedTuple):
    """The checks of the public metric task progress (`tasks.task_progress`) in one state.

    Attributes:
        truths: By name whether each holds now, in the table's order. Empty if no public table has
            the task, or one of its checks cannot be told here.
        untold: Why one cannot be told, as a remark; else None.
    """

    truths: Mapping[str, bool] = MappingProxyType({})
    untold: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class AgentPositions:
    """Positions for the official AgentMetric, float64 [3] each, world frame [m]."""

    base: Float64Array
    left_eef: Float64Array
    right_eef: Float64Array


@dataclass(frozen=True, kw_only=True, eq=False)
class StepResult:
    """Result of one control step.

    Attributes:
        step: Actions applied since reset, including this one.
        time: Simulated time since reset [s].
        terminated: The goal is satisfied (termination condition `predicate`).
        truncated: The time limit was reached (termination condition `timeout`). As in the
            official evaluator the counter is compared before it is incremented, so an episode
            that never succeeds lasts max_steps + 1 actions. Both flags can be true together.
        agent: Positions after the step.
    """

    step: int
    time: float
    terminated: bool
    truncated: bool
    agent: AgentPositions


@dataclass(frozen=True, kw_only=True)
class EnvInfo:
    """Description of an Env for run.json.

    Attributes:
        sim: Simulator.
        sim_version: Version of the simulator package.
        protocol: Year whose rules are in force.
        task: Task name.
        task_index: Task index.
        control_hz: Control steps per simulated second.
        max_steps: Time limit, as given to the `timeout` condition.
        settings: Everything else that could change a result (JSON values).
    """

    sim: Sim
    sim_version: str
    protocol: ProtocolYear
    task: str
    task_index: int
    control_hz: float
    max_steps: int
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoFrame:
    """A video picture that may be rendered later, once, on the recorder's thread.

    Attributes:
        redeem: Returns the views, uint8 [H, W, 3] RGB each, at any size.
        holds_pictures: Whether the pictures exist already, so that waiting frames cost memory;
            otherwise it is a ticket of about a kilobyte.
    """

    redeem: Callable[[], Mapping[View, UInt8Array]]
    holds_pictures: bool


class Env(ABC):
    """One robot, one task, one episode at a time.

    `step` raises `ActionError` on a malformed action (the policy's fault); all other failures
    raise `EnvError` or a subclass (not the policy's fault).
    """

    info: EnvInfo

    @abstractmethod
    def reset(self, instance: int, rollout: int, seed: int) -> None:
        """Put the world into an initial state, which depends on the instance alone.

        Args:
            instance: Index within the env's split.
            rollout: Number of the attempt on this instance.
            seed: Seed for anything the simulator draws.
        """

    @abstractmethod
    def step(self, action: Float32Array) -> StepResult:
        """Apply one action, float [23] (columns in `r1pro`), for one control step. No rendering."""

    @abstractmethod
    def observe(self, *, images: bool = True) -> Observation:
        """Render and read the current state; a second call at the same step costs nothing.

        Args:
            images: False skips rendering and leaves `images` empty.
        """

    @abstractmethod
    def goal(self) -> GoalStatus:
        """Evaluate the BDDL goal in the current state."""

    @abstractmethod
    def subgoals(self) -> dict[str, bool]:
        """Return the current truth of each sub-goal, in the order of `subgoals.SUBGOALS`."""

    def checks(self, variant: ProgressVariant) -> Checks:
        """Evaluate the checks of the task's progress in the current state; here there are none.

        Args:
            variant: How `near` and "opened" are decided.
        """
        return Checks()

    @abstractmethod
    def frame(self, *, light: bool = False) -> VideoFrame:
        """Return a picture of the current state for the video.

        Args:
            light: Prefer a ticket over pictures that `observe` has made. Tickets are small, so any
                number may wait and the loop is never held up by the video.
        """

    @abstractmethod
    def privileged_state(self) -> Any:  # noqa: ANN401 - each simulator has its own type
        """Return a read-only copy of the simulator's state, for scripted experts only."""

    @abstractmethod
    def close(self) -> None:
        """Release windows, contexts and memory; safe to call twice."""


Start = tuple[int, int, int]
"""What an env is reset to: instance, rollout, seed."""


class Worlds:
    """The envs of one process, reset and stepped together, on one thread.

    This class serves envs that share nothing. A simulator that moves all its envs with one call
    overrides `reset`, `step` and `close`.

    Attributes:
        envs: The envs, for reading only; reset and step them through the methods below.
        independent: Whether one can be reset while the others are in the middle of an episode.
    """

    envs: Sequence[Env]
    independent: bool = True

    def __init__(self, envs: Sequence[Env]) -> None:
        """Own these envs from now on."""
        self.envs = tuple(envs)

    def reset(self, starts: Mapping[int, Start]) -> dict[int, Exception | None]:
        """Reset envs; see `Env.reset`.

        Args:
            starts: By env index.

        Returns:
            By env index, an error that concerns this env alone, or None.

        Raises:
            Exception: An error that concerns all of them.
        """
        return {
            index: _tried(lambda i=index, s=start: self.envs[i].reset(*s))  # type: ignore[misc]
            for index, start in starts.items()
        }

    def step(self, actions: Mapping[int, Float32Array]) -> dict[int, StepResult | Exception]:
        """Apply one action to each of these envs; the robots of the others hold still.

        Args:
            actions: By env index; see `Env.step`.

        Returns:
            By env index, the result or an error that concerns this env alone.

        Raises:
            Exception: An error that concerns all of them.
        """
        return {
            index: _tried(lambda i=index, a=action: self.envs[i].step(a))  # type: ignore[misc]
            for index, action in actions.items()
        }

    def close(self) -> None:
        """Release everything; safe to call twice."""
        for env in self.envs:
            env.close()


def _tried(call: Callable[[], T]) -> T | Exception:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - returned to the caller, who raises it in one loop
        return error


def make_several(make_env: Callable[..., Env], count: int = 1, **options: Any) -> Worlds:  # noqa: ANN401
    """Build envs that share nothing; if one fails, those before it are closed."""
    with ExitStack() as made:
        envs = []
        for _ in range(count):
            envs.append(make_env(**options))
            made.callback(envs[-1].close)
        made.pop_all()
    return Worlds(envs)
