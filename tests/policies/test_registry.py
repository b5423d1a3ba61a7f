"""What `make_policy` makes of a checkpoint: the family is known by its config.json."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import toy_family
from typer.testing import CliRunner

from b1k_eval.cli.main import app
from b1k_policies import registry
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.contract.presets import V17
from b1k_policies.registry import CHECKPOINT, make_policy


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A checkpoint of a family that one line adds to the registry."""
    monkeypatch.setattr(registry, "FAMILIES", {**registry.FAMILIES, **toy_family.FAMILY})
    return toy_family.make_checkpoint(tmp_path / "toy", speed=0.25)


def test_a_checkpoint_is_made_by_the_family_that_its_config_names(toy):
    policy = make_policy(CHECKPOINT, CheckpointRequest(ckpt=str(toy)), "2025", "wash them")
    assert isinstance(policy, toy_family.ToyCheckpoint)
    assert (policy.name, policy.speed, policy.instruction) == ("toy-1", 0.25, "wash them")
    assert policy.resolved.contract.image_size == V17.image_size


@pytest.mark.parametrize("config", [{}, {"model_type": "no such"}, {"model_type": 7}, "{"], ids=str)
def test_any_other_folder_is_tried_as_the_usual_family(tmp_path, monkeypatch, config):
    text = config if isinstance(config, str) else json.dumps(config)
    (tmp_path / "config.json").write_text(text)
    made = {"xvla": "toy_family:FAMILY", "toy": "no_module:Toy"}
    monkeypatch.setattr(registry, "FAMILIES", made)
    assert registry.family_of(str(tmp_path)) is toy_family.FAMILY
    assert registry.family_of("org/on-the-hub") is toy_family.FAMILY


@pytest.mark.slow
def test_a_run_of_a_toy_family_in_the_twin_is_scored_and_recorded(toy, tmp_path):
    out = tmp_path / "run"
    words = ["run", "--task", "31", "--ckpt", str(toy), "--max-steps", "5", "--no-video",
             "--set", "denoising_steps=3", "--out", str(out), "--json"]  # fmt: skip
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["policy"] == "toy-1"
    (episode,) = document["episodes"]
    assert episode["outcome"] == "failure"
    recorded = json.loads((out / "run.json").read_text())["identity"]["policy"]
    assert recorded["contract"]["contract"]["denoising_steps"] == 3
    assert recorded["checkpoint"]["speed"] == 0.25
    (trace,) = (out / "episodes").glob("*/trace.parquet")
    assert set(pd.read_parquet(trace)["action_0"]) == {0.25}
