"""Policies that fail in one known way each, made from the expert, and the run they are kept in.

Each is a real policy in the real twin, run by the real runner; what it does wrong is decided on
the simulator's truth, which the labels never see.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from twin_bench import GLOVES, TASK, episode_info, make_twin

from b1k_envs.base import Worlds, make_several
from b1k_envs.mujoco_twin.env import TwinEnv
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.states import GloveTruth
from b1k_envs.tasks.table import human_stats
from b1k_eval.loop.strategy import build_chunking
from b1k_eval.records.episode import EpisodeKey, EpisodeRecord
from b1k_eval.records.loading import RunData, read_run_data
from b1k_eval.records.store import open_run
from b1k_eval.run.episode import Assembly
from b1k_eval.run.executor import Assignment, Executor
from b1k_policies.base import ActionChunk, Policy
from b1k_policies.baselines import HoldPolicy
from b1k_policies.expert import ExpertPolicy

OPEN, CLOSED = 1.0, -1.0

When = Callable[[GloveTruth], bool]


class Stops(ExpertPolicy):
    """The expert until something holds; from then on it stands where it is.

    Attributes:
        stopped_at: Control step from which it stands.
    """

    def __init__(
        self,
        when: When,
        *,
        grip: float = OPEN,
        belief: Callable[[GloveTruth], GloveTruth] = lambda truth: truth,
    ) -> None:
        super().__init__()
        self.when, self.grip, self.belief = when, grip, belief
        self.stopped_at: int | None = None
        self.row: Any = None

    def bind(self, privileged_state):
        """What it believes of the world may be false."""
        super().bind(lambda: self.belief(privileged_state()))

    def reset(self, episode):
        super().reset(episode)
        self.stopped_at = self.row = None

    def infer(self, observation):
        chunk = super().infer(observation)
        truth = self._read()
        if self.stopped_at is None and self.when(truth):
            self.stopped_at = truth.step
            self.row = chunk.actions[0].copy()
            self.row[0:3] = 0.0
            self.row[3:7] = truth.trunk
            self.row[7:14] = truth.arms["left"]
            self.row[14] = self.grip
        if self.row is None:
            return chunk
        rows = np.tile(self.row, (self.chunk_length, 1)).astype(np.float32)
        return ActionChunk(actions=rows, skill=chunk.skill, progress=chunk.progress)


class Breaks(ExpertPolicy):
    """The expert until a step; then it raises, or returns what is no number."""

    def __init__(self, at_step: int, *, nan: bool = False) -> None:
        super().__init__()
        self.at_step, self.nan = at_step, nan

    def infer(self, observation):
        chunk = super().infer(observation)
        if observation.step < self.at_step:
            return chunk
        if self.nan:
            return ActionChunk(actions=np.full_like(chunk.actions, np.nan))
        raise ValueError("out of memory, say")


class DrivesAway(HoldPolicy):
    """Backs away from the washer for a second and a half and stays there."""

    name = "drives away"

    def infer(self, observation):
        rows = super().infer(observation).actions.copy()
        if observation.step < 45:
            rows[:, 0] = -0.5
        return ActionChunk(actions=rows)


# --- what goes wrong ------------------------------------------------------------------------


def holds(glove: str, *, lifted: bool = False) -> When:
    return lambda t: t.held["left"] == glove and (not lifted or t.positions[glove][1] < 1.6)


def mid_room(truth: GloveTruth) -> bool:
    glove = truth.positions[GLOVES[0]]
    return truth.held["left"] == GLOVES[0] and glove[1] < 1.2


def before_the_drum(truth: GloveTruth) -> bool:
    """The first glove is right in front of the washer, and not in it."""
    glove, washer = truth.positions[GLOVES[0]], truth.positions["washer"]
    near = np.hypot(*(glove - washer)[:2]) < 0.70
    return bool(truth.held["left"] == GLOVES[0] and near)


def at_the_washer(truth: GloveTruth) -> bool:
    return bool(truth.positions["washer"][0] - truth.base[0] < 1.08)


def let_go_inside(*gloves: str) -> When:
    return lambda t: (
        all(t.in_washer[g] for g in gloves) and t.held["left"] is None and t.base[0] < 0.5
    )


def both_inside_and(door: Callable[[float], bool]) -> When:
    return lambda t: all(t.in_washer.values()) and t.held["left"] is None and door(t.door_angle)


def one_is_enough(truth: GloveTruth) -> GloveTruth:
    """With the first glove inside it takes the second for washed."""
    if truth.in_washer[GLOVES[0]] and truth.held["left"] is None:
        second = {**truth.in_washer, GLOVES[1]: True}
        return replace(truth, in_washer=second)
    return truth


def door_looks_shut(truth: GloveTruth) -> GloveTruth:
    """With both gloves inside it takes the open door for a shut one."""
    if all(truth.in_washer.values()) and truth.held["left"] is None:
        return replace(truth, door_angle=0.0)
    return truth


@dataclass(frozen=True)
class Script:
    """A way to fail.

    Attributes:
        policy: Makes the policy.
        label: What it is to be called; None for a success.
        max_steps: Time limit.
    """

    policy: Callable[[], Policy]
    label: str | None
    max_steps: int


def stops(when: When, grip: float = OPEN, **more: Any) -> Callable[[], Policy]:
    return partial(Stops, when, grip=grip, **more)


SCRIPTS: Mapping[str, Script] = {
    "succeeds": Script(ExpertPolicy, None, 1500),
    "never moves": Script(HoldPolicy, "never_moved", 200),
    "drives away": Script(DrivesAway, "never_reached_washer", 200),
    "stops before the washer": Script(stops(at_the_washer), "door_not_opened", 300),
    "opens and stops": Script(
        stops(lambda t: t.door_angle > 1.5 and t.held["left"] is None and t.base[0] < 0.3),
        "never_picked_up",
        450,
    ),
    "lets go at once": Script(stops(holds(GLOVES[0])), "grasp_lost", 600),
    "drops the glove on the way": Script(stops(mid_room), "glove_dropped", 700),
    "lets go before the drum": Script(stops(before_the_drum), "placed_outside", 750),
    "holds the glove for ever": Script(
        stops(holds(GLOVES[0], lifted=True), CLOSED), "not_placed", 700
    ),
    "stops after one glove": Script(stops(let_go_inside(GLOVES[0])), "one_glove_only", 800),
    "washes one glove only": Script(
        stops(lambda t: t.washer_on, belief=one_is_enough), "one_glove_only", 1060
    ),
    "leaves the door open": Script(stops(let_go_inside(*GLOVES)), "not_closed", 1200),
    "leaves the door ajar": Script(
        stops(both_inside_and(lambda angle: angle < 0.5), CLOSED), "not_closed", 1350
    ),
    "presses with the door open": Script(
        stops(lambda t: t.step >= 1080, CLOSED, belief=door_looks_shut), "not_closed", 1300
    ),
    "never presses": Script(
        stops(both_inside_and(lambda angle: angle < 0.05), CLOSED), "not_pressed", 1400
    ),
    "runs out of time": Script(ExpertPolicy, "time_out_while_working", 800),
    "raises": Script(partial(Breaks, 300), "policy_fault", 500),
    "returns no numbers": Script(partial(Breaks, 90, nan=True), "policy_fault", 500),
}
"""By what is done wrong."""


class ScriptedRuns:
    """Runs the scripts in one twin, each when it is first asked for and then never again."""

    def __init__(self, made_once: Callable[[str, Callable[[Path], None]], Path]) -> None:
        self._made_once = made_once
        self._env = make_twin()
        self._runs: dict[str, RunData] = {}

    def __getitem__(self, name: str) -> RunData:
        """A run of one episode, as read back from its folder."""
        if name not in self._runs:
            folder = f"script-{name.replace(' ', '-')}"
            self._runs[name] = read_run_data(self._made_once(folder, partial(self._make, name)))
        return self._runs[name]

    def _make(self, name: str, path: Path) -> None:
        store = open_run(path, run_record(), resume=False)
        folder = store.begin(EpisodeKey(TASK.name, 0, 0))
        store.commit(folder, _execute(self._env, SCRIPTS[name], folder))
        store.close()

    def close(self) -> None:
        self._env.close()


def run_record(**settings: Any) -> dict[str, Any]:
    """What run.json needs to have."""
    asked = {"task": TASK.name, "instances": [0], "rollouts": 1, **settings}
    policy = {"name": "scripted", "chunk_length": 30}
    return {
        "format": 1,
        "identity": {"settings": asked, "policy": policy, "privileged": True},
        "sessions": [{"started_at": "now"}],
    }


def _execute(env: TwinEnv, script: Script, folder: Path) -> EpisodeRecord:
    env._max_steps = script.max_steps  # one world for all: to build it takes longer than a script
    assembly = Assembly(
        make_worlds=partial(make_several, make_twin),
        make_policy=script.policy,
        make_chunking=partial(build_chunking, "receding", 10, None, None, 0),
        human=human_stats(TASK),
        max_steps=script.max_steps,
    )
    executor = Executor(assembly, worlds=Worlds([env]))
    heard: list[Any] = []
    executor.run_batch([Assignment(episode_info(), folder)], lambda _, what: heard.append(what))
    record: dict[str, Any] = heard[-1].record
    return record
