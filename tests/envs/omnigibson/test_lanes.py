"""Several envs in one simulator: first with a world of counters, then on the double."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import omnigibson_bench as bench
import pytest

from b1k_envs.base import Env, EnvInfo
from b1k_envs.errors import ActionError, EnvError, HostFaultError, UsageError
from b1k_envs.omnigibson.dialect import Stepped
from b1k_envs.omnigibson.lanes import LaneEnv, run_lanes
from b1k_envs.r1pro import hold_action

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

    def load(self, instances: Mapping[int, int]) -> None:
        self.threads.add(threading.get_ident())
        if min(instances.values()) < 0:
            raise UsageError("no such instance")
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
        assert told.wait(10)
        try:
            env.step(ACTION)
        except EnvError as error:
            heard.append(str(error))

    def killer(env: Env) -> None:
        env.reset(0, 0, 0)
        assert asked.wait(10)
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


def test_a_request_that_an_interrupt_swallowed_strands_no_job(world, run, monkeypatch):
    """Ctrl-C may come between taking a request from the queue and looking at it."""
    from b1k_envs.omnigibson.lanes import LaneServer

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


# --- On the double of OmniGibson ------------------------------------------------------------


def test_two_envs_play_their_own_instances_for_as_long_as_they_like(double_2026, twin_of):
    group = double_2026.group(2)
    group.run([drive_on(3, 4), drive_on(6, 9)])
    ends = [env_proprio(double_2026, index) for index in range(2)]
    twin = twin_of("2026")
    for index, (instance, steps) in enumerate(((3, 4), (6, 9))):
        twin.reset(instance, 0, 0)
        for step in range(steps):
            twin.step(bench.drive(step))
        expected = twin.observe(images=False).proprio
        # The first has held still since; a running motion settles, positions stay about.
        np.testing.assert_allclose(ends[index], expected, atol=1e-4 if index else 0.3)


def test_a_robot_that_has_finished_holds_its_posture_while_the_others_go_on(double_2026):
    """To the millimetre and milliradian, once it has come to rest from its last action."""
    double_2026.installed.stamp_pictures()
    group = double_2026.group(2)
    finished, later = [], []

    def short(env: Env) -> None:
        env.reset(0, 0, 0)
        for step in range(12):
            env.step(bench.drive(min(step, 5)))
        proprio = env.observe(images=False).proprio
        for _ in range(30):  # at rest, fingers half open
            env.step(hold_action(proprio, "2026", 0.2, -0.3))
        finished.append(double_2026.physics(0).joint_positions())

    def long(env: Env) -> None:
        env.reset(1, 0, 0)
        for step in range(140):
            env.step(bench.drive(step % 40))
        later.append(double_2026.physics(1).joint_positions())

    group.run([short, long])
    moved = np.abs(double_2026.physics(0).joint_positions() - finished[0])
    assert moved.max() < 1e-3
    assert np.abs(later[0]).max() > 0.5


def test_each_env_has_its_own_goal_and_sub_goals(double_2026):
    group = double_2026.group(2)
    told: dict[int, Any] = {}

    def job(lane: int) -> Callable[[Env], None]:
        def go(env: Env) -> None:
            env.reset(0, 0, 0)
            if lane == 1:
                counts = double_2026.physics(1).states.dust_counts
                counts[next(iter(counts))] = 0
            env.step(bench.drive(0))
            told[lane] = (env.goal(), env.subgoals()["glove_1_clean"], env.info.task_index)

        return go

    group.run([job(0), job(1)])
    assert [told[lane][0].q_score for lane in (0, 1)] == [0.0, 0.5]
    assert [told[lane][1] for lane in (0, 1)] == [False, True]


def test_an_env_sees_through_its_own_cameras(double_2026, twin_of):
    group = double_2026.group(2)
    seen: dict[int, Any] = {}

    def job(lane: int, instance: int) -> Callable[[Env], None]:
        def go(env: Env) -> None:
            env.reset(instance, 0, 0)
            env.step(bench.drive(0))
            seen[lane] = env.observe()

        return go

    group.run([job(0, 2), job(1, 5)])
    twin = twin_of("2026")
    for lane, instance in ((0, 2), (1, 5)):
        twin.reset(instance, 0, 0)
        twin.step(bench.drive(0))
        expected = twin.observe()
        for view, picture in expected.images.items():
            difference = seen[lane].images[view].astype(int) - picture.astype(int)
            assert abs(difference).max() <= 1
        np.testing.assert_allclose(seen[lane].cam_rel_poses, expected.cam_rel_poses, atol=2e-5)
        np.testing.assert_allclose(seen[lane].proprio, expected.proprio, atol=1e-5)


@pytest.mark.parametrize("place", ["step", "reset", "render"])
def test_a_crash_of_the_simulator_ends_every_job_with_its_words(double_2026, place):
    group = double_2026.group(2)
    double_2026.faults.plan(place, "crash", after=2 if place == "step" else 0)
    heard: list[str] = []

    def job(env: Env) -> None:
        try:
            env.reset(0, 0, 0)
            for step in range(10):
                env.observe()
                env.step(bench.drive(step))
        except EnvError as error:
            heard.append(str(error))

    group.run([job, job])
    assert len(heard) == 2
    assert all("planned crash" in text for text in heard)
    with pytest.raises(EnvError, match="planned crash"):
        group.run([drive(1)])


def test_a_group_can_be_run_again_with_other_instances(double_2026):
    group = double_2026.group(2)
    group.run([drive_on(0, 3), drive_on(1, 5)])
    second: list[int] = []

    def job(env: Env) -> None:
        env.reset(2, 0, 0)
        second.append(env.step(bench.drive(0)).step)

    group.run([job, job])
    assert second == [1, 1]


def test_an_episode_loop_runs_in_a_lane_as_anywhere(double_2026):
    from b1k_eval.chunking import RecedingHorizon
    from b1k_eval.runner import run_episode
    from b1k_policies.baselines import HoldPolicy
    from twin_bench import episode_info

    group = double_2026.group(2, max_steps=5)
    results: list[Any] = []

    def job(env: Env) -> None:
        policy = HoldPolicy()
        chunking = RecedingHorizon(policy.chunk_length, policy.chunk_length)
        results.append(run_episode(env, policy, episode_info(), chunking))

    group.run([job, job])
    assert [(r.outcome, r.steps, r.truncated) for r in results] == [("failure", 6, True)] * 2
    assert group.info.settings["num_envs"] == 2


def test_the_older_generation_has_no_groups(double_2025):
    with pytest.raises(UsageError, match=r"2 envs in one process need OmniGibson v3\.9\.3"):
        double_2025.group(2)


def test_a_group_that_is_closed_runs_nothing(double_2026):
    group = double_2026.group(1)
    group.close()
    group.close()
    with pytest.raises(EnvError, match="after close"):
        group.run([drive(1)])


def drive_on(instance: int, steps: int) -> Callable[[Env], None]:
    def job(env: Env) -> None:
        env.reset(instance, 0, 0)
        for step in range(steps):
            env.step(bench.drive(step))

    return job


def env_proprio(double: Any, index: int) -> Any:
    robot = double.sim.scenes[index].robots[0]
    return robot.get_proprioception()[0].numpy()
