"""The compiled twin against a chain that knows only the published figures, link by link."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from urdf_chain import JOINTS, LINKS, MOVING, link_poses, random_joints

from b1k_envs import r1pro
from b1k_envs.mujoco_twin.env import TwinEnv

BASE_JOINTS = ("base_footprint_x_joint", "base_footprint_y_joint", "base_footprint_rz_joint")
RIGID = ("steer_motor_joint", "wheel_motor_joint")
"""Joints of the URDF that the evaluator's holonomic base does not move."""


@pytest.fixture
def model(twin_2025: TwinEnv) -> mujoco.MjModel:
    return twin_2025._model


def full_inertia(model: mujoco.MjModel, link: str) -> np.ndarray:
    """Inertia about the centre of mass along the link's axes, float64 [3, 3]."""
    body = model.body(link)
    axes = np.zeros(9)
    mujoco.mju_quat2Mat(axes, body.iquat)
    return axes.reshape(3, 3) @ np.diag(body.inertia) @ axes.reshape(3, 3).T


def test_every_link_is_where_the_published_figures_put_it(model: mujoco.MjModel) -> None:
    random = np.random.default_rng(20)
    data = mujoco.MjData(model)
    for _ in range(100):
        joints = random_joints(random)
        base = random.uniform((-3, -3, -np.pi), (3, 3, np.pi))
        for name, value in (*joints.items(), *zip(BASE_JOINTS, base, strict=True)):
            data.joint(name).qpos = value
        mujoco.mj_kinematics(model, data)
        poses = link_poses(joints, base)
        assert poses.keys() == LINKS.keys()
        for link, truth in poses.items():
            body = data.body(link)
            np.testing.assert_allclose(body.xpos, truth[:3, 3], rtol=0, atol=1e-6, err_msg=link)
            rotation = body.xmat.reshape(3, 3)
            np.testing.assert_allclose(rotation, truth[:3, :3], rtol=0, atol=1e-6, err_msg=link)


def test_the_chain_of_the_test_reproduces_known_heights() -> None:
    """The second opinion has one of its own: straight up, heights are sums of the z origins."""
    poses = link_poses({})
    assert poses["torso_link4"][2, 3] == pytest.approx(0.34265 + 0.4 + 0.3 + 0.09962)
    assert poses["zed_link"][2, 3] == pytest.approx(1.14227 + 0.47598)
    # arms hang straight down: shoulder height less the arm's z origins
    hand = 1.14227 + 0.30302 - 0.1155 - 0.1945 - 0.095 - 0.16305 - 0.16065
    assert poses["left_gripper_link"][2, 3] == pytest.approx(hand)
    bent = link_poses({"torso_joint1": np.pi / 2})  # pitch: what was above is now ahead
    assert bent["torso_link2"][:3, 3] == pytest.approx([-0.079032 + 0.4, 0, 0.34265])


@pytest.mark.parametrize("link", LINKS)
def test_mass_com_and_inertia_are_the_published_ones(model: mujoco.MjModel, link: str) -> None:
    figures, body = LINKS[link], model.body(link)
    mass = 250.0 if link == "base_link" else figures["mass"]  # as in data collection
    assert body.mass == pytest.approx([mass], rel=1e-12)
    assert body.ipos == pytest.approx(np.array(figures["com"]), abs=1e-12)
    xx, xy, xz, yy, yz, zz = figures["inertia_xx_xy_xz_yy_yz_zz"]
    truth = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    np.testing.assert_allclose(full_inertia(model, link), truth, rtol=0, atol=1e-6 * truth.max())


def test_nothing_but_the_published_links_weighs_on_the_robot(model: mujoco.MjModel) -> None:
    root = model.body("base_link")
    weight = sum(figures["mass"] for figures in LINKS.values()) - 47.63 + 250.0
    assert root.subtreemass == pytest.approx([weight], rel=1e-12)
    robot = [b for b in range(model.nbody) if model.body_rootid[b] == root.id]
    assert {model.body(b).name for b in robot} == LINKS.keys()


def test_joints_have_the_published_names_limits_and_axes(model: mujoco.MjModel) -> None:
    root = model.body("base_link").id
    modelled = {
        model.joint(j).name: model.joint(j)
        for j in range(model.njnt)
        if model.body_rootid[model.jnt_bodyid[j]] == root
    }
    movable = {n for n, j in JOINTS.items() if j["type"] != "fixed" and not n.startswith(RIGID)}
    assert movable == set(MOVING)
    assert modelled.keys() == movable | set(BASE_JOINTS)
    for name in MOVING:
        figures, joint = JOINTS[name], modelled[name]
        assert joint.limited == [1], name
        assert joint.range == pytest.approx([figures["lower"], figures["upper"]], abs=1e-12), name
        assert joint.axis == pytest.approx(np.array(figures["axis"]), abs=1e-12), name
        slides = joint.type == mujoco.mjtJoint.mjJNT_SLIDE
        assert slides == (figures["type"] == "prismatic"), name
        assert model.body(model.jnt_bodyid[joint.id]).name == figures["child"]


def test_the_base_goes_anywhere_on_the_floor_and_turns_without_end(model: mujoco.MjModel) -> None:
    for name in BASE_JOINTS:
        assert model.joint(name).limited == [0], name


def test_joint_limits_reads_the_rows_in_the_order_asked_for() -> None:
    limits = r1pro.joint_limits(("right_arm_joint2", "torso_joint1"))
    assert limits.tolist() == [[-3.1416, 0.1745], [-1.1345, 1.8326]]
    with pytest.raises(ValueError, match="read-only"):
        limits[0, 0] = 0.0
