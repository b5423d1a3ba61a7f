"""Several tasks: means with the task as the unit, tables, pages and exports by task."""

from __future__ import annotations

import json

import numpy as np
import pytest
from run_folders import finished_run, run_of_tasks
from scipy import stats
from submissions import coloured, entry, submittable
from typer.testing import CliRunner

from b1k_envs.errors import UsageError
from b1k_eval.challenge.export import export_runs, read_runs
from b1k_eval.cli.main import app
from b1k_eval.comparison.over_tasks import mean_over_tasks
from b1k_eval.comparison.task_summary import summarise_tasks
from b1k_eval.comparison.until_decided import drawn_instances
from b1k_eval.records.loading import read_run_data, read_tasks
from b1k_eval.replay.recorded import run_of_episode

WON, LOST, BROKEN = "success", "failure", "error"
TASKS = ("clean_boxing_gloves", "turning_on_radio", "make_pizza")


@pytest.fixture
def made(tmp_path):
    """Runs by name, from the outcomes of each of their tasks."""

    def make(name, *outcomes, **changes):
        runs = {
            task: finished_run(tmp_path / f"{name}-{n}", dict(enumerate(each)), **changes)
            for n, (task, each) in enumerate(zip(TASKS, outcomes, strict=False))
        }
        return run_of_tasks(tmp_path / name, runs)

    return make


def run(*words, expect=0):
    result = CliRunner().invoke(app, [*map(str, words)])
    assert result.exit_code == expect, result.output
    return result


def test_every_task_weighs_the_same_whatever_its_number_of_episodes():
    results = {"a": [[1.0]] * 9 + [[0.0]], "b": [[0.0, 1.0]], "c": [], "d": [[0.0], [0.0]]}
    mean, interval = mean_over_tasks(results, seed=0)
    assert mean == pytest.approx((0.9 + 0.5 + 0.0) / 3)
    assert interval.method == "Bayesian bootstrap over tasks, bounds added"
    assert interval.low < mean < interval.high
    assert mean_over_tasks({"c": []}, seed=0) == (None, None)
    assert mean_over_tasks({"a": [[1.0]]}, seed=0) == (1.0, None)


def test_its_interval_of_solved_and_unsolved_tasks_is_the_exact_binomial_one():
    # Independent truth: Clopper and Pearson's, which it is for zeros and ones by construction.
    results = {f"task {n}": [[float(n < 7)]] * (n + 1) for n in range(20)}
    _, interval = mean_over_tasks(results, seed=3)
    assert interval.low == pytest.approx(stats.beta.ppf(0.025, 7, 14), abs=0.01)
    assert interval.high == pytest.approx(stats.beta.isf(0.025, 8, 13), abs=0.01)


@pytest.mark.slow
def test_it_covers_the_mean_over_all_tasks_from_a_sample_of_them():
    rng = np.random.default_rng(7)
    rates = rng.beta(0.5, 0.8, size=2000)  # what a policy can do differs a lot between tasks
    hits = 0
    for seed in range(120):
        drawn = rng.choice(rates, size=15, replace=False)
        results = {str(n): rng.binomial(1, rate, (10, 1)) for n, rate in enumerate(drawn)}
        _, interval = mean_over_tasks(results, seed=seed)
        hits += interval.low <= rates.mean() <= interval.high
    assert hits >= 108  # 95 % of 120 are 114, and 108 are 3 standard deviations below


def test_a_run_of_several_tasks_reads_as_one_entry_of_each(made):
    folder = made("one", [WON, LOST], [WON, BROKEN, LOST])
    gloves, radio = read_tasks(folder)
    assert (gloves.name, radio.name) == ("one/clean_boxing_gloves", "one/turning_on_radio")
    assert [key.instance for key in radio.plan] == [0, 1, 2]
    assert dict(radio.counts) == {"success": 1, "failure": 1, "error": 1}
    assert radio.identity["settings"]["seed"] == gloves.identity["settings"]["seed"]
    assert read_run_data(folder, "turning_on_radio").task == "turning_on_radio"
    with pytest.raises(UsageError, match=r"is a run of 2 tasks \(clean_boxing_gloves, turning_on"):
        read_run_data(folder)
    with pytest.raises(UsageError, match="this takes one of them, not make_pizza"):
        drawn_instances(str(folder), None, None, 0, "make_pizza")
    assert sorted(drawn_instances(str(folder), None, None, 0, "turning_on_radio")) == [0, 2]
    assert run_of_episode(folder, "0-2-0").task == "turning_on_radio"
    with pytest.raises(UsageError, match="is a run of 2 tasks"):
        run_of_episode(folder, "2-0")


def test_damage_is_listed_with_its_task(made):
    folder = made("one", [WON, LOST], [WON, LOST])
    (folder / "episodes" / "turning_on_radio-1-0" / "result.json").unlink()
    with (folder / "episodes.jsonl").open("a") as file:
        file.write("no JSON\n")
    gloves, radio = read_tasks(folder)
    assert [entry.name for entry in radio.damaged] == ["turning_on_radio-1-0"]
    assert [entry.name for entry in gloves.damaged] == ["line 5"]
    assert not radio.pending
    assert not gloves.pending


def test_runs_are_compared_by_task_and_judged_over_tasks(made):
    old = read_tasks(made("old", [LOST] * 4, [LOST, LOST, WON, LOST], [LOST] * 4))
    new = read_tasks(made("new", [WON] * 4, [LOST, LOST, WON, WON], [BROKEN, WON, WON, LOST]))
    document = summarise_tasks([old, new])
    assert [each["task"] for each in document["tasks"]] == list(TASKS)
    rates = [[row["success"]["rate"] for row in each["runs"]] for each in document["tasks"]]
    assert rates == [[0, 1], [0.25, 0.5], [0, pytest.approx(2 / 3)]]
    assert all("verdict" not in pair for each in document["tasks"] for pair in each["pairs"])
    one, two = document["runs"]
    assert one["success"]["mean"] == pytest.approx(0.25 / 3)
    assert two["success"]["mean"] == pytest.approx((1 + 0.5 + 2 / 3) / 3)
    assert two["counts"] == {"success": 8, "failure": 3, "error": 1}
    (pair,) = document["pairs"]
    assert pair["shared_tasks"] == 3
    # Paired by instance within a task: the pizza's instance 0 has no result in the new run.
    assert pair["success"]["difference"] == pytest.approx((1 + 0.25 + 2 / 3) / 3)
    assert pair["success"]["test"] == "sign flip over tasks, exact"
    assert pair["success"]["p_value"] == 0.25  # both of 8 patterns in which all signs agree
    assert pair["verdict"].startswith("cannot tell: new +64 points")
    assert pair["verdict"].endswith("p = 0.25, 3 paired tasks")


def test_runs_of_other_tasks_are_refused_unless_mixed(made):
    old, new = made("old", [WON], [WON]), made("new", [WON], [LOST], [LOST])
    refused = run("compare", old, new, expect=2)
    assert "are not of the same tasks (only new has make_pizza); pass --mix" in refused.output
    document = json.loads(run("compare", old, new, "--mix", "--json").stdout)
    assert document["mixed"] is True
    assert document["pairs"][0]["shared_tasks"] == 2
    assert [len(each["runs"]) for each in document["tasks"]] == [2, 2, 1]
    shown = run("compare", old, new, "--mix").stdout
    assert "mean over tasks" in shown
    assert "2 paired tasks" in shown


def test_other_limits_are_refused_by_task(made):
    old, new = made("old", [WON], [WON]), made("new", [WON], [WON], max_steps=60)
    refused = run("compare", old, new, expect=2)
    assert "time limit in steps: 50 against 60" in refused.output


def test_the_page_has_a_table_of_the_tasks_and_a_page_of_each(made, tmp_path):
    pytest.importorskip("jinja2")
    folder = made("one", [WON, LOST], [WON, WON])
    result = run("report", folder, "--csv")
    page = (folder / "report.html").read_text()
    assert "31 clean_boxing_gloves" in page
    assert "75%" in page  # the mean of 50 % and 100 %
    assert "http" not in page.replace("http-equiv", "")
    for task in TASKS[:2]:
        assert f'href="report-tasks/{task}/report.html"' in page
        of_task = folder / "report-tasks" / task / "report.html"
        assert 'href="../../report.html"' in of_task.read_text()
        assert (of_task.parent / "report" / "data" / "index.js").is_file()
    for asset in ("base.css", "theme.js"):
        assert f"report-tasks/assets/{asset}" in page
        assert (folder / "report-tasks" / "assets" / asset).is_file()
    table = (folder / "report-tasks" / "tasks.csv").read_text().splitlines()
    assert [line.split(",")[2] for line in table[1:]] == list(TASKS[:2])
    assert str(folder / "report-tasks" / "tasks.csv") in result.stdout.replace("\n", "")
    run("report", folder)  # again, over the earlier one
    (folder / "report-tasks" / "mine").mkdir()
    (folder / "report-tasks" / "assets").rename(folder / "report-tasks" / "other")
    assert "is not of an earlier report" in run("report", folder, expect=2).output


def test_all_tasks_of_a_run_are_exported_into_one_folder(tmp_path):
    video = coloured(tmp_path)
    runs = {
        task: submittable(tmp_path / f"run-{n}", video=video, outcomes={0: WON, 1: LOST})
        for n, task in enumerate(TASKS[:2])
    }
    folder = run_of_tasks(tmp_path / "both", runs)
    done = export_runs(read_runs([folder]), entry(), tmp_path / "out")
    names = sorted(file.name for file in (done.folder / "json").iterdir())
    assert names == [f"{task}_{number}_0.json" for task in TASKS[:2] for number in (301, 302)]
    assert len(list((done.folder / "videos").iterdir())) == 4
    exported = json.loads((done.folder / "export.json").read_text())
    assert [each["settings"]["task"] for each in exported["runs"]] == list(TASKS[:2])
    with pytest.raises(UsageError, match="is given twice"):
        export_runs(read_runs([folder, folder]), entry(), tmp_path / "again")
