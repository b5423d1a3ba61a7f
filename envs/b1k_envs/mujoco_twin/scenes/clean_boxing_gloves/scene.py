"""The utility room of task 31, clean_boxing_gloves, as a `Scene`."""

from __future__ import annotations

from b1k_envs.mujoco_twin.scenes.base import Scene, Switch, Thing
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.states import (
    DUST_PARTICLES,
    RUNNING,
    GloveStates,
    dusty,
)

LED = "washer_led"
"""The ring around the power button."""
LED_OFF, LED_ON = (0.10, 0.16, 0.12, 1.0), (0.25, 1.0, 0.45, 1.0)


def dust_geoms(glove: str) -> tuple[str, ...]:
    """Return the geoms of a glove's dust: each particle, and a veil that greys the whole."""
    return (*(f"{glove}_dust_{k:02d}" for k in range(DUST_PARTICLES)), f"{glove}_dustveil")


SCENE = Scene(
    task="clean_boxing_gloves",
    counts={"train": 200, "public-test": 20, "hidden-test": 20},
    build=layout.add_scene,
    states=GloveStates,
    bodies=layout.BDDL_BODIES,
    furniture=(layout.WASHER, layout.DRYER, layout.COUNTERTOP),
    things={
        glove: Thing(
            on=layout.COUNTERTOP,
            pose=(x, y, layout.GLOVE_NOMINAL_YAW),
            jitter=(0.05, 0.06, 0.60),
            height=layout.COUNTER_TOP + layout.GLOVE_REST_HEIGHT,
        )
        for glove, (x, y) in zip(layout.GLOVES, layout.GLOVE_NOMINAL, strict=True)
    },
    links=(layout.WASHER_DOOR,),
    materials=("floor", "wall", "worktop", "cabinet", "casing"),
    switches={
        **{dusty(glove): Switch(geoms=dust_geoms(glove)) for glove in layout.GLOVES},
        RUNNING: Switch(geoms=(LED,), on=LED_ON, off=LED_OFF),
    },
    watched=(
        *layout.GLOVES,
        layout.WASHER,
        layout.WASHER_DOOR,
        layout.WASHER_BUTTON,
        layout.COUNTERTOP,
    ),
    closeup=("counter_close", frozenset(map(dusty, layout.GLOVES)), frozenset()),
)
