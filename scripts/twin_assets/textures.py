"""Pictures, materials, and the visual geoms that use them.

Every picture is computed from integers and IEEE additions and products (no files, no fonts, no
platform-dependent random numbers), so the same code gives the same bytes everywhere. Pictures are
uint8 [height, width, 3], RGB, row 0 on top. They are small, because a CPU draws the twin.

A visual geom collides with nothing and weighs nothing. Boxes are meshes rather than MuJoCo's box
primitive, which is drawn with 192 triangles where 12 are enough.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from b1k_envs.base import Float64Array, UInt8Array
from b1k_envs.mujoco_twin.engine import GROUP_VISUAL, mujoco
from twin_assets.meshes import Mesh, add_mesh, merge, moved
from twin_assets.shapes import rounded_box

Colour = tuple[int, int, int]

# --- Pictures -------------------------------------------------------------------------------


def noise(size: int, cells: int, seed: int) -> Float64Array:
    """Return smooth value noise in [0, 1], float64 [size, size], repeating at the edges."""
    draw = random.Random(seed)
    lattice = np.array([[draw.random() for _ in range(cells)] for _ in range(cells)])
    at = np.arange(size) * (cells / size)
    low = at.astype(np.int64)
    t = at - low
    t = t * t * (3 - 2 * t)
    high = (low + 1) % cells
    rows = lattice[low] * (1 - t)[:, None] + lattice[high] * t[:, None]
    return np.asarray(rows[:, low] * (1 - t) + rows[:, high] * t)


def _coloured(shade: Float64Array, colour: Colour) -> Float64Array:
    return np.asarray(shade[..., None] * np.array(colour, dtype=np.float64))


def _bytes(picture: Float64Array) -> UInt8Array:
    return np.clip(np.floor(picture + 0.5), 0, 255).astype(np.uint8)


def floor_tiles(size: int = 512, tiles: int = 4, colour: Colour = (219, 210, 195)) -> UInt8Array:
    """Draw square stoneware tiles, each a little different, with grout between them."""
    draw = random.Random(7)
    pitch = size // tiles
    tint = np.array([[0.93 + 0.10 * draw.random() for _ in range(tiles)] for _ in range(tiles)])
    shade = np.repeat(np.repeat(tint, pitch, 0), pitch, 1)
    shade *= 0.95 + 0.10 * noise(size, 32, 8) + 0.04 * (noise(size, 128, 9) - 0.5)
    place = np.arange(size) % pitch
    grout = (place < 2) | (place >= pitch - 2)
    shade[grout[:, None] | grout[None, :]] = 0.62
    return _bytes(_coloured(shade, colour))


def subway_tiles(size: int = 256, rows: int = 8, colour: Colour = (226, 232, 231)) -> UInt8Array:
    """Draw glazed wall tiles twice as long as high, in running bond."""
    height = size // rows
    row, column = np.arange(size)[:, None], np.arange(size)[None, :]
    along = (column + (row // height) % 2 * height) % (2 * height)
    draw = random.Random(11)
    tint = np.array([[0.96 + 0.05 * draw.random() for _ in range(rows)] for _ in range(rows)])
    index = (column + (row // height) % 2 * height) // (2 * height) % (rows // 2)
    shade = tint[row // height, index]
    shade = np.where((row % height < 2) | (along < 2), 0.78, shade)
    return _bytes(_coloured(shade, colour))


def speckled_stone(size: int = 256, colour: Colour = (210, 210, 203)) -> UInt8Array:
    """Draw a worktop of light stone with fine dark and white grains."""
    shade = 0.94 + 0.08 * noise(size, 8, 21)
    grain = noise(size, 128, 22)
    shade = np.where(grain > 0.86, 0.66, np.where(grain < 0.12, 1.16, shade))
    return _bytes(_coloured(shade, colour))


def wood(size: int = 256, colour: Colour = (176, 130, 86)) -> UInt8Array:
    """Draw wood with a vertical grain."""
    streak = noise(size, 64, 31)[:1] * 0.6 + noise(size, 16, 32)[:1] * 0.4
    shade = 0.80 + 0.26 * np.repeat(streak, size, 0) + 0.08 * noise(size, 8, 33)
    return _bytes(_coloured(shade, colour))


def perforated_steel(
    size: int = 128, holes: int = 8, colour: Colour = (178, 182, 186)
) -> UInt8Array:
    """Draw sheet steel with staggered round holes, for a drum."""
    pitch = size // holes
    row, column = np.arange(size)[:, None], np.arange(size)[None, :]
    across = (column + (row // pitch) % 2 * (pitch // 2)) % pitch - pitch // 2
    along = row % pitch - pitch // 2
    square = across * across + along * along
    radius = pitch * 0.26
    shade = 0.96 + 0.06 * noise(size, 8, 41)
    shade = np.where(square < radius**2, 0.30, shade)
    return _bytes(_coloured(shade, colour))


def leather(size: int = 256, colour: Colour = (186, 22, 28)) -> UInt8Array:
    """Draw leather for a glove: u runs around (back of the hand at 1/4), v from cuff to tip.

    Seams with pale stitches run along both sides; a white badge sits on the back of the hand.
    """
    shade = 0.86 + 0.20 * noise(size, 32, 51) + 0.10 * (noise(size, 128, 52) - 0.5)
    picture = _coloured(shade, colour)
    column = np.arange(size)
    for centre in (0, size // 2):
        gap = np.minimum((column - centre) % size, (centre - column) % size)
        picture[:, gap < 3] *= 0.45
        stitched = np.ix_(np.arange(size) % 12 < 6, (gap >= 4) & (gap < 6))
        picture[stitched] = (225, 196, 190)
    row, column = np.mgrid[0:size, 0:size]
    # v = 0.40 is the top of the knuckles; the badge is longer across the hand.
    middle_row, middle_column = int(size * 0.36), size // 4
    # A badge that reads the same mirrored: one glove is the other's mirror image.
    square = ((row - middle_row) * 2) ** 2 + (column - middle_column) ** 2
    picture[square < (size / 9) ** 2] = (238, 236, 230)
    picture[square < (size / 13) ** 2] = (170, 20, 26)
    picture[square < (size / 18) ** 2] = (238, 236, 230)
    return _bytes(picture)


def dust(size: int = 128) -> UInt8Array:
    """Draw blotches of grey-brown dust, thin where the leather shows through."""
    thick = 0.6 * noise(size, 12, 61) + 0.4 * noise(size, 32, 62)
    thick = np.clip((thick - 0.32) * 3.2, 0.0, 1.0)[..., None]
    picture = thick * np.array([172.0, 162, 144]) + (1 - thick) * np.array([150.0, 124, 108])
    return _bytes(picture * (0.92 + 0.16 * noise(size, 64, 63))[..., None])


def window_view(size: int = 256) -> UInt8Array:
    """Draw the view from a window: a bright sky over hedge and lawn, out of focus."""
    height = 1 - np.arange(size)[:, None] / size  # 1 on top
    picture = np.zeros((size, size, 3))
    cloud = noise(size, 8, 71)[..., None] * 0.5 + noise(size, 16, 72)[..., None] * 0.3
    picture[:] = np.array([178.0, 210, 240]) + cloud * np.array([80.0, 50, 20])
    hedge = 0.34 + 0.14 * noise(size, 8, 73)[:1] + 0.05 * noise(size, 32, 74)[:1]
    leaves = _coloured(0.75 + 0.5 * noise(size, 32, 75), (92, 128, 80))
    picture = np.where((height < hedge)[..., None], leaves, picture)
    lawn = _coloured(0.9 + 0.2 * noise(size, 16, 76), (142, 172, 104))
    return _bytes(
        np.where((height < 0.16)[..., None] & np.ones((size, size, 1), bool), lawn, picture)
    )


def wicker(size: int = 64, colour: Colour = (186, 148, 100)) -> UInt8Array:
    """Draw a basket weave, over and under, in squares."""
    cell = size // 8
    row, column = np.arange(size)[:, None], np.arange(size)[None, :]
    over = (row // cell + column // cell) % 2 == 0
    edge = np.where(over, row % cell, column % cell)
    shade = np.where(over, 1.0, 0.86) - np.where((edge == 0) | (edge == cell - 1), 0.32, 0.0)
    return _bytes(_coloured(shade, colour))


def washer_panel(width: int = 512, height: int = 128) -> UInt8Array:
    """Draw the washer's control strip: maker's mark, dial marks, a display reading 0:45."""
    picture = np.full((height, width, 3), 232.0)
    _write(picture, "B1K", 3, (22, 153), (60, 66, 74))
    middle = (height // 2, int(width * 0.468))  # of the knob
    row, column = np.mgrid[0:height, 0:width]
    for k, (dy, dx) in enumerate(_COMPASS):
        far = (row - middle[0] - 46 * dy) ** 2 + (column - middle[1] - 46 * dx) ** 2
        picture[far < (16 if k % 2 else 30)] = (40, 110, 160) if k == 0 else (90, 96, 104)
    picture[38:90, 292:374] = (16, 22, 30)
    _write(picture, "0:45", 5, (52, 295), (110, 220, 240))
    for k in range(3):
        picture[100:106, 298 + 28 * k : 314 + 28 * k] = (150, 156, 162)
    return _bytes(picture)


def dryer_panel(width: int = 512, height: int = 128) -> UInt8Array:
    """Draw the dryer's control strip: dark, with a row of keys and a wide display."""
    picture = np.full((height, width, 3), 0.0) + np.array([62.0, 66, 72])
    _write(picture, "B1K", 4, (22, 28), (210, 214, 218))
    picture[36:92, 190:322] = (12, 14, 18)
    _write(picture, "0:00", 6, (48, 208), (250, 170, 70))
    for k in range(5):
        picture[60:72, 28 + 28 * k : 46 + 28 * k] = (150, 154, 160)
    return _bytes(picture)


_COMPASS = (
    *((-1.0, 0.0), (-0.71, 0.71), (0.0, 1.0), (0.71, 0.71)),
    *((1.0, 0.0), (0.71, -0.71), (0.0, -1.0), (-0.71, -0.71)),
)

_GLYPHS = {  # 3 columns by 5 rows, row by row
    "B": "110101110101110",
    "1": "010110010010111",
    "K": "101101110101101",
    "0": "111101101101111",
    "4": "101101111001001",
    "5": "111100111001111",
    ":": "000010000010000",
}


def _letters(text: str, scale: int) -> npt.NDArray[np.bool_]:
    glyphs = []
    for letter in text:
        bits = np.array([c == "1" for c in _GLYPHS[letter]]).reshape(5, 3)
        glyphs.append(np.pad(bits, ((0, 0), (0, 1))))
    return np.kron(np.hstack(glyphs)[:, :-1], np.ones((scale, scale), dtype=bool)).astype(bool)


def _write(picture: Float64Array, text: str, scale: int, at: tuple[int, int], ink: Colour) -> None:
    letters = _letters(text, scale)
    h, w = letters.shape
    picture[at[0] : at[0] + h, at[1] : at[1] + w][letters] = ink


PICTURES: dict[str, Callable[[], UInt8Array]] = {
    draw.__name__: draw
    for draw in (
        *(floor_tiles, subway_tiles, speckled_stone, wood, wicker, window_view, perforated_steel),
        *(leather, dust, washer_panel, dryer_panel),
    )
}
"""By the name of the file, without `.png`."""


# --- Materials ------------------------------------------------------------------------------


def add_material(
    spec: mujoco.MjSpec,
    name: str,
    rgba: Sequence[float],
    picture: UInt8Array | None = None,
    *,
    repeat: tuple[float, float] | None = None,
    specular: float = 0.0,
    shininess: float = 0.3,
    emission: float = 0.0,
) -> str:
    """Add a material, and its texture (of the same name) when there is a picture.

    Args:
        spec: The model under construction.
        name: Name of the material.
        rgba: Colour in [0, 1], multiplied with the picture; an env may tint it at run time.
        picture: uint8 [h, w, 3] RGB or None.
        repeat: For planes: pictures per metre along x and y. None stretches one over the plane.
            Meshes carry their own texture coordinates.
        specular: Strength of the highlight in [0, 1].
        shininess: Sharpness of the highlight in [0, 1].
        emission: Light of its own in [0, 1].

    Returns:
        The name.
    """
    material = spec.add_material(name=name)
    material.rgba = list(rgba)
    material.specular, material.shininess = specular, shininess
    material.emission, material.reflectance = emission, 0.0
    if picture is not None:
        height, width, channels = picture.shape
        texture = spec.add_texture(
            name=name,
            type=mujoco.mjtTexture.mjTEXTURE_2D,
            width=width,
            height=height,
            nchannel=channels,
        )
        texture.data = picture.tobytes()
        material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
        if repeat is not None:
            material.texuniform = 1
            material.texrepeat = [2 * r for r in repeat]  # MuJoCo counts over 2 m
    return name


# --- Visual geoms ---------------------------------------------------------------------------


def visual(body: Any, name: str, **geom: Any) -> Any:  # noqa: ANN401 - MjsBody, MjsGeom
    """Add a geom that is only drawn: no contacts, no mass, group GROUP_VISUAL."""
    return body.add_geom(
        name=name, group=GROUP_VISUAL, contype=0, conaffinity=0, mass=0.0, density=0.0, **geom
    )


def visual_mesh(
    spec: mujoco.MjSpec,
    body: Any,  # noqa: ANN401 - MjsBody
    name: str,
    mesh: Mesh,
    material: str,
    **geom: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401 - MjsGeom
    """Add a mesh asset and the visual geom that shows it, both of this name."""
    add_mesh(spec, name, mesh)
    return visual(
        body, name, type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, material=material, **geom
    )


def visual_plane(
    body: Any,  # noqa: ANN401 - MjsBody
    name: str,
    centre: Sequence[float],
    right: Sequence[float],
    up: Sequence[float],
    half: tuple[float, float],
    material: str,
    *,
    spacing: float = 0.5,
) -> Any:  # noqa: ANN401 - MjsGeom
    """Add a one-sided picture on a body that stands still.

    Args:
        body: The body.
        name: Name of the geom.
        centre: x, y, z in the body's frame [m].
        right: Unit vector to the picture's right; right x up looks at the spectator.
        up: Unit vector to the picture's top.
        half: Half width and half height [m].
        material: Name of the material.
        spacing: Largest edge of a facet [m]; light is computed at the facets' corners.
    """
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, np.column_stack([right, up, np.cross(right, up)]).ravel())
    return visual(
        body,
        name,
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        pos=list(centre),
        quat=quat,
        size=[*half, spacing],
        material=material,
    )


class Parts:
    """Meshes collected by material, so that a body gets one geom for each material."""

    def __init__(self) -> None:
        self._meshes: dict[str, list[Mesh]] = {}

    def add(self, material: str, mesh: Mesh, centre: Sequence[float] = (0, 0, 0)) -> None:
        """Collect a mesh, shifted to `centre` [m]."""
        self._meshes.setdefault(material, []).append(moved(mesh, centre))

    def box(
        self,
        material: str,
        centre: Sequence[float],
        half: Sequence[float],
        radius: float = 0.0,
        segments: int = 1,
    ) -> None:
        """Collect a box of half sizes `half` [m] with edges of `radius` [m]."""
        self.add(material, rounded_box(half, radius, segments), centre)

    def emit(self, spec: mujoco.MjSpec, body: Any, prefix: str) -> None:  # noqa: ANN401 - MjsBody
        """Add the geoms `<prefix>_<material>` to the body."""
        for material, meshes in self._meshes.items():
            visual_mesh(spec, body, f"{prefix}_{material}", merge(meshes), material)
