"""`serve --protocol gr00t` driven by a client of the protocol's text, and by ours."""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from doubles import ToyEnv
from foreign_gr00t import (
    DIMENSIONS,
    PARTS,
    PICTURES,
    WORDS,
    Gr00tClient,
    decode,
    encode,
    observation_of,
)
from serving import LENGTH, LedgerEngine, served_gr00t, until
from typer.testing import CliRunner

from b1k_envs.errors import HostFaultError, PolicyFaultError
from b1k_envs.r1pro import PROPRIO_2025
from b1k_envs.tasks.table import get_task
from b1k_eval.cli.main import app
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.loop.runner import run_episode
from b1k_policies.base import ActionChunk
from b1k_policies.baselines import HoldPolicy, RandomPolicy
from b1k_policies.registry import make_policy
from b1k_policies.remote.server.engine import Engine
from b1k_policies.remote.server.limits import Quota

TASK = get_task(31)
KEY = "long-enough-for-a-key"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.delenv("B1K_EVAL_API_KEY", raising=False)


@pytest.fixture
def told(episode):
    return replace(episode, protocol="2025", instruction=TASK.instruction)


def seeing(engine):
    """A `LedgerEngine` that looks at pictures, and reads all of the state."""
    assert engine.policy.needs_images
    engine.policy.proprio_read = None
    return engine


class BlindEngine(LedgerEngine):
    """One that looks at nothing and reads nothing of the state."""

    def __init__(self):
        super().__init__()
        self.policy.needs_images, self.policy.proprio_read = False, ()

    def chunks(self, asks):
        known = [np.nan_to_num(ask.observation.proprio) for ask in asks]
        return super().chunks(
            [
                replace(ask, observation=replace(ask.observation, proprio=proprio))
                for ask, proprio in zip(asks, known, strict=True)
            ]
        )


def whole_observation(worlds=1):
    """With all 256 numbers and the cameras' poses, as of our own client."""
    observation = observation_of(worlds)
    for name, part in PROPRIO_2025.items():
        size = part.stop - part.start
        observation[f"state.{name}"] = np.tile(
            np.arange(part.start, part.stop, dtype=np.float32), (worlds, 1, 1)
        ).reshape(worlds, 1, size)
    upright = np.tile(np.array([0, 0, 0, 0, 0, 0, 1], np.float32), 3)
    observation["state.cam_rel_poses"] = np.tile(upright, (worlds, 1, 1)).reshape(worlds, 1, 21)
    return observation


def typed(*arguments, **environment):
    return CliRunner().invoke(app, ["serve", *arguments], env=environment)


# --- what is answered ---------------------------------------------------------------------------


def test_every_endpoint_is_answered_as_the_text_has_it():
    with served_gr00t(Engine(HoldPolicy)) as address, Gr00tClient(address) as client:
        assert client.call("ping")["status"] == "ok"
        assert client.call("reset", {"options": None}) == {}
        config = client.call("get_modality_config")
        assert config["state"]["modality_keys"] == list(DIMENSIONS)
        assert config["action"]["modality_keys"] == list(PARTS)
        assert config["action"]["delta_indices"] == list(range(30))
        assert config["language"] == {"delta_indices": [0], "modality_keys": [WORDS]}
        actions, info = client.action(observation_of())
        assert info == {}
    held = {"torso": "trunk_qpos", "left_arm": "arm_left_qpos", "right_arm": "arm_right_qpos"}
    sent = observation_of()
    assert set(actions) == {f"action.{name}" for name in PARTS}
    for name, (a, b) in PARTS.items():
        part = actions[f"action.{name}"]
        assert (part.dtype, part.shape) == (np.float32, (1, 30, b - a))
        if name in held:
            assert (part == sent[f"state.{held[name]}"]).all()


def test_nested_observations_are_answered_nested():
    with served_gr00t(Engine(HoldPolicy)) as address, Gr00tClient(address) as client:
        flat, _ = client.action(observation_of())
        nested, _ = client.action(observation_of(flat=False))
    assert set(nested) == set(PARTS)
    for name, part in nested.items():
        np.testing.assert_array_equal(part, flat[f"action.{name}"])


def test_kill_is_refused_politely_and_the_server_goes_on():
    with served_gr00t(Engine(HoldPolicy)) as address, Gr00tClient(address) as client:
        assert "not by its clients" in client.call("kill")["error"]
        assert client.call("ping")["status"] == "ok"


def test_what_the_policy_needs_and_is_not_sent_is_named():
    with served_gr00t(seeing(LedgerEngine())) as address, Gr00tClient(address) as client:
        config = client.call("get_modality_config")
        assert config["video"]["modality_keys"] == list(PICTURES)
        assert "cam_rel_poses" in config["state"]["modality_keys"]
        assert {*PROPRIO_2025} <= {*config["state"]["modality_keys"]}
        said = client.action(observation_of())["error"]
        for name in ("cam_rel_poses", "joint_qpos", "base_qvel"):
            assert f"no state.{name}" in said
        assert "no state.trunk_qpos" not in said
        without = whole_observation()
        del without[f"video.{PICTURES[1]}"]
        assert f"no video.{PICTURES[1]}" in client.action(without)["error"]
        assert "error" not in client.action(whole_observation())


def test_numbers_and_pictures_arrive_where_they_belong():
    engine = seeing(LedgerEngine())
    with served_gr00t(engine) as address, Gr00tClient(address) as client:
        client.action(whole_observation())
    (ask,) = engine.batches[0]
    np.testing.assert_array_equal(ask.observation.proprio, np.arange(256, dtype=np.float32))
    assert [int(p[0, 0, 0]) for p in ask.observation.images.values()] == [10, 20, 30]
    assert list(ask.observation.images) == ["head", "left_wrist", "right_wrist"]
    assert ask.observation.images["head"].shape == (256, 256, 3)
    assert (ask.observation.task_index, ask.observation.protocol) == (31, "2025")
    assert ask.episode.instruction == TASK.instruction


def test_states_that_nobody_sends_nor_reads_are_no_numbers():
    engine = LedgerEngine()
    engine.policy.needs_images = False
    engine.policy.proprio_read = ("trunk_qpos",)
    with served_gr00t(engine) as address, Gr00tClient(address) as client:
        client.action(observation_of())
    proprio = engine.batches[0][0].observation.proprio
    sent = [part for name, part in PROPRIO_2025.items() if name in DIMENSIONS]
    assert sum(np.isfinite(proprio[part]).all() for part in sent) == len(sent)
    assert np.isnan(proprio).sum() == 256 - 82


def test_the_task_is_that_of_the_sentence_or_of_the_server():
    engine = BlindEngine()
    with served_gr00t(engine) as address, Gr00tClient(address) as client:
        client.action(observation_of(task="Turning on radio."))
        said = client.action(observation_of(task="Do something."))["error"]
    assert engine.batches[0][0].observation.task_index == 0
    assert "'Do something.', the sentence of no task" in said
    with served_gr00t(engine, task=TASK) as address, Gr00tClient(address) as client:
        assert "error" not in client.action(observation_of(task="Do something."))
    assert engine.batches[-1][0].observation.task_index == 31


def test_a_client_that_does_not_say_is_taken_to_execute_the_horizon():
    engine = BlindEngine()
    with served_gr00t(engine, horizon=8) as address, Gr00tClient(address) as client:
        for _ in range(3):
            client.action(observation_of())
        client.call("reset", {"options": None})
        client.action(observation_of())
    assert [batch[0].observation.step for batch in engine.batches] == [0, 8, 16, 0]
    assert [batch[0].inference for batch in engine.batches] == [0, 1, 2, 0]


def test_several_worlds_of_a_client_are_answered_up_to_the_limit():
    quota = Quota(envs=3)
    with served_gr00t(Engine(HoldPolicy), quota=quota) as address, Gr00tClient(address) as client:
        actions, _ = client.action(observation_of(3))
        assert actions["action.base"].shape == (3, 30, 3)
        said = client.action(observation_of(4))["error"]
    assert "of 4 worlds, expected 1 to 3" in said
    assert "--max-envs N" in said


def test_a_token_is_wanted_where_there_is_a_key():
    with served_gr00t(Engine(HoldPolicy), key=KEY) as address:
        for token, answered in ((None, False), ("x" * 20, False), (KEY, True)):
            with Gr00tClient(address, token) as client:
                answer = client.call("ping")
                assert ("error" in answer) is not answered
                if not answered:
                    assert answer["error"].startswith("Unauthorized")


def test_our_client_sends_the_key_of_the_environment(told, monkeypatch):
    monkeypatch.setenv("B1K_EVAL_API_KEY", KEY)
    with served_gr00t(Engine(HoldPolicy), key=KEY) as address:
        policy = make_policy(address, protocol="2025")
        policy.reset(told)
        policy.infer(ToyEnv(protocol="2025").observe())
        policy.close()


# --- our client ---------------------------------------------------------------------------------


def test_a_run_through_the_server_equals_one_without(told):
    """`random` draws from the episode's seed, which only our client tells."""
    alone, through = ToyEnv(protocol="2025"), ToyEnv(protocol="2025")
    run_episode(alone, RandomPolicy(), told, RecedingHorizon(8, 30))
    with served_gr00t(Engine(RandomPolicy)) as address:
        policy = make_policy(address, protocol="2025")
        run_episode(through, policy, told, RecedingHorizon(8, policy.chunk_length))
        policy.close()
    assert len(alone.actions) > 8
    np.testing.assert_array_equal(np.stack(alone.actions), np.stack(through.actions))


def test_a_policy_that_sees_and_reads_all_is_sent_all_by_our_client(told):
    engine = seeing(LedgerEngine())
    env = ToyEnv(protocol="2025")
    upright = np.tile(np.array([0.5, 0, 1, 0, 0, 0, 1], np.float32), 3)
    seen = replace(env.observe(), cam_rel_poses=upright)
    with served_gr00t(engine) as address:
        policy = make_policy(address, protocol="2025")
        policy.reset(told)
        chunk = policy.infer(replace(seen, step=40))
        policy.close()
    assert (policy.needs_images, policy.chunk_length, policy.name) == (
        True,
        LENGTH,
        "ledger (remote)",
    )
    (ask,) = engine.batches[0]
    np.testing.assert_array_equal(ask.observation.proprio, seen.proprio)
    np.testing.assert_array_equal(ask.observation.cam_rel_poses, seen.cam_rel_poses)
    assert (ask.observation.step, ask.episode.seed) == (40, told.seed)
    assert chunk.actions[:, 0].tolist() == list(range(LENGTH))


def test_a_fault_is_told_apart_by_our_client(told):
    engine = BlindEngine()
    seen = ToyEnv(protocol="2025").observe(images=False)
    with served_gr00t(engine) as address:
        policy = make_policy(address, protocol="2025")
        policy.reset(told)
        for error, kind in (
            (ValueError("secret"), PolicyFaultError),
            (HostFaultError("secret"), HostFaultError),
        ):
            engine.chunks = failing(error)
            with pytest.raises(kind, match="the server reports") as caught:
                policy.infer(seen)
            assert "secret" not in str(caught.value)
        policy.close()


def test_chunks_of_another_length_than_promised_do_not_end_the_server():
    engine = BlindEngine()
    whole = engine.chunks
    engine.chunks = lambda asks: [ActionChunk(actions=np.zeros((2, 23), np.float32))]
    with served_gr00t(engine) as address, Gr00tClient(address) as client:
        client.call("reset", {"options": None})
        answer = client.action(observation_of())
        assert answer[0]["action.base"].shape == (1, 2, 3)  # which a client refuses by its shape
        engine.chunks = whole
        assert client.action(observation_of())[0]["action.base"].shape == (1, LENGTH, 3)


def test_an_answer_that_cannot_be_made_does_not_end_the_server(monkeypatch):
    from b1k_policies.remote.gr00t import server

    with served_gr00t(Engine(HoldPolicy)) as address, Gr00tClient(address) as client:
        with monkeypatch.context() as broken:
            broken.setattr(server, "action_message", lambda *_: 1 / 0)
            assert client.action(observation_of()) == {"error": "the server failed; see its log"}
        assert "action.base" in client.action(observation_of())[0]


def failing(error):
    def chunks(asks):
        raise error

    return chunks


def test_the_worlds_of_a_run_are_answered_in_one_inference(told):
    """Each has a connection of its own, and asks at the same time."""
    engine = BlindEngine()
    with served_gr00t(engine, window_s=5.0) as address:
        policies = [make_policy(address, protocol="2025") for _ in range(2)]
        assert all(each.computes_elsewhere and not each.stateless for each in policies)
        seen = ToyEnv(protocol="2025").observe(images=False)
        for n, policy in enumerate(policies):
            policy.reset(replace(told, seed=n))
        threads = [threading.Thread(target=each.infer, args=(seen,)) for each in policies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        for policy in policies:
            policy.close()
    assert [len(batch) for batch in engine.batches] == [2]
    assert sorted(ask.episode.seed for ask in engine.batches[0]) == [0, 1]


# --- clients that come and go -------------------------------------------------------------------


def test_a_client_that_leaves_before_its_answer_harms_nobody():
    engine = BlindEngine()
    engine.gate.clear()
    with served_gr00t(engine) as address:
        with Gr00tClient(address) as client:
            client._socket.send(
                encode({"endpoint": "get_action", "data": {"observation": observation_of()}})
            )
            assert engine.entered.wait(20)
        with Gr00tClient(address) as other:
            assert other.call("ping")["status"] == "ok"  # though the engine is busy
            engine.gate.set()
            assert "error" not in other.action(observation_of())


def test_the_client_that_asked_longest_ago_makes_place():
    engine = BlindEngine()
    with (
        served_gr00t(engine, quota=Quota(clients=2)) as address,
        Gr00tClient(address) as one,
        Gr00tClient(address) as two,
        Gr00tClient(address) as three,
    ):
        for client in (one, two, one, three, one, two):
            client.action(observation_of())
    # The third took the place of the second, which then begins anew.
    assert [batch[0].inference for batch in engine.batches] == [0, 0, 1, 0, 2, 0]


def test_the_server_ends_once_inferences_under_way_are_answered():
    engine = BlindEngine()
    engine.gate.clear()
    answers = []
    context = served_gr00t(engine)
    address = context.__enter__()
    with Gr00tClient(address) as client:
        asking = threading.Thread(target=lambda: answers.append(client.action(observation_of())))
        asking.start()
        until(engine.entered.is_set)
        ending = threading.Thread(target=context.__exit__, args=(None, None, None))
        ending.start()
        engine.gate.set()
        ending.join(30)
        asking.join(30)
    assert not ending.is_alive()
    assert "action.base" in answers[0][0]


# --- the command --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--images", "contract"), "--images contract means nothing with --protocol gr00t"),
        (("--max-rate", "5"), "--max-rate 5.0 means nothing with --protocol gr00t"),
        (("--horizon", "31"), "between 1 and the policy's chunk length, 30"),
        (("--task", "50"), "2025"),
        (("--host", "0.0.0.0"), "needs a key"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments, said):
    result = typed(
        *("--policy", "zero", "--protocol", "gr00t", "--port", "0", "--json", *arguments)
    )
    assert result.exit_code == 2
    assert said in json.loads(result.stdout)["error"]["message"]


def test_a_server_of_gr00ts_is_not_served_again():
    result = typed("--policy", "gr00t://127.0.0.1:5555", "--json")
    assert "is a server already" in json.loads(result.stdout)["error"]["message"]


def test_without_pyzmq_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "zmq", None)
    result = typed("--policy", "zero", "--protocol", "gr00t")
    assert result.exit_code == 4
    assert "[gr00t]" in result.output


def test_an_answer_is_read_by_anybodys_msgpack():
    with served_gr00t(Engine(HoldPolicy)) as address, Gr00tClient(address) as client:
        raw = client.raw(encode({"endpoint": "get_modality_config"}))
    assert isinstance(decode(raw), dict)


# --- a run --------------------------------------------------------------------------------------


def ran(address, out, *arguments):
    words = ["run", "--task", "31", "--sim", "mujoco", "--policy", address, "--max-steps", "20"]
    return CliRunner().invoke(app, [*words, "--no-video", "--out", str(out), *arguments])


@pytest.mark.slow
def test_a_run_executes_8_rows_of_a_chunk_and_is_marked(tmp_path):
    out = tmp_path / "run"
    with served_gr00t(Engine(HoldPolicy)) as address:
        result = ran(address, out, "--protocol", "2025", "--instances", "0-2", "--num-envs", "2")
    assert result.exit_code == 0, result.output
    record = json.loads((out / "run.json").read_text())
    assert record["identity"]["settings"]["horizon"] == 8
    assert record["identity"]["policy"]["address"] == address
    (remark,) = record["identity"]["policy"]["remarks"]
    assert "privileged track" in remark
    assert "privileged track" in " ".join(result.output.split())
    traces = sorted(out.glob("episodes/*/trace.parquet"))
    assert len(traces) == 3
    for trace in traces:
        assert pd.read_parquet(trace)["inference"].to_numpy().nonzero()[0].tolist() == [0, 8, 16]


@pytest.mark.slow
def test_a_run_that_lacks_the_pose_in_the_house_is_refused(tmp_path):
    with served_gr00t(Engine(HoldPolicy)) as address:
        hidden = ran(address, tmp_path / "run", "--protocol", "2025", "--track", "standard")
        absent = ran(address, tmp_path / "run", "--protocol", "2026")
    assert (hidden.exit_code, absent.exit_code) == (2, 2)
    assert "which --track standard hides" in hidden.output
    assert "no robot_pos" in absent.output
    assert not (tmp_path / "run").exists()
