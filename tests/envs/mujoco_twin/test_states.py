"""Object states of the twin, on bodies put into the simulation where the truth is plain.

The semantics are OmniGibson's (object_states/covered.py, open_state.py, inside.py, on_top.py,
toggle.py); the figures of the washer are measured on its collision shapes, not read from the code.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import mujoco
import numpy as np
import pytest
from twin_bench import FINGER_TIP, FORWARD, GLOVES, Bench, action, make_twin

from b1k_envs.errors import EnvError
from b1k_envs.mujoco_twin.env import TwinEnv

AGENT, DUST, WASHER = "agent.n.01_1", "dust.n.01_1", "washer.n.03_1"
COUNTER, FLOOR = "countertop.n.01_1", "floor.n.01_1"
GLOVE_NAMES = ("boxing_glove.n.01_1", "boxing_glove.n.01_2")
GLOVE, OTHER = GLOVES
DOOR_RANGE = 2.2  # [rad]
DRUM_RADIUS, DRUM_Z, DRUM_FRONT, DRUM_BACK = 0.24, -0.02, -0.31, 0.20  # in the washer's frame [m]


@cache
def twin() -> TwinEnv:
    return make_twin("2025")


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench(twin())
    yield made
    made.restore()


def holds(bench: Bench, predicate: str, *instances: str) -> bool:
    bench.settle()
    return bench.states.holds(predicate, *instances)


# --- the reader -----------------------------------------------------------------------------


def test_the_scene_has_every_object_of_the_problem():
    assert set(twin()._states.objects()) == {AGENT, DUST, WASHER, COUNTER, FLOOR, *GLOVE_NAMES}


def test_an_unknown_predicate_is_refused(bench: Bench):
    with pytest.raises(
        EnvError,
        match=r"^the twin has no state 'saturated'; it has covered, open, toggled_on, inside, "
        r"ontop, grasped, near$",
    ):
        bench.states.holds("saturated", GLOVE_NAMES[0], DUST)


@pytest.mark.parametrize(
    "fact",
    [
        ("inside", "sock.n.01_1", WASHER),
        ("inside", GLOVE_NAMES[0], "dryer.n.01_1"),
        ("ontop", GLOVE_NAMES[0], "table.n.02_1"),
        ("open", "fridge.n.01_1"),
        ("toggled_on", "radio.n.01_1"),
        ("covered", "sock.n.01_1", DUST),
        ("grasped", AGENT, "sock.n.01_1"),
        ("near", AGENT, "sofa.n.01_1"),
    ],
    ids=" ".join,
)
def test_an_unknown_instance_is_refused_by_every_predicate(bench: Bench, fact: tuple[str, ...]):
    unknown = next(name for name in fact[1:] if name not in twin()._states.objects())
    with pytest.raises(EnvError, match=f"^{unknown} is no body of this scene$"):
        bench.states.holds(*fact)


@pytest.mark.parametrize(
    ("fact", "text"),
    [
        (("open", COUNTER), "countertop.n.01_1 cannot be opened; washer.n.03_1 can"),
        (("toggled_on", COUNTER), "countertop.n.01_1 cannot be toggled; washer.n.03_1 can"),
        (
            ("covered", GLOVE_NAMES[0], "water.n.06_1"),
            "the twin has no particle system water.n.06_1; it has dust.n.01_1",
        ),
    ],
)
def test_a_state_an_object_does_not_have_is_refused(bench: Bench, fact: tuple[str, ...], text: str):
    with pytest.raises(EnvError, match=f"^{text}$"):
        bench.states.holds(*fact)


@pytest.mark.parametrize("name", [WASHER, COUNTER])
def test_furniture_is_not_dusty(bench: Bench, name: str):
    assert bench.states.holds("covered", name, DUST) is False


# --- Covered --------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "expected"), [(20, True), (1, True), (0, False)])
def test_one_particle_is_enough_to_be_covered(bench: Bench, count: int, expected: bool):
    bench.states.dust_counts[OTHER] = count
    assert holds(bench, "covered", GLOVE_NAMES[1], DUST) is expected
    assert holds(bench, "covered", GLOVE_NAMES[0], DUST) is True


def test_each_glove_starts_with_20_particles_on_its_surface(bench: Bench):
    assert bench.states.dust_counts == {GLOVE: 20, OTHER: 20}
    for points in bench.states._dust_points.values():
        assert points.shape == (20, 3)
        assert np.abs(points).max() < 0.17  # the glove reaches 0.147 m from its origin


# --- Open -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [(0.0, False), (0.0499, False), (0.05, False), (0.0501, True), (0.5, True), (1.0, True)],
)
def test_open_means_beyond_5_percent_of_the_range(bench: Bench, fraction: float, expected: bool):
    bench.joint("washer_door_joint", fraction * DOOR_RANGE)
    assert holds(bench, "open", WASHER) is expected


def test_the_door_starts_closed_and_the_washer_off(bench: Bench):
    assert bench.states.door_angle == pytest.approx(0.0, abs=1e-3)
    assert not bench.states.holds("open", WASHER)
    assert not bench.states.holds("toggled_on", WASHER)


# --- Inside ---------------------------------------------------------------------------------


def true_box_centre(bench: Bench, glove: str) -> np.ndarray:
    """Middle of the world-aligned box around the glove, from the support of each shape."""
    model, data = bench.model, bench.data
    lows, highs = [], []
    for geom in range(model.ngeom):
        if model.geom_bodyid[geom] != model.body(glove).id or not model.geom_contype[geom]:
            continue
        turn, size = data.geom_xmat[geom].reshape(3, 3), model.geom_size[geom]
        kind = model.geom_type[geom]
        if kind == mujoco.mjtGeom.mjGEOM_BOX:
            half = np.abs(turn) @ size
        elif kind == mujoco.mjtGeom.mjGEOM_ELLIPSOID:
            half = np.linalg.norm(turn * size, axis=1)
        else:
            assert kind == mujoco.mjtGeom.mjGEOM_CAPSULE
            half = np.abs(turn[:, 2]) * size[1] + size[0]
        lows.append(data.geom_xpos[geom] - half)
        highs.append(data.geom_xpos[geom] + half)
    return (np.min(lows, axis=0) + np.max(highs, axis=0)) / 2


ROTATIONS = {
    "knuckles first": np.eye(3),
    "on its side": np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]]),
    "askew": np.array([[0.6124, -0.6124, 0.5], [0.7071, 0.7071, 0.0], [-0.3536, 0.3536, 0.8660]]),
}


def put_box_centre(bench: Bench, target: np.ndarray, rotation: np.ndarray) -> None:
    bench.put_glove(GLOVE, target, rotation)
    bench.put_glove(GLOVE, target + (target - true_box_centre(bench, GLOVE)), rotation)
    np.testing.assert_allclose(true_box_centre(bench, GLOVE), target, atol=1e-6)


EDGE = 0.002  # [m] to either side of the drum's boundary


@pytest.mark.parametrize("rotation", ROTATIONS.values(), ids=ROTATIONS)
@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        ((-0.05, 0.0, DRUM_Z), True),
        ((DRUM_FRONT + EDGE, 0.0, DRUM_Z), True),
        ((DRUM_FRONT - EDGE, 0.0, DRUM_Z), False),
        ((DRUM_BACK - EDGE, 0.0, DRUM_Z), True),
        ((DRUM_BACK + EDGE, 0.0, DRUM_Z), False),
        ((0.0, DRUM_RADIUS - EDGE, DRUM_Z), True),
        ((0.0, DRUM_RADIUS + EDGE, DRUM_Z), False),
        ((0.0, 0.0, DRUM_Z - DRUM_RADIUS + EDGE), True),
        ((0.0, 0.0, DRUM_Z - DRUM_RADIUS - EDGE), False),
        # Round, not square: a corner of the square around the circle is outside.
        ((0.0, 0.8 * DRUM_RADIUS, DRUM_Z + 0.8 * DRUM_RADIUS), False),
    ],
)
def test_inside_means_the_centre_of_the_bounding_box_in_the_drum(
    bench: Bench, offset: tuple[float, float, float], expected: bool, rotation: np.ndarray
):
    """No contact, no rest: the glove is simply there."""
    put_box_centre(bench, bench.body("washer") + np.array(offset), rotation)
    assert holds(bench, "inside", GLOVE_NAMES[0], WASHER) is expected
    assert holds(bench, "inside", GLOVE_NAMES[1], WASHER) is False


def test_inside_agrees_with_the_true_bounding_box_over_random_poses(bench: Bench):
    random = np.random.default_rng(31)
    washer, seen = bench.body("washer"), set()
    for _ in range(300):
        rotation, _ = np.linalg.qr(random.normal(size=(3, 3)))
        rotation[:, 0] *= np.linalg.det(rotation)
        bench.put_glove(GLOVE, washer + random.uniform(-0.4, 0.4, 3), rotation)
        x, y, z = true_box_centre(bench, GLOVE) - washer
        expected = bool(DRUM_FRONT <= x <= DRUM_BACK and np.hypot(y, z - DRUM_Z) <= DRUM_RADIUS)
        assert holds(bench, "inside", GLOVE_NAMES[0], WASHER) is expected
        seen.add(expected)
    assert seen == {True, False}


def test_the_drum_moves_with_the_washer(bench: Bench):
    put_box_centre(bench, bench.body("washer") + [0.0, 0.0, DRUM_Z], np.eye(3))
    assert holds(bench, "inside", GLOVE_NAMES[0], WASHER)
    bench.washer_at(bench.body("washer") + [1.0, 0.0, 0.0])
    assert not holds(bench, "inside", GLOVE_NAMES[0], WASHER)


def test_nothing_is_ever_inside_a_thing_without_a_fillable_volume(bench: Bench):
    bench.put_glove(GLOVE, bench.body("countertop") + [0.0, 0.0, 0.4])
    assert not holds(bench, "inside", GLOVE_NAMES[0], COUNTER)


# --- OnTop ----------------------------------------------------------------------------------


def test_both_gloves_start_on_the_counter_and_nowhere_else(bench: Bench):
    for glove in GLOVE_NAMES:
        assert bench.states.holds("ontop", glove, COUNTER)
        assert not bench.states.holds("ontop", glove, WASHER)
        assert not bench.states.holds("inside", glove, WASHER)


def test_a_lifted_glove_is_not_on_top_any_more(bench: Bench):
    bench.put_glove(GLOVE, bench.body(GLOVE) + [0.0, 0.0, 0.03], bench.turn(GLOVE))
    assert not holds(bench, "ontop", GLOVE_NAMES[0], COUNTER)
    assert holds(bench, "ontop", GLOVE_NAMES[1], COUNTER)


def test_a_glove_below_the_slab_is_not_on_top_though_it_touches(bench: Bench):
    edge = bench.body("countertop") + [0.0, -0.30, 0.87 - 0.050]
    bench.put_glove(GLOVE, edge, np.diag([1.0, -1.0, -1.0]))
    assert GLOVE in bench.touching("countertop")
    assert not holds(bench, "ontop", GLOVE_NAMES[0], COUNTER)


def test_a_glove_that_leans_on_the_front_is_not_on_top(bench: Bench):
    # Knuckles to the front of the slab, 2 mm in, the centre before it in mid-air.
    reach = 0.045 + 0.090
    front = bench.body("countertop") + [0.0, -0.33 - reach + 0.002, 0.89]
    along_y = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    bench.put_glove(GLOVE, front, along_y)
    assert GLOVE in bench.touching("countertop")
    assert not holds(bench, "ontop", GLOVE_NAMES[0], COUNTER)


def test_a_held_glove_that_touches_the_counter_counts_as_on_top(bench: Bench):
    bench.grasp._hands["left"].held = bench.model.body(GLOVE).id
    try:
        assert holds(bench, "ontop", GLOVE_NAMES[0], COUNTER)
        assert holds(bench, "grasped", AGENT, GLOVE_NAMES[0])
    finally:
        bench.grasp.reset(bench.data)


def test_a_glove_on_a_glove_is_on_top_of_it_and_not_below(bench: Bench):
    bench.put_glove(OTHER, [0.0, 0.0, 2.0])
    bench.put_glove(GLOVE, [0.0, 0.0, 2.0 + 0.118])  # fists of half-height 0.056
    assert OTHER not in bench.touching(GLOVE)
    bench.put_glove(GLOVE, [0.0, 0.0, 2.0 + 0.110])
    assert OTHER in bench.touching(GLOVE)
    assert holds(bench, "ontop", GLOVE_NAMES[0], GLOVE_NAMES[1])
    assert not holds(bench, "ontop", GLOVE_NAMES[1], GLOVE_NAMES[0])


# --- near and grasped -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        # The washer's casing reaches 0.31 m along x and 0.30 m along y; near is 0.80 m off it.
        ((-0.31 - 0.79, 0.0), True),
        ((-0.31 - 0.81, 0.0), False),
        ((-0.31 - 0.55, -0.30 - 0.55), True),
        ((-0.31 - 0.58, -0.30 - 0.58), False),
    ],
)
def test_near_the_washer_is_measured_from_its_casing(
    bench: Bench, offset: tuple[float, float], expected: bool
):
    x, y = bench.body("washer")[:2] + offset
    bench.pose_robot((x, y, 0.4))
    assert holds(bench, "near", AGENT, WASHER) is expected


@pytest.mark.parametrize(("gap", "expected"), [(0.79, True), (0.81, False)])
def test_near_the_counter_is_measured_from_its_front(bench: Bench, gap: float, expected: bool):
    counter = bench.body("countertop")
    bench.pose_robot((counter[0] + 0.9, counter[1] - 0.33 - gap, 1.5))
    assert holds(bench, "near", AGENT, COUNTER) is expected


@pytest.mark.parametrize(("gap", "expected"), [(0.79, True), (0.81, False)])
def test_near_a_glove_is_measured_from_the_glove(bench: Bench, gap: float, expected: bool):
    glove = bench.body(GLOVE)
    bench.pose_robot((glove[0], glove[1] - gap, 1.5))
    assert holds(bench, "near", AGENT, GLOVE_NAMES[0]) is expected


def test_the_episode_starts_near_nothing(bench: Bench):
    assert not bench.states.holds("near", AGENT, WASHER)
    assert not bench.states.holds("near", AGENT, COUNTER)


def test_grasped_is_what_a_hand_holds_and_nothing_else(bench: Bench):
    bench.weightless()
    bench.pose_robot((-0.3, -0.6, 0.0), left=FORWARD["left"], right=FORWARD["right"])
    bench.glove_into_hand(OTHER, "right")
    facts = [(AGENT, name) for name in (*GLOVE_NAMES, WASHER)]
    closing = action(left=FORWARD["left"], right=FORWARD["right"], grip_right=-1.0)
    for _ in range(20):
        assert not any(bench.states.holds("grasped", *fact) for fact in facts) or bench.held(
            "right"
        )
        bench.env.step(closing)
    assert [bench.states.holds("grasped", *fact) for fact in facts] == [False, True, False]


# --- ToggledOn and washing on the real washer -----------------------------------------------


def reach_for_button(bench: Bench, *, short_of: float, aside: float = 0.0) -> None:
    """Left hand forward, fingers closed, tips `short_of` the button's cap [m]."""
    bench.fingers("left", 0.0)
    bench.pose_robot((0.0, 0.0, 0.0), left=FORWARD["left"])
    hand, _ = bench.hand()
    button = bench.body("washer_button") + [-0.018, 0.0, 0.0]
    gap = button - [FINGER_TIP + short_of, aside, 0.0] - hand
    assert abs(gap[2]) < 0.005, "the posture is not at the button's height"
    bench.pose_robot((gap[0], gap[1], 0.0), left=FORWARD["left"])


def update(bench: Bench, steps: int) -> list[bool]:
    seen = []
    for _ in range(steps):
        bench.states.update()
        seen.append(bench.states.holds("toggled_on", WASHER))
    return seen


def test_five_steps_of_a_finger_on_the_button_switch_the_washer_on(bench: Bench):
    reach_for_button(bench, short_of=-0.001)
    assert bench.fingers_on("washer_button") > 0
    assert update(bench, 8) == [False] * 4 + [True] * 4


def test_a_finger_beside_the_button_does_not_count(bench: Bench):
    """In contact with the washer's front, but the button's sphere is out of reach."""
    # The front is 0.020 m behind the button's cap; to the other side the hand would miss it.
    reach_for_button(bench, short_of=-0.020 - 0.002, aside=-0.10)
    assert bench.fingers_on("washer") > 0
    assert not any(update(bench, 10))


def test_a_finger_in_the_sphere_that_touches_nothing_does_not_count(bench: Bench):
    reach_for_button(bench, short_of=0.005)
    assert bench.fingers_on("washer_button") == 0
    assert not any(update(bench, 10))


def test_the_gripper_housing_on_the_button_does_not_count(bench: Bench):
    """Only finger links count, not the wrist or the palm."""
    reach_for_button(bench, short_of=0.02)
    hand, turn = bench.hand()
    # The housing's side, 0.062 m to the left of the axis and 0.078 m behind the tool centre.
    side = hand + 0.078 * turn[:, 2] - 0.062 * turn[:, 1]
    facing_y = np.array([np.sqrt(0.5), 0.0, 0.0, -np.sqrt(0.5)])  # the front looks along +y
    washer = bench.model.body("washer").id
    bench.model.body_quat[washer] = facing_y
    bench.settle()
    try:
        cap = bench.body("washer_button") + bench.turn("washer_button") @ [-0.018, 0.0, 0.0]
        bench.washer_at(bench.body("washer") + side + [0.0, 0.001, 0.0] - cap)
        assert "left_gripper_link" in bench.touching("washer_button")
        assert not any(bench.fingers_on(part) for part in ("washer", "washer_button"))
        assert not any(update(bench, 10))
    finally:
        bench.model.body_quat[washer] = (1.0, 0.0, 0.0, 0.0)


def test_while_the_door_is_open_the_button_does_nothing_and_is_forced_off(bench: Bench):
    reach_for_button(bench, short_of=-0.001)
    update(bench, 5)
    bench.door(0.06 * DOOR_RANGE)
    assert update(bench, 10) == [False] * 10
    bench.door(0.0)
    assert update(bench, 5) == [False] * 4 + [True]


def wash(bench: Bench) -> None:
    reach_for_button(bench, short_of=-0.001)
    assert update(bench, 5)[-1]


def test_the_press_cleans_the_glove_in_the_drum_and_only_that(bench: Bench):
    bench.glove_into_drum(OTHER)
    wash(bench)
    assert bench.states.dust_counts == {GLOVE: 20, OTHER: 0}
    assert not bench.states.holds("covered", GLOVE_NAMES[1], DUST)
    assert bench.states.holds("covered", GLOVE_NAMES[0], DUST)


def test_it_cleans_in_the_same_step_as_the_switch_flips(bench: Bench):
    bench.glove_into_drum(GLOVE)
    reach_for_button(bench, short_of=-0.001)
    update(bench, 4)
    assert bench.states.dust_counts[GLOVE] == 20
    update(bench, 1)
    assert bench.states.dust_counts[GLOVE] == 0


def test_a_glove_put_in_while_it_runs_is_not_cleaned(bench: Bench):
    bench.glove_into_drum(GLOVE)
    wash(bench)
    bench.glove_into_drum(OTHER)
    update(bench, 30)
    assert bench.states.dust_counts == {GLOVE: 0, OTHER: 20}


def test_an_empty_washer_cleans_nothing(bench: Bench):
    wash(bench)
    assert bench.states.dust_counts == {GLOVE: 20, OTHER: 20}


def test_both_gloves_are_cleaned_by_one_press(bench: Bench):
    bench.glove_into_drum(GLOVE, x=0.08)
    bench.glove_into_drum(OTHER, x=-0.16)
    wash(bench)
    assert bench.states.dust_counts == {GLOVE: 0, OTHER: 0}


def test_a_glove_whose_knuckles_alone_reach_in_is_cleaned_too(bench: Bench):
    """Any collision point in the volume counts, wherever the centre is: it is not Inside."""
    front = bench.body("washer") + [-0.31, 0.0, DRUM_Z]
    bench.put_glove(GLOVE, front + [-0.045 - 0.090 + 0.03, 0.0, 0.0])
    assert not holds(bench, "inside", GLOVE_NAMES[0], WASHER)
    assert bench.states._gloves_in_drum() == [GLOVE]


def test_a_glove_before_the_washer_is_not_in_the_drum(bench: Bench):
    front = bench.body("washer") + [-0.31, 0.0, DRUM_Z]
    bench.put_glove(GLOVE, front + [-0.045 - 0.090 - 0.01, 0.0, 0.0])
    assert bench.states._gloves_in_drum() == []
    assert not bench.states._dust_in_drum()


def test_a_clean_glove_alone_in_the_drum_is_no_reason_to_fire(bench: Bench):
    bench.glove_into_drum(GLOVE)
    bench.states.dust_counts[GLOVE] = 0
    assert not bench.states._dust_in_drum()
    wash(bench)
    assert bench.states.dust_counts == {GLOVE: 0, OTHER: 20}


def test_reset_puts_the_dust_back_and_switches_off(bench: Bench):
    bench.glove_into_drum(GLOVE)
    wash(bench)
    bench.env.reset(3, 0, 0)
    assert bench.states.dust_counts == {GLOVE: 20, OTHER: 20}
    assert not bench.states.holds("toggled_on", WASHER)
