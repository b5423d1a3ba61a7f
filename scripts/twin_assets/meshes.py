"""Triangle meshes for the visible parts of the twin: moved, joined, and added to a model.

A `Mesh` is in metres, right-handed, its faces counter-clockwise seen from outside. `add_mesh` makes
hard edges by splitting the vertices along a crease, because MuJoCo draws one normal per vertex.

Works with MuJoCo 3.3.0 to 4.0.0: per-vertex `usernormal`, no `userfacenormal` (absent in 3.3.0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from b1k_envs.base import Float64Array
from b1k_envs.errors import UsageError
from b1k_envs.mujoco_twin.engine import mujoco

Int32Array = npt.NDArray[np.int32]

WELD = 1e-7
"""Corners closer than this [m] are one vertex: below MuJoCo's float32, above rounding."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Mesh:
    """A triangle mesh. Arrays are copied, checked and made read-only.

    Attributes:
        vertices: float64 [n, 3] [m].
        faces: int32 [m, 3], indices into `vertices`, counter-clockwise seen from outside.
        normals: float64 [n, 3], unit length; None lets `add_mesh` compute them.
        uv: float64 [n, 2], texture coordinates in [0, 1] per tile; None for an untextured mesh.

    Raises:
        UsageError: A shape is wrong, a value is not finite or a face names a missing vertex.
    """

    vertices: Float64Array
    faces: Int32Array
    normals: Float64Array | None = None
    uv: Float64Array | None = None

    def __post_init__(self) -> None:
        _freeze(self, "vertices", 3)
        count = len(self.vertices)
        faces = np.array(self.faces, dtype=np.int32)
        if faces.ndim != 2 or faces.shape[1] != 3 or not len(faces):
            raise UsageError(f"faces must be int32 [m, 3] with m >= 1, got {list(faces.shape)}")
        if faces.min() < 0 or faces.max() >= count:
            raise UsageError(
                f"faces name vertices {faces.min()} to {faces.max()}, the mesh has 0 to {count - 1}"
            )
        faces.setflags(write=False)
        object.__setattr__(self, "faces", faces)
        for name, width in (("normals", 3), ("uv", 2)):
            if getattr(self, name) is not None:
                _freeze(self, name, width, count)

    @property
    def volume(self) -> float:
        """Signed volume [m^3]: positive for a watertight mesh that faces outward."""
        a, b, c = self.vertices[self.faces].transpose(1, 0, 2)
        return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def _freeze(mesh: Mesh, name: str, width: int, rows: int | None = None) -> None:
    array = np.array(getattr(mesh, name), dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != width or rows not in (None, len(array)):
        wanted = f"[{'n' if rows is None else rows}, {width}]"
        raise UsageError(f"{name} must be float64 {wanted}, got {list(array.shape)}")
    if not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0, 0])
        raise UsageError(f"{name}[{row}] is {array[row].tolist()}, must be finite")
    array.setflags(write=False)
    object.__setattr__(mesh, name, array)


def flip(mesh: Mesh) -> Mesh:
    """Return the surface facing the other way, e.g. for the inside of a drum."""
    # Reversing the faces turns them over, and given normals must follow.
    normals = None if mesh.normals is None else -mesh.normals
    return Mesh(vertices=mesh.vertices, faces=mesh.faces[:, ::-1], normals=normals, uv=mesh.uv)


def transform(mesh: Mesh, matrix: npt.ArrayLike) -> Mesh:
    """Apply an affine map, float64 [4, 4], to a mesh; mirroring keeps it facing outward."""
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.shape != (4, 4):
        raise UsageError(f"matrix must be float64 [4, 4], got {list(matrix.shape)}")
    linear = matrix[:3, :3]
    normals = None
    if mesh.normals is not None:
        normals = _unit(mesh.normals @ np.linalg.inv(linear))  # inverse transpose, row vectors
    return Mesh(
        vertices=mesh.vertices @ linear.T + matrix[:3, 3],
        faces=mesh.faces if np.linalg.det(linear) > 0 else mesh.faces[:, ::-1],
        normals=normals,
        uv=mesh.uv,
    )


def moved(mesh: Mesh, offset: Sequence[float]) -> Mesh:
    """Return the mesh shifted by (x, y, z) [m]."""
    matrix = np.eye(4)
    matrix[:3, 3] = offset
    return transform(mesh, matrix)


def scaled(mesh: Mesh, factors: Sequence[float]) -> Mesh:
    """Return the mesh stretched by (x, y, z); a negative factor mirrors it."""
    return transform(mesh, np.diag([*factors, 1.0]))


def aimed(mesh: Mesh, direction: Sequence[float]) -> Mesh:
    """Return the mesh turned by the smallest rotation that takes +z to `direction`."""
    matrix = np.eye(4)
    matrix[:3, :3] = _rotation_from_z(np.asarray(direction, dtype=np.float64))
    return transform(mesh, matrix)


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """Join several meshes into one; normals and uv are kept only if every part has them."""
    if not meshes:
        raise UsageError("merge needs at least one mesh, got an empty list")
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
    normals = [mesh.normals for mesh in meshes if mesh.normals is not None]
    uv = [mesh.uv for mesh in meshes if mesh.uv is not None]
    return Mesh(
        vertices=np.concatenate([mesh.vertices for mesh in meshes]),
        faces=np.concatenate(
            [mesh.faces + np.int32(start) for mesh, start in zip(meshes, starts, strict=True)]
        ),
        normals=np.concatenate(normals) if len(normals) == len(meshes) else None,
        uv=np.concatenate(uv) if len(uv) == len(meshes) else None,
    )


def planar_uv(mesh: Mesh, u_axis: int, v_axis: int, tile: float) -> Mesh:
    """Project a texture along the third axis; one tile of it covers `tile` [m]."""
    uv = mesh.vertices[:, [u_axis, v_axis]] / tile
    return Mesh(vertices=mesh.vertices, faces=mesh.faces, normals=mesh.normals, uv=uv)


def add_mesh(
    spec: mujoco.MjSpec, name: str, mesh: Mesh, *, crease: float = np.radians(40.0)
) -> str:
    """Add a mesh asset to a model; the geom then takes `type=mjGEOM_MESH, meshname=name`.

    Inertia is the shell's, which MuJoCo accepts for open and thin meshes too; give the geom
    mass=0 or the body its own inertia. MuJoCo moves a mesh into its inertial frame and corrects
    the geom's pose for that: `model.geom_pos` differs from the given one, the drawn place does not.

    Args:
        spec: The model under construction.
        name: Name of the asset.
        mesh: What to add; its own normals are used if it has them.
        crease: Faces meeting at more than this angle [rad] get a hard edge between them.

    Returns:
        The name.
    """
    if mesh.normals is None:
        mesh = _with_creases(mesh, crease)
    assert mesh.normals is not None
    asset = spec.add_mesh(name=name)
    asset.uservert = mesh.vertices.astype(np.float32).ravel()
    asset.usernormal = mesh.normals.astype(np.float32).ravel()
    asset.userface = mesh.faces.ravel()
    if mesh.uv is not None:
        asset.usertexcoord = mesh.uv.astype(np.float32).ravel()
    asset.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
    return name


def _with_creases(mesh: Mesh, crease: float) -> Mesh:
    """Compute area-weighted normals; a vertex on a crease becomes one vertex per smooth patch."""
    corners = mesh.vertices[mesh.faces]
    weighted = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])  # (m, 3)
    unit = _unit(weighted)
    # All corners at once, because vertex by vertex took half of the time that making a twin takes.
    corner = np.argsort(mesh.faces.ravel(), kind="stable")  # by vertex, then by face
    face, vertex = corner // 3, mesh.faces.ravel()[corner]
    count = np.bincount(vertex, minlength=len(mesh.vertices))
    start = np.cumsum(count) - count
    slot = np.arange(count.max())
    other = np.minimum(start[vertex][:, None] + slot, len(corner) - 1)  # (corners, slots)
    beside = face[other]
    alike = np.einsum("ij,ikj->ik", unit[face], unit[beside]) >= np.cos(crease)
    near = alike & (slot < count[vertex][:, None])
    bits = np.packbits(near, axis=1)
    keys = np.hstack([vertex[:, None].astype(np.uint32).view(np.uint8), bits])
    rows = keys.view(f"V{keys.shape[1]}").reshape(-1)
    _, first, patch = np.unique(rows, return_index=True, return_inverse=True)
    order = np.argsort(first)  # patches in the order in which their vertices come
    first, patch = first[order], np.argsort(order)[patch]
    normals = np.zeros((len(first), 3))
    row, column = np.nonzero(near[first])
    np.add.at(normals, row, weighted[beside[first[row], column]])
    faces = np.empty(mesh.faces.size, dtype=mesh.faces.dtype)
    faces[corner] = patch
    sources = vertex[first]
    return Mesh(
        vertices=mesh.vertices[sources],
        faces=faces.reshape(-1, 3),
        normals=_unit(normals),
        uv=None if mesh.uv is None else mesh.uv[sources],
    )


def welded(vertices: Float64Array, faces: npt.NDArray[np.intp]) -> Mesh:
    """Make a mesh with one vertex per place, without the faces that lose their area by that."""
    grid = np.round(vertices / WELD).astype(np.int64)
    _, first, index = np.unique(grid, axis=0, return_index=True, return_inverse=True)
    faces = index.reshape(-1)[faces]  # in numpy 2.0 the inverse has the input's rank
    a, b, c = faces.T
    return Mesh(vertices=vertices[first], faces=faces[(a != b) & (b != c) & (c != a)])


def _rotation_from_z(direction: Float64Array) -> Float64Array:
    """Return the smallest rotation that takes +z to a direction, float64 [3, 3]."""
    x, y, z = direction / np.linalg.norm(direction)
    if z < -1 + 1e-12:  # the formula divides by 1 + z; any half turn does here
        return np.diag(np.array([1.0, -1.0, -1.0]))
    cross = np.array([[0, 0, x], [0, 0, y], [-x, -y, 0]])  # skew matrix of z_axis x direction
    turn: Float64Array = np.eye(3) + cross + cross @ cross / (1 + z)
    return turn


def _unit(vectors: Float64Array) -> Float64Array:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1.0))
