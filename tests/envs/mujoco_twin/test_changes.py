"""Changes of the twin's world: nothing at 0, and otherwise what they say, read from the model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from twin_bench import GLOVES, action

from b1k_envs.mujoco_twin.changes import WorldChanges, changed_instance
from b1k_envs.mujoco_twin.env import TwinEnv
from b1k_envs.mujoco_twin.instances import make_instance
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.scene import SCENE
from b1k_envs.tasks.table import get_task

SEED = 5


def world(changes):
    env = TwinEnv(
        get_task(31), protocol="2026", split="public-test", max_steps=100, changes=changes
    )
    env.reset(3, 0, SEED)
    return env


@pytest.fixture(scope="module")
def plain():
    env = world(WorldChanges())
    yield env
    env.close()


def test_no_change_is_no_change_to_the_bit(plain):
    same = world(WorldChanges(light=0.0, camera_turn={"head": 0.0}))
    assert same._instance.light == plain._instance.light
    for _ in range(5):
        same.step(action())
        plain.step(action())
    assert (same._data.qpos == plain._data.qpos).all()
    for view, picture in plain.observe().images.items():
        assert (same.observe().images[view] == picture).all()
    plain.reset(3, 0, SEED)
    same.close()


def test_lights_and_colours_are_brighter_dimmer_and_tinted():
    nominal = make_instance(SCENE, "public-test", 3)
    lit = changed_instance(SCENE, nominal, WorldChanges(light=-0.5, colours=0.4), SEED)
    assert lit.light == pytest.approx(0.5 * nominal.light)
    ratios = np.array(lit.tints) / np.array(nominal.tints)
    assert 0.6 <= ratios.min() < 0.7 < 1.3 < ratios.max() <= 1.4
    assert lit.things == nominal.things
    again = changed_instance(SCENE, nominal, WorldChanges(light=-0.5, colours=0.4), SEED)
    other = changed_instance(SCENE, nominal, WorldChanges(colours=0.4), SEED + 1)
    assert again == lit
    assert other.tints != lit.tints


def test_start_and_things_are_further_from_where_they_nominally_are(plain):
    env = world(WorldChanges(start=1.0, places=2.0))
    near, far = plain._instance, env._instance
    assert np.array(far.start) == pytest.approx(2.0 * np.array(near.start))
    for glove in GLOVES:
        thing = SCENE.things[glove]
        nominal = np.array(thing.pose) + [*near.shifts[thing.on], 0.0]
        assert np.array(far.things[glove]) - nominal == pytest.approx(
            3.0 * (np.array(near.things[glove]) - nominal)
        )
    env.close()


def test_a_camera_is_really_turned_and_moved_and_the_pose_told_is_right(plain):
    env = world(WorldChanges(camera_turn={"head": np.radians(6)}, camera_shift={"head": 0.04}))
    was, now = plain.observe(), env.observe()
    turned = was.camera_to_base["head"][:3, :3].T @ now.camera_to_base["head"][:3, :3]
    assert np.degrees(Rotation.from_matrix(turned).magnitude()) == pytest.approx(6, abs=1e-3)
    moved = now.camera_to_base["head"][:3, 3] - was.camera_to_base["head"][:3, 3]
    assert np.linalg.norm(moved) == pytest.approx(0.04, abs=1e-5)
    assert (now.images["head"] != was.images["head"]).any()
    assert (now.images["left_wrist"] == was.images["left_wrist"]).all()
    # The video's process is told by the instance, and so shows the same.
    assert env.shown().instance.mounts.keys() == {"head"}
    other = changed_instance(SCENE, plain._instance, WorldChanges(camera_turn={"head": 0.1}), 6)
    assert other.mounts != env._instance.mounts
    env.close()


def test_things_are_heavier_and_slide_by_their_own_friction(plain):
    env = world(WorldChanges(mass=4.0, friction=-0.9))
    for glove in GLOVES:
        body = env._model.body(glove).id
        assert env._model.body_mass[body] == pytest.approx(5 * plain._model.body_mass[body])
    # A glove on the counter that is pushed slides on where it stopped before.
    gone = []
    for each in (plain, env):
        each.reset(3, 0, SEED)
        joint = each._model.joint(f"{GLOVES[0]}_joint")
        each._data.qvel[joint.dofadr[0]] = 0.5  # m/s along x
        start = each._data.qpos[joint.qposadr[0]]
        for _ in range(30):
            each.step(action())
        gone.append(abs(each._data.qpos[joint.qposadr[0]] - start))
    assert gone[1] > 2 * gone[0]
    env.close()


def test_changes_do_not_reach_other_twins_of_the_process(plain):
    mass = plain._model.body_mass.copy()
    world(WorldChanges(mass=9.0)).close()
    assert (plain._model.body_mass == mass).all()
    assert replace(plain._instance) == make_instance(SCENE, "public-test", 3)
