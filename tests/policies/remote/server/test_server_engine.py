"""What can be served, and that serving does not change its numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from observations import made_observation
from serving import EPISODE

from b1k_envs.errors import UsageError
from b1k_policies.base import EpisodeInfo
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.registry import make_policy
from b1k_policies.remote.server.engine import Ask, Engine, EpisodeMemory
from b1k_policies.remote.server.sessions import Session, Terms
from b1k_policies.remote.wire.messages import Announcement


def test_a_policy_that_reads_the_simulator_is_refused():
    with pytest.raises(UsageError, match="expert reads the simulator"):
        Engine(lambda: make_policy("expert"))


@pytest.mark.parametrize("spec", ["zero", "hold", "random"])
def test_every_episode_has_a_policy_of_its_own(spec):
    engine = Engine(lambda: make_policy(spec))
    first, second = (
        EpisodeInfo(**{**vars(EPISODE), "seed": seed, "rollout": seed}) for seed in (1, 2)
    )
    memories = EpisodeMemory(), EpisodeMemory()
    seen = [made_observation(number, "2026") for number in range(3)]
    found = {1: [], 2: []}
    for number, observation in enumerate(seen):  # taking turns
        for episode, memory in zip((first, second), memories, strict=True):
            (chunk,) = engine.chunks(
                [Ask(observation=observation, episode=episode, inference=number, memory=memory)]
            )
            found[episode.seed].append(chunk.actions)
    for episode in (first, second):
        alone = make_policy(spec)
        alone.reset(episode)
        for observation, actions in zip(seen, found[episode.seed], strict=True):
            np.testing.assert_array_equal(actions, alone.infer(observation).actions)


def test_a_checkpoint_answers_as_without_a_server(tiny_v17):
    request = CheckpointRequest(ckpt=str(tiny_v17), device="cpu")
    policy = make_policy("checkpoint", request)
    engine = Engine(lambda: policy)
    seen = [made_observation(number, "2026") for number in range(3)]
    policy.reset(EPISODE)
    alone = [policy.infer(observation).actions for observation in seen]
    for number in (2, 0, 1):  # in any order: the number decides
        (chunk,) = engine.chunks([Ask(observation=seen[number], episode=EPISODE, inference=number)])
        np.testing.assert_array_equal(chunk.actions, alone[number])
    engine.close()


def test_a_session_tells_a_checkpoint_its_own_progress(tiny_v17):
    settings = ("skill_progress=previous",)
    request = CheckpointRequest(ckpt=str(tiny_v17), settings=settings, force_contract=True)
    policy = make_policy("checkpoint", request)
    engine = Engine(lambda: policy)
    seen = [replace(made_observation(n, "2026"), step=10 * n, task_index=31) for n in range(3)]
    told = Announcement(seed=EPISODE.seed, instance=0, rollout=0)
    session = Session(Terms(chunk_length=30, horizon=10))
    session.reset(told)
    answers = []
    for observation in seen:
        asks = session.ask([observation], 10, anew=True)
        answers.append(session.answer(engine.chunks(asks), 10).chunks[0])
    policy.reset(replace(EPISODE, instruction=asks[0].episode.instruction))
    for observation, answer in zip(seen, answers, strict=True):
        np.testing.assert_array_equal(answer.actions, policy.infer(observation).actions)
    # On a new connection the client says where the episode was.
    session.reset(replace(told, inference=2, step=20, progress=answers[1].progress))
    (again,) = engine.chunks(session.ask([seen[2]], 10, anew=True))
    np.testing.assert_array_equal(again.actions, answers[2].actions)
    engine.close()


@pytest.mark.parametrize("horizon", [0, 13, -1])
def test_a_horizon_beyond_the_chunk_is_refused(horizon):
    with pytest.raises(UsageError, match="between 1 and the policy's chunk length, 12"):
        Terms(chunk_length=12, horizon=horizon)
