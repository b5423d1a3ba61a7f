"""The public `PolicyClient` and `PolicyServer` of Isaac-GR00T against our two ends.

They are on no package index; PYTHONPATH may name a checkout of NVIDIA/Isaac-GR00T, of which
`gr00t/policy/server_client.py` imports without the model.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace

import numpy as np
import pytest
from doubles import ToyEnv
from foreign_gr00t import DIMENSIONS, PARTS, PICTURES, WORDS, action_of, observation_of
from serving import served_gr00t

from b1k_envs.tasks.table import get_task
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.loop.runner import run_episode
from b1k_policies.baselines import HoldPolicy
from b1k_policies.registry import make_policy
from b1k_policies.remote.server.engine import Engine

public = pytest.importorskip("gr00t.policy.server_client")
types = pytest.importorskip("gr00t.data.types")


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.delenv("B1K_EVAL_API_KEY", raising=False)


@pytest.mark.parametrize("flat", [True, False])
def test_their_client_is_answered_by_our_server(flat):
    with served_gr00t(Engine(HoldPolicy)) as address:
        host, port = address.removeprefix("gr00t://").split(":")
        client = public.PolicyClient(host=host, port=int(port))
        assert client.ping()
        config = client.get_modality_config()
        assert config["state"].modality_keys == list(DIMENSIONS)
        assert config["action"].delta_indices == list(range(30))
        assert client.reset() == {}
        action, info = client.get_action(observation_of(flat=flat))
        with pytest.raises(RuntimeError, match="not by its clients"):
            client.kill_server()
        with pytest.raises(RuntimeError, match="get_action needs a map as observation"):
            client.get_action(3)
        ended(client)
    lead = "action." if flat else ""
    assert {key: part.shape for key, part in action.items()} == {
        f"{lead}{name}": (1, 30, b - a) for name, (a, b) in PARTS.items()
    }
    assert info == {}


def ended(either):
    """Close what they leave to the garbage, which would wait for it on any thread."""
    either.socket.close(linger=0)
    either.context.term()


class Forward:
    """What their server asks: a policy of theirs, without a model."""

    def get_modality_config(self):
        keys = {"video": PICTURES, "state": DIMENSIONS, "action": PARTS, "language": [WORDS]}
        steps = {"action": list(range(32))}
        return {
            name: types.ModalityConfig(
                delta_indices=steps.get(name, [0]), modality_keys=list(found)
            )
            for name, found in keys.items()
        }

    def reset(self, options=None):
        return {}

    def get_action(self, observation, options=None):
        rows = np.zeros((len(observation[WORDS]), 32, 23), np.float32)
        rows[..., 0] = 1.0
        return action_of(rows), {}


def test_our_client_is_answered_by_their_server(episode):
    with contextlib.redirect_stdout(None):  # it prints every request
        server = public.PolicyServer(Forward(), host="127.0.0.1", port=0)
        port = server.socket.getsockopt_string(public.zmq.LAST_ENDPOINT).rpartition(":")[2]
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        policy = make_policy(f"gr00t://127.0.0.1:{port}", protocol="2025")
        told = replace(episode, protocol="2025", instruction=get_task(31).instruction)
        env = ToyEnv(protocol="2025")
        result = run_episode(env, policy, told, RecedingHorizon(8, policy.chunk_length))
        policy._link.packed("kill", None)
        policy._link.ask("kill", None, policy._link._clock() + 20)
        policy.close()
        thread.join(20)
    assert not thread.is_alive()
    ended(server)
    assert (policy.form, policy.chunk_length) == ("flat", 32)
    assert (result.outcome, result.steps, result.inferences) == ("success", 10, 2)
