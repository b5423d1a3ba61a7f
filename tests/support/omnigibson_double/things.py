"""Objects, the dust system, and the wrapper that 2025 puts around both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout
from omnigibson_double.faults import faults
from omnigibson_double.names import NAMES
from omnigibson_double.object_states import Covered, Inside, ObjectState, OnTop, Open, ToggledOn
from omnigibson_double.tensors import numbers, pose, quat_wxyz, tensor, torch
from omnigibson_double.touch import Touched, note

if TYPE_CHECKING:
    from omnigibson_double.scene import Scene

_CATEGORIES = {
    "boxing_glove": "boxing_gloves",
    "washer": "washer",
    "countertop": "countertop",
    "floor": "floors",
}


class Link(Touched):
    """A rigid body; bodies are the twin's."""

    def __init__(self, scene: Scene, body: str) -> None:
        self._scene, self._body = scene, body
        self.name = body

    def get_position_orientation(self, frame: str = "world") -> tuple[Any, Any]:
        position, rotation = self._scene.physics.body_pose(self._body)
        return pose(self._scene.outward(position, frame), rotation)

    @property
    def aabb(self) -> tuple[Any, Any]:
        low, high = self._scene.physics.box([self._body])
        offset = self._scene.physics.offset
        return tensor(low + offset), tensor(high + offset)


class Thing(Touched):
    """What BDDL calls an object: a glove, the washer, the countertop, the floor."""

    owner = "DatasetObject"

    state_types: tuple[type[ObjectState], ...] = (Covered, Inside, OnTop)

    def __init__(self, scene: Scene, instance: str) -> None:
        self.scene = scene
        self.bddl_inst = instance
        self.name = NAMES[instance]
        self.category = _CATEGORIES[instance.split(".")[0]]
        self.in_rooms = ["utility_room_0"]
        self.states = {state: state(self) for state in self.state_types}
        self.links = {name: Link(scene, body) for name, body in self._bodies().items()}

    @property
    def body(self) -> str:
        return layout.BDDL_BODIES[self.bddl_inst]

    def _bodies(self) -> dict[str, str]:
        return {"base_link": self.body}

    @property
    def root_link(self) -> Link:
        return self.links["base_link"]

    @property
    def aabb(self) -> tuple[Any, Any]:
        """All links together: an open door of the washer sticks out of it."""
        low, high = self.scene.physics.box(list(self._bodies().values()))
        offset = self.scene.physics.offset
        return tensor(low + offset), tensor(high + offset)

    @property
    def aabb_center(self) -> Any:
        low, high = self.aabb
        return (low + high) / 2

    @property
    def aabb_extent(self) -> Any:
        low, high = self.aabb
        return high - low

    def get_position_orientation(self, frame: str = "world") -> tuple[Any, Any]:
        return self.root_link.get_position_orientation(frame)

    def keep_still(self) -> None:
        self.scene.physics.still_body(self.body)

    def wake(self) -> None:
        pass

    def dump_state(self, serialized: bool = False) -> dict[str, Any]:
        assert not serialized, "the double only dumps dictionaries"
        position, quat = self.get_position_orientation()
        zero = tensor([0.0, 0.0, 0.0])
        root = {"pos": position, "ori": quat, "lin_vel": zero, "ang_vel": zero.clone()}
        return {"root_link": root, "non_kin": {}}

    def load_state(self, state: Mapping[str, Any], serialized: bool = False) -> None:
        """Positions are world coordinates, in every scene."""
        assert not serialized, "the double only loads dictionaries"
        faults.strike("load")
        self.scene.remember_facts()
        root = state["root_link"]
        for name, value in root.items():
            if not isinstance(value, torch.Tensor):
                raise TypeError(f"root_link[{name!r}] must be a tensor, got {type(value).__name__}")
        position = numbers(root["pos"]) - self.scene.physics.offset
        self._place(position, quat_wxyz(numbers(root["ori"])), root)

    def _place(self, position: Any, quat: Any, root: Mapping[str, Any]) -> None:
        self.scene.physics.put_furniture(self.body, position, quat)


ROOM_TEMPERATURE = 23.0  # [degrees Celsius]


class Glove(Thing):
    """A free body."""

    temperature = ROOM_TEMPERATURE

    def _place(self, position: Any, quat: Any, root: Mapping[str, Any]) -> None:
        velocity = np.concatenate([numbers(root["lin_vel"]), numbers(root["ang_vel"])])
        self.scene.physics.put_free_body(self.body, position, quat, velocity)


class DoorJoint(Touched):
    """The one joint that opens something."""

    owner = "JointPrim"
    lower_limit, upper_limit = 0.0, layout.DOOR_RANGE

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def get_state(self) -> tuple[Any, Any, Any]:
        """Position, velocity, effort; a tensor of one number each."""
        zero = tensor([0.0])
        return tensor([self._scene.physics.door_angle]), zero, zero.clone()


class Washer(Thing):
    """Casing, door and button; its joint is the door's."""

    @property
    def joints(self) -> list[DoorJoint]:
        return [DoorJoint(self.scene)]

    state_types = (Covered, Inside, OnTop, Open, ToggledOn)

    def _bodies(self) -> dict[str, str]:
        return {
            "base_link": layout.WASHER,
            "link_0": layout.WASHER_DOOR,
            "togglebutton": layout.WASHER_BUTTON,
        }

    def dump_state(self, serialized: bool = False) -> dict[str, Any]:
        on = self.scene.physics.states.toggle.on
        return super().dump_state(serialized) | {
            "joint_pos": tensor([self.scene.physics.door_angle]),
            "joint_vel": tensor([0.0]),
            "non_kin": {"ToggledOn": {"value": on, "hand_in_marker_steps": 0}},
        }

    def load_state(self, state: Mapping[str, Any], serialized: bool = False) -> None:
        super().load_state(state, serialized)
        angle, velocity = numbers(state["joint_pos"])[0], numbers(state["joint_vel"])[0]
        self.scene.physics.set_door(angle, velocity)
        toggle = self.scene.physics.states.toggle
        toggle.reset()
        toggle.on = bool(state["non_kin"]["ToggledOn"]["value"])


class Floor(Thing):
    """No body of its own, and nothing moves it."""

    state_types = (Covered,)

    def _bodies(self) -> dict[str, str]:
        return {}

    def get_position_orientation(self, frame: str = "world") -> tuple[Any, Any]:
        return pose(self.scene.outward(np.zeros(3), frame), np.eye(3))

    def keep_still(self) -> None:
        pass

    def load_state(self, state: Mapping[str, Any], serialized: bool = False) -> None:
        faults.strike("load")
        self.scene.remember_facts()


class System(Touched):
    """The dust: visual particles in groups, one group per covered object."""

    name = "dust"

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    @property
    def n_particles(self) -> int:
        return sum(self.scene.physics.states.dust_counts.values())

    def dump_state(self, serialized: bool = False) -> dict[str, Any]:
        counts = self.scene.physics.states.dust_counts
        groups = {NAMES[inst]: counts[body] for inst, body in _gloves().items()}
        return {"n_particles": self.n_particles, "groups": groups}

    def load_state(self, state: Mapping[str, Any], serialized: bool = False) -> None:
        faults.strike("load")
        self.scene.remember_facts()
        counts = self.scene.physics.states.dust_counts
        for instance, body in _gloves().items():
            counts[body] = int(state["groups"].get(NAMES[instance], 0))


def _gloves() -> dict[str, str]:
    return {inst: body for inst, body in layout.BDDL_BODIES.items() if body in layout.GLOVES}


class BDDLEntity:
    """2025: wraps an object or a system, and passes everything it does not know on to it."""

    def __init__(self, bddl_inst: str, entity: Any) -> None:
        self.bddl_inst = bddl_inst
        self.synset = bddl_inst.rpartition("_")[0]
        self.is_system = isinstance(entity, System)
        self.wrapped_obj = entity

    def __getattribute__(self, name: str) -> Any:
        note("BDDLEntity", name)
        return object.__getattribute__(self, name)

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "wrapped_obj"), name)

    @property
    def exists(self) -> bool:
        return self.wrapped_obj is not None

    def get_state(self, state: type[ObjectState], *others: BDDLEntity) -> bool:
        return self.wrapped_obj.states[state].get_value(*(other.wrapped_obj for other in others))
