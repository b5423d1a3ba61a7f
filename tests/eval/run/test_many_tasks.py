"""One run of several tasks: chosen by words, dealt by scene, resumed, and told apart by task."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from doubles import RandomWalkPolicy, ToyEnv
from typer.testing import CliRunner

from b1k_envs.base import make_several
from b1k_envs.errors import UsageError
from b1k_envs.tasks.selection import select_tasks
from b1k_envs.tasks.table import TASKS, get_task, human_stats
from b1k_eval.cli.main import app
from b1k_eval.cli.task_choice import resolve_tasks
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.records.identity import check_identity, joined, of_each_task
from b1k_eval.records.loading import read_run_data, read_tasks
from b1k_eval.records.store import open_run
from b1k_eval.run.dealing import Dealer
from b1k_eval.run.episode import Assembly
from b1k_eval.run.launch import launch, plan_episodes
from b1k_eval.run.progress.reporter import Reporter
from b1k_eval.run.watchdog import CallLimits

TIMED = ("latency_s", "wait_s")
TYPED = {"policy": "hold", "sim": "mujoco", "max_steps": 20}
GLOVES, RADIO = "clean_boxing_gloves", "turning_on_radio"


def indices(text):
    return [task.index for task in select_tasks(text)]


def test_tasks_are_chosen_by_index_name_range_and_group():
    assert indices("31") == [31]
    assert indices(f" {GLOVES} , 0") == [31, 0]
    assert indices("0-49") == list(range(50))
    assert indices("b10") == list(range(10))
    assert indices("B50,3-4") == [*range(40, 50), 3, 4]
    assert indices("all") == [task.index for task in TASKS] == list(range(100))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("31,clean_boxing_gloves", "task 31 clean_boxing_gloves is named twice"),
        ("b10,7", "task 7 picking_up_toys is named twice"),
        ("9-3", "the range 9-3 runs backwards"),
        ("90-100", "there is no task 100: indices run from 0 to 99"),
        ("31,", "names nothing between two commas"),
        ("b60", "there is no task 'b60'"),
    ],
)
def test_what_names_no_task_is_refused(text, says):
    with pytest.raises(UsageError) as refused:
        select_tasks(text)
    assert says in str(refused.value)


def test_impossible_tasks_are_refused_by_name_unless_they_are_to_be_skipped():
    with pytest.raises(UsageError) as refused:
        resolve_tasks({**TYPED, "task": "0-2,31"})
    assert str(refused.value) == (
        "2 of 4 tasks cannot be done here (1 picking_up_trash, 2 "
        "putting_away_Halloween_decorations: the MuJoCo twin only has scenes for "
        "turning_on_radio, clean_boxing_gloves (--sim omnigibson)); --skip-impossible leaves "
        "them out"
    )
    chosen, (remark,) = resolve_tasks({**TYPED, "task": "0-2,31"}, skip_impossible=True)
    assert [each.task for each in chosen] == [GLOVES, RADIO]
    assert remark.startswith("left out: 2 of 4 tasks cannot be done here (1 picking_up_trash, 2 ")
    with pytest.raises(UsageError, match="2 of 2 tasks cannot be done here"):
        resolve_tasks({**TYPED, "task": "1,2"}, skip_impossible=True)


def test_a_task_that_is_newer_than_the_protocol_is_impossible():
    typed = {**TYPED, "task": "0,60", "protocol": "2025"}
    with pytest.raises(UsageError, match="60 scrubbing_bathroom_floor: the 2025 challenge has"):
        resolve_tasks(typed)


def test_each_task_has_its_own_time_limit_and_the_rest_is_shared():
    typed = {name: value for name, value in TYPED.items() if name != "max_steps"}
    chosen, remarks = resolve_tasks({**typed, "task": "31,0", "instances": "3-4"})
    assert not remarks
    assert [(each.task, each.max_steps) for each in chosen] == [
        (each, get_task(each).max_steps("2026")) for each in (GLOVES, RADIO)
    ]
    assert {each.instances for each in chosen} == {(3, 4)}


def test_what_is_wrong_for_every_task_is_said_as_for_one():
    with pytest.raises(UsageError, match="--horizon only means something with --chunking receding"):
        resolve_tasks({**TYPED, "task": "0,31", "chunking": "ensemble", "horizon": 3})
    with pytest.raises(UsageError, match="--until-decided compares runs of one task"):
        resolve_tasks({**TYPED, "task": "0,31", "against": "x"})


# --- dealing ------------------------------------------------------------------------------------


def plan_of(task, count):
    return plan_episodes(get_task(task), range(count), 1, 0, "2026")


def test_a_worker_keeps_its_scene_then_takes_a_free_one_then_helps_where_most_is_left():
    dealer = Dealer([*plan_of(31, 3), *plan_of(0, 2), *plan_of(5, 1)])
    assert dealer.task_for(None) == GLOVES
    assert dealer.task_for(None, [GLOVES]) == RADIO
    assert dealer.task_for(RADIO, [GLOVES]) == RADIO
    assert [dealer.take(RADIO).instance for _ in range(2)] == [0, 1]
    assert dealer.take(RADIO) is None
    assert dealer.task_for(RADIO, [GLOVES]) == "setting_mousetraps"
    dealer.take("setting_mousetraps")
    assert dealer.task_for(RADIO, [GLOVES]) == GLOVES
    assert len(dealer) == dealer.left(GLOVES) == 3
    for _ in range(3):
        dealer.take(GLOVES)
    with pytest.raises(LookupError, match="no episode is left"):
        dealer.task_for(GLOVES)


# --- a run --------------------------------------------------------------------------------------


class TaskEnv(ToyEnv):
    """A toy world of one task, which leaves a mark on disk when it is built."""

    def __init__(self, task, marks, **options):
        super().__init__(**options)
        self.info = replace(self.info, task=get_task(task).name, task_index=task)
        with Path(marks).open("a") as file:
            file.write(f"{task}\n")


def run_both(
    folder, marks, *, workers=1, num_envs=1, enough=lambda store: False, reporter=None, **options
):
    tasks = [get_task(31), get_task(0)]
    plan = [e for task in tasks for e in plan_episodes(task, range(4), 1, 3, "2026")]
    of_tasks = {
        task.name: {
            "make_worlds": partial(
                make_several, partial(TaskEnv, task.index, str(marks)), num_envs
            ),
            "human": human_stats(task),
            "max_steps": 50,
            "title": task.name,
        }
        for task in tasks
    }
    assembly = Assembly(
        **of_tasks[GLOVES],
        of_tasks=of_tasks,
        num_envs=num_envs,
        make_policy=RandomWalkPolicy,
        make_chunking=partial(RecedingHorizon, 4),
        **options,
    )
    record = {"format": 1, "identity": {"settings": {}}, "sessions": [{}]}
    store = open_run(folder, record, resume=True)
    try:
        launch(
            assembly, plan, store, reporter=reporter or Reporter(), workers=workers,
            enough=lambda: enough(store),
        )  # fmt: skip
    finally:
        store.close()
    lines = [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]
    return {(e["task"], e["instance"]): (e["seed"], e["steps"], e["q_score"]) for e in lines}


@pytest.mark.slow
def test_both_tasks_are_done_with_one_world_each_and_workers_change_nothing(tmp_path):
    alone = run_both(tmp_path / "one", tmp_path / "one.txt")
    assert list(alone) == [(task, n) for task in (GLOVES, RADIO) for n in range(4)]
    assert (tmp_path / "one.txt").read_text().split() == ["31", "0"]
    shared = run_both(tmp_path / "two", tmp_path / "two.txt", workers=2, num_envs=2)
    assert shared == alone
    built = Counter((tmp_path / "two.txt").read_text().split())
    # Two lanes each; whoever is done first may build the other's world to help.
    assert set(built) == {"31", "0"}
    assert built["31"] + built["0"] <= 6


class Notes(Reporter):
    def __init__(self):
        self.said = []

    def note(self, text):
        self.said.append(text)


@pytest.mark.slow
def test_a_simulator_that_a_process_can_start_once_gets_a_new_process_for_each_task(tmp_path):
    alone = run_both(tmp_path / "one", tmp_path / "one.txt")
    notes = Notes()
    watched = run_both(tmp_path / "two", tmp_path / "two.txt", limits=CallLimits(), reporter=notes)
    assert watched == alone
    assert (tmp_path / "two.txt").read_text().split() == ["31", "0"]
    assert [text.split()[0:3] for text in notes.said] == [["starting", "a", "world,"]] * 2
    worlds = json.loads((tmp_path / "two" / "run.json").read_text())["sessions"][0]["worlds"]
    assert [world["task"] for world in worlds] == [GLOVES, RADIO]


def test_a_run_of_several_tasks_goes_on_where_it_was_stopped(tmp_path):
    whole = run_both(tmp_path / "whole", tmp_path / "a.txt")
    for done in (3, 6):
        run_both(
            tmp_path / "run", tmp_path / "b.txt",
            enough=lambda store, done=done: len(store.episodes) >= done,
        )  # fmt: skip
    assert run_both(tmp_path / "run", tmp_path / "b.txt") == whole


def command(*words, expect=0):
    result = CliRunner().invoke(app, ["run", *map(str, words)])
    assert result.exit_code == expect, result.output
    return result


def test_a_run_of_the_twins_tasks_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--policy", "hold", "--max-steps", 4, "--no-video"]
    done = command("--task", "31,0,5", "--skip-impossible", *options, "--json")
    document = json.loads(done.stdout)
    assert [(each["task"], each["counts"]["failure"]) for each in document["tasks"]] == [
        (GLOVES, 1),
        (RADIO, 1),
    ]
    assert document["over_tasks"]["success_rate"]["mean"] == 0.0
    assert document["over_tasks"]["success_rate"]["interval"]["low"] == 0.0
    assert document["over_tasks"]["tasks_scored"] == 2
    assert document["remarks"][0].startswith("left out: 1 of 3 tasks")
    run = Path(document["run"])
    assert run.name.endswith("-2-tasks-hold")
    shown = command("--resume", "--out", run).stdout  # the run knows its tasks
    assert "2 tasks: hold, mujoco, protocol 2026" in shown
    assert "over 2 of 2 tasks, each with the same weight: success rate 0% (0% to 84%)" in shown
    refused = command("--resume", "--out", run, "--task", "31", expect=2)
    assert f"task {GLOVES}, {RADIO} -> {GLOVES}" in refused.output
    again = command("--resume", "--out", run, "--task", "31,0,5", "--skip-impossible")
    assert "2 tasks: hold" in again.stdout  # the same one is left out
    command("--task", "31", *options, "--out", tmp_path / "alone")
    refused = command("--resume", "--out", tmp_path / "alone", "--task", "31,0", expect=2)
    assert f"task {GLOVES} -> {GLOVES}, {RADIO}" in refused.output
    refused = command("--task", "0-2", *options, expect=2)
    assert "2 of 3 tasks cannot be done here (1 picking_up_trash, 2 putting_" in refused.output


@pytest.mark.slow
def test_a_run_of_two_tasks_that_is_killed_three_times_is_complete_in_the_end(tmp_path):
    run, count = tmp_path / "run", 4
    words = [
        "run", "--task", "31,0", "--policy", "random", "--instances", f"0-{count - 1}",
        "--max-steps", "150", "--no-video", "--workers", "2", "--resume", "--out", str(run),
    ]  # fmt: skip
    lines = run / "episodes.jsonl"

    def finished():
        return lines.read_text().count("\n") if lines.exists() else 0

    for stop in (1, 3, 6, 2 * count + 1):
        process = subprocess.Popen(
            [sys.executable, "-c", "from b1k_eval.cli.main import main; main()", *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and finished() < stop:
            time.sleep(0.02)
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert [len(part.episodes) for part in read_tasks(run)] == [count, count]
    assert finished() == 2 * count == len(list((run / "episodes").iterdir()))
    whole = tmp_path / "whole"
    words[-1] = str(whole)
    assert CliRunner().invoke(app, words).exit_code == 0
    for one, other in zip(read_tasks(run), read_tasks(whole), strict=True):
        for episode, expected in zip(one.episodes, other.episodes, strict=True):
            columns = [c for c in pd.read_parquet(episode.trace) if c not in TIMED]
            pd.testing.assert_frame_equal(
                pd.read_parquet(episode.trace)[columns], pd.read_parquet(expected.trace)[columns]
            )


# --- the record ---------------------------------------------------------------------------------


def identity_of(task, **settings):
    return {
        "settings": {"task": task, "instances": [0, 1], "max_steps": len(task), **settings},
        "policy": {"name": "hold"},
        "env": {"settings": {"of": task}},
        "human": {"length": len(task)},
        "privileged": False,
    }


def test_a_record_of_several_tasks_reads_back_as_one_of_each():
    parts = [identity_of(task, seed=4) for task in (GLOVES, RADIO)]
    whole = joined(parts)
    assert whole["settings"] == {"seed": 4}
    assert list(whole["tasks"]) == [GLOVES, RADIO]
    assert of_each_task(whole) == parts
    assert joined(parts[:1]) == parts[0]
    assert of_each_task(parts[0]) == parts[:1]


def test_a_resume_with_another_limit_or_other_tasks_is_refused_once_per_difference(tmp_path):
    known = {"identity": joined([identity_of(task, seed=4) for task in (GLOVES, RADIO)])}
    check_identity(tmp_path, known, known)
    asked = {"identity": joined([identity_of(task, seed=5) for task in (GLOVES, RADIO)])}
    with pytest.raises(UsageError, match=r"with these: settings\.seed 4 -> 5\. Repeat"):
        check_identity(tmp_path, known, asked)
    asked = {"identity": identity_of(RADIO, seed=4)}
    with pytest.raises(UsageError, match=f"task {GLOVES}, {RADIO} -> {RADIO}"):
        check_identity(tmp_path, known, asked)


def test_damaged_tasks_are_told(tmp_path):
    (tmp_path / "run.json").write_text(
        json.dumps({"format": 1, "identity": {"settings": {}, "tasks": [1]}, "sessions": [{}]})
    )
    with pytest.raises(UsageError, match=r"run.json is damaged \(in identity.tasks"):
        read_tasks(tmp_path)
    with pytest.raises(UsageError, match=r"run.json is damaged \(in identity.tasks"):
        read_run_data(tmp_path)
