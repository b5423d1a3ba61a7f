"""`b1k_eval.load_run`, `Run` and `compare`, held against the files of the run."""

from __future__ import annotations

import base64
import json
import re
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
from report_runs import make_run, read_stripes
from run_folders import TASK, finished_run, run_of_tasks

import b1k_eval
from b1k_envs.errors import UsageError
from b1k_eval import frames
from b1k_eval.records.columns import COLUMNS
from b1k_eval.records.trace_reading import DamagedTraceError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of real files: two episodes of a line world, the second an error."""
    return make_run(tmp_path_factory.mktemp("made") / "run", instances="0-1", breaks={1: 20})


@pytest.fixture
def pair(tmp_path):
    outcomes = {n: "success" if n % 3 else "failure" for n in range(12)}
    better = finished_run(tmp_path / "b", dict.fromkeys(range(12), "success"))
    return finished_run(tmp_path / "a", {**outcomes, 11: "error"}), better


def test_episodes_are_the_results_with_their_documented_dtypes(made):
    run = b1k_eval.load_run(made)
    table = run.episodes
    known = {name: column.dtype for name, column in frames.EPISODES.items()}
    assert [*table][: len(known)] == [*known]
    assert {name: str(table[name].dtype) for name in known} == known
    for row in table.itertuples():
        result = json.loads((made / "episodes" / row.episode / "result.json").read_text())
        assert (row.instance, row.outcome, row.steps) == (
            result["instance"],
            result["outcome"],
            result["steps"],
        )
        assert row.wall_s == result["timing"]["wall_s"]
        assert row.video == str(made / "episodes" / row.episode / "video.mp4")
        for name, step in result["subgoals"].items():
            found = table.set_index("episode").loc[row.episode, f"first_step_{name}"]
            assert (None if found is pd.NA else found) == step
    assert table.outcome.tolist() == ["success", "error"]
    assert table.success.isna().tolist() == [False, True]
    assert table.q_score.isna().tolist() == [False, True]


def test_dtypes_do_not_depend_on_what_happened(tmp_path, made):
    empty = b1k_eval.load_run(finished_run(tmp_path / "r", {}))
    full = b1k_eval.load_run(made)
    assert len(empty.episodes) == 0
    for table, other in ((empty.episodes, full.episodes), (empty.summary, full.summary)):
        shared = [name for name in table if name in other]
        assert table[shared].dtypes.tolist() == other[shared].dtypes.tolist()
    assert np.isnan(empty.success_rate)
    assert np.isnan(empty.q_score)


def test_steps_are_the_trace_however_the_episode_is_named(made):
    run = b1k_eval.load_run(made)
    trace = pd.read_parquet(made / "episodes" / f"{TASK}-0-0" / "trace.parquet")
    row = next(run.episodes.itertuples())
    for name in (f"{TASK}-0-0", 0, (0, 0), row, run.episodes.iloc[0]):
        steps = run.steps(name)
        assert set(trace) <= set(steps)
        for column in trace:
            filled = pd.isna(trace[column])
            assert pd.isna(steps[column]).tolist() == filled.tolist(), column
            there = ~filled
            assert steps[column][there].tolist() == trace[column][there].tolist(), column
    kinds = {"step": "int64", "q_score": "float64", "inference": "bool", "skill": "string"}
    kinds |= {"skill_index": "Int64", "subgoal:there": "bool", "wait_s": "float64"}
    for name, dtype in kinds.items():
        if name in steps:
            assert steps[name].dtype == dtype, name
    documented = {name for column in COLUMNS if not column.truths for name in column.names}
    assert {name for name in steps if ":" not in name} <= documented


def test_an_episode_that_is_not_there_or_not_alone_is_named(tmp_path, made):
    run = b1k_eval.load_run(made)
    with pytest.raises(UsageError, match=rf"no finished episode 7: it has 2, such as {TASK}-0-0"):
        run.steps(7)
    with pytest.raises(UsageError, match=f"no finished episode '{TASK}-0-1'"):
        run.steps(f"{TASK}-0-1")
    twice = b1k_eval.load_run(finished_run(tmp_path / "r", {0: ["success", "failure"]}))
    with pytest.raises(UsageError, match=rf"0 fits {TASK}-0-0, {TASK}-0-1"):
        twice.steps(0)
    with pytest.raises(DamagedTraceError, match=r"has no trace.parquet"):
        twice.steps((0, 1))
    with pytest.raises(UsageError, match="holds no run"):
        b1k_eval.load_run(tmp_path)


def test_the_summary_counts_and_the_rates_are_of_the_scored(pair):
    run = b1k_eval.load_run(pair[0])
    (row,) = run.summary.to_dict("records")
    assert {name: str(dtype) for name, dtype in run.summary.dtypes.items()} == {
        name: column.dtype for name, column in frames.RUNS.items()
    }
    assert (row["success"], row["failure"], row["error"]) == (7, 4, 1)
    assert row["success_rate"] == run.success_rate == pytest.approx(7 / 11)
    assert row["q_score"] == run.q_score == pytest.approx(7 / 11)
    assert 0 < row["success_rate_low"] < 7 / 11 < row["success_rate_high"] < 1
    assert repr(run) == f"<Run '{pair[0]}': {TASK}, other; 7 success, 4 failure, 1 error>"


def test_a_notebook_shows_the_summary_and_the_first_picture_of_a_video(made, pair):
    shown = b1k_eval.load_run(made)._repr_html_()
    (data,) = re.findall(r'<img alt="[^"]*" src="data:image/jpeg;base64,([^"]+)">', shown)
    assert len(data) < 100_000
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[1] == 480
    assert f"<td>{TASK}</td>" in shown
    assert "MuJoCo twin: not a benchmark score." in shown
    without = b1k_eval.load_run(pair[0])._repr_html_()
    assert "<img" not in without
    assert "<td>0.636</td>" in without
    video = made / "episodes" / f"{TASK}-0-0" / "video.mp4"
    whole = video.read_bytes()
    try:
        video.write_bytes(b"no video")
        again = b1k_eval.load_run(made)._repr_html_()
    finally:
        video.write_bytes(whole)
    assert again.count("<img") <= 1  # of the other episode, or none
    assert f"first picture of {TASK}-0-0" not in again


def test_a_name_with_markup_is_shown_as_text(tmp_path):
    run = finished_run(tmp_path / "r", {0: "success"}, policy={"name": "<script>"})
    shown = b1k_eval.load_run(run)._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


def test_compare_says_what_the_verb_says(pair):
    found = b1k_eval.compare(*pair)
    assert found.table["run"].tolist() == ["a", "b"]
    assert found.table.success_rate.tolist() == pytest.approx([7 / 11, 1.0])
    assert re.match(r"(cannot tell|b is better)", found.verdict)
    assert found.decided is found.document["pairs"][0]["decided"]
    assert found.verdict == found.document["pairs"][0]["verdict"]
    assert found.verdict in repr(found)
    assert "<td>a</td>" in found._repr_html_()
    runs = b1k_eval.compare(*map(b1k_eval.load_run, pair))
    assert runs.document == found.document
    with pytest.raises(UsageError, match="compare needs two runs or more, got 1"):
        b1k_eval.compare(pair[0])


def test_runs_that_are_not_comparable_are_refused_unless_mixed(tmp_path, pair):
    other = finished_run(tmp_path / "c", dict.fromkeys(range(12), "success"), max_steps=70)
    with pytest.raises(UsageError, match="--mix"):
        b1k_eval.compare(pair[0], other)
    assert "different experiments" in b1k_eval.compare(pair[0], other, mix=True).verdict


def test_a_run_of_several_tasks_has_a_row_for_each(tmp_path):
    runs = {
        name: finished_run(tmp_path / name, {0: outcome, 1: outcome})
        for name, outcome in ((TASK, "success"), ("turning_on_radio", "failure"))
    }
    run = b1k_eval.load_run(run_of_tasks(tmp_path / "both", runs))
    assert run.summary.task.tolist() == [TASK, "turning_on_radio"]
    assert run.summary.success_rate.tolist() == [1.0, 0.0]
    assert run.success_rate == 0.5
    assert run.episodes.task.tolist() == [TASK] * 2 + ["turning_on_radio"] * 2
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    found = b1k_eval.compare(run, copy)
    assert found.table.task.tolist() == [TASK] * 2 + ["turning_on_radio"] * 2
    assert "task" in found.verdict


@pytest.mark.slow
def test_the_page_is_written_and_returned(made, tmp_path):
    page = b1k_eval.load_run(made).report(tmp_path / "page")
    assert page == tmp_path / "page" / "report.html"
    assert f"{TASK}-0-0" in (page.parent / "report" / "data" / "index.js").read_text()


def test_texts_that_are_not_unicode_are_spelled_out(tmp_path):
    run = finished_run(tmp_path / "r", {0: "error"})
    for file in (run / "episodes.jsonl", *run.glob("episodes/*/result.json")):
        file.write_text(file.read_text().replace('"message": null', '"message": "gone: \\udcff"'))
    assert b1k_eval.load_run(run).episodes.message[0] == "gone: \\udcff"


def test_the_picture_is_that_of_the_first_step(made):
    shown = b1k_eval.load_run(made)._repr_html_()
    (data,) = re.findall(r"base64,([^\"]+)", shown)
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    reader = cv2.VideoCapture(str(made / "episodes" / f"{TASK}-0-0" / "video.mp4"))
    _, first = reader.read()
    size = picture.shape[1], picture.shape[0]
    apart = cv2.absdiff(cv2.resize(first, size, interpolation=cv2.INTER_AREA), picture)
    assert apart.mean() < 4
    assert read_stripes(cv2.cvtColor(first, cv2.COLOR_BGR2RGB)) == 0
