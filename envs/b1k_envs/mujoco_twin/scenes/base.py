"""The description of a room: all that env, model, instances and pictures know of a task.

Everything that differs between tasks is a field here. The robot, its control, grasping, cameras
and physics are the same in every room.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from b1k_envs.base import Split
from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.robot.grasping import AssistedGrasp
from b1k_envs.mujoco_twin.states import TwinStates

Rgba = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Thing:
    """A free body that an instance places.

    Attributes:
        on: Body that it stands on and is shifted with.
        pose: Nominal x, y [m] and yaw [rad], world frame.
        jitter: Half-widths of the offsets that an instance adds to the pose.
        height: Height of the body's origin when it lies at rest [m].
    """

    on: str
    pose: tuple[float, float, float]
    jitter: tuple[float, float, float]
    height: float


@dataclass(frozen=True, kw_only=True)
class Switch:
    """Geoms that change their look without moving.

    Attributes:
        geoms: Names of the geoms.
        on: Their colour while the switch is on; None leaves it.
        off: Their colour while it is off; None hides them.
    """

    geoms: tuple[str, ...]
    on: Rgba | None = None
    off: Rgba | None = None


@dataclass(frozen=True, kw_only=True, eq=False)  # eq: each is itself, and keys its model
class Scene:
    """One task's room.

    Attributes:
        task: Task name; `assets/<task>.xml` has the room's looks, lights and cameras.
        counts: Number of instances in each split.
        build: Adds bodies, joints and collision shapes.
        states: Makes the reader of states from a compiled model, its data and the grasp.
        bodies: The body of each BDDL instance name.
        furniture: Bodies that an instance shifts a little.
        things: Free bodies that an instance places; also what can be grasped and carried.
        links: Jointed links that can be grasped, such as a door.
        start_jitter: Half-widths of the robot's start around the origin: x, y [m], yaw [rad].
        materials: Materials that an instance tints. A new one goes to the end, so that the tints
            of the others stay the same.
        switches: Geoms that change their look without moving; the reader of states says which
            switches are on.
        watched: Bodies whose poses a scripted expert may read.
        closeup: A camera and two sets of switches that are on; a contact sheet shows both sets
            side by side.
    """

    task: str
    counts: Mapping[Split, int]
    build: Callable[[mujoco.MjSpec], None]
    states: Callable[[mujoco.MjModel, mujoco.MjData, AssistedGrasp], TwinStates]
    bodies: Mapping[str, str]
    furniture: tuple[str, ...]
    things: Mapping[str, Thing]
    links: tuple[str, ...] = ()
    start_jitter: tuple[float, float, float] = (0.15, 0.25, 0.30)
    materials: tuple[str, ...] = ()
    switches: Mapping[str, Switch] = field(default_factory=dict)
    watched: tuple[str, ...] = ()
    closeup: tuple[str, frozenset[str], frozenset[str]]
