"""The lerobot adapter, on a double with lerobot 0.4.4's signatures; the real one by a script.

What the double cannot show, that the real package takes these calls, scripts/try_lerobot.py does.
"""

from __future__ import annotations

import json
import re
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from observations import made_observation, pil_resized
from serving import EPISODE

from b1k_envs.errors import UnavailableError, UsageError
from b1k_envs.r1pro import PROPRIO_LAYOUTS
from b1k_policies.base import Query
from b1k_policies.inspection.conformance import check_policy
from b1k_policies.registry import make_policy

SPEC = "b1k_policies.adapters.lerobot:LeRobotPolicy"
PICTURES = {f"observation.images.rgb.{view}": 96 for view in ("head", "left_wrist", "right_wrist")}


class Pipeline:
    """Notes what passes through it, and adds one to the state or doubles the action."""

    def __init__(self, asked):
        self.asked, self.seen = asked, []

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path,
        config_filename,
        *,
        overrides=None,
        to_transition=None,
        to_output=None,
    ):
        return cls((config_filename, overrides, to_transition, to_output))

    def __call__(self, data):
        self.seen = [data]
        if isinstance(data, dict):
            return {**data, "observation.state": data["observation.state"] + 1}
        return data * 2


class Model:
    """Answers by the noise, the state and the brightness of its first picture."""

    made: list[Model] = []  # noqa: RUF012

    def __init__(self, config):
        self.config, self.resets = config, 0
        self.made.append(self)

    @classmethod
    def from_pretrained(cls, pretrained_name_or_path, *, config=None, local_files_only=False):
        assert local_files_only
        sys.stdout.write("Loading weights from local directory\n")
        return cls(config)

    def eval(self):
        return self

    def reset(self):
        self.resets += 1

    def predict_action_chunk(self, batch):
        import torch

        count = len(batch["observation.state"])
        assert len(batch["task"]) == count
        noise = torch.randn(count, self.config.chunk_size, 23)
        first = batch["observation.images.rgb.head"].mean(dim=(1, 2, 3))
        return noise + batch["observation.state"][:, :1, None] + first[:, None, None]


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """A function that writes config.json, for the modules that stand in for lerobot's."""

    class PreTrainedConfig:
        @classmethod
        def from_pretrained(cls, pretrained_name_or_path, *, local_files_only=False):
            assert local_files_only
            found = json.loads((pretrained_name_or_path / "config.json").read_text())
            shape = {"observation.state": (found.pop("state"),)}
            features = {key: (3, size, size) for key, size in found.pop("pictures").items()}
            return SimpleNamespace(
                input_features={
                    key: SimpleNamespace(shape=each) for key, each in {**shape, **features}.items()
                },
                image_features=features,
                output_features={"action": SimpleNamespace(shape=(found.pop("action"),))},
                pretrained_backbone_weights="ResNet18_Weights.IMAGENET1K_V1",
                **found,
            )

    converters = {"policy_action_to_transition": "in", "transition_to_policy_action": "out"}
    members = {
        "lerobot": {},
        "lerobot.configs": {},
        "lerobot.configs.policies": {"PreTrainedConfig": PreTrainedConfig},
        "lerobot.processor": {"PolicyProcessorPipeline": Pipeline},
        "lerobot.processor.converters": converters,
        "lerobot.policies": {},
        "lerobot.policies.act": {},
        "lerobot.policies.act.modeling_act": {"ACTPolicy": Model},
    }
    for name, each in members.items():
        module = ModuleType(name)
        vars(module).update(each)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(Model, "made", [])

    def write(**other):
        config = {
            "type": "act", "chunk_size": 12, "n_obs_steps": 1, "state": 61, "action": 23,
            "pictures": PICTURES,
        }  # fmt: skip
        (tmp_path / "config.json").write_text(json.dumps({**config, **other}))
        return f"ckpt={tmp_path}"

    return write


def test_it_keeps_every_promise_and_describes_its_files(saved, capsys):
    words = [saved(), "resize=bilinear"]
    found = check_policy(lambda: make_policy(SPEC, arguments=words), EPISODE, 20)
    assert {check.name: check.verdict for check in found if check.verdict != "holds"} == {}
    policy = make_policy(SPEC, arguments=words)
    assert (policy.name, policy.chunk_length) == ("lerobot-act", 12)
    described = policy.describe()
    assert list(described["files"]) == ["config.json"]
    assert described["cameras"]["observation.images.rgb.left_wrist"] == "left_wrist"
    assert "Loading" not in capsys.readouterr().out
    (model, *_) = Model.made
    assert model.config.pretrained_backbone_weights is None
    assert model.config.device == "cpu"
    assert policy._before.asked == (
        "policy_preprocessor.json", {"device_processor": {"device": "cpu"}}, None, None,
    )  # fmt: skip
    assert policy._after.asked == ("policy_postprocessor.json", None, "in", "out")


def test_states_and_pictures_are_those_of_the_table(saved):
    pictures = {"a.front": 720, "observation.images.rgb.head": 96}
    policy = make_policy(
        SPEC,
        arguments=[
            saved(state=11, pictures=pictures),
            "state=trunk_qpos,arm_right_qpos",
            "cameras=a.front=head",
            "resize=bicubic",
        ],
    )
    seen = [made_observation(number, "2026") for number in range(2)]
    queries = [
        Query(observation=each, instruction=f"do {n}", seed=n) for n, each in enumerate(seen)
    ]
    policy.reset(EPISODE)
    policy.infer_batch(queries)
    (batch,) = policy._before.seen
    assert batch["task"] == ["do 0", "do 1"]
    layout = PROPRIO_LAYOUTS["2026"]
    wanted = [
        np.concatenate([each.proprio[layout["trunk_qpos"]], each.proprio[layout["arm_right_qpos"]]])
        for each in seen
    ]
    np.testing.assert_array_equal(batch["observation.state"].numpy(), np.stack(wanted))
    native = batch["a.front"].numpy()
    head = seen[0].images["head"]
    np.testing.assert_array_equal(native[0], head.transpose(2, 0, 1).astype(np.float32) / 255)
    small = np.rint(batch["observation.images.rgb.head"][1].numpy() * 255)
    apart = np.abs(small - pil_resized(head, 96))  # levels; PIL rounds between its two passes
    assert apart.max() <= 6
    assert apart.mean() < 0.3


@pytest.mark.parametrize(
    ("other", "words", "message"),
    [
        ({"type": "vqbet"}, (), "is of type vqbet, expected act, smolvla, pi0"),
        ({"n_obs_steps": 2}, (), "takes 2 observations; one is supported"),
        ({"action": 22}, (), "gives actions [22], expected [23]"),
        (
            {"pictures": {"observation.images.top": 96}},
            (),
            "the picture observation.images.top is of no view: give "
            "cameras=observation.images.top=VIEW, one of head, left_wrist, right_wrist",
        ),
        (
            {},
            ("cameras=x=head", "resize=bilinear"),
            "cameras has x; the policy's pictures are observation.images.rgb.head, ",
        ),
        (
            {},
            (),
            "takes observation.images.rgb.head of [3, 96, 96], the camera's pictures have 720 px: "
            "give resize=bilinear or bicubic, as in training",
        ),
        ({}, ("state=legs", "resize=bilinear"), "state has legs, choose from base_qvel, "),
        (
            {"state": 7},
            ("state=trunk_qpos", "resize=bilinear"),
            "takes a state of 7 numbers, state gives 4; choose from base_qvel 3, arm_left_qpos 7, ",
        ),
    ],
)
def test_what_does_not_fit_is_said(saved, other, words, message):
    def ask():
        policy = make_policy(SPEC, arguments=[saved(**other), *words])
        policy.reset(EPISODE)
        policy.infer(made_observation(0, "2026"))

    with pytest.raises(UsageError, match=re.escape(message)):
        ask()


def test_a_folder_without_config_and_a_missing_package_are_told(saved, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"has no config.json: give the folder of save_pretrained"):
        make_policy(SPEC, arguments=[f"ckpt={tmp_path / 'none'}"])
    word = saved()
    monkeypatch.setitem(sys.modules, "lerobot.configs.policies", None)
    with pytest.raises(
        UnavailableError, match=r"lerobot cannot be imported .*: pip install 'lerobot>=0.4'"
    ):
        make_policy(SPEC, arguments=[word])
