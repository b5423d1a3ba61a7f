"""A model and a GL context of their own, in which any state of a room can be looked at.

A `Shown` is all that a picture depends on, so it can be changed before it is rendered: the robot or
a thing moved, nothing simulated. The video's process renders its tickets here; so does whoever
needs small pictures, or pictures of states that no episode has met.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from b1k_envs.base import Float32Array, Float64Array, UInt8Array, View
from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.instances import Instance
from b1k_envs.mujoco_twin.model import Dresser, RenderQuality, build_model
from b1k_envs.mujoco_twin.rendering.cameras import CameraRig, camera_to_base
from b1k_envs.mujoco_twin.scenes import load_scene


class Shown(NamedTuple):
    """Everything that a picture depends on.

    Attributes:
        instance: Furniture, colours, lights.
        look: Switches of the scene that are on.
        qpos: float64 [nq], the model's joint positions.
    """

    instance: Instance
    look: frozenset[str]
    qpos: Float64Array


class Studio:
    """See the module header. Belongs to the thread that first renders with it.

    Attributes:
        model: The room; its places and looks are those of the last state posed.
        data: Positions of the last state posed; velocities and contacts mean nothing.
    """

    def __init__(self, task: str, quality: RenderQuality = "fast") -> None:
        scene = load_scene(task)
        self.model = build_model(scene, quality)
        self.data = mujoco.MjData(self.model)
        self._dresser = Dresser(self.model, scene)
        self._rig = CameraRig(self.model, quality)

    def pose(self, shown: Shown) -> None:
        """Take a state: furniture, looks, and the place of every body and camera."""
        self._dresser.place(shown.instance)
        self._dresser.show(shown.look)
        self.data.qpos[:] = shown.qpos
        # Only the positions are needed for a picture: these three are far less than mj_forward.
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def render(self, sizes: Mapping[View, int]) -> dict[View, UInt8Array]:
        """Render these views of the state posed, uint8 [size, size, 3] RGB.

        Args:
            sizes: Edge of each picture [px]; the field of view does not depend on it.

        Raises:
            UnavailableError: No OpenGL here.
        """
        return self._rig.render_all(self.data, {view: (n, n) for view, n in sizes.items()})

    def camera_to_base(self, view: View) -> Float32Array:
        """Return a camera's pose in the state posed, float32 [4, 4], as an observation has it."""
        return camera_to_base(self.model, self.data, view)

    def close(self) -> None:
        """Free the GL contexts."""
        self._rig.close()
