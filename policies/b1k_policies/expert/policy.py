"""The scripted expert of the twin: privileged, closed-loop, deterministic.

It emits the same 23-number actions as any policy, in chunks, through the same runner. It reads the
simulator's state and never changes it. At each inference it corrects its belief by the truth,
decides from the state of the world what to do, and rolls its own controller forward for a chunk.
A mishap, such as a missed grasp, is noticed at the next inference, and the stage is tried again.
What to do, and how, stands in the task's own module or folder, beside this file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np

from b1k_envs.base import Float64Array, Observation
from b1k_envs.errors import UsageError
from b1k_envs.mujoco_twin.truth import TwinTruth
from b1k_envs.tasks.described import TWIN_TASKS
from b1k_policies.base import ActionChunk, EpisodeInfo, PrivilegedPolicy, Skill
from b1k_policies.expert.belief import Belief, Command, wrap
from b1k_policies.expert.kinematics import ArmKinematics
from b1k_policies.expert.legs import OPEN, Leg, Stage, TaskExpert

CHUNK_LENGTH = 30  # one second
# The right arm is unused; here it is out of the way of the left one.
RIGHT_TUCKED = np.array([1.3, -0.15, 0.0, -1.7, 0.0, 0.0, 0.0])

_ARM_RATE, _TRUNK_RATE = 0.055, 0.028  # [rad] per control step
_POSITION_GAIN, _YAW_GAIN = 2.2, 2.5  # [1/s]
_YAW_LIMIT = 0.9  # [rad/s]


@dataclass(frozen=True, eq=False)
class ExpertMemory:
    """The expert's memory after one control step.

    Attributes:
        stage: The present stage; None before the first.
        leg: Index of the present leg; the number of legs when the stage is done.
        steps: Control steps spent in this leg.
        tries: How often the same stage has been started again.
        command: The last command.
        belief_velocity: Predicted base velocity in the world frame, float64 [3] [m/s, rad/s].
    """

    stage: Stage | None
    leg: int
    steps: int
    tries: int
    command: Command
    belief_velocity: Float64Array


class ExpertPolicy(PrivilegedPolicy):
    """See the module header."""

    name = "expert"

    def __init__(self, chunk_length: int = CHUNK_LENGTH) -> None:
        """Make an expert that plans so many steps ahead at each inference."""
        self.chunk_length = chunk_length
        self._arm = ArmKinematics("left")
        self._read: Callable[[], TwinTruth] | None = None
        self._task: TaskExpert | None = None
        self._memories: list[ExpertMemory] = []
        self._last_step = 0

    def bind(self, privileged_state: Callable[[], Any]) -> None:
        """Keep the function that reads the twin's truth."""
        self._read = privileged_state

    def reset(self, episode: EpisodeInfo) -> None:
        """Forget the previous episode.

        Raises:
            UsageError: The twin has no scene for the task, so the expert does not know it.
        """
        if episode.task not in TWIN_TASKS:
            raise UsageError(f"the expert only knows {', '.join(TWIN_TASKS)}, not {episode.task}")
        module = import_module(f"{__package__}.{episode.task}")
        self._task = module.make_expert(self._arm, episode.protocol)
        self._memories = []
        self._last_step = 0

    def infer(self, observation: Observation) -> ActionChunk:
        """Plan `chunk_length` steps from the truth at this step."""
        assert self._read is not None, "bind was not called"
        assert self._task is not None, "reset was not called"
        truth = self._read()
        memory = self._recall(truth)
        belief = self._task.believe(truth, memory.belief_velocity)
        memory = self._replan(memory, truth, belief)
        stage = memory.stage
        assert stage is not None
        said = stage.legs[memory.leg].skill
        rows: list[Float64Array] = []
        self._memories = []
        for _ in range(self.chunk_length):
            memory = self._next(memory, belief)
            rows.append(memory.command.row())
            belief = belief.advance(memory.command, self._arm)
            memory = replace(memory, belief_velocity=belief.velocity)
            self._memories.append(memory)
        self._last_step = truth.step
        return ActionChunk(
            actions=np.asarray(rows, dtype=np.float32),
            skill=Skill(name=said),
            progress=self._task.progress(truth),
        )

    def reconsider(self) -> None:
        """Make the stage that the next plan goes on with anew from the truth, at the same leg.

        A stage keeps what was decided when it began, such as the posture of a grasp. Only where a
        truth is made up has that to be decided again.
        """
        assert self._read is not None
        assert self._task is not None
        truth = self._read()
        memory = self._recall(truth)
        if memory.stage is not None:
            belief = self._task.believe(truth, memory.belief_velocity)
            built = self._task.build(memory.stage.key, belief, memory.tries)
            self._memories, self._last_step = [replace(memory, stage=built)], truth.step - 1

    @property
    def plan(self) -> tuple[ExpertMemory, ...]:
        """The memory after each row of the last chunk: which leg of which stage the row is of."""
        return tuple(self._memories)

    # --- memory -----------------------------------------------------------------------------

    def _recall(self, truth: TwinTruth) -> ExpertMemory:
        """Return the memory as of the last action that was executed.

        The runner may execute any number of a chunk's rows, so each row has a memory of its own.
        """
        # Outside the planned steps there is no memory, and the expert starts from the truth.
        executed = truth.step - self._last_step
        if self._memories and 1 <= executed <= len(self._memories):
            return self._memories[executed - 1]
        start = Command(
            velocity=np.zeros(3),
            trunk=truth.trunk,
            left=truth.arms["left"],
            right=truth.arms["right"],
            grip=OPEN,
        )
        return ExpertMemory(None, 0, 0, 0, start, np.zeros(3))

    def _replan(self, memory: ExpertMemory, truth: TwinTruth, belief: Belief) -> ExpertMemory:
        """Choose a stage anew when this one is done, has become pointless, or has failed."""
        stage = memory.stage
        if (
            stage is not None
            and memory.leg < len(stage.legs)
            and stage.valid(truth, memory.leg)
            and memory.steps <= stage.legs[memory.leg].patience
        ):
            return memory
        assert self._task is not None
        key = self._task.choose(truth)
        again = stage is not None and stage.key == key
        tries = memory.tries + 1 if again else 0
        built = self._task.build(key, belief, tries)
        return replace(memory, stage=built, leg=0, steps=0, tries=tries)

    # --- one control step -------------------------------------------------------------------

    def _next(self, memory: ExpertMemory, belief: Belief) -> ExpertMemory:
        stage = memory.stage
        assert stage is not None
        index, steps = memory.leg, memory.steps
        while index < len(stage.legs) - 1 and stage.legs[index].until(belief, steps):
            index, steps = index + 1, 0
        leg = stage.legs[min(index, len(stage.legs) - 1)]
        if index == len(stage.legs) - 1 and leg.until(belief, steps):
            index += 1  # done: keep the last leg's command until the next inference
        command = self._command(memory.command, leg, belief)
        return replace(memory, leg=index, steps=steps + 1, command=command)

    def _command(self, last: Command, leg: Leg, belief: Belief) -> Command:
        posture = leg.posture
        trunk, left = last.trunk, last.left
        if posture is not None:
            trunk, left = _towards(
                (last.trunk, last.left), (posture.trunk, posture.left), (_TRUNK_RATE, _ARM_RATE)
            )
        right = _towards((last.right,), (RIGHT_TUCKED,), (_ARM_RATE,))[0]
        return Command(_drive(leg, belief), trunk, left, right, leg.grip)


def _towards(
    here: tuple[Float64Array, ...], goal: tuple[Float64Array, ...], rates: tuple[float, ...]
) -> tuple[Float64Array, ...]:
    """Step all joints along one straight line in joint space, at the pace of the slowest group."""
    needed = max(
        float(np.abs(g - h).max()) / rate for h, g, rate in zip(here, goal, rates, strict=True)
    )
    fraction = 1.0 if needed <= 1.0 else 1.0 / needed
    return tuple(h + fraction * (g - h) for h, g in zip(here, goal, strict=True))


def _drive(leg: Leg, belief: Belief) -> Float64Array:
    """Return the base velocity in the robot frame towards the leg's target, float64 [3]."""
    target = leg.base(belief)  # asked at every step, as the target may move with the belief
    offset = target[:2] - belief.base[:2]
    distance = float(np.hypot(*offset))
    speed = leg.speed if leg.via else min(leg.speed, _POSITION_GAIN * distance)
    world = offset / distance * speed if distance > 1e-9 else np.zeros(2)
    cos, sin = np.cos(belief.base[2]), np.sin(belief.base[2])
    turn = np.clip(_YAW_GAIN * wrap(target[2] - belief.base[2]), -_YAW_LIMIT, _YAW_LIMIT)
    return np.array([cos * world[0] + sin * world[1], -sin * world[0] + cos * world[1], turn])
