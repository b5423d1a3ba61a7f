"""A policy with a known score: reading it, and the rung."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from b1k_envs.errors import UsageError
from b1k_eval.cli.running.qualify import _published, _scores
from b1k_eval.qualify.published import as_published, not_to_be_held, parse_published, published_rung

TASK = "clean_boxing_gloves"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12/20", (12, 20)),
        ("0.6@20", (12, 20)),
        ("60%@20", (12, 20)),
        ("33%@3", (1, 3)),
        ("0/5", (0, 5)),
    ],
)
def test_scores_are_read_in_three_forms(text, expected):
    score = parse_published(text, TASK, "mujoco")
    assert (score.successes, score.episodes) == expected
    assert (score.tasks, score.metric, score.sim) == ((TASK,), "success", "mujoco")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.6@", "give SUCCESSES/TRIALS such as 12/20, or RATE@TRIALS"),
        ("twelve/20", "give SUCCESSES/TRIALS"),
        ("21/20", "21 of 20 is not a count"),
        ("0/0", "has no trial"),
        ("0.55@10", "is 5.5 successes, no whole number"),
    ],
)
def test_what_is_no_score_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        parse_published(text, TASK, "mujoco")


def settings(task=TASK, sim="omnigibson"):
    return SimpleNamespace(task=task, sim=sim)


def test_gr00ts_server_has_gr00ts_scores_unless_others_are_named():
    assert _published(None, {"policy": "gr00t://127.0.0.1:5555"}, None) == "gr00t-n1.6"
    assert _published("pi0.5", {"policy": "gr00t://127.0.0.1:5555"}, None) == "pi0.5"
    assert _published(None, {}, None) is None
    (score,) = _scores("gr00t-n1.6", settings(), None)
    assert (score.value, score.metric, score.episodes) == (0.2727, "task_progress", 10)
    assert _scores(None, settings(), None) == ()
    assert _scores("12/20", settings(), None)[0].successes == 12


def test_a_name_without_a_score_of_the_task_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no score of 'groot' is known"):
        _scores("groot", settings(), None)
    with pytest.raises(UsageError, match=r"of gr00t-n1\.6 is of make_pasta"):
        _scores("gr00t-n1.6", settings("make_pasta"), None)
    with pytest.raises(UsageError, match="--published-file goes with --published NAME"):
        _published(None, {}, tmp_path)


def test_the_twin_is_never_held_against_the_benchmark():
    scores = _scores("gr00t-n1.6", settings(sim="mujoco"), None)
    rung = not_to_be_held(scores, "mujoco")
    assert (rung.number, rung.verdict) == (5, "not done")
    assert rung.finding == (
        "a score of the twin is never held against the benchmark's: gr00t-n1.6's published scores "
        "are of omnigibson"
    )
    assert "--sim omnigibson" in rung.advice
    assert not_to_be_held(scores, "omnigibson") is None
    assert not_to_be_held(_scores("12/20", settings(sim="mujoco"), None), "mujoco") is None


def test_a_score_in_doubt_is_not_worth_ten_episodes():
    dogs = _scores("gr00t-n1.6", settings("cook_hot_dogs"), None)
    rung = not_to_be_held(dogs, "omnigibson")
    assert rung.verdict == "not done"
    assert "on cook_hot_dogs is in doubt: as printed it fits no number of checks" in rung.finding


def test_the_run_follows_what_is_stated_of_the_published_one():
    scores = _scores("gr00t-n1.6", settings(), None)
    year = SimpleNamespace(sim="omnigibson", protocol="2025")
    assert as_published(scores, year) == {"split": "hidden-test", "heavy_base": True}
    year.protocol = "2026"  # whose hidden states are others, and whose base weighs 250 kg anyway
    assert as_published(scores, year) == {}
    assert as_published([parse_published("1/2", TASK, "omnigibson")], year) == {}


def document(*found):
    """Of one comparison each: compatible or not, and what is known to differ."""
    return {
        "comparisons": [
            {
                "metric_name": "task progress", "compatible": compatible, "verdict": verdict,
                "differences": {"blocking": [], "notable": [{"text": "split: a against b"}]},
                "score": {"note": "second hand"},
            }
            for compatible, verdict in found
        ]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("found", "verdict", "begins"),
    [
        ([(True, "compatible: so")], "pass", "gr00t: compatible: so"),
        (
            [(True, "compatible: so"), (False, "not compatible: so")],
            "fail",
            "gr00t: compatible: so",
        ),
        ([(None, "cannot tell: why")], "not done", "gr00t: cannot tell: why"),
        ([(None, "not compared: why"), (True, "compatible: so")], "pass", "gr00t: not compared"),
    ],
)
def test_the_rung_follows_the_verdicts(found, verdict, begins):
    counts = {"success": 0, "failure": 10, "error": 1}
    rung = published_rung(document(*found), counts, "gr00t", "results/r")
    assert rung.verdict == verdict
    assert rung.finding.startswith(begins)
    assert rung.remarks[0] == "1 episode ended in an error"
    assert {"task progress: split: a against b", "task progress, published: second hand"} < {
        *rung.remarks
    }
    assert (rung.advice is None) == (verdict == "pass")
    assert rung.details["run"] == "results/r"


def test_a_run_of_errors_is_no_score():
    counts = {"success": 0, "failure": 0, "error": 3}
    rung = published_rung(document((None, "cannot tell: why")), counts, "v17", "results/r")
    assert (rung.verdict, "see the errors in results/r" in rung.finding) == ("not done", True)
