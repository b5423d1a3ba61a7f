"""Classes that are keys of `obj.states`."""

from omnigibson_double import touch
from omnigibson_double.object_states import Covered, Inside, OnTop, Open, ToggledOn

__all__ = ["Covered", "Inside", "OnTop", "Open", "ToggledOn"]
touch.module(__name__)
