"""Several envs of one simulator on the double of OmniGibson v3.9.3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from jobs import run_jobs
from omnigibson_bench import after_the_second_cleaned_a_glove, drive

from b1k_envs.base import Env
from b1k_envs.errors import EnvError, UsageError
from b1k_envs.r1pro import hold_action


def test_two_envs_play_their_own_instances_for_as_long_as_they_like(double_2026, twin_of):
    group = double_2026.group(2)
    ends: dict[int, Any] = {}
    plan = {0: (3, 4), 1: (6, 9)}

    def job(index: int) -> Callable[[Env], None]:
        def go(env: Env) -> None:
            instance, steps = plan[index]
            drive_on(instance, steps)(env)
            ends[index] = env.observe(images=False)

        return go

    run_jobs(group, [job(0), job(1)])
    twin = twin_of("2026")
    for index, (instance, steps) in plan.items():
        twin.reset(instance, 0, 0)
        for step in range(steps):
            twin.step(drive(step))
        assert ends[index].step == steps
        expected = twin.observe(images=False).proprio
        np.testing.assert_allclose(ends[index].proprio, expected, atol=1e-5)


def test_a_robot_that_has_finished_holds_its_posture_while_the_others_go_on(double_2026):
    """To the millimetre and milliradian, once it has come to rest from its last action."""
    group = double_2026.group(2)
    finished, later = [], []

    def short(env: Env) -> None:
        env.reset(0, 0, 0)
        for step in range(12):
            env.step(drive(min(step, 5)))
        proprio = env.observe(images=False).proprio
        for _ in range(30):  # at rest, fingers half open
            env.step(hold_action(proprio, "2026", 0.2, -0.3))
        finished.append(double_2026.physics(0).joint_positions())

    def long(env: Env) -> None:
        env.reset(1, 0, 0)
        for step in range(140):
            env.step(drive(step % 40))
        later.append(double_2026.physics(1).joint_positions())

    run_jobs(group, [short, long])
    moved = np.abs(double_2026.physics(0).joint_positions() - finished[0])
    assert moved.max() < 1e-3
    assert np.abs(later[0]).max() > 0.5


def test_an_env_that_nobody_drives_stays_at_its_start_with_open_hands(double_2026):
    """After a run that left it holding, hands half closed: that was another episode's posture."""
    group = double_2026.group(2)
    run_jobs(group, [drive_on(0, 6), drive_on(1, 9)])
    start: list[Any] = []

    def only_reset(env: Env) -> None:
        env.reset(2, 0, 0)
        start.append(double_2026.physics(0).joint_positions())

    run_jobs(group, [only_reset, drive_on(3, 40)])
    assert np.abs(double_2026.physics(0).joint_positions() - start[0]).max() < 1e-3


def test_an_env_without_a_job_stands_still(double_2026):
    group = double_2026.group(2)
    before = double_2026.physics(1).joint_positions()
    run_jobs(group, [drive_on(0, 40)])
    assert np.abs(double_2026.physics(1).joint_positions() - before).max() < 1e-3


def test_each_env_has_its_own_goal_and_sub_goals(double_2026):
    group = double_2026.group(2)
    told = after_the_second_cleaned_a_glove(
        double_2026,
        group,
        lambda env: (env.goal(), env.subgoals()["glove_1_clean"]),
    )
    assert [told[index][0].q_score for index in (0, 1)] == [0.0, 0.5]
    assert [told[index][1] for index in (0, 1)] == [False, True]


def test_an_env_sees_through_its_own_cameras(double_2026, twin_of):
    group = double_2026.group(2)
    double_2026.installed.draw_pictures()
    seen: dict[int, Any] = {}

    def job(index: int, instance: int) -> Callable[[Env], None]:
        def go(env: Env) -> None:
            env.reset(instance, 0, 0)
            env.step(drive(0))
            seen[index] = env.observe()

        return go

    run_jobs(group, [job(0, 2), job(1, 5)])
    twin = twin_of("2026")
    for index, instance in ((0, 2), (1, 5)):
        twin.reset(instance, 0, 0)
        twin.step(drive(0))
        expected = twin.observe()
        for view, picture in expected.images.items():
            difference = seen[index].images[view].astype(int) - picture.astype(int)
            assert abs(difference).max() <= 1
        np.testing.assert_allclose(seen[index].cam_rel_poses, expected.cam_rel_poses, atol=2e-5)
        np.testing.assert_allclose(seen[index].proprio, expected.proprio, atol=1e-5)


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
                env.step(drive(step))
        except EnvError as error:
            heard.append(str(error))

    run_jobs(group, [job, job])
    assert len(heard) == 2
    assert all("planned crash" in text for text in heard)
    with pytest.raises(EnvError, match="planned crash"):
        run_jobs(group, [drive_on(0, 1)])


def test_a_group_can_be_run_again_with_other_instances(double_2026):
    group = double_2026.group(2)
    run_jobs(group, [drive_on(0, 3), drive_on(1, 5)])
    second: list[int] = []

    def job(env: Env) -> None:
        env.reset(2, 0, 0)
        second.append(env.step(drive(0)).step)

    run_jobs(group, [job, job])
    assert second == [1, 1]


def test_an_episode_loop_runs_in_one_of_several_envs_as_anywhere(double_2026):
    from twin_bench import episode_info

    from b1k_eval.loop.chunking import RecedingHorizon
    from b1k_eval.loop.runner import run_episode
    from b1k_policies.baselines import HoldPolicy

    group = double_2026.group(2, max_steps=5)
    results: list[Any] = []

    def job(env: Env) -> None:
        policy = HoldPolicy()
        chunking = RecedingHorizon(policy.chunk_length, policy.chunk_length)
        results.append(run_episode(env, policy, episode_info(), chunking))

    run_jobs(group, [job, job])
    assert [(r.outcome, r.steps, r.truncated) for r in results] == [("failure", 6, True)] * 2
    assert group.envs[0].info.settings["num_envs"] == 2


def test_the_older_generation_has_no_groups(double_2025):
    with pytest.raises(UsageError, match=r"2 envs in one process need OmniGibson v3\.9\.3"):
        double_2025.group(2)


def test_a_group_that_is_closed_runs_nothing(double_2026):
    group = double_2026.group(1)
    group.close()
    group.close()
    with pytest.raises(EnvError, match="after close"):
        run_jobs(group, [drive_on(0, 1)])


def drive_on(instance: int, steps: int) -> Callable[[Env], None]:
    def job(env: Env) -> None:
        env.reset(instance, 0, 0)
        for step in range(steps):
            env.step(drive(step))

    return job
