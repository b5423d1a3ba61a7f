"""Messages, byte for byte as the protocol's text has them, and what is made of them."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest

from b1k_envs.base import Observation
from b1k_envs.errors import ActionError, PolicyFaultError, UnavailableError
from b1k_policies.base import ActionChunk, Resizing, Skill
from b1k_policies.remote.wire.codec import WireError, pack, unpack
from b1k_policies.remote.wire.messages import (
    Announcement,
    NoActionError,
    NoChunkError,
    answer_message,
    from_wire,
    is_reset,
    read_answer,
    read_reset,
    reset_message,
    to_wire,
)
from b1k_policies.remote.wire.metadata import ServerInfo, json_value, read_info
from b1k_policies.remote.wire.observations import camera_poses

HEAD = "robot_r1::robot_r1:zed_link:Camera:0::rgb"
LEFT = "robot_r1::robot_r1:left_realsense_link:Camera:0::rgb"
RIGHT = "robot_r1::robot_r1:right_realsense_link:Camera:0::rgb"
PROPRIO = "robot_r1::proprio"
POSES = "robot_r1::cam_rel_poses"

UPRIGHT = np.array([0.1, 0.2, 0.3, 0, 0, 0, 1] * 3, np.float32)
COLOURS = {"head": (1, 2, 3), "left_wrist": (4, 5, 6), "right_wrist": (7, 8, 9)}


def pictures(size: int = 1) -> dict:
    """One colour per view."""
    return {view: np.full((size, size, 3), colour, np.uint8) for view, colour in COLOURS.items()}


def observation(protocol: str = "2026", size: int = 1, step: int = 0) -> Observation:
    length = {"2025": 256, "2026": 61}[protocol]
    return Observation(
        images=MappingProxyType(pictures(size)),
        camera_to_base=camera_poses(UPRIGHT),
        cam_rel_poses=UPRIGHT,
        proprio=np.arange(length, dtype=np.float32),
        protocol=protocol,  # type: ignore[arg-type]
        task_index=31,
        step=step,
        time=step / 30,
    )


def message(protocol: str = "2026", *, envs: int | None = 1, size: int = 2, channels: int = 4):
    """An observation message as decoded, written from the protocol's text."""
    length = {"2025": 256, "2026": 61}[protocol]
    lead = () if envs is None else (envs,)
    found = {
        key: np.full((*lead, size, size, channels), shade, np.uint8)
        for shade, key in enumerate((HEAD, LEFT, RIGHT), start=10)
    }
    found[PROPRIO] = np.zeros((*lead, length), np.float32)
    found[POSES] = np.broadcast_to(UPRIGHT, (*lead, 21)).copy()
    found["task_id"] = np.full((*lead, 1), 31, np.int64)
    return found


# --- golden bytes: typed from the msgpack specification and the protocol ----------------------

NDARRAY = b"\x84\xc4\x0b__ndarray__\xc3\xc4\x04data"
DTYPE, SHAPE = b"\xc4\x05dtype", b"\xc4\x05shape"
POSE_BYTES = b"\xcd\xcc\xcc=\xcd\xccL>\x9a\x99\x99>" + bytes(12) + b"\x00\x00\x80?"
PROPRIO_BYTES = {
    length: b"".join(struct.pack("<f", number) for number in range(length)) for length in (61, 256)
}


def test_a_reset_is_a_map_of_one():
    assert pack(reset_message()) == b"\x81\xa5reset\xc3"


def test_a_reset_for_a_server_of_ours_tells_the_episode():
    told = Announcement(seed=70000, instance=3, rollout=1, inference=2, step=20)
    assert pack(reset_message(told)) == (
        b"\x82\xa5reset\xc3\xa8b1k_eval\x85"
        b"\xa4seed\xce\x00\x01\x11\x70\xa8instance\x03\xa7rollout\x01\xa9inference\x02\xa4step\x14"
    )


def test_an_observation_of_2025_has_256_numbers_and_no_leading_dimension():
    assert pack(to_wire(observation("2025"), batch=False)) == b"".join(
        (
            b"\x86",
            b"\xd9\x29robot_r1::robot_r1:zed_link:Camera:0::rgb",
            NDARRAY + b"\xc4\x04\x01\x02\x03\xff" + DTYPE + b"\xa3|u1",
            SHAPE + b"\x93\x01\x01\x04",
            b"\xd9\x34robot_r1::robot_r1:left_realsense_link:Camera:0::rgb",
            NDARRAY + b"\xc4\x04\x04\x05\x06\xff" + DTYPE + b"\xa3|u1",
            SHAPE + b"\x93\x01\x01\x04",
            b"\xd9\x35robot_r1::robot_r1:right_realsense_link:Camera:0::rgb",
            NDARRAY + b"\xc4\x04\x07\x08\x09\xff" + DTYPE + b"\xa3|u1",
            SHAPE + b"\x93\x01\x01\x04",
            b"\xb1robot_r1::proprio",
            NDARRAY + b"\xc5\x04\x00" + PROPRIO_BYTES[256],
            DTYPE + b"\xa3<f4" + SHAPE + b"\x91\xcd\x01\x00",
            b"\xb7robot_r1::cam_rel_poses",
            NDARRAY + b"\xc4\x54" + POSE_BYTES * 3 + DTYPE + b"\xa3<f4" + SHAPE + b"\x91\x15",
            b"\xa7task_id",
            NDARRAY + b"\xc4\x08\x1f" + bytes(7) + DTYPE + b"\xa3<i8" + SHAPE + b"\x91\x01",
        )
    )  # fmt: skip


def test_an_observation_of_2026_has_61_numbers_and_a_leading_dimension():
    assert pack(to_wire(observation("2026"), batch=True, rows=10)) == b"".join(
        (
            b"\x87",
            b"\xd9\x29robot_r1::robot_r1:zed_link:Camera:0::rgb",
            NDARRAY + b"\xc4\x04\x01\x02\x03\xff" + DTYPE + b"\xa3|u1",
            SHAPE + b"\x94\x01\x01\x01\x04",
            b"\xd9\x34robot_r1::robot_r1:left_realsense_link:Camera:0::rgb",
            NDARRAY + b"\xc4\x04\x04\x05\x06\xff" + DTYPE + b"\xa3|u1",
            SHAPE + b"\x94\x01\x01\x01\x04",
            b"\xd9\x35robot_r1::robot_r1:right_realsense_link:Camera:0::rgb",
            NDARRAY + b"\xc4\x04\x07\x08\x09\xff" + DTYPE + b"\xa3|u1",
            SHAPE + b"\x94\x01\x01\x01\x04",
            b"\xb1robot_r1::proprio",
            NDARRAY
            + b"\xc4\xf4"
            + PROPRIO_BYTES[61]
            + DTYPE
            + b"\xa3<f4"
            + SHAPE
            + b"\x92\x01\x3d",
            b"\xb7robot_r1::cam_rel_poses",
            NDARRAY + b"\xc4\x54" + POSE_BYTES * 3 + DTYPE + b"\xa3<f4" + SHAPE + b"\x92\x01\x15",
            b"\xa7task_id",
            NDARRAY + b"\xc4\x08\x1f" + bytes(7) + DTYPE + b"\xa3<i8" + SHAPE + b"\x92\x01\x01",
            b"\xb5__action_chunk_size__\x0a",
        )
    )


def test_an_observation_for_a_server_of_ours_has_the_step_and_no_alpha():
    data = pack(to_wire(observation(step=40), batch=True, channels="rgb", rows=30, extended=True))
    assert data.startswith(
        b"\x88\xd9\x29robot_r1::robot_r1:zed_link:Camera:0::rgb"
        + NDARRAY + b"\xc4\x03\x01\x02\x03" + DTYPE + b"\xa3|u1" + SHAPE + b"\x94\x01\x01\x01\x03"
    )  # fmt: skip
    one, none = b"\x00\x00\x80?", bytes(4)
    pose = one + none * 2 + b"\xcd\xcc\xcc="  # 1 0 0 0.1
    pose += none + one + none + b"\xcd\xccL>"  # 0 1 0 0.2
    pose += none * 2 + one + b"\x9a\x99\x99>"  # 0 0 1 0.3
    pose += none * 3 + one
    assert data.endswith(
        b"\xb5__action_chunk_size__\x1e\xa8b1k_eval\x82\xa4step\x28\xaecamera_to_base"
        + NDARRAY + b"\xc4\xc0" + pose * 3 + DTYPE + b"\xa3<f4" + SHAPE + b"\x93\x03\x04\x04"
    )  # fmt: skip


def test_answers_byte_for_byte():
    row = np.zeros((1, 23), np.float32)
    row[0, 1] = 0.5
    floats = b"\xc4\x5c" + bytes(4) + b"\x00\x00\x00?" + bytes(84)
    flat = b"\xa6action" + NDARRAY + floats + DTYPE + b"\xa3<f4" + SHAPE + b"\x91\x17"
    assert pack(answer_message(row, batched=False)) == b"\x81" + flat
    assert pack(answer_message(row, batched=True)) == (
        b"\x81\xa6action" + NDARRAY + floats + DTYPE + b"\xa3<f4" + SHAPE + b"\x92\x01\x17"
    )
    assert pack(answer_message(row, row[None], batched=False, timing={"infer_ms": 1.5})) == (
        b"\x83"
        + flat
        + b"\xacaction_chunk" + NDARRAY + floats + DTYPE + b"\xa3<f4" + SHAPE + b"\x92\x01\x17"
        + b"\xadserver_timing\x81\xa8infer_ms\xcb\x3f\xf8" + bytes(6)
    )  # fmt: skip


def test_what_the_chunk_says_of_itself_is_told_to_a_client_of_ours():
    row = np.zeros((1, 23), np.float32)
    chunk = ActionChunk(actions=row, skill=Skill(index=2, probability=0.5), progress=0.25)
    data = pack(answer_message(row, row[None], batched=True, said=chunk))
    assert data.endswith(
        b"\xa8b1k_eval\x82\xa5skill\x83\xa5index\x02\xa4name\xc0\xabprobability\xcb?\xe0"
        + bytes(6)
        + b"\xa8progress\xcb?\xd0"
        + bytes(6)
    )
    answer = read_answer(unpack(data), rows=1, extended=True)
    assert (answer.skill, answer.progress) == (chunk.skill, chunk.progress)
    assert read_answer(unpack(data), rows=1).skill is None


def test_metadata_of_a_server_of_ours_byte_for_byte():
    info = ServerInfo(name="v17", chunk_length=30)
    data = pack(info.as_metadata())
    assert data == (
        b"\x81\xa8b1k_eval\x87\xb0protocol_version\x01\xa7episode\xc3\xa4name\xa3v17"
        b"\xacchunk_length\x1e\xacskipped_rows\x00\xa6images\xa6native\xa7remarks\x90"
    )
    assert read_info(unpack(data)) == info


# --- observations -------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["2025", "2026"])
@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("channels", ["rgb", "rgba"])
def test_an_observation_comes_back_as_it_was(protocol, batch, channels):
    sent = observation(protocol, size=5, step=12)
    data = pack(to_wire(sent, batch=batch, channels=channels, extended=True))
    question = from_wire(unpack(data))
    (got,) = question.observations
    assert question.batched == batch
    assert (question.rows, question.step) == (None, 12)
    for view, picture in sent.images.items():
        np.testing.assert_array_equal(got.images[view], picture)
        assert got.images[view].flags.c_contiguous
        assert not got.images[view].flags.writeable
        np.testing.assert_array_equal(got.camera_to_base[view], sent.camera_to_base[view])
    np.testing.assert_array_equal(got.proprio, sent.proprio)
    np.testing.assert_array_equal(got.cam_rel_poses, sent.cam_rel_poses)
    assert (got.protocol, got.task_index, got.step, got.time) == (protocol, 31, 12, 0.4)


def test_the_callers_pictures_are_not_written_to():
    sent = observation(size=3)
    before = {view: picture.copy() for view, picture in sent.images.items()}
    to_wire(sent, batch=True)
    for view, picture in before.items():
        np.testing.assert_array_equal(sent.images[view], picture)


def test_poses_of_the_pictures_are_those_that_a_client_of_ours_tells():
    """Not those recorded, which are newer than the pictures in v3.9.3, and rounded otherwise."""
    moved = {view: pose.copy() for view, pose in camera_poses(UPRIGHT).items()}
    moved["head"][0, 3] = 0.7
    sent = replace(observation(), camera_to_base=moved)
    told = from_wire(unpack(pack(to_wire(sent, batch=True, extended=True)))).observations[0]
    others = from_wire(unpack(pack(to_wire(sent, batch=True)))).observations[0]
    for view, pose in moved.items():
        np.testing.assert_array_equal(told.camera_to_base[view], pose)
        assert not told.camera_to_base[view].flags.writeable
    assert others.camera_to_base["head"][0, 3] == np.float32(0.1)


def test_several_envs_come_in_one_message():
    found = message(envs=3)
    found[HEAD][1] = 200
    found[PROPRIO][2] = 7
    found["task_id"][0] = 30
    question = from_wire(found, envs=3)
    assert len(question.observations) == 3
    assert [one.images["head"][0, 0].tolist() for one in question.observations] == [
        [10] * 3, [200] * 3, [10] * 3,
    ]  # fmt: skip
    assert [one.proprio[0] for one in question.observations] == [0, 0, 7]
    assert [one.task_index for one in question.observations] == [30, 31, 31]


@pytest.mark.parametrize("size", [720, 480, 224])
@pytest.mark.parametrize("envs", [None, 1])
def test_pictures_may_have_any_size_and_alpha_is_dropped(size, envs):
    found = message(size=size, envs=envs)
    found[LEFT][..., 3] = 77
    picture = from_wire(found).observations[0].images["left_wrist"]
    assert picture.shape == (size, size, 3)
    assert (picture == 11).all()


def test_what_wrappers_add_is_passed_over():
    found = message()
    found["robot_r1::robot_r1:zed_link:Camera:0::depth_linear"] = np.zeros((1, 2, 2), np.float32)
    found["need_new_action"] = True
    assert len(from_wire(found).observations) == 1


@pytest.mark.parametrize("task", [31, np.int64(31), np.array([31]), np.array([[31]]),
                                  np.array(31, np.int32), np.array([[31]], np.uint8)])  # fmt: skip
def test_the_task_may_be_a_number_or_an_array_of_one(task):
    assert from_wire({**message(), "task_id": task}).observations[0].task_index == 31


def test_without_a_task_the_servers_own_is_taken():
    found = message()
    del found["task_id"]
    assert from_wire(found, task_index=5).observations[0].task_index == 5
    with pytest.raises(WireError, match="no task_id, and this server no task of its own"):
        from_wire(found)


def test_a_server_that_needs_no_pictures_looks_at_none():
    found = {key: value for key, value in message().items() if "rgb" not in key}
    assert from_wire(found, images=False).observations[0].images == {}
    missing = f"the observation has no {HEAD}, no .* .it has: robot_r1::cam"
    with pytest.raises(WireError, match=missing):
        from_wire(found)


def test_big_endian_numbers_are_the_same_numbers():
    found = message()
    found[PROPRIO] = np.arange(61, dtype=">f4")[None]
    proprio = from_wire(found).observations[0].proprio
    assert proprio.dtype == np.float32
    np.testing.assert_array_equal(proprio, np.arange(61))


def test_a_step_that_nobody_tells_is_the_servers_count():
    got = from_wire(message(), step=9)
    assert (got.step, got.observations[0].step, got.observations[0].time) == (None, 9, 0.3)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        (HEAD, np.zeros((1, 2, 3, 4), np.uint8), r"uint8 \[1, N, N, 4\].*got uint8 \[1, 2, 3, 4\]"),
        (HEAD, np.zeros((1, 2, 2, 2), np.uint8), r"got uint8 \[1, 2, 2, 2\]"),
        (HEAD, np.zeros((1, 0, 0, 4), np.uint8), r"got uint8 \[1, 0, 0, 4\]"),
        (HEAD, np.zeros((2, 2, 2, 4), np.uint8), r"got uint8 \[2, 2, 2, 4\]"),
        (HEAD, np.zeros((2, 2, 4), np.uint8), r"got uint8 \[2, 2, 4\]"),
        (HEAD, np.zeros((1, 2, 2, 4), np.float32), r"got float32 \[1, 2, 2, 4\]"),
        (HEAD, [[1]], "must be an array, got list"),
        (PROPRIO, np.zeros((1, 61)), r"must be float32, got float64 \[1, 61\]"),
        (PROPRIO, np.zeros((1, 62), np.float32), r"has 62 numbers, expected 256 .2025. or 61"),
        (PROPRIO, np.zeros((0, 61), np.float32), "is of 0 envs, expected at least 1"),
        (PROPRIO, np.zeros((1, 1, 61), np.float32), "or with a leading dimension"),
        (POSES, np.zeros((1, 20), np.float32), r"float32 \[1, 21\], got float32 \[1, 20\]"),
        (POSES, np.zeros((1, 21), np.float32), "left_wrist has a quaternion of length 0"),
        ("task_id", np.array([[1.0]]), r"must be integers, 1 of them, got float64"),
        ("task_id", np.array([[1, 2]]), r"got int64 \[1, 2\]"),
        ("task_id", "31", "must be an integer, got str"),
        ("task_id", True, "must be an integer, got bool"),
        ("__action_chunk_size__", 0, "a whole number from 1 up, got 0"),
        ("__action_chunk_size__", 2.0, "a whole number from 1 up, got a float"),
        ("__action_chunk_size__", True, "got a bool"),
        ("b1k_eval", {"step": -1}, "step must be a whole number from 0 up, got -1"),
        ("b1k_eval", {"camera_to_base": np.zeros((3, 4, 4), np.float32)}, "a pose must be a rot"),
        (
            "b1k_eval",
            {"camera_to_base": np.diag([1, 1, -1, 1]) * np.ones((3, 1, 1), np.float32)},
            "must be float32, got float64",
        ),
        (
            "b1k_eval",
            {"camera_to_base": np.stack([np.diag([1, 1, -1, 1]).astype(np.float32)] * 3)},
            "a pose must be a rotation",
        ),
        ("b1k_eval", {"camera_to_base": np.eye(4, dtype=np.float32)}, r"float32 \[3, 4, 4\], and"),
    ],
)
def test_an_observation_that_is_none_is_refused_by_its_key(key, value, text):
    with pytest.raises(WireError, match=text):
        from_wire({**message(), key: value})


def test_more_envs_than_allowed_are_refused():
    with pytest.raises(WireError, match="is of 3 envs, expected 1 to 2"):
        from_wire(message(envs=3), envs=2)


@pytest.mark.parametrize("found", [[], None, 5, "text", np.zeros(3)])
def test_an_observation_is_a_map(found):
    with pytest.raises(WireError, match="an observation must be a map"):
        from_wire(found)


# --- poses --------------------------------------------------------------------------------------


def test_poses_are_the_matrices_that_scipy_makes_of_the_quaternions():
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(3)
    quaternions = rng.normal(size=(3, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    positions = rng.normal(size=(3, 3))
    recorded = np.concatenate([positions, quaternions], axis=1).ravel().astype(np.float32)
    poses = camera_poses(recorded)
    for block, view in enumerate(("left_wrist", "right_wrist", "head")):
        expected = np.eye(4)
        expected[:3, :3] = Rotation.from_quat(quaternions[block]).as_matrix()
        expected[:3, 3] = positions[block]
        np.testing.assert_allclose(poses[view], expected, atol=1e-6)
        assert poses[view].dtype == np.float32
        assert not poses[view].flags.writeable


def test_numbers_that_are_not_finite_reach_the_policy_as_the_evaluators_send_them():
    sent = observation()
    proprio, recorded = sent.proprio.copy(), sent.cam_rel_poses.copy()
    proprio[5], recorded[:7] = np.nan, np.inf  # the left wrist's
    poses = {**sent.camera_to_base, "left_wrist": np.full((4, 4), np.nan, dtype=np.float32)}
    spoilt = replace(sent, proprio=proprio, cam_rel_poses=recorded, camera_to_base=poses)
    for ours in (True, False):
        sent_as = to_wire(spoilt, batch=True, extended=ours)
        (got,) = from_wire(unpack(pack(sent_as))).observations
        np.testing.assert_array_equal(got.proprio, proprio)
        np.testing.assert_array_equal(got.cam_rel_poses, recorded)
        assert np.isnan(got.camera_to_base["left_wrist"][:3, :3]).all()
        for view in ("head", "right_wrist"):
            np.testing.assert_allclose(got.camera_to_base[view], poses[view], atol=1e-6)


# --- resets -------------------------------------------------------------------------------------


def test_a_reset_is_known_by_its_key_alone():
    assert is_reset({"reset": True})
    assert is_reset({"reset": None, "whatever": 1})
    assert not is_reset({"action": 1})
    assert not is_reset([("reset", True)])


def test_what_a_reset_tells_comes_back():
    for progress in (None, 0.25):
        told = Announcement(seed=1, instance=-1, rollout=0, inference=3, step=30, progress=progress)
        assert read_reset(unpack(pack(reset_message(told)))) == told
    assert read_reset({"reset": True}) is None


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ({}, "must be a map of seed, instance, rollout, inference, step"),
        ([1], "must be a map of seed"),
        ({"seed": 1, "instance": 0, "rollout": 0, "inference": 0, "step": 0.0}, "step must be a"),
        ({"seed": 2**60, "instance": 0, "rollout": 0, "inference": 0, "step": 0}, "seed must be a"),
        (
            {
                "seed": 1,
                "instance": 0,
                "rollout": 0,
                "inference": 0,
                "step": 0,
                "progress": 1.5,
            },
            "progress must lie in",
        ),
        ({"seed": -2, "instance": 0, "rollout": 0, "inference": 0, "step": 0}, "seed must be a"),
    ],
)
def test_a_reset_that_tells_nonsense_is_refused(block, text):
    with pytest.raises(WireError, match=text):
        read_reset({"reset": True, "b1k_eval": block})


# --- answers ------------------------------------------------------------------------------------

ROW = np.arange(23, dtype=np.float32)
CHUNK = np.stack([ROW + i for i in range(4)])


@pytest.mark.parametrize("action", [ROW, ROW[None], ROW.astype(np.float64), ROW.astype(">f4"),
                                    ROW.astype(np.float16), ROW.astype(np.int64)])  # fmt: skip
def test_an_action_may_have_a_leading_one_and_any_kind_of_number(action):
    answer = read_answer({"action": action}, rows=None)
    assert answer.actions.dtype == np.float32
    np.testing.assert_array_equal(answer.actions, ROW[None])


@pytest.mark.parametrize("lead", [(), (1,)])
def test_a_chunk_may_have_a_leading_one(lead):
    found = {"action": ROW.reshape(*lead, 23), "action_chunk": CHUNK.reshape(*lead, 4, 23)}
    np.testing.assert_array_equal(read_answer(found, rows=4).actions, CHUNK)


def test_a_chunk_that_nobody_asked_for_is_passed_over():
    found = {"action": ROW, "action_chunk": "whatever", "server_timing": 5, "b1k_eval": 1}
    answer = read_answer(found, rows=None)
    assert answer.actions.shape == (1, 23)
    assert answer.timing == {}


def test_an_answer_is_a_copy_of_the_message():
    data = pack({"action": ROW})
    actions = read_answer(unpack(data), rows=None).actions
    assert not np.shares_memory(actions, np.frombuffer(data, np.uint8))


def test_timing_is_read_where_it_is_a_number():
    timing = {"infer_ms": 1.5, "prev_total_ms": 2, "note": "x", b"k": 1.0, "one": np.float32(0.5)}
    answer = read_answer({"action": ROW, "server_timing": timing}, rows=None)
    assert answer.timing == {"infer_ms": 1.5, "prev_total_ms": 2.0, "one": 0.5}


@pytest.mark.parametrize(
    ("found", "error", "text"),
    [
        ({"actions": ROW}, NoActionError, "has no 'action' .it has: actions"),
        ({}, NoActionError, "it has: nothing"),
        ([ROW], PolicyFaultError, "answered with a list, not a map"),
        ({"action": None}, ActionError, "'action' must be an array, got NoneType"),
        ({"action": ROW.tolist()}, ActionError, "must be an array, got list"),
        ({"action": ROW[:22]}, ActionError, r"float32 \[23\], or with a leading 1, got float32"),
        ({"action": CHUNK}, ActionError, r"got float32 \[4, 23\]"),
        ({"action": ROW > 3}, ActionError, "got bool"),
        ({"action": np.where(ROW == 5, np.nan, ROW)}, ActionError, r"'action' is nan at \[5\]"),
        (
            {"action": np.where(ROW == 5, 1e39, ROW.astype(float))},
            ActionError,
            r"'action' is inf at \[5\]",
        ),
    ],
)
def test_an_answer_that_is_no_action_is_refused(found, error, text):
    with pytest.raises(error, match=text):
        read_answer(found, rows=None)


@pytest.mark.parametrize(
    ("chunk", "error", "text"),
    [
        (None, NoChunkError, "4 actions were asked for, but the server's answer has no 'action_ch"),
        (
            CHUNK[:3],
            ActionError,
            r"must be float32 \[4, 23\], or with a leading 1, got float32 \[3",
        ),
        (CHUNK[None, None], ActionError, r"got float32 \[1, 1, 4, 23\]"),
        (CHUNK + 1, ActionError, "'action' is not the first of its chunk"),
        (np.where(CHUNK == 25, np.inf, CHUNK), ActionError, r"is inf at \[3, 22\]"),
    ],
)
def test_a_chunk_that_is_none_is_refused(chunk, error, text):
    found = {"action": ROW} if chunk is None else {"action": ROW, "action_chunk": chunk}
    with pytest.raises(error, match=text):
        read_answer(found, rows=4)


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ({"progress": 1.5}, "progress must lie in .0, 1., got 1.5"),
        ({"progress": "half"}, "progress must lie in"),
        ({"progress": float("nan")}, "progress must lie in"),
        ({"skill": 3}, "skill must be a map of index, name, probability"),
        ({"skill": {"index": "3", "name": None, "probability": None}}, "a str for its index"),
        ({"skill": {"index": True, "name": None, "probability": None}}, "a bool for its index"),
    ],
)
def test_skill_and_progress_must_be_such(block, text):
    with pytest.raises(WireError, match=text):
        read_answer({"action": ROW, "b1k_eval": block}, rows=None, extended=True)


# --- metadata -----------------------------------------------------------------------------------

INFO = ServerInfo(
    name="v4",
    chunk_length=29,
    skipped_rows=1,
    images=Resizing(size=504, filter="bicubic", antialias=True),
    remarks=("one", "two"),
)


@pytest.mark.parametrize("images", ["native", "none", INFO.images])
def test_metadata_comes_back(images):
    info = replace(INFO, images=images)
    assert read_info(unpack(pack({**info.as_metadata(), "more": 1}))) == info


def test_other_servers_say_nothing_of_the_kind():
    assert read_info({}) is None
    assert read_info({"action_dim": 23, "reset_pose": [1, 2]}) is None


def test_a_server_of_another_version_is_not_understood():
    metadata = INFO.as_metadata()
    metadata["b1k_eval"]["protocol_version"] = 2
    with pytest.raises(
        UnavailableError, match=r"speaks version 2 .* this client version 1: install"
    ):
        read_info(metadata)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("chunk_length", 0), ("chunk_length", 20_000), ("chunk_length", "30"), ("skipped_rows", -1),
        ("images", "tiny"), ("images", {"size": [1, 2], "filter": "bicubic", "antialias": True}),
        ("images", {"size": [224, 224], "filter": "lanczos", "antialias": True}),
        ("images", {"size": [224, 224], "filter": "bicubic", "antialias": 1}),
        ("images", {"size": [224, 224]}), ("images", {"size": [10**6] * 2, "filter": "bicubic",
                                                      "antialias": True}),
        ("name", ""), ("name", "a\x1b[31m"), ("name", None), ("remarks", "one"), ("remarks", [1]),
        ("episode", False),
    ],
)  # fmt: skip
def test_metadata_that_cannot_be_meant_is_refused(name, value):
    metadata = INFO.as_metadata()
    metadata["b1k_eval"][name] = value
    with pytest.raises(WireError, match=f"for {name}.* under 'b1k_eval', which cannot be meant"):
        read_info(metadata)


def test_metadata_becomes_json_without_losing_which_it_was():
    found = {"a": np.arange(3), b"b": b"xyz", "c": [float("inf"), np.float32(0.5)], "d": {"e": 1}}
    value = json_value(found)
    json.dumps(value, allow_nan=False)
    assert value["c"] == ["inf", 0.5]
    assert value["d"] == {"e": 1}
    assert value["a"].startswith("int64 [3], sha256 ")
    assert value["b'b'"].startswith(
        "3 bytes, sha256 3608bca1e44ea6c4d268eb6db02260269892c0b42b86bb"
    )
