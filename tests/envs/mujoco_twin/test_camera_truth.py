"""Where known points are drawn, against where our intrinsics and poses say they are.

Small emissive spheres hang in the room and on the robot's links; a sphere's place in the picture
is the centroid of its pixels in a segmentation render, its place by our account is its point taken
through the independent chain, `Observation.camera_to_base` and K. A sphere seen off the axis
projects to an ellipse whose centre is shifted outwards by about f tan(t) / cos(t)^2 a^2 (t off-axis
angle, a angular radius): with the sizes kept here below 0.5 px in the corner of the head view.

What a pass does not prove: that OmniGibson mounts its cameras this way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from marked_twin import MAGENTA, Marker, Stage, blobs, marked_stage
from urdf_chain import JOINTS, link_poses, mirrored, random_joints, rotation_xyzw

from b1k_envs import r1pro
from b1k_envs.base import VIEWS, View

RESET = {"torso_joint1": 1.025, "torso_joint2": -1.45, "torso_joint3": -0.47}
GRIPPERS: tuple[tuple[View, str], ...] = (("left_wrist", "left"), ("right_wrist", "right"))


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with marked_stage() as stage:
        yield stage


def configurations() -> list[tuple[dict[str, float], tuple[float, float, float]]]:
    """Twelve postures and their mirror images, so that no sign error can cancel."""
    random = np.random.default_rng(31)
    result = []
    for index in range(12):
        joints = random_joints(random)
        if index % 2:  # head up and arms in front, as at work
            joints |= RESET | {"torso_joint4": random.uniform(-1, 1)}
            for arm in ("left", "right"):
                joints[f"{arm}_arm_joint1"] = random.uniform(-1.3, -0.5)
                joints[f"{arm}_arm_joint2"] = random.uniform(-0.15, 0.15)
                joints[f"{arm}_arm_joint4"] = random.uniform(-1.5, -0.3)
        x, y, yaw = random.uniform((-0.8, -0.8, -np.pi), (0.8, 0.8, np.pi))
        result.append((joints, (x, y, yaw)))
        result.append((mirrored(joints), (x, -y, -yaw)))
    return result


@dataclass(frozen=True)
class Sighting:
    """One marker in one picture: where it is drawn, and where it should be [px]."""

    configuration: int
    marker: Marker
    drawn: np.ndarray
    expected: np.ndarray


@pytest.fixture(scope="module")
def sightings(stage: Stage) -> dict[View, list[Sighting]]:
    result: dict[View, list[Sighting]] = {view: [] for view in VIEWS}
    for index, (joints, base) in enumerate(configurations()):
        seen = stage.put(joints, base)
        for view in VIEWS:
            expected = stage.expect(seen, view)
            for geom, drawn in stage.see(view).items():
                place = expected[geom]  # a KeyError: drawn, though behind the camera by our account
                result[view].append(Sighting(index, stage.markers[geom], np.array(drawn), place))
    return result


# --- Intrinsics and poses -------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("view", VIEWS)
def test_known_points_are_drawn_within_a_pixel_of_where_k_and_pose_put_them(
    sightings: dict[View, list[Sighting]], view: View
) -> None:
    for seen in sightings[view]:
        error = float(np.linalg.norm(seen.drawn - seen.expected))
        assert error < 1.0, f"{seen} is off by {error:.2f} px"


@pytest.mark.slow
@pytest.mark.parametrize("view", VIEWS)
def test_enough_points_are_seen_on_the_robot_in_the_room_and_all_over_the_picture(
    sightings: dict[View, list[Sighting]], view: View
) -> None:
    hits = sightings[view]
    in_room = sum(hit.marker.link == "world" for hit in hits)
    assert in_room >= 100
    assert len(hits) - in_room >= 50
    per_configuration = np.bincount([hit.configuration for hit in hits], minlength=24)
    assert np.count_nonzero(per_configuration >= 4) >= 20
    # every ninth of the picture has its share, or a wrong centre could hide in one corner
    cells = {tuple((hit.drawn / r1pro.CAMERAS[view].size * 3).astype(int)) for hit in hits}
    assert cells == {(column, row) for column in range(3) for row in range(3)}


@pytest.mark.slow
def test_wrist_views_see_both_fingers_and_the_head_both_hands(
    sightings: dict[View, list[Sighting]],
) -> None:
    links = {view: {hit.marker.link for hit in hits} for view, hits in sightings.items()}
    assert {"left_arm_link7", "right_arm_link7"} <= links["head"]
    for view, arm in GRIPPERS:
        assert {f"{arm}_gripper_finger_link{i}" for i in (1, 2)} <= links[view]


@pytest.mark.slow
@pytest.mark.parametrize("view", VIEWS)
def test_pixel_centres_are_at_half_integers_and_the_focal_length_holds(
    sightings: dict[View, list[Sighting]], view: View
) -> None:
    """A centre at size / 2 - 0.5, or the picture's corner in the middle of a pixel, is 0.5 off."""
    drawn = np.array([hit.drawn for hit in sightings[view]])
    expected = np.array([hit.expected for hit in sightings[view]])
    np.testing.assert_allclose(np.median(drawn - expected, axis=0), 0, atol=0.1)
    centre = r1pro.CAMERAS[view].size / 2
    drawn, expected = drawn - centre, expected - centre
    scale = (drawn * expected).sum(axis=0) / (expected**2).sum(axis=0)
    np.testing.assert_allclose(scale, 1, atol=1e-3)


# --- The picture and its pose belong together -----------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
def test_the_observed_picture_shows_the_markers_where_the_segmentation_has_them(
    stage: Stage, view: View
) -> None:
    joints, base = configurations()[7]
    picture = stage.put(joints, base, images=True).images[view]
    size = r1pro.CAMERAS[view].size
    assert picture.shape == (size, size, 3)
    assert picture.dtype == np.uint8
    bright = (picture == MAGENTA).all(axis=-1)
    marked = np.isin(stage.segment(view), list(stage.markers))
    assert marked.sum() > 500
    np.testing.assert_array_equal(bright, marked)


@pytest.mark.slow
def test_pictures_taken_on_the_move_belong_to_their_own_pose(stage: Stage) -> None:
    """Driving and turning, a step moves what a camera sees by many pixels."""
    env = stage.env
    env.reset(0, 0, 0)
    action = np.zeros(23, np.float32)
    action[0:3] = 0.3, 0.0, 1.0
    action[3:7] = 1.025, -1.45, -0.47, 0.5
    action[[7, 15]] = -1.5  # hands ahead
    own: dict[View, list[float]] = {view: [] for view in VIEWS}
    late: dict[View, list[float]] = {view: [] for view in VIEWS}
    for _ in range(8):
        for _ in range(5):
            env.step(action)
        before = env.observe()
        env.step(action)
        now = env.observe()
        for view in VIEWS:
            spots = blobs(now.images[view])
            for seen, misses in ((now, own), (before, late)):
                expected = np.array(list(stage.expect(seen, view).values()))
                apart = np.linalg.norm(spots[:, None] - expected[None], axis=-1)
                misses[view] += apart.min(axis=1).tolist()
    for view in VIEWS:
        assert len(own[view]) >= 80
        assert np.median(own[view]) < 0.2
        assert np.mean(np.array(own[view]) < 1.0) > 0.85  # half hidden spots lie elsewhere
        # what is on the hand itself stands still in its picture, what is in the room does not
        assert np.count_nonzero(np.array(late[view]) > 1.0) >= 10


def test_observing_twice_gives_one_picture_and_a_step_gives_another(stage: Stage) -> None:
    env = stage.env
    env.reset(0, 0, 0)
    first = env.observe().images["head"]
    assert env.observe().images["head"] is first
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0, 0] = 0
    env.step(np.array([1, 0, 0] + [0] * 20, np.float32))
    assert not np.array_equal(env.observe().images["head"], first)


def test_without_pictures_the_poses_are_the_same(stage: Stage) -> None:
    joints, base = configurations()[4]
    seen = stage.put(joints, base, images=True)
    assert set(seen.images) == set(VIEWS)
    blind = stage.env.observe(images=False)
    assert blind.images == {}
    np.testing.assert_array_equal(blind.cam_rel_poses, seen.cam_rel_poses)
    for view in VIEWS:
        np.testing.assert_array_equal(blind.camera_to_base[view], seen.camera_to_base[view])


# --- What a pose means ----------------------------------------------------------------------


def test_cam_rel_poses_are_left_right_head_each_position_then_xyzw(stage: Stage) -> None:
    for joints, base in configurations():
        seen = stage.put(joints, base)
        assert seen.cam_rel_poses.shape == (21,)
        assert seen.cam_rel_poses.dtype == np.float32
        for start, view in ((0, "left_wrist"), (7, "right_wrist"), (14, "head")):
            block, matrix = seen.cam_rel_poses[start : start + 7], seen.camera_to_base[view]
            assert matrix.dtype == np.float32
            np.testing.assert_array_equal(block[:3], matrix[:3, 3])
            np.testing.assert_allclose(rotation_xyzw(block[3:]), matrix[:3, :3], atol=1e-6)
            assert np.linalg.norm(block[3:]) == pytest.approx(1, abs=1e-6)
            np.testing.assert_array_equal(matrix[3], [0, 0, 0, 1])


def test_cameras_sit_on_their_links_and_look_along_the_links_z(stage: Stage) -> None:
    """USD axes: a camera looks along its -z with +y up; the links are z forward."""
    for joints, base in configurations():
        seen = stage.put(joints, base)
        links = link_poses(joints)
        for view, link in (
            ("head", "zed_link"),
            ("left_wrist", "left_realsense_link"),
            ("right_wrist", "right_realsense_link"),
        ):
            camera = seen.camera_to_base[view]
            np.testing.assert_allclose(camera[:3, 3], links[link][:3, 3], atol=1e-6)
            np.testing.assert_allclose(-camera[:3, 2], links[link][:3, 2], atol=1e-6)
        # the head's link is an optical frame: x right, y down
        np.testing.assert_allclose(
            seen.camera_to_base["head"][:3, 0], links["zed_link"][:3, 0], atol=1e-6
        )


def test_the_head_looks_ahead_and_down_and_upright_after_a_reset(stage: Stage) -> None:
    stage.env.reset(0, 0, 0)
    right, up, back = stage.env.observe(images=False).camera_to_base["head"][:3, :3].T
    assert right == pytest.approx([0, -1, 0], abs=1e-3)
    assert up[2] > 0.9
    assert -back[0] > 0.9
    assert -0.5 < -back[2] < -0.2  # about 20 degrees down


@pytest.mark.parametrize(("view", "arm"), GRIPPERS)
def test_fingers_enter_a_wrist_picture_from_below_finger_one_on_the_left(
    stage: Stage, view: View, arm: str
) -> None:
    """Looking along the gripper's -z with its +x up, its +y (finger 1) is on the left."""
    model = stage.env._model
    for joints, base in configurations()[:6]:
        fingers = {f"{arm}_gripper_finger_joint1": 0.015, f"{arm}_gripper_finger_joint2": -0.015}
        stage.put(joints | fingers, base)
        geoms = stage.segment(view)
        bodies = np.where(geoms < 0, -1, model.geom_bodyid[geoms])
        columns = {}
        for finger in (1, 2):
            body = model.body(f"{arm}_gripper_finger_link{finger}").id
            rows, columns[finger] = np.nonzero((bodies == body) & ~np.isin(geoms, [*stage.markers]))
            assert rows.max() == 479, "it comes in from the bottom edge"
            assert 200 < rows.min() < 300, "and its tip ends near the middle"
        assert columns[1].max() < 240 < columns[2].min()


@pytest.mark.parametrize(("view", "arm"), GRIPPERS)
def test_gripper_x_is_up_in_a_wrist_picture(stage: Stage, view: View, arm: str) -> None:
    """Drawn markers that differ in the gripper's x alone: larger x higher, same column."""
    checked = 0
    for joints, base in configurations()[:12]:
        stage.put(joints, base)
        drawn = stage.see(view)
        axis = sorted(
            (stage.markers[geom].point[0], place)
            for geom, place in drawn.items()
            if stage.markers[geom].link == f"{arm}_gripper_link"
            and stage.markers[geom].point[1:] == (0.0, -0.13)
        )
        for (_, below), (_, above) in pairwise(axis):
            assert above[1] < below[1] - 20
            assert above[0] == pytest.approx(below[0], abs=6)
            checked += 1
    assert checked >= 12


def test_a_wrist_camera_is_upright_with_respect_to_its_gripper(stage: Stage) -> None:
    for joints, base in configurations():
        seen = stage.put(joints, base)
        links = link_poses(joints)
        for view, arm in GRIPPERS:
            camera = seen.camera_to_base[view][:3, :3]
            x, y, z = (links[f"{arm}_gripper_link"][:3, :3].T @ camera).T
            assert x == pytest.approx([0, -1, 0], abs=5e-3)  # image right is gripper -y
            assert y[0] > 0.9  # image up is gripper +x, leaning by the mount's 25 degrees
            assert z[2] > 0.9  # it looks along gripper -z
            mount = -JOINTS[f"{arm}_realsense_joint"]["rpy"][1]
            assert np.arccos(y[0]) == pytest.approx(mount, abs=5e-3)
