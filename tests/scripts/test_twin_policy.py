"""The parts of the policy that is learned in the twin, each against figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from twin_policy.legs import CLOCK_STEPS, CLOCKED, FIRST_LEG, LEGS, SECOND_GLOVE_FROM, progress_of
from twin_policy.points import NAMES, in_view, points_of

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from twin_policy.checkpoint import build  # noqa: E402
from twin_policy.da3_xvla.models.control import saturated  # noqa: E402
from twin_policy.da3_xvla.models.perception import Sight, fuse, rays  # noqa: E402
from twin_policy.data import SightBatch  # noqa: E402
from twin_policy.eyes import look, sight_losses  # noqa: E402

K = torch.tensor([[[100.0, 0.0, 112.0], [0.0, 100.0, 112.0], [0.0, 0.0, 1.0]]])


def looking_ahead(x, y, z):
    """A camera that looks along the base's +x, its picture upright, float32 [1, 4, 4]."""
    pose = torch.eye(4)
    pose[:3, :3] = torch.tensor([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    pose[:3, 3] = torch.tensor([x, y, z])
    return pose[None]


def sight(pixel, depth, aside=-4.0, along=-4.0, seen=10.0):
    number = torch.tensor([[depth]])
    return Sight(
        heat=torch.zeros(1, 1, 4, 4),
        pixel=torch.tensor([[pixel]]),
        depth=number.log(),
        aside=torch.full_like(number, aside),
        along=torch.full_like(number, along),
        seen=torch.full_like(number, seen),
    )


def test_a_pixel_to_the_right_and_below_is_to_the_right_and_below():
    ray = rays(torch.tensor([[[162.0, 137.0]]]), looking_ahead(0.0, 0.0, 1.0), K)
    # Half a unit to the right is -y of the base, a quarter down is -z.
    np.testing.assert_allclose(ray[0, 0], [1.0, -0.5, -0.25], atol=1e-6)


def test_two_cameras_that_agree_give_the_point():
    # (2, -1, 0.5) from (0, 0, 1) at depth 2, and from (1, -1, 0.5) straight ahead at depth 1.
    poses = [looking_ahead(0.0, 0.0, 1.0), looking_ahead(1.0, -1.0, 0.5)]
    sights = [sight([162.0, 137.0], 2.0), sight([112.0, 112.0], 1.0)]
    places = fuse(sights, poses, [K, K])
    np.testing.assert_allclose(places.points[0, 0], [2.0, -1.0, 0.5], atol=2e-3)
    assert places.scale[0, 0] < 0.03


def test_the_surer_camera_is_believed_and_one_that_sees_nothing_is_not():
    poses = [looking_ahead(0.0, 0.0, 1.0)] * 2
    wrong = sight([112.0, 112.0], 3.0, aside=-1.0, along=-1.0)
    unseen = sight([112.0, 112.0], 3.0, seen=-10.0)
    for other in (wrong, unseen):
        places = fuse([sight([162.0, 137.0], 2.0), other], poses, [K, K])
        np.testing.assert_allclose(places.points[0, 0], [2.0, -1.0, 0.5], atol=0.03)
    lost = fuse([unseen, unseen], poses, [K, K])
    assert lost.scale[0, 0] > 0.5


def test_depth_is_less_sure_than_direction_so_two_views_from_the_side_fix_it():
    turned = looking_ahead(2.0, -3.0, 0.5)
    turned[0, :3, :3] = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    poses = [looking_ahead(0.0, -1.0, 0.5), turned]  # it looks along +y at (2, -1, 0.5)
    off = [sight([112.0, 112.0], 2.3, along=-1.0), sight([112.0, 112.0], 1.8, along=-1.0)]
    places = fuse(off, poses, [K, K])
    np.testing.assert_allclose(places.points[0, 0], [2.0, -1.0, 0.5], atol=0.03)


def test_a_gripper_that_is_surely_open_releases():
    chunk = torch.zeros(1, 2, 23)
    chunk[0, :, 14] = torch.tensor([0.8, -0.9])
    chunk[0, :, 22] = torch.tensor([0.5, 1.3])
    chunk[0, :, 0] = 0.9
    found = saturated(chunk)
    assert found[0, :, 14].tolist() == [1.0, -1.0]
    assert found[0, :, 22].tolist() == [0.625, 1.0]
    assert found[0, :, 0].tolist() == chunk[0, :, 0].tolist()


def test_progress_rises_within_a_leg_and_from_leg_to_leg():
    leg = np.repeat(np.arange(LEGS), 60)
    steps = np.tile(np.arange(60), LEGS)
    progress = progress_of(leg, steps)
    assert (np.diff(progress) >= 0).all()
    assert progress[-1] < 1.0
    np.testing.assert_array_equal(np.floor(progress * LEGS + 1e-4), leg)
    closing = FIRST_LEG["fetch", "boxing_glove_1"] + 4
    assert closing in CLOCKED
    at = 60 * closing + np.array([0, CLOCK_STEPS // 4, CLOCK_STEPS // 2])
    np.testing.assert_allclose(progress[at] * LEGS - closing, [0.0, 0.25, 0.5], atol=1e-5)


def test_driving_has_no_clock():
    driving = np.full(3, FIRST_LEG["fetch", "boxing_glove_1"] + 2)
    np.testing.assert_allclose(progress_of(driving, np.array([0, 30, 200])), (driving + 0.5) / LEGS)


def test_the_active_glove_changes_with_the_leg():
    places = np.zeros((2, 6, 3, 4), np.float32)
    places[:, :, :, :3] = np.eye(3)
    places[:, 0, 0, 3], places[:, 1, 0, 3] = 1.0, 5.0  # the gloves' x
    points = points_of(places, np.array([SECOND_GLOVE_FROM - 1, SECOND_GLOVE_FROM]))
    cuff, other = NAMES.index("active cuff"), NAMES.index("other cuff")
    np.testing.assert_allclose(points[:, cuff, 0], [1.0 - 0.095, 5.0 - 0.095], atol=1e-6)
    np.testing.assert_allclose(points[:, other, 0], [5.0 - 0.095, 1.0 - 0.095], atol=1e-6)


def test_what_is_behind_or_beside_a_camera_is_not_in_view():
    points = np.array([[[1.0, 0.0, 1.0], [-1.0, 0.0, 1.0], [1.0, 0.8, 1.0]]], np.float32)
    cameras = looking_ahead(0.0, 0.0, 1.0)[:, None, :3].numpy()
    assert in_view(points, cameras, (1.0,)).tolist() == [[[True, False, False]]]


def one_picture(cuff):
    """A grey picture of both views with every point far behind the cameras but the active cuff."""
    points = torch.full((1, len(NAMES), 3), -5.0)
    points[0, 0] = torch.tensor(cuff)
    seen = torch.zeros(1, 2, len(NAMES), dtype=torch.bool)
    seen[:, :, 0] = True
    return SightBatch(
        pictures=torch.zeros(1, 1, 3, 224, 224),
        poses=looking_ahead(0.0, 0.0, 1.0)[:, None].expand(-1, 3, -1, -1),
        proprio=torch.zeros(1, 23),
        second=torch.zeros(1),
        points=points,
        seen=seen,
    )


@pytest.mark.parametrize("view", [0, 1])
def test_the_loss_of_an_eye_is_least_where_the_point_is(view):
    batch = one_picture((2.0, 0.0, 1.0))  # 2 m ahead, in the middle of the picture
    size = (56, 28)[view]

    def loss(column, depth):
        heat = torch.full((1, len(NAMES), size, size), -10.0)
        heat[0, 0, size // 2 - 1 : size // 2 + 1, column - 1 : column + 1] = 10.0
        pixel = torch.full((1, len(NAMES), 2), 112.0)
        pixel[..., 0] = column * 224 / size
        number = torch.full((1, len(NAMES)), depth)
        sight = Sight(heat, pixel, number.log(), number * 0 - 4, number * 0 - 4, number * 0)
        return float(sight_losses(sight, batch, view)["loss"])

    right = loss(size // 2, 2.0)
    assert right < loss(size // 2 + 2, 2.0) < loss(size // 2 + 8, 2.0)
    assert right < loss(size // 2, 2.2) < loss(size // 2, 3.0)


def test_an_eye_gives_the_same_for_each_picture_of_a_batch():
    model, _ = build(0)
    model.eval()
    batch = one_picture((2.0, 0.0, 1.0))
    twice = SightBatch(**{n: torch.cat([v, v]) for n, v in vars(batch).items()})
    with torch.inference_mode():
        for view in (0, 1):
            one, both = look(model, batch, view), look(model, twice, view)
            torch.testing.assert_close(both.depth, one.depth.expand(2, -1), atol=1e-5, rtol=0)
