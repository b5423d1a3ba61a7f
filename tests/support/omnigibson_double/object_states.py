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
    predicate = "open"


class ToggledOn(ObjectState):
    predicate = "toggled_on"


class StoredState:
    """One that is in an object's dumped state, and is loaded by being set."""

    def __init__(self, obj: Thing) -> None:
        self.obj = obj

    def _set_value(self, value: bool) -> None:
        raise NotImplementedError

    def _load_state(self, state: bool) -> None:
        self._set_value(state)


BY_PREDICATE = {state.predicate: state for state in (Covered, Inside, OnTop, Open, ToggledOn)}
