"""The living room of task 0: it starts as its numbers say, and a finger on the button counts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from twin_bench import FORWARD, Bench

from b1k_envs.base import Split
from b1k_envs.errors import EnvError
from b1k_envs.mujoco_twin.env import TwinEnv
from b1k_envs.tasks.table import get_task

RADIO, TABLE, AGENT = "radio_receiver.n.01_1", "table.n.02_1", "agent.n.01_1"
BUTTON = np.array([-0.055 - 0.010, -0.090, 0.030])  # middle of its face, in the radio's frame [m]


def make(split: Split) -> TwinEnv:
    return TwinEnv(get_task(0), protocol="2026", split=split, max_steps=500)


@pytest.fixture(scope="module")
def env() -> Iterator[TwinEnv]:
    made = make("public-test")
    yield made
    made.close()


@pytest.fixture
def bench(env: TwinEnv) -> Iterator[Bench]:
    made = Bench(env)
    yield made
    made.restore()


def test_the_goal_is_the_one_of_the_bddl_problem(env: TwinEnv):
    env.reset(0, 0, 0)
    assert set(env._states.objects()) == {RADIO, TABLE, AGENT, "floor.n.01_1"}
    assert dict(env.goal().predicates) == {f"toggled_on {RADIO}": False}
    assert list(env.subgoals()) == ["near_table", "near_radio", "radio_turned_on"]


@pytest.mark.parametrize("split", ["public-test", "hidden-test", "train"])
def test_every_instance_starts_with_the_radio_on_the_table_and_off(split: Split):
    env = make(split)
    try:
        bench = Bench(env)
        for index in range(env._scene.counts[split]):
            env.reset(index, 0, 0)
            assert bench.touching("radio") == {"table"}
            assert env._states.holds("ontop", RADIO, TABLE)
            assert not any(env.subgoals().values())
    finally:
        env.close()


def test_there_are_100_instances_to_train_on_and_20_of_each_test_set(env: TwinEnv):
    assert dict(env._scene.counts) == {"train": 100, "public-test": 20, "hidden-test": 20}


def touch(bench: Bench, aside: float, deep: float = 0.001) -> None:
    """Put the radio to the left fingertips, its button off them by `aside` along its width [m]."""
    bench.weightless()
    bench.pose_robot((0.0, 0.0, 0.0), left=FORWARD["left"])
    bench.fingers("left", 0.0)
    bench.settle()
    centre, turn = bench.hand("left")
    tip = centre - turn[:, 2] * 0.023
    forward = np.array([-turn[0, 2], -turn[1, 2], 0.0])
    forward /= np.linalg.norm(forward)
    rotation = np.column_stack([forward, np.cross((0.0, 0.0, 1.0), forward), (0.0, 0.0, 1.0)])
    face = BUTTON + (0.0, aside, 0.0)
    bench.put_glove("radio", tip - rotation @ face - deep * forward, rotation)


def updates(bench: Bench, count: int) -> bool:
    for _ in range(count):
        bench.states.update()
    return bench.states.holds("toggled_on", RADIO)


def test_five_steps_of_a_finger_on_the_button_turn_it_on(bench: Bench):
    touch(bench, 0.0)
    assert bench.fingers_on("radio_button")
    assert not updates(bench, 4)
    assert updates(bench, 1)
    assert updates(bench, 20), "holding on does nothing more"
    assert bench.states.look() == {"radio playing"}


def test_a_finger_on_the_cabinet_beside_the_button_does_nothing(bench: Bench):
    touch(bench, 0.06, deep=0.012)
    assert bench.fingers_on("radio")
    assert not updates(bench, 30)


def test_only_the_radio_can_be_toggled(bench: Bench):
    with pytest.raises(EnvError, match=rf"^{TABLE} cannot be toggled; {RADIO} can$"):
        bench.states.holds("toggled_on", TABLE)
    with pytest.raises(EnvError, match="the twin has no state 'open'; it has toggled_on, ontop"):
        bench.states.holds("open", RADIO)
