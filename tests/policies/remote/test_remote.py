"""A policy server driven by our client: the protocol as its text has it, for each generation."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import ssl
import subprocess
import sys

import numpy as np
import pytest
from doubles import ToyEnv
from foreign_server import decode, encode, foreign_server, in_turn, row

from b1k_envs.base import Observation
from b1k_envs.errors import UnavailableError, UsageError
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.loop.runner import run_episode
from b1k_policies.base import Resizing
from b1k_policies.contract.presets import V4, V17
from b1k_policies.registry import make_policy
from b1k_policies.remote.client import RemotePolicy
from b1k_policies.remote.wire.metadata import ServerInfo
from b1k_policies.xvla.images import image_tensor

HEAD = "robot_r1::robot_r1:zed_link:Camera:0::rgb"
LEFT = "robot_r1::robot_r1:left_realsense_link:Camera:0::rgb"
RIGHT = "robot_r1::robot_r1:right_realsense_link:Camera:0::rgb"


@pytest.fixture(autouse=True)
def _no_key_no_waiting(monkeypatch):
    monkeypatch.delenv("B1K_EVAL_API_KEY", raising=False)
    monkeypatch.setattr("b1k_policies.remote.wire.dialogue.SETTLE_S", 0.02)


def forward(message):
    """Full speed ahead, in the shape of the observation."""
    action = np.zeros(23, np.float32)
    action[0] = 1.0
    batched = message["robot_r1::proprio"].ndim == 2
    return {"action": action[None] if batched else action}


def chunks_of_forward(message):
    answer = forward(message)
    rows = message["__action_chunk_size__"]
    answer["action_chunk"] = np.repeat(answer["action"][..., None, :], rows, axis=-2)
    return answer


def ours(**fields):
    """Metadata as typed from what a server of ours says."""
    block = {
        "protocol_version": 1, "episode": True, "name": "toy", "chunk_length": 5,
        "skipped_rows": 0, "images": "native", "remarks": [], **fields,
    }  # fmt: skip
    return {"b1k_eval": block}


# --- every generation ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "query", "lead", "length"),
    [("2025", "", (), 256), ("2026", "", (1,), 61), ("2026", "?batch=no", (), 61)],
)
def test_a_whole_episode_by_the_protocols_text(protocol, query, lead, length, episode):
    env = ToyEnv(protocol=protocol)
    with foreign_server(forward) as server:
        policy = make_policy(server.address + query, protocol=protocol)
        result = run_episode(env, policy, episode, RecedingHorizon(1, policy.chunk_length))
        policy.close()
    assert (result.outcome, result.steps) == ("success", 10)
    assert server.kinds == ["connect", "reset", *["observation"] * 10]
    assert server.resets == [{"reset": True}]
    seen = server.observations[3]
    assert {key: (array.dtype.str, array.shape) for key, array in seen.items()} == {
        HEAD: ("|u1", (*lead, 720, 720, 4)),
        LEFT: ("|u1", (*lead, 480, 480, 4)),
        RIGHT: ("|u1", (*lead, 480, 480, 4)),
        "robot_r1::proprio": ("<f4", (*lead, length)),
        "robot_r1::cam_rel_poses": ("<f4", (*lead, 21)),
        "task_id": ("<i8", (*lead, 1)),
    }
    assert seen["task_id"].ravel() == [31]


def test_pictures_are_the_envs_own_and_opaque(episode):
    with foreign_server(forward) as server:
        policy = RemotePolicy(server.address)
        env = ToyEnv()
        policy.reset(episode)
        observation = env.observe()
        policy.infer(observation)
        policy.close()
    for key, view in ((HEAD, "head"), (LEFT, "left_wrist"), (RIGHT, "right_wrist")):
        picture = server.observations[0][key][0]
        np.testing.assert_array_equal(picture[..., :3], observation.images[view])
        assert (picture[..., 3] == 255).all()


@pytest.mark.parametrize("protocol", ["2025", "2026"])
def test_a_chunk_is_asked_for_and_played(protocol, episode):
    env = ToyEnv(protocol=protocol)
    with foreign_server(chunks_of_forward) as server:
        policy = make_policy(f"{server.address}?chunk=4", protocol=protocol)
        assert policy.chunk_length == 4
        result = run_episode(env, policy, episode, RecedingHorizon(4, policy.chunk_length))
        policy.close()
    assert (result.outcome, result.steps, result.inferences) == ("success", 10, 3)
    # A trial first, which the reset of the episode makes forgotten.
    assert server.kinds == ["connect", "reset", "observation", "reset", *["observation"] * 3]
    assert {message["__action_chunk_size__"] for message in server.observations} == {4}


def test_the_rows_of_a_chunk_come_in_order(episode):
    chunk = np.stack([row(n) for n in range(3)])
    answer = {"action": chunk[:1], "action_chunk": chunk[None]}
    with foreign_server(lambda _: answer) as server:
        policy = RemotePolicy(f"{server.address}?chunk=3")
        policy.reset(episode)
        actions = policy.infer(ToyEnv().observe()).actions
        policy.close()
    np.testing.assert_array_equal(actions, chunk)


def test_a_server_without_chunks_is_found_out_before_the_run():
    with (
        foreign_server(forward) as server,
        pytest.raises(UsageError, match="one action at a time: leave chunk=4 out, and use --hor"),
    ):
        RemotePolicy(f"{server.address}?chunk=4")


def test_a_server_that_fails_on_the_trial_is_unavailable():
    with (
        foreign_server(lambda _: "no such model") as server,
        pytest.raises(UnavailableError, match=r"fails on a trial observation: .* no such model"),
    ):
        RemotePolicy(f"{server.address}?chunk=4")


def test_latency_and_the_servers_own_timing_are_recorded(episode):
    answer = {**forward({"robot_r1::proprio": row(0)}), "server_timing": {"infer_ms": 12.5}}
    with foreign_server(lambda _: answer) as server:
        policy = RemotePolicy(server.address)
        policy.reset(episode)
        chunk = policy.infer(ToyEnv().observe())
        policy.close()
    assert chunk.latency_s > 0
    assert policy.server_timing == {"infer_ms": 12.5}


# --- what is recorded ---------------------------------------------------------------------------


def test_address_and_metadata_are_recorded_and_the_key_is_not(monkeypatch):
    monkeypatch.setenv("B1K_EVAL_API_KEY", "open-sesame")
    metadata = {"model": "x", "mean": np.zeros(3, np.float32), "lr": float("nan")}
    with foreign_server(forward, metadata=metadata, api_key="open-sesame") as server:
        policy = RemotePolicy(server.address)
        policy.close()
    recorded = json.dumps([policy.describe(), policy.describe_here(), policy.remarks, policy.name])
    assert policy.describe()["address"] == policy.name == server.address
    assert policy.describe()["metadata"]["model"] == "x"
    assert policy.describe()["metadata"]["mean"].startswith("float32 [3], sha256 ")
    assert "open-sesame" not in recorded


def test_a_missing_or_wrong_key_is_told_apart(monkeypatch):
    with foreign_server(forward, api_key="open-sesame") as server:
        with pytest.raises(UnavailableError, match="wants an API key, and it was not given any"):
            RemotePolicy(server.address)
        monkeypatch.setenv("B1K_EVAL_API_KEY", "wrong")
        with pytest.raises(
            UnavailableError, match="and not the one it was given: set the env"
        ) as e:
            RemotePolicy(server.address)
    assert "wrong" not in str(e.value)


def test_a_key_that_cannot_be_a_header_is_refused_without_repeating_it(monkeypatch):
    monkeypatch.setenv("B1K_EVAL_API_KEY", "secret\nX-Evil: 1")
    with pytest.raises(UsageError, match="printable ASCII characters without spaces") as caught:
        RemotePolicy("ws://127.0.0.1:9")
    assert "secret" not in str(caught.value)


def test_a_key_that_others_can_read_is_remarked(monkeypatch):
    monkeypatch.setenv("B1K_EVAL_API_KEY", "open-sesame")
    with foreign_server(forward) as server:
        private = RemotePolicy(server.address)
        public = RemotePolicy(server.address)
    public.address = type(public.address)(scheme="ws", host="eval.example.org", port=1)
    assert private.remarks == ()
    assert public._remarks() == (
        "ws://eval.example.org:1: the API key goes over the network unencrypted",
    )


# --- a server of ours ---------------------------------------------------------------------------


def test_a_server_of_ours_is_told_the_episode_and_the_step(episode):
    env = ToyEnv()
    with foreign_server(chunks_of_forward, metadata=ours(skipped_rows=1)) as server:
        policy = RemotePolicy(server.address)
        result = run_episode(env, policy, episode, RecedingHorizon(4, policy.chunk_length))
        policy.close()
    assert (policy.name, policy.chunk_length, policy.skipped_rows) == ("toy (remote)", 5, 1)
    assert result.outcome == "success"
    assert server.resets == [
        {
            "reset": True,
            "b1k_eval": {"seed": 7, "instance": 0, "rollout": 0, "inference": 0, "step": 0},
        }
    ]
    assert [message["b1k_eval"]["step"] for message in server.observations] == [0, 4, 8]
    assert {message["__action_chunk_size__"] for message in server.observations} == {5}
    assert server.observations[0][HEAD].shape == (1, 720, 720, 3)


def test_what_a_server_of_ours_says_of_skill_and_progress_reaches_the_chunk(episode):
    said = {"skill": {"index": 3, "name": "open door", "probability": 0.5}, "progress": 0.25}
    script = lambda message: {**chunks_of_forward(message), "b1k_eval": said}  # noqa: E731
    with foreign_server(script, metadata=ours(remarks=["a remark"])) as server:
        policy = RemotePolicy(server.address)
        policy.reset(episode)
        chunk = policy.infer(ToyEnv().observe())
        policy.close()
    assert chunk.skill.label == "open door"
    assert chunk.progress == 0.25
    assert policy.remarks == (f"{server.address}: a remark",)


def test_a_server_of_ours_can_do_without_pictures(episode):
    with foreign_server(chunks_of_forward, metadata=ours(images="none")) as server:
        policy = RemotePolicy(server.address)
        env = ToyEnv()
        run_episode(env, policy, episode, RecedingHorizon(5, 5))
        policy.close()
    assert not policy.needs_images
    assert "observe" not in env.calls
    assert not any("rgb" in key for key in server.observations[0])


@pytest.mark.parametrize("contract", [V17, V4], ids=["v17", "v4"])
def test_pictures_resized_here_are_bit_for_bit_those_that_the_server_would_make(contract, episode):
    rng = np.random.default_rng(0)
    native = ToyEnv().observe()
    images = {
        view: rng.integers(0, 256, picture.shape, np.uint8)
        for view, picture in native.images.items()
    }
    observation = Observation(**{**native.__dict__, "images": images})
    info = ServerInfo(
        name="toy",
        chunk_length=5,
        images=Resizing(
            size=contract.image_size,
            filter=contract.resize_filter,
            antialias=contract.resize_antialias,
        ),
    )
    with foreign_server(chunks_of_forward, metadata=info.as_metadata()) as server:
        policy = RemotePolicy(server.address)
        policy.reset(episode)
        policy.infer(observation)
        policy.close()
    sent = {
        view: server.observations[0][key][0]
        for key, view in ((HEAD, "head"), (LEFT, "left_wrist"), (RIGHT, "right_wrist"))
    }
    assert {picture.shape for picture in sent.values()} == {(contract.image_size,) * 2 + (3,)}
    assert image_tensor([sent], contract).equal(image_tensor([images], contract))


def test_fewer_actions_than_a_server_has_may_be_asked_for_and_not_more(episode):
    with foreign_server(chunks_of_forward, metadata=ours()) as server:
        policy = RemotePolicy(f"{server.address}?chunk=2")
        assert policy.chunk_length == 2
        policy.reset(episode)
        assert policy.infer(ToyEnv().observe()).actions.shape == (2, 23)
        policy.close()
        with pytest.raises(UsageError, match="chunk=6, but the server's chunks have 5 actions"):
            RemotePolicy(f"{server.address}?chunk=6")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"protocol_version": 9}, "speaks version 9 of b1k-eval's own protocol, this client ver"),
        ({"chunk_length": None}, "for chunk_length under 'b1k_eval', which cannot be meant"),
    ],
)
def test_a_server_of_ours_that_is_not_understood_is_unavailable(fields, text):
    with (
        foreign_server(forward, metadata=ours(**fields)) as server,
        pytest.raises(UnavailableError, match=text),
    ):
        RemotePolicy(server.address)


# --- TLS ----------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path):
    """A certificate of 127.0.0.1 by itself, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")),
        ],
        check=True,
        capture_output=True,
    )
    return tmp_path / "cert.pem", tmp_path / "key.pem"


@pytest.fixture
def tls(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


def test_a_server_with_a_certificate_we_trust_is_used(certificate, tls, monkeypatch, episode):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    monkeypatch.setenv("B1K_EVAL_API_KEY", "open-sesame")
    with foreign_server(forward, tls=tls, api_key="open-sesame") as server:
        policy = make_policy(server.address)
        result = run_episode(ToyEnv(), policy, episode, RecedingHorizon(1, 1))
        policy.close()
    assert policy.name.startswith("wss://")
    assert (result.outcome, result.steps) == ("success", 10)


def test_a_server_with_a_certificate_of_nobody_is_not_talked_to(tls):
    with (
        foreign_server(forward, tls=tls) as server,
        pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        make_policy(f"{server.address}?wait=0")
    assert server.kinds == []


# --- waiting for a server -----------------------------------------------------------------------


def test_a_server_that_is_still_starting_is_waited_for():
    waited = []
    with foreign_server(forward, healthy=lambda: 200 if len(waited) == 3 else 503) as server:
        policy = RemotePolicy(server.address, start_wait_s=0.5, sleep=waited.append)
        policy.close()
    assert waited == [0.5] * 3
    assert server.health_checks == 4
    assert server.connections == 1


def test_no_server_within_the_wait_says_how_to_start_one():
    with foreign_server(forward) as server:
        pass
    wanted = (
        r"no policy server within 0 s \(ws://127.*/healthz: .*refused.* `b1k-eval serve`.*wait=S"
    )
    with pytest.raises(UnavailableError, match=wanted):
        RemotePolicy(f"{server.address}?wait=0")


@pytest.mark.parametrize("metadata", [b"\xc1", b"\x90", "hello", b"\x01"])
def test_what_does_not_begin_with_a_map_is_no_policy_server(metadata):
    with (
        foreign_server(forward, metadata=metadata) as server,
        pytest.raises(UnavailableError, match="not a policy server of this protocol: its first"),
    ):
        RemotePolicy(server.address)


def test_a_server_that_says_nothing_first_is_given_up(monkeypatch):
    monkeypatch.setattr("b1k_policies.remote.wire.link.METADATA_TIMEOUT_S", 0.05)
    with (
        foreign_server(forward, metadata=None) as server,
        pytest.raises(UnavailableError, match=r"no policy server within 0 s .*does not answer"),
    ):
        RemotePolicy(f"{server.address}?wait=0")


# --- packages -----------------------------------------------------------------------------------


def test_without_websockets_the_install_line_is_told(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(UnavailableError, match=r"missing: pip install '\.\[server\]' in the"):
        RemotePolicy("ws://127.0.0.1:9")


def test_too_old_a_websockets_is_told(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "14.2")
    with pytest.raises(UnavailableError, match=r"websockets 14.2 is too old, at least 15 is need"):
        RemotePolicy("ws://127.0.0.1:9")


def test_without_torch_a_server_that_wants_resized_pictures_is_told_before_the_run(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    images = {"size": [224, 224], "filter": "bicubic", "antialias": True}
    with (
        foreign_server(forward, metadata=ours(images=images)) as server,
        pytest.raises(UnavailableError, match=r"resized to 224 px, which needs torch here too"),
    ):
        RemotePolicy(server.address)


# --- the double itself --------------------------------------------------------------------------


def test_the_double_reads_and_writes_as_openpi_client_does():
    from openpi_client import msgpack_numpy

    value = {"action": row(1), "n": np.float32(2), "metadata": {"a": [1, None]}}
    assert encode(value) == msgpack_numpy.packb(value)
    np.testing.assert_array_equal(decode(encode(value))["action"], row(1))
    assert in_turn({"a": 1})({}) == {"a": 1}
