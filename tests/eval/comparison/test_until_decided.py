"""Stopping when it is decided: which instances, in which order, on what evidence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from run_folders import TASK, finished_run, settings

from b1k_envs.errors import UsageError
from b1k_eval.comparison.until_decided import UntilDecided, drawn_instances
from b1k_eval.records.episode import EpisodeKey


def mine(*outcomes: str, order: tuple[int, ...] = tuple(range(10))) -> dict[EpisodeKey, dict]:
    return {
        EpisodeKey(TASK, number, 0): {"outcome": outcome}
        for number, outcome in zip(order, outcomes, strict=False)
    }


@pytest.fixture
def all_failed(tmp_path: Path) -> Path:
    return finished_run(tmp_path / "theirs", dict.fromkeys(range(10), "failure"))


def test_seven_wins_in_a_row_decide_and_six_do_not(all_failed):
    until = UntilDecided(settings(against=str(all_failed)))
    six, seven = (until.standing(mine(*["success"] * n)) for n in (6, 7))
    assert not six.decided
    assert (seven.decided, seven.better, seven.instances) == (True, "this", 7)
    assert seven.words().startswith("decided: better than theirs, e-value 26.")


def test_losing_is_decided_too(tmp_path):
    folder = finished_run(tmp_path / "theirs", dict.fromkeys(range(10), "success"))
    standing = UntilDecided(settings(against=str(folder))).standing(mine(*["failure"] * 7))
    assert (standing.decided, standing.better) == (True, "other")


def test_ties_decide_nothing(all_failed):
    standing = UntilDecided(settings(against=str(all_failed))).standing(mine(*["failure"] * 10))
    assert (standing.decided, standing.instances, standing.e_value) == (False, 10, pytest.approx(1))


def test_an_instance_counts_only_after_all_that_come_before_it(all_failed):
    """Of several workers the quick episodes end first, and successes are quick."""
    episodes = mine(*["success"] * 10)
    del episodes[EpisodeKey(TASK, 2, 0)]
    assert UntilDecided(settings(against=str(all_failed))).standing(episodes).instances == 2


def test_an_error_is_passed_over(all_failed):
    outcomes = ["success", "error", *["success"] * 5]
    standing = UntilDecided(settings(against=str(all_failed))).standing(mine(*outcomes))
    assert standing.instances == 6


def test_decided_once_it_stays_so(all_failed):
    outcomes = [*["success"] * 7, "failure", "failure"]
    standing = UntilDecided(settings(against=str(all_failed))).standing(mine(*outcomes))
    assert standing.decided
    assert standing.instances == 7


def test_several_rollouts_count_as_one_instance(tmp_path):
    folder = finished_run(tmp_path / "theirs", dict.fromkeys(range(3), ["failure"] * 2))
    asked = settings(against=str(folder), instances=(0, 1, 2), rollouts=2)
    episodes = {
        EpisodeKey(TASK, 0, 0): {"outcome": "success"},
        EpisodeKey(TASK, 0, 1): {"outcome": "failure"},
        EpisodeKey(TASK, 1, 0): {"outcome": "success"},
    }
    assert UntilDecided(asked).standing(episodes).instances == 1


def test_the_order_is_random_follows_the_seed_and_is_cut_at_the_limit(all_failed):
    first = drawn_instances(str(all_failed), None, None, seed=0)
    assert sorted(first) == list(range(10))
    assert first == drawn_instances(str(all_failed), None, None, seed=0)
    assert len({drawn_instances(str(all_failed), None, None, seed=s) for s in range(9)}) > 5
    assert drawn_instances(str(all_failed), None, 3, seed=0) == first[:3]
    assert set(drawn_instances(str(all_failed), (4, 7), None, seed=0)) == {4, 7}


def test_another_experiment_is_refused(tmp_path):
    folder = finished_run(tmp_path / "theirs", {0: "failure"}, protocol="2025")
    with pytest.raises(UsageError, match="protocol: 2026 against 2025"):
        UntilDecided(settings(against=str(folder), instances=(0,)))


def test_an_instance_that_the_other_run_lacks_is_named(tmp_path):
    folder = finished_run(tmp_path / "theirs", {0: "failure", 1: "error"})
    with pytest.raises(UsageError, match="no scored episode of instance 1"):
        UntilDecided(settings(against=str(folder), instances=(0, 1)))


def test_a_run_without_any_score_is_refused(tmp_path):
    folder = finished_run(tmp_path / "theirs", {0: "error"})
    with pytest.raises(UsageError, match="no scored episode to compare with"):
        drawn_instances(str(folder), None, None, seed=0)


@pytest.mark.slow
def test_the_run_stops_when_decided_and_a_resume_finds_nothing_to_do(tmp_path):
    """The whole way through the command line, in the twin, against a run that always succeeded."""
    from typer.testing import CliRunner

    from b1k_eval.cli.main import app

    def run(*words: object) -> dict:
        result = CliRunner().invoke(app, ["run", *map(str, words), "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    theirs = finished_run(tmp_path / "theirs", dict.fromkeys(range(10), "success"), max_steps=5)
    document = run(
        "--task", 31, "--policy", "hold", "--max-steps", 5, "--no-video", "--until-decided",
        "--against", theirs, "--out", tmp_path / "run",
    )  # fmt: skip
    assert document["decision"]["better"] == "other"
    assert document["counts"] == {"success": 0, "failure": 7, "error": 0}
    done = [episode["instance"] for episode in document["episodes"]]
    assert done == list(drawn_instances(str(theirs), None, None, seed=0))[:7]
    again = run("--resume", "--out", tmp_path / "run")
    assert [episode["instance"] for episode in again["episodes"]] == done
    assert np.isclose(again["decision"]["e_value"], document["decision"]["e_value"])
