"""Generated meshes against closed formulas, a solid's topology, and what MuJoCo makes of them."""

from __future__ import annotations

from collections import Counter

import mujoco
import numpy as np
import pytest
from twin_assets import meshes, shapes
from twin_assets.meshes import Mesh

from b1k_envs.errors import UsageError

PI = np.pi


def tapered_volume(length: float, big: float, small: float) -> float:
    """Hull of two balls: two spherical caps and the frustum between their tangent circles."""
    sine = (big - small) / length
    cosine = np.sqrt(1 - sine**2)
    r1, r2 = big * cosine, small * cosine
    frustum = PI / 3 * (length - (big - small) * sine) * (r1**2 + r1 * r2 + r2**2)
    h1, h2 = big * (1 + sine), small * (1 - sine)  # the big ball is cut beyond its middle
    return frustum + PI / 3 * (h1**2 * (3 * big - h1) + h2**2 * (3 * small - h2))


def rounded_box_volume(a: float, b: float, c: float, r: float) -> float:
    """Steiner's formula for the core box (a, b, c) grown by a ball of radius r."""
    return a * b * c + 2 * r * (a * b + b * c + c * a) + PI * r**2 * (a + b + c) + 4 / 3 * PI * r**3


SOLIDS = {
    "box": (shapes.rounded_box((0.1, 0.2, 0.3), 0.0), 0.2 * 0.4 * 0.6),
    "rounded box": (
        shapes.rounded_box((0.1, 0.2, 0.3), 0.05, 24),
        rounded_box_volume(0.1, 0.3, 0.5, 0.05),
    ),
    "rounded to a ball": (shapes.rounded_box((0.1, 0.1, 0.1), 0.1, 24), 4 / 3 * PI * 0.1**3),
    "ball": (shapes.ball(0.2, 96, 48), 4 / 3 * PI * 0.2**3),
    "disc": (shapes.disc(0.2, 0.05, 256), PI * 0.2**2 * 0.1),
    "annulus": (shapes.annulus(0.1, 0.2, 0.05, 256), PI * (0.2**2 - 0.1**2) * 0.1),
    "torus": (
        shapes.revolve(shapes.superellipse(0.05, 0.05, 2, 128)[:, :2] + [0.2, 0], 128, closed=True),
        2 * PI**2 * 0.2 * 0.05**2,
    ),
    "capsule": (
        shapes.capsule((0.1, 0, 0), (0.1, 0.3, -0.4), 0.1, 96, 32),
        PI * 0.1**2 * 0.5 + 4 / 3 * PI * 0.1**3,
    ),
    "tapered capsule": (
        shapes.tapered_capsule((0, 0, 0), (0.3, 0, -0.4), 0.2, 0.05, 96, 32),
        tapered_volume(0.5, 0.2, 0.05),
    ),
    "tapered capsule downward": (
        shapes.tapered_capsule((0, 0, 0), (0, 0, -0.5), 0.05, 0.2, 96, 32),
        tapered_volume(0.5, 0.2, 0.05),
    ),
    "cone frustum by loft": (
        shapes.loft([shapes.superellipse(r, r, 2, 256, z) for z, r in ((0, 0.2), (0.3, 0.1))]),
        PI / 3 * 0.3 * (0.2**2 + 0.2 * 0.1 + 0.1**2),
    ),
    "plate with hole": (
        shapes.plate_with_hole(0.3, 0.4, 0.01, 0.2, segments=256),
        (0.6 * 0.8 - PI * 0.2**2) * 0.02,
    ),
}


@pytest.mark.parametrize("name", SOLIDS)
def test_a_solid_is_watertight_and_every_edge_joins_two_opposite_faces(name: str) -> None:
    mesh, _ = SOLIDS[name]
    edges = Counter((int(f[i]), int(f[i - 2])) for f in mesh.faces for i in range(3))
    assert set(edges.values()) == {1}
    assert all((b, a) in edges for a, b in edges)
    places = {tuple(v) for v in mesh.vertices.round(9)}
    assert len(places) == len(mesh.vertices), "coinciding corners must be one vertex"


@pytest.mark.parametrize("name", SOLIDS)
def test_a_solid_faces_outward_and_has_the_volume_of_the_formula(name: str) -> None:
    mesh, expected = SOLIDS[name]
    assert mesh.volume == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize("name", SOLIDS)
def test_mujoco_compiles_a_solid_and_draws_it_where_it_was_made(name: str) -> None:
    mesh, _ = SOLIDS[name]
    matrix = np.eye(4)
    matrix[:3, 3] = 1.0, -2.0, 0.5  # off-centre: MuJoCo then moves the mesh into another frame
    mesh = meshes.transform(mesh, matrix)
    model = _compiled(mesh)
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    drawn = model.mesh_vert @ data.geom_xmat[0].reshape(3, 3).T + data.geom_xpos[0]
    assert model.mesh_facenum[0] == len(mesh.faces)
    np.testing.assert_allclose(drawn.min(axis=0), mesh.vertices.min(axis=0), atol=1e-5)
    np.testing.assert_allclose(drawn.max(axis=0), mesh.vertices.max(axis=0), atol=1e-5)


@pytest.mark.parametrize("open_mesh", [True, False])
def test_open_and_inward_surfaces_compile_too(open_mesh: bool) -> None:
    wall = shapes.revolve([(0.2, 0.0), (0.2, 0.3)], 24)
    assert _compiled(wall if open_mesh else meshes.flip(wall)).nmesh == 1


def test_flip_turns_the_outside_in() -> None:
    box = shapes.rounded_box((0.1, 0.2, 0.3), 0.02)
    assert meshes.flip(box).volume == pytest.approx(-box.volume)


def test_a_mirrored_mesh_still_faces_outward() -> None:
    box = meshes.moved(shapes.rounded_box((0.1, 0.2, 0.3), 0.02), (0.5, 0, 0))
    mirrored = meshes.scaled(box, (-1, 1, 1))
    assert mirrored.volume == pytest.approx(box.volume)
    assert mirrored.vertices[:, 0].max() == pytest.approx(-0.4)


@pytest.mark.parametrize("direction", [(1, 0, 0), (0, 0, 1), (0, 0, -1), (1, -2, 3)])
def test_aimed_takes_up_to_the_direction_without_deforming(direction: tuple[int, ...]) -> None:
    rod = meshes.moved(shapes.disc(0.01, 0.5), (0, 0, 0.5))
    turned = meshes.aimed(rod, direction)
    unit = np.array(direction) / np.linalg.norm(direction)
    np.testing.assert_allclose((turned.vertices @ unit).max(), 1.0, atol=1e-9)
    assert turned.volume == pytest.approx(rod.volume)


def test_a_normal_follows_a_stretch_as_a_covector() -> None:
    plane = Mesh(
        vertices=np.array([[0.0, 0, 0], [1, 0, -1], [0, 1, 0]]),
        faces=np.array([[0, 1, 2]], dtype=np.int32),
        normals=np.tile([[1.0, 0, 1]], (3, 1)) / np.sqrt(2),
    )
    stretched = meshes.scaled(plane, (2, 1, 1))
    a, b, c = stretched.vertices
    exact = np.cross(b - a, c - a) / np.linalg.norm(np.cross(b - a, c - a))
    assert stretched.normals is not None
    np.testing.assert_allclose(stretched.normals, np.tile(exact, (3, 1)), atol=1e-12)


def test_merge_keeps_all_parts_and_their_volume() -> None:
    a, b = shapes.ball(0.1), meshes.moved(shapes.ball(0.2), (1, 0, 0))
    both = meshes.merge([a, b])
    assert len(both.faces) == len(a.faces) + len(b.faces)
    assert both.volume == pytest.approx(a.volume + b.volume)


@pytest.mark.parametrize("exponent", [2.0, 2.5, 4.0, 8.0])
def test_superellipse_points_satisfy_its_equation(exponent: float) -> None:
    x, y, z = shapes.superellipse(0.3, 0.1, exponent, 36, z=0.7).T
    value = np.abs(x / 0.3) ** exponent + np.abs(y / 0.1) ** exponent
    np.testing.assert_allclose(value, 1.0, atol=1e-9)
    assert set(z) == {0.7}
    area = 0.5 * np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))
    assert area > 0, "counter-clockwise seen from +z"


def test_a_ball_is_shaded_smoothly_and_a_box_keeps_its_edges() -> None:
    ball = _compiled(shapes.ball(0.1, 24, 12))
    outward = ball.mesh_vert / np.linalg.norm(ball.mesh_vert, axis=1, keepdims=True)
    cosines = np.abs(np.sum(ball.mesh_normal * outward, axis=1))
    assert cosines.min() > np.cos(np.radians(4))
    box = _compiled(shapes.rounded_box((0.1, 0.2, 0.3), 0.0))
    assert len({tuple(n) for n in box.mesh_normal.round(3) + 0.0}) == 6


def test_a_hole_in_a_plate_is_open() -> None:
    plate = shapes.plate_with_hole(0.3, 0.4, 0.01, 0.2, corner=0.03, edge=0.004)
    radius = np.linalg.norm(plate.vertices[:, :2], axis=1)
    assert radius.min() == pytest.approx(0.2)
    corner = np.hypot(0.27 + 0.03 / np.sqrt(2), 0.37 + 0.03 / np.sqrt(2))
    assert radius.max() == pytest.approx(corner, abs=2e-4)


def test_planar_uv_covers_one_tile_per_length() -> None:
    mesh = meshes.planar_uv(shapes.rounded_box((0.1, 0.2, 0.3), 0.0), 0, 2, tile=0.2)
    assert mesh.uv is not None
    np.testing.assert_allclose(np.ptp(mesh.uv, axis=0), [1.0, 3.0])
    assert _compiled(mesh).mesh_texcoordnum[0] > 0


def test_arrays_are_copies_and_read_only() -> None:
    vertices = np.eye(3)
    mesh = Mesh(vertices=vertices, faces=np.array([[0, 1, 2]], dtype=np.int32))
    vertices[0, 0] = 9.0
    assert mesh.vertices[0, 0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        mesh.vertices[0, 0] = 5.0


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Mesh(vertices=np.eye(3), faces=np.array([[0, 1, 3]])), "the mesh has 0 to 2"),
        (lambda: Mesh(vertices=np.zeros((3, 2)), faces=np.array([[0, 1, 2]])), r"got \[3, 2\]"),
        (
            lambda: Mesh(vertices=np.eye(3) * np.nan, faces=np.array([[0, 1, 2]])),
            r"vertices\[0\] is .*must be finite",
        ),
        (
            lambda: Mesh(vertices=np.eye(3), faces=np.array([[0, 1, 2]]), uv=np.zeros((2, 2))),
            r"uv must be float64 \[3, 2\], got \[2, 2\]",
        ),
        (lambda: shapes.rounded_box((0.1, 0.2, 0.3), 0.11), "between 0 and 0.1 m"),
        (lambda: shapes.tapered_capsule((0, 0, 0), (0, 0, 0.1), 0.2, 0.05), "no limb between"),
        (lambda: shapes.loft([np.zeros((4, 3))]), "two or more rings"),
        (lambda: shapes.loft([np.zeros((4, 3)), np.zeros((5, 3))]), r"\[\[4, 3\], \[5, 3\]\]"),
        (lambda: shapes.revolve([(-0.1, 0), (0.1, 1)]), "radius >= 0"),
        (lambda: shapes.revolve([(0.1, 0), (0.1, 1)], 2), "segments must be 3 or more, got 2"),
        (lambda: shapes.plate_with_hole(0.2, 0.2, 0.01, 0.2), "does not fit a plate"),
        (lambda: meshes.transform(shapes.ball(0.1), np.eye(3)), r"got \[3, 3\]"),
        (lambda: meshes.merge([]), "at least one mesh"),
    ],
)
def test_an_impossible_shape_is_refused_with_the_rule(make, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        make()


def _compiled(mesh: Mesh) -> mujoco.MjModel:
    spec = mujoco.MjSpec()
    name = meshes.add_mesh(spec, "shape", mesh)
    spec.worldbody.add_geom(
        type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, contype=0, conaffinity=0, mass=0
    )
    return spec.compile()
