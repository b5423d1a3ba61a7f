"""Chunks that no robot follows, told by row and joint; limits and slices are typed off here."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from observations import made_observation

from b1k_policies.contract.presets import V4, V17
from b1k_policies.inspection.chunk import chunk_facts, chunk_findings, state_as_action


@pytest.fixture
def at_rest():
    """With joints inside their limits: trunk_qpos is 53:57, the arms 3:10 and 28:35."""
    observation = made_observation(protocol="2026")
    proprio = observation.proprio.copy()
    proprio[53:57] = 1.025, -1.45, -0.47, 0.0
    proprio[3:10] = proprio[28:35] = 0.0
    return dataclasses.replace(observation, proprio=proprio)


def test_a_robot_held_still_is_nothing_to_tell(at_rest):
    actions = np.zeros((30, 23), np.float32)
    actions[:, 3:6] = 1.025, -1.45, -0.47
    chunk = chunk_facts(actions, at_rest, V17)
    assert list(chunk_findings(chunk)) == []
    steps = {part.part: part.largest_step for part in chunk.parts}
    assert (steps["trunk"], steps["arm_left"], steps["arm_right"]) == (0, 0, 0)
    assert steps["base vx"] is None


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        (0, 1.5, "base vx is commanded to 1.50 at row 3, its limits are -1.00 and 1.00"),
        (10, 0.6, "arm_left joint 4 is commanded to 0.60 at row 3, its limits are -1.75 and 0.35"),
        (22, -1.2, "gripper_right is commanded to -1.20 at row 3"),
    ],
)
def test_a_command_beyond_a_limit_is_a_doubt_with_row_and_joint(at_rest, column, value, text):
    actions = np.zeros((30, 23), np.float32)
    actions[:, 3:6] = 1.025, -1.45, -0.47
    actions[3, column] = value
    findings = list(chunk_findings(chunk_facts(actions, at_rest, V17)))
    assert [f.level for f in findings] == ["doubt"]
    assert text in findings[0].text


@pytest.mark.parametrize(("command", "found"), [(0.98, 1), (1.0, 0), (0.3, 0)])
def test_a_gripper_that_is_never_quite_opened_is_a_doubt(at_rest, command, found):
    actions = np.zeros((30, 23), np.float32)
    actions[:, 3:6] = 1.025, -1.45, -0.47
    actions[7, 14] = command
    findings = [f.text for f in chunk_findings(chunk_facts(actions, at_rest, V17))]
    assert len(findings) == found
    assert not found or findings[0].startswith("gripper_left is commanded to 0.98 at most: 1 alone")


def test_rows_that_are_not_executed_are_not_judged(at_rest):
    actions = np.zeros((30, 23), np.float32)
    actions[:, 3:6] = 1.025, -1.45, -0.47
    actions[0, 0] = 5.0
    chunk = chunk_facts(actions, at_rest, V4)
    assert list(chunk_findings(chunk)) == []
    assert (chunk.parts[0].part, chunk.parts[0].high, chunk.parts[0].beyond_limits) == \
        ("base vx", 0.0, 0)  # fmt: skip


def test_positions_where_the_trunk_is_far_off_are_a_doubt(at_rest):
    actions = np.zeros((30, 23), np.float32)  # as offsets read as positions: the trunk to 0
    (finding,) = chunk_findings(chunk_facts(actions, at_rest, V17))
    assert finding.level == "doubt"
    assert "puts trunk joint 2 1.45 rad from where it is" in finding.text
    assert "offsets read as positions" in finding.text


def test_the_world_frame_velocity_of_2025_is_not_taken_for_a_command():
    state = state_as_action(made_observation(protocol="2025"))
    assert np.isnan(state[:3]).all()
    assert np.isfinite(state[3:]).all()
