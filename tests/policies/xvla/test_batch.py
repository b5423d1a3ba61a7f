"""The batch against the model cards' table, the evaluator's own record and the twin's pictures.

What a pass does not prove: the fields that the cards leave open (direction and axes of the poses,
extraction of the proprio) are tested for what the contract says of them, not for being right.
"""

from __future__ import annotations

import dataclasses

import mujoco
import numpy as np
import pytest
from observations import (
    CARDS,
    DTYPES,
    VIEWS,
    batch_faults,
    expected_pose,
    expected_proprio,
    extrinsics_faults,
    gripper_sights,
    image_faults,
    intrinsics_faults,
    made_observation,
    project,
    proprio_faults,
    sight_faults,
    tokens,
)

from b1k_envs.errors import EnvError, UsageError
from b1k_policies.contract.presets import (
    PRESETS,
    PROPRIO_GRIPPERS_INLINE,
    PROPRIO_GRIPPERS_LAST,
    V4,
    V17,
)
from b1k_policies.xvla.batch import build_batch, extract_proprio, extrinsics

PROTOCOLS = ("2025", "2026")


@pytest.fixture(scope="module")
def sights(_twin_2025):
    _twin_2025.reset(0, 0, 0)
    return gripper_sights(_twin_2025)


def with_proprio(observation, **numbers):
    """A copy with `index_N=value` written into the evaluator's vector."""
    raw = observation.proprio.copy()
    for name, value in numbers.items():
        raw[int(name.removeprefix("index_"))] = value
    return dataclasses.replace(observation, proprio=raw)


# --- the table of the card -----------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("count", [1, 3])
def test_keys_dtypes_and_shapes_are_the_cards(preset, count):
    seen = [made_observation(seed) for seed in range(count)]
    batch = build_batch(seen, PRESETS[preset], tokens(count))
    assert list(batch) == list(DTYPES)
    assert batch_faults(batch, CARDS[preset], count) == []


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_value_is_right_in_a_batch_of_three(preset, protocol):
    seen = [made_observation(seed, protocol) for seed in range(3)]
    card = CARDS[preset]
    batch = build_batch(seen, PRESETS[preset], tokens(3))
    assert image_faults(batch, seen, card) == []
    assert extrinsics_faults(batch, seen, card) == []
    assert intrinsics_faults(batch, card) == []
    assert proprio_faults(batch, seen) == []
    assert batch["input_ids"].tolist() == tokens(3).tolist()


@pytest.mark.parametrize("preset", PRESETS)
def test_a_batch_of_three_is_three_singles(preset):
    seen = [made_observation(0), made_observation(1, "2026"), made_observation(2)]
    together = build_batch(seen, PRESETS[preset], tokens(3))
    for row, observation in enumerate(seen):
        alone = build_batch([observation], PRESETS[preset], tokens(3)[row : row + 1])
        for key, tensor in alone.items():
            np.testing.assert_array_equal(tensor[0].numpy(), together[key][row].numpy(), key)


def test_without_poses_neither_extrinsics_nor_intrinsics_are_sent():
    batch = build_batch([made_observation()], dataclasses.replace(V17, posed=False), tokens(1))
    assert list(batch) == ["input_ids", "image_input", "image_mask", "proprio", "domain_id"]


def test_skill_and_progress_are_sent_only_where_forced():
    seen = [made_observation(seed) for seed in range(3)]
    batch = build_batch(seen, V17, tokens(3), skill_id=0, skill_progress=0.0)
    assert set(batch) - set(DTYPES) == {"skill_id", "skill_progress"}
    assert (str(batch["skill_id"].dtype), batch["skill_id"].tolist()) == ("torch.int64", [0] * 3)
    assert str(batch["skill_progress"].dtype) == "torch.float32"
    assert batch["skill_progress"].tolist() == [0.0] * 3
    assert set(build_batch(seen, V17, tokens(3), skill_id=33)) - set(DTYPES) == {"skill_id"}
    only = build_batch(seen, V17, tokens(3), skill_progress=0.25)
    assert set(only) - set(DTYPES) == {"skill_progress"}
    assert only["skill_progress"].tolist() == [0.25] * 3


def test_tokens_that_do_not_fit_are_refused():
    import torch

    seen = [made_observation()]
    for wrong, came in (
        (tokens(1, 49), "torch.int64 [1, 49]"),
        (tokens(2), "torch.int64 [2, 50]"),
        (tokens(1)[0], "torch.int64 [50]"),
        (tokens(1).to(torch.int32), "torch.int32 [1, 50]"),
    ):
        with pytest.raises(UsageError) as refused:
            build_batch(seen, V17, wrong)
        assert str(refused.value) == f"input_ids must be int64 [1, 50], got {came}"


def test_an_observation_without_pictures_is_refused():
    with pytest.raises(EnvError, match=r"has no picture of head \(it has: none\)"):
        build_batch([made_observation(pictures={})], V17, tokens(1))


def test_the_observation_is_left_as_it_was():
    seen = made_observation()
    arrays = [seen.proprio, seen.cam_rel_poses, *seen.images.values()]
    arrays += seen.camera_to_base.values()
    before = [array.copy() for array in arrays]
    batch = build_batch([seen], V17, tokens(1))
    for key in ("image_input", "proprio", "extrinsics", "intrinsics"):
        batch[key].fill_(0)
    for array, copy in zip(arrays, before, strict=True):
        assert not array.flags.writeable
        np.testing.assert_array_equal(array, copy)
    again = build_batch([seen], V17, tokens(1))
    assert intrinsics_faults(again, CARDS["v17"]) == []  # nothing cached was written to


# --- poses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("direction", ["camera_to_base", "base_to_camera"])
@pytest.mark.parametrize("axes", ["usd", "opencv"])
@pytest.mark.parametrize("seed", range(4))
def test_rows_are_the_recorded_blocks_in_the_cards_order(preset, direction, axes, seed):
    contract = dataclasses.replace(
        PRESETS[preset], extrinsics_direction=direction, camera_axes=axes
    )
    seen = made_observation(seed)
    sent = extrinsics(seen, contract)
    assert sent.dtype == np.float32
    assert sent.shape == (3, 4, 4)
    for row, block in zip(sent, CARDS[preset].blocks, strict=True):
        recorded = seen.cam_rel_poses[7 * block : 7 * block + 7]
        want = expected_pose(recorded, direction=direction, axes=axes)
        np.testing.assert_allclose(row, want, atol=2e-6, rtol=0)
        np.testing.assert_array_equal(row[3], [0, 0, 0, 1])
        np.testing.assert_allclose(row[:3, :3].T @ row[:3, :3], np.eye(3), atol=1e-6)
        assert np.linalg.det(row[:3, :3]) == pytest.approx(1, abs=1e-6)


def test_direction_and_axes_do_to_a_point_what_their_names_say():
    """A point 2 m ahead of a camera at (1, 0, 0) that looks along the base's +y, upright."""
    pose = np.array([[1, 0, 0, 1], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], np.float32)
    seen = dataclasses.replace(made_observation(), camera_to_base=dict.fromkeys(VIEWS, pose))
    ahead, in_base = {"usd": (0, 0, -2, 1), "opencv": (0, 0, 2, 1)}, (1, 2, 0, 1)
    for axes, in_camera in ahead.items():
        there = extrinsics(seen, dataclasses.replace(V17, camera_axes=axes))
        back = dataclasses.replace(V17, camera_axes=axes, extrinsics_direction="base_to_camera")
        np.testing.assert_allclose(there[0] @ in_camera, in_base, atol=1e-6)
        np.testing.assert_allclose(extrinsics(seen, back)[0] @ in_base, in_camera, atol=1e-6)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_twins_poses_are_those_it_records(preset, sights):
    seen = [sight.after for sight in sights]
    batch = build_batch(seen, PRESETS[preset], tokens(2))
    assert extrinsics_faults(batch, seen, CARDS[preset]) == []


@pytest.mark.parametrize("preset", PRESETS)
def test_the_hands_are_seen_where_the_rows_trained_for_them_put_them(preset, sights):
    def build(seen):
        return build_batch(seen, PRESETS[preset], tokens(len(seen)))

    own = CARDS[preset].own_rows
    assert sight_faults(build, sights, own) == []
    swapped = [own[i] for i in (0, 2, 1)]  # the wrists' poses exchanged
    assert len(sight_faults(build, sights, swapped)) == 2
    turned = [own[i] for i in (1, 2, 0)]  # left_wrist, right_wrist, head, as recorded
    assert len(sight_faults(build, sights, turned)) == 4


def test_v4_is_sent_the_left_wrists_pose_with_the_head_picture_as_it_was_trained(sights):
    def build(seen):
        return build_batch(seen, V4, tokens(len(seen)))

    assert len(sight_faults(build, sights, (0, 1, 2))) == 4  # row by row nothing fits
    seen = sights[1].after
    sent = extrinsics(seen, V4)
    for row, view in zip(sent, ("left_wrist", "right_wrist", "head"), strict=True):
        np.testing.assert_allclose(row, seen.camera_to_base[view], atol=1e-7)


@pytest.mark.parametrize("preset", PRESETS)
def test_with_opencv_axes_or_the_other_direction_the_hands_would_be_elsewhere(preset, sights):
    for change in ({"camera_axes": "opencv"}, {"extrinsics_direction": "base_to_camera"}):
        contract = dataclasses.replace(PRESETS[preset], **change)

        def build(seen, contract=contract):
            return build_batch(seen, contract, tokens(len(seen)))

        assert len(sight_faults(build, sights, CARDS[preset].own_rows)) == 4, change


# --- intrinsics ----------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_k_goes_with_the_picture_as_sent(preset):
    """The corners of the native picture, as rays, end in the corners of the resized one."""
    sent = build_batch([made_observation()], PRESETS[preset], tokens(1))["intrinsics"][0].numpy()
    size = CARDS[preset].size
    for k, native, focal in zip(sent, (720, 480, 480), (306.0, 388.6639, 388.6639), strict=True):
        reach = native / 2 / focal
        corner = project(np.array([-reach, reach, -1]), np.eye(4), k)
        assert corner == pytest.approx((0, 0), abs=1e-4)
        corner = project(np.array([reach, -reach, -1]), np.eye(4), k)
        assert corner == pytest.approx((size, size), rel=1e-6)


@pytest.mark.parametrize("scaled", [True, False])
def test_k_is_in_the_order_of_the_views(scaled):
    order = ("left_wrist", "head", "right_wrist")
    contract = dataclasses.replace(V17, view_order=order, scale_intrinsics=scaled)
    sent = build_batch([made_observation()], contract, tokens(1))["intrinsics"][0].numpy()
    focal = (181.4, 95.2, 181.4) if scaled else (388.7, 306.0, 388.7)
    assert sent[:, 0, 0] == pytest.approx(focal, abs=0.1)
    assert sent[:, 1, 2] == pytest.approx((112,) * 3 if scaled else (240, 360, 240), abs=0.1)


# --- proprio -------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("seed", range(5))
def test_the_23_numbers_are_those_at_the_indices_written_out_by_hand(preset, protocol, seed):
    seen = made_observation(seed, protocol)
    found = extract_proprio(seen, PRESETS[preset])
    assert (found.dtype, found.shape) == (np.float32, (23,))
    np.testing.assert_allclose(found, expected_proprio(seen), atol=1e-6)
    joints = [i for i in range(23) if i not in (14, 22)]
    np.testing.assert_array_equal(  # passed on bit for bit, but for the grippers
        found[joints], expected_proprio(seen).astype(np.float32)[joints]
    )


@pytest.mark.parametrize(
    ("protocol", "left", "right"), [("2025", (193, 194), (232, 233)), ("2026", (24, 25), (49, 50))]
)
@pytest.mark.parametrize(
    ("scaling", "closed", "half", "opened"),
    [("signed", -1, 0, 1), ("fraction", 0, 0.5, 1), ("sum", 0, 0.05, 0.1)],
)
def test_a_gripper_is_one_number_between_its_ends(
    protocol, left, right, scaling, closed, half, opened
):
    contract = dataclasses.replace(V17, gripper_proprio=scaling)
    for fingers, want in (
        ((0.0, 0.0), closed),
        ((0.025, 0.025), half),
        ((0.05, 0.0), half),  # the sum counts, whichever finger has moved
        ((0.05, 0.05), opened),
    ):
        for pair, column in ((left, 14), (right, 22)):
            numbers = {f"index_{i}": value for i, value in zip(pair, fingers, strict=True)}
            seen = with_proprio(made_observation(protocol=protocol), **numbers)
            assert extract_proprio(seen, contract)[column] == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_parts_come_in_the_contracts_order(protocol):
    seen = made_observation(protocol=protocol)
    numbers = np.split(expected_proprio(seen), [3, 7, 14, 15, 22])
    inline = dict(zip(PROPRIO_GRIPPERS_INLINE, numbers, strict=True))
    for parts in (PROPRIO_GRIPPERS_LAST, tuple(reversed(PROPRIO_GRIPPERS_INLINE))):
        found = extract_proprio(seen, dataclasses.replace(V17, proprio_parts=parts))
        want = np.concatenate([inline[part] for part in parts])
        np.testing.assert_allclose(found, want, atol=1e-6)


def test_a_part_that_the_61_numbers_lack_is_refused_with_the_way_out():
    parts = ("base_qpos", *PROPRIO_GRIPPERS_INLINE[1:])
    contract = dataclasses.replace(V17, proprio_parts=parts)
    seen = made_observation()
    np.testing.assert_array_equal(extract_proprio(seen, contract)[:3], seen.proprio[244:247])
    with pytest.raises(UsageError) as refused:
        extract_proprio(made_observation(protocol="2026"), contract)
    assert str(refused.value) == (
        "the contract's proprio has base_qpos, which the layout of protocol 2026 lacks: "
        "run with another --protocol"
    )


def test_a_vector_of_the_other_layouts_length_is_refused():
    seen = dataclasses.replace(made_observation(), protocol="2026")
    with pytest.raises(UsageError, match=r"proprio of protocol 2026 must be \[61\], got \[256\]"):
        extract_proprio(seen, V17)


# --- the same robot under both layouts -----------------------------------------------------------


def driven(env, yaw):
    """Drive, turn, move every joint; then let the heading be `yaw` exactly, and observe."""
    env.reset(0, 0, 0)
    action = np.zeros(23, np.float32)
    action[0:3] = 0.4, -0.3, 0.5
    action[3:7] = 1.0, -1.4, -0.4, 0.2
    action[7:15] = -0.4, 0.1, 0.2, -0.5, 0.1, 0.2, -0.1, -0.6
    action[15:23] = -0.6, -0.2, 0.1, -0.7, 0.2, -0.1, 0.3, 0.3
    for _ in range(15):
        env.step(action)
    env._data.joint("base_footprint_rz_joint").qpos = yaw
    mujoco.mj_step1(env._model, env._data)
    return env.observe(images=False)


def test_both_layouts_give_the_same_23_numbers_where_the_base_has_not_turned(twin_2025, twin_2026):
    one, other = driven(twin_2025, 0.0), driven(twin_2026, 0.0)
    first, second = extract_proprio(one, V17), extract_proprio(other, V17)
    assert np.abs(first).min() > 0.05  # every number says something
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("yaw", [-2.0, 0.5, 1.5])
def test_with_a_turned_base_only_its_velocity_differs_and_exactly_by_the_yaw(
    twin_2025, twin_2026, yaw
):
    one, other = driven(twin_2025, yaw), driven(twin_2026, yaw)
    assert one.proprio[246] == pytest.approx(yaw)  # base_qpos: x, y, yaw at 244
    first, second = (extract_proprio(seen, V17).astype(np.float64) for seen in (one, other))
    (vx, vy, wz), (forward, left, turning) = first[:3], second[:3]
    # 2025 records in the world-fixed frame, 2026 in the robot's
    assert forward == pytest.approx(np.cos(yaw) * vx + np.sin(yaw) * vy, abs=1e-6)
    assert left == pytest.approx(-np.sin(yaw) * vx + np.cos(yaw) * vy, abs=1e-6)
    assert abs(first[:2] - second[:2]).max() > 0.1
    assert turning == wz
    assert abs(wz) > 0.1
    np.testing.assert_array_equal(first[3:], second[3:])
