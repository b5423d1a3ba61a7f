"""Rungs 1 to 3 in the twin, as it is and with a fault planted in it.

What a pass does not prove: that OmniGibson's room has enough to see for the pictures' rung.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from faulty_worlds import Around, LopsidedBase, RestlessGoal

from b1k_envs.base import VIEWS
from b1k_envs.r1pro import CAMERAS
from b1k_eval.qualify.geometry import misses
from b1k_eval.qualify.pictures import judge, look_around
from b1k_eval.qualify.world_checks import hold_rung, startup_rung


@pytest.fixture(params=["2025", "2026"])
def twin(request):
    return request.getfixturevalue(f"twin_{request.param}")


def test_the_twin_passes_the_startup_checks(twin):
    rung = startup_rung(twin, 3)
    assert rung.verdict == "pass", rung.finding
    (driven,) = [each for each in rung.details["findings"] if "as driven" in each["name"]]
    assert np.allclose(driven["found"], [[-0.75, -0.75, -1], [0.75, 0.75, 1]], atol=0.01)


def test_lopsided_base_limits_are_told_by_name_with_their_figures(twin_2026):
    rung = startup_rung(LopsidedBase(twin_2026), 0)
    assert rung.verdict == "fail"
    assert rung.finding.startswith("base velocity limits as driven")
    (driven,) = [each for each in rung.details["findings"] if not each["ok"]]
    assert np.allclose(driven["found"], [[-0.75, -0.75, -1], [1, 1, 1]], atol=0.02)
    still = hold_rung(LopsidedBase(twin_2026), 0)
    assert "the base drifts: 0.1" in still.finding


def test_another_grasp_window_is_told_by_name(twin_2026):
    world = Around(twin_2026)
    world.info = replace(twin_2026.info, settings={"grasp_window_steps": 23})
    rung = startup_rung(world, 0)
    assert rung.verdict == "fail"
    assert "grasp window [control steps]: expected 9, found 23" in rung.finding


def test_proprioception_with_hands_swapped_is_told(twin_2026):
    class Swapped(Around):
        def observe(self, *, images=True):
            seen = self.env.observe(images=images)
            proprio = seen.proprio.copy()
            proprio[17:20], proprio[42:45] = seen.proprio[42:45], seen.proprio[17:20]
            return replace(seen, proprio=proprio)

    rung = startup_rung(Swapped(twin_2026), 0)
    assert "hands in the proprio, brought to the world by the base" in rung.finding


def test_standing_still_does_nothing_in_the_twin(twin):
    rung = hold_rung(twin, 5)
    assert rung.verdict == "pass", rung.finding
    assert rung.details["base_m"] < 1e-3


def test_a_goal_that_comes_by_waiting_is_told(twin_2026):
    rung = hold_rung(RestlessGoal(twin_2026), 0)
    assert rung.verdict == "fail"
    assert "the goal changes without the robot: not covered boxing_glove" in rung.finding
    assert "standing still scores q = 1" in rung.finding


# --- pictures ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seen(_twin_2026):
    """A turn to and fro, rendered once for the faults planted in it."""
    return look_around(_twin_2026, 0)


def faults(seen):
    return [fit.fault() for fit in judge(seen)]


def with_pictures(seen, of):
    """The same turn with other pictures: `of(step, view)` gives them."""
    return [
        replace(
            each,
            observation=replace(each.observation, images={view: of(step, view) for view in VIEWS}),
        )
        for step, each in enumerate(seen)
    ]


def test_pictures_of_the_twin_are_current_and_in_place(seen):
    fits = judge(seen)
    assert [fit.best for fit in fits] == [(view, 0) for view in VIEWS]
    assert all(fit.fits[fit.view, 0] >= 5 for fit in fits)


@pytest.mark.parametrize("ago", [1, 3])
def test_late_pictures_are_told_with_their_age(seen, ago):
    late = with_pictures(seen, lambda step, v: seen[max(0, step - ago)].observation.images[v])
    steps = "1 step" if ago == 1 else f"{ago} steps"
    assert faults(late) == [f"late: the pictures of {view} are {steps} old" for view in VIEWS]


def test_swapped_wrists_are_told_by_name(seen):
    other = {"head": "head", "left_wrist": "right_wrist", "right_wrist": "left_wrist"}
    swapped = with_pictures(seen, lambda step, v: seen[step].observation.images[other[v]])
    assert faults(swapped) == [
        None,
        "swapped: the pictures of left_wrist fit the camera pose of right_wrist",
        "swapped: the pictures of right_wrist fit the camera pose of left_wrist",
    ]


def test_frozen_pictures_are_told_by_name(seen):
    frozen = with_pictures(seen, lambda _, v: seen[0].observation.images[v])
    assert faults(frozen)[0] == "frozen: the pictures of head do not move while the camera does"


def test_pictures_that_are_upside_down_fit_no_pose(seen):
    turned = with_pictures(seen, lambda step, v: seen[step].observation.images[v][::-1, ::-1])
    assert faults(turned)[0].startswith("out of place: the pictures of head fit the camera pose of")


def test_an_empty_picture_is_no_verdict(seen):
    grey = with_pictures(seen, lambda step, v: np.full_like(seen[0].observation.images[v], 90))
    assert not any(fit.told() for fit in judge(grey))


def test_points_are_held_against_an_own_projection():
    """Of points at random distances; USD cameras that turn and move, by an own pinhole."""
    rng = np.random.default_rng(0)
    intrinsics = CAMERAS["head"].intrinsics
    cameras, tracks = [], []
    points = np.stack([rng.uniform(-1, 1, 40), rng.uniform(-1, 1, 40), -rng.uniform(1, 9, 40)], 1)
    for step in range(6):
        angle, pose = 0.03 * step, np.eye(4)
        pose[:3, :3] = [
            [np.cos(angle), 0, np.sin(angle)],
            [0, 1, 0],
            [-np.sin(angle), 0, np.cos(angle)],
        ]
        pose[:3, 3] = (0.02 * step, 0.01 * step, 0)
        local = (points - pose[:3, 3]) @ pose[:3, :3]
        right, up, away = local[:, 0], local[:, 1], -local[:, 2]
        tracks.append(np.stack([306 * right / away + 360, 360 - 306 * up / away], axis=1))
        cameras.append(pose)
    found = np.stack(tracks, axis=1)
    assert misses(found, cameras, intrinsics).max() < 0.3  # the distances are tried in steps
    late = misses(found, [cameras[0], *cameras[:-1]], intrinsics)
    assert np.median(late) > 3
    assert late.min() > 1
