"""The twin as an Env: time, termination, score, and that only a washer earns it.

Semantics are those of OmniGibson's evaluator: termination conditions `timeout` and `predicate`
(tasks/behavior_task.py, termination_conditions/) and the q-score of metrics/task_metric.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from twin_bench import (
    FINGER_TIP,
    FORWARD,
    GLOVES,
    TASK,
    Bench,
    action,
    episode_info,
    make_twin,
    wild_actions,
)

from b1k_envs.errors import ActionError, EnvError, UsageError
from b1k_envs.mujoco_twin.env import TwinEnv
from b1k_envs.mujoco_twin.states import TwinStates
from b1k_envs.tasks.goals import GoalTracker
from b1k_envs.tasks.table import get_task
from b1k_policies.base import Policy
from b1k_policies.baselines import HoldPolicy, RandomPolicy, ZeroPolicy

PREDICATES = {f"not covered boxing_glove.n.01_{number} dust.n.01_1": number for number in (1, 2)}
WASHER = "washer.n.03_1"


@pytest.fixture(scope="module")
def world() -> Iterator[TwinEnv]:
    made = make_twin("2025")
    yield made
    made.close()


@pytest.fixture(scope="module")
def fresh() -> TwinEnv:
    """A world that nobody resets."""
    return make_twin()


@pytest.fixture
def bench(world: TwinEnv) -> Iterator[Bench]:
    made = Bench(world)
    yield made
    made.restore()


# --- construction and order of calls --------------------------------------------------------


def test_a_task_without_a_twin_scene_is_refused_by_name():
    with pytest.raises(
        UsageError,
        match=r"^task 5 \(setting_mousetraps\) has no scene in the MuJoCo twin, which has: "
        r"turning_on_radio, clean_boxing_gloves\. All "
        r"other tasks need OmniGibson \(--sim omnigibson\)$",
    ):
        TwinEnv(get_task(5), protocol="2026", split="train", max_steps=10)


@pytest.mark.slow
def test_a_scene_without_an_object_of_the_problem_is_refused_at_construction(
    monkeypatch: pytest.MonkeyPatch,
):
    present = {
        "agent.n.01_1",
        "boxing_glove.n.01_1",
        "countertop.n.01_1",
        "dust.n.01_1",
        "floor.n.01_1",
        WASHER,
    }
    monkeypatch.setattr(TwinStates, "objects", lambda _self: present)
    with pytest.raises(
        EnvError,
        match=r"^the scene lacks boxing_glove.n.01_2 of the BDDL problem of clean_boxing_gloves; "
        r"it has agent.n.01_1, boxing_glove.n.01_1, countertop.n.01_1, dust.n.01_1, floor.n.01_1, "
        r"washer.n.03_1. A goal on objects that are not there cannot be scored$",
    ):
        make_twin()


def test_the_real_scene_lacks_nothing_of_the_problem(world: TwinEnv):
    tracker = GoalTracker(TASK.name, world._states)
    assert set(tracker.predicates) == set(PREDICATES)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda env: env.step(action()), "step was called before reset"),
        (lambda env: env.observe(images=False), "observe was called before reset"),
        (lambda env: env.frame(), "frame was called before reset"),
        (
            lambda env: env.goal(),
            r"status of the goal of clean_boxing_gloves was asked before start\(\)",
        ),
    ],
    ids=["step", "observe", "frame", "goal"],
)
def test_nothing_works_before_the_first_reset(fresh: TwinEnv, call, text: str):
    with pytest.raises(EnvError, match=f"^{text}$"):
        call(fresh)


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (np.zeros(22, dtype=np.float32), r"an action must have shape \[23\], got \[22\]"),
        (np.zeros(23, dtype=np.int64), "an action must be floating point, got int64"),
        (np.full(23, np.nan, dtype=np.float32), r"action\[0\] is nan"),
        (np.full(23, np.inf, dtype=np.float32), r"action\[0\] is inf"),
    ],
)
def test_a_malformed_action_is_the_policys_fault_and_moves_nothing(bench: Bench, bad, text: str):
    before = bench.data.qpos.copy()
    with pytest.raises(ActionError, match=f"^{text}$"):
        bench.env.step(bad)
    np.testing.assert_array_equal(bench.data.qpos, before)
    assert bench.env.step(action()).step == 1


@pytest.mark.parametrize("field", ["qpos", "qvel"])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_physics_that_diverged_is_an_error_and_never_a_fresh_start(
    world: TwinEnv, field: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """MuJoCo answers a NaN with a silent reset of the simulation, which must not be scored."""
    monkeypatch.chdir(tmp_path)  # for MuJoCo's own log
    world.reset(0, 0, 0)
    world.step(action())
    getattr(world._data, field)[world._model.joint("left_arm_joint3").qposadr[0]] = np.nan
    try:
        with pytest.raises(EnvError, match=r"^the physics diverged at step 1$"):
            world.step(action())
    finally:
        world.reset(0, 0, 0)
    assert world.step(action()).step == 1, "a reset heals it"


@pytest.mark.slow
def test_the_info_says_what_was_applied():
    for protocol, window in (("2025", 6), ("2026", 9)):
        info = make_twin(protocol, split="train", max_steps=123).info
        assert (info.sim, info.protocol, info.task, info.task_index) == (
            "mujoco",
            protocol,
            "clean_boxing_gloves",
            31,
        )
        assert (info.control_hz, info.max_steps) == (30.0, 123)
        assert info.settings["split"] == "train"
        assert info.settings["grasp_window_steps"] == window
        assert info.settings["base_mass_kg"] == 250.0


# --- time -----------------------------------------------------------------------------------


@pytest.mark.parametrize("max_steps", [0, 1, 7])
def test_an_episode_that_never_succeeds_lasts_max_steps_and_one_action(max_steps: int):
    env = make_twin(max_steps=max_steps)
    env.reset(0, 0, 0)
    flags = [env.step(action()).truncated for _ in range(max_steps + 1)]
    assert flags == [False] * max_steps + [True]


def test_the_limit_counts_from_the_last_reset():
    env = make_twin(max_steps=3)
    for _ in range(2):
        env.reset(0, 0, 0)
        assert [env.step(action()).truncated for _ in range(4)] == [False, False, False, True]


def test_steps_and_seconds_count_at_30_hz(bench: Bench):
    assert bench.env.observe(images=False).step == 0
    results = [bench.env.step(action()) for _ in range(3)]
    assert [r.step for r in results] == [1, 2, 3]
    assert [r.time for r in results] == pytest.approx([1 / 30, 2 / 30, 3 / 30])
    assert bench.data.time == pytest.approx(3 / 30), "simulated time since reset"
    seen = bench.env.observe(images=False)
    assert (seen.step, seen.time) == (3, pytest.approx(0.1))


def test_a_step_reports_where_base_and_hands_are(bench: Bench):
    agent = bench.env.step(action(base=(1.0, 0.0, 0.0))).agent
    np.testing.assert_array_equal(agent.base, bench.body("base_link"))
    np.testing.assert_array_equal(agent.left_eef, bench.hand("left")[0])
    np.testing.assert_array_equal(agent.right_eef, bench.hand("right")[0])
    kept = agent.base.copy()
    bench.env.step(action(base=(1.0, 0.0, 0.0)))
    np.testing.assert_array_equal(agent.base, kept, "a result must not change afterwards")


# --- observing ------------------------------------------------------------------------------


def test_without_images_nothing_is_rendered_and_the_rest_is_there(bench: Bench):
    seen = bench.env.observe(images=False)
    assert dict(seen.images) == {}
    assert seen.proprio.shape == (256,)
    assert set(seen.camera_to_base) == {"head", "left_wrist", "right_wrist"}


def test_a_picture_is_rendered_once_per_step_and_anew_after_it(bench: Bench):
    first, second = (bench.env.observe().images["head"] for _ in range(2))
    assert second is first
    assert not first.flags.writeable
    bench.env.step(action(base=(0.0, 0.0, 1.0)))
    third = bench.env.observe().images["head"]
    assert third is not first
    assert (third != first).any()


def test_the_truth_is_a_copy(bench: Bench):
    """Writing into what the expert was given must not reach the simulation."""
    before = bench.data.qpos.copy(), bench.data.xpos.copy()
    truth = bench.env.privileged_state()
    for array in (
        truth.base,
        truth.trunk,
        *truth.arms.values(),
        *truth.positions.values(),
        *truth.rotations.values(),
    ):
        if array.flags.writeable:
            array[...] = 7.0
    np.testing.assert_array_equal(bench.data.qpos, before[0])
    np.testing.assert_array_equal(bench.data.xpos, before[1])


def test_the_truth_is_what_the_simulation_holds(bench: Bench):
    bench.weightless()
    bench.pose_robot((-0.4, -0.3, 0.6), left=FORWARD["left"], right=FORWARD["right"])
    bench.door(0.7)
    bench.glove_into_drum(GLOVES[1])
    bench.states.dust_counts[GLOVES[1]] = 0
    truth = bench.env.privileged_state()
    np.testing.assert_allclose(truth.base, (-0.4, -0.3, 0.6))
    np.testing.assert_allclose(truth.arms["left"], FORWARD["left"])
    np.testing.assert_allclose(truth.arms["right"], FORWARD["right"])
    np.testing.assert_allclose(truth.positions[GLOVES[0]], bench.body(GLOVES[0]))
    np.testing.assert_allclose(truth.rotations[GLOVES[1]], bench.turn(GLOVES[1]))
    assert truth.door_angle == pytest.approx(0.7)
    assert truth.in_washer == {GLOVES[0]: False, GLOVES[1]: True}
    assert truth.dusty == {GLOVES[0]: True, GLOVES[1]: False}
    assert truth.held == {"left": None, "right": None}
    assert not truth.washer_on


# --- the score ------------------------------------------------------------------------------


class Laundry:
    """Presses the real button with the real finger; what it does not test it does by hand."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.scores: list[float] = []
        self.results = []

    def step(self, **parts) -> None:
        parts = {"left": FORWARD["left"], "grip_left": -1.0, **parts}
        self.results.append(self.bench.env.step(action(**parts)))
        self.scores.append(self.bench.env.goal().q_score)

    def load(self, glove: str, x: float = 0.0) -> None:
        """Stand back, open, put the glove in, close."""
        bench = self.bench
        bench.fingers("left", 0.0)
        bench.pose_robot((0.0, 0.0, 0.0), left=FORWARD["left"])
        hand, _ = bench.hand()
        button = bench.body("washer_button") + [-0.018, 0.0, 0.0]
        bench.pose_robot(
            (button[0] - hand[0] - FINGER_TIP - 0.05, button[1] - hand[1], 0.0),
            left=FORWARD["left"],
        )
        bench.door(1.5)
        for _ in range(3):
            self.step()
        bench.glove_into_drum(glove, x=x)
        bench.door(0.0)
        for _ in range(15):
            self.step()

    def press(self) -> None:
        """Drive the finger onto the button and away again."""
        for _ in range(90):
            was_on = self.bench.states.toggle.on
            self.step(base=(0.1, 0.0, 0.0))
            if self.bench.states.toggle.on and not was_on:
                break
        else:
            raise AssertionError("the button was never pressed")
        if not self.results[-1].terminated:
            for _ in range(30):
                self.step(base=(-0.2, 0.0, 0.0))


def test_both_gloves_in_one_wash_go_from_0_to_1(bench: Bench):
    laundry = Laundry(bench)
    laundry.load(GLOVES[0], x=0.08)
    laundry.load(GLOVES[1], x=-0.14)
    assert [
        name for name, true in bench.env.subgoals().items() if "in_washer" in name and true
    ] == [
        "glove_1_in_washer",
        "glove_2_in_washer",
    ]
    laundry.press()
    assert set(laundry.scores[:-1]) == {0.0}
    assert laundry.scores[-1] == 1.0
    assert [r.terminated for r in laundry.results] == [False] * (len(laundry.results) - 1) + [True]
    goal = bench.env.goal()
    assert goal.success
    assert dict(goal.predicates) == dict.fromkeys(PREDICATES, True)


@pytest.mark.parametrize("first", [0, 1])
def test_one_glove_at_a_time_goes_from_0_to_half_to_1(bench: Bench, first: int):
    laundry = Laundry(bench)
    laundry.load(GLOVES[first], x=0.08)
    laundry.press()
    goal = bench.env.goal()
    assert (goal.q_score, goal.success) == (0.5, False)
    assert {PREDICATES[name]: true for name, true in goal.predicates.items()} == {
        first + 1: True,
        2 - first: False,
    }
    laundry.load(GLOVES[1 - first], x=-0.14)
    laundry.press()
    assert laundry.scores == sorted(laundry.scores)
    assert sorted(set(laundry.scores)) == [0.0, 0.5, 1.0]
    assert laundry.results[-1].terminated
    assert bench.env.goal().success


def test_opening_after_the_first_wash_switches_the_washer_off(bench: Bench):
    laundry = Laundry(bench)
    laundry.load(GLOVES[0])
    laundry.press()
    assert bench.env.privileged_state().washer_on
    bench.door(1.5)
    laundry.step()
    assert not bench.env.privileged_state().washer_on
    bench.door(0.0)
    laundry.step()
    assert not bench.env.privileged_state().washer_on


def test_gloves_in_a_closed_washer_that_never_ran_earn_nothing(bench: Bench):
    laundry = Laundry(bench)
    laundry.load(GLOVES[0], x=0.08)
    laundry.load(GLOVES[1], x=-0.14)
    assert set(laundry.scores) == {0.0}


def test_running_the_washer_empty_earns_nothing(bench: Bench):
    laundry = Laundry(bench)
    bench.put_glove(GLOVES[0], bench.body(GLOVES[0]), bench.turn(GLOVES[0]))
    bench.fingers("left", 0.0)
    bench.pose_robot((0.0, 0.0, 0.0), left=FORWARD["left"])
    hand, _ = bench.hand()
    button = bench.body("washer_button")
    bench.pose_robot((button[0] - hand[0] - 0.10, button[1] - hand[1], 0.0), left=FORWARD["left"])
    laundry.press()
    assert bench.env.subgoals()["washer_turned_on"]
    assert set(laundry.scores) == {0.0}


def test_success_in_the_step_of_the_time_limit_is_both(world: TwinEnv):
    """The two conditions are independent; success wins where both hold."""
    world.reset(0, 0, 0)
    limit = world._max_steps
    try:
        world._max_steps = 0
        for glove in GLOVES:
            world._states.dust_counts[glove] = 0
        result = world.step(action())
    finally:
        world._max_steps = limit
    assert (result.terminated, result.truncated) == (True, True)


def test_reset_takes_the_score_back(bench: Bench):
    for glove in GLOVES:
        bench.states.dust_counts[glove] = 0
    bench.env.step(action())
    assert bench.env.goal().q_score == 1.0
    bench.env.reset(0, 0, 0)
    goal = bench.env.goal()
    assert (goal.q_score, goal.success) == (0.0, False)
    assert dict(goal.predicates) == dict.fromkeys(PREDICATES, False)


def test_dust_that_came_back_is_scored_as_it_is_now(bench: Bench):
    """Goals are instantaneous: what was clean once earns nothing at the end."""
    bench.states.dust_counts[GLOVES[0]] = 0
    bench.env.step(action())
    assert bench.env.goal().q_score == 0.5
    bench.states.dust_counts[GLOVES[0]] = 1
    bench.env.step(action())
    assert bench.env.goal().q_score == 0.0


# --- policies that must not succeed ---------------------------------------------------------


def drive(env: TwinEnv, policy: Policy, instance: int, steps: int) -> float:
    """Highest q-score on the way, asked every 30 steps."""
    env.reset(instance, 0, 0)
    policy.reset(episode_info("2025", instance, seed=instance))
    best = 0.0
    while steps > 0:
        for row in policy.infer(env.observe(images=False)).actions[:steps]:
            result = env.step(row)
            assert not result.terminated
            best = max(best, env.goal().q_score)
        steps -= policy.chunk_length
    return best


BASELINES = [ZeroPolicy, HoldPolicy, RandomPolicy]


@pytest.mark.parametrize("kind", BASELINES)
def test_baselines_earn_nothing_in_300_steps(world: TwinEnv, kind: type[Policy]):
    assert drive(world, kind(), 0, 300) == 0.0


@pytest.mark.slow
def test_whoever_moves_at_random_earns_nothing_in_a_whole_episode(world: TwinEnv):
    assert drive(world, RandomPolicy(), 13, 12353) == 0.0


def test_wild_motion_never_breaks_the_physics(world: TwinEnv):
    """Five seconds of flailing: everything stays finite and in the room."""
    world.reset(2, 0, 0)
    for row in wild_actions(150, seed=8):
        world.step(row)
    assert np.isfinite(world._data.qpos).all()
    for glove in GLOVES:
        x, y, z = world._data.body(glove).xpos
        assert -2.3 < x < 2.1
        assert -2.2 < y < 2.5
        assert -0.1 < z < 2.0
