"""The twin's depth, against planes that are known and rays that are cast.

A pixel's ray goes through its centre by our intrinsics, from the camera's own pose. What a pass
does not prove: that OmniGibson's renderer rounds, or answers for glass and sky, in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator

import mujoco
import numpy as np
import pytest

from b1k_envs import r1pro
from b1k_envs.base import VIEWS, View
from b1k_envs.mujoco_twin.engine import GROUP_VISUAL
from b1k_envs.mujoco_twin.env import TwinEnv
from b1k_envs.mujoco_twin.rendering.cameras import CameraRig
from b1k_envs.tasks.table import get_task
from b1k_envs.tracks import StandardTrackEnv


def make(*, depth: bool) -> TwinEnv:
    return TwinEnv(get_task(31), protocol="2026", split="public-test", max_steps=10, depth=depth)


@pytest.fixture(scope="module")
def twin() -> Iterator[TwinEnv]:
    env = make(depth=True)
    env.reset(3, 0, 0)
    yield env
    env.close()


def rays(view: View) -> np.ndarray:
    """Per pixel, float64 [H, W, 3]: the ray with one metre along the axis, camera frame."""
    camera = r1pro.CAMERAS[view]
    place = (np.arange(camera.size) + 0.5 - camera.size / 2) / camera.focal
    u, v = np.meshgrid(place, place)
    return np.stack([u, -v, -np.ones_like(u)], axis=-1)


def world_rays(env: TwinEnv, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Camera position [3], and `rays` in the world frame."""
    camera = env._data.cam(view)
    return camera.xpos.copy(), rays(view) @ camera.xmat.reshape(3, 3).T


def test_depth_comes_with_the_pictures_read_only_and_at_their_size(twin: TwinEnv):
    seen = twin.observe()
    assert seen.depth is not None
    assert list(seen.depth) == list(VIEWS)
    for view in VIEWS:
        depth = seen.depth[view]
        assert depth.dtype == np.float32
        assert depth.shape == seen.images[view].shape[:2]
        assert not depth.flags.writeable
        assert (depth > 0).all()


def test_the_floor_is_where_the_plane_z_0_is(twin: TwinEnv):
    """A distance along the ray, which is up to 1.4 times as long, would miss it."""
    seen = twin.observe()
    assert seen.depth is not None
    size = r1pro.CAMERAS["head"].size
    geoms = twin._rig.segment(twin._data, "head", size, size)
    floor = geoms == twin._model.geom("room_floor").id
    assert floor.sum() > 10_000
    position, directions = world_rays(twin, "head")
    heights = position[2] + seen.depth["head"] * directions[..., 2]
    assert np.abs(heights[floor]).max() < 0.002
    assert np.linalg.norm(directions[floor], axis=-1).max() > 1.3  # lengths would be far off


@pytest.mark.parametrize("view", VIEWS)
def test_cast_rays_hit_what_is_drawn_at_the_depth_that_is_said(twin: TwinEnv, view: View):
    seen = twin.observe()
    assert seen.depth is not None
    model, data = twin._model, twin._data
    groups = np.array([group == GROUP_VISUAL for group in range(6)], dtype=np.uint8)
    position, directions = world_rays(twin, view)
    size, hit = r1pro.CAMERAS[view].size, np.zeros(1, dtype=np.int32)
    errors = []
    for row, column in np.random.default_rng(7).integers(0, size, (300, 2)):
        ray = directions[row, column]
        length = float(np.linalg.norm(ray))
        reach = mujoco.mj_ray(model, data, position, ray / length, groups, True, -1, hit)
        if hit[0] >= 0:
            errors.append(abs(reach / length - seen.depth[view][row, column]))
    assert len(errors) > 250
    assert np.quantile(errors, 0.9) < 0.002, "beyond that are edges, which a pixel straddles"


def test_where_nothing_is_there_is_no_distance(twin: TwinEnv):
    spec = mujoco.MjSpec()
    body = spec.worldbody.add_body(pos=[0, 0, 0])
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.1, 0.1, 0.1], group=GROUP_VISUAL, pos=[0, 0, -1]
    )
    spec.worldbody.add_camera(name="down", pos=[0, 0, 0], fovy=60)
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    rig = CameraRig(model)
    depth = rig.depth(data, "down", 64, 64)
    rig.close()
    assert depth[32, 32] == pytest.approx(0.9, abs=1e-3)  # the top of the box, not its centre
    assert np.isinf(depth[0, 0])
    assert set(np.isinf(depth).ravel().tolist()) == {True, False}


def test_depth_is_of_the_step_and_not_rendered_twice(twin: TwinEnv, monkeypatch):
    calls = []
    real = CameraRig.depth
    monkeypatch.setattr(CameraRig, "depth", lambda *a: calls.append(a[2]) or real(*a))
    twin.reset(0, 0, 0)
    first = twin.observe().depth
    assert twin.observe().depth is first
    assert calls == list(VIEWS)
    action = np.zeros(23, dtype=np.float32)
    action[3:7] = r1pro.RESET_JOINT_POSITION[6:10]
    twin.step(action)
    assert twin.observe().depth is not first
    assert len(calls) == 6


def test_without_pictures_there_is_no_depth_either(twin: TwinEnv):
    seen = twin.observe(images=False)
    assert seen.images == seen.depth == {}


@pytest.mark.slow
def test_an_env_that_was_not_asked_renders_none_and_says_none(monkeypatch):
    def fail(*_: object) -> None:
        raise AssertionError("depth was rendered")

    monkeypatch.setattr(CameraRig, "depth", fail)
    env = make(depth=False)
    env.reset(0, 0, 0)
    try:
        assert env.observe().depth is None
        assert "depth" not in env.info.settings
    finally:
        env.close()


@pytest.mark.slow
def test_the_pictures_are_the_same_with_depth_and_without(twin: TwinEnv):
    other = make(depth=False)
    for env in (twin, other):
        env.reset(5, 0, 0)
    with_depth, without = twin.observe(), other.observe()
    other.close()
    for view in VIEWS:
        np.testing.assert_array_equal(with_depth.images[view], without.images[view])


def test_the_standard_track_hides_no_depth(twin: TwinEnv):
    twin.reset(0, 0, 0)
    assert StandardTrackEnv(twin).observe().depth is twin.observe().depth
    assert twin.info.settings["depth"] is True
