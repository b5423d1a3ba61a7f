"""Boxes around collision shapes against their surfaces, and the bound on the boxes' centres."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from b1k_envs.mujoco_twin.shapes import BodyShapes

XML = """
<mujoco><worldbody><body name="thing"><freejoint/>
  <geom type="box" size=".05 .03 .04" pos="-.1 0 -.01" euler="10 20 30"/>
  <geom type="ellipsoid" size=".09 .066 .056" pos=".045 0 .004"/>
  <geom type="capsule" size=".028 .035" pos=".02 .055 -.01" euler="0 90 0"/>
</body></worldbody></mujoco>
"""


@pytest.fixture(scope="module")
def thing() -> tuple[mujoco.MjModel, mujoco.MjData, BodyShapes]:
    model = mujoco.MjModel.from_xml_string(XML)
    return model, mujoco.MjData(model), BodyShapes(model, 1)


def surface(model: mujoco.MjModel, data: mujoco.MjData, count: int = 4000) -> np.ndarray:
    """World points on the three shapes, sampled densely and without the code under test."""
    ways = np.random.default_rng(0).normal(size=(count, 3))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    box = ways / np.abs(ways).max(axis=1, keepdims=True) * model.geom_size[0]
    corners = np.array(np.meshgrid(*[(-1, 1)] * 3)).reshape(3, -1).T * model.geom_size[0]
    round_ = ways * model.geom_size[1]
    pill = ways * model.geom_size[2][0]
    pill[:, 2] += np.sign(ways[:, 2]) * model.geom_size[2][1]
    ring = ways * (1.0, 1.0, 0.0)
    side = ring / np.linalg.norm(ring, axis=1, keepdims=True) * model.geom_size[2][0]
    side[:, 2] = np.linspace(-1, 1, count) * model.geom_size[2][1]
    points = []
    for geom, local in enumerate((np.vstack([box, corners]), round_, np.vstack([pill, side]))):
        points.append(data.geom_xpos[geom] + local @ data.geom_xmat[geom].reshape(3, 3).T)
    return np.vstack(points)


def test_the_box_centre_is_that_of_the_surface_however_the_body_is_turned(thing):
    model, data, shapes = thing
    random = np.random.default_rng(1)
    for _ in range(30):
        data.qpos[:3] = random.uniform(-1, 1, 3)
        data.qpos[3:] = random.normal(size=4)
        mujoco.mj_kinematics(model, data)
        points = surface(model, data)
        expected = (points.min(axis=0) + points.max(axis=0)) / 2
        np.testing.assert_allclose(shapes.box_centre(data), expected, atol=1e-3)


def test_the_centre_never_leaves_its_bound_and_the_bound_is_of_use(thing):
    model, data, shapes = thing
    random = np.random.default_rng(2)
    farthest = 0.0
    for _ in range(3000):
        data.qpos[:3] = 0.0
        data.qpos[3:] = random.normal(size=4)
        mujoco.mj_kinematics(model, data)
        farthest = max(farthest, float(np.linalg.norm(shapes.box_centre(data))))
    assert 0.4 * shapes.centre_bound < farthest < shapes.centre_bound


def test_surface_points_lie_on_the_shapes(thing):
    model, data, shapes = thing
    data.qpos[:] = (0, 0, 0, 1, 0, 0, 0)
    mujoco.mj_kinematics(model, data)
    dense = surface(model, data, 40_000)
    assert shapes.surface.shape == (78, 3)
    for point in shapes.surface:
        assert np.linalg.norm(dense - point, axis=1).min() < 0.004


def test_a_shape_of_another_kind_is_refused():
    text = XML.replace('type="capsule" size=".028 .035"', 'type="cylinder" size=".028 .035"')
    with pytest.raises(ValueError, match="is no box, ellipsoid or capsule"):
        BodyShapes(mujoco.MjModel.from_xml_string(text), 1)
