"""Runs as the challenge's files and back, against the scorer's rules written anew."""

from __future__ import annotations

import errno
import json
import math
import re
import shutil
from pathlib import Path

import pytest
from challenge_scorer import RefusedError, score
from run_folders import TASK
from submissions import HUMAN, LIMIT, NAMES, coloured, entry, submittable
from typer.testing import CliRunner

from b1k_envs.errors import UsageError
from b1k_eval.challenge.export import Exported, export_runs
from b1k_eval.challenge.importing import import_results
from b1k_eval.challenge.rules import objections
from b1k_eval.records.loading import read_run_data
from b1k_eval.records.store import RunStore, StorageError


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return coloured(tmp_path_factory.mktemp("videos"))


def export_run(run, who, parent, **options) -> Exported:
    return export_runs([run], who, parent, **options)


def test_an_exported_run_is_scored_as_its_results_are(tmp_path, video):
    run = read_run_data(submittable(tmp_path / "run", video=video))
    done = export_run(run, entry(), tmp_path)
    assert done.folder.name == "standard.public.Blue_Gloves.Lab.2026-11-22"
    assert done.files == 4
    assert f"6 of the 10 instances of {TASK} are missing" in done.remarks[0]
    for file in (done.folder / "json").iterdir():
        assert (done.folder / "videos" / file.with_suffix(".mp4").name).is_file()
    scores = score(done.folder, NAMES)
    # By hand: q 1, 0.25, 0.5, 1 over 20 instances and 100 tasks.
    assert scores["q_score"] == pytest.approx((1 + 0.25 + 0.5 + 1) / 20 / 100)
    assert scores["task_sr"] == pytest.approx(2 / 20 / 100)
    times = [3 - 2 * steps / 20.4 for steps in (12, LIMIT + 1, LIMIT + 1, 15)]
    assert scores["time_score"] == pytest.approx(sum(times) / 20 / 100)
    assert scores["left"] == pytest.approx(4 * 41.0 / 11.5 / 20 / 100)
    assert math.isinf(scores["base"])  # instance 1 never moved, as the official file has it


@pytest.mark.parametrize("format", [1, 2])
def test_what_comes_back_from_an_export_has_every_number(tmp_path, video, format):
    original = read_run_data(submittable(tmp_path / "run", video=video))
    done = export_run(original, entry(), tmp_path)
    if format == 1:  # as exports of one run were recorded once
        record = json.loads((done.folder / "export.json").read_text())
        record = {"format": 1, **record.pop("runs")[0], "entry": record["entry"], "draft": []}
        (done.folder / "export.json").write_text(json.dumps(record))
    (folder,) = import_results(done.folder, tmp_path / "back")
    back = read_run_data(folder)
    assert back.identity["settings"] == dict(original.identity["settings"])
    assert back.identity["human"] == HUMAN
    assert [e.key for e in back.episodes] == [e.key for e in original.episodes]
    for one, two in zip(original.episodes, back.episodes, strict=True):
        for name in ("outcome", "success", "q_score", "steps", "simulated_s", "truncated"):
            assert getattr(one, name) == getattr(two, name)
        for block in ("time", "agent_distance", "normalized_agent_distance"):
            assert one.efficiency[block] == two.efficiency[block]
        assert two.video is not None


def test_videos_have_the_official_layout(tmp_path, video):
    import imageio_ffmpeg
    import numpy as np

    run = read_run_data(submittable(tmp_path / "run", video=video))
    done = export_run(run, entry(), tmp_path)
    frames = imageio_ffmpeg.read_frames(str(done.folder / "videos" / f"{TASK}_301_0.mp4"))
    assert next(frames)["size"] == (672, 448)
    picture = np.frombuffer(next(frames), np.uint8).reshape(448, 672, 3)  # after the first step
    assert picture[112, 112].argmax() == 1  # left wrist above, green
    assert picture[336, 112].argmax() == 2  # right wrist below, blue
    assert picture[224, 448].argmax() == 0  # head at the right, red
    assert picture[440, 660].argmax() == 0
    assert picture.min(axis=2).max() < 100  # nothing of what stands below in ours


FAULTS = {
    "the twin": ({"sim": "mujoco"}, "twin"),
    "on demand": ({"render": "on-demand"}, "every-step"),
    "another split": ({"split": "train"}, "train"),
    "a lower limit": ({"max_steps": 10}, "time limit"),
    "noise": ({"action_noise": "0.01"}, "--action-noise"),
    "2025 unmasked": ({"protocol": "2025", "max_steps": 40}, "--track standard"),
    "part of the house": (
        {"protocol": "2025", "max_steps": 40, "track": "standard", "partial_scene": True},
        "leave --partial-scene out",
    ),
    "an instance that does not count": ({"outcomes": {10: "success"}}, "instance 10"),
    "two rollouts": ({"outcomes": {0: ["success", "failure"]}}, "2 rollouts"),
    "an error": ({"outcomes": {0: "success", 1: "error"}}, "ended as an error"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_that_is_no_submission_is_refused_for_its_reason_alone(tmp_path, video, fault):
    changes, words = FAULTS[fault]
    run = read_run_data(submittable(tmp_path / "run", video=video, **changes))
    (reason,) = objections(run, "standard")
    assert words in reason
    with pytest.raises(UsageError, match="--force-draft"):
        export_run(run, entry(), tmp_path)
    assert not [p for p in tmp_path.iterdir() if "standard" in p.name]


def test_privileged_unfinished_and_unfilmed_runs_are_refused(tmp_path):
    folder = submittable(tmp_path / "run", video=None)
    record = json.loads((folder / "run.json").read_text())
    record["identity"]["privileged"] = True
    record["identity"]["settings"]["instances"] = list(range(10))
    record["identity"]["human"]["distance_traveled"] = None
    (folder / "run.json").write_text(json.dumps(record))
    reasons = " / ".join(objections(read_run_data(folder), "standard"))
    for words in ("simulator's state", "--human-stats", "is not finished", "has no video"):
        assert words in reasons
    assert "simulator's state" not in " ".join(objections(read_run_data(folder), "privileged"))


def test_a_draft_says_so_everywhere_and_the_scorer_refuses_it(tmp_path, video):
    run = read_run_data(submittable(tmp_path / "run", video=video, sim="mujoco"))
    done = export_run(run, entry(), tmp_path, draft=True)
    assert done.objections
    assert "twin" in (done.folder / "DRAFT.txt").read_text()
    for file in (done.folder / "json").iterdir():
        assert next(iter(json.loads(file.read_text()))) == "DRAFT"
    with pytest.raises(RefusedError, match="track"):
        score(done.folder, NAMES)
    assert score(done.folder.rename(tmp_path / "standard.public.a.b.c"), NAMES)  # but for its name


@pytest.mark.parametrize(("what", "text"), [("team", "a.b"), ("affiliation", "x/y"), ("team", " ")])
def test_a_name_that_the_folder_cannot_carry_is_refused(what, text):
    with pytest.raises(UsageError, match=f"--{what}"):
        entry(**{what: text})


# --- results of others ----------------------------------------------------------------------

OFFICIAL_2025 = {  # as learning/eval.py files it: figures only
    "agent_distance": {"base": 2.0, "left": 1.5, "right": 0.0},
    "normalized_agent_distance": {"base": 14.3, "left": 20.0, "right": math.inf},
    "q_score": {"final": 0.5},
    "time": {"simulator_steps": 600, "simulator_time": 20.0, "normalized_time": 13.725},
}


def filed(folder: Path, results: dict[str, dict]) -> Path:
    folder.mkdir(parents=True)
    for name, content in results.items():
        (folder / name).write_text(json.dumps(content))
    return folder.parent


def test_results_of_the_2025_evaluator_are_read(tmp_path):
    source = filed(tmp_path / "log" / "metrics", {f"{TASK}_17_0.json": OFFICIAL_2025})
    (folder,) = import_results(source, tmp_path / "run")
    run = read_run_data(folder)
    assert run.identity["settings"]["protocol"] == "2025"
    (episode,) = run.episodes
    assert (episode.q_score, episode.outcome, episode.steps) == (0.5, "failure", 600)
    assert episode.efficiency["normalized_agent_distance"]["right"] is None
    assert episode.efficiency["normalized_agent_distance"]["base"] == 14.3
    assert run.identity["human"]["length"] == pytest.approx(8235)
    assert run.identity["human"]["distance_traveled"] == pytest.approx(28.6)


def test_a_way_that_is_nan_is_read_as_not_known(tmp_path):
    """What an evaluator files whose simulator gave positions that were none, and we export."""
    content = {
        **OFFICIAL_2025,
        "agent_distance": {"base": 2.0, "left": math.nan, "right": 0.0},
        "normalized_agent_distance": {"base": 14.3, "left": math.nan, "right": math.inf},
    }
    source = filed(tmp_path / "log" / "metrics", {f"{TASK}_17_0.json": content})
    (folder,) = import_results(source, tmp_path / "run")
    (episode,) = read_run_data(folder).episodes
    assert episode.efficiency["agent_distance"] == {"base": 2.0, "left": None, "right": 0.0}
    assert episode.efficiency["normalized_agent_distance"]["left"] is None
    assert "left is null: officially NaN, which JSON does not have" in episode.efficiency["notes"]


def test_results_of_the_2026_evaluator_are_read_task_by_task(tmp_path):
    def result(task, number, **changes):
        return {"task": task, "instance_id": number, "rollout_id": 0, **OFFICIAL_2025, **changes}

    lost = {"success": False, "failure_reason": "policy_connection_lost", "q_score": {"final": 0}}
    source = filed(
        tmp_path / "out" / "json",
        {
            f"{TASK}_301_0.json": result(TASK, 301, success=False),
            f"{TASK}_309_0.json": result(TASK, 309, **lost),
            "turning_on_radio_302_0.json": result(
                "turning_on_radio", 302, success=True, q_score={"final": 1.0}
            ),
        },
    )
    folders = import_results(source, tmp_path / "runs")
    radio, gloves = sorted((read_run_data(f) for f in folders), key=lambda run: -len(run.task))[
        ::-1
    ]
    if radio.task == TASK:
        radio, gloves = gloves, radio
    assert [e.key.instance for e in gloves.episodes] == [0, 8]
    assert gloves.episodes[1].failure_reason == "policy_connection_lost"
    assert radio.counts["success"] == 1
    assert radio.identity["settings"]["split"] == "public-test"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("other.json", OFFICIAL_2025, "is not named"),
        ("no_such_task_301_0.json", OFFICIAL_2025, "is not named"),
        (f"{TASK}_301_0.json", {"q_score": {"final": 2.0}}, "not a result of the official"),
        (f"{TASK}_301_0.json", [], "not a result of the official"),
        (
            f"{TASK}_301_0.json",
            {**OFFICIAL_2025, "time": {**OFFICIAL_2025["time"], "simulator_time": 99.0}},
            "600 steps cannot last 99.0 s",
        ),
    ],
)
def test_a_file_of_others_that_is_none_of_the_evaluators_is_named(tmp_path, name, content, words):
    source = filed(tmp_path / "out" / "json", {name: content})
    with pytest.raises(UsageError, match=words) as caught:
        import_results(source, tmp_path / "run")
    assert name in str(caught.value)


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no results of the official evaluator"):
        import_results(tmp_path, tmp_path / "run")


def test_imported_runs_are_compared(tmp_path):
    from b1k_eval.cli.main import app

    folders = []
    for name, q_score in (("a", 0.0), ("b", 1.0)):
        results = {
            f"{TASK}_{number}_0.json": {
                **OFFICIAL_2025,
                "instance_id": number,
                "success": q_score == 1.0,
                "q_score": {"final": q_score},
            }
            for number in range(301, 311)
        }
        source = filed(tmp_path / name / "json", results)
        folders += import_results(source, tmp_path / f"run-{name}")
    done = CliRunner().invoke(app, ["compare", *map(str, folders), "--json"])
    assert done.exit_code == 0, done.output
    rates = [row["success"]["rate"] for row in json.loads(done.stdout)["runs"]]
    assert rates == [0.0, 1.0]


def test_an_imported_run_has_a_page(tmp_path, video):
    from b1k_eval.cli.main import app

    run = read_run_data(submittable(tmp_path / "run", video=video))
    done = export_run(run, entry(), tmp_path)
    (folder,) = import_results(done.folder, tmp_path / "back")
    result = CliRunner().invoke(app, ["report", str(folder), "--out", str(tmp_path / "page")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "page" / "report.html").is_file()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "turning_on_radio"}, "task is 'turning_on_radio'"),
        ({"instance_id": 777}, "instance_id is 777, expected 301"),
        ({"rollout_id": 3}, "rollout_id is 3, expected 0"),
        ({"steps": 11}, "steps is 11, expected 600"),
        ({"success": True}, "success is True, expected False"),
    ],
)
def test_a_file_that_contradicts_its_name_or_itself_is_refused(tmp_path, changes, words):
    content = {"task": TASK, "instance_id": 301, "rollout_id": 0, **OFFICIAL_2025, **changes}
    source = filed(tmp_path / "out" / "json", {f"{TASK}_301_0.json": content})
    with pytest.raises(UsageError, match=words):
        import_results(source, tmp_path / "run")


def test_results_of_the_other_year_are_refused_when_a_year_is_named(tmp_path):
    source = filed(tmp_path / "log" / "metrics", {f"{TASK}_17_0.json": OFFICIAL_2025})
    with pytest.raises(UsageError, match="results of the 2025 evaluator, not of 2026"):
        import_results(source, tmp_path / "run", protocol="2026")


@pytest.mark.parametrize("lost", ["human", "instance_ids", "env", "settings"])
def test_a_damaged_record_of_an_export_is_named(tmp_path, video, lost):
    run = read_run_data(submittable(tmp_path / "run", video=video))
    folder = export_run(run, entry(), tmp_path).folder
    record = json.loads((folder / "export.json").read_text())
    del record["runs"][0][lost]
    (folder / "export.json").write_text(json.dumps(record))
    with pytest.raises(UsageError, match=r"export\.json") as error:
        import_results(folder, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    (name,) = re.findall(r": remove (\S+), to import", str(error.value))
    (folder / name).unlink()  # as it says
    assert import_results(folder, tmp_path / "back") == [tmp_path / "back"]


def test_an_import_of_several_tasks_writes_all_of_them_or_none(tmp_path):
    def result(task):
        return {"task": task, "instance_id": 301, "rollout_id": 0, **OFFICIAL_2025}

    files = {f"{task}_301_0.json": result(task) for task in (TASK, "turning_on_radio")}
    source = filed(tmp_path / "out" / "json", files)
    import_results(source, tmp_path / "runs")
    shutil.rmtree(tmp_path / "runs" / "turning_on_radio")
    with pytest.raises(UsageError, match="holds a run already: choose another --out"):
        import_results(source, tmp_path / "runs")
    assert not (tmp_path / "runs" / "turning_on_radio").exists()


@pytest.mark.parametrize("there", [False, True])
def test_an_import_that_a_full_disk_ends_leaves_nothing_and_can_be_started_again(
    tmp_path, monkeypatch, there
):
    def result(task):
        return {"task": task, "instance_id": 301, "rollout_id": 0, **OFFICIAL_2025}

    files = {f"{task}_301_0.json": result(task) for task in (TASK, "turning_on_radio")}
    source = filed(tmp_path / "out" / "json", files)
    if there:
        (tmp_path / "runs" / "turning_on_radio").mkdir(parents=True)
    append = RunStore._append

    def full(store, line):
        if line["task"] != TASK:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(store, line)

    monkeypatch.setattr(RunStore, "_append", full)
    with pytest.raises(StorageError, match=r"free some space, then start again, or choose another"):
        import_results(source, tmp_path / "runs")
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "runs").rglob("*") if path.name != ".lock"] == (
        ["turning_on_radio"] if there else []
    )
    assert len(import_results(source, tmp_path / "runs")) == 2


def test_an_export_that_fails_leaves_no_submission(tmp_path, video):
    broken = tmp_path / "broken.mp4"
    whole = video(12).read_bytes()
    at = whole.index(b"mdat") + 4
    broken.write_bytes(whole[:at] + bytes(len(whole) - at))  # an index, and nothing it speaks of
    run = read_run_data(submittable(tmp_path / "run", video=lambda steps: video(steps)))
    shutil.copyfile(broken, run.episodes[0].video)
    with pytest.raises(StorageError, match="the video is damaged") as caught:
        export_run(run, entry(), tmp_path)
    assert "0x" not in str(caught.value)
    assert not [path for path in tmp_path.iterdir() if "standard" in path.name]


def test_official_results_compare_with_a_run_of_our_own(tmp_path, video):
    from b1k_eval.comparison.comparable import differences

    original = read_run_data(submittable(tmp_path / "run", video=video))
    done = export_run(original, entry(), tmp_path)
    (done.folder / "export.json").unlink()  # somebody else's: only what the evaluator writes
    (folder,) = import_results(done.folder, tmp_path / "back")
    back = read_run_data(folder)
    assert back.identity["settings"]["max_steps"] == LIMIT
    assert differences(original, back).blocking == ()
    assert [e.truncated for e in back.episodes] == [e.truncated for e in original.episodes]


def test_imported_results_cannot_be_resumed(tmp_path):
    from b1k_eval.cli.main import app

    source = filed(tmp_path / "log" / "metrics", {f"{TASK}_17_0.json": OFFICIAL_2025})
    (folder,) = import_results(source, tmp_path / "run")
    done = CliRunner().invoke(app, ["run", "--resume", "--out", str(folder)])
    assert done.exit_code == 2
    assert "imported results cannot be resumed" in done.output


def test_replay_of_imported_results_says_that_there_is_nothing_to_replay(tmp_path):
    from b1k_eval.cli.main import app

    source = filed(tmp_path / "log" / "metrics", {f"{TASK}_17_0.json": OFFICIAL_2025})
    (folder,) = import_results(source, tmp_path / "run")
    done = CliRunner().invoke(app, ["replay", str(folder), "17", "--json"])
    assert done.exit_code == 2
    assert "the official evaluator files no actions, so there is nothing to replay" in done.stderr
    assert json.loads(done.stdout)["error"]["exit_code"] == 2
    done = CliRunner().invoke(app, ["report", str(folder), "--out", str(tmp_path / "page")])
    assert done.exit_code == 0, done.output  # where the message sends people


# --- figures that cannot be, or are odd -----------------------------------------------------------


def official(steps=600, human=8235.0, *, turned=False, **changes):
    """A file of the 2025 evaluator, by hand: ratios are human over policy, or turned."""
    distance = {"base": 2.0, "left": 1.5, "right": 1.0}
    theirs = {"base": 28.6, "left": 30.0, "right": 20.0}
    ratios = {body: theirs[body] / distance[body] for body in distance}
    time = human / steps
    if turned:
        ratios, time = {body: 1 / ratio for body, ratio in ratios.items()}, 1 / time
    return {
        "agent_distance": distance,
        "normalized_agent_distance": ratios,
        "q_score": {"final": 0.5},
        "time": {"simulator_steps": steps, "simulator_time": steps / 30, "normalized_time": time},
        **changes,
    }


def put(result, path, value):
    *blocks, last = path.split("/")
    inner = result
    for name in blocks:
        inner = inner[name]
    inner[last] = value
    return result


IMPOSSIBLE = {
    "a ratio the wrong way round": (
        [official(turned=True)],
        "the task table has 8235: the ratios are the wrong way round, policy over human",
    ),
    "the same in two files": (
        [official(600, turned=True), official(900, turned=True)],
        "do not agree on the human length.*the wrong way round",
    ),
    "two human lengths": (
        [official(600), official(600, 9000.0)],
        "do not agree on the human length: their figures and ratios make 8235 and 9000",
    ),
    "two human distances": (
        [official(), put(official(), "normalized_agent_distance/left", 1.0)],
        "do not agree on the human left: their figures and ratios make 30 and 1.5",
    ),
    "a ratio of nothing": ([put(official(), "time/normalized_time", 0.0)], "length is 600 and 0"),
    "a way without length": (
        [put(official(), "agent_distance/base", 0.0)],
        "base is 0 and 14.3 relative to the human figure",
    ),
    "an endless ratio": (
        [put(official(), "normalized_agent_distance/right", math.inf)],
        "right is 1 and inf relative",
    ),
    "a limit of nothing": ([official(60_000, 0.4)], "with which there is no time limit"),
    "an endless way": ([put(official(), "agent_distance/base", math.inf)], "or infinite"),
    "a ratio of nobody": (
        [put(official(), "normalized_agent_distance/left", math.nan)],
        "a ratio is negative or no number",
    ),
    "a missing way": (
        [put(official(), "agent_distance/base", None)],
        "not a result of the official",
    ),
}


@pytest.mark.parametrize("fault", IMPOSSIBLE)
def test_figures_that_cannot_be_are_refused_by_file(tmp_path, fault):
    contents, words = IMPOSSIBLE[fault]
    results = {f"{TASK}_{number}_0.json": each for number, each in enumerate(contents)}
    source = filed(tmp_path / "log" / "metrics", results)
    with pytest.raises(UsageError, match=words) as caught:
        import_results(source, tmp_path / "run")
    assert f"{TASK}_0_0.json" in str(caught.value)
    assert not (tmp_path / "run").exists()


ODD = {
    "other demonstrations": (
        [official(9001, 6000.0), official(12_001, 6000.0)],
        ["the human mean of length is 6000 in these results and 8235 in the task table"],
    ),
    "a lower limit": (
        [official(16_471), official(600)],
        ["_1_0.json: a failure after 600 steps, before the official limit of 16470"],
    ),
    "a higher limit": (
        [official(16_471), official(20_001)],
        ["_1_0.json: 20001 steps, more than the official limit of 16470"],
    ),
    "another way": (
        [put(official(16_471), "agent_distance/base", 4.0)],
        ["the human mean of base is 57.2 in these results and 28.6 in the task table"],
    ),
    "nothing": ([official(16_471), official(600, q_score={"final": 1.0})], []),
}


@pytest.mark.parametrize("oddity", ODD)
def test_figures_that_are_odd_are_remarked_and_recorded(tmp_path, oddity):
    from b1k_eval.cli.main import app

    contents, words = ODD[oddity]
    results = {f"{TASK}_{number}_0.json": each for number, each in enumerate(contents)}
    source = filed(tmp_path / "log" / "metrics", results)
    command = ["import", str(source), "--out", str(tmp_path / "run"), "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)["remarks"][1:]  # after what is assumed of the year
    recorded = json.loads((tmp_path / "run" / "run.json").read_text())["sessions"][0]["remarks"]
    assert said == recorded
    for word in words:
        assert any(word in text for text in said), said
        assert word in " ".join(done.stderr.split())
    if not words:
        assert said == []


def test_an_export_whose_files_were_changed_is_refused(tmp_path, video):
    run = read_run_data(submittable(tmp_path / "run", video=video))
    folder = export_run(run, entry(), tmp_path).folder
    file = folder / "json" / f"{TASK}_301_0.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(put(content, "normalized_agent_distance/left", 9.0)))
    with pytest.raises(UsageError, match=r"export\.json says 41|do not agree on the human left"):
        import_results(folder, tmp_path / "back")
