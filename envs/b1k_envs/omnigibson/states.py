"""OmniGibson's object states under the names that sub-goals ask for (`goals.StateReader`).

Source: OmniGibson/omnigibson/object_states/ of StanfordVL/BEHAVIOR-1K. The goal itself is not read
here; OmniGibson's own task evaluates it (`goal_status`).
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Collection
from typing import Any

from b1k_envs import r1pro
from b1k_envs.errors import EnvError
from b1k_envs.omnigibson.dialects.dialect import Dialect
from b1k_envs.omnigibson.observations import to_numpy

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
}
"""Predicates that are an object state of the first instance, with the class of that state."""


class SimulatorStates:
    """The state reader of one env."""

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
        state = getattr(importlib.import_module("omnigibson.object_states"), _STATES[predicate])
        entity, *others = map(self._entity, instances)
        if state not in entity.states:
            raise EnvError(f"{instances[0]} has no state {_STATES[predicate]} in OmniGibson")
        return bool(entity.states[state].get_value(*others))

    def _entity(self, instance: str) -> Any:  # noqa: ANN401 - an object of OmniGibson
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


def _check_agent(agent: str) -> None:
    if agent != AGENT:
        raise EnvError(f"{agent} is no agent of this scene; {AGENT} is")
