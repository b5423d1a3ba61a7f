"""A policy's answers, disturbed on their way to the robot."""

from __future__ import annotations

import numpy as np
import pytest
from doubles import DrivePolicy

from b1k_envs.r1pro import ACTION_SLICES
from b1k_eval.disturbances.answers import Answers
from b1k_eval.disturbances.axes import parse_disturbances
from b1k_eval.disturbances.disturber import Disturber
from b1k_eval.loop.events import Subscriber
from b1k_eval.loop.realtime import RealTime
from b1k_eval.loop.runner import run_episode

ROW = np.arange(1, 24, dtype=np.float32)


def answers(typed):
    made = Answers(parse_disturbances(typed))
    made.reset(5)
    return made


def test_base_and_arms_are_scaled_and_nothing_else():
    scaled = answers("base-scale=0.5,arm-scale:arm_left=-0.1").command(ROW)
    wanted = ROW.copy()
    wanted[ACTION_SLICES["base"]] *= np.float32(1.5)
    wanted[ACTION_SLICES["arm_left"]] *= np.float32(0.9)
    assert scaled == pytest.approx(wanted)


def test_grippers_come_late_and_the_rest_in_time():
    late = answers("gripper-delay=3")
    gripper, arm = ACTION_SLICES["gripper_right"], ACTION_SLICES["arm_right"]
    came = [late.command(ROW + np.float32(100 * step)) for step in range(8)]
    sent = ROW[gripper][0]
    assert [row[gripper][0] for row in came] == [
        sent, sent, sent, *(sent + 100 * step for step in range(5))
    ]  # fmt: skip
    assert [row[arm][0] for row in came] == [ROW[arm][0] + 100 * step for step in range(8)]


def test_answers_are_lost_as_often_as_the_dose_says_and_never_the_first():
    lossy = answers("dropped=0.25")
    lost = [lossy.lost(step) for step in range(0, 40_000, 10)]
    assert not lost[0]
    assert np.mean(lost) == pytest.approx(0.25, abs=0.02)
    assert lost == [lossy.lost(step) for step in range(0, 40_000, 10)]


class Ear(Subscriber):
    def __init__(self):
        self.asked, self.stalled = [], 0

    def on_step(self, event):
        if event.inference:
            self.asked.append(event.result.step - 1)


def test_without_an_answer_the_old_chunk_goes_on_and_the_policy_is_asked_again(toy_env, episode):
    ear, chunking = Ear(), RealTime(2, 4, 0.0)
    result = run_episode(
        toy_env,
        DrivePolicy(vx=0.05, chunk_length=4),
        episode,
        chunking,
        subscribers=[ear],
        disturber=Disturber(parse_disturbances("dropped=0.95")),
    )
    # Every second step it is asked; a chunk of four rows lasts two questions.
    assert ear.asked == list(range(0, result.steps, 2))
    assert result.stalled_steps > 10
    assert result.inferences == len(ear.asked)


def test_an_undisturbed_episode_has_no_disturber():
    assert Disturber.of(parse_disturbances("blur=0"), None) is None
    assert Disturber.of(parse_disturbances("blur=1"), None) is not None
