"""The double's cameras: late, of the wrong lens, and sized for somebody else."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from omnigibson_double.official import official_config
from omnigibson_double.probes import (
    DRIVE,
    HEAD,
    WRIST,
    at_rest,
    both,
    first,
    robot_of,
    start_as_asked,
    tick_in,
)
from twin_bench import make_twin


@pytest.fixture
def og(request):
    return start_as_asked(request)


# --- rendering ------------------------------------------------------------------------------


@both
def test_a_picture_is_current_after_three_renders_and_not_before(og):
    module, env, _ = og
    env.step(DRIVE)
    now = tick_in(env.reset()[0])
    with module.sim.render_on_step(False):
        obs = env.step(DRIVE)[0]
    assert tick_in(obs) == now
    for _ in range(2):
        module.sim.render()
        assert tick_in(env.get_obs()[0]) == now
    module.sim.render()
    assert tick_in(env.get_obs()[0]) == now + 1


@both
def test_a_rendered_step_shows_the_state_of_two_steps_ago(og):
    _, env, _ = og
    now = tick_in(env.reset()[0])
    assert [tick_in(env.step(DRIVE)[0]) for _ in range(4)] == [now, now, now + 1, now + 2]


@both
def test_extra_render_iterations_come_on_top_and_zero_is_one(og):
    module, env, _ = og
    counts = []
    for iterations in (0, 1, 3):
        before = module.sim.renders
        env.step(DRIVE, n_render_iterations=iterations)
        counts.append(module.sim.renders - before)
    assert counts == [1, 1, 3]


@both
def test_an_error_inside_leaves_rendering_switched_off(og):
    module, _, installed = og
    installed.faults.plan("step", "crash")
    with pytest.raises(RuntimeError, match="PhysX"), module.sim.render_on_step(False):
        module.sim.step()
    assert module.sim._render_on_step is False


@both
def test_a_reset_without_observation_neither_steps_nor_renders(og):
    module, env, _ = og
    before = (module.sim.steps, module.sim.renders)
    assert env.reset(get_obs=False) is None
    assert (module.sim.steps, module.sim.renders) == before
    env.reset()
    assert (module.sim.steps, module.sim.renders) == (before[0] + 1, before[1] + 4)


@both
def test_camera_parameters_are_zeros_at_first_and_then_belong_to_the_picture(og):
    module, env, _ = og
    camera = robot_of(env).sensors[HEAD]
    before = module.sim.renders
    assert not np.any(camera.camera_parameters["cameraViewTransform"])
    assert module.sim.renders == before + 4
    was = camera.get_position_orientation()[0].numpy()
    with module.sim.render_on_step(False):
        for _ in range(10):
            env.step(DRIVE)
    view = camera.camera_parameters["cameraViewTransform"].reshape(4, 4)
    np.testing.assert_allclose(np.linalg.inv(view.T)[:3, 3], was, atol=1e-5)
    assert np.linalg.norm(camera.get_position_orientation()[0].numpy() - was) > 0.05


@both
def test_a_resized_camera_needs_the_observation_space_loaded_again(og):
    module, env, _ = og
    camera = robot_of(env).sensors[HEAD]
    before = module.sim.renders
    camera.image_height = 360
    camera.image_width = 360
    assert module.sim.renders == before + 8
    with pytest.raises(ValueError, match="Observation space does not match"):
        env.reset()
    env.load_observation_space()
    assert first(env.reset()[0])["robot_r1"][HEAD]["rgb"].shape == (360, 360, 4)


@pytest.mark.slow
def test_the_head_sees_too_little_until_its_aperture_is_set(og_2025):
    module = importlib.import_module("omnigibson")
    og_2025.draw_pictures()
    env = module.Environment(configs=official_config(og_2025))
    narrow = at_rest_picture(env, og_2025, aperture=20.995)
    wide = at_rest_picture(env, og_2025, aperture=40.0)
    twin = make_twin("2025")
    twin.reset(0, 0, 0)
    images = twin.observe().images
    assert np.array_equal(wide[HEAD][:, :, :3], images["head"])
    assert not np.array_equal(narrow[HEAD][:, :, :3], images["head"])
    twin.close()


def at_rest_picture(env, installed, *, aperture):
    at_rest(env, installed)
    env.robots[0].sensors[HEAD].horizontal_aperture = aperture
    obs = env.reset()[0]["robot_r1"]
    assert (obs[HEAD]["rgb"][:, :, 3] == 255).all()
    return {name: obs[name]["rgb"].numpy() for name in (HEAD, WRIST)}
