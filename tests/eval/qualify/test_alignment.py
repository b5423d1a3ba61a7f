"""Recorded and measured proprioception: where they part, and shifts."""

from __future__ import annotations

import numpy as np
import pytest

from b1k_envs.r1pro import PROPRIO_DIM, PROPRIO_LAYOUTS
from b1k_eval.qualify.alignment import align

STEPS = 200


def course(layout="2026", *, seed=0):
    """A robot that waves and drives without repeating itself, float32 [201, D]."""
    rows = np.zeros((STEPS + 1, PROPRIO_DIM[layout]), dtype=np.float32)
    time = np.arange(STEPS + 1)[:, None] / 30
    fields = PROPRIO_LAYOUTS[layout]
    rng = np.random.default_rng(seed)
    for name in ("trunk_qpos", "arm_left_qpos", "arm_right_qpos", "eef_left_pos", "base_qvel"):
        width = fields[name].stop - fields[name].start
        rate, phase = rng.uniform(0.5, 2, (2, width))
        rows[:, fields[name]] = 0.5 * np.sin(rate * time**1.3 + phase)
    return rows


def test_the_same_course_never_parts():
    measured = course()
    found = align(measured[:-1], "2026", measured, "2026")
    assert (found.shift, found.parting, found.compared) == (0, None, STEPS)
    assert set(found.largest.values()) == {0.0}


def test_the_first_step_beyond_a_bound_is_named_with_its_quantity():
    measured = course()
    recorded = measured[:-1].copy()
    recorded[120:, PROPRIO_LAYOUTS["2026"]["arm_right_qpos"].start + 2] += 0.08
    recorded[:, PROPRIO_LAYOUTS["2026"]["arm_left_qpos"]] += 0.04  # within the bound throughout
    found = align(recorded, "2026", measured, "2026")
    assert found.shift == 0
    assert found.parting.step == 120
    assert found.parting.quantity == "joints [rad]"
    assert found.parting.apart == pytest.approx(0.08, abs=1e-4)
    assert found.parting.bound == 0.05
    assert found.largest["joints [rad]"] == pytest.approx(0.04, abs=1e-4)


@pytest.mark.parametrize("shift", [-7, -1, 1, 2, 9])
def test_a_shift_is_told_by_its_steps(shift):
    truth = course()
    shifted = np.roll(truth, shift, axis=0)
    if shift > 0:
        shifted[:shift] = truth[0]
    else:
        shifted[shift:] = truth[-1]
    found = align(truth[:-1], "2026", shifted, "2026")
    assert (found.shift, found.parting) == (shift, None)


def test_a_shift_is_told_of_a_course_that_parts_later():
    truth = course()
    later = np.concatenate([np.repeat(truth[:1], 3, axis=0), truth[:-3]])
    later[150:] = course(seed=1)[150:]
    found = align(truth[:-1], "2026", later, "2026")
    assert (found.shift, found.parting.step) == (3, 147)


def test_a_course_that_parts_is_not_taken_for_a_shift():
    measured = course()
    measured[40:] = course(seed=1)[40:]
    found = align(course()[:-1], "2026", measured, "2026")
    assert (found.shift, found.parting.step) == (0, 40)


def test_numbers_of_2025_are_held_against_those_of_2026_by_name():
    recorded, measured = course("2025"), course("2026")
    # The base's velocity is in another frame there, and is left out.
    recorded[:, PROPRIO_LAYOUTS["2025"]["base_qvel"]] += 1.0
    found = align(recorded[:-1], "2025", measured, "2026")
    assert (found.shift, found.parting) == (0, None)
    assert "base velocity [m/s, rad/s]" not in found.largest
    assert "base position [m]" not in found.largest


def test_the_base_of_2025_shows_another_start_at_once():
    recorded, measured = course("2025"), course("2025")
    recorded[:, PROPRIO_LAYOUTS["2025"]["robot_pos"]] += 0.2
    recorded[:, PROPRIO_LAYOUTS["2025"]["robot_2d_ori"]] += 2 * np.pi  # a whole turn is none
    found = align(recorded[:-1], "2025", measured, "2025")
    assert (found.parting.step, found.parting.quantity) == (0, "base position [m]")
