"""Write the visible part of a model under construction as an MJCF file, and the PNG textures.

The file holds every texture, material and mesh, and under each body its visual geoms, lights and
cameras. Bodies stand where they stand in the twin, so that a viewer shows the whole; the twin
itself takes only what hangs on them. Numbers are written so that they read back to the bit.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np

from b1k_envs.mujoco_twin.engine import GROUP_VISUAL, mujoco
from twin_assets.textures import PICTURES

_GEOM_TYPES = {mujoco.mjtGeom.mjGEOM_MESH: "mesh", mujoco.mjtGeom.mjGEOM_PLANE: "plane"}
_VISUAL = {"group": str(GROUP_VISUAL), "contype": "0", "conaffinity": "0"}


def write(spec: mujoco.MjSpec, path: Path) -> None:
    """Write an MJCF file.

    Args:
        spec: Bodies, their visual geoms and what these use; geoms of other groups are left out.
        path: The file to write, *.xml; the pictures of `write_pictures` lie beside it.
    """
    root = ElementTree.Element("mujoco", model=path.stem)
    if spec.lights:
        headlight = ElementTree.SubElement(ElementTree.SubElement(root, "visual"), "headlight")
        for name in ("ambient", "diffuse", "specular"):
            headlight.set(name, _numbers(getattr(spec.visual.headlight, name), np.float32))
    ElementTree.SubElement(ElementTree.SubElement(root, "default"), "geom", _VISUAL)
    asset = ElementTree.SubElement(root, "asset")
    for texture in spec.textures:
        _texture(asset, texture)
    for material in spec.materials:
        _material(asset, material)
    for mesh in spec.meshes:
        _mesh(asset, mesh)
    world = ElementTree.SubElement(root, "worldbody")
    for body in spec.bodies:
        _body(world, body)
    _place(world, spec)
    ElementTree.indent(root)
    path.write_bytes(ElementTree.tostring(root) + b"\n")


def write_pictures(folder: Path) -> None:
    """Write every picture as `<name>.png`."""
    for name, draw in PICTURES.items():
        if not cv2.imwrite(str(folder / f"{name}.png"), draw()[..., ::-1]):
            raise OSError(f"{name}.png cannot be written to {folder}")


def _numbers(values: Any, dtype: type[np.generic] = np.float64) -> str:  # noqa: ANN401
    return " ".join(str(value) for value in np.asarray(values, dtype=dtype).ravel())


@cache
def _names() -> dict[bytes, str]:
    """Return the name of each picture, by its pixels: one serves several textures."""
    return {draw().tobytes(): name for name, draw in PICTURES.items()}


def _texture(asset: ElementTree.Element, texture: Any) -> None:  # noqa: ANN401
    element = ElementTree.SubElement(asset, "texture", name=texture.name)
    if texture.type == mujoco.mjtTexture.mjTEXTURE_SKYBOX:
        element.attrib |= {
            "type": "skybox",
            "builtin": "gradient",
            "rgb1": _numbers(texture.rgb1),
            "rgb2": _numbers(texture.rgb2),
            "width": str(texture.width),
            "height": str(texture.height),
        }
    else:
        element.attrib |= {"type": "2d", "file": f"{_names()[bytes(texture.data)]}.png"}


def _material(asset: ElementTree.Element, material: Any) -> None:  # noqa: ANN401
    element = ElementTree.SubElement(asset, "material", name=material.name)
    element.set("rgba", _numbers(material.rgba, np.float32))
    for name in ("specular", "shininess", "emission"):
        element.set(name, _numbers(getattr(material, name), np.float32))
    texture = material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB]
    if texture:
        element.set("texture", texture)
    if material.texuniform:
        element.attrib |= {
            "texuniform": "true",
            "texrepeat": _numbers(material.texrepeat, np.float32),
        }


def _mesh(asset: ElementTree.Element, mesh: Any) -> None:  # noqa: ANN401
    element = ElementTree.SubElement(asset, "mesh", name=mesh.name, inertia="shell")
    for name, values in {
        "vertex": mesh.uservert,
        "normal": mesh.usernormal,
        "texcoord": mesh.usertexcoord,
    }.items():
        if len(values):
            element.set(name, _numbers(values, np.float32))
    element.set("face", _numbers(mesh.userface, np.int32))


def _body(world: ElementTree.Element, body: Any) -> None:  # noqa: ANN401
    shown = [geom for geom in body.geoms if geom.group == GROUP_VISUAL]
    if not shown:
        return
    element = world
    if body.name != "world":
        element = ElementTree.SubElement(world, "body", name=body.name)
    else:
        _lights_and_cameras(world, body)
    for geom in shown:
        row = ElementTree.SubElement(element, "geom", name=geom.name, type=_GEOM_TYPES[geom.type])
        if geom.meshname:
            row.set("mesh", geom.meshname)
        else:
            row.set("size", _numbers(geom.size))
        if geom.material:
            row.set("material", geom.material)
        for name, values, usual in (
            ("pos", geom.pos, (0, 0, 0)),
            ("quat", geom.quat, (1, 0, 0, 0)),
        ):
            if not np.array_equal(values, usual):
                row.set(name, _numbers(values))
        if not np.array_equal(geom.rgba, [0.5, 0.5, 0.5, 1]):
            row.set("rgba", _numbers(geom.rgba, np.float32))


def _lights_and_cameras(world: ElementTree.Element, body: Any) -> None:  # noqa: ANN401
    for light in body.lights:
        row = ElementTree.SubElement(world, "light", name=light.name, castshadow="false")
        for name in ("pos", "dir"):
            row.set(name, _numbers(getattr(light, name)))
        for name in ("diffuse", "ambient", "specular", "cutoff", "exponent"):
            row.set(name, _numbers(getattr(light, name), np.float32))
    for camera in body.cameras:
        row = ElementTree.SubElement(world, "camera", name=camera.name)
        for name in ("pos", "quat", "fovy"):
            row.set(name, _numbers(getattr(camera, name)))


def _place(world: ElementTree.Element, spec: mujoco.MjSpec) -> None:
    """Put the bodies where they stand in the world."""
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    for element in world.iter("body"):
        body = data.body(element.attrib["name"])
        element.attrib |= {"pos": _numbers(body.xpos), "quat": _numbers(body.xquat)}
