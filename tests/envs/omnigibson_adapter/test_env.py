"""One OmniGibson env on the double, held against the twin that is underneath it."""

from __future__ import annotations

import json
import threading
from typing import Any

import numpy as np
import pytest
from omnigibson_bench import PUBLIC, TASK, drive

from b1k_envs.base import VIEWS
from b1k_envs.errors import (
    ActionError,
    EnvError,
    HostFaultError,
    UnavailableError,
    UsageError,
)
from b1k_envs.mujoco_twin.states import NEAR_DISTANCE as TWIN_NEAR_DISTANCE
from b1k_envs.omnigibson.env import OmniGibsonWorlds
from b1k_envs.omnigibson.states import NEAR_DISTANCE
from b1k_envs.r1pro import hold_action, not_finite
from b1k_envs.tasks import subgoals


def assert_same_observation(got: Any, expected: Any) -> None:
    assert set(got.images) == set(expected.images)
    for view in VIEWS:
        for one, other in (
            (got.images[view], expected.images[view]),
            (got.camera_to_base[view], expected.camera_to_base[view]),
        ):
            assert one.shape == other.shape
            assert one.dtype == other.dtype
            assert not one.flags.writeable
        difference = got.images[view].astype(int) - expected.images[view].astype(int)
        assert abs(difference).max() <= 1
        np.testing.assert_allclose(
            got.camera_to_base[view], expected.camera_to_base[view], atol=1e-5
        )
    for name in ("cam_rel_poses", "proprio"):
        one, other = getattr(got, name), getattr(expected, name)
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        assert not one.flags.writeable
        np.testing.assert_allclose(one, other, atol=2e-5)
    for name in ("protocol", "task_index", "step", "time"):
        assert getattr(got, name) == getattr(expected, name)


# --- The same as the twin -------------------------------------------------------------------


def test_an_observation_after_some_driving_is_the_twins(double, twin_of):
    env, twin = double.env(), twin_of(double.protocol)
    double.installed.draw_pictures()
    env.reset(0, 0, 0)
    assert_same_observation(env.observe(), twin.observe())
    for step in range(12):
        env.step(drive(step))
        twin.step(drive(step))
    assert_same_observation(env.observe(), twin.observe())


def test_a_step_gives_the_twins_numbers(double, twin_of):
    env, twin = double.env(), twin_of(double.protocol)
    env.reset(0, 0, 0)
    for step in range(5):
        got, expected = env.step(drive(step)), twin.step(drive(step))
        assert (got.step, got.time) == (expected.step, expected.time)
        assert (got.terminated, got.truncated) == (False, False)
        for name in ("base", "left_eef", "right_eef"):
            one, other = getattr(got.agent, name), getattr(expected.agent, name)
            assert one.dtype == np.float64
            np.testing.assert_allclose(one, other, atol=1e-6)
        assert env.goal() == twin.goal()
        assert env.subgoals() == twin.subgoals()


@pytest.mark.parametrize("instance", [3, 7])
def test_instances_are_those_of_the_split(double, twin_of, instance):
    env, twin = double.env(), twin_of(double.protocol)
    env.reset(instance, 0, 0)
    twin.reset(instance, 0, 0)
    np.testing.assert_allclose(
        env.observe(images=False).proprio, twin.observe(images=False).proprio
    )


@pytest.mark.slow
def test_a_second_reset_forgets_the_first_episode(double):
    env = double.env()
    double.installed.draw_pictures()
    env.reset(0, 0, 0)
    start = env.observe()
    for step in range(6):
        env.step(drive(step))
    env.reset(0, 0, 0)
    assert_same_observation(env.observe(), start)
    assert env.step(drive(0)).step == 1


def test_near_means_in_omnigibson_what_it_means_in_the_twin():
    assert NEAR_DISTANCE == TWIN_NEAR_DISTANCE


# --- Termination ----------------------------------------------------------------------------


@pytest.mark.parametrize("render", ["on-demand", "every-step"])
def test_an_episode_without_success_lasts_one_action_more_than_its_limit(double, render):
    env = double.env(max_steps=3, render=render)
    env.reset(0, 0, 0)
    results = [env.step(drive(step)) for step in range(4)]
    assert [result.truncated for result in results] == [False, False, False, True]
    assert not any(result.terminated for result in results)


@pytest.mark.parametrize("render", ["on-demand", "every-step"])
def test_success_is_seen_at_the_step_that_brings_it_also_at_the_limit(double, render):
    env = double.env(max_steps=1, render=render)
    env.reset(0, 0, 0)
    assert env.goal().q_score == 0.0
    counts = double.physics().states.dust_counts
    first, second = counts
    counts[first] = 0
    assert (env.step(drive(0)).terminated, env.goal().q_score) == (False, 0.5)
    counts[second] = 0
    result = env.step(drive(1))
    assert (result.terminated, result.truncated) == (True, True)
    assert env.goal().success is True
    assert env.goal().q_score == 1.0


def test_what_is_clean_at_the_start_earns_nothing(double, monkeypatch):
    """Reset restores the instance; a glove that is clean in it counts in the denominator only."""
    env = double.env()
    physics = double.physics()
    control_step = type(physics).control_step

    def one_clean_glove(self: Any) -> None:
        control_step(self)
        first, _ = self.states.dust_counts
        self.states.dust_counts[first] = 0

    monkeypatch.setattr(type(physics), "control_step", one_clean_glove)
    env.reset(0, 0, 0)
    assert list(env.goal().predicates.values()) == [True, False]
    assert env.goal().q_score == 0.0
    env.step(drive(0))
    assert env.goal().q_score == 0.0


# --- Pictures for the video -----------------------------------------------------------------


def test_a_video_frame_is_what_was_last_observed(double):
    env = double.env()
    env.reset(0, 0, 0)
    observed = env.observe()
    for step in range(3):
        env.step(drive(step))
    frame = env.frame()
    assert frame.holds_pictures
    assert frame.redeem() is observed.images


def test_a_video_of_a_policy_that_never_looks_shows_the_present(double, twin_of):
    env, twin = double.env(), twin_of(double.protocol)
    double.installed.draw_pictures()
    env.reset(0, 0, 0)
    for step in range(3):
        env.observe(images=False)
        env.step(drive(step))
        twin.step(drive(step))
        got, expected = env.frame().redeem(), twin.observe().images
        assert abs(got["head"].astype(int) - expected["head"].astype(int)).max() <= 1


def test_a_frame_can_be_redeemed_on_another_thread(double):
    env = double.env()
    env.reset(0, 0, 0)
    env.observe()
    frame = env.frame()
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(frame.redeem()))
    thread.start()
    thread.join()
    assert set(got[0]) == set(VIEWS)


# --- What it says of itself -----------------------------------------------------------------


def test_the_record_says_what_was_run_and_how(double):
    env = double.env(max_steps=77)
    tag = {"2025": "v3.7.2", "2026": "v3.9.3"}[double.protocol]
    assert env.info.sim == "omnigibson"
    assert env.info.sim_version == tag[1:]
    assert (env.info.protocol, env.info.task_index) == (double.protocol, 31)
    assert env.info.max_steps == 77
    settings = json.loads(json.dumps(dict(env.info.settings)))
    assert settings["generation"] == tag
    assert settings["render"] == "on-demand"
    assert settings["render_protocol"].startswith("not official")
    assert settings["applied"]["base_mass_kg"] == 250.0
    sizes = {"head": 720, "left_wrist": 480, "right_wrist": 480}
    assert settings["applied"]["image_sizes_px"] == sizes
    assert settings["applied"]["macros"]["USE_GPU_DYNAMICS"] is False
    checks = {check["name"]: check for check in settings["startup_checks"]}
    assert checks["version"]["found"] == tag[1:]
    assert [check["name"] for check in checks.values() if check["fatal"] and not check["ok"]] == []
    assert len(env.findings) == len(settings["startup_checks"])


def test_only_one_render_per_action_is_called_official(double):
    env = double.env(render="every-step")
    assert env.info.settings["render_protocol"] == "official"


def test_there_is_no_truth_for_experts(double_2026):
    with pytest.raises(UnavailableError, match="--sim mujoco"):
        double_2026.env().privileged_state()


def test_a_render_mode_that_does_not_exist_is_refused(double_2026):
    with pytest.raises(UsageError, match="on-demand"):
        double_2026.env(render="sometimes")


# --- Failing --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("place", ["step", "render", "get_obs", "reset", "load"])
def test_a_crash_says_what_was_being_done_and_nothing_works_after_it(double, place):
    env = double.env()
    env.reset(0, 0, 0)
    env.observe()
    double.faults.plan(place, "crash")
    calls = {
        "step": (lambda: env.step(drive(0)), "a step"),
        "render": (lambda: (env.step(drive(0)), env.observe()), "rendering"),
        "get_obs": (lambda: (env.step(drive(0)), env.observe()), "reading proprioception"),
        "reset": (lambda: env.reset(4, 0, 0), "loading instance 4 in env 0"),
        "load": (lambda: env.reset(4, 0, 0), "loading instance 4 in env 0"),
    }
    call, doing = calls[place]
    with pytest.raises(EnvError, match=rf"^OmniGibson failed during {doing}: RuntimeError: PhysX"):
        call()
    for again in (env.observe, env.goal, lambda: env.step(drive(1)), lambda: env.reset(0, 0, 0)):
        with pytest.raises(EnvError, match=r"has failed .*PhysX.* nothing more in this process"):
            again()


@pytest.mark.parametrize("place", ["launch", "environment"])
def test_a_start_that_crashes_says_so(double, place):
    double.faults.plan(place, "crash")
    with pytest.raises(EnvError, match=r"failed during starting and building the scene: .*PhysX"):
        double.env()


@pytest.mark.parametrize("place", ["step", "render", "environment"])
def test_a_gpu_without_memory_is_the_machines_fault(double, place):
    if place == "environment":
        double.faults.plan(place, "out_of_memory")
        with pytest.raises(HostFaultError, match=r"(?s)out of memory.*fewer envs"):
            double.env()
        return
    env = double.env()
    env.reset(0, 0, 0)
    double.faults.plan(place, "out_of_memory")
    if place == "render":
        env.step(drive(0))
    call = env.observe if place == "render" else lambda: env.step(drive(0))
    with pytest.raises(HostFaultError, match=r"out of memory during .*20.00 MiB.*fewer envs"):
        call()


def test_a_proprio_that_is_not_a_number_is_handed_on_and_the_world_goes_on(double):
    """As upstream, where the policy gets it. A refusal would end the episode."""
    env = double.env()
    env.reset(0, 0, 0)
    double.faults.plan("get_obs", "nan_proprio", field="eef_left_pos")
    seen = env.observe(images=False)
    assert not_finite(seen) == ("eef_left_pos",)
    assert env.step(drive(0)).step == 1
    assert not_finite(env.observe(images=False)) == ()


def test_a_base_that_is_nowhere_gives_poses_that_are_none_and_no_error(double, monkeypatch):
    env = double.env()
    env.reset(0, 0, 0)
    torch = pytest.importorskip("torch")
    lost = (torch.full((3,), torch.nan), torch.tensor([0.0, 0.0, 0.0, 1.0]))
    robot = env._world._dialect.robot(0)
    monkeypatch.setattr(type(robot), "get_position_orientation", lambda self, *a, **k: lost)
    for images in (True, False):
        seen = env.observe(images=images)
        assert set(not_finite(seen)) == {
            "cam_rel_poses",
            *(f"camera_to_base of {view}" for view in VIEWS),
        }
        env.step(drive(0))
    assert np.isnan(env.step(drive(0)).agent.base).all()
    assert env.subgoals() is not None


def test_a_simulator_that_ends_the_process_is_a_failure_not_an_end(double, monkeypatch):
    env = double.env()
    env.reset(0, 0, 0)

    def leave() -> None:
        raise SystemExit(0)

    monkeypatch.setattr(double.sim, "step", leave)
    with pytest.raises(EnvError, match="failed during a step: SystemExit"):
        env.step(drive(0))


def test_ctrl_c_passes_through_and_the_world_is_not_trusted_after_it(double, monkeypatch):
    env = double.env()
    env.reset(0, 0, 0)

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(double.sim, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        env.step(drive(0))
    monkeypatch.undo()
    with pytest.raises(EnvError, match="interrupted during a step"):
        env.step(drive(0))


def test_a_malformed_action_harms_nothing(double_2026):
    env = double_2026.env()
    env.reset(0, 0, 0)
    with pytest.raises(ActionError):
        env.step(np.full(23, np.nan, dtype=np.float32))
    assert env.step(drive(0)).step == 1


def test_an_instance_that_does_not_exist_harms_nothing(double):
    env = double.env()
    env.reset(0, 0, 0)
    with pytest.raises(UsageError, match="out of range"):
        env.reset(999, 0, 0)
    assert env.step(drive(0)).step == 1


def test_calls_before_reset_and_after_close_are_errors(double_2026):
    env = double_2026.env()
    for call in (lambda: env.step(drive(0)), env.observe, env.goal, env.subgoals, env.frame):
        with pytest.raises(EnvError, match="before reset"):
            call()
    env.reset(0, 0, 0)
    env.close()
    env.close()
    for call in (lambda: env.step(drive(0)), env.observe, env.goal, env.subgoals, env.frame):
        with pytest.raises(EnvError, match="after close"):
            call()


def test_another_thread_is_refused(double_2026):
    env = double_2026.env()
    env.reset(0, 0, 0)
    heard: list[str] = []

    def go() -> None:
        try:
            env.step(drive(0))
        except EnvError as error:
            heard.append(str(error))

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    assert len(heard) == 1
    assert "on another thread" in heard[0]


def test_the_protocol_must_be_that_of_the_installed_version(double):
    other: Any = {"2025": "2026", "2026": "2025"}[double.protocol]
    with pytest.raises(UnavailableError, match=f"--protocol {double.protocol}"):
        OmniGibsonWorlds(TASK, protocol=other, **PUBLIC)


# --- Holding still --------------------------------------------------------------------------


def test_the_hold_action_holds_the_world_as_well(double):
    """What a policy that holds sees: the same base velocity, 0, in both generations' frames."""
    env = double.env()
    env.reset(0, 0, 0)
    start = env.observe(images=False).proprio
    for _ in range(10):
        proprio = env.observe(images=False).proprio
        env.step(hold_action(proprio, double.protocol, 1.0, 1.0))
    end = env.observe(images=False).proprio
    np.testing.assert_allclose(end, start, atol=0.05)
    assert list(env.subgoals()) == [s.name for s in subgoals.SUBGOALS[TASK.name]]
