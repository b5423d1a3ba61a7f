"""Classes that are keys of `obj.states`."""

from omnigibson_double import touch
from omnigibson_double.object_states import (
    AttachedTo,
    Contains,
    Cooked,
    Covered,
    Filled,
    Frozen,
    Inside,
    NextTo,
    OnFire,
    OnTop,
    Open,
    ToggledOn,
    Touching,
    Under,
)

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
touch.module(__name__)
