"""`b1k-eval serve` as it is typed: what it refuses, and what it says before it serves."""

from __future__ import annotations

import json
import socket
import sys

import numpy as np
import pytest
from process import ServeProcess
from raw import SMALL, RawClient, observation
from typer.testing import CliRunner
from websockets.exceptions import InvalidStatus

from b1k_eval.cli.main import app

KEY = "0123456789abcdef"


def typed(*arguments, **environment):
    return CliRunner().invoke(app, ["serve", *arguments], env=environment)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "what is to be served?"),
        (("--policy", "expert"), "serve a checkpoint"),
        (("--policy", "nobody"), "'nobody' is unknown"),
        (("--policy", "ws://elsewhere:8000"), "is a server already"),
        (("--policy", "zero", "--ckpt", "x"), "both name a policy"),
        (("--policy", "zero", "--device", "cpu"), "only mean something with --ckpt"),
        (("--policy", "zero", "--host", "0.0.0.0"), "needs a key"),
        (("--policy", "zero", "--api-key", "short"), "at least 16"),
        (("--policy", "zero", "--no-key", "--api-key", KEY), "leave out --no-key, or --api-key"),
        (("--policy", "zero", "--protocol", "2027"), "choose auto, 2025, 2026 or gr00t"),
        (("--policy", "zero", "--task", "60", "--protocol", "2025"), "not in the 2025 challenge"),
        (("--policy", "zero", "--images", "small"), "choose native or contract"),
        (("--policy", "zero", "--horizon", "31"), "between 1 and the policy's chunk length, 30"),
        (("--policy", "zero", "--max-clients", "0"), "--max-clients 0"),
        (("--policy", "zero", "--prompt", " "), "--prompt needs"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anybody_is_served(arguments, said):
    result = typed(*arguments, "--port", "0", "--json")
    assert result.exit_code == 2
    error = json.loads(result.stdout)["error"]
    assert said in error["message"]
    assert "Traceback" not in result.output


def test_no_key_and_a_key_of_the_environment_contradict_each_other():
    result = typed("--policy", "zero", "--no-key", "--json", B1K_EVAL_API_KEY=KEY)
    assert result.exit_code == 2
    assert "environment variable B1K_EVAL_API_KEY" in json.loads(result.stdout)["error"]["message"]
    assert KEY not in result.output


LOOPBACK_ALONE = """
import b1k_eval.cli.checkpoints.serve as serve
listen_on = serve.listen_on
serve.listen_on = lambda host, port: listen_on("127.0.0.1", port)
"""
"""Everything as with --host 0.0.0.0, but that no other machine is let near a test."""


def test_a_door_that_stands_open_is_said_loudly_and_nobody_needs_a_key(tmp_path):
    arguments = ("--policy", "hold", "--host", "0.0.0.0", "--no-key", "--max-envs", "2")
    with ServeProcess(tmp_path, *arguments, prelude=LOOPBACK_ALONE) as server:
        with RawClient(server.url) as client:
            asked = observation("2026", envs=2, **SMALL)
            assert client.ask(asked)["action"].shape == (2, 23)
        with pytest.raises(InvalidStatus):  # a browser is not let in, with or without a key
            RawClient(server.url, origin="http://evil.example")
    warning = "ANYBODY who can reach 0.0.0.0 can use this policy: --no-key asks nobody for a key"
    assert server.document["warning"].startswith(warning)
    assert (server.document["key"], server.document["max_envs"]) == (False, 2)
    said, logged = [line for line in server.log.splitlines() if warning in line]
    assert said.startswith("WARNING ")
    assert " WARNING ANYBODY" in logged
    assert "no API key is needed" in server.log


def test_how_many_environments_are_answered_is_said_at_the_start_and_to_whom_it_is_too_few(
    tmp_path,
):
    words = (
        "this server answers for 1 environment at a time; an evaluator with --num-envs N needs "
        "b1k-eval serve --max-envs N"
    )
    with ServeProcess(tmp_path, "--policy", "hold") as server, RawClient(server.url) as client:
        assert client.metadata["max_envs"] == 1
        told = client.ask(observation("2026", envs=4, **SMALL))
    assert told == f"robot_r1::proprio is of 4 envs, expected 1 to 1: {words}"
    said = [line for line in server.log.splitlines() if words in line]
    assert [line.startswith("envs      ") for line in said] == [True, False, False]
    assert "refused: " in said[2]
    assert server.document["warning"] is None


def test_a_port_in_use_is_known_before_a_checkpoint_is_looked_at():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = typed("--ckpt", "nowhere/at-all", "--port", str(port))
    assert result.exit_code == 2
    assert "is not available" in result.output


def test_without_websockets_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "websockets.asyncio.server", None)
    result = typed("--policy", "zero")
    assert result.exit_code == 4
    assert "[server]" in result.output


def test_a_prompt_that_the_contract_overrules_is_refused(tiny_v17):
    result = typed(
        *("--ckpt", str(tiny_v17), "--device", "cpu", "--port", "0"),
        *("--prompt", "something else", "--set", "prompt=fold the towel", "--force-contract"),
    )
    assert result.exit_code == 2
    assert "'fold the towel'" in result.output


@pytest.mark.slow
def test_it_says_what_is_served_to_whom_and_where(tmp_path, tiny_v17):
    arguments = ("--ckpt", str(tiny_v17), "--device", "cpu", "--task", "31", "--images", "contract")
    process = ServeProcess(tmp_path, *arguments, B1K_EVAL_API_KEY=KEY)
    with process as server, RawClient(server.url, api_key=KEY) as client:
        answer = client.ask(observation("2026", **SMALL))
        metadata = client.metadata
    assert answer["action"].shape == (23,)
    assert np.isfinite(answer["action"]).all()
    block = metadata["b1k_eval"]
    assert block["chunk_length"] == 30
    assert block["images"] == {"size": [224, 224], "filter": "bicubic", "antialias": True}
    assert metadata["task"] == "clean_boxing_gloves"
    assert str(tiny_v17) not in json.dumps(metadata)
    for text in ("v17", "30 actions, 10 of them", "31 clean_boxing_gloves", "224 px", server.url):
        assert text in server.log
    assert "an API key is needed" in server.log
    assert KEY not in server.log


def test_loopback_and_no_key_is_the_default(tmp_path):
    with ServeProcess(tmp_path, "--policy", "hold") as server:
        assert server.url.startswith("ws://127.0.0.1:")
        with RawClient(server.url) as client:
            assert client.metadata["b1k_eval"]["images"] == "none"
            asked = observation("2026", **SMALL)
            action = client.ask(asked)["action"]
    np.testing.assert_array_equal(action[3:7], asked["robot_r1::proprio"][53:57])
    assert "no API key is needed" in server.log


@pytest.mark.slow
def test_a_checkpoint_of_the_public_family_is_served(tmp_path, tiny_family):
    arguments = ("--ckpt", str(tiny_family), "--contract", "v17", "--set", "geometry_size=504")
    arguments += ("--device", "cpu", "--task", "31")
    process = ServeProcess(tmp_path, *arguments, XVLA_POSED_DA3="1")
    with process as server, RawClient(server.url) as client:
        answer = client.ask(observation("2026", **SMALL))
    assert answer["action"].shape == (23,)
    assert np.isfinite(answer["action"]).all()
