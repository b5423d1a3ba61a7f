"""An input that the contract sends and the model does not read is found before the first episode.

Each model but the first is a good one with one input cut off; what is read is decided by its code,
which the trial does not see.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from observations import made_observation, tokens
from spoilt import MODEL, Spoilt, one_thread  # noqa: F401 - a fixture
from typer.testing import CliRunner

from b1k_eval.cli.main import app
from b1k_policies.contract.presets import V17
from b1k_policies.xvla.batch import build_batch
from b1k_policies.xvla.checks.sensitivity import INTRINSICS, POSES, try_inputs

pytestmark = pytest.mark.usefixtures("one_thread")

SWITCH = "XVLA_POSED_DA3"


@pytest.fixture
def spoilt(tiny_v17, tmp_path, monkeypatch):
    monkeypatch.delenv(SWITCH, raising=False)
    return Spoilt(tiny_v17, tmp_path / "spoilt")


# --- the trial itself, on a model of three lines -------------------------------------------------


@pytest.fixture(scope="module")
def batch():
    return build_batch([made_observation()], V17, tokens(1))


def reader(*, without=(), scale=1.0, single=False, noisy=False):
    """A model whose every action is a sum over what it is sent, apart from what is left out."""
    import torch

    calls = []

    def ask(questions, count):
        calls.append(count)
        if single and count > 1:
            raise RuntimeError("one at a time")
        parts = {name: value.double().reshape(count, -1) for name, value in questions.items()}
        views = questions["image_input"].double().flatten(2)
        parts["image_input"] = torch.cat(
            [views[:, i] for i, view in enumerate(V17.view_order) if view not in without], dim=1
        )
        total = sum(
            (value * torch.linspace(1, 2, value.shape[1])).mean(1)
            for name, value in parts.items()
            if name not in without
        )
        if noisy:
            total = total + np.random.default_rng(len(calls)).standard_normal()
            total = total + torch.arange(count)
        return (scale * total)[:, None, None].expand(count, 30, 23).numpy().astype(np.float32)

    ask.calls = calls
    return ask


def tried(batch, ask, contract=V17, posed=None):
    return try_inputs(ask, batch, tokens(1) + 7, contract, posed)


def test_a_model_that_reads_everything_has_nothing_said_of_it(batch):
    ask = reader()
    found = tried(batch, ask)
    assert (found.ignored, found.heeded, found.untold) == ((), (), None)
    assert ask.calls == [9]  # one batch: the question twice, and seven changes


@pytest.mark.parametrize(
    ("cut", "told"),
    [
        ("head", "the picture of head"),
        ("left_wrist", "the picture of left_wrist"),
        ("right_wrist", "the picture of right_wrist"),
        ("proprio", "the proprio"),
        ("input_ids", "the instruction"),
        ("extrinsics", POSES),
        ("intrinsics", INTRINSICS),
    ],
)
@pytest.mark.parametrize("single", [False, True])
def test_whatever_is_not_read_is_named_and_nothing_else(batch, cut, told, single):
    found = tried(batch, reader(without=(cut,), single=single))
    assert found.ignored == (told,)


def test_a_small_answer_is_told_apart_as_well_as_a_large_one(batch):
    assert tried(batch, reader(scale=1e-6)).ignored == ()
    assert tried(batch, reader(scale=1e-6, without=("proprio",))).ignored == ("the proprio",)


def test_an_answer_that_never_changes_tells_nothing(batch):
    found = tried(batch, reader(scale=0.0))
    assert found.ignored == ()
    assert found.untold.startswith("the model's actions are the same whatever it is shown")


def test_an_answer_that_always_changes_tells_nothing(batch):
    found = tried(batch, reader(noisy=True))
    assert found.ignored == ()
    assert found.untold.startswith("the model answers equal questions from equal noise differently")


def test_poses_that_are_read_though_none_are_sent_are_a_doubt(batch):
    bare = {k: v for k, v in batch.items() if k not in ("extrinsics", "intrinsics")}
    found = tried(bare, reader(), posed=batch)
    assert (found.ignored, found.heeded) == ((), (POSES,))
    assert tried(bare, reader(without=("extrinsics",)), posed=batch).heeded == ()


# --- a checkpoint --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("extrinsics = torch.eye(4).expand_as(extrinsics)", POSES),
        ("intrinsics = torch.eye(3).expand_as(intrinsics)", INTRINSICS),
        ("proprio = torch.zeros_like(proprio)", "the proprio"),
        ("input_ids = torch.ones_like(input_ids)", "the instruction"),
        ("image_mask = image_mask.clone(); image_mask[:, 1] = False", "the picture of left_wrist"),
    ],
)
def test_a_checkpoint_that_ignores_an_input_ends_with_code_3(spoilt, line, told):
    spoilt.begins(line)
    code, text = spoilt.refused()
    assert code == 3
    assert f"the contract sends {told}, but the model does not read it" in text
    policy = spoilt.policy(force_contract=True)
    assert policy.forced
    assert policy.name == "v17 (forced)"
    assert any(remark.startswith(f"forced: the contract sends {told}") for remark in policy.remarks)
    policy.close()


def test_a_head_of_zeros_is_a_remark_and_no_verdict(spoilt):
    spoilt.returns("chunk * 0")
    assert any("the same whatever it is shown" in remark for remark in spoilt.remarks())


# --- the public family's switch ------------------------------------------------------------------


FAMILY = ("--contract", "v17", "--set", "geometry_size=504", "--allow-pickle", "--device", "cpu")


def inspected(tiny_family, *words):
    result = CliRunner().invoke(app, ["inspect", str(tiny_family), *FAMILY, *words, "--json"])
    return result.exit_code, result.output


@pytest.mark.slow
def test_poses_without_the_familys_switch_end_with_code_3_and_its_name(tiny_family, monkeypatch):
    monkeypatch.delenv(SWITCH, raising=False)
    code, text = inspected(tiny_family)
    assert code == 3
    assert f"the contract sends {POSES}, {INTRINSICS}, but the model does not read it" in text
    assert "reads poses only with XVLA_POSED_DA3=1 in the environment" in text
    assert "--set posed=false" in text
    for advice, environment in ((["--set", "posed=false"], None), ([], "1")):
        if environment is not None:
            monkeypatch.setenv(SWITCH, environment)
        code, text = inspected(tiny_family, *advice)
        assert code == 0, text


@pytest.mark.slow
def test_poses_that_the_switch_has_read_though_none_are_sent_are_a_doubt(tiny_family, monkeypatch):
    monkeypatch.setenv(SWITCH, "1")
    code, text = inspected(tiny_family, "--set", "posed=false")
    assert code == 0
    findings = json.loads(text)["findings"]
    (doubt,) = [f for f in findings if f["field"] == "posed" and f["level"] == "doubt"]
    assert "the model reads the camera poses (extrinsics) where it is given them" in doubt["text"]


@pytest.mark.slow
def test_a_mask_that_only_the_code_has_is_a_doubt_until_it_is_said(tiny_family, monkeypatch):
    monkeypatch.setenv(SWITCH, "1")
    for words, doubts in (((), 1), (("--set", "proprio_mask=0,1,2,6,14,22"), 0)):
        code, text = inspected(tiny_family, *words)
        assert code == 0
        findings = [f for f in json.loads(text)["findings"] if f["field"] == "proprio_mask"]
        assert len([f for f in findings if f["level"] == "doubt"]) == doubts
        if doubts:
            assert "models/action_space.py:9 has [0, 1, 2, 6, 14, 22]" in findings[0]["text"]


def test_a_pickles_buffers_that_normalise_end_with_code_3(tiny_family, tmp_path, monkeypatch):
    monkeypatch.setenv(SWITCH, "1")
    spoilt = Spoilt(tiny_family, tmp_path / "spoilt")
    spoilt.edit(
        "        self.post_init()",
        "        self.normalize_inputs = nn.Module()\n"
        "        self.normalize_inputs.register_buffer('mean', torch.zeros(23))\n"
        "        self.post_init()",
    )
    spoilt.tensors(
        lambda tensors: {
            **tensors,
            "normalize_inputs.mean": tensors["lm_head.weight"][0, :23].clone(),
        }
    )
    words = {"contract": "v17", "allow_pickle": True}
    code, text = spoilt.refused(settings=("geometry_size=504",), **words)
    assert code == 3
    assert "the model has normalize_inputs.mean and 0 more tensors to normalise by" in text
    said = ("geometry_size=504", "proprio_normalisation=none", "action_normalisation=none")
    spoilt.policy(settings=said, **words).close()


# --- what outside the folder decides -------------------------------------------------------------


def test_switches_and_packages_are_recorded(spoilt, monkeypatch):
    monkeypatch.setenv("XVLA_ATTN_IMPL", "eager")
    monkeypatch.setenv("DA3_CACHE", "/somewhere")
    monkeypatch.setenv("XVLAB", "no")
    spoilt.edit("import torch\n", "import PIL\nimport torch\n", MODEL)
    import torch

    policy = spoilt.policy()
    described = policy.describe()
    policy.close()
    assert described["variables"] == {"DA3_CACHE": "/somewhere", "XVLA_ATTN_IMPL": "eager"}
    assert described["packages"]["torch"] == torch.__version__
    assert {"transformers", "pillow"} <= set(described["packages"])
    assert "numpy" not in described["packages"]
