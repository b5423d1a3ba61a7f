"""openpi's own client, unchanged, drives twin episodes through the server.

What a pass does not prove: anything of OmniGibson's evaluator, whose client is another one.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from raw import CAMERAS
from serving import EPISODE, served

from b1k_envs.base import Env
from b1k_policies.base import EpisodeInfo
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.registry import make_policy
from b1k_policies.remote.server.engine import Engine
from b1k_policies.xvla.files.folder import shipped

openpi = pytest.importorskip("openpi_client.websocket_client_policy")

STEPS = 24
HORIZON = 10
VIEWS = ("head", "left_wrist", "right_wrist")
SEED = int(hashlib.sha256(b"b1k-server/0/0/0").hexdigest()[:8], 16) >> 1


def as_the_evaluator_sends(seen):
    message = {
        f"robot_r1::robot_r1:{link}:Camera:0::rgb": np.dstack(
            [seen.images[view], np.full(seen.images[view].shape[:2], 255, np.uint8)]
        )
        for view, (link, _) in zip(VIEWS, CAMERAS, strict=True)
    }
    message["robot_r1::proprio"] = seen.proprio
    message["robot_r1::cam_rel_poses"] = seen.cam_rel_poses
    message["task_id"] = np.array([31])
    return message


def episode_of(env: Env, act):
    """Actions of an episode of so many steps, float32 [STEPS, 23]."""
    env.reset(0, 0, 0)
    actions = []
    for step in range(STEPS):
        actions.append(np.array(act(step, env.observe())))
        env.step(actions[-1])
    return np.stack(actions)


def in_process(policy, env):
    policy.reset(EpisodeInfo(**{**vars(EPISODE), "seed": SEED, "protocol": env.info.protocol}))
    chunks = []

    def act(step, seen):
        if step % HORIZON == 0:
            chunks.append(policy.infer(seen).actions)
        return chunks[-1][step % HORIZON]

    return episode_of(env, act)


def through_openpi(engine, env):
    with served(engine, horizon=HORIZON, most=1) as server:
        host, port = server.url.removeprefix("ws://").split(":")
        client = openpi.WebsocketClientPolicy(host, int(port))
        try:
            return episode_of(
                env, lambda _step, seen: client.infer(as_the_evaluator_sends(seen))["action"]
            )
        finally:
            client._ws.close()


@pytest.mark.slow
@pytest.mark.parametrize("year", ["2025", "2026"])
@pytest.mark.parametrize("spec", ["hold", "random"])
def test_openpis_client_plays_the_same_episode_as_a_policy_in_process(year, spec, request):
    env = request.getfixturevalue(f"twin_{year}")
    alone = in_process(make_policy(spec), env)
    served_actions = through_openpi(Engine(lambda: make_policy(spec)), env)
    assert alone.tobytes() == served_actions.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny_v4", "tiny_v17", "twin-v17"])
def test_openpis_client_plays_the_same_episode_as_a_checkpoint_in_process(name, request, twin_2026):
    # twin-v17 is told its own last progress, so the server has to remember that.
    folder = name if name in shipped() else request.getfixturevalue(name)
    asked = CheckpointRequest(ckpt=str(folder), device="cpu")
    policy = make_policy("checkpoint", asked)
    alone = in_process(policy, twin_2026)
    served_actions = through_openpi(Engine(lambda: policy), twin_2026)
    policy.close()
    assert alone.tobytes() == served_actions.tobytes()
