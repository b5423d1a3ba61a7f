"""The living room of task 0, turning_on_radio, as a `Scene`."""

from __future__ import annotations

from b1k_envs.mujoco_twin.scenes.base import Scene, Switch, Thing
from b1k_envs.mujoco_twin.scenes.turning_on_radio import layout
from b1k_envs.mujoco_twin.scenes.turning_on_radio.states import PLAYING, RadioStates

DIAL = "radio_dial"
DIAL_OFF, DIAL_ON = (0.30, 0.27, 0.20, 1.0), (1.0, 0.82, 0.35, 1.0)

SCENE = Scene(
    task="turning_on_radio",
    counts={"train": 100, "public-test": 20, "hidden-test": 20},
    build=layout.add_scene,
    states=RadioStates,
    bodies=layout.BDDL_BODIES,
    furniture=(layout.TABLE, layout.SOFA, layout.SHELF),
    start_jitter=(0.25, 0.45, 0.60),
    things={
        layout.RADIO: Thing(
            on=layout.TABLE,
            pose=layout.RADIO_NOMINAL,
            jitter=(0.03, 0.25, 0.30),
            height=layout.TABLE_TOP + layout.RADIO_HALF[2],
        )
    },
    materials=("floor", "wall", "oak", "sofa", "rug"),
    switches={PLAYING: Switch(geoms=(DIAL,), on=DIAL_ON, off=DIAL_OFF)},
    watched=(layout.RADIO, layout.BUTTON, layout.TABLE),
    closeup=("radio_close", frozenset(), frozenset({PLAYING})),
)
