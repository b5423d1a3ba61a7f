"""Pictures, poses and proprioception out of raw numbers, against scipy and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from b1k_envs import r1pro
from b1k_envs.base import VIEWS
from b1k_envs.errors import EnvError
from b1k_envs.omnigibson import observations as og

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(5)


def nested(rgba: Any, view: str = "head") -> dict[str, Any]:
    robot, sensor, modality = r1pro.CAMERAS[view].observation_key.split("::")  # type: ignore[index]
    return {robot: {sensor: {modality: rgba}}}


def random_pose() -> Any:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.random(random_state=int(RNG.integers(1000))).as_matrix()
    pose[:3, 3] = RNG.normal(size=3) * 5
    return pose


# --- Pictures -------------------------------------------------------------------------------


def test_a_picture_is_the_first_three_channels_in_their_order():
    rgba = torch.zeros((720, 720, 4), dtype=torch.uint8)
    rgba[0, 0] = torch.tensor([10, 20, 30, 255], dtype=torch.uint8)
    rgb = og.picture(nested(rgba), "head")
    assert rgb.shape == (720, 720, 3)
    assert rgb[0, 0].tolist() == [10, 20, 30]
    assert rgb.flags.c_contiguous
    assert not rgb.flags.writeable


def test_a_picture_is_a_copy_of_a_buffer_that_the_renderer_writes_on():
    rgba = torch.full((480, 480, 4), 7, dtype=torch.uint8)
    rgb = og.picture(nested(rgba, "left_wrist"), "left_wrist")
    rgba[:] = 9
    assert (rgb == 7).all()


@pytest.mark.parametrize(
    "rgba",
    [
        torch.zeros((720, 720, 3), dtype=torch.uint8),
        torch.zeros((480, 480, 4), dtype=torch.uint8),
        torch.zeros((720, 720, 4), dtype=torch.float32),
    ],
    ids=["no alpha", "wrong size", "not uint8"],
)
def test_another_picture_format_is_refused_with_what_came_and_what_was_expected(rgba):
    with pytest.raises(EnvError, match=r"must be uint8 \[720, 720, 4\] .*got") as caught:
        og.picture(nested(rgba), "head")
    assert str(list(rgba.shape)) in str(caught.value)


def test_a_missing_camera_is_named_with_what_there_is():
    with pytest.raises(EnvError, match=r"no robot_r1::robot_r1:zed_link:Camera:0::rgb.*left_rea"):
        og.picture(nested(torch.zeros(1), "left_wrist"), "head")


# --- Depth ----------------------------------------------------------------------------------


def nested_depth(values: Any, view: str = "head") -> dict[str, Any]:
    robot, sensor, _ = r1pro.CAMERAS[view].observation_key.split("::")  # type: ignore[index]
    return {robot: {sensor: {"depth_linear": values}}}


def test_depth_is_a_read_only_copy_of_a_buffer_that_the_renderer_writes_on():
    buffer = torch.full((480, 480), 1.5)
    buffer[0, 0] = torch.inf  # where nothing is
    depth = og.depth_picture(nested_depth(buffer, "left_wrist"), "left_wrist")
    buffer[:] = 9
    assert depth.dtype == np.float32
    assert np.isinf(depth[0, 0])
    assert (depth.ravel()[1:] == 1.5).all()
    assert not depth.flags.writeable


def test_depth_that_was_not_switched_on_is_named_with_what_there_is():
    text = (
        r"no robot_r1::robot_r1:zed_link:Camera:0::depth_linear: .* among rgb\. Is .* switched on"
    )
    with pytest.raises(EnvError, match=text):
        og.depth_picture(nested(torch.zeros(1)), "head")


@pytest.mark.parametrize(
    "values", [torch.zeros((480, 480)), torch.zeros((720, 720), dtype=torch.float64)]
)
def test_depth_of_another_form_is_refused(values):
    with pytest.raises(EnvError, match=r"depth_linear of head must be float32 \[720, 720\], got"):
        og.depth_picture(nested_depth(values), "head")


# --- Proprioception -------------------------------------------------------------------------


def test_proprio_is_a_read_only_copy():
    source = torch.arange(61, dtype=torch.float32)
    vector = og.proprio_vector(source, "2026")
    source[0] = 99
    assert vector.dtype == np.float32
    assert vector.tolist() == list(range(61))
    assert not vector.flags.writeable


@pytest.mark.parametrize(("value", "word"), [(np.nan, "nan"), (np.inf, "inf")])
def test_a_value_that_is_not_finite_is_handed_on_as_it_is(value, word):
    vector = np.zeros(256)
    place = r1pro.PROPRIO_2025["eef_left_quat"].start + 2
    vector[place] = value
    got = og.proprio_vector(vector, "2025")
    assert str(got[place]) == word
    assert np.isfinite(np.delete(got, place)).all()


@pytest.mark.parametrize(("protocol", "other"), [("2025", 61), ("2026", 256)])
def test_the_other_generations_proprio_is_refused(protocol, other):
    with pytest.raises(EnvError, match=rf"got \[{other}\]"):
        og.proprio_vector(np.zeros(other), protocol)


# --- Poses ----------------------------------------------------------------------------------


def test_a_pose_matrix_reads_its_quaternion_as_x_y_z_w():
    for _ in range(20):
        pose = random_pose()
        quat = Rotation.from_matrix(pose[:3, :3]).as_quat()  # scipy's are x, y, z, w too
        got = og.pose_matrix(torch.tensor(pose[:3, 3]), torch.tensor(quat))
        np.testing.assert_allclose(got, pose, atol=1e-12)


@pytest.mark.parametrize(
    ("position", "quat", "lost"),
    [
        ([np.nan, 2.0, 3.0], [0, 0, 0, 1], np.s_[0, 3]),
        ([1.0, 2.0, 3.0], [np.nan, 0, 0, 1], np.s_[:3, :3]),
        ([1.0, 2.0, 3.0], [0, 0, np.inf, 1], np.s_[:3, :3]),
    ],
)
def test_a_pose_that_is_not_finite_is_lost_as_far_as_it_is_not(position, quat, lost):
    expected = np.eye(4)
    expected[:3, 3] = (1, 2, 3)
    expected[lost] = np.nan
    np.testing.assert_array_equal(og.pose_matrix(position, quat), expected)


def test_a_camera_is_nowhere_in_the_base_where_the_base_is_nowhere():
    base = og.pose_matrix([np.inf, 0.0, 0.0], [0, 0, 0, 1])
    pose = og.in_base(random_pose(), base)
    assert not np.isfinite(pose[:3, 3]).all()
    recorded = og.recorded_poses(dict.fromkeys(VIEWS, pose))
    assert recorded.shape == (21,)
    assert not np.isfinite(recorded).all()


def test_a_rendered_pose_that_is_not_finite_is_none_of_the_errors():
    pose = og.rendered_camera_pose(np.where(np.arange(16) == 3, np.nan, np.eye(4).ravel()))
    assert np.isnan(pose[:3]).all()
    history = og.PoseHistory()
    bases = [random_pose() for _ in range(3)]
    for base in bases:
        history.add(base, dict.fromkeys(VIEWS, random_pose()))
    np.testing.assert_array_equal(history.base_at("head", pose), bases[-1])  # the newest


@pytest.mark.parametrize("quat", [[0, 0, 0, 0], [1, 1, 1, 1]])
def test_a_quaternion_that_is_no_rotation_is_an_error(quat):
    with pytest.raises(EnvError, match="gave the pose"):
        og.pose_matrix([0.0, 0.0, 0.0], quat)


def test_quaternions_come_back_with_the_sign_of_the_official_conversion():
    """w positive where the trace is, else the largest other: as `mat2quat` branches."""
    for _ in range(50):
        rotation = random_pose()[:3, :3]
        expected = Rotation.from_matrix(rotation).as_quat()
        leading = 3 if np.trace(rotation) > 0 else int(np.argmax(np.diagonal(rotation)))
        expected *= np.sign(expected[leading])
        np.testing.assert_allclose(og.quaternion_xyzw(rotation), expected, atol=1e-9)


def test_the_view_transform_is_a_row_vector_matrix_from_world_to_camera():
    """USD multiplies row vectors from the left: the translation is the last row."""
    camera = random_pose()
    point_in_camera = np.array([0.3, -0.2, -1.5, 1.0])
    view_transform = np.linalg.inv(camera).T
    point_in_world = camera @ point_in_camera
    np.testing.assert_allclose(point_in_world @ view_transform, point_in_camera, atol=1e-12)
    got = og.rendered_camera_pose(view_transform.ravel())
    assert got is not None
    np.testing.assert_allclose(got, camera, atol=1e-12)


def test_a_view_transform_of_zeros_is_no_pose_yet():
    assert og.rendered_camera_pose(np.zeros(16)) is None


@pytest.mark.parametrize("flat", [np.ones(16), np.full(9, np.nan), np.arange(9.0)])
def test_a_view_transform_that_is_no_rigid_transform_is_an_error(flat):
    with pytest.raises(EnvError, match="no rigid transform"):
        og.rendered_camera_pose(flat)


def test_in_base_undoes_the_pose_of_the_base():
    base, camera = random_pose(), random_pose()
    pose = og.in_base(camera, base)
    np.testing.assert_allclose(base @ pose, camera, atol=1e-5)
    assert pose.dtype == np.float32
    assert not pose.flags.writeable


def test_recorded_poses_are_left_right_head_with_position_first():
    poses = {view: og.in_base(random_pose(), np.eye(4)) for view in VIEWS}
    recorded = og.recorded_poses(poses)
    assert recorded.shape == (21,)
    assert recorded.dtype == np.float32
    for block, view in enumerate(("left_wrist", "right_wrist", "head")):
        part = recorded[7 * block : 7 * block + 7]
        np.testing.assert_allclose(part[:3], poses[view][:3, 3])
        turned = Rotation.from_quat(part[3:]).as_matrix()
        np.testing.assert_allclose(turned, poses[view][:3, :3], atol=1e-6)


def test_a_pictures_pose_is_in_the_base_of_the_moment_it_shows():
    """The robot turns on the spot with a camera fixed to it: seen from the base nothing moves."""
    mount = random_pose()
    history = og.PoseHistory()
    bases = []
    for step in range(5):
        base = np.eye(4)
        base[:3, :3] = Rotation.from_euler("z", 0.03 * step).as_matrix()
        base[:3, 3] = (0.02 * step, 0.0, 0.0)
        bases.append(base)
        history.add(base, dict.fromkeys(VIEWS, base @ mount))
    present = dict.fromkeys(VIEWS, bases[-1] @ mount)
    for lag in range(5):
        rendered = dict.fromkeys(VIEWS, bases[-1 - lag] @ mount)
        poses = og.frame_poses(rendered, present, bases[-1], history)
        for view in VIEWS:
            np.testing.assert_allclose(poses[view], mount, atol=1e-6)


def test_of_equal_camera_poses_the_newest_state_counts():
    """A head that stands still in the world over a base that moves cannot be; but noise can."""
    history = og.PoseHistory()
    camera = random_pose()
    old, new = random_pose(), random_pose()
    history.add(old, dict.fromkeys(VIEWS, camera + 1e-7))
    history.add(new, dict.fromkeys(VIEWS, camera + 2e-7))
    assert history.base_at("head", camera) is new


def test_without_a_rendered_pose_the_present_one_stands_in():
    base, present = random_pose(), random_pose()
    history = og.PoseHistory()
    history.add(base, dict.fromkeys(VIEWS, present))
    poses = og.frame_poses(dict.fromkeys(VIEWS, None), dict.fromkeys(VIEWS, present), base, history)
    np.testing.assert_allclose(base @ poses["head"], present, atol=1e-5)
