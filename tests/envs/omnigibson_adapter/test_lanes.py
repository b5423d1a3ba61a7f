"""Several envs in one simulator: first with a world of counters, then on the double."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from b1k_envs.base import Env, EnvInfo
from b1k_envs.errors import ActionError, EnvError, HostFaultError, UsageError
from b1k_envs.omnigibson.dialects.dialect import Stepped
from b1k_envs.omnigibson.group import LaneEnv, LaneServer, run_lanes

ACTION = np.zeros(23, dtype=np.float32)
INFO = EnvInfo(
    sim="omnigibson",
    sim_version="3.9.3",
    protocol="2026",
    task="clean_boxing_gloves",
    task_index=31,
    control_hz=30.0,
    max_steps=10,
)


class Counters:
    """A world of which only the calls are kept, with the thread of each."""

    def __init__(self) -> None:
        self.loads: list[dict[int, int]] = []
        self.steps: list[list[int]] = []
        self.threads: set[int] = set()
        self.failure: BaseException | None = None

    def check_instance(self, instance: int) -> None:
        self.threads.add(threading.get_ident())
        if instance < 0:
            raise UsageError("no such instance")

    def load(self, instances: Mapping[int, int]) -> None:
        self.threads.add(threading.get_ident())
        self.loads.append(dict(instances))

    def advance(self, actions: Mapping[int, Any]) -> dict[int, Stepped]:
        self.threads.add(threading.get_ident())
        if self.failure is not None:
            raise self.failure
        self.steps.append(sorted(actions))
        return dict.fromkeys(actions, Stepped(success=False, timed_out=False))


class CountedEpisode:
    """An episode that answers with numbers."""

    def __init__(self, world: Counters) -> None:
        self.world = world
        self.step = -1
        self.reads = 0
        self.failure: BaseException | None = None

    def begin(self) -> None:
        self.step = 0

    def stepped(self, outcome: Stepped) -> int:
        self.step += 1
        return self.step

    def observe(self, *, images: bool) -> int:
        self.world.threads.add(threading.get_ident())
        if self.failure is not None:
            raise self.failure
        self.reads += 1
        return self.step

    goal = subgoals = frame = None


@pytest.fixture
def world() -> Counters:
    return Counters()


@pytest.fixture
def run(world: Counters) -> Callable[..., list[CountedEpisode]]:
    """Run jobs on as many envs, or on `count`."""

    def go(*jobs: Callable[[Any], None], count: int | None = None) -> list[CountedEpisode]:
        number = len(jobs) if count is None else count
        episodes: list[Any] = [CountedEpisode(world) for _ in range(number)]
        envs = [LaneEnv(INFO, episode, i) for i, episode in enumerate(episodes)]
        run_lanes(world, episodes, envs, jobs)
        return episodes

    return go


def drive(steps: int, instance: int = 0) -> Callable[[Env], None]:
    def job(env: Env) -> None:
        env.reset(instance, 0, 0)
        for _ in range(steps):
            env.observe()
            env.step(ACTION)

    return job


def test_the_world_is_loaded_once_for_all_jobs_and_moves_those_that_still_run(world, run):
    run(drive(2, instance=4), drive(5, instance=7))
    assert world.loads == [{0: 4, 1: 7}]
    assert world.steps == [[0, 1]] * 2 + [[1]] * 3


def test_each_job_gets_the_results_of_its_own_env(run):
    seen: dict[str, list[Any]] = {"a": [], "b": []}

    def job(name: str, steps: int) -> Callable[[Env], None]:
        def go(env: Env) -> None:
            env.reset(0, 0, 0)
            for _ in range(steps):
                seen[name].append((env.observe(), env.step(ACTION)))

        return go

    run(job("a", 1), job("b", 3))
    assert seen == {"a": [(0, 1)], "b": [(0, 1), (1, 2), (2, 3)]}


def test_every_call_into_the_world_is_on_the_thread_that_runs_the_group(world, run):
    run(drive(2), drive(3), drive(1))
    assert world.threads == {threading.get_ident()}


def test_a_job_that_never_steps_keeps_nobody_waiting(world, run):
    run(drive(0), drive(3))
    assert world.steps == [[1]] * 3


def test_a_job_that_returns_before_its_reset_keeps_nobody_waiting(world, run):
    run(lambda env: None, drive(2))
    assert world.loads == [{1: 0}]
    assert world.steps == [[1]] * 2


def test_fewer_jobs_than_envs_load_and_move_only_theirs(world, run):
    run(drive(2), count=3)
    assert world.loads == [{0: 0}]
    assert world.steps == [[0]] * 2


def test_no_job_at_all_is_no_run(world, run):
    run(count=2)
    assert world.loads == []


def test_more_jobs_than_envs_are_refused(run):
    with pytest.raises(UsageError, match=r"3 jobs for 2 envs"):
        run(drive(1), drive(1), drive(1), count=2)


def test_a_job_that_raises_ends_only_itself_and_is_heard_at_the_end(world, run):
    def spoilt(env: Env) -> None:
        env.reset(0, 0, 0)
        env.step(ACTION)
        raise ValueError("the policy broke")

    with pytest.raises(ValueError, match="the policy broke"):
        run(spoilt, drive(4))
    assert world.steps == [[0, 1]] + [[1]] * 3


def test_a_malformed_action_is_the_fault_of_its_job_alone(world, run):
    def spoilt(env: Env) -> None:
        env.reset(0, 0, 0)
        env.step(np.zeros(22, dtype=np.float32))

    with pytest.raises(ActionError, match="22"):
        run(spoilt, drive(2))
    assert world.steps == [[1]] * 2


def test_a_simulator_that_fails_fails_for_every_job_with_its_own_words(world, run):
    world.failure = HostFaultError("CUDA out of memory")
    heard: list[BaseException] = []

    def job(env: Env) -> None:
        env.reset(0, 0, 0)
        for call in (lambda: env.step(ACTION), env.observe, lambda: env.step(ACTION)):
            try:
                call()
            except EnvError as error:
                heard.append(error)

    run(job, job, job)
    assert [str(error) for error in heard] == ["CUDA out of memory"] * 9
    assert {type(error) for error in heard} == {HostFaultError}
    assert len({id(error) for error in heard}) == 9  # a traceback each


def test_a_job_busy_while_the_simulator_fails_hears_of_it_at_its_next_call(world, run):
    told = threading.Event()
    asked = threading.Event()
    heard: list[str] = []

    def busy(env: Env) -> None:
        env.reset(0, 0, 0)
        env.observe()
        asked.set()
        assert told.wait(60)
        try:
            env.step(ACTION)
        except EnvError as error:
            heard.append(str(error))

    def killer(env: Env) -> None:
        env.reset(0, 0, 0)
        assert asked.wait(60)
        episodes_env = env
        episodes_env._episode.failure = RuntimeError("segfault in the renderer")
        with pytest.raises(EnvError, match="segfault in the renderer"):
            env.observe()
        told.set()

    with pytest.raises(RuntimeError, match="segfault in the renderer"):
        run(busy, killer)
    assert len(heard) == 1
    assert "segfault in the renderer" in heard[0]


def test_ctrl_c_reaches_every_job_as_such_and_then_the_caller(world, run):
    world.failure = KeyboardInterrupt()
    heard: list[str] = []

    def job(env: Env) -> None:
        env.reset(0, 0, 0)
        try:
            env.step(ACTION)
        except Exception:  # noqa: BLE001 - as the episode loop does with a crash of the world
            heard.append("swallowed")
        except KeyboardInterrupt:
            heard.append("interrupted")
            raise

    with pytest.raises(KeyboardInterrupt):
        run(job, job)
    assert heard == ["interrupted"] * 2


def test_a_real_ctrl_c_ends_jobs_that_wait_for_each_other(world, run, monkeypatch):
    heard: list[str] = []
    told = threading.Event()
    refuse = LaneServer._refuse_all

    def refusing(server: LaneServer, error: BaseException) -> None:
        told.set()
        refuse(server, error)

    monkeypatch.setattr(LaneServer, "_refuse_all", refusing)

    def job(presses: bool) -> Callable[[Env], None]:
        def go(env: Env) -> None:
            env.reset(0, 0, 0)
            if presses:
                os.kill(os.getpid(), signal.SIGINT)
                assert told.wait(60)
            try:
                env.step(ACTION)
            except KeyboardInterrupt:
                heard.append("interrupted")

        return go

    with pytest.raises(KeyboardInterrupt):
        run(job(presses=False), job(presses=True))
    assert heard == ["interrupted"] * 2


def test_a_request_that_an_interrupt_swallowed_strands_no_job(world, run, monkeypatch):
    """Ctrl-C may come between taking a request from the queue and looking at it."""
    take = LaneServer._take

    def interrupted(server: LaneServer, request: Any) -> None:
        if request.kind == "step":
            raise KeyboardInterrupt
        take(server, request)

    monkeypatch.setattr(LaneServer, "_take", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(drive(2), drive(2))


def test_a_step_before_the_reset_and_a_second_reset_are_refused_with_the_reason(world, run):
    heard: list[str] = []

    def early(env: Env) -> None:
        with pytest.raises(EnvError, match="before reset") as caught:
            env.step(ACTION)
        heard.append(str(caught.value))

    def twice(env: Env) -> None:
        env.reset(0, 0, 0)
        with pytest.raises(EnvError, match="loaded together, once in each run") as caught:
            env.reset(1, 0, 0)
        heard.append(str(caught.value))
        env.step(ACTION)

    run(early, twice)
    assert len(heard) == 2
    assert world.loads == [{1: 0}]


def test_an_instance_that_does_not_exist_is_an_answer_and_no_crash(world, run):
    heard: list[str] = []

    def wrong(env: Env) -> None:
        try:
            env.reset(-1, 0, 0)
        except UsageError as error:
            heard.append(str(error))

    run(wrong, wrong)
    assert heard == ["no such instance"] * 2


def test_an_env_is_good_for_nothing_outside_a_run(world, run):
    kept: list[Env] = []
    run(kept.append)
    with pytest.raises(EnvError, match="inside `run` only"):
        kept[0].observe()
