"""What a policy is shown, disturbed: against numbers worked out another way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from b1k_envs.base import VIEWS
from b1k_envs.errors import UsageError
from b1k_envs.poses import camera_matrices
from b1k_envs.r1pro import PROPRIO_2026
from b1k_eval.disturbances.axes import AXES, parse_disturbances
from b1k_eval.disturbances.shown import Shown

POSE = [0.1, 0.2, 1.3, *Rotation.from_euler("xyz", (0.3, -0.5, 1.1)).as_quat()]
SEED = 11


@pytest.fixture
def seen(toy_env):
    """An observation with pictures of many colours and poses of cameras that look somewhere."""
    rng = np.random.default_rng(3)
    observation = toy_env.observe()
    smooth = {
        view: cv2.resize(rng.integers(0, 256, (6, 6, 3), np.uint8), (96, 96), interpolation=1)
        for view in VIEWS
    }
    recorded = np.array(POSE * 3, np.float32)
    return replace(
        observation,
        images=smooth,
        cam_rel_poses=recorded,
        camera_to_base=camera_matrices(recorded),
        proprio=rng.standard_normal(61).astype(np.float32),
    )


def told(typed, seen, *, seed=SEED, step=0):
    shown = Shown(parse_disturbances(typed))
    shown.reset(seed)
    return shown.observation(replace(seen, step=step))


def levels(first, second):
    return np.abs(first.astype(float) - second.astype(float))


@pytest.mark.parametrize("name", [name for name in AXES if name != "paraphrase"])
def test_dose_0_is_nothing(name, seen):
    shown = Shown(parse_disturbances(f"{name}=0"))
    shown.reset(SEED)
    assert shown.observation(seen) is seen
    assert shown.instruction("wash them") == "wash them"


@pytest.mark.parametrize("name", [n for n, axis in AXES.items() if axis.kind == "picture"])
def test_every_picture_axis_changes_pictures_and_nothing_else(name, seen):
    dose = AXES[name].doses[-1]
    changed = told(f"{name}={dose}", seen, step=5)
    if name == "frozen":  # the first of the episode is this one
        assert changed.images["head"] is seen.images["head"]
        return
    views = ("left_wrist", "right_wrist") if name == "swapped" else VIEWS
    for view in views:
        assert changed.images[view].dtype == np.uint8
        assert changed.images[view].shape == seen.images[view].shape
        assert levels(changed.images[view], seen.images[view]).max() > 0
    assert changed.proprio is seen.proprio
    assert changed.cam_rel_poses is seen.cam_rel_poses


@pytest.mark.parametrize("axis", [a for a in AXES.values() if a.kind == "picture" and not a.whole])
def test_a_larger_dose_changes_more(axis, seen):
    for sign in (-1, 1):
        doses = sorted((d for d in axis.doses if d * sign > 0), key=abs)
        moved = [
            np.mean([
                levels(told(f"{axis.name}={d}", seen, seed=seed).images["head"],
                       seen.images["head"]).mean()
                for seed in range(4)
            ])
            for d in doses
        ]  # fmt: skip
        assert moved == sorted(moved)


def test_a_part_is_all_that_changes(seen):
    changed = told("blur:left_wrist=4", seen)
    assert changed.images["head"] is seen.images["head"]
    assert levels(changed.images["left_wrist"], seen.images["left_wrist"]).max() > 5


def test_brightness_contrast_and_noise_are_what_their_doses_say(seen):
    picture = np.full((64, 64, 3), 100, np.uint8)
    flat = replace(seen, images=dict.fromkeys(VIEWS, picture))
    assert (told("brightness=0.2", flat).images["head"] == 151).all()
    assert (told("brightness=-1", flat).images["head"] == 0).all()
    halves = picture.copy()
    halves[:32] = 60
    two = told("contrast=0.5", replace(seen, images=dict.fromkeys(VIEWS, halves))).images["head"]
    assert {int(two[0, 0, 0]), int(two[-1, 0, 0])} == {50, 110}
    noisy = told("noise=16", flat).images["head"].astype(float)
    assert noisy.std() == pytest.approx(16, rel=0.05)
    again = told("noise=16", flat).images["head"].astype(float)
    assert (noisy == again).all()
    assert (noisy != told("noise=16", flat, step=10).images["head"]).any()


def test_a_hue_turned_by_120_degrees_exchanges_the_colours(seen):
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 200
    turned = told("hue=120", replace(seen, images=dict.fromkeys(VIEWS, red))).images["head"]
    assert turned[0, 0].tolist() == [0, 200, 0]


def test_a_patch_covers_the_share_it_says_and_stays_where_it_is(seen):
    first, later = (told("patch=0.25", seen, step=step).images["head"] for step in (0, 90))
    covered = (first == 128).all(axis=2)
    assert covered.mean() == pytest.approx(0.25, abs=0.02)
    assert (first == later).all()
    other = told("patch=0.25", seen, seed=12).images["head"]
    assert (other != first).any()


def test_a_rotation_by_90_degrees_is_that_of_numpy(seen):
    turned = told("rotation=90", seen).images["head"]
    assert levels(turned, np.rot90(seen.images["head"])).max() <= 1


def test_frozen_pictures_are_the_first_of_the_episode(seen):
    shown = Shown(parse_disturbances("frozen:head=1"))
    shown.reset(SEED)
    shown.observation(seen)
    later = replace(seen, images={view: 255 - picture for view, picture in seen.images.items()})
    changed = shown.observation(later)
    assert changed.images["head"] is seen.images["head"]
    assert changed.images["left_wrist"] is later.images["left_wrist"]
    shown.reset(SEED)
    assert shown.observation(later).images["head"] is later.images["head"]


def test_told_poses_are_turned_and_moved_by_the_dose_in_both_forms(seen):
    for typed, turn, way in (("pose-turn:head=7", 7.0, 0.0), ("pose-shift:head=0.05", 0.0, 0.05)):
        changed = told(typed, seen)
        was, now = seen.camera_to_base["head"], changed.camera_to_base["head"]
        apart = Rotation.from_matrix(was[:3, :3].T @ now[:3, :3]).magnitude()
        assert np.degrees(apart) == pytest.approx(turn, abs=1e-3)
        assert np.linalg.norm(now[:3, 3] - was[:3, 3]) == pytest.approx(way, abs=1e-6)
        recorded = changed.cam_rel_poses[14:]  # left wrist, right wrist, head
        assert np.allclose(Rotation.from_quat(recorded[3:]).as_matrix(), now[:3, :3], atol=1e-6)
        assert (changed.camera_to_base["left_wrist"] == seen.camera_to_base["left_wrist"]).all()


def test_the_state_is_disturbed_part_by_part(seen):
    part = PROPRIO_2026["arm_left_qpos"]
    zeroed = told("state-blank:arm_left_qpos=1", seen).proprio
    assert (zeroed[part] == 0).all()
    assert (np.delete(zeroed, np.r_[part]) == np.delete(seen.proprio, np.r_[part])).all()
    off = told("state-bias=0.02", seen).proprio - seen.proprio
    assert np.abs(off) == pytest.approx(0.02, abs=1e-6)
    assert np.allclose(off, told("state-bias=0.02", seen, step=30).proprio - seen.proprio)
    noises = [told("state-noise=0.02", seen, step=n).proprio - seen.proprio for n in range(40)]
    assert np.std(noises) == pytest.approx(0.02, rel=0.05)


def test_the_instruction_is_emptied_exchanged_or_paraphrased(tmp_path):
    def words(typed, seed=SEED):
        shown = Shown(parse_disturbances(typed))
        shown.reset(seed)
        return shown.instruction("clean the boxing gloves")

    assert words("words-blank=1") == ""
    others = {words("words-other=1", seed) for seed in range(20)}
    assert len(others) > 5
    assert "clean the boxing gloves" not in others
    lines = tmp_path / "words.txt"
    lines.write_text("wash the gloves\n\nput them into the washer\n")
    assert words(f"paraphrase:{lines}=2") == "put them into the washer"
    with pytest.raises(UsageError, match=r"has 2 lines, and line 3 was asked"):
        words(f"paraphrase:{lines}=3")
    with pytest.raises(UsageError, match="cannot be read"):
        words(f"paraphrase:{tmp_path / 'none'}=1")


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("blurr=3", "there is no axis 'blurr' to disturb; did you mean blur?"),
        ("blur:haed=3", "blur has no part 'haed'; did you mean blur:head?"),
        ("swapped:head=1", "swapped has no part 'head'; it has no parts"),
        ("blur", "--disturb 'blur' lacks a dose: blur=1, say"),
        ("blur=much", "--disturb 'blur=much': the dose 'much' is no number"),
        ("blur=nan", "the dose must lie in [0, 64] px (Gaussian blur of standard deviation d"),
        ("blur=-1", "the dose must lie in [0, 64] px"),
        ("blank=0.5", "--disturb 'blank=0.5': blank is all or nothing, 1 or 0"),
        ("gripper-delay=1.5", "gripper-delay is a whole number of steps"),
        ("blur=1,blur=2", "--disturb has blur twice; give it once"),
        ("paraphrase=1", "paraphrase needs a file with a line for each: paraphrase:FILE=1"),
    ],
)
def test_what_cannot_be_is_refused_in_words(typed, says):
    with pytest.raises(UsageError) as refused:
        parse_disturbances(typed)
    assert says in str(refused.value)


def test_the_page_lists_every_axis_as_it_is():
    page = (Path(__file__).parents[3] / "docs" / "stress.md").read_text()
    for axis in AXES.values():
        doses = ", ".join(f"{dose:g}" for dose in axis.doses)
        unit, span = axis.unit, f"{axis.least:g} to {axis.most:g}"
        row = f"| `{axis.name}` | {axis.kind} | {unit} | {axis.meaning} | {doses} | {span} |"
        assert row in page
