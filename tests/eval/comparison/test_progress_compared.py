"""Task progress of runs: means, intervals and paired differences, and runs that lack it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from run_folders import TASK, finished_run
from typer.testing import CliRunner

import b1k_eval
from b1k_eval.cli.main import app
from b1k_eval.comparison.paired import sign_flip
from b1k_eval.comparison.summary import summarise_runs
from b1k_eval.records.loading import read_run_data

CHECKS = ("robot_near_washer", "washer_opened", "washer_closed", "washer_turned_on")


def run(
    folder: Path,
    steps: Mapping[int, Sequence[int | None]],
    variant: str = "links-fraction",
    **options: Any,
) -> Path:
    """A run of failures in which the checks were reached at these steps, by instance."""
    finished_run(folder, dict.fromkeys(steps, "failure"), **options)
    for instance, reached in steps.items():
        path = folder / "episodes" / f"{TASK}-{instance}-0" / "result.json"
        score = sum(step is not None for step in reached) / len(CHECKS)
        told = {
            "variant": variant,
            "score": score,
            "reached": dict(zip(CHECKS, reached, strict=True)),
        }
        path.write_text(json.dumps({**json.loads(path.read_text()), "task_progress": told}))
    return folder


LITTLE = {n: (None, None, 1, None) for n in range(6)}
MORE = {n: (5 + n, 40 if n else None, 1, None) for n in range(6)}


def summary(*folders: Path) -> dict[str, Any]:
    return summarise_runs([read_run_data(folder) for folder in folders], mix=True)


def test_a_run_has_mean_interval_and_every_check(tmp_path):
    (row,) = summary(run(tmp_path / "a", MORE))["runs"]
    told = row["task_progress"]
    assert told["mean"] == pytest.approx((0.5 + 5 * 0.75) / 6)
    assert told["interval"]["low"] < told["mean"] < told["interval"]["high"]
    assert (told["variant"], told["episodes"]) == ("links-fraction", 6)
    near, opened, closed, on = told["checks"]
    assert near == {
        "name": "robot_near_washer",
        "words": "near washer.n.03_1",
        "reached": 6,
        "at_once": 0,
        "median_step": 7.5,
    }
    assert (opened["reached"], opened["median_step"]) == (5, 40.0)
    assert (closed["reached"], closed["at_once"]) == (6, 6)
    assert (on["reached"], on["median_step"]) == (0, None)


def test_a_pair_is_compared_by_instance_with_interval_and_test(tmp_path):
    (pair,) = summary(run(tmp_path / "a", LITTLE), run(tmp_path / "b", MORE))["pairs"]
    found = pair["task_progress"]
    differences = [0.25, *[0.5] * 5]
    assert found["difference"] == pytest.approx(sum(differences) / 6)
    assert (found["pairs"], found["second_better"], found["first_better"]) == (6, 6, 0)
    # All six signs alike: two of the 64 patterns are as extreme.
    assert found["p_value"] == pytest.approx(2 / 64)
    assert found["interval"]["low"] < found["difference"] <= found["interval"]["high"]
    assert sign_flip.__name__.replace("_", " ") in found["test"]


def test_other_variants_and_older_runs_are_not_compared_in_it(tmp_path):
    little = run(tmp_path / "a", LITTLE)
    other = run(tmp_path / "b", MORE, "roots-symbol", progress_variant="roots-symbol")
    old = finished_run(tmp_path / "c", dict.fromkeys(range(6), "failure"))
    found = summary(little, other, old)
    for pair in found["pairs"]:
        assert pair["task_progress"] is None
        assert pair["q_score"] is not None
    assert found["runs"][2]["task_progress"] == {
        "mean": None,
        "variant": None,
        "episodes": 0,
        "checks": [],
        "interval": None,
    }
    notable = [entry["text"] for entry in found["pairs"][0]["differences"]["notable"]]
    assert "variant of task progress: links-fraction against roots-symbol" in notable


def test_the_command_and_the_frames_show_it(tmp_path):
    one, two = run(tmp_path / "a", LITTLE), run(tmp_path / "b", MORE)
    result = CliRunner(env={"COLUMNS": "160"}).invoke(app, ["compare", str(one), str(two)])
    assert result.exit_code == 0, result.output
    assert "task progress [%]" in result.stdout
    assert "task progress in %: +45.8 (" in result.stdout
    loaded = b1k_eval.load_run(two)
    assert loaded.summary["task_progress"].tolist() == [pytest.approx(4.25 / 6)]
    assert loaded.episodes["task_progress"].tolist() == [0.5, *[0.75] * 5]
    old = b1k_eval.load_run(finished_run(tmp_path / "c", {0: "failure"}))
    assert old.episodes["task_progress"].isna().all()


def test_the_page_has_the_checks_and_says_what_doing_nothing_scores(tmp_path):
    one, two = run(tmp_path / "a", LITTLE), run(tmp_path / "b", MORE)
    page = tmp_path / "page"
    result = CliRunner().invoke(app, ["report", str(one), str(two), "--out", str(page)])
    assert result.exit_code == 0, result.output
    text = " ".join((page / "report.html").read_text().split())
    assert "every episode, whatever the policy does: washer_closed.</strong>" in text
    assert "Doing nothing scores 25.0% for it." in text
    cells = '<td class="number">0 of 6</td> <td class="number">6 of 6 (8)</td>'
    assert cells.replace("> <", "><") in text.replace("> <", "><")
    assert "70.8%" in text


def test_a_run_without_it_beside_one_that_has_it_is_not_counted(tmp_path):
    old = finished_run(tmp_path / "a", dict.fromkeys(range(6), "failure"))
    new, page = run(tmp_path / "b", MORE), tmp_path / "page"
    result = CliRunner().invoke(app, ["report", str(old), str(new), "--out", str(page)])
    assert result.exit_code == 0, result.output
    text = (page / "report.html").read_text()
    assert "not counted" in text
    assert '<td class="number">-</td>' in text


def test_a_page_of_runs_without_it_does_not_speak_of_it(tmp_path):
    old = finished_run(tmp_path / "c", {0: "failure"})
    page = tmp_path / "page"
    result = CliRunner().invoke(app, ["report", str(old), "--out", str(page)])
    assert result.exit_code == 0, result.output
    assert "Task progress" not in (page / "report.html").read_text()
