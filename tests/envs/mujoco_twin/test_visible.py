"""What is left out of a picture does not show; MuJoCo's own renderer, which leaves out nothing,
is the independent truth."""

from __future__ import annotations

import numpy as np
import pytest

from b1k_envs import r1pro
from b1k_envs.base import VIEWS
from b1k_envs.mujoco_twin.engine import GROUP_VISUAL
from b1k_envs.mujoco_twin.rendering.gl import ensure_gl
from b1k_envs.tasks.described import TWIN_TASKS

mujoco = pytest.importorskip("mujoco")

from b1k_envs.mujoco_twin.instances import make_instance  # noqa: E402
from b1k_envs.mujoco_twin.rendering.studio import Shown, Studio  # noqa: E402
from b1k_envs.mujoco_twin.scenes import load_scene  # noqa: E402


class Everything:
    """Draws a model with one `mujoco.Renderer` a size: every geom, in MuJoCo's order, with sky."""

    def __init__(self, model, shadows=False):
        ensure_gl()
        self.model, self.shadows, self.renderers = model, shadows, {}

    def __call__(self, data, camera, height, width):
        if (height, width) not in self.renderers:
            self.renderers[height, width] = mujoco.Renderer(self.model, height, width)
        renderer = self.renderers[height, width]
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = self.shadows
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        option = mujoco.MjvOption()
        option.geomgroup[:] = np.arange(6) == GROUP_VISUAL
        option.sitegroup[:] = 0
        renderer.update_scene(data, camera, option)
        return renderer.render()

    def close(self):
        for renderer in self.renderers.values():
            renderer.close()


def states(task, model, count=3):
    """Rooms with the robot turned, bent and reaching as it never does in an episode."""
    rng = np.random.default_rng(5)
    scene = load_scene(task)
    for number in range(count):
        qpos = model.qpos0.copy()
        for joint in range(model.njnt):
            if model.jnt_limited[joint]:
                low, high = model.jnt_range[joint]
                qpos[model.jnt_qposadr[joint]] = rng.uniform(low, high)
        turn = model.joint("base_footprint_rz_joint").qposadr[0]
        qpos[turn] = rng.uniform(-np.pi, np.pi)
        look = frozenset(name for name in scene.switches if rng.random() < 0.5)
        yield Shown(make_instance(scene, "public-test", number), look, qpos)


def differing(first, second):
    return int((first != second).any(axis=2).sum())


@pytest.mark.slow
@pytest.mark.parametrize("task", TWIN_TASKS)
def test_native_pictures_are_those_of_the_renderer_that_draws_everything(task):
    studio = Studio(task)
    everything = Everything(studio.model)
    sizes = {view: r1pro.CAMERAS[view].size for view in VIEWS}
    for shown in states(task, studio.model):
        studio.pose(shown)
        pictures = studio.render(sizes)
        for view, size in sizes.items():
            # Where two surfaces coincide, the one drawn last is seen: a few pixels may differ.
            assert differing(pictures[view], everything(studio.data, view, size, size)) <= 8
            assert pictures[view].std() > 5
    everything.close()
    studio.close()


def test_with_shadows_what_is_outside_the_picture_still_casts_them():
    studio = Studio("clean_boxing_gloves", "high")
    everything = Everything(studio.model, shadows=True)
    for shown in states("clean_boxing_gloves", studio.model, 1):
        studio.pose(shown)
        picture = studio.render({"head": 200})["head"]
        np.testing.assert_array_equal(picture, everything(studio.data, "head", 200, 200))
    everything.close()
    studio.close()


@pytest.mark.parametrize("task", TWIN_TASKS)
def test_from_inside_a_room_no_sky_is_seen_and_from_outside_it_is_drawn(task):
    studio = Studio(task)
    camera = studio.model.camera("overview").id
    rig, rng = studio._rig, np.random.default_rng(1)
    studio.pose(next(iter(states(task, studio.model, 1))))
    low = [studio.model.geom(name).pos[axis] for axis, name in enumerate(("wall_x0", "wall_y0"))]
    high = [studio.model.geom(name).pos[axis] for axis, name in enumerate(("wall_x1", "wall_y1"))]
    for _ in range(24):
        studio.data.cam_xpos[camera] = rng.uniform((*low, 0.0), (*high, 2.5)).clip(
            np.add((*low, 0.0), 0.051), np.subtract((*high, 2.5), 0.051)
        )
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        studio.data.cam_xmat[camera] = (turn * np.sign(np.linalg.det(turn))).ravel()
        assert rig.segment(studio.data, "overview", 96, 96).min() >= 0
    studio.data.cam_xpos[camera] = (high[0] + 1, high[1] + 1, 5.0)
    studio.data.cam_xmat[camera] = np.diag((1.0, -1.0, -1.0)).ravel()  # upwards: nothing but sky
    sky = rig.render(studio.data, "overview", 96, 96)
    assert sky.min() > 100
    everything = Everything(studio.model)
    np.testing.assert_array_equal(sky, everything(studio.data, "overview", 96, 96))
    everything.close()
    studio.close()


def test_a_look_leaves_the_model_as_it_was_and_sizes_share_a_context():
    studio = Studio("turning_on_radio")
    studio.pose(next(iter(states("turning_on_radio", studio.model, 1))))
    groups = studio.model.geom_group.copy()
    first = studio.render({"head": 96, "left_wrist": 64, "right_wrist": 64})
    again = studio.render({"right_wrist": 64, "left_wrist": 64, "head": 96})
    assert all((first[view] == again[view]).all() for view in VIEWS)
    np.testing.assert_array_equal(studio.model.geom_group, groups)
    wide = studio._rig.render(studio.data, "head", 48, 96)
    # The field of view is that of the height, so the middle of a wide picture is the square one.
    square = studio._rig.render(studio.data, "head", 48, 48)
    assert np.abs(wide[:, 24:72].astype(int) - square).mean() < 1
    studio.close()
