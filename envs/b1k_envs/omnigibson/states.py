"""OmniGibson's object states under the names that sub-goals and task progress ask for.

Source: OmniGibson/omnigibson/object_states/ of StanfordVL/BEHAVIOR-1K. The goal itself is not read
here; OmniGibson's own task evaluates it (`goal_status`).
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from b1k_envs import r1pro
from b1k_envs.base import Float64Array
from b1k_envs.errors import EnvError
from b1k_envs.omnigibson.dialects.dialect import Dialect
from b1k_envs.omnigibson.observations import to_numpy
from b1k_envs.tasks.task_progress import Between

NEAR_DISTANCE = 0.80
"""`near`: the base's origin is horizontally within this distance of the object's footprint [m], as
in the twin. Our own predicate, for sub-goals only; no official one exists."""

AGENT = "agent.n.01_1"

_STATES = {
    "open": "Open",
    "toggled_on": "ToggledOn",
    "inside": "Inside",
    "ontop": "OnTop",
    "covered": "Covered",
    "nextto": "NextTo",
    "under": "Under",
    "touching": "Touching",
    "attached": "AttachedTo",
    "on_fire": "OnFire",
    "contains": "Contains",
    "filled": "Filled",
    "cooked": "Cooked",
    "frozen": "Frozen",
}
"""Predicates that are an object state of the first instance, with the class of that state."""

_NO_RANGE = 1e-6
"""A joint that moves less opens nothing [rad] or [m]."""


class SimulatorStates:
    """The state reader of one env (`goals.StateReader`, `task_progress.ProgressReader`)."""

    def __init__(self, dialect: Dialect, index: int) -> None:
        self._dialect, self._index = dialect, index
        self._ours: dict[str, Callable[..., bool]] = {
            "grasped": self._grasped,
            "near": self._near,
        }

    def objects(self) -> Collection[str]:
        """Return the scene's BDDL instance names."""
        return self._dialect.instances(self._index)

    def holds(self, predicate: str, *instances: str) -> bool:
        """Return the truth of a predicate of BDDL instances now.

        Raises:
            EnvError: There is no such state, or no such object, or the object lacks the state.
        """
        if predicate in self._ours:
            return self._ours[predicate](*instances)
        if predicate not in _STATES:
            raise EnvError(
                f"no state of OmniGibson is known for '{predicate}'; known are "
                f"{', '.join([*_STATES, *self._ours])}"
            )
        others = map(self._entity, instances[1:])
        return bool(self._state(instances[0], _STATES[predicate]).get_value(*others))

    # --- what task progress asks for --------------------------------------------------------

    def named(self, key: str) -> Mapping[str, bool]:
        """See `ProgressReader.named`; what BDDL does not name is looked up in the scene."""
        scope = self._dialect.scope(self._index)
        if key in scope:
            return {key: scope[key] is not None}
        found = {name: e is not None for name, e in scope.items() if name.rpartition("_")[0] == key}
        if found:
            return found
        if self._dialect.scene_object(self._index, key) is not None:
            return {key: True}
        stem, _, number = key.rpartition("_")
        category = (stem if number.isdecimal() else key).split(".n.")[0]
        names = self._dialect.scene_names(self._index, category)
        if not names:
            raise EnvError(
                f"the scene has no {key}, neither for BDDL nor of the category {category}"
            )
        if number.isdecimal():
            return {names[min(int(number), len(names)) - 1]: True}
        return dict.fromkeys(names, True)

    def distance(self, instance: str, between: Between) -> float:
        """See `ProgressReader.distance`."""
        entity = self._entity(instance)
        ours = [self._dialect.base_pose(self._index)[:3, 3]]
        if between == "roots":
            return _horizontal(ours, [to_numpy(entity.get_position_orientation()[0])])
        if between == "links":
            ours += [self._dialect.eef_position(self._index, arm) for arm in r1pro.ARMS]
        links = entity.links.values()
        return _horizontal(ours, [to_numpy(link.get_position_orientation()[0]) for link in links])

    def open_fraction(self, instance: str) -> float:
        """See `ProgressReader.open_fraction`; by the joints that decide `Open`."""
        both_sides, joints, directions = self._state(instance, "Open").relevant_joints_info
        widest = 0.0
        for joint, direction in zip(joints, directions, strict=True):
            low, high = float(joint.lower_limit), float(joint.upper_limit)
            if high - low < _NO_RANGE:
                continue
            opened = (float(joint.get_state()[0]) - low) / (high - low)
            for side in (1, -1) if both_sides else (1,):
                widest = max(widest, opened if direction * side == 1 else 1.0 - opened)
        return min(widest, 1.0)

    def _state(self, instance: str, name: str) -> Any:  # noqa: ANN401 - a state of OmniGibson
        state = getattr(importlib.import_module("omnigibson.object_states"), name)
        entity = self._entity(instance)
        if state not in getattr(entity, "states", {}):  # a system has none
            raise EnvError(f"{instance} has no state {name} in OmniGibson")
        return entity.states[state]

    def _entity(self, instance: str) -> Any:  # noqa: ANN401 - an object of OmniGibson
        if instance not in self._dialect.scope(self._index):
            found = self._dialect.scene_object(self._index, instance)
            if found is not None:
                return found
        return self._dialect.entity(self._index, instance)

    def _grasped(self, agent: str, instance: str) -> bool:
        _check_agent(agent)
        entity = self._entity(instance)
        return any(self._dialect.is_grasping(self._index, arm, entity) for arm in r1pro.ARMS)

    def _near(self, agent: str, instance: str) -> bool:
        """Return `near`, by the root link's footprint: an open door brings no washer nearer."""
        _check_agent(agent)
        low, high = map(to_numpy, self._entity(instance).root_link.aabb)
        base = self._dialect.base_pose(self._index)[:3, 3]
        outside = (max(low[i] - base[i], base[i] - high[i], 0.0) for i in (0, 1))
        return math.hypot(*outside) <= NEAR_DISTANCE


def _horizontal(ours: list[Float64Array], theirs: list[Float64Array]) -> float:
    """Return the least horizontal distance between positions [m], infinite if one has none."""
    pairs = ((a, b) for a in ours for b in theirs)
    return min((math.hypot(a[0] - b[0], a[1] - b[1]) for a, b in pairs), default=math.inf)


def _check_agent(agent: str) -> None:
    if agent != AGENT:
        raise EnvError(f"{agent} is no agent of this scene; {AGENT} is")
