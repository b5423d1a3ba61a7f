"""Assisted grasping on the real twin, against OmniGibson's rules written out as expectations.

Gating and windows are asked of a world that stands still: bodies are placed, MuJoCo finds the
contacts, and the grasp logic is stepped alone. What a constraint does is driven by actions.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import mujoco
import numpy as np
import pytest
from twin_bench import FINGER_TIP, FORWARD, GLOVES, Bench, action, make_twin, rotation_angle

from b1k_envs.mujoco_twin.env import TwinEnv
from b1k_envs.mujoco_twin.robot.control import Controller
from b1k_envs.mujoco_twin.robot.grasping import GRASP_WINDOW_STEPS, MASS_LIMIT, AssistedGrasp

GLOVE, OTHER = GLOVES
CUFF_HALF = 0.032  # [m], half the cuff's width between the fingers
BAR_RADIUS = 0.011  # [m], of the door's handle
WINDOWS = {"2025": 6, "2026": 9}  # 23 and 36 substeps, four to a control step, rounded up


@cache
def twin(protocol: str) -> TwinEnv:
    return make_twin(protocol)


@pytest.fixture(params=["2025", "2026"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bench(protocol: str) -> Iterator[Bench]:
    """Floating gloves, arms forward in free space: the base is 1 m back from the washer."""
    made = Bench(twin(protocol))
    made.weightless()
    made.pose_robot((-0.3, -0.6, 0.0), left=FORWARD["left"], right=FORWARD["right"])
    yield made
    made.restore()


@pytest.fixture
def fast(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """The same for 2025 alone, where the window does not matter."""
    made = Bench(twin("2025"))
    made.weightless()
    made.pose_robot((-0.3, -0.6, 0.0), left=FORWARD["left"], right=FORWARD["right"])
    yield made
    made.restore()


def pinch(bench: Bench, arm: str = "left", opening: float = CUFF_HALF - 0.001) -> None:
    """Both pads 1 mm into the cuff."""
    bench.fingers(arm, opening)
    bench.glove_into_hand(GLOVE, arm)
    assert bench.fingers_on(GLOVE, arm) == 2


def wait(bench: Bench, steps: int, grip: float = -1.0) -> None:
    """Let the grasp logic live through control steps of a world that stands still."""
    command = action(grip_left=grip, grip_right=grip)
    for _ in range(steps):
        bench.grasp.before_step(command, bench.data)
        bench.grasp.after_step(command, bench.data)


def forward(*, grip_left: float, base: tuple[float, float, float] = (0.0, 0.0, 0.0), **parts):
    return action(
        base=base,
        grip_left=grip_left,
        **{"left": FORWARD["left"], "right": FORWARD["right"], **parts},
    )


def grasp_by_actions(bench: Bench, arm: str = "left") -> None:
    """Close on a floating glove until it sticks."""
    bench.fingers(arm, 0.05)
    bench.glove_into_hand(GLOVE, arm)
    closing = action(
        left=FORWARD["left"],
        right=FORWARD["right"],
        **{f"grip_{arm}": -1.0},  # type: ignore[arg-type]
    )
    for _ in range(60):
        bench.env.step(closing)
        if bench.held(arm):
            return
    raise AssertionError("the glove was never grasped")


# --- when a grasp begins --------------------------------------------------------------------


def test_the_windows_are_those_of_the_two_generations():
    assert dict(GRASP_WINDOW_STEPS) == WINDOWS


@pytest.mark.parametrize("arm", ["left", "right"])
def test_a_glove_sticks_after_the_window_and_not_a_step_earlier(
    bench: Bench, protocol: str, arm: str
):
    pinch(bench, arm)
    wait(bench, WINDOWS[protocol] - 1)
    assert bench.held(arm) is None
    wait(bench, 1)
    assert bench.held(arm) == GLOVE
    other = "right" if arm == "left" else "left"
    assert bench.held(other) is None


def test_a_gap_of_one_step_starts_the_window_again(bench: Bench, protocol: str):
    pinch(bench)
    wait(bench, WINDOWS[protocol] - 1)
    bench.put_glove(GLOVE, [0.0, 0.0, 2.0])
    wait(bench, 1)
    pinch(bench)
    wait(bench, WINDOWS[protocol] - 1)
    assert bench.held("left") is None
    wait(bench, 1)
    assert bench.held("left") == GLOVE


def test_the_open_command_starts_the_window_again(bench: Bench, protocol: str):
    pinch(bench)
    wait(bench, WINDOWS[protocol] - 1)
    wait(bench, 1, grip=1.0)
    wait(bench, WINDOWS[protocol] - 1)
    assert bench.held("left") is None


def test_another_candidate_starts_the_window_again(bench: Bench, protocol: str):
    pinch(bench)
    wait(bench, WINDOWS[protocol] - 1)
    bench.put_glove(GLOVE, [0.0, 0.0, 2.0])
    bench.glove_into_hand(OTHER)
    wait(bench, WINDOWS[protocol] - 1)
    assert bench.held("left") is None
    wait(bench, 1)
    assert bench.held("left") == OTHER


@pytest.mark.parametrize(
    "grip", [-1.0, 0.0, 0.99, float(np.nextafter(np.float32(1), np.float32(0)))]
)
def test_every_command_below_fully_open_tries_to_grasp(fast: Bench, grip: float):
    pinch(fast)
    wait(fast, WINDOWS["2025"], grip=grip)
    assert fast.held("left") == GLOVE


def test_the_fully_open_command_never_grasps(fast: Bench):
    pinch(fast)
    wait(fast, 100, grip=1.0)
    assert fast.held("left") is None


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_one_finger_is_not_enough(fast: Bench, side: float):
    fast.fingers("left", CUFF_HALF + 0.002)
    fast.glove_into_hand(GLOVE, aside=side * 0.003)
    assert fast.fingers_on(GLOVE) == 1
    wait(fast, 100)
    assert fast.held("left") is None


def test_without_contact_an_object_between_the_fingers_is_not_grasped(fast: Bench):
    fast.fingers("left", CUFF_HALF + 0.002)
    fast.glove_into_hand(GLOVE)
    assert fast.fingers_on(GLOVE) == 0
    wait(fast, 100)
    assert fast.held("left") is None


def test_touching_with_both_fingers_but_with_nothing_between_them_is_no_grasp(fast: Bench):
    """The fingertips of a half-open hand on top of a cuff: contact, but no ray hits."""
    fast.fingers("left", 0.02)
    centre, turn = fast.hand()
    rotation = np.column_stack([turn[:, 0], turn[:, 1], turn[:, 2]])
    tips = centre - (FINGER_TIP - 0.001) * turn[:, 2]
    top_of_cuff = np.array([-0.095, 0.0, -0.012 + 0.036])
    fast.put_glove(GLOVE, tips - rotation @ top_of_cuff, rotation)
    assert fast.fingers_on(GLOVE) == 2
    wait(fast, 100)
    assert fast.held("left") is None


def test_closing_on_air_attaches_nothing(bench: Bench):
    for _ in range(60):
        bench.env.step(forward(grip_left=-1.0))
    assert bench.held("left") is None
    assert max(bench.opening("left")) < 0.002, "the hand did not close"
    assert not bench.data.eq_active.any()


def test_a_closed_fist_pushed_against_the_door_attaches_nothing(bench: Bench):
    bench.fingers("left", 0.0)
    centre, _ = bench.hand()
    # The door's face is 0.354 m before the washer's centre; 2 cm before the fingertips.
    bench.washer_at(centre + [FINGER_TIP + 0.02 + 0.354, 0.0, 0.0])
    pressed = 0
    for _ in range(60):
        bench.env.step(forward(grip_left=-1.0, base=(0.2, 0.0, 0.0)))
        pressed += bench.fingers_on("washer_door") == 2
        assert bench.held("left") is None
    assert pressed > 30, "the fist never pressed on the door"


def two_gloves_in_one_hand(bench: Bench, *, border: float = 0.005, aside: float = 0.0) -> None:
    """GLOVE's cuff between the fingertips, OTHER's behind it and `aside` [m].

    They meet, without overlap, at `border` ahead of the grip centre: if positive, OTHER is the
    nearer one, else GLOVE. The rays are 14 mm apart, the first 1 mm ahead of the centre.
    """
    bench.fingers("left", CUFF_HALF - 0.001)
    centre, turn = bench.hand()
    approach, across = -turn[:, 2], turn[:, 1]
    cuff, half_length = np.array([-0.095, 0.0, -0.012]), 0.052
    ahead = np.column_stack([approach, across, turn[:, 0]])
    behind = np.column_stack([-approach, across, -turn[:, 0]])
    reach = 0.001 + half_length
    bench.put_glove(GLOVE, centre + (border + reach) * approach - ahead @ cuff, ahead)
    bench.put_glove(
        OTHER, centre + (border - reach) * approach + aside * across - behind @ cuff, behind
    )
    assert bench.fingers_on(GLOVE) == 2


@pytest.mark.parametrize(("border", "nearer"), [(0.005, OTHER), (-0.006, GLOVE)])
def test_of_two_bodies_touched_by_both_fingers_the_nearer_one_is_grasped(
    fast: Bench, border: float, nearer: str
):
    two_gloves_in_one_hand(fast, border=border)
    assert fast.fingers_on(OTHER) == 2
    wait(fast, WINDOWS["2025"])
    assert fast.held("left") == nearer


def test_the_farther_one_is_grasped_when_the_nearer_one_is_not_touched(fast: Bench):
    two_gloves_in_one_hand(fast)
    fast.put_glove(OTHER, [0.0, 0.0, 2.0])
    wait(fast, WINDOWS["2025"])
    assert fast.held("left") == GLOVE


def test_there_is_no_falling_back_to_the_second_nearest(fast: Bench):
    """Only the nearest of what a finger touches and the rays hit is asked whether both fingers
    touch it."""
    two_gloves_in_one_hand(fast, aside=0.005)
    assert fast.fingers_on(OTHER) == 1
    wait(fast, 100)
    assert fast.held("left") is None


# --- what may be grasped --------------------------------------------------------------------


def with_mass(bench: Bench, body: str, mass: float) -> AssistedGrasp:
    """A fresh grasp logic on a model in which a body weighs something else."""
    model = bench.model
    before = model.body_mass.copy()
    try:
        model.body_mass[model.body(body).id] = mass
        scratch = mujoco.MjData(model)
        mujoco.mj_setConst(model, scratch)
        return AssistedGrasp(model, Controller(model), "2025")
    finally:
        model.body_mass[:] = before
        mujoco.mj_setConst(model, mujoco.MjData(model))


def steps_until_held(grasp: AssistedGrasp, bench: Bench) -> int | None:
    command = action(grip_left=-1.0)
    for step in range(1, 40):
        grasp.before_step(command, bench.data)
        grasp.after_step(command, bench.data)
        if grasp.held_body("left") >= 0:
            grasp.reset(bench.data)
            return step
    return None


def test_the_mass_limit_is_10_kg():
    assert MASS_LIMIT == 10.0


@pytest.mark.parametrize(("mass", "expected"), [(9.9, 6), (10.1, None)])
def test_a_free_body_above_the_mass_limit_is_not_grasped(
    fast: Bench, mass: float, expected: int | None
):
    grasp = with_mass(fast, GLOVE, mass)
    pinch(fast)
    assert steps_until_held(grasp, fast) == expected


def test_a_door_is_grasped_however_heavy_it_is(fast: Bench):
    grasp = with_mass(fast, "washer_door", 40.0)
    fast.fingers("left", BAR_RADIUS - 0.001)
    fast.handle_into_hand()
    assert fast.fingers_on("washer_door") == 2
    assert steps_until_held(grasp, fast) == WINDOWS["2025"]


@pytest.mark.parametrize("body", ["countertop", "dryer", "washer"])
def test_furniture_is_not_grasped(fast: Bench, body: str):
    assert fast.model.body(body).id not in fast.grasp._hands["left"].constraints


# --- what a grasp does ----------------------------------------------------------------------


def relative_pose(bench: Bench, body: str) -> tuple[np.ndarray, np.ndarray]:
    centre, turn = bench.hand()
    return turn.T @ (bench.body(body) - centre), turn.T @ bench.turn(body)


def test_a_glove_keeps_position_and_orientation_in_the_moving_hand(fast: Bench):
    grasp_by_actions(fast)
    place, turn = relative_pose(fast, GLOVE)
    _, before = fast.hand()
    wrist = FORWARD["left"] + np.array([0, 0, 0, 0, 0.6, 0.3, 0.9])
    for k in range(90):
        bent = FORWARD["left"] + min(k / 60, 1.0) * (wrist - FORWARD["left"])
        fast.env.step(forward(grip_left=-1.0, left=bent, base=(0.0, -0.3, 0.3)))
    assert rotation_angle(before, fast.hand()[1]) > 0.8, "the hand was to turn"
    new_place, new_turn = relative_pose(fast, GLOVE)
    assert np.linalg.norm(new_place - place) < 0.005
    assert rotation_angle(turn, new_turn) < 0.03


def test_a_held_glove_does_not_fall_and_load_does_not_pull_it_loose(fast: Bench):
    grasp_by_actions(fast)
    place, _ = relative_pose(fast, GLOVE)
    fast.model.opt.gravity[2] = -9.81
    glove = fast.model.body(GLOVE).id
    for k in range(60):
        # 60 N for a second: the official break force is commented out.
        fast.data.xfrc_applied[glove, 2] = -60.0 if k < 30 else 0.0
        fast.env.step(forward(grip_left=-1.0))
        assert fast.held("left") == GLOVE
    assert np.linalg.norm(relative_pose(fast, GLOVE)[0] - place) < 0.01


def test_a_door_handle_pivots_in_the_hand_and_stays_in_it(fast: Bench):
    fast.fingers("left", 0.05)
    fast.handle_into_hand()
    for _ in range(40):
        fast.env.step(forward(grip_left=-1.0))
    assert fast.held("left") == "washer_door"
    centre, turn = fast.hand()
    in_hand = turn.T @ fast.turn("washer_door")
    on_door = fast.turn("washer_door").T @ (centre - fast.body("washer_door"))
    for _ in range(45):  # backwards and to the left, about the hinge
        fast.env.step(forward(grip_left=-1.0, base=(-0.35, 0.15, 0.0)))
    angle = fast.states.door_angle
    assert angle > 0.4
    centre, turn = fast.hand()
    anchor = fast.body("washer_door") + fast.turn("washer_door") @ on_door
    assert np.linalg.norm(anchor - centre) < 0.01
    turned = rotation_angle(in_hand, turn.T @ fast.turn("washer_door"))
    assert turned > 0.4, "a weld would have kept the angle"


def test_the_fingers_are_frozen_while_something_is_held(fast: Bench):
    grasp_by_actions(fast)
    frozen = fast.opening("left")
    assert frozen == pytest.approx((CUFF_HALF, CUFF_HALF), abs=0.004)
    for grip in (-1.0, 0.9, 0.0):
        for _ in range(20):
            fast.env.step(forward(grip_left=grip))
            assert fast.opening("left") == pytest.approx(frozen, abs=0.004)
    # The other hand is nobody's prisoner.
    for _ in range(30):
        fast.env.step(forward(grip_left=-1.0, grip_right=-1.0))
    assert max(fast.opening("right")) < 0.002


# --- how it ends ----------------------------------------------------------------------------


@pytest.mark.parametrize("grip", [0.99, float(np.nextafter(np.float32(1), np.float32(0)))])
def test_almost_open_still_holds(fast: Bench, grip: float):
    grasp_by_actions(fast)
    for _ in range(30):
        fast.env.step(forward(grip_left=grip))
    assert fast.held("left") == GLOVE


@pytest.mark.parametrize("grip", [1.0, 1.5])
def test_fully_open_releases_in_the_same_step(fast: Bench, grip: float):
    """What lies above +1 is clipped to it first, as the smooth gripper controller does."""
    grasp_by_actions(fast)
    place, _ = relative_pose(fast, GLOVE)
    fast.env.step(forward(grip_left=grip))
    assert fast.held("left") is None
    assert not fast.data.eq_active.any()
    for _ in range(30):
        fast.env.step(forward(grip_left=grip, base=(-0.5, 0.0, 0.0)))
    assert min(fast.opening("left")) > 0.045
    assert np.linalg.norm(relative_pose(fast, GLOVE)[0] - place) > 0.1


def test_opening_one_hand_leaves_the_other_holding(fast: Bench):
    pinch(fast)
    wait(fast, WINDOWS["2025"])
    fast.env.step(forward(grip_left=-1.0, grip_right=1.0))
    assert fast.held("left") == GLOVE


def test_after_a_release_the_whole_window_has_to_pass_again(bench: Bench, protocol: str):
    """Free again 1/30 s after the release, that is with the next control step; nothing of the
    step of release counts."""
    pinch(bench)
    wait(bench, WINDOWS[protocol])
    wait(bench, 1, grip=1.0)
    assert bench.held("left") is None
    wait(bench, WINDOWS[protocol] - 1)
    assert bench.held("left") is None
    wait(bench, 1)
    assert bench.held("left") == GLOVE


def test_reset_releases_and_forgets_the_candidate(bench: Bench, protocol: str):
    pinch(bench)
    wait(bench, WINDOWS[protocol])
    assert bench.held("left") == GLOVE
    bench.env.reset(0, 0, 0)
    assert bench.held("left") is None
    assert not bench.data.eq_active.any()
    assert bench.states.holds("grasped", "agent.n.01_1", "boxing_glove.n.01_1") is False
    for _ in range(30):
        bench.env.step(action(grip_left=-1.0))
    assert max(bench.opening("left")) < 0.002, "the fingers were still frozen"


def test_reset_forgets_how_long_a_candidate_has_persisted(bench: Bench, protocol: str):
    pinch(bench)
    wait(bench, WINDOWS[protocol] - 1)
    bench.env.reset(0, 0, 0)
    bench.pose_robot((-0.3, -0.6, 0.0), left=FORWARD["left"], right=FORWARD["right"])
    pinch(bench)
    wait(bench, WINDOWS[protocol] - 1)
    assert bench.held("left") is None


def test_the_same_episode_after_a_grasp_is_the_same_as_before_it(fast: Bench):
    """What a grasp wrote into the model (anchors) must not outlive the episode."""

    def trajectory() -> np.ndarray:
        fast.env.reset(1, 0, 0)
        rows = []
        for k in range(40):
            fast.env.step(action(base=(0.3, 0.2, 0.5), grip_left=-1.0 if k % 20 else 0.5))
            rows.append(fast.data.qpos.copy())
        return np.array(rows)

    first = trajectory()
    fast.env.reset(0, 0, 0)
    fast.pose_robot((-0.3, -0.6, 0.0), left=FORWARD["left"], right=FORWARD["right"])
    grasp_by_actions(fast)
    np.testing.assert_array_equal(trajectory(), first)
