"""Task progress from the loop to the trace, result.json, its line and back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from doubles import DrivePolicy, RaisingPolicy, ToyEnv

from b1k_envs.base import Checks
from b1k_envs.tasks.table import get_task, human_stats
from b1k_eval.files import to_json
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.loop.runner import run_episode
from b1k_eval.records.episode import DamagedRecordError, EpisodeRecord
from b1k_eval.records.scoring import ScoreKeeper, episode_record
from b1k_eval.records.trace import Trace
from b1k_eval.records.trace_reading import EpisodeTrace
from b1k_eval.run.session import summarise

HUMAN = human_stats(get_task(31))


class CheckedEnv(ToyEnv):
    """`shut` holds at the start and the first three steps, `passing` in steps 2 to 4, `far` never.

    `early` holds at the start only, which no step sees.
    """

    asked: list[str]

    def checks(self, variant: str) -> Checks:
        self.asked = [*getattr(self, "asked", []), variant]
        step = self.step_count
        truths = {"shut": step <= 3, "passing": 2 <= step <= 4, "far": False, "early": step == 0}
        return Checks(truths)


def played(env: ToyEnv, policy: Any, episode: Any, **options: Any) -> tuple[EpisodeRecord, Trace]:
    keeper, trace = ScoreKeeper(), Trace()
    result = run_episode(
        env, policy, episode, RecedingHorizon(4, 8), subscribers=[keeper, trace], **options
    )
    return episode_record(result, keeper, HUMAN), trace


def test_a_check_is_reached_at_the_first_step_after_which_it_held(episode, tmp_path):
    env = CheckedEnv()
    record, trace = played(env, DrivePolicy(vx=1.0), episode)
    assert record.outcome == "success"
    reached = {"shut": 1, "passing": 2, "far": None, "early": None}
    assert record.task_progress == {
        "variant": "links-fraction",
        "score": 0.5,
        "reached": reached,
    }
    trace.write(tmp_path / "trace.parquet")
    read = EpisodeTrace(tmp_path / "trace.parquet", steps=record.steps, subgoals=record.subgoals)
    held = {name: values.nonzero()[0] + 1 for name, values in read.checks().items()}
    assert {name: steps.tolist() for name, steps in held.items()} == {
        "shut": [1, 2, 3],
        "passing": [2, 3, 4],
        "far": [],
        "early": [],
    }


def test_the_variant_is_asked_for_and_recorded(episode):
    env = CheckedEnv()
    record, _ = played(env, DrivePolicy(vx=1.0), episode, variant="roots-symbol")
    assert set(env.asked) == {"roots-symbol"}
    assert len(env.asked) == record.steps + 1
    assert (record.task_progress or {})["variant"] == "roots-symbol"


def test_result_and_line_have_it_and_give_it_back(episode):
    record, _ = played(CheckedEnv(), DrivePolicy(vx=1.0), episode)
    written = json.loads(to_json(record.to_json()))
    assert EpisodeRecord.from_json(written).progress == 0.5
    assert record.line()["task_progress"] == written["task_progress"]
    assert EpisodeRecord.from_json(record.line(), line=True).progress == 0.5


def test_records_of_older_versions_have_none(episode):
    record, _ = played(CheckedEnv(), DrivePolicy(vx=1.0), episode)
    old, line = record.to_json(), record.line()
    del old["task_progress"], line["task_progress"]
    assert EpisodeRecord.from_json(old).task_progress is None
    assert EpisodeRecord.from_json(line, line=True).progress is None


@pytest.mark.parametrize(
    "change",
    [
        {"score": 0.75},
        {"reached": {}},
        {"reached": {"shut": "1"}},
        {"variant": None},
        {"reached": ["shut"]},
    ],
)
def test_a_score_that_is_not_that_of_what_was_reached_is_damage(episode, change):
    record, _ = played(CheckedEnv(), DrivePolicy(vx=1.0), episode)
    written = record.to_json()
    written["task_progress"] = {**written["task_progress"], **change}
    with pytest.raises(DamagedRecordError, match="'task_progress' is"):
        EpisodeRecord.from_json(written)


def test_a_policys_fault_keeps_what_was_reached_and_an_error_has_no_progress(episode):
    class Breaking(CheckedEnv):
        def step(self, action):
            if self.step_count == 5:
                raise RuntimeError("the simulator fell over")
            return super().step(action)

    fault, _ = played(CheckedEnv(), RaisingPolicy(), episode)
    assert (fault.outcome, fault.q_score) == ("failure", 0.0)
    assert fault.task_progress is not None
    broken, _ = played(Breaking(), DrivePolicy(vx=1.0), episode)
    assert (broken.outcome, broken.task_progress) == ("error", None)


def test_a_world_that_counts_no_checks_gives_null_and_no_column(toy_env, episode, tmp_path):
    record, trace = played(toy_env, DrivePolicy(vx=1.0), episode)
    assert record.task_progress is None
    assert record.remarks == ()
    trace.write(tmp_path / "trace.parquet")
    read = EpisodeTrace(tmp_path / "trace.parquet", steps=record.steps, subgoals=record.subgoals)
    assert read.checks() == {}


def test_what_cannot_be_told_is_a_remark_and_is_asked_for_once(episode):
    class Untold(CheckedEnv):
        def checks(self, variant: str) -> Checks:
            super().checks(variant)
            return Checks({}, "task progress is not counted: far cannot be told here")

    env = Untold()
    record, _ = played(env, DrivePolicy(vx=1.0), episode)
    assert (record.outcome, record.task_progress) == ("success", None)
    assert record.remarks == ("task progress is not counted: far cannot be told here",)
    assert len(env.asked) == 1


def test_checks_that_vanish_in_the_middle_make_an_error_and_no_wrong_score(episode):
    class Vanishing(CheckedEnv):
        def checks(self, variant: str) -> Checks:
            told = super().checks(variant)
            return told if self.step_count < 6 else Checks({}, "no more")

    record, _ = played(Vanishing(), DrivePolicy(vx=1.0), episode)
    assert record.outcome == "error"
    assert "checks changed within the episode" in (record.message or "")


def test_the_runs_mean_is_over_scored_episodes_that_have_it(episode):
    record, _ = played(CheckedEnv(), DrivePolicy(vx=1.0), episode)

    def lines(records: Iterable[EpisodeRecord]) -> dict[Any, dict[str, Any]]:
        return {number: each.line() for number, each in enumerate(records)}

    whole = replace(
        record, task_progress={"variant": "links-fraction", "score": 1.0, "reached": {"a": 1}}
    )
    without = replace(record, task_progress=None)
    assert summarise(lines([record, whole, without]))["mean_task_progress"] == 0.75
    assert summarise(lines([without]))["mean_task_progress"] is None
    old = lines([without])
    del old[0]["task_progress"]
    assert summarise(old)["mean_task_progress"] is None
