"""Classes that are keys of `obj.states`."""

from omnigibson_double import touch
from omnigibson_double.object_states import *  # noqa: F403 - all that `__all__` names there

touch.module(__name__)
