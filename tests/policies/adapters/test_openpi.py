"""An openpi policy in this process, by openpi-client's own BasePolicy."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from observations import made_observation
from serving import EPISODE

from b1k_envs.errors import ActionError
from b1k_envs.r1pro import CAMERAS, PROPRIO_KEY
from b1k_policies.adapters.openpi import OpenpiPolicy
from b1k_policies.inspection.conformance import check_policy
from b1k_policies.registry import make_policy

base_policy = pytest.importorskip("openpi_client.base_policy")


class Inner(base_policy.BasePolicy):
    """Answers by the noise and by what it is told, as wide as a model is."""

    def __init__(self, shape=(50, 32)):
        self.shape, self.asked, self.resets = shape, [], 0

    def infer(self, obs, *, noise=None):
        self.asked = [*self.asked[-2:], (obs, noise)]
        answer = np.zeros(self.shape) if noise is None else noise.astype(np.float64)
        return {"actions": answer + len(obs["prompt"]) / 100, "state": None}

    def reset(self):
        self.resets += 1


def test_it_is_given_what_the_evaluator_sends_and_the_prompt():
    inner = Inner()
    policy = OpenpiPolicy(inner, 50)
    policy.reset(EPISODE)
    assert inner.resets == 1
    observation = made_observation(0, "2026")
    chunk = policy.infer(observation)
    assert (chunk.actions == np.float32(len(EPISODE.instruction) / 100)).all()
    ((given, noise),) = inner.asked
    assert (given["prompt"], noise) == (EPISODE.instruction, None)
    np.testing.assert_array_equal(given[PROPRIO_KEY], observation.proprio)
    for view, camera in CAMERAS.items():
        np.testing.assert_array_equal(given[camera.observation_key], observation.images[view])


def test_with_noise_of_the_seed_it_keeps_every_promise():
    found = check_policy(lambda: OpenpiPolicy(Inner(), 50, noise=(50, 32)), EPISODE, 20)
    assert {check.name: check.found for check in found if check.verdict == "fails"} == {}


def test_noise_of_its_own_is_found():
    class Dreams(Inner):
        def infer(self, obs, *, noise=None):
            return {"actions": np.random.default_rng().uniform(size=(50, 32))}

    found = check_policy(lambda: OpenpiPolicy(Dreams(), 50), EPISODE, 20)
    assert [check.name for check in found if check.verdict == "fails"] == ["repeats"]


@pytest.mark.parametrize("shape", [(49, 32), (50, 22), (50,)])
def test_an_answer_that_is_too_small_is_the_policys_fault(shape):
    policy = OpenpiPolicy(Inner(shape), 50)
    policy.reset(EPISODE)
    message = f"the openpi policy gave actions {list(shape)}, expected at least [50, 23]"
    with pytest.raises(ActionError, match=re.escape(message)):
        policy.infer(made_observation(0, "2026"))


def test_the_example_of_the_page_works_with_openpis_names(tmp_path, monkeypatch):
    page = Path(__file__).parents[3] / "docs" / "your-own-policy.md"
    text = page.read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n# pi.py\n(.*?)^```", text, re.M | re.S)
    (tmp_path / "pi.py").write_text(block)
    made = []

    def create(config, checkpoint):
        made.append((config, checkpoint))
        return Inner()

    model = SimpleNamespace(action_horizon=50, action_dim=32)
    names = {
        "openpi.policies.policy_config": {"create_trained_policy": create},
        "openpi.training.config": {"get_config": lambda _: SimpleNamespace(model=model)},
    }
    for name, members in names.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("openpi", "openpi.policies", "openpi.training"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys, "path", list(sys.path))
    words = ["config=pi05_b1k", "checkpoint=/ckpt"]
    policy = make_policy(f"{tmp_path}/pi.py:Pi", arguments=words)
    assert made == [(SimpleNamespace(model=model), "/ckpt")]
    policy.reset(EPISODE)
    policy.infer(made_observation(0, "2026"))
    ((given, noise),) = policy._policy.asked
    assert sorted(given) == [
        "observation/egocentric_camera",
        "observation/state",
        "observation/wrist_image_left",
        "observation/wrist_image_right",
        "prompt",
    ]
    assert noise.shape == (50, 32)
