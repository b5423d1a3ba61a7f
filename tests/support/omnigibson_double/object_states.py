"""Object states: classes that are keys of `obj.states`, and answer with the last step's truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omnigibson_double.touch import Touched

if TYPE_CHECKING:
    from omnigibson_double.things import Thing


class ObjectState(Touched):
    """One state of one object. Values change in `og.sim.step` only, whatever was loaded since."""

    predicate = ""

    def __init__(self, obj: Thing) -> None:
        self.obj = obj

    def get_value(self, *others: Any) -> bool:
        return self.obj.scene.fact(self.predicate, self.obj, *others)


class Covered(ObjectState):
    predicate = "covered"


class Inside(ObjectState):
    predicate = "inside"


class OnTop(ObjectState):
    predicate = "ontop"


class Open(ObjectState):
    owner = "Open"
    predicate = "open"

    @property
    def relevant_joints_info(self) -> tuple[bool, list[Any], list[int]]:
        """Whether both sides open, the joints, and for each 1 if it opens upwards in its range."""
        joints = self.obj.joints
        return False, joints, [1] * len(joints)


class ToggledOn(ObjectState):
    predicate = "toggled_on"


def _other(name: str, predicate: str) -> type[ObjectState]:
    return type(name, (ObjectState,), {"predicate": predicate})


NextTo = _other("NextTo", "nextto")
Under = _other("Under", "under")
Touching = _other("Touching", "touching")
AttachedTo = _other("AttachedTo", "attached")
OnFire = _other("OnFire", "on_fire")
Contains = _other("Contains", "contains")
Filled = _other("Filled", "filled")
Cooked = _other("Cooked", "cooked")
Frozen = _other("Frozen", "frozen")
OTHERS = (NextTo, Under, Touching, AttachedTo, OnFire, Contains, Filled, Cooked, Frozen)
"""States that nothing of task 31 has; a test may give them to things of its own."""


class StoredState:
    """One that is in an object's dumped state, and is loaded by being set."""

    def __init__(self, obj: Thing) -> None:
        self.obj = obj

    def _set_value(self, value: bool) -> None:
        raise NotImplementedError

    def _load_state(self, state: bool) -> None:
        self._set_value(state)


__all__ = [
    "AttachedTo",
    "Contains",
    "Cooked",
    "Covered",
    "Filled",
    "Frozen",
    "Inside",
    "NextTo",
    "OnFire",
    "OnTop",
    "Open",
    "ToggledOn",
    "Touching",
    "Under",
]

BY_PREDICATE = {state.predicate: state for state in (Covered, Inside, OnTop, Open, ToggledOn)}
