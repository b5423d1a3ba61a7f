"""A world that hangs, crashes or fails costs the episode it was busy with, and nothing else."""

from __future__ import annotations

import json
import multiprocessing
from functools import partial

import numpy as np
import pytest
from stuck_worlds import AbsentPolicy, StuckEnv, run_stuck

from b1k_envs.base import Worlds
from b1k_envs.errors import EnvError
from b1k_eval.records.run_files import read_episodes
from b1k_eval.run.watchdog import CallLimits, Watch, WatchedEnv, WatchedWorlds

SHORT = CallLimits(start_s=60, reset_s=60, step_s=1.5, observe_s=60, close_s=60)


def outcomes(folder):
    return {key.instance: line for key, line in read_episodes(folder).items()}


def own_contents(folder):
    """What is left of an episode, without wall times."""
    found = {}
    for path in sorted((folder / "episodes").rglob("result.json")):
        found[path.parent.name] = {**json.loads(path.read_text()), "timing": None}
    return found


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The same run in a world that is well."""
    folder = tmp_path_factory.mktemp("sound") / "run"
    run_stuck(folder)
    return own_contents(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "limits", "words"),
    [
        ("start", CallLimits(start_s=0.3), "starting the world took longer than 0.3 s"),
        (
            "reset",
            CallLimits(reset_s=0.3),
            "resetting the world and loading the instance took longer",
        ),
        ("step", CallLimits(step_s=0.3), "a control step took longer than 0.3 s"),
        (
            "observe",
            CallLimits(observe_s=0.3),
            "rendering or reading the world took longer than 0.3 s",
        ),
    ],
)
def test_a_call_that_hangs_is_ended_at_its_limit_and_named(tmp_path, phase, limits, words):
    run_stuck(tmp_path / "run", 1, phase=phase, how="hang", instances=[0], limits=limits)
    (line,) = outcomes(tmp_path / "run").values()
    assert line["outcome"] == "error"
    assert f"the simulator hangs: {words}" in line["message"]


@pytest.mark.slow
def test_the_run_goes_on_after_a_hang_and_resume_makes_up_for_it(tmp_path, sound):
    folder = tmp_path / "run"
    run_stuck(folder, phase="step", how="hang", instances=[1, 3], limits=SHORT)
    lines = outcomes(folder)
    assert [lines[i]["outcome"] == "error" for i in range(5)] == [False, True, False, True, False]
    kept = {p: p.stat().st_mtime_ns for p in (folder / "episodes").rglob("result.json")}
    store, _ = run_stuck(folder)
    assert own_contents(folder) == sound
    assert list(store.episodes) == sorted(store.episodes)
    again = {p.parent.name for p, before in kept.items() if p.stat().st_mtime_ns != before}
    assert again == {"clean_boxing_gloves-1-0", "clean_boxing_gloves-3-0"}
    assert not list(folder.rglob(".tmp-*"))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("exit", "the worker process died (exit code 3)"),
        ("raise", "EnvError: OmniGibson failed during a step"),
        *(
            pytest.param(*rare, marks=pytest.mark.slow)
            for rare in (
                ("abort", "the worker process died (exit code -6)"),
                ("memory", "HostFaultError: out of memory during a step in OmniGibson"),
                ("nan", "EnvError: observation proprio has NaN"),
                ("other", "IndexError: list index out of range"),
            )
        ),
    ],
)
def test_whatever_a_world_does_the_others_are_scored(tmp_path, sound, how, message):
    folder = tmp_path / "run"
    run_stuck(folder, phase="step", how=how, instances=[1])
    lines = outcomes(folder)
    assert lines[1]["outcome"] == "error"
    assert lines[1]["message"].startswith(message)
    left = own_contents(folder)
    del left["clean_boxing_gloves-1-0"]
    assert left == {name: record for name, record in sound.items() if name in left}
    assert len(left) == 4


@pytest.mark.slow
def test_after_an_error_the_next_episode_gets_a_new_process(tmp_path):
    marker = tmp_path / "built"
    run_stuck(tmp_path / "run", phase="reset", how="raise", instances=[1, 2], marker=str(marker))
    processes = marker.read_text().split()
    assert len(processes) == len(set(processes)) == 3  # 0 and 1; 2; 3 and 4


def test_what_a_simulator_says_goes_to_a_file_that_the_error_names(tmp_path, capfd):
    run_stuck(tmp_path / "run", 2, phase="step", how="abort", instances=[0])
    message = outcomes(tmp_path / "run")[0]["message"]
    name = message.rpartition("its output is in ")[2]
    said = (tmp_path / "run" / name).read_text()
    assert "native code has a last word" in said
    assert "in step" in said  # where it was, by faulthandler
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.slow
def test_a_process_that_is_killed_says_where_it_was(tmp_path):
    run_stuck(tmp_path / "run", 1, phase="step", how="hang", instances=[0], limits=SHORT)
    (log,) = (tmp_path / "run" / "logs").iterdir()
    assert "in hang" in log.read_text()


@pytest.mark.parametrize("num_envs", [1, 2])
def test_a_policy_that_cannot_be_had_leaves_the_world_standing(tmp_path, num_envs):
    """A world takes minutes to start; it is no world's fault that a policy server is away."""
    marker, there = tmp_path / "built", str(tmp_path / "there")
    policy = partial(AbsentPolicy, there)
    run_stuck(tmp_path / "run", 4, num_envs=num_envs, policy=policy, marker=str(marker))
    lines = outcomes(tmp_path / "run")
    away = [i for i in range(4) if lines[i]["outcome"] == "error"]
    assert away == ([0, 1][:num_envs])
    assert all("no policy server" in lines[i]["message"] for i in away)
    assert len(set(marker.read_text().split())) == 1


@pytest.mark.slow
def test_a_world_that_never_comes_up_ends_the_run_after_three_tries(tmp_path):
    marker = tmp_path / "built"
    with pytest.raises(EnvError, match=r"^the world failed to start 3 times in a row \(.*--resume"):
        run_stuck(tmp_path / "run", 9, phase="start", how="raise", marker=str(marker))
    assert len(marker.read_text().split()) == 3
    assert [line["outcome"] for line in outcomes(tmp_path / "run").values()] == ["error"] * 3
    run_stuck(tmp_path / "run", 9)
    assert len(outcomes(tmp_path / "run")) == 9


def test_worlds_that_were_started_are_in_the_sessions_record(tmp_path):
    store, reporter = run_stuck(tmp_path / "run", phase="step", how="raise", instances=[0, 2])
    record = json.loads((store.path / "run.json").read_text())
    (world,) = record["sessions"][-1]["worlds"]
    assert (world["sim_version"], world["settings"]) == (
        "toy",
        {"toy": True, "drift_m": "NaN"},  # which JSON does not have as a number
    )
    assert len([note for note in reporter.notes if note.startswith("starting a world")]) == 3


def test_a_result_that_was_written_before_its_process_died_is_kept(tmp_path, monkeypatch):
    """Killed between result.json and the word that it is there."""
    folder = tmp_path / "run"
    run_stuck(folder, 1, policy=DiesAfterItsResult)
    (line,) = outcomes(folder).values()
    assert line["outcome"] in ("success", "failure")


class DiesAfterItsResult:
    """A policy whose process ends when the pipe is about to bring the result."""

    def __new__(cls):
        import os

        from doubles import RandomWalkPolicy

        from b1k_eval.run import worker

        serve = worker.Executor.run_batch

        def run_batch(self, batch, post, following):
            def mute(number, what):
                if type(what).__name__ == "Finished":
                    os._exit(9)
                post(number, what)

            serve(self, batch, mute, following)

        worker.Executor.run_batch = run_batch
        return RandomWalkPolicy()


# --- the clock -----------------------------------------------------------------------------------


@pytest.fixture
def watch():
    limits = CallLimits(start_s=1000, reset_s=100, step_s=10, observe_s=20, close_s=5)
    return Watch(limits, multiprocessing.get_context("spawn"))


def test_a_deadline_holds_while_a_call_lasts_and_no_longer(watch, monkeypatch):
    monkeypatch.setattr("b1k_eval.run.watchdog.monotonic", lambda: 50.0)
    seen = []

    class Looking(StuckEnv):
        def step(self, action):
            seen.append((watch.overdue(59.9), watch.overdue(60.1)))
            return super().step(action)

    env = WatchedEnv(Looking(), watch.phase)
    env.reset(0, 0, 0)
    env.step(np.zeros(23, dtype=np.float32))
    ((before, after),) = seen
    assert before is None
    assert (after.phase, after.limit_s) == ("step", 10.0)
    assert watch.overdue(1e9) is None


def test_a_call_that_raises_is_over_too(watch):
    env = WatchedEnv(StuckEnv(phase="reset", how="raise", instances=[0]), watch.phase)
    with pytest.raises(EnvError):
        env.reset(0, 0, 0)
    assert watch.overdue(1e12) is None


def test_a_call_that_moves_several_worlds_has_the_time_that_one_has(watch, monkeypatch):
    monkeypatch.setattr("b1k_eval.run.watchdog.monotonic", lambda: 50.0)
    seen = []

    class Together(Worlds):
        independent = False

        def reset(self, starts):
            seen.append((watch.overdue(149.9), watch.overdue(150.1)))
            return super().reset(starts)

        def step(self, actions):
            seen.append((watch.overdue(59.9), watch.overdue(60.1)))
            return super().step(actions)

        def close(self):
            seen.append((watch.overdue(54.9), watch.overdue(55.1)))

    worlds = WatchedWorlds(Together([StuckEnv(), StuckEnv()]), watch.phase)
    assert not worlds.independent
    assert all(isinstance(env, WatchedEnv) for env in worlds.envs)
    assert worlds.reset({0: (0, 0, 0), 1: (1, 0, 0)}) == {0: None, 1: None}
    moved = worlds.step({1: np.zeros(23, dtype=np.float32)})
    assert {index: result.step for index, result in moved.items()} == {1: 1}
    worlds.close()
    assert [before for before, _ in seen] == [None] * 3
    assert [(after.phase, after.limit_s) for _, after in seen] == [
        ("reset", 100.0),
        ("step", 10.0),
        ("close", 5.0),
    ]
    assert watch.overdue(1e9) is None


def test_the_limits_are_those_the_manual_states():
    limits = CallLimits()
    assert [limits.of(p) for p in ("start", "reset", "step", "observe", "close")] == [
        1800.0,
        600.0,
        120.0,
        120.0,
        60.0,
    ]
