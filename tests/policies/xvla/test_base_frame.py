"""The base's velocity in the contract's frame: turned by the robot's own heading, or refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from spoilt import one_thread  # noqa: F401 - a fixture
from typer.testing import CliRunner

from b1k_envs.errors import UsageError
from b1k_envs.mujoco_twin.env import TwinEnv
from b1k_envs.tasks.table import get_task
from b1k_envs.tracks import mask
from b1k_eval.cli.main import app
from b1k_policies.contract.presets import PRESETS, PROPRIO_GRIPPERS_INLINE, V17
from b1k_policies.xvla.base_frame import frame_doubt
from b1k_policies.xvla.batch import extract_proprio

ROBOT, WORLD = (dataclasses.replace(V17, base_qvel_frame=frame) for frame in ("robot", "world"))


@pytest.fixture(scope="module")
def turned():
    """The same moment under both protocols: turned by about a quarter, and still under way."""
    seen = {}
    for protocol in ("2025", "2026"):
        task = get_task("clean_boxing_gloves")
        env = TwinEnv(task, protocol=protocol, split="public-test", max_steps=200)
        env.reset(0, 0, 0)
        action = np.zeros(23, np.float32)
        action[3:7], action[[14, 22]] = (1.025, -1.45, -0.47, 0.0), 1.0
        action[:3] = 0.4, 0.1, 0.8
        for _ in range(45):
            env.step(action)
        seen[protocol] = dataclasses.replace(env.observe(), images={})
        env.close()
    return seen


@pytest.mark.slow
def test_2025_turned_into_the_robots_frame_is_what_2026_records(turned):
    ours = extract_proprio(turned["2025"], ROBOT)
    assert abs(float(turned["2025"].proprio[246])) > 0.7  # base_qpos: the heading [rad]
    np.testing.assert_allclose(ours, extract_proprio(turned["2026"], V17), atol=1e-5)
    np.testing.assert_allclose(ours, extract_proprio(turned["2026"], ROBOT), atol=1e-5)
    as_recorded = extract_proprio(turned["2025"], V17)
    np.testing.assert_array_equal(as_recorded, extract_proprio(turned["2025"], WORLD))
    assert np.abs(as_recorded[:2] - ours[:2]).max() > 0.2
    np.testing.assert_array_equal(as_recorded[2:], ours[2:])


def test_world_fixed_axes_cannot_be_had_from_2026s_numbers(turned):
    with pytest.raises(UsageError, match=r"nothing of the robot's heading: run with --protocol 20"):
        extract_proprio(turned["2026"], WORLD)


def test_a_heading_that_the_standard_track_hides_is_not_taken_for_zero(turned):
    hidden = dataclasses.replace(turned["2025"], proprio=mask(turned["2025"].proprio, "2025"))
    with pytest.raises(UsageError, match=r"base_qpos is hidden .*--track standard"):
        extract_proprio(hidden, ROBOT)


@pytest.mark.parametrize("preset", ["v4", "v17"])
def test_the_presets_frame_is_a_doubt_in_2026_and_a_remark_in_2025(preset):
    assert "learnt world-fixed axes" in frame_doubt(PRESETS[preset], "2026")
    assert "in world-fixed axes; no file states" in frame_doubt(PRESETS[preset], "2025")


def test_a_frame_that_is_stated_masked_or_not_sent_is_no_doubt():
    assert frame_doubt(ROBOT, "2026") is None
    assert frame_doubt(dataclasses.replace(V17, proprio_mask=(0, 1, 2)), "2026") is None
    assert frame_doubt(dataclasses.replace(V17, proprio_mask=(1, 2)), "2026") is not None
    base_less = tuple(part for part in PROPRIO_GRIPPERS_INLINE if part != "base_qvel")
    without = dataclasses.replace(V17, proprio_parts=base_less, delta_spec=(-23,))
    assert frame_doubt(without, "2026") is None


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("frame", "words", "told"),
    [
        ("world", ["--protocol", "2026"], "nothing of the robot's heading: run with --protocol"),
        ("robot", ["--protocol", "2025", "--track", "standard"], "base_qpos is hidden"),
    ],
)
def test_a_frame_that_cannot_be_had_ends_a_run_before_its_first_episode(
    frame, words, told, tiny_v17, tmp_path
):
    out = tmp_path / "run"
    asked = ["run", "--task", "31", "--ckpt", str(tiny_v17), "--no-video", "--out", str(out)]
    asked += ["--set", f"base_qvel_frame={frame}", "--force-contract", *words]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 2, result.output
    assert told in result.stderr
    assert not out.exists()
