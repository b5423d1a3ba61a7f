"""Depth out of the double, where it is asked for and nowhere else, against the twin's own."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from jobs import run_jobs
from omnigibson_bench import drive

from b1k_envs import r1pro
from b1k_envs.base import VIEWS
from b1k_envs.errors import EnvError
from b1k_envs.mujoco_twin.rendering.cameras import CameraRig


@pytest.mark.slow
def test_depth_is_asked_of_no_camera_where_nobody_wants_it(double_2026, monkeypatch):
    def fail(*_: object) -> None:
        raise AssertionError("depth was rendered")

    monkeypatch.setattr(CameraRig, "depth", fail)
    env = double_2026.env()
    env.reset(0, 0, 0)
    assert env.observe().depth is None
    assert "depth" not in env.info.settings
    for sensor in env._world._dialect.robot(0).sensors.values():
        assert sensor.modalities == {"rgb"}


@pytest.mark.slow
def test_depth_where_it_is_asked_for_is_that_of_the_pictures(double, twin_of):
    env = double.env(depth=True)
    env.reset(0, 0, 0)
    seen = env.observe()
    assert seen.depth is not None
    assert env.info.settings["depth"] is True
    twin = twin_of(double.protocol)
    for view in VIEWS:
        size = r1pro.CAMERAS[view].size
        assert seen.depth[view].shape == seen.images[view].shape[:2] == (size, size)
        apart = np.abs(seen.depth[view] - twin._rig.depth(twin._data, view, size, size))
        assert np.quantile(apart, 0.99) < 0.005
    assert env.observe().depth is seen.depth, "read once a step"
    assert env.observe(images=False).depth == {}


@pytest.mark.slow
@pytest.mark.parametrize("render", ["on-demand", "every-step"])
def test_depth_lags_with_its_picture_and_no_more(double_2026, render):
    env = double_2026.env(depth=True, render=render)
    double_2026.installed.draw_pictures()
    env.reset(0, 0, 0)
    for step in range(4):
        env.step(drive(step))
    seen = env.observe()
    moment = env._world._dialect.robot(0).sensors["robot_r1:zed_link:Camera:0"]._shown()
    np.testing.assert_array_equal(seen.depth["head"], moment.depth("head"))
    np.testing.assert_array_equal(seen.images["head"], moment.picture("head"))


def test_depth_that_was_asked_for_and_does_not_come_is_found_at_the_start(double_2026, monkeypatch):
    sensors = importlib.import_module("omnigibson_double.sensors")
    real = sensors.VisionSensor.get_obs

    def without(self):
        obs, info = real(self)
        obs.pop("depth_linear", None)
        return obs, info

    monkeypatch.setattr(sensors.VisionSensor, "get_obs", without)
    environment = importlib.import_module("omnigibson_double.environment")
    monkeypatch.setattr(environment.BaseEnvironment, "_check_observation", lambda *a: None)
    expected = r"depth_linear of head: expected \['float32', 720, 720\], found None"
    with pytest.raises(EnvError, match=expected):
        double_2026.env(depth=True)


@pytest.mark.slow
def test_every_env_of_a_group_has_its_own(double_2026):
    group = double_2026.group(2, depth=True)
    found = {}

    def job(number):
        def run(env):
            env.reset(number, 0, 0)
            found[number] = env.observe().depth["head"]

        return run

    run_jobs(group, [job(0), job(1)])
    assert np.isfinite(found[0]).all()
    assert not np.array_equal(found[0], found[1])
