"""Whether something burns, which follows from its temperature. This build has PR 2327."""

from omnigibson_double.object_states import StoredState

__all__ = ["OnFire"]

IGNITION_TEMPERATURE = 250.0  # [degrees Celsius]


class OnFire(StoredState):
    """Setting it sets the temperature: to put a fire out is to cool to just below ignition."""

    def _set_value(self, value):
        self.obj.temperature = IGNITION_TEMPERATURE - (0.0 if value else 1.0)

    def _load_state(self, state):
        """Nothing: the temperature is loaded by itself."""
