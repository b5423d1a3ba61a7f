"""Task progress through the adapter: the same in the twin, and for every task in drawn worlds."""

from __future__ import annotations

import importlib
from typing import get_args

import pytest
from omnigibson_bench import Double
from omnigibson_double.object_states import BY_PREDICATE, OTHERS
from progress_worlds import DrawnDialect, World, expected, tasks

from b1k_envs.base import ProgressVariant
from b1k_envs.errors import EnvError
from b1k_envs.omnigibson.states import SimulatorStates
from b1k_envs.tasks.task_progress import evaluate

STATES = BY_PREDICATE | {state.predicate: state for state in OTHERS}
VARIANTS = get_args(ProgressVariant)


@pytest.mark.slow
def test_every_task_is_told_and_agrees_with_the_tables_text_in_5000_states(double: Double):
    double.env()  # so that `omnigibson.object_states` is the double's
    states = importlib.import_module("omnigibson.object_states")
    assert all(getattr(states, state.__name__) is state for state in STATES.values())
    for task in tasks():
        for seed in range(50):  # with both generations and variants 10,000
            world = World(task, 1000 + seed)
            dialect = DrawnDialect(world, STATES)
            for variant in VARIANTS:
                found = evaluate(task, SimulatorStates(dialect, 0), variant)
                assert found.untold is None
                assert dict(found.truths) == expected(task, world, variant), (task, seed, variant)


def test_an_object_that_nothing_knows_leaves_the_task_untold_without_harm(double: Double):
    double.env()
    dialect = DrawnDialect(World("setting_mousetraps", 1), STATES)
    dialect._in_scene.clear()
    found = evaluate("setting_mousetraps", SimulatorStates(dialect, 0), "links-fraction")
    assert dict(found.truths) == {}
    assert "robot_near_toilet" in (found.untold or "")
    assert "the scene has no toilet.n.01_1" in (found.untold or "")


def test_a_state_that_an_object_lacks_is_named(double: Double):
    double.env()
    dialect = DrawnDialect(
        World("cook_bacon", 3), {p: s for p, s in STATES.items() if p != "cooked"}
    )
    dialect.world.exists = dict.fromkeys(dialect.world.names, True)
    dialect = DrawnDialect(dialect.world, {p: s for p, s in STATES.items() if p != "cooked"})
    found = evaluate("cook_bacon", SimulatorStates(dialect, 0), "links-fraction")
    assert "bacon.n.01_1 has no state Cooked in OmniGibson" in (found.untold or "")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_start_of_task_31_is_the_same_as_in_the_twin(double: Double, twin_of, variant):
    env, twin = double.env(), twin_of(double.protocol)
    env.reset(0, 0, 0)
    twin.reset(0, 0, 0)
    assert env.checks(variant) == twin.checks(variant)
    assert [name for name, held in env.checks(variant).truths.items() if held] == ["washer_closed"]


def test_the_door_is_opened_at_half_of_its_range_and_open_before(double: Double):
    env = double.env()
    env.reset(0, 0, 0)
    physics = double.physics()
    seen = []
    for share in (0.0, 0.2, 0.49, 0.51, 1.0):
        physics.set_door(2.2 * share)
        double.sim.scenes[0].forget_facts()
        seen.append([env.checks(v).truths["washer_opened"] for v in VARIANTS])
    assert seen == [[False, False], [False, True], [False, True], [True, True], [True, True]]


def test_a_name_of_the_scene_that_bddl_does_not_know_is_found(double: Double):
    env = double.env()
    env.reset(0, 0, 0)
    states = SimulatorStates(env._world._dialect, 0)
    assert states.named("washer_ynwamu_0") == {"washer_ynwamu_0": True}
    assert states.named("boxing_gloves.n.01") == {
        "boxing_gloves_188": True,
        "boxing_gloves_189": True,
    }
    assert states.named("boxing_gloves.n.01_2") == {"boxing_gloves_189": True}
    assert states.named("boxing_glove.n.01") == {
        "boxing_glove.n.01_1": True,
        "boxing_glove.n.01_2": True,
    }
    for variant in ("links", "base-links", "roots"):
        by_scene, by_bddl = (
            states.distance(n, variant) for n in ("washer_ynwamu_0", "washer.n.03_1")
        )
        assert by_scene == by_bddl
    with pytest.raises(EnvError, match=r"the scene has no door_bexenl_0, neither for BDDL nor of"):
        states.named("door_bexenl_0")
