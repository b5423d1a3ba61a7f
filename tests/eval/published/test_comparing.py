"""A run held against published scores: verdicts, differences of protocol, what is refused."""

from __future__ import annotations

import json

import pytest
from run_folders import TASK, finished_run, run_of_tasks
from typer.testing import CliRunner

from b1k_envs.errors import UsageError
from b1k_envs.tasks.task_progress import checks_of
from b1k_eval.cli.main import app
from b1k_eval.published.comparing import compare_with_published
from b1k_eval.published.table import scores_of, shipped_scores
from b1k_eval.records.loading import read_tasks

CHECKS = [check.name for check in checks_of(TASK)]
HEAD = "task,policy,metric,value,sim,episodes,source\n"


@pytest.fixture
def cli():
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, [str(each) for each in arguments])


def official(folder, reached=(), **changes):
    """A run in OmniGibson 2025 whose episodes reached so many checks, the rest without any."""
    settings = {"sim": "omnigibson", "protocol": "2025", "max_steps": 16470, "heavy_base": True}
    finished_run(folder, dict.fromkeys(range(10), "failure"), **{**settings, **changes})
    for instance, count in enumerate(reached):
        file = folder / "episodes" / f"{TASK}-{instance}-0" / "result.json"
        result = json.loads(file.read_text())
        steps = {name: 1 if n < count else None for n, name in enumerate(CHECKS)}
        result["task_progress"] = {
            "variant": "links-fraction", "score": count / len(CHECKS), "reached": steps,
        }  # fmt: skip
        file.write_text(json.dumps(result))
    return folder


def against(folder, name="gr00t-n1.6", **how):
    return compare_with_published(read_tasks(folder), scores_of(shipped_scores(), name), **how)


def test_a_run_as_good_as_published_is_compatible(tmp_path):
    document = against(official(tmp_path / "r", [3, 4, 2, 3, 5, 1, 2, 6, 3, 2]))
    (found,) = document["comparisons"]
    assert (found["task"], found["metric"]) == (TASK, "task_progress")
    assert found["mean"] == pytest.approx(31 / 110)
    assert found["compatible"] is True
    assert found["verdict"].startswith(
        "compatible: task progress 28.2 % here (10 instances) against 27.3 % (10 episodes): +1 "
    )
    more = found["plan"]["more"]
    shown = f"; {more} more instances would show a difference of 25 points with 80% power"
    assert found["verdict"].endswith(shown)


def test_a_run_far_from_it_is_not(tmp_path):
    document = against(official(tmp_path / "r", [9, 10, 8, 9, 10, 9, 8, 9, 10, 9]))
    (found,) = document["comparisons"]
    assert found["compatible"] is False
    assert found["verdict"].startswith("not compatible: task progress 82.7 % here")


def test_what_differs_in_protocol_is_said_from_the_records(tmp_path):
    folder = official(tmp_path / "r", [3] * 10, heavy_base=False, max_steps=900)
    (found,) = against(folder)["comparisons"]
    texts = [entry["text"] for entry in found["differences"]["notable"]]
    assert texts == [
        "split: public-test against hidden-test",
        "time limit in steps: 900 against 16470",
        "base: of the robot's own mass against 250 kg",
        "pictures rendered: 720 px and 480 px against 256 px",
        "evaluator: b1k-eval 0 with simulator 1 against Isaac-GR00T gr00t/eval on BEHAVIOR-1K "
        "feat/task-progress",
    ]
    assert found["not_stated"] == ["variant of task progress"]
    assert found["differences"]["blocking"] == []
    # With the published protocol but for what the harness is, nothing else differs.
    same = official(tmp_path / "s", [3] * 10, split="hidden-test")
    (found,) = against(same)["comparisons"]
    names = [entry["name"] for entry in found["differences"]["notable"]]
    assert names == ["pictures rendered", "evaluator"]
    disturbed = official(tmp_path / "d", [3] * 10, split="hidden-test", action_noise="0.03")
    (found,) = against(disturbed)["comparisons"]
    assert "action noise" in [entry["name"] for entry in found["differences"]["notable"]]


def test_a_stated_variant_of_the_metric_is_held_against_the_runs(tmp_path, cli):
    folder = official(tmp_path / "r", [3] * 10)
    rows = tmp_path / "ours.csv"
    rows.write_text(
        HEAD.replace("source", "variant,source")
        + "31,ours,task_progress,27.3%,omnigibson,10,roots-symbol,me\n"
    )
    done = cli("compare", folder, "published:ours", "--published-file", rows)
    assert done.exit_code == 0, done.output
    assert "variant of task progress: links-fraction against roots-symbol" in done.stdout


def test_a_run_without_the_metric_says_so_and_one_with_part_of_it_counts_that(tmp_path):
    (found,) = against(official(tmp_path / "r"))["comparisons"]
    assert found["verdict"].startswith("cannot tell: this run has no task progress: it was made")
    assert (found["compatible"], found["without_metric"]) == (None, 10)
    (found,) = against(official(tmp_path / "s", [3, 4, 2, 3]))["comparisons"]
    assert (found["instances"], found["without_metric"]) == (4, 6)
    assert "; 6 scored episodes have no task progress;" in found["verdict"]


def test_one_instance_has_no_spread(tmp_path):
    (found,) = against(official(tmp_path / "r", [3]))["comparisons"]
    assert (found["mean"], found["compatible"]) == (pytest.approx(3 / 11), None)
    nothing = finished_run(tmp_path / "s", {0: "error"}, sim="omnigibson", protocol="2025")
    for each in against(nothing, "rlc-2025")["comparisons"]:
        assert each["verdict"].startswith("cannot tell")


def test_several_scores_are_judged_together(tmp_path):
    outcomes = dict.fromkeys(range(10), "success")
    folder = finished_run(
        tmp_path / "r", outcomes, sim="omnigibson", protocol="2025", max_steps=16470
    )
    success, q_score = against(folder, "rlc-2025")["comparisons"]
    assert (success["metric"], q_score["metric"]) == ("success", "q_score")
    # Holm: the smaller p-value counts twice.
    small, large = sorted([success, q_score], key=lambda each: each["p_value"])
    assert small["p_adjusted"] == pytest.approx(min(1, 2 * small["p_value"]))
    assert large["p_adjusted"] == max(small["p_adjusted"], large["p_value"])
    assert success["compatible"] is False
    assert (
        "success rate 100.0 % here (10 instances) against 20.0 % (10 episodes)"
        in success["verdict"]
    )


def test_several_rollouts_of_an_instance_are_one_result(tmp_path):
    outcomes = {n: ["success", "failure", "failure"] for n in range(10)}
    folder = finished_run(tmp_path / "r", outcomes, sim="omnigibson", protocol="2025")
    success, _ = against(folder, "rlc-2025")["comparisons"]
    assert (success["episodes"], success["instances"]) == (30, 10)
    assert success["test"] == "Student's t"
    assert success["mean"] == pytest.approx(1 / 3)


def test_a_score_in_doubt_is_not_compared_unless_it_is_asked_for(tmp_path):
    one = finished_run(
        tmp_path / "a", dict.fromkeys(range(4), "failure"), sim="omnigibson", protocol="2025"
    )
    two = finished_run(
        tmp_path / "b", dict.fromkeys(range(4), "failure"), sim="omnigibson", protocol="2025"
    )
    folder = run_of_tasks(tmp_path / "r", {"turning_on_radio": one, "cook_hot_dogs": two})
    radio, dogs = against(folder)["comparisons"]
    assert radio["task"] == "turning_on_radio"
    assert dogs["verdict"].startswith(
        "not compared: the published task progress is in doubt: as printed it fits no number"
    )
    _, dogs = against(folder, mix=True)["comparisons"]
    assert dogs["verdict"].startswith("cannot tell: this run has no task progress")


def test_a_mean_over_tasks_needs_all_of_them(tmp_path):
    folder = finished_run(
        tmp_path / "r", {0: "failure", 1: "failure"}, sim="omnigibson", protocol="2025"
    )
    with pytest.raises(UsageError, match="comet-2025 is of clean_boxing_gloves, but of 0-49"):
        against(folder, "comet-2025")


def test_a_mean_over_tasks_is_that_of_all_their_episodes(tmp_path, cli):
    outcomes = [dict.fromkeys(range(10), "success"), dict.fromkeys(range(10), "failure")]
    runs = [
        finished_run(tmp_path / str(n), each, sim="omnigibson", protocol="2025")
        for n, each in enumerate(outcomes)
    ]
    folder = run_of_tasks(tmp_path / "r", dict(zip([TASK, "turning_on_radio"], runs, strict=True)))
    rows = tmp_path / "ours.csv"
    rows.write_text(HEAD + '"0,31",ours,success,50%,omnigibson,20,me\n')
    done = cli("compare", folder, "published:ours", "--published-file", rows, "--json")
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)["comparisons"]
    assert (found["task"], found["mean"], found["episodes"]) == ("0,31", 0.5, 20)
    assert (found["p_value"], found["test"]) == (1.0, "Fisher exact")


def test_the_twin_is_not_held_against_the_benchmark_unless_it_is_asked_for(tmp_path, cli):
    folder = finished_run(tmp_path / "r", dict.fromkeys(range(10), "failure"))
    refused = cli("compare", folder, "published:rlc-2025")
    assert refused.exit_code == 2
    assert "not comparable (simulator: mujoco against omnigibson); pass --mix" in refused.stderr
    mixed = cli("compare", folder, "published:rlc-2025", "--mix")
    assert mixed.exit_code == 0, mixed.output
    assert "(different experiments: see what they differ in)" in mixed.stdout
    assert mixed.stdout.rstrip().endswith("MuJoCo twin: not a benchmark score.")


def test_a_twins_score_of_ones_own_is_held_against_the_twin(tmp_path, cli):
    folder = finished_run(tmp_path / "r", dict.fromkeys(range(10), "failure"))
    rows = tmp_path / "ours.csv"
    rows.write_text(HEAD + "31,ours,success,60%,mujoco,20,me\n")
    done = cli("compare", folder, "published:ours", "--published-file", rows)
    assert done.exit_code == 0, done.output
    assert "not compatible: success rate 0.0 % here" in done.stdout
    assert "source: me" in done.stdout


def test_what_the_verb_does_not_take_is_refused(tmp_path, cli):
    folder = str(official(tmp_path / "r", [3] * 10))
    for words, message in (
        ([folder, folder, "published:gr00t-n1.6"], "is compared with one run"),
        (["published:pi0.5", "published:gr00t-n1.6"], "is compared with one run"),
        ([folder, "published:nobody"], "no score of 'nobody' is known"),
        ([folder, "published:pi0.5", "--log-to", "tensorboard"], "--log-to logs comparisons of"),
        ([folder, folder, "--published-file", "x.csv"], "--published-file goes with published:"),
        ([folder, "published:pi0.5", "--level", "2"], "--level 2 must lie between 0 and 1"),
    ):
        refused = cli("compare", *words)
        assert refused.exit_code == 2, refused.output
        assert message in refused.stderr


def test_a_run_of_another_split_takes_the_score_of_its_own(tmp_path):
    document = against(official(tmp_path / "r"), "rlc-2025")
    assert {each["score"]["split"] for each in document["comparisons"]} == {"public-test"}


def test_many_tasks_have_a_verdict_over_them(tmp_path, cli):
    names = ["turning_on_radio", "picking_up_trash", "can_meat", "make_pizza", "chop_an_onion",
             "cook_bacon"]  # fmt: skip
    runs = {
        name: finished_run(
            tmp_path / name, dict.fromkeys(range(4), "failure"), sim="omnigibson", protocol="2025"
        )
        for name in names
    }
    folder = run_of_tasks(tmp_path / "r", runs)
    rows = tmp_path / "ours.csv"
    rates = ["25%", "50%", "25%", "75%", "50%", "25%"]
    lines = [
        f"{name},ours,success,{rate},omnigibson,4,me\n"
        for name, rate in zip(names, rates, strict=True)
    ]
    rows.write_text(HEAD + "".join(lines))
    done = cli("compare", folder, "published:ours", "--published-file", rows, "--json")
    document = json.loads(done.stdout)
    assert all(each["compatible"] for each in document["comparisons"])
    (over,) = document["over_tasks"]
    # Six of six below: as often as six coins that fall alike.
    assert (over["tasks"], over["p_value"]) == (6, 2 / 2**6)
    assert over["verdict"].startswith(
        "not compatible over 6 tasks: success rate 0.0 % here against 41.7 %: -42 points ["
    )
    shown = cli("compare", folder, "published:ours", "--published-file", rows).stdout
    assert over["verdict"] in shown
    # What all have in common is said once.
    assert shown.count("source: me") == 1
    assert shown.count("evaluator") == 1
