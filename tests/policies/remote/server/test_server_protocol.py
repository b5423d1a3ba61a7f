"""The server as an evaluator meets it, through a client written from the protocol's text alone.

What a pass does not prove: that the evaluators' own code agrees with that text.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from raw import SMALL, RawClient, get, observation, pack, unpack
from serving import LENGTH, LedgerEngine, served
from websockets.sync.client import connect

from b1k_envs.tasks.table import get_task
from b1k_policies.remote.server.limits import Quota


@pytest.fixture
def engine():
    return LedgerEngine()


def seed_of(number, env=0, base=0):
    text = f"b1k-server/{base}/{number}/{env}".encode()
    return int(hashlib.sha256(text).hexdigest()[:8], 16) >> 1


# --- every generation -------------------------------------------------------------------------


@pytest.mark.parametrize("year", ["2025", "2026"])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("size", [None, 224])
def test_an_observation_without_leading_dimension_is_answered_by_23_numbers(
    engine, year, channels, size
):
    asked = observation(year, size=size, channels=channels)
    with served(engine) as server, RawClient(server.url) as client:
        client.reset()
        answer = client.ask(asked)
    assert answer["action"].shape == (23,)
    assert answer["action"].dtype == np.float32
    assert answer["action"][3] == asked["robot_r1::proprio"][0]
    seen = engine.batches[0][0].observation
    assert seen.protocol == year
    assert seen.task_index == 31
    for view, link in (("head", "zed"), ("left_wrist", "left_real"), ("right_wrist", "right_real")):
        (key,) = (key for key in asked if f":{link}" in key)
        np.testing.assert_array_equal(seen.images[view], asked[key][..., :3])


@pytest.mark.parametrize("year", ["2025", "2026"])
def test_one_env_with_leading_dimension_is_answered_with_one(engine, year):
    with served(engine) as server, RawClient(server.url) as client:
        assert client.ask(observation(year, envs=1, **SMALL))["action"].shape == (1, 23)


def test_every_env_of_an_observation_has_its_own_chunk_and_seed_in_one_inference(engine):
    asked = observation("2026", envs=3, **SMALL)
    with served(engine, quota=Quota(envs=3)) as server, RawClient(server.url) as client:
        first, second = client.ask(asked)["action"], client.ask(asked)["action"]
    assert first.shape == (3, 23)
    np.testing.assert_array_equal(first[:, 3], asked["robot_r1::proprio"][:, 0])
    np.testing.assert_array_equal(first[:, 2], [seed_of(0, env) % 1000 for env in range(3)])
    np.testing.assert_array_equal(first[:, 0], 0)
    np.testing.assert_array_equal(second[:, 0], 1)
    assert [len(batch) for batch in engine.batches] == [3]


def test_the_2025_evaluators_other_pictures_are_passed_over(engine):
    pixels = {"depth_linear": np.float32, "seg_semantic": np.int64, "seg_instance_id": np.int64}
    more = {
        f"robot_r1::robot_r1:{link}:Camera:0::{name}": np.ones((side, side), kind)
        for link, side in (("zed_link", 720), ("left_realsense_link", 480))
        for name, kind in pixels.items()
    }
    more |= {
        f"robot_r1::robot_r1:right_realsense_link:Camera:0::{name}": np.ones((480, 480), kind)
        for name, kind in pixels.items()
    }
    with served(engine) as server, RawClient(server.url) as client:
        answer = client.ask(observation("2025", **more, need_new_action=True))
    assert answer["action"].shape == (23,)


# --- order of messages ------------------------------------------------------------------------


def test_the_server_speaks_first_and_its_metadata_is_what_it_was_given(engine):
    with served(engine, metadata={"a": 1}) as server, connect(server.url) as raw:
        assert raw.recv(timeout=20) == b"\x81\xa1a\x01"


def test_a_reset_is_not_answered_and_begins_an_episode(engine):
    with served(engine) as server, RawClient(server.url) as client:
        told = []
        for _ in range(3):
            client.reset()
            client.reset()  # twice is once: nothing was seen in between
            told.append(client.ask(observation("2026", **SMALL))["action"][:3].tolist())
    assert told == [[0, 0, seed_of(number) % 1000] for number in range(3)]


def test_a_client_that_never_resets_has_the_same_first_episode(engine):
    with served(engine) as server:
        with RawClient(server.url) as client:
            silent = client.ask(observation("2026", **SMALL))["action"]
        with RawClient(server.url) as client:
            client.reset()
            told = client.ask(observation("2026", **SMALL))["action"]
    np.testing.assert_array_equal(silent, told)


def test_the_answer_begins_with_the_action_byte_for_byte(engine):
    expected = np.zeros(23, "<f4")
    expected[2], expected[4] = seed_of(0) % 1000, 31
    asked = observation("2026", **SMALL)
    expected[3] = asked["robot_r1::proprio"][0]
    golden = b"".join(
        (
            b"\x82",  # a map of two: action and server_timing
            b"\xa6action",
            b"\x84",
            b"\xc4\x0b__ndarray__\xc3",
            b"\xc4\x04data\xc4\x5c",
            expected.tobytes(),
            b"\xc4\x05dtype\xa3<f4",
            b"\xc4\x05shape\x91\x17",
            b"\xadserver_timing",
        )
    )
    with served(engine) as server, RawClient(server.url) as client:
        client.socket.send(pack(asked))
        data = client.socket.recv(timeout=20)
    assert data[: len(golden)] == golden
    timing = unpack(data)["server_timing"]
    assert timing["together"] == 1
    assert timing["infer_ms"] >= 0


def test_messages_in_fragments_are_put_together(engine):
    data = pack(observation("2026", **SMALL))
    with served(engine) as server, RawClient(server.url) as client:
        client.socket.send(data[at : at + 5000] for at in range(0, len(data), 5000))
        assert client.answer()["action"].shape == (23,)


# --- chunks -----------------------------------------------------------------------------------


def test_asked_at_every_step_it_plays_the_horizon_and_infers_anew(engine):
    with served(engine, horizon=5) as server, RawClient(server.url) as client:
        played = [client.ask(observation("2026", seed=n, **SMALL))["action"] for n in range(12)]
    assert [row[0] for row in played] == [0, 1, 2, 3, 4] * 2 + [0, 1]
    assert [row[1] for row in played] == [0] * 5 + [1] * 5 + [2] * 2
    assert [ask.observation.step for (ask,) in engine.batches] == [0, 5, 10]


def test_a_robot_that_stands_still_does_not_stop_the_chunk(engine):
    same = observation("2026", **SMALL)
    with served(engine, horizon=5) as server, RawClient(server.url) as client:
        assert [client.ask(same)["action"][0] for _ in range(6)] == [0, 1, 2, 3, 4, 0]


@pytest.mark.parametrize("envs", [None, 1])
def test_a_client_that_plays_k_actions_gets_them_and_the_first_is_the_action(engine, envs):
    asked = observation("2026", envs=envs, **SMALL, __action_chunk_size__=8)
    with served(engine, horizon=5) as server, RawClient(server.url) as client:
        first, second = client.ask(asked), client.ask(asked)
    lead = () if envs is None else (1,)
    for number, answer in enumerate((first, second)):
        assert answer["action_chunk"].shape == (*lead, 8, 23)
        np.testing.assert_array_equal(answer["action_chunk"][..., 0, :], answer["action"])
        chunk = answer["action_chunk"].reshape(8, 23)
        np.testing.assert_array_equal(chunk[:, 0], np.arange(8))
        np.testing.assert_array_equal(chunk[:, 1], number)
    assert [ask.observation.step for (ask,) in engine.batches] == [0, 8]


def test_pieces_within_the_horizon_are_from_one_inference(engine):
    asked = observation("2026", **SMALL, __action_chunk_size__=2)
    with served(engine, horizon=6) as server, RawClient(server.url) as client:
        rows = [client.ask(asked)["action_chunk"][:, :2].tolist() for _ in range(4)]
    assert rows == [[[0, 0], [1, 0]], [[2, 0], [3, 0]], [[4, 0], [5, 0]], [[0, 1], [1, 1]]]


def test_more_actions_than_a_chunk_has_are_not_made_up(engine):
    asked = observation("2026", **SMALL, __action_chunk_size__=LENGTH + 1)
    with served(engine, horizon=5) as server, RawClient(server.url) as client:
        answers = [client.ask(asked) for _ in range(6)]
    assert all("action_chunk" not in answer for answer in answers)
    assert [answer["action"][0] for answer in answers] == [0, 1, 2, 3, 4, 0]


# --- what our own clients say -----------------------------------------------------------------


def test_a_client_that_tells_its_episode_has_its_seed(engine):
    block = {"seed": 123456, "instance": 4, "rollout": 2, "inference": 0, "step": 0}
    with served(engine) as server, RawClient(server.url) as client:
        client.reset(b1k_eval=block)
        assert client.ask(observation("2026", **SMALL))["action"][2] == 456
    episode = engine.batches[0][0].episode
    assert (episode.seed, episode.instance, episode.rollout) == (123456, 4, 2)


def test_an_episode_goes_on_where_a_lost_connection_left_it(engine):
    block = {"seed": 123456, "instance": 4, "rollout": 2, "inference": 7, "step": 70}
    with served(engine) as server, RawClient(server.url) as client:
        client.reset(b1k_eval=block)
        assert client.ask(observation("2026", **SMALL))["action"][1] == 7
    assert engine.batches[0][0].observation.step == 70


def test_a_client_that_knows_of_chunks_has_a_new_one_whenever_it_asks(engine):
    asked = observation("2026", **SMALL, __action_chunk_size__=3)
    with served(engine, horizon=10) as server, RawClient(server.url) as client:
        rows = [
            client.ask({**asked, "b1k_eval": {"step": 2 * n}})["action_chunk"][:, :2].tolist()
            for n in range(2)
        ]
    assert rows == [[[0, 0], [1, 0], [2, 0]], [[0, 1], [1, 1], [2, 1]]]
    assert [ask.observation.step for (ask,) in engine.batches] == [0, 2]


# --- task and prompt --------------------------------------------------------------------------


def test_the_instruction_is_that_of_the_observations_task(engine):
    with served(engine) as server, RawClient(server.url) as client:
        client.ask(observation("2026", task=0, **SMALL))
    assert engine.batches[0][0].episode.task == "turning_on_radio"


def test_the_servers_own_task_and_prompt_go_before_the_observations(engine):
    asked = observation("2026", task=0, **SMALL)
    with (
        served(engine, task=get_task(31), prompt="fold it") as server,
        RawClient(server.url) as client,
    ):
        client.ask(asked)
        client.reset()
        del asked["task_id"]
        client.ask(asked)
    for (ask,) in engine.batches:
        assert (ask.episode.task_index, ask.episode.instruction) == (31, "fold it")


# --- beside the WebSocket ---------------------------------------------------------------------


def test_health_is_answered_without_a_key(engine):
    with served(engine, key="k" * 16) as server:
        assert get(server.url, "/healthz") == (200, b"OK\n")
