"""The robot's shells: every link dressed, nothing collides or weighs, no camera looks at itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from b1k_envs.mujoco_twin.engine import GROUP_VISUAL
from b1k_envs.mujoco_twin.rendering.gl import ensure_gl

ensure_gl()

import mujoco  # noqa: E402 - after the choice of GL

from b1k_envs import r1pro  # noqa: E402
from b1k_envs.base import VIEWS  # noqa: E402
from b1k_envs.errors import UsageError  # noqa: E402
from b1k_envs.mujoco_twin.looks import add_looks  # noqa: E402
from b1k_envs.mujoco_twin.robot import body as robot  # noqa: E402

ARMS_RAISED = {"left": (-0.3, 0.25, 0, -1.3, 0, 0, 0), "right": (-0.3, -0.25, 0, -1.3, 0, 0, 0)}


def build(looks: bool = True) -> mujoco.MjModel:
    spec = mujoco.MjSpec()
    spec.stat.extent = 1.0
    spec.visual.map.znear = 0.002
    robot.add_robot(spec)
    if looks:
        add_looks(spec, "robot")
    return spec.compile()


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return build()


@pytest.fixture
def at_reset(model: mujoco.MjModel) -> mujoco.MjData:
    data = mujoco.MjData(model)
    for name, value in zip(r1pro.TRUNK_JOINTS, (1.025, -1.45, -0.47, 0.0), strict=True):
        data.joint(name).qpos = value
    for arm in r1pro.ARMS:
        first, second = r1pro.FINGER_JOINTS[arm]
        data.joint(first).qpos, data.joint(second).qpos = 0.05, -0.05
    mujoco.mj_forward(model, data)
    return data


def visual_geoms(model: mujoco.MjModel) -> Iterator[int]:
    return (g for g in range(model.ngeom) if model.geom_group[g] == GROUP_VISUAL)


def world_vertices(model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> np.ndarray:
    mesh = model.geom_dataid[geom]
    start = model.mesh_vertadr[mesh]
    vertices = model.mesh_vert[start : start + model.mesh_vertnum[mesh]]
    return vertices @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]


def geom_ids(model: mujoco.MjModel, data: mujoco.MjData, view: str) -> np.ndarray:
    """Segmentation picture [240, 240] of the shells alone: geom ids, -1 for nothing."""
    option = mujoco.MjvOption()
    option.geomgroup[:] = [0, 0, 1, 0, 0, 0]
    with mujoco.Renderer(model, 240, 240) as renderer:
        renderer.enable_segmentation_rendering()
        renderer.update_scene(data, view, option)
        return renderer.render()[..., 0]


def link_pixels(model: mujoco.MjModel, data: mujoco.MjData, view: str) -> dict[str, float]:
    """Share of the picture that each link's shells cover, by link name."""
    ids = geom_ids(model, data, view)
    shares: dict[str, float] = {}
    for geom, count in zip(*np.unique(ids[ids >= 0], return_counts=True), strict=True):
        link = model.body(model.geom_bodyid[geom]).name
        shares[link] = shares.get(link, 0.0) + count / ids.size
    return shares


def test_every_link_of_the_kinematics_wears_something(model: mujoco.MjModel) -> None:
    dressed = {model.body(model.geom_bodyid[g]).name for g in visual_geoms(model)}
    assert dressed == set(r1pro.kinematics()["links"])


def test_looks_before_the_robot_are_refused_with_the_call_to_make() -> None:
    with pytest.raises(UsageError, match=r"no body 'base_link' to dress with robot\.xml: add"):
        add_looks(mujoco.MjSpec(), "robot")


def test_shells_never_collide(model: mujoco.MjModel) -> None:
    geoms = list(visual_geoms(model))
    assert geoms
    assert not model.geom_contype[geoms].any()
    assert not model.geom_conaffinity[geoms].any()


def test_shells_change_neither_mass_nor_inertia_nor_joints(model: mujoco.MjModel) -> None:
    bare = build(looks=False)
    for field in ("body_mass", "body_inertia", "body_ipos", "body_iquat", "jnt_pos", "body_pos"):
        np.testing.assert_array_equal(getattr(model, field), getattr(bare, field), err_msg=field)
    assert model.nq == bare.nq


def test_the_robot_is_cheap_to_draw_and_opaque(model: mujoco.MjModel) -> None:
    meshes = [model.geom_dataid[g] for g in visual_geoms(model)]
    assert model.mesh_facenum[meshes].sum() <= 12_000
    materials = {model.geom_matid[g] for g in visual_geoms(model)}
    assert len(materials) <= 6
    assert (model.mat_rgba[:, 3] == 1).all()
    assert not model.mat_reflectance.any()


@pytest.mark.parametrize("raised", [False, True])
@pytest.mark.parametrize("view", VIEWS)
def test_no_camera_sees_its_own_housing(
    model: mujoco.MjModel, at_reset: mujoco.MjData, view: str, raised: bool
) -> None:
    if raised:
        raise_arms(model, at_reset)
    own = r1pro.CAMERAS[view].link
    assert link_pixels(model, at_reset, view).get(own, 0.0) < 0.01


@pytest.mark.parametrize("view", VIEWS)
def test_every_shell_on_a_camera_link_lies_behind_the_camera(
    model: mujoco.MjModel, at_reset: mujoco.MjData, view: str
) -> None:
    link = model.body(r1pro.CAMERAS[view].link).id
    camera = at_reset.camera(view)
    back = camera.xmat.reshape(3, 3)[:, 2]
    for geom in (g for g in visual_geoms(model) if model.geom_bodyid[g] == link):
        depth = (world_vertices(model, at_reset, geom) - camera.xpos) @ back
        assert depth.min() > 1e-4, model.geom(geom).name


def test_the_head_sees_no_robot_at_reset_and_both_hands_when_raised(
    model: mujoco.MjModel, at_reset: mujoco.MjData
) -> None:
    assert link_pixels(model, at_reset, "head") == {}
    raise_arms(model, at_reset)
    seen = link_pixels(model, at_reset, "head")
    assert {"left_gripper_link", "right_gripper_link"} <= set(seen)
    assert not any(link.startswith(("torso", "base")) for link in seen)


@pytest.mark.parametrize("arm", r1pro.ARMS)
def test_a_wrist_sees_both_fingers_in_the_lower_part_of_its_picture(
    model: mujoco.MjModel, at_reset: mujoco.MjData, arm: str
) -> None:
    seen = link_pixels(model, at_reset, f"{arm}_wrist")
    assert seen[f"{arm}_gripper_finger_link1"] > 0.005
    assert seen[f"{arm}_gripper_finger_link2"] > 0.005
    assert f"{arm}_gripper_link" not in seen, "the palm lies outside the field of view"
    fingers = [g for g in visual_geoms(model) if f"{arm}_gripper_finger" in model.geom(g).name]
    rows = np.nonzero(np.isin(geom_ids(model, at_reset, f"{arm}_wrist"), fingers))[0]
    assert rows.min() >= 120, "fingers come in from below: the tips stay under the middle"


@pytest.mark.parametrize("arm", r1pro.ARMS)
@pytest.mark.parametrize("finger", [1, 2])
def test_the_rubber_lies_where_the_collision_pad_lies(
    model: mujoco.MjModel, at_reset: mujoco.MjData, arm: str, finger: int
) -> None:
    link = f"{arm}_gripper_finger_link{finger}"
    pad = model.geom(f"{link}_collision0")
    rubber = world_vertices(model, at_reset, model.geom(f"{link}_looks_rubber").id)
    body = at_reset.body(link)
    local = (rubber - body.xpos) @ body.xmat.reshape(3, 3) - pad.pos
    assert (np.abs(local) <= pad.size + 1e-5).all(), "no rubber outside the pad that touches"
    inward = -1 if finger == 1 else 1
    face = (local[:, 1] * inward).max()
    assert face == pytest.approx(pad.size[1], abs=1e-5), "gripping faces coincide"
    assert np.ptp(local[:, 2]) > 0.9 * 2 * pad.size[2]


def test_the_robot_stands_on_its_wheels_and_is_symmetric(
    model: mujoco.MjModel, at_reset: mujoco.MjData
) -> None:
    lowest = {"wheel": 0.0, "rest": 1.0}
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for geom in visual_geoms(model):
        vertices = world_vertices(model, at_reset, geom)
        kind = "wheel" if "wheel" in model.geom(geom).name else "rest"
        lowest[kind] = min(lowest[kind], vertices[:, 2].min())
        low, high = np.minimum(low, vertices.min(axis=0)), np.maximum(high, vertices.max(axis=0))
    assert lowest["wheel"] == pytest.approx(0.0, abs=1e-4)
    assert lowest["rest"] > 0.03
    assert high[1] == pytest.approx(-low[1], abs=0.002)
    assert 1.4 < high[2] < 1.8


def raise_arms(model: mujoco.MjModel, data: mujoco.MjData) -> None:
    for arm, posture in ARMS_RAISED.items():
        for name, value in zip(r1pro.ARM_JOINTS[arm], posture, strict=True):
            data.joint(name).qpos = value
    mujoco.mj_forward(model, data)
