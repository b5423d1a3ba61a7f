"""The report: what is in its files, what it says of damage, and that no text can break out."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import imageio_ffmpeg
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from report_runs import NAMES, TASK, TalkingPolicy, make_run, steps_in
from typer.testing import CliRunner

from b1k_eval.cli.main import app
from b1k_eval.video.recording import DamagedVideoError, Recording, measured, recording_of
from b1k_policies.contract.presets import V4, V17

EVIL = '</script><script>alert(1)</script><img src=x onerror="alert(2)"> & $x$ "'


def report(*arguments, expect=0):
    result = CliRunner().invoke(app, ["report", *map(str, arguments)])
    assert result.exit_code == expect, result.output
    return result


def arguments_of(script):
    """The JSON values that a data script hands to the page."""
    match = re.fullmatch(r"B1K\.(\w+)\((.*)\);\n", script.read_text(), re.DOTALL)
    return match[1], json.loads(f"[{match[2]}]")


def index_of(folder):
    return arguments_of(folder / "report" / "data" / "index.js")[1][0]


def details_of(folder, row):
    name, (key, detail) = arguments_of(folder / "report" / "data" / f"{row['id']}.js")
    assert (name, key) == ("detail", row["id"])
    return detail


def result_of(run, instance):
    file = run / "episodes" / f"{TASK}-{instance}-0" / "result.json"
    return json.loads(file.read_text())


class Page(HTMLParser):
    """What a browser would see: tags with their attributes, and the text outside of scripts."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.words, self.inside = [], [], []
        self.feed(path.read_text())
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside.append(tag)

    def handle_endtag(self, tag):
        if tag in self.inside:
            self.inside.reverse()
            self.inside.remove(tag)
            self.inside.reverse()

    def handle_data(self, data):
        if not {"script", "style"} & set(self.inside):
            self.words.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def both_runs(folder):
    good = make_run(folder / "good run", breaks={2: 31})
    slow = make_run(folder / "slow#1", policy=TalkingPolicy(name="slow", vx=0.05), max_steps=101)
    report(good, slow, "--mix", "--out", folder / "out")


@pytest.fixture(scope="module")
def made(made_once):
    """A run of two successes and an error, a run of failures, and the report of both."""
    folder = made_once("report", both_runs)
    return folder / "good run", folder / "slow#1", folder / "out"


@pytest.fixture
def run(made, tmp_path):
    """A copy of the first run, to be spoilt."""
    return Path(shutil.copytree(made[0], tmp_path / "run"))


# --- which step a picture shows -----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("fps", [30, 15, 10])
def test_every_picture_shows_the_step_that_the_page_takes_it_for(tmp_path, fps):
    # At step 40 the first goal is reached, at 13 the world breaks; 37 steps are no multiple.
    quick = TalkingPolicy(vx=0.25)
    run = make_run(tmp_path / "run", policy=quick, instances="0,1", fps=fps, breaks={1: 13})
    late = make_run(tmp_path / "late", policy=TalkingPolicy(vx=0.05), max_steps=36, fps=fps)
    checked = []
    for video in [*run.rglob("video.mp4"), *late.rglob("video.mp4")]:
        result = json.loads((video.parent / "result.json").read_text())
        steps, shown = result["steps"], steps_in(video)
        recording = recording_of(video, result["recording"])
        assert (recording.frames, recording.fps) == (len(shown), fps)
        assert recording.fits(steps)
        assert [min(n * recording.every, steps) for n in range(len(shown))] == shown
        checked.append(steps)
    assert set(checked) == {13, 37, 40}


@pytest.mark.slow
def test_what_is_recorded_of_a_video_is_what_ffmpeg_and_opencv_find_in_it(made):
    for video in made[0].rglob("video.mp4"):
        recorded = json.loads((video.parent / "result.json").read_text())["recording"]
        frames, seconds = imageio_ffmpeg.count_frames_and_secs(video)
        assert recorded["frames"] == frames > 1
        assert recorded["fps"] == pytest.approx(frames / seconds, rel=0.01)
        assert recorded["bytes"] == len(video.read_bytes())
        assert measured(video) == Recording(frames=frames, fps=recorded["fps"])
        assert recording_of(video, None) == recording_of(video, recorded) == measured(video)


def test_a_video_of_another_length_does_not_fit():
    recording = Recording(frames=52, fps=15)
    assert [steps for steps in range(90, 110) if recording.fits(steps)] == [100, 101, 102, 103]


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "of an older version"])
@pytest.mark.parametrize("share", [0.0, 0.002, 0.5, 0.98])
def test_a_torn_video_is_named(made, tmp_path, share, recorded):
    folder = made[0] / "episodes" / f"{TASK}-0-0"
    result = json.loads((folder / "result.json").read_text())
    whole = (folder / "video.mp4").read_bytes()
    torn = tmp_path / "torn.mp4"
    torn.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DamagedVideoError, match=re.escape(str(torn))):
        recording_of(torn, result["recording"] if recorded else None)


def test_a_video_put_in_place_of_the_recorded_one_is_looked_at_itself(made, tmp_path):
    video = made[0] / "episodes" / f"{TASK}-0-0" / "video.mp4"
    other = Path(shutil.copyfile(video, tmp_path / os.fsdecode(b"\xff.mp4")))
    recorded = {"frames": 7, "fps": 30.0, "bytes": 1}
    assert recording_of(other, recorded) == measured(video)


# --- data ---------------------------------------------------------------------------------------


def test_the_list_has_every_episode_with_the_figures_of_its_result(made):
    good, slow, out = made
    index = index_of(out)
    assert [entry["folder"] for entry in index["runs"]] == ["good run", "slow#1"]
    assert len(index["episodes"]) == 6
    for row in index["episodes"]:
        result = result_of((good, slow)[row["run"]], row["instance"])
        assert row["outcome"] == result["outcome"]
        assert row["q"] == result["q_score"]
        assert row["steps"] == result["steps"]
        reached = [step for step in result["subgoals"].values() if step is not None]
        assert row["reached"] == sorted(reached)
        assert row["video"] is True
    assert {row["label"] for row in index["episodes"] if row["run"] == 1} == {
        "time_out_while_working"
    }


def test_a_timeline_tells_every_value_of_the_trace_at_every_step(made):
    good, _, out = made
    row = index_of(out)["episodes"][0]
    course = details_of(out, row)["course"]
    trace = pd.read_parquet(good / "episodes" / row["name"] / "trace.parquet")
    assert len(trace) == 100

    def told(changes, step):
        return [value for first, value in changes if first <= step][-1]

    for place, step in enumerate(trace["step"]):
        line = trace.iloc[place]
        for name in ("q_score", "progress"):
            found = told(course["curves"][name]["changes"], step)
            assert found == pytest.approx(line[name], abs=5e-5)
        assert told(course["skill_prob"], step) == pytest.approx(line["skill_prob"], abs=5e-5)
        (skill,) = [s for s in course["skills"] if s[0] <= step <= s[1]]
        assert skill[2:] == [line["skill"], line["skill_index"]]
        for kind, entries in (("subgoal", "subgoals"), ("predicate", "predicates")):
            for entry in course[entries]:
                holds = any(first <= step <= last for first, last in entry["spans"])
                assert holds == line[f"{kind}:{entry['name']}"]
    asked = trace.loc[trace["inference"], ["step", "latency_s"]].to_numpy()
    np.testing.assert_allclose(np.array(course["latency"]), asked, atol=5e-5)
    assert [entry["name"] for entry in course["subgoals"]] == list(NAMES)


def test_a_column_without_any_value_stays_without_one():
    from b1k_eval.report.timelines import changes

    nan = float("nan")
    assert changes(np.array([nan, nan, nan])) == [[1, None]]
    assert changes(np.array([nan, 0.25, 0.25, nan, 0.5])) == [
        [1, None],
        [2, 0.25],
        [4, None],
        [5, 0.5],
    ]


def test_the_page_refers_to_the_runs_own_videos_by_a_path_that_needs_no_server(made):
    good, slow, out = made
    for row in index_of(out)["episodes"]:
        source = details_of(out, row)["video"]["src"]
        assert re.fullmatch(r"[\w./%-]+", source)
        video = (good, slow)[row["run"]] / "episodes" / row["name"] / "video.mp4"
        assert (out / unquote(source)).samefile(video)
    assert not list(out.rglob("*.mp4"))


def test_copied_videos_lie_beside_the_page_and_make_it_portable(run, tmp_path):
    report(run, "--out", tmp_path / "out", "--copy-videos")
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    row = index_of(moved)["episodes"][0]
    copy = moved / details_of(moved, row)["video"]["src"]
    assert copy.read_bytes() == (run / "episodes" / row["name"] / "video.mp4").read_bytes()


def test_every_file_the_page_asks_for_is_there_and_none_comes_from_elsewhere(made):
    out = made[2]
    page = Page(out / "report.html")
    asked = [attrs["src"] for attrs in page.all("script")]
    asked += [attrs["href"] for attrs in page.all("link") if attrs["rel"] == "stylesheet"]
    assert len(asked) == len(set(asked)) >= 10
    for address in asked:
        assert (out / address).is_file()
    everything = [out / "report.html", *(out / "report").rglob("*.*")]
    loading = re.compile(
        r"(?:src|href)=\W*https?:|@import|url\((?!#)|fetch\(|XMLHttpRequest|import\("
    )
    for file in everything:
        text = file.read_text().replace('href="data:,"', "")
        assert not loading.search(text), file


def test_a_run_is_left_as_it_was_but_for_the_report(run):
    def content():
        return {
            path.relative_to(run): path.read_bytes()
            for path in run.rglob("*")
            if path.is_file() and path.relative_to(run).parts[0] not in ("report", "report.html")
        }

    before = content()
    report(run)
    assert content() == before
    assert not list(run.glob(".tmp-*"))


@pytest.mark.slow
def test_a_second_report_leaves_nothing_of_the_first(run):
    report(run, "--csv", "--figures", "svg")
    lines = (run / "episodes.jsonl").read_text().splitlines()
    (run / "episodes.jsonl").write_text(lines[0] + "\n")
    report(run)
    data = run / "report" / "data"
    assert [file.name for file in (data / "r0").iterdir()] == ["e0.js"]
    assert not (run / "report" / "tables").exists()


# --- what cannot be read ------------------------------------------------------------------------


def test_a_run_that_is_still_being_written_says_how_far_it_is(run):
    lines = (run / "episodes.jsonl").read_text().splitlines()
    (run / "episodes.jsonl").write_text(f"{lines[0]}\n{lines[1][:40]}")  # torn off
    report(run)
    assert len(index_of(run)["episodes"]) == 1
    text = Page(run / "report.html").text
    assert "A (run) is still being written, or was stopped: 1 of 3 episodes are there." in text


def test_a_damaged_trace_and_a_torn_video_are_named_and_everything_else_works(run):
    trace = run / "episodes" / f"{TASK}-0-0" / "trace.parquet"
    trace.write_bytes(trace.read_bytes()[:-100])
    video = run / "episodes" / f"{TASK}-1-0" / "video.mp4"
    video.write_bytes(video.read_bytes()[:-100])
    (run / "episodes" / f"{TASK}-2-0" / "video.mp4").unlink()
    said = report(run).stderr
    first, second, third = index_of(run)["episodes"]
    assert details_of(run, first)["course"] is None
    assert details_of(run, first)["video"]["frames"] == 52
    assert str(trace) in first["problems"][0]
    assert details_of(run, second)["video"] is None
    assert details_of(run, second)["course"]["curves"]["q_score"]["changes"]
    assert "truncated" in second["problems"][0]
    assert third["problems"] == []
    assert third["video"] is False
    text = Page(run / "report.html").text
    assert "A (run): 2 files cannot be used as they are; the rest is complete." in text
    assert said.count("note:") == 2


def command_left_gripper(run, value):
    """Let every trace of a run say that the left gripper was never commanded beyond `value`."""
    for file in run.glob("episodes/*/trace.parquet"):
        frame = pd.read_parquet(file)
        frame["action_14"] = frame["action_14"].clip(upper=value).to_numpy(np.float32)
        frame.loc[0, "action_14"] = np.float32(value)
        table = pyarrow.Table.from_pandas(frame, preserve_index=False)
        schema = pyarrow.parquet.read_schema(file)
        pyarrow.parquet.write_table(table.cast(schema), file)


@pytest.mark.parametrize(("value", "told"), [(0.98, True), (0.5, False), (1.0, False)])
def test_an_open_command_that_never_releases_is_told(run, value, told):
    command_left_gripper(run, value)
    report(run)
    words = "never commands gripper_left above 0.98: 1 alone releases what is held."
    assert (words in Page(run / "report.html").text) == told


def test_an_episode_whose_result_is_damaged_is_left_out_by_name(run):
    (run / "episodes" / f"{TASK}-1-0" / "result.json").write_text("{")
    report(run)
    text = Page(run / "report.html").text
    assert "A (run): 1 episode left out as damaged." in text
    assert f"{TASK}-1-0: it is not JSON" in text
    assert [row["instance"] for row in index_of(run)["episodes"]] == [0, 2]


def test_a_run_of_errors_only_has_no_rate_and_shows_every_error(tmp_path):
    run = make_run(tmp_path / "run", instances="0,1", fps=None, breaks={0: 0, 1: 12})
    report(run, "--csv", "--figures", "png")
    text = Page(run / "report.html").text
    assert "A (run) has no scored episode: errors only." in text
    assert "nothing scored" in text
    first, second = index_of(run)["episodes"]
    assert first["q"] is second["q"] is None
    assert "the simulator fell over" in first["why"]
    assert "EnvError" in details_of(run, second)["traceback"]
    assert details_of(run, first)["course"] is None
    assert details_of(run, second)["course"] is not None


# --- what a reader has to know ------------------------------------------------------------------


def test_the_twin_is_never_taken_for_the_benchmark(made):
    text = Page(made[2] / "report.html").text
    assert "MuJoCo twin. Not a benchmark score" in text


@pytest.mark.slow
def test_a_privileged_and_a_forced_run_are_marked_at_the_top(run):
    record = json.loads((run / "run.json").read_text())
    record["identity"]["privileged"] = True
    record["identity"]["policy"].update(contract_of(V17, forced=("image_size",)))
    (run / "run.json").write_text(json.dumps(record))
    report(run)
    text = Page(run / "report.html").text
    assert "A Privileged. Reads the simulator's state" in text
    assert "A Forced. Against what the checkpoint states, an ablation: image_size." in text
    assert "image_size: config.json:size says 504, sent is 224" in text
    record["identity"]["policy"].update({**contract_of(V17), "forced": True})  # against the model
    (run / "run.json").write_text(json.dumps(record))
    report(run)
    assert "A Forced. Against what the checkpoint states" in Page(run / "report.html").text


def contract_of(contract, forced=()):
    """What run.json has of a checkpoint with this contract."""
    rows = [
        {
            "name": name,
            "stated": 504,
            "where": "config.json:size",
            "other": 224,
            "other_where": "--set",
        }
        for name in forced
    ]
    return {
        "checkpoint": {"origin": "tiny", "weights_sha256": "ab" * 32, "files": []},
        "contract": {
            "contract": contract.to_dict(),
            "sources": {},
            "forced": rows,
            "remarks": [],
        },
        "forced": bool(forced),
        "device": "cpu",
        "autocast": None,
        "forced_skill_id": None,
        "forced_skill_progress": None,
    }


def test_the_fields_in_which_two_contracts_differ_come_first_and_are_all_there(run, tmp_path):
    other = Path(shutil.copytree(run, tmp_path / "other"))
    for folder, contract in ((run, V4), (other, V17)):
        record = json.loads((folder / "run.json").read_text())
        record["identity"]["policy"].update(contract_of(contract))
        (folder / "run.json").write_text(json.dumps(record))
    report(run, other, "--out", tmp_path / "out")
    html = (tmp_path / "out" / "report.html").read_text()
    tables = re.findall(r'<table class="plain contract">(.*?)</table>', html, re.DOTALL)
    names = [set(re.findall(r"<span title=[^>]*>(\w+)</span>", table)) for table in tables]
    all_names = {field.name for field in fields(V4)}
    differing = {name for name in all_names if getattr(V4, name) != getattr(V17, name)}
    assert names == [differing, all_names - differing]


def test_runs_that_are_different_experiments_are_shown_if_asked_for_and_said_to_be(made, tmp_path):
    refused = report(*made[:2], "--out", tmp_path / "out", expect=2).stderr
    compared = CliRunner().invoke(app, ["compare", *map(str, made[:2])]).stderr
    assert refused == compared  # one rule for both
    assert "not comparable (time limit in steps: 120 against 101); pass --mix to show" in refused
    assert not (tmp_path / "out" / "report.html").exists()
    text = Page(made[2] / "report.html").text
    assert "These runs are different experiments, and their numbers are not comparable." in text
    assert "time limit in steps: 120 against 101" in text


# --- texts from outside -------------------------------------------------------------------------


@pytest.fixture
def evil(run):
    """The run with a name, messages and a traceback that try to break out of the page."""
    record = json.loads((run / "run.json").read_text())
    record["identity"]["policy"]["name"] = EVIL
    (run / "run.json").write_text(json.dumps(record))
    lines = []
    for text in (run / "episodes.jsonl").read_text().splitlines():
        line = json.loads(text)
        if line["outcome"] != "error":
            line.update(outcome="failure", success=False, failure_reason=EVIL, q_score=0.0)
        line["message"] = EVIL
        file = run / "episodes" / f"{TASK}-{line['instance']}-0" / "result.json"
        result = {**json.loads(file.read_text()), **line, "traceback": EVIL}
        file.write_text(json.dumps(result))
        lines.append(json.dumps(line))
    (run / "episodes.jsonl").write_text("\n".join(lines) + "\n")
    return run.rename(run.parent / "run <b>&'\"%41#?javascript:x")


@pytest.mark.slow
def test_no_text_can_become_a_tag_or_a_script(made, evil):
    plain = Page(made[2] / "report.html")
    report(evil, "--figures", "svg", "--markdown")
    page = Page(evil / "report.html")
    assert EVIL in page.text
    assert not page.all("img")
    assert not page.all("b")
    assert [tag for tag, attrs in page.tags if any(name.startswith("on") for name in attrs)] == []
    assert page.all("script") == plain.all("script")
    assert all("src" in attrs for attrs in page.all("script"))
    for script in (evil / "report" / "data").rglob("*.js"):
        assert "<" not in script.read_text()
    rows = index_of(evil)["episodes"]
    assert all(EVIL in row["why"] for row in rows)
    assert details_of(evil, rows[0])["traceback"] == EVIL
    assert (evil / unquote(details_of(evil, rows[0])["video"]["src"])).is_file()
    for figure in (evil / "report" / "figures").glob("*.svg"):
        assert "script" not in {
            node.tag.rpartition("}")[2] for node in ElementTree.parse(figure).iter()
        }
    assert "<script" not in (evil / "report" / "tables" / "runs.md").read_text()


@pytest.mark.slow
def test_dollar_signs_in_a_name_are_no_formula(run):
    record = json.loads((run / "run.json").read_text())
    record["identity"]["policy"]["name"] = r"$\nosuch{$"
    (run / "run.json").write_text(json.dumps(record))
    report(run, "--figures", "svg")
    drawn = ElementTree.parse(run / "report" / "figures" / "success.svg").getroot()
    assert r"$\nosuch{$" in "".join(drawn.itertext())


# --- tables and figures -------------------------------------------------------------------------


@pytest.mark.slow
def test_the_tables_have_the_figures_of_the_results_in_every_kind(made, tmp_path):
    good, slow, _ = made
    report(good, slow, "--mix", "--out", tmp_path, "--csv", "--parquet", "--markdown")
    tables = tmp_path / "report" / "tables"
    with (tables / "episodes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    for row, run in zip(rows, [good] * 3 + [slow] * 3, strict=True):
        result = result_of(run, int(row["instance"]))
        assert row["outcome"] == result["outcome"]
        assert row["q_score"] == ("" if result["q_score"] is None else str(result["q_score"]))
        for name, step in result["subgoals"].items():
            assert row[f"first_step_{name}"] == ("" if step is None else str(step))
    runs = pd.read_csv(tables / "runs.csv")
    assert runs[["success", "failure", "error"]].to_numpy().tolist() == [[2, 0, 1], [0, 3, 0]]
    assert runs["success_rate"].tolist() == [1.0, 0.0]
    for name in ("runs", "episodes", "subgoals"):
        first = pd.read_csv(tables / f"{name}.csv")
        second = pd.read_parquet(tables / f"{name}.parquet")
        assert list(first.columns) == list(second.columns)
        assert len(first) == len(second)
        lines = (tables / f"{name}.md").read_text().splitlines()
        assert len(lines) == len(first) + 2
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(first.columns) + 1}
    subgoals = pd.read_csv(tables / "subgoals.csv")
    picked = subgoals[(subgoals["run"] == "slow") & (subgoals["subgoal"] == NAMES[0])]
    assert picked["reached"].tolist() == [3]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_figures_are_files_that_other_programs_read(made, tmp_path, kind):
    from PIL import Image

    good, slow, _ = made
    report(good, slow, "--mix", "--out", tmp_path, "--figures", kind)
    figures = sorted((tmp_path / "report" / "figures").iterdir())
    names = {figure.stem for figure in figures}
    assert {"success", "funnel", "failures", "progress", "skill-A", "skill-B"} == names
    for figure in figures:
        if kind == "svg":
            text = " ".join(ElementTree.parse(figure).getroot().itertext())
            assert "%" in text
            assert "var(" not in figure.read_text()
        else:
            assert min(Image.open(figure).size) > 200


def test_the_figures_on_the_page_take_its_colours_and_are_described(made):
    html = (made[2] / "report.html").read_text()
    drawn = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert len(drawn) == 6
    for svg in drawn:
        assert "var(--ink)" in svg
        assert "#01000" not in svg
        assert re.search(r'role="img" aria-label="[^"]{10,}"', svg)
    ids = re.findall(r' id="([^"]+)"', "".join(drawn))
    clips = [name for name in ids if name.startswith("p")]
    assert len(clips) == len(set(clips))


# --- the command line ---------------------------------------------------------------------------


@pytest.mark.slow
def test_the_document_names_page_and_files_and_has_the_rates(run):
    document = json.loads(report(run, "--json", "--csv").stdout)
    assert document["page"] == str(run / "report.html")
    assert all(Path(file).is_file() for file in document["files"])
    assert [Path(file).name for file in document["files"]] == [
        "runs.csv",
        "episodes.csv",
        "subgoals.csv",
    ]
    assert document["runs"][0]["counts"] == {"success": 2, "failure": 0, "error": 1}


@pytest.mark.slow
def test_several_runs_go_to_a_folder_of_their_own(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = report(*made[:2], "--mix").stdout.split()
    assert re.fullmatch(r"results/report-\d{8}-\d{6}/report\.html", shown[0])
    assert Path(shown[0]).is_file()


def test_open_opens_the_page_by_its_address(run, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    report(run, "--open")
    assert opened == [(run / "report.html").resolve().as_uri()]


def test_wrong_usage_is_told_in_one_line_and_nothing_is_touched(run, tmp_path):
    (tmp_path / "mine" / "report").mkdir(parents=True)
    (tmp_path / "mine" / "report" / "thesis.tex").write_text("ten years")
    cases = (
        ((tmp_path / "nowhere",), "holds no run"),
        ((run, run, "--out", tmp_path / "out"), "is given twice"),
        ((run, "--figures", "gif"), "svg or png"),
        ((run, "--out", tmp_path / "mine"), "is not of an earlier report"),
    )
    for arguments, words in cases:
        said = report(*arguments, expect=2).stderr
        assert words in said
        assert said.count("\n") == 1
    assert (tmp_path / "mine" / "report" / "thesis.tex").read_text() == "ten years"
    assert not (tmp_path / "out").exists()
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_missing_package_is_told_with_its_install_line_before_any_work(run, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    said = report(run, expect=4).stderr
    assert f"the report needs {package}" in said
    assert "pip install '.[report]' in the checkout" in said
    assert not (run / "report.html").exists()


def test_a_folder_that_cannot_be_written_is_an_error_of_one_line(run, tmp_path):
    (tmp_path / "file").write_text("")
    said = report(run, "--out", tmp_path / "file", expect=1).stderr
    assert "the report cannot be written" in said
    assert "choose another --out" in said


def test_asking_for_help_imports_no_statistics_and_no_plots():
    code = (
        "import sys, b1k_eval.cli.results.report; "
        "print(sorted({'scipy', 'matplotlib', 'jinja2', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
