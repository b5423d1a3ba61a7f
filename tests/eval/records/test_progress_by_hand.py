"""Task progress of three short episodes of each twin task, against the truth worked out on paper.

The three: nothing is done; one thing is lifted and dropped; the expert's whole episode. What is
expected is written down here, or computed from positions and contacts, not from the table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from twin_bench import FORWARD, Bench, action, make_twin

from b1k_envs.base import ProgressVariant
from b1k_envs.mujoco_twin.env import TwinEnv
from b1k_envs.tasks.table import Task, get_task
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.loop.events import EpisodeStart, StepEvent
from b1k_eval.loop.runner import run_episode
from b1k_eval.records.scoring import ScoreKeeper
from b1k_eval.run.launch import plan_episodes
from b1k_policies.expert import ExpertPolicy

RADIO = get_task("turning_on_radio")
GLOVE_CHECKS = [
    "robot_near_washer",
    "robot_near_countertop",
    "washer_opened",
    "glove_1_picked_up",
    "glove_2_picked_up",
    "glove_1_in_washer",
    "glove_2_in_washer",
    "washer_closed",
    "washer_turned_on",
    "glove_1_clean",
    "glove_2_clean",
]


class Told:
    """An episode's record keeper, told of steps that a test makes itself."""

    def __init__(self, env: TwinEnv, variant: ProgressVariant) -> None:
        self.env, self.variant, self.keeper = env, variant, ScoreKeeper()
        (episode,) = plan_episodes(get_task(env.info.task), [0], 1, 0, "2026")
        checks = env.checks(variant).truths
        self.keeper.on_start(
            EpisodeStart(
                episode=episode,
                goal=env.goal(),
                subgoals=env.subgoals(),
                checks=checks,
                variant=variant,
            )
        )

    def step(self, row: Any) -> None:
        result = self.env.step(row)
        event = StepEvent(
            result=result,
            action=row,
            command=row,
            goal=self.env.goal(),
            subgoals=self.env.subgoals(),
            checks=self.env.checks(self.variant).truths,
            inference=False,
            not_finite=None,
            skill=None,
            progress=None,
            latency_s=None,
        )
        self.keeper.on_step(event)

    def steps(self, row: Any, count: int) -> None:
        for _ in range(count):
            self.step(row)

    @property
    def found(self) -> dict[str, Any]:
        found = self.keeper.task_progress()
        assert found is not None
        return found

    @property
    def reached(self) -> dict[str, int]:
        return {name: step for name, step in self.found["reached"].items() if step is not None}


def make(task: Task) -> TwinEnv:
    return TwinEnv(task, protocol="2026", split="public-test", max_steps=2500)


@pytest.fixture(scope="module")
def gloves() -> Iterator[TwinEnv]:
    env = make_twin("2026", max_steps=2500)
    yield env
    env.close()


@pytest.fixture(scope="module")
def radio() -> Iterator[TwinEnv]:
    env = make(RADIO)
    yield env
    env.close()


VARIANTS = pytest.mark.parametrize("variant", ["links-fraction", "roots-symbol"])


# --- task 31 --------------------------------------------------------------------------------------


@VARIANTS
def test_doing_nothing_scores_the_closed_washer_and_no_more(gloves, variant):
    """The washer is shut at the start, which is 1 of 11 checks: 9.1 %."""
    gloves.reset(0, 0, 0)
    told = Told(gloves, variant)
    told.steps(action(), 60)
    assert [*told.found["reached"]] == GLOVE_CHECKS
    assert told.reached == {"washer_closed": 1}
    assert told.found["score"] == 1 / 11
    assert told.found["variant"] == variant
    assert f"{told.found['score']:.1%}" == "9.1%"


@VARIANTS
def test_one_glove_lifted_and_dropped_is_picked_up_and_nothing_else(gloves, variant):
    """Robot at the origin, 1.6 m from washer and 2 m from the counter, all hands 0.6 m away.

    Two steps of nothing; then the left hand has glove 1 and lifts it; it lets go, and the glove
    falls to the floor. So: washer closed at step 1, glove 1 off the countertop from step 3 on.
    """
    bench = Bench(gloves)
    told = Told(gloves, variant)
    bench.pose_robot((0.0, 0.0, 0.0), left=FORWARD["left"], right=FORWARD["right"])
    hold = {"left": FORWARD["left"], "right": FORWARD["right"]}
    told.steps(action(**hold), 2)
    assert told.reached == {"washer_closed": 1}
    bench.fingers("left", 0.05)
    bench.glove_into_hand("boxing_glove_1")
    told.steps(action(**hold, grip_left=-1.0), 40)
    assert bench.held("left") == "boxing_glove_1"
    height = bench.body("boxing_glove_1")[2]
    up = np.array([0.8, -1.0, -0.25, 0.0])  # the torso lifts the hands
    told.steps(action(**hold, grip_left=-1.0, trunk=up), 40)
    assert bench.body("boxing_glove_1")[2] > height + 0.05
    told.steps(action(**hold, grip_left=1.0, trunk=up), 60)
    assert bench.held("left") is None
    assert bench.body("boxing_glove_1")[2] < 0.2
    assert told.reached == {"washer_closed": 1, "glove_1_picked_up": 3}
    assert told.found["score"] == 2 / 11


def apart(one: Iterable[float], two: Iterable[float]) -> float:
    (ax, ay, *_), (bx, by, *_) = one, two
    return math.hypot(ax - bx, ay - by)


def by_eye(bench: Bench, variant: ProgressVariant) -> dict[str, bool]:
    """What is to be seen in the simulation, of the checks that positions and contacts decide."""
    truth = bench.env.privileged_state()
    hands = [bench.hand(arm)[0] for arm in ("left", "right")]
    base = bench.body("base_link")
    links = variant == "links-fraction"
    washer = [bench.body(name) for name in ("washer", "washer_door", "washer_button")]
    ours = [base, *hands] if links else [base]
    return {
        "robot_near_washer": any(
            apart(a, b) < 0.5 for a in ours for b in (washer if links else washer[:1])
        ),
        "robot_near_countertop": any(apart(a, bench.body("countertop")) < 0.5 for a in ours),
        "washer_opened": truth.door_angle >= 1.1 if links else truth.door_angle > 0.11,
        "glove_1_picked_up": "countertop" not in bench.touching("boxing_glove_1"),
        "glove_2_picked_up": "countertop" not in bench.touching("boxing_glove_2"),
        "glove_1_in_washer": truth.in_washer["boxing_glove_1"],
        "glove_2_in_washer": truth.in_washer["boxing_glove_2"],
        "washer_closed": truth.door_angle <= 0.11,
        "washer_turned_on": truth.washer_on,
        "glove_1_clean": not truth.dusty["boxing_glove_1"],
        "glove_2_clean": not truth.dusty["boxing_glove_2"],
    }


@pytest.mark.slow
@VARIANTS
def test_the_experts_episode_reaches_each_check_when_it_is_to_be_seen(
    gloves, variant, expert_episode
):
    episode = expert_episode("2026", 0)
    bench = Bench(gloves)
    told = Told(gloves, variant)
    seen: dict[str, int] = {}
    for number, row in enumerate(episode.actions, start=1):
        told.step(row)
        for name, holds in by_eye(bench, variant).items():
            if holds:
                seen.setdefault(name, number)
    reached = told.reached
    last = episode.steps
    # In the order in which the task is done; the press cleans both gloves in the last step.
    assert reached["washer_closed"] == 1
    # The base stays farther than 0.5 m from the middles of washer and counter.
    near = ["robot_near_washer", "robot_near_countertop"] if variant == "links-fraction" else []
    order = [*near[:1], "washer_opened", *near[1:], "glove_1_picked_up", "glove_1_in_washer"]
    order += ["glove_2_picked_up", "glove_2_in_washer", "washer_turned_on"]
    steps = [reached[name] for name in order]
    assert steps == sorted(set(steps))
    assert reached["washer_turned_on"] == reached["glove_1_clean"] == last
    assert reached["glove_2_clean"] == last
    assert told.found["score"] == (9 + len(near)) / 11
    picked = ("glove_1_picked_up", "glove_2_picked_up")
    for name in picked:  # on its edge a glove touches the counter, and stands on it no more
        assert reached[name] <= seen[name] <= reached[name] + 15
    assert {n: s for n, s in reached.items() if n not in picked} == {
        n: s for n, s in seen.items() if n not in picked
    }


# --- task 0 ---------------------------------------------------------------------------------------


@VARIANTS
def test_doing_nothing_with_the_radio_scores_nothing(radio, variant):
    radio.reset(0, 0, 0)
    told = Told(radio, variant)
    told.steps(action(), 60)
    assert [*told.found["reached"]] == ["robot_near_radio", "radio_picked_up", "radio_on"]
    assert (told.reached, told.found["score"]) == ({}, 0.0)


@VARIANTS
def test_a_radio_that_falls_off_the_table_is_picked_up(radio, variant):
    """Lifted aside at step 6, it falls to the floor, where it is "not on top of the table"."""
    bench = Bench(radio)
    told = Told(radio, variant)
    told.steps(action(), 5)
    assert told.reached == {}
    address = bench.model.joint("radio_joint").qposadr[0]
    bench.data.qpos[address : address + 3] += (0.0, 1.2, 0.3)
    bench.settle()
    told.steps(action(), 60)
    assert bench.body("radio")[2] < 0.3
    assert told.reached == {"radio_picked_up": 6}
    assert told.found["score"] == 1 / 3


@pytest.mark.slow
@VARIANTS
def test_the_expert_turns_the_radio_on_where_it_stands(radio, variant):
    """Near it and on, never picked up: 2 of 3, or 1 where only the base's origin counts."""
    (episode,) = plan_episodes(RADIO, [0], 1, 0, "2026")
    keeper, policy = ScoreKeeper(), ExpertPolicy()
    bench_near: list[bool] = []

    class Watching(ScoreKeeper):
        def on_step(self, event: StepEvent) -> None:
            agent = event.result.agent
            links = [radio._data.body(name).xpos for name in ("radio", "radio_button")]
            ours = [agent.base, agent.left_eef, agent.right_eef]
            if variant == "roots-symbol":
                ours, links = ours[:1], links[:1]
            bench_near.append(any(apart(a, b) < 0.5 for a in ours for b in links))

    result = run_episode(
        radio,
        policy,
        episode,
        RecedingHorizon(10, policy.chunk_length),
        subscribers=[keeper, Watching()],
        variant=variant,
    )
    assert result.outcome == "success"
    found = keeper.task_progress()
    assert found is not None
    near = bench_near.index(True) + 1 if True in bench_near else None
    assert found["reached"] == {
        "robot_near_radio": near,
        "radio_picked_up": None,
        "radio_on": result.steps,
    }
    assert found["score"] == (1 + (near is not None)) / 3
    if variant == "links-fraction":
        assert found["score"] == 2 / 3
