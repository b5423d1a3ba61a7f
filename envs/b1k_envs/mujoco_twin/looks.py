"""Dress bodies with the files in `assets/`: visual geoms, lights and cameras.

`scripts/make_twin_assets.py` makes the files, which any MuJoCo viewer opens as they are. Here their
elements are added, in their order, to bodies of the same name in a model under construction.
MuJoCo's `attach` does not fit, because it makes new bodies.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from b1k_envs.errors import UsageError
from b1k_envs.mujoco_twin.engine import GROUP_VISUAL, mujoco

ASSETS = Path(__file__).with_name("assets")

_WORDS = ("name", "mesh", "material", "type", "builtin", "file")
_WHOLE = ("face", "width", "height")
_FIELDS = {
    "mesh": "meshname",
    "vertex": "uservert",
    "normal": "usernormal",
    "texcoord": "usertexcoord",
    "face": "userface",
}
"""Attributes of MJCF that MjSpec calls otherwise."""


def add_looks(spec: mujoco.MjSpec, name: str) -> None:
    """Add `assets/<name>.xml` to a model that has the bodies it dresses; call it once.

    What is added collides with nothing and weighs nothing.

    Raises:
        UsageError: A body is missing from the model.
    """
    root = ElementTree.parse(ASSETS / f"{name}.xml").getroot()
    for headlight in root.iterfind("visual/headlight"):
        for key, value in _values(headlight).items():
            setattr(spec.visual.headlight, key, value)
    _add_textures(spec, root.findall("asset/texture"))
    for element in root.iterfind("asset/material"):
        texture = element.attrib.pop("texture", "")
        material = spec.add_material(**_values(element))
        material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = texture
    # The inertia of a shell exists for open and thin meshes too; the geoms weigh nothing.
    shell = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
    for element in root.iterfind("asset/mesh"):
        del element.attrib["inertia"]
        spec.add_mesh(inertia=shell, **_values(element))
    bodies = {body.name: body for body in spec.bodies}
    for parent in (*root.iterfind("worldbody"), *root.iterfind("worldbody/body")):
        where = parent.get("name", "world")
        if where not in bodies:
            raise UsageError(f"no body {where!r} to dress with {name}.xml: add it first")
        _hang(bodies[where], parent)


def _add_textures(spec: mujoco.MjSpec, elements: Sequence[ElementTree.Element]) -> None:
    """Add pictures as data, because a file's path would stay in the compiled model."""
    flat, sky = mujoco.mjtTexture.mjTEXTURE_2D, mujoco.mjtTexture.mjTEXTURE_SKYBOX
    gradient = mujoco.mjtBuiltin.mjBUILTIN_GRADIENT
    pictures = mujoco.MjSpec()
    for element in elements:
        if "file" in element.attrib:
            file = str(ASSETS / element.attrib["file"])
            pictures.add_texture(name=element.attrib["name"], type=flat, file=file)
    read = pictures.compile()
    for element in elements:
        if "file" in element.attrib:
            data = read.texture(element.attrib["name"]).data
            texture = spec.add_texture(name=element.attrib["name"], type=flat)
            texture.height, texture.width, texture.nchannel = data.shape
            texture.data = data.tobytes()
        else:
            spec.add_texture(**_values(element) | {"type": sky, "builtin": gradient})


def _hang(body: Any, parent: ElementTree.Element) -> None:  # noqa: ANN401 - MjsBody
    kinds = {"mesh": mujoco.mjtGeom.mjGEOM_MESH, "plane": mujoco.mjtGeom.mjGEOM_PLANE}
    for element in parent.iterfind("geom"):
        kind = kinds[element.attrib.pop("type")]
        visual = {"group": GROUP_VISUAL, "contype": 0, "conaffinity": 0, "mass": 0.0}
        body.add_geom(type=kind, **visual, **_values(element))
    for element in parent.iterfind("light"):
        body.add_light(**_values(element))
    for element in parent.iterfind("camera"):
        body.add_camera(**_values(element))


def _values(element: ElementTree.Element) -> dict[str, Any]:
    """Return an element's attributes as keywords of MjSpec."""
    values: dict[str, Any] = {}
    for key, text in element.attrib.items():
        value: Any = text
        if text in ("true", "false"):
            value = text == "true"
        elif key not in _WORDS:
            numbers = np.fromstring(text, np.int32 if key in _WHOLE else np.float64, sep=" ")
            value = numbers if len(numbers) > 1 else numbers[0].item()
        values[_FIELDS.get(key, key)] = value
    return values
