"""A scene: the twin underneath, its objects and robot, and the file a reset goes back to."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np

from omnigibson_double.names import NAMES, ROOMS, SCENE_MODEL
from omnigibson_double.settled import settle_on_instance
from omnigibson_double.tensors import pose
from omnigibson_double.things import Floor, Glove, System, Thing, Washer
from omnigibson_double.touch import Touched
from omnigibson_double.world import Snapshot, TwinScene

if TYPE_CHECKING:
    from b1k_envs.base import ProtocolYear
    from omnigibson_double.robot import Robot

_KINDS = {"boxing_glove": Glove, "washer": Washer, "countertop": Thing, "floor": Floor}


class _ScenePrim(Touched):
    def __init__(self, physics: TwinScene) -> None:
        self._physics = physics

    def get_position_orientation(self) -> tuple[Any, Any]:
        return pose(self._physics.offset, np.eye(3))


class Scene(Touched):
    """One of the clones; scene i > 0 stands aside in the world."""

    def __init__(self, protocol: ProtocolYear, index: int) -> None:
        self.physics = TwinScene(protocol, index)
        self.idx = index
        self.scene_model = SCENE_MODEL
        self.loaded_rooms = ROOMS
        self.robots: list[Robot] = []
        self._scene_prim = _ScenePrim(self.physics)
        self.things: dict[str, Any] = {}  # objects and systems by BDDL instance
        for instance in NAMES:
            kind = _KINDS.get(instance.split(".")[0])
            if kind is not None:
                self.things[instance] = kind(self, instance)
        self.things["dust.n.01_1"] = System(self)
        self._metadata: dict[str, Any] = {"inst_to_name": dict(NAMES)}
        self._initial: Snapshot | None = None
        self._facts: dict[tuple[str, ...], bool] = {}

    # --- what it has ------------------------------------------------------------------------

    @property
    def objects(self) -> list[Any]:
        return [t for t in self.things.values() if isinstance(t, Thing)] + list(self.robots)

    @property
    def systems(self) -> list[System]:
        return [t for t in self.things.values() if isinstance(t, System)]

    def object_registry(self, key: str, value: str, default_val: Any = None) -> Any:
        assert key in ("name", "category"), f"the double's registry knows no {key}"
        if key == "category":
            found = {o for o in self.objects if getattr(o, "category", None) == value}
            return found or default_val
        return next((obj for obj in self.objects if obj.name == value), default_val)

    def get_system(self, name: str) -> System:
        return next(system for system in self.systems if system.name == name)

    def get_task_metadata(self, key: str) -> Any:
        return self._metadata.get(key)

    def write_task_metadata(self, key: str, data: Any) -> None:
        self._metadata[key] = data

    def get_position_orientation(self) -> tuple[Any, Any]:
        return self._scene_prim.get_position_orientation()

    # --- resets -----------------------------------------------------------------------------

    def update_initial_file(self, scene_file: Any = None) -> None:
        """Everything as it is now, the robot's joints and what it holds included."""
        assert scene_file is None, "the double takes no scene file"
        settle_on_instance(self.physics)
        self._initial = self.physics.snapshot()

    def reset(self, hard: bool = True) -> None:
        """Back to the initial file; object states and pictures follow with the next step."""
        importlib.import_module("omnigibson").sim.require_handles("Scene.reset")
        assert self._initial is not None
        self.remember_facts()
        self.physics.restore(self._initial)
        if self.physics.protocol == "2026":  # with its states on the GPU
            on_fire = importlib.import_module("omnigibson.object_states.on_fire").OnFire
            for thing in self.things.values():
                if isinstance(thing, Glove):  # stands for all that can burn
                    on_fire(thing)._load_state(False)

    # --- facts and frames -------------------------------------------------------------------

    def outward(self, position: np.ndarray, frame: str) -> np.ndarray:
        """A scene-frame position in the frame asked for."""
        assert frame in ("world", "scene"), f"unknown frame {frame}"
        return position + self.physics.offset if frame == "world" else position

    def forget_facts(self) -> None:
        """Called by `og.sim.step`: states are looked up anew."""
        self._facts.clear()

    def remember_facts(self) -> None:
        """Look up all that can be asked for: what is written from here on does not show."""
        for thing in self.things.values():
            for state in getattr(thing, "states", {}).values():
                others = {
                    "covered": self.systems,
                    "inside": [self.things["washer.n.03_1"], self.things["countertop.n.01_1"]],
                    "ontop": [self.things["washer.n.03_1"], self.things["countertop.n.01_1"]]
                    + [self.things["floor.n.01_1"]],
                }.get(state.predicate)
                for other in [()] if others is None else [(o,) for o in others]:
                    self.fact(state.predicate, thing, *other)

    def fact(self, predicate: str, thing: Thing, *others: Any) -> bool:
        key = (predicate, thing.name, *(other.name for other in others))
        if key not in self._facts:
            self._facts[key] = self._look_up(predicate, thing, *others)
        return self._facts[key]

    def _look_up(self, predicate: str, thing: Thing, *others: Any) -> bool:
        states = self.physics.states
        if isinstance(thing, Floor):
            return False  # never covered here
        if predicate == "covered":
            return states.holds("covered", thing.bddl_inst, "dust.n.01_1")
        if predicate == "ontop":
            if not isinstance(thing, Glove):
                return False
            if isinstance(others[0], Floor):
                return self._lies_on_floor(thing)
        return states.holds(predicate, thing.bddl_inst, *(other.bddl_inst for other in others))

    def _lies_on_floor(self, thing: Thing) -> bool:
        model, data = self.physics.model, self.physics.data
        floor = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, "floor")
        body = model.body(thing.body).id
        pairs = data.contact.geom
        on_floor = (pairs == floor).any(axis=1)
        return bool((on_floor & (model.geom_bodyid[pairs] == body).any(axis=1)).any())
