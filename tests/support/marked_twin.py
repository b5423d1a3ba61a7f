"""A twin with small bright spheres in it, and two accounts of where each one is in a picture.

`Stage.see` measures the drawn ones in a segmentation render; `Stage.expect` computes them from an
Observation, the intrinsics and the chain of `urdf_chain`, without MuJoCo.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import cv2
import numpy as np
import pytest

from b1k_envs.mujoco_twin.engine import GROUP_VISUAL
from b1k_envs.mujoco_twin.rendering.gl import ensure_gl

ensure_gl()

import mujoco  # noqa: E402 - after the choice of GL
from urdf_chain import MOVING, base_pose, link_poses  # noqa: E402

from b1k_envs import r1pro  # noqa: E402
from b1k_envs.base import Observation, View  # noqa: E402
from b1k_envs.mujoco_twin import model as twin_model  # noqa: E402
from b1k_envs.mujoco_twin.env import TwinEnv  # noqa: E402
from b1k_envs.mujoco_twin.looks import add_looks  # noqa: E402
from b1k_envs.tasks.table import get_task  # noqa: E402

MAGENTA = (255, 0, 255)
SMALLEST, LARGEST = 20, 113  # area of a disc 5 and 12 px across [px]


@dataclass(frozen=True)
class Marker:
    """A sphere fixed to a link, or to the room where link is `world`; m, in that frame."""

    link: str
    point: tuple[float, float, float]
    radius: float


def room_markers() -> list[Marker]:
    random = np.random.default_rng(3)
    grid = np.stack(
        np.meshgrid(np.linspace(-2, 1.8, 7), np.linspace(-2, 2.2, 7), np.linspace(0.1, 2.3, 6)), -1
    ).reshape(-1, 3)
    points = grid + random.uniform(-0.15, 0.15, grid.shape)
    return [
        Marker("world", (x, y, z), 0.010 if index % 2 else 0.025)
        for index, (x, y, z) in enumerate(points.tolist())
    ]


def robot_markers() -> list[Marker]:
    markers = []
    for arm in ("left", "right"):
        for i in range(1, 8):
            for side in ((0.09, 0, 0), (-0.09, 0, 0), (0, 0.09, 0), (0, -0.09, 0)):
                x, y, z = side
                markers.append(Marker(f"{arm}_arm_link{i}", (x, y, z - 0.04), 0.008))
        for x in (-0.06, -0.03, 0.03, 0.06):
            markers.append(Marker(f"{arm}_gripper_link", (x, 0.0, -0.13), 0.0015))
            markers.append(Marker(f"{arm}_gripper_link", (x, 0.07 * np.sign(x), -0.30), 0.003))
        for finger in (1, 2):
            link = f"{arm}_gripper_finger_link{finger}"
            for x in (-0.02, -0.01, 0.01, 0.02):
                markers.append(Marker(link, (x, 0.0, -0.045), 0.0008))
    for link in ("torso_link1", "torso_link2", "torso_link4"):
        for x, y in ((0.2, 0.0), (-0.2, 0.0), (0.0, 0.2), (0.0, -0.2)):
            markers.append(Marker(link, (x, y, 0.1), 0.010))
    markers += [Marker("base_link", (x, y, 0.45), 0.008) for x in (0.2, 0.3) for y in (-0.2, 0.2)]
    return markers


@dataclass
class Stage:
    """A twin with markers in it: `see` tells what is drawn, `expect` what should be."""

    env: TwinEnv
    markers: dict[int, Marker]  # by geom id
    others: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.others = np.array([g for g in range(self.env._model.ngeom) if g not in self.markers])

    def put(
        self, joints: dict[str, float], base: tuple[float, float, float], *, images: bool = False
    ) -> Observation:
        """Set a posture as an episode's step would have left it, and observe it."""
        env = self.env
        for name, value in joints.items():
            env._data.joint(name).qpos = value
        for name, value in zip(("x", "y", "rz"), base, strict=True):
            env._data.joint(f"base_footprint_{name}_joint").qpos = value
        mujoco.mj_step1(env._model, env._data)
        env._forget_step()
        return env.observe(images=images)

    def see(self, view: View) -> dict[int, tuple[float, float]]:
        """Centroid (column, row) of every marker that is drawn whole, in a segmentation.

        The corner of the picture is (0, 0), so the middle of the first pixel is (0.5, 0.5).
        """
        model = self.env._model
        drawn = self.segment(view)
        groups = model.geom_group.copy()
        model.geom_group[self.others] = 5  # nothing but the markers: how large each one would be
        alone = self.segment(view)
        model.geom_group[:] = groups
        centroids = {}
        for geom in np.intersect1d(drawn, list(self.markers)):
            rows, columns = np.nonzero(drawn == geom)
            whole = len(rows) == np.count_nonzero(alone == geom)
            inside = min(*rows, *columns) > 0 and max(*rows, *columns) < len(drawn) - 1
            box = alone[min(rows) - 1 : max(rows) + 2, min(columns) - 1 : max(columns) + 2]
            apart = set(np.unique(box)) <= {-1, geom}  # no other marker may cover a part of it
            if whole and inside and apart and SMALLEST <= len(rows) <= LARGEST:
                centroids[int(geom)] = (columns.mean() + 0.5, rows.mean() + 0.5)
        return centroids

    def segment(self, view: View) -> np.ndarray:
        size = r1pro.CAMERAS[view].size
        return self.env._rig.segment(self.env._data, view, size, size)

    def expect(self, seen: Observation, view: View) -> dict[int, np.ndarray]:
        """Where the observation says each marker is, (column, row); nothing of MuJoCo in here."""
        layout = r1pro.PROPRIO_2025
        state = seen.proprio.astype(np.float64)
        angles = state[layout["joint_qpos"]]
        joints = {name: float(angles[r1pro.JOINT_ORDER.index(name)]) for name in MOVING}
        for name in joints:  # openings count outwards, the URDF's second finger goes to -y
            joints[name] *= -1 if name.endswith("finger_joint2") else 1
        links = link_poses(joints)
        links["world"] = np.linalg.inv(base_pose(state[layout["base_qpos"]]))
        camera = np.linalg.inv(seen.camera_to_base[view].astype(np.float64))
        places = {}
        for geom, marker in self.markers.items():
            x, y, z, _ = camera @ links[marker.link] @ (*marker.point, 1.0)  # USD axes
            if z < 0:
                column, row, depth = r1pro.CAMERAS[view].intrinsics @ (x, -y, -z)  # OpenCV axes
                places[geom] = np.array([column, row]) / depth
        return places


@contextmanager
def marked_stage() -> Iterator[Stage]:
    """Compile a twin with the markers in it; close it at the end."""
    markers = [*room_markers(), *robot_markers()]

    def dress_and_mark(spec: mujoco.MjSpec, name: str) -> None:
        add_looks(spec, name)
        if name != "robot":
            return
        spec.add_material(name="marker", rgba=[1, 0, 1, 1], emission=1, specular=0, shininess=0)
        for index, marker in enumerate(markers):
            spec.body(marker.link).add_geom(
                name=f"marker{index}",
                type=mujoco.mjtGeom.mjGEOM_SPHERE,
                size=[marker.radius, 0, 0],
                pos=marker.point,
                material="marker",
                group=GROUP_VISUAL,
                contype=0,
                conaffinity=0,
                mass=0,
            )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(twin_model, "add_looks", dress_and_mark)
        # Other twins share a compiled model, without markers.
        patch.setattr(twin_model, "_compiled", twin_model._compiled.__wrapped__)
        env = TwinEnv(get_task(31), protocol="2025", split="public-test", max_steps=100_000)
    env.reset(0, 0, 0)
    model = env._model
    yield Stage(env, {model.geom(f"marker{i}").id: marker for i, marker in enumerate(markers)})
    env.close()


def blobs(picture: np.ndarray) -> np.ndarray:
    """Centroids (column, row) of the magenta spots of a picture, float64 [n, 2]."""
    bright = (picture == MAGENTA).all(axis=-1).astype(np.uint8)
    _, _, stats, centroids = cv2.connectedComponentsWithStats(bright, connectivity=4)
    size = stats[:, cv2.CC_STAT_AREA]
    return centroids[(size >= SMALLEST) & (size <= LARGEST)] + 0.5
