"""What most adapters get wrong about steps, goals and several envs; see test_quirks.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from jobs import run_jobs
from naive_variants import assert_catches, put
from omnigibson_bench import Double, after_the_second_cleaned_a_glove, drive

from b1k_envs.errors import EnvError
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.layout import BDDL_BODIES
from b1k_envs.omnigibson import goal_status
from b1k_envs.omnigibson import world as world_module
from b1k_envs.omnigibson.dialects import dialect as dialect_module
from b1k_envs.omnigibson.dialects import dialect_2025, dialect_2026
from b1k_envs.omnigibson.dialects.dialect import Dialect, Stepped
from b1k_envs.omnigibson.dialects.dialect_2025 import Dialect2025
from b1k_envs.omnigibson.dialects.dialect_2026 import Dialect2026
from b1k_envs.omnigibson.goal_status import GoalRecord
from b1k_envs.omnigibson.observations import to_numpy
from b1k_envs.omnigibson.states import SimulatorStates
from b1k_envs.omnigibson.world import OmniGibsonWorld
from b1k_envs.r1pro import hold_action

# --- Steps and their end --------------------------------------------------------------------


def _lasts(double: Double, limit: int) -> Callable[[], None]:
    env = double.env(max_steps=limit)

    def check() -> None:
        env.reset(0, 0, 0)
        results = [env.step(drive(step)) for step in range(limit + 1)]
        assert [result.truncated for result in results] == [False] * limit + [True]
        assert not any(result.terminated for result in results)

    return check


def test_the_counter_must_be_advanced_where_the_step_is_put_together_by_hand(double):
    counter = {"2025": "_current_step", "2026": "_current_steps"}[double.protocol]
    kind = {"2025": Dialect2025, "2026": Dialect2026}[double.protocol]
    right = kind.step_unrendered

    def naive(self: Any, actions: Any) -> list[Stepped]:
        outcomes = right(self, actions)
        setattr(self._env, counter, getattr(self._env, counter) - 1)
        return outcomes

    assert_catches(_lasts(double, 3), put(kind, "step_unrendered", naive), EnvError)


@pytest.mark.slow
def test_the_limit_is_compared_before_the_step_is_counted(double):
    kind = {"2025": Dialect2025, "2026": Dialect2026}[double.protocol]
    right = kind.step_unrendered

    def naive(self: Any, actions: Any) -> list[Stepped]:
        (outcome,) = right(self, actions)
        return [outcome._replace(timed_out=self.episode_steps(0) >= 3)]

    assert_catches(_lasts(double, 3), put(kind, "step_unrendered", naive))


def test_a_timeout_is_done_but_not_terminated(double):
    def naive(done: Any) -> Stepped:
        any_done = any(one["done"] for one in done["termination_conditions"].values())
        return Stepped(success=any_done, timed_out=False)

    def variant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(dialect_2025, "outcome", naive)
        patch.setattr(dialect_2026, "outcome", naive)

    assert_catches(_lasts(double, 2), variant)


def test_success_at_the_limit_is_both(double):
    right = dialect_module.outcome
    env = double.env(max_steps=1)

    def naive(done: Any) -> Stepped:
        outcome = right(done)
        return outcome._replace(timed_out=outcome.timed_out and not outcome.success)

    def variant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(dialect_2025, "outcome", naive)
        patch.setattr(dialect_2026, "outcome", naive)

    def check() -> None:
        env.reset(0, 0, 0)
        env.step(drive(0))
        for glove in double.physics().states.dust_counts:
            double.physics().states.dust_counts[glove] = 0
        result = env.step(drive(1))
        assert (result.terminated, result.truncated) == (True, True)

    assert_catches(check, variant)


def test_results_of_2026_are_lists_also_for_one_env(double_2026):
    env = double_2026.env(render="every-step")

    def naive(self: Any, actions: Any) -> Any:
        observation, _, _, _, info = self._env.step(actions, n_render_iterations=1)
        return [dialect_module.outcome(info["done"])], [observation]

    def check() -> None:
        env.reset(0, 0, 0)
        env.step(drive(0))

    assert_catches(check, put(Dialect2026, "step_rendered", naive), EnvError)


# --- The goal -------------------------------------------------------------------------------


def test_success_cannot_be_asked_of_the_task_before_the_first_step(double):
    env = double.env()
    right = OmniGibsonWorld.goal_status

    def naive(self: Any, index: int, goal: Any, success: Any) -> Any:
        with self.guard.calling("evaluating the goal"):
            success = bool(np.ravel(self._env.task.success)[index])
        return right(self, index, goal, success)

    def check() -> None:
        env.reset(0, 0, 0)
        assert env.goal().success is False

    assert_catches(check, put(OmniGibsonWorld, "goal_status", naive), EnvError)


def _fraction(options: Any, gained: Any) -> float:
    return max(sum(name in gained for name in option) / len(option) for option in options)


class _PlainFraction(GoalRecord):
    """Whatever holds now counts, as the documentation's short formula has it."""

    def status(self, truths: Any, success: bool | None) -> Any:
        self._initial = dict.fromkeys(self._initial or {}, False)
        return super().status(truths, success)


class _OnlyMissing(GoalRecord):
    """Only what was missing at the start is in the denominator, as in early 2025 builds."""

    def start(self, truths: Any) -> None:
        super().start(truths)
        self._missing = [[n for n in option if not truths[n]] for option in self.options]

    def status(self, truths: Any, success: bool | None) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            score = lambda _, gained: _fraction(self._missing, gained)  # noqa: E731
            patch.setattr(goal_status, "partial_score", score)
            return super().status(truths, success)


@pytest.mark.parametrize("naive", [_PlainFraction, _OnlyMissing])
def test_what_held_at_the_start_is_in_the_denominator_and_earns_nothing(double, monkeypatch, naive):
    env = double.env()
    physics = type(double.physics())
    right = physics.control_step
    spoilt = [False]

    def one_clean_glove(self: Any) -> None:
        """The first glove is clean from the start; when spoilt, the second turns clean too."""
        right(self)
        first, second = self.states.dust_counts
        self.states.dust_counts[first] = 5 if spoilt[0] else 0
        if spoilt[0]:
            self.states.dust_counts[second] = 0

    monkeypatch.setattr(physics, "control_step", one_clean_glove)

    def check() -> None:
        spoilt[0] = False
        env.reset(0, 0, 0)
        assert env.goal().q_score == 0.0
        spoilt[0] = True
        env.step(drive(0))
        assert env.goal().q_score == 0.5

    assert_catches(check, put(world_module, "GoalRecord", naive))


@pytest.mark.slow
def test_a_literal_of_2026_answers_for_the_first_env_unless_the_task_is_asked(double_2026):
    def naive(self: Any, index: int) -> dict[str, bool]:
        (option,) = self._env.task.ground_goal_state_options
        return {" ".join(literal.terms): literal.evaluate() for literal in option}

    check = _second_env_cleans_a_glove(double_2026, lambda env: env.goal().q_score, (0.0, 0.5))
    assert_catches(check, put(Dialect2026, "literal_truths", naive))


@pytest.mark.slow
def test_the_scope_of_2026_is_one_per_env(double_2026):
    def naive(self: Any, index: int, instance: str) -> Any:
        return self._env.task.object_scopes[0][instance]

    check = _second_env_cleans_a_glove(
        double_2026, lambda env: env.subgoals()["glove_1_clean"], (False, True)
    )
    assert_catches(check, put(Dialect2026, "entity", naive))


def test_the_scope_of_2025_does_not_exist_in_2026(double_2026):
    env = double_2026.env()

    def naive(self: Any, index: int, instance: str) -> Any:
        return self._env.task.object_scope[instance].wrapped_obj

    def check() -> None:
        env.reset(0, 0, 0)
        env.subgoals()

    assert_catches(check, put(Dialect2026, "entity", naive), EnvError)


def test_what_a_scope_of_2025_wraps_is_not_what_a_hand_holds(double_2025, monkeypatch):
    """The wrapper passes questions on, so it looks like the object, and is not the same."""
    env = double_2025.env()
    glove = BDDL_BODIES["boxing_glove.n.01_1"]
    monkeypatch.setattr(
        type(double_2025.physics()), "held", lambda self, arm: glove if arm == "left" else None
    )

    def naive(self: Any, index: int, instance: str) -> Any:
        return self._env.task.object_scope[instance]

    def check() -> None:
        env.reset(0, 0, 0)
        told = env.subgoals()
        assert (told["glove_1_picked_up"], told["glove_2_picked_up"]) == (True, False)

    assert_catches(check, put(Dialect2025, "entity", naive))


def _second_env_cleans_a_glove(
    double: Double, read: Callable[[Any], Any], expected: tuple[Any, Any]
) -> Callable[[], None]:
    group = double.group(2)

    def check() -> None:
        assert after_the_second_cleaned_a_glove(double, group, read) == expected

    return check


# --- Sub-goals ------------------------------------------------------------------------------


def test_not_grasping_is_minus_one_and_truthy(double):
    env = double.env()

    def naive(self: Any, index: int, arm: str, entity: Any) -> bool:
        return bool(self.robot(index).is_grasping(arm, entity))

    def check() -> None:
        env.reset(0, 0, 0)
        assert env.subgoals()["glove_1_picked_up"] is False

    assert_catches(check, put(Dialect, "is_grasping", naive))


def test_an_open_door_does_not_bring_the_washer_nearer(double):
    env = double.env()

    def naive(self: Any, agent: str, instance: str) -> bool:
        low, high = map(to_numpy, self._entity(instance).aabb)
        base = self._dialect.base_pose(self._index)[:3, 3]
        gap = np.maximum(np.maximum(low - base, base - high), 0.0)[:2]
        return bool(np.linalg.norm(gap) <= 0.80)

    def variant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(SimulatorStates, "_near", naive)

    def check() -> None:
        env.reset(0, 0, 0)
        physics, states = double.physics(), double.twin()._states
        physics.set_door(1.5)
        corner = physics.box(["washer_door"])
        washer = physics.box(["washer"])
        outward = 0 if corner[0][0] < washer[0][0] - 0.1 else 1
        place = (washer[0] + washer[1]) / 2
        place[outward] = washer[0][outward] - 0.9
        physics.set_base(place, 0.0)
        assert states.holds("near", "agent.n.01_1", "washer.n.03_1") is False
        assert env.subgoals()["near_washer"] is False

    assert_catches(check, variant)


# --- Several envs ---------------------------------------------------------------------------


def _finished_env_keeps_still(double: Double) -> Callable[[], None]:
    group = double.group(2)

    def check() -> None:
        ends: list[Any] = []

        def short(env: Any) -> None:
            env.reset(0, 0, 0)
            for step in range(8):
                env.step(drive(step))
            proprio = env.observe(images=False).proprio
            for _ in range(25):
                env.step(hold_action(proprio, "2026", 0.4, -0.6))
            ends.append(double.physics(0).joint_positions())

        def long(env: Any) -> None:
            env.reset(1, 0, 0)
            for step in range(70):
                env.step(drive(step % 30))

        run_jobs(group, [short, long])
        moved = np.abs(double.physics(0).joint_positions() - ends[0])
        assert moved.max() < 1e-3

    return check


@pytest.mark.slow
def test_zeros_do_not_hold_a_robot_still(double_2026):
    zeros = np.zeros(23, dtype=np.float32)
    naive = put(world_module.r1pro, "hold_action", lambda *_: zeros)
    assert_catches(_finished_env_keeps_still(double_2026), naive)


@pytest.mark.slow
def test_holding_still_takes_the_last_gripper_commands(double_2026):
    def naive(proprio: Any, protocol: Any, *_: float) -> Any:
        return hold_action(proprio, protocol, 1.0, 1.0)

    check = _finished_env_keeps_still(double_2026)
    assert_catches(check, put(world_module.r1pro, "hold_action", naive))


@pytest.mark.slow
def test_the_scene_of_several_cannot_be_asked_for(double_2026):
    group = double_2026.group(2)

    def naive(self: Any, index: int) -> Any:
        return self._env.scene.object_registry("name", "robot_r1")

    def check() -> None:
        heard: list[EnvError] = []

        def job(env: Any) -> None:
            try:
                env.reset(0, 0, 0)
                env.step(drive(0))
            except EnvError as error:
                heard.append(error)

        run_jobs(group, [job, job])
        assert not heard

    assert_catches(check, put(Dialect2026, "robot", naive))
