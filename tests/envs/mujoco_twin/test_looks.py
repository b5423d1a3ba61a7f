"""The files of looks as MuJoCo's own reader reads them, against what the twin has in it."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from b1k_envs.mujoco_twin.looks import ASSETS
from b1k_envs.mujoco_twin.model import build_model
from b1k_envs.mujoco_twin.scenes import load_scene

GLOVES, RADIO = "clean_boxing_gloves", "turning_on_radio"


def assert_same(ours, theirs, *fields):
    for field in fields:
        np.testing.assert_array_equal(
            getattr(ours, field), getattr(theirs, field), f"{theirs.name} {field}"
        )


def at_start(model):
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return data


def vertices(model, mesh):
    start = int(mesh.vertadr[0])
    return model.mesh_vert[start : start + int(mesh.vertnum[0])]


@pytest.mark.parametrize(("file", "task"), [(GLOVES, GLOVES), (RADIO, RADIO), ("robot", RADIO)])
def test_a_file_opens_in_mujoco_and_shows_what_the_twin_shows(file, task):
    alone = mujoco.MjModel.from_xml_path(str(ASSETS / f"{file}.xml"))
    twin = build_model(load_scene(task))
    there, here = at_start(alone), at_start(twin)
    assert alone.ngeom > 30
    for geom in map(alone.geom, range(alone.ngeom)):
        ours = twin.geom(geom.name)
        assert_same(ours, geom, "type", "size", "rgba", "group", "contype", "conaffinity")
        for field in ("xpos", "xmat"):
            places = [getattr(data.geom(geom.name), field) for data in (here, there)]
            np.testing.assert_allclose(*places, atol=1e-6, err_msg=geom.name)
        if geom.matid[0] >= 0:
            pair = twin.material(int(ours.matid[0])), alone.material(int(geom.matid[0]))
            assert_same(*pair, "name", "rgba", "specular", "shininess", "emission", "texrepeat")
    for mesh in map(alone.mesh, range(alone.nmesh)):
        ours = twin.mesh(mesh.name)
        np.testing.assert_array_equal(vertices(twin, ours), vertices(alone, mesh), mesh.name)
    for texture in map(alone.texture, range(alone.ntex)):
        assert_same(twin.texture(texture.name), texture, "type", "data")
    for light in map(alone.light, range(alone.nlight)):
        assert_same(twin.light(light.name), light, "pos", "dir", "diffuse", "specular", "cutoff")
    for camera in map(alone.camera, range(alone.ncam)):
        assert_same(twin.camera(camera.name), camera, "pos", "quat", "fovy")
