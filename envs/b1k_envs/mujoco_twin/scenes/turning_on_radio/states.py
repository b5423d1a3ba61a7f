"""The one state of the living room that is not physics: whether the radio is on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from b1k_envs.errors import EnvError
from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.robot.grasping import AssistedGrasp
from b1k_envs.mujoco_twin.scenes.turning_on_radio import layout as scene
from b1k_envs.mujoco_twin.states import TwinStates
from b1k_envs.mujoco_twin.toggle import Toggle, ToggleMarker
from b1k_envs.mujoco_twin.truth import TwinTruth

TOGGLE_RADIUS = 0.011
"""Radius of the sphere at the button's face that a finger must reach into [m]; published size."""

PLAYING = "radio playing"


@dataclass(frozen=True, kw_only=True, eq=False)
class RadioTruth(TwinTruth):
    """Privileged state of this room.

    Attributes:
        radio_on: ToggledOn of the radio.
    """

    radio_on: bool


class RadioStates(TwinStates):
    """See the module header."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, grasp: AssistedGrasp) -> None:
        """Bind to a model; see `TwinStates`."""
        super().__init__(
            model,
            data,
            grasp,
            bodies=scene.BDDL_BODIES,
            things=(scene.RADIO,),
            footprints={scene.TABLE: scene.TABLE_HALF},
            links={scene.RADIO: (scene.RADIO, scene.BUTTON)},
        )
        self._button = ToggleMarker(
            model,
            owner=(scene.RADIO, scene.BUTTON),
            carrier=scene.BUTTON,
            centre=scene.BUTTON_FACE,
            radius=TOGGLE_RADIUS,
        )
        self.toggle = Toggle()
        self._predicates = {"toggled_on": self._toggled_on, **self._predicates}

    def reset(self) -> None:
        """Switch the radio off."""
        self.toggle.reset()

    def update(self) -> None:
        """Advance the toggle by one control step."""
        self.toggle.update(touched=self._button.touched(self._data, self._fingers))

    def look(self) -> frozenset[str]:
        """Return which switches are on: `PLAYING` while the radio plays."""
        return frozenset({PLAYING} if self.toggle.on else ())

    def truth(self, **common: Any) -> RadioTruth:  # noqa: ANN401 - see TwinStates
        """Return the truth of this room."""
        return RadioTruth(**common, radio_on=self.toggle.on)

    def _toggled_on(self, instance: str) -> bool:
        if self._body(instance) != self._bodies["radio_receiver.n.01_1"]:
            raise EnvError(f"{instance} cannot be toggled; radio_receiver.n.01_1 can")
        return self.toggle.on
