"""Dress bodies with the files in `assets/`: visual geoms, lights and cameras.

`scripts/make_twin_assets.py` makes the files, which any MuJoCo viewer opens as they are. Here their
elements are added, in their order, to bodies of the same name in a model under construction.
MuJoCo's `attach` does not fit, because it makes new bodies.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from b1k_envs.errors import UsageError
from b1k_envs.mujoco_twin.engine import GROUP_VISUAL, mujoco

ASSETS = Path(__file__).with_name("assets")

_WORDS = ("name", "mesh", "material")
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
    for element in root.iterfind("asset/material"):
        texture = element.attrib.pop("texture", None)
        material = spec.add_material(**_values(element))
        if texture is not None:
            material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = texture
    for element in root.iterfind("asset/mesh"):
        mesh = spec.add_mesh(name=element.attrib.pop("name"))
        # The shell's inertia exists for open and thin meshes too; the geoms weigh nothing.
        mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
        del element.attrib["inertia"]
        for field, values in _values(element).items():
            setattr(mesh, field, values)
    bodies = {body.name: body for body in spec.bodies}
    for parent in root.iterfind(".//geom/.."):
        if parent.tag == "default":
            continue
        body = parent.get("name", "world")
        if body not in bodies:
            raise UsageError(f"no body {body!r} to dress with {name}.xml: add it first")
        for element in parent.iterfind("geom"):
            _add_geom(bodies[body], element)


def _add_geom(body: Any, element: ElementTree.Element) -> None:  # noqa: ANN401 - MjsBody
    kinds = {"mesh": mujoco.mjtGeom.mjGEOM_MESH, "plane": mujoco.mjtGeom.mjGEOM_PLANE}
    kind = kinds[element.attrib.pop("type")]
    body.add_geom(
        type=kind, group=GROUP_VISUAL, contype=0, conaffinity=0, mass=0.0, **_values(element)
    )


def _values(element: ElementTree.Element) -> dict[str, Any]:
    """Return an element's attributes as keywords of MjSpec."""
    values: dict[str, Any] = {}
    for key, text in element.attrib.items():
        value: Any = text
        if key not in _WORDS:
            kind = np.int32 if key == "face" else np.float64
            value = np.fromstring(text, dtype=kind, sep=" ")
            value = value if len(value) > 1 else float(value[0])
        values[_FIELDS.get(key, key)] = value
    return values
