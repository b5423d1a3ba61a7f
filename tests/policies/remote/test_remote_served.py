"""The same episode in process and through our server and client: the same actions, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from doubles import ToyEnv
from serving import LedgerEngine, served

from b1k_envs.base import Env, ProtocolYear
from b1k_envs.errors import HostFaultError, PolicyFaultError
from b1k_eval.loop.chunking import Chunking, RecedingHorizon, TemporalEnsemble
from b1k_eval.loop.events import StepEvent, Subscriber
from b1k_eval.loop.runner import run_episode
from b1k_policies.base import Policy, Resizing
from b1k_policies.baselines import ReplayPolicy
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.registry import make_policy
from b1k_policies.remote.client import RemotePolicy
from b1k_policies.remote.server.engine import Engine
from b1k_policies.remote.wire.metadata import Images, ServerInfo

STEPS = 24
HORIZON = 5


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.delenv("B1K_EVAL_API_KEY", raising=False)


class Commands(Subscriber):
    """Keeps the commands, and what the policy says of itself; ends the episode after `STEPS`."""

    def __init__(self):
        self.rows = []
        self.said = []

    def on_step(self, event: StepEvent) -> None:
        self.rows.append(event.command.copy())
        self.said.append((event.skill, event.progress))
        if len(self.rows) == STEPS:
            raise StopIteration

    def taken(self):
        assert len(self.rows) == STEPS
        return np.stack(self.rows)


def commands(env: Env, policy: Policy, episode, chunking: Chunking) -> Commands:
    kept = Commands()
    run_episode(env, policy, episode, chunking, subscribers=[kept])
    return kept


def info(engine: Engine, images: Images = "native") -> ServerInfo:
    return ServerInfo(
        name=engine.policy.name,
        chunk_length=engine.policy.chunk_length,
        skipped_rows=engine.policy.skipped_rows,
        images=images if engine.policy.needs_images else "none",
        remarks=engine.policy.remarks,
    )


def through_server(
    env, engine, episode, chunking, protocol: ProtocolYear = "2026", images="native"
):
    metadata = info(engine, images).as_metadata()
    with served(engine, metadata=metadata, horizon=engine.policy.chunk_length, most=1) as server:
        policy = RemotePolicy(server.url, protocol)
        assert policy.needs_images == engine.policy.needs_images
        kept = commands(env, policy, episode, chunking)
        policy.close()
    return kept


@pytest.mark.parametrize("year", ["2025", "2026"])
@pytest.mark.parametrize("spec", ["hold", "random", "zero"])
def test_a_baseline_in_the_twin_gives_the_same_actions(year, spec, request, episode):
    env = request.getfixturevalue(f"twin_{year}")
    episode = replace(episode, protocol=year)
    alone = commands(env, make_policy(spec), episode, RecedingHorizon(HORIZON, 30))
    engine = Engine(lambda: make_policy(spec))
    remote = through_server(env, engine, episode, RecedingHorizon(HORIZON, 30), year)
    assert alone.taken().tobytes() == remote.taken().tobytes()


def test_a_recording_is_replayed_by_the_clients_own_steps(tmp_path, episode):
    """The server is asked for 30 rows and 5 are played: only the client knows where it is."""
    rows = np.random.default_rng(0).random((STEPS + 40, 23), dtype=np.float32)
    np.save(tmp_path / "rows.npy", rows)
    engine = Engine(lambda: ReplayPolicy(tmp_path / "rows.npy"))
    remote = through_server(ToyEnv(), engine, episode, RecedingHorizon(HORIZON, 30))
    np.testing.assert_array_equal(remote.rows, rows[: len(remote.rows)])
    assert len(remote.rows) > 2 * HORIZON


@pytest.mark.slow
@pytest.mark.parametrize(("version", "images"), [("v4", "native"), ("v17", "resized")])
def test_a_checkpoint_in_the_twin_gives_the_same_actions(
    version, images, request, twin_2026, episode
):
    folder = request.getfixturevalue(f"tiny_{version}")
    policy = make_policy("checkpoint", CheckpointRequest(ckpt=str(folder), device="cpu"))
    length = policy.chunk_length
    alone = commands(twin_2026, policy, episode, RecedingHorizon(10, length))
    wanted = "native"
    if images == "resized":
        contract = policy.contract
        wanted = Resizing(
            size=contract.image_size,
            filter=contract.resize_filter,
            antialias=contract.resize_antialias,
        )
    remote = through_server(
        twin_2026, Engine(lambda: policy), episode, RecedingHorizon(10, length), images=wanted
    )
    policy.close()
    assert alone.taken().tobytes() == remote.taken().tobytes()
    assert alone.said == remote.said
    assert alone.said[0][0] is not None


def test_overlapping_chunks_are_inferred_anew_each_time(episode):
    engine = Engine(lambda: make_policy("random"))
    chunking = TemporalEnsemble(3, 0.01, 30)
    alone = commands(ToyEnv(), make_policy("random"), episode, chunking)
    remote = through_server(ToyEnv(), engine, episode, chunking)
    assert len(alone.rows) > 6
    np.testing.assert_array_equal(alone.rows, remote.rows)


def test_a_lost_connection_changes_nothing_for_a_checkpoint_like_engine(episode):
    """Noise follows from seed and number of the inference, which the client tells again."""
    engine = LedgerEngine()
    with served(engine, metadata=info(engine).as_metadata(), horizon=12) as server:
        policy = RemotePolicy(server.url)
        policy.reset(episode)
        env = ToyEnv()
        observation = env.observe()
        first = policy.infer(observation).actions
        policy._link.drop()
        second = policy.infer(observation).actions
        policy.close()
    assert (first[0, 1], second[0, 1]) == (0, 1)  # column 1: number of the inference
    assert first[0, 2] == second[0, 2] == episode.seed
    asked = [ask.episode.seed for batch in engine.batches for ask in batch]
    assert asked == [episode.seed] * 2


@pytest.mark.parametrize(
    ("fault", "raised", "reason"),
    [
        (HostFaultError("no memory"), HostFaultError, None),
        (PolicyFaultError("bad"), PolicyFaultError, "policy_error"),
        (ValueError("bad"), PolicyFaultError, "policy_error"),
    ],
)
def test_whose_fault_it_was_survives_the_wire(fault, raised, reason, episode):
    engine = LedgerEngine()
    engine.spoilt = {0.0: fault}
    with served(engine, metadata=info(engine).as_metadata()) as server:
        policy = RemotePolicy(server.url)
        policy.reset(episode)
        with pytest.raises(raised, match=r"the server reports: the .* failed") as caught:
            policy.infer(ToyEnv().observe())
        policy.close()
    if reason is not None:
        assert caught.value.reason == reason
