"""The stand-in for the public X-VLA family does what its README says, in every verb."""

from __future__ import annotations

import json

import pytest
from safetensors.torch import save_file
from spoilt import PICKLE, answer, one_thread  # noqa: F401 - a fixture
from typer.testing import CliRunner

from b1k_eval.cli.main import app
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.registry import CHECKPOINT, make_policy

pytestmark = pytest.mark.usefixtures("one_thread")

SWITCHES = ("XVLA_POSED_DA3", "XVLA_DA3_NATIVE_INPUT", "XVLA_ATTN_IMPL")
CONTRACT = ("--contract", "v17", "--set", "geometry_size=504")


@pytest.fixture(autouse=True)
def unswitched(monkeypatch):
    """No switch of the surroundings reaches a test."""
    for name in SWITCHES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def policy(tiny_family):
    """A policy of the family under the switches that are set when it is made."""
    made = []

    def make():
        request = CheckpointRequest(
            ckpt=str(tiny_family),
            contract="v17",
            force_contract=True,
            device="cpu",
        )
        made.append(make_policy(CHECKPOINT, request))
        return made[-1]

    yield make
    for one in made:
        one.close()


def difference(one, other):
    return float(abs(one - other).max())


@pytest.mark.slow
def test_poses_are_read_only_where_a_variable_says_so(policy, monkeypatch):
    blind = policy()
    assert difference(answer(blind), answer(blind, moved=0.5)) == 0
    monkeypatch.setenv("XVLA_POSED_DA3", "1")
    posed = policy()
    assert difference(answer(posed), answer(posed, moved=0.5)) > 1e-3


@pytest.mark.slow
def test_the_size_inside_the_encoder_and_the_attention_are_switched_too(policy, monkeypatch):
    usual = answer(policy())
    monkeypatch.setenv("XVLA_DA3_NATIVE_INPUT", "1")
    assert difference(usual, answer(policy())) > 1e-3
    monkeypatch.delenv("XVLA_DA3_NATIVE_INPUT")
    monkeypatch.setenv("XVLA_ATTN_IMPL", "sdpa")
    assert 0 <= difference(usual, answer(policy())) < 1e-4


def test_its_weights_cannot_be_written_as_safetensors_as_they_are(tiny_family, tmp_path):
    import torch

    tensors = torch.load(tiny_family / PICKLE, weights_only=True)
    assert tensors["lm_head.weight"].data_ptr() == tensors["vlm.words.weight"].data_ptr()
    with pytest.raises(RuntimeError, match="share memory"):
        save_file(tensors, tmp_path / "model.safetensors")


@pytest.mark.slow
def test_run_drives_with_it(tiny_family, tmp_path, monkeypatch):
    monkeypatch.setenv("XVLA_POSED_DA3", "1")
    words = ["run", "--task", "31", "--ckpt", str(tiny_family), *CONTRACT, "--device", "cpu"]
    words += ["--max-steps", "15", "--no-video", "--out", str(tmp_path / "run"), "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    (episode,) = json.loads(result.stdout)["episodes"]
    assert (episode["outcome"], episode["failure_reason"]) == ("failure", None)


@pytest.mark.slow
def test_inspect_shows_what_it_is_sent_and_finds_nothing_wrong(tiny_family, monkeypatch):
    monkeypatch.setenv("XVLA_POSED_DA3", "1")
    words = ["inspect", str(tiny_family), *CONTRACT, "--device", "cpu", "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["model"]["parameters"] > 1_000_000
    assert document["chunk"]["rows"] == 30
    assert "wrong" not in {finding["level"] for finding in document["findings"]}
