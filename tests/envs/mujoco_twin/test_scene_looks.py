"""The looks of the twin's room: they change pictures and nothing else."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from b1k_envs.errors import UnavailableError
from b1k_envs.mujoco_twin.engine import GROUP_VISUAL
from b1k_envs.mujoco_twin.rendering.gl import ensure_gl

mujoco = pytest.importorskip("mujoco")

from b1k_envs.mujoco_twin.looks import add_looks  # noqa: E402
from b1k_envs.mujoco_twin.robot import body as robot  # noqa: E402
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout as scene  # noqa: E402
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.scene import (  # noqa: E402
    LED,
    LED_ON,
    SCENE,
    dust_geoms,
)
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.states import DUST_POINTS  # noqa: E402

GLOVES = ("boxing_glove_1", "boxing_glove_2")
MESH = mujoco.mjtGeom.mjGEOM_MESH


def build(*, looks=True):
    spec = mujoco.MjSpec()
    spec.option.timestep = 1 / 240
    spec.stat.extent = 1
    spec.visual.quality.offsamples = 0
    robot.add_robot(spec)
    scene.add_scene(spec)
    if looks:
        add_looks(spec, "clean_boxing_gloves")
    return spec.compile()


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def bare():
    return build(looks=False)


@pytest.fixture
def studio():
    """A model of its own, and functions that photograph it from a named camera."""
    try:
        ensure_gl()
    except UnavailableError as error:
        pytest.skip(str(error))
    model = build()
    data = mujoco.MjData(model)
    option = mujoco.MjvOption()
    option.geomgroup[:] = 0
    option.geomgroup[GROUP_VISUAL] = 1

    def picture(camera):
        mujoco.mj_forward(model, data)
        renderer.update_scene(data, camera, option)
        return renderer.render().copy()

    def geoms(camera):
        renderer.enable_segmentation_rendering()
        seen = picture(camera)
        renderer.disable_segmentation_rendering()
        return np.where(seen[..., 1] == mujoco.mjtObj.mjOBJ_GEOM, seen[..., 0], -1)

    with mujoco.Renderer(model, 224, 224) as renderer:
        yield SimpleNamespace(model=model, data=data, picture=picture, geoms=geoms)


def names(model, kind, count):
    return [mujoco.mj_id2name(model, kind, i) for i in range(count)]


def visuals(model, bare):
    known = set(names(bare, mujoco.mjtObj.mjOBJ_GEOM, bare.ngeom))
    return [g for g in range(model.ngeom) if model.geom(g).name not in known]


def vertices_in_body(model, name):
    """Vertices of a mesh geom in its body's frame, through the compiled pose."""
    geom = model.geom(name)
    mesh = model.mesh(geom.dataid[0])
    start, count = mesh.vertadr[0], mesh.vertnum[0]
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, geom.quat)
    return model.mesh_vert[start : start + count] @ rotation.reshape(3, 3).T + geom.pos


def triangles_in_body(model, name):
    mesh = model.mesh(model.geom(name).dataid[0])
    start, count = mesh.faceadr[0], mesh.facenum[0]
    return vertices_in_body(model, name)[model.mesh_face[start : start + count]]


def distance_to_triangles(point, triangles):
    """Brute force: the nearest of many points spread over every triangle."""
    steps = [(i / 24, j / 24) for i in range(25) for j in range(25 - i)]
    weights = np.array([(1 - u - v, u, v) for u, v in steps])
    near = triangles[np.linalg.norm(triangles.mean(axis=1) - point, axis=1) < 0.03]
    return np.linalg.norm(np.einsum("kw,twd->tkd", weights, near) - point, axis=-1).min()


def inertia(model, body):
    """In the body's axes: MuJoCo 3.3.0 does not always put the principal axes in one order."""
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, model.body_iquat[body])
    rotation = rotation.reshape(3, 3)
    return rotation @ np.diag(model.body_inertia[body]) @ rotation.T


def set_dust_alpha(model, alpha):
    for glove in GLOVES:
        for name in dust_geoms(glove):
            model.geom_rgba[model.geom(name).id, 3] = alpha


def saturation(pixels):
    pixels = pixels.astype(float)
    return float(((pixels.max(-1) - pixels.min(-1)) / np.maximum(pixels.max(-1), 1)).mean())


def test_every_visual_is_massless_and_collides_with_nothing(model, bare):
    added = visuals(model, bare)
    assert len(added) > 60
    assert set(model.geom_group[added]) == {2}
    assert not model.geom_contype[added].any()
    assert not model.geom_conaffinity[added].any()
    np.testing.assert_array_equal(model.body_mass, bare.body_mass)
    np.testing.assert_array_equal(model.body_ipos, bare.body_ipos)
    for body in range(model.nbody):
        np.testing.assert_allclose(inertia(model, body), inertia(bare, body), rtol=0, atol=1e-12)


def test_the_world_moves_the_same_with_and_without_looks(model, bare):
    ends = []
    for each in (model, bare):
        data = mujoco.MjData(each)
        data.qvel[each.joint("boxing_glove_1_joint").dofadr[0] + 1] = -1.5  # thrown off the counter
        data.ctrl[each.actuator("left_arm_joint1").id] = 0.5
        mujoco.mj_step(each, data, 100)
        ends.append((data.qpos.copy(), data.qvel.copy()))
    np.testing.assert_array_equal(ends[0][0], ends[1][0])
    np.testing.assert_array_equal(ends[0][1], ends[1][1])


def test_cameras_lights_and_jittered_materials_are_in_the_model(model):
    cameras = names(model, mujoco.mjtObj.mjOBJ_CAMERA, model.ncam)
    assert {"overview", "washer_close", "counter_close"} <= set(cameras)
    lights = names(model, mujoco.mjtObj.mjOBJ_LIGHT, model.nlight)
    assert lights == ["light_ceiling", "light_window", "light_fill"]
    materials = names(model, mujoco.mjtObj.mjOBJ_MATERIAL, model.nmat)
    assert {"floor", "wall", "worktop", "cabinet", "casing"} == set(SCENE.materials)
    for name in SCENE.materials:
        shown = model.geom_matid == materials.index(name)
        assert shown.any(), name
        # Another rgba on the geom would hide the tint that an env writes into the material.
        np.testing.assert_array_equal(
            model.geom_rgba[shown], np.tile([0.5, 0.5, 0.5, 1], (shown.sum(), 1))
        )


def test_the_scene_is_cheap_to_draw(model, bare):
    added = [g for g in visuals(model, bare) if model.geom_type[g] == MESH]
    assert sum(model.mesh_facenum[model.geom_dataid[g]] for g in added) < 22_000
    assert not model.light_castshadow.any()
    assert not model.mat_reflectance.any()
    assert max(model.tex_width.max(), (model.tex_height[model.tex_type == 0]).max()) <= 512
    clear = [
        model.geom(g).name
        for g in visuals(model, bare)
        if model.geom_rgba[g, 3] < 1 or model.mat_rgba[model.geom_matid[g], 3] < 1
    ]
    assert sorted(clear) == [
        "boxing_glove_1_dustveil",
        "boxing_glove_2_dustveil",
        "washer_door_look_glass_bowl",
        "washer_door_look_glass_front",
    ]


@pytest.mark.parametrize("glove", GLOVES)
def test_a_glove_carries_exactly_twenty_particles_and_a_veil(model, glove):
    body = model.body(glove)
    mine = [model.geom(g).name for g in range(model.ngeom) if model.geom_bodyid[g] == body.id]
    particles = [name for name in mine if "_dust_" in name]
    assert particles == [f"{glove}_dust_{k:02d}" for k in range(20)]
    assert dust_geoms(glove) == (*particles, f"{glove}_dustveil")
    assert f"{glove}_dustveil" in mine


def test_dust_lies_on_the_surface_of_the_glove(model):
    points = np.loadtxt(DUST_POINTS)
    assert points.shape == (20, 3)
    surface = np.concatenate(
        [
            triangles_in_body(model, f"boxing_glove_2_{part}")
            for part in ("leather", "look_glove_cuff", "look_glove_strap")
        ]
    )
    for name, point in zip(dust_geoms("boxing_glove_2")[:-1], points, strict=True):
        assert distance_to_triangles(point, surface) < 0.0025, name
        blob = vertices_in_body(model, name)
        assert np.linalg.norm(blob.mean(axis=0) - point) < 0.003, name
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1) + np.eye(20)
    assert apart.min() > 0.015


def test_the_first_glove_is_the_other_hand_with_its_dust_mirrored(model):
    left = vertices_in_body(model, "boxing_glove_1_leather")
    right = vertices_in_body(model, "boxing_glove_2_leather")
    assert left[:, 1].min() < -0.08 < left[:, 1].max() < 0.075
    assert right[:, 1].max() > 0.08 > -right[:, 1].min() > 0.05
    blob = vertices_in_body(model, "boxing_glove_1_dust_07").mean(axis=0)
    assert np.linalg.norm(blob - np.loadtxt(DUST_POINTS)[7] * (1, -1, 1)) < 0.003


@pytest.mark.parametrize("glove", GLOVES)
def test_the_cuff_looks_as_wide_as_what_the_gripper_feels(model, glove):
    cuff = vertices_in_body(model, f"{glove}_look_glove_cuff")
    centre, half = np.array(scene.GLOVE_CUFF), np.array(scene.GLOVE_CUFF_HALF)
    np.testing.assert_allclose(np.abs(cuff - centre)[:, 1:].max(axis=0), half[1:], atol=0.001)
    fist = vertices_in_body(model, f"{glove}_leather")
    assert fist[:, 0].max() == pytest.approx(
        scene.GLOVE_FIST[0] + scene.GLOVE_FIST_RADII[0], abs=0.004
    )
    assert fist[:, 2].min() > -scene.GLOVE_REST_HEIGHT - 0.006


def test_washing_changes_the_gloves_in_the_picture_and_nothing_else(studio):
    ours = [studio.model.body(glove).id for glove in GLOVES]
    seen = studio.geoms("counter_close")
    on_gloves = np.isin(studio.model.geom_bodyid[seen], ours) & (seen >= 0)
    assert on_gloves.sum() > 1500
    dusty = studio.picture("counter_close")
    set_dust_alpha(studio.model, 0)
    clean = studio.picture("counter_close")
    np.testing.assert_array_equal(dusty[~on_gloves], clean[~on_gloves])
    assert saturation(dusty[on_gloves]) < 0.6 * saturation(clean[on_gloves])
    changed = np.abs(dusty[on_gloves].astype(int) - clean[on_gloves]).max(axis=-1) > 12
    assert changed.mean() > 0.6


def test_the_drum_is_seen_through_the_open_door_only(studio):
    drum = studio.model.geom("washer_look_drum").id
    closed, seen_closed = studio.picture("washer_close"), studio.geoms("washer_close")
    studio.data.qpos[studio.model.joint("washer_door_joint").qposadr[0]] = 1.8
    opened, seen_open = studio.picture("washer_close"), studio.geoms("washer_close")
    assert (seen_open == drum).sum() > 1000 > 10 > (seen_closed == drum).sum()
    assert (np.abs(opened.astype(int) - closed).max(axis=-1) > 12).mean() > 0.08


def test_the_front_has_a_real_hole_into_the_drum(model):
    data = mujoco.MjData(model)
    data.qpos[model.joint("washer_door_joint").qposadr[0]] = 2.0
    mujoco.mj_forward(model, data)
    group = np.array([0, 0, 1, 0, 0, 0], dtype=np.uint8)  # visuals only
    washer = np.array(scene.WASHER_POS)

    def depth(y, z):
        start = washer + np.array([-0.60, y, scene.DRUM_Z + z])
        hit = np.zeros(1, dtype=np.int32)
        way = np.array([1.0, 0.0, 0.0])
        return mujoco.mj_ray(model, data, start, way, group, 1, -1, hit) - 0.60

    assert depth(0.01, 0.02) == pytest.approx(scene.DRUM_X[1], abs=0.04)
    assert depth(0.12, 0.10) == pytest.approx(scene.DRUM_X[1], abs=0.04)
    assert depth(-0.20, -0.20) == pytest.approx(-scene.WASHER_HALF[0], abs=0.01)


def test_the_led_lights_up_in_the_picture(studio):
    led = studio.model.geom(LED)
    assert led.name == "washer_led"
    ring = studio.geoms("washer_close") == led.id
    off = studio.picture("washer_close")
    studio.model.geom_rgba[led.id] = LED_ON
    on = studio.picture("washer_close")
    assert ring.sum() > 8
    assert on[ring].mean() > off[ring].mean() + 60
    np.testing.assert_array_equal(on[~ring], off[~ring])


def test_nothing_seen_stands_in_the_robots_way(model, bare):
    """Things that do not collide may not be where the robot drives: start, washer, counter."""
    for g in visuals(model, bare):
        if model.geom_bodyid[g] == 0 and model.geom_type[g] == MESH:
            x, y, z = vertices_in_body(model, model.geom(g).name).T
            here = (x > -1.9) & (x < 1.30) & (y > -1.8) & (y < 1.70) & (z > 0.02) & (z < 2.3)
            assert not here.any(), model.geom(g).name
