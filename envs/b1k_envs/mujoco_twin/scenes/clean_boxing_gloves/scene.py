"""The utility room of task 31, clean_boxing_gloves, as a `Scene`."""

from __future__ import annotations

from b1k_envs.mujoco_twin.scenes.base import Scene, Switch, Thing
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import glove_looks, layout, looks, washer_looks
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.states import RUNNING, GloveStates, dusty

SCENE = Scene(
    task="clean_boxing_gloves",
    counts={"train": 200, "public-test": 20, "hidden-test": 20},
    build=layout.add_scene,
    dress=looks.add_scene_looks,
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
    materials=looks.JITTERED_MATERIALS,
    switches={
        **{
            dusty(glove): Switch(
                geoms=(*glove_looks.dust_particle_names(glove), glove_looks.dust_veil_name(glove))
            )
            for glove in layout.GLOVES
        },
        RUNNING: Switch(
            geoms=(washer_looks.LED,), on=washer_looks.LED_ON, off=washer_looks.LED_OFF
        ),
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
