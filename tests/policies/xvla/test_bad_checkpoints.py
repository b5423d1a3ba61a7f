"""Checkpoints whose files or code are wrong in one way each: refused, with what to do.

Each is the tiny v17 checkpoint with one thing changed. `test_bad_models.py` has those that load and
then misbehave.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from spoilt import DA3, RUN, WEIGHTS, Spoilt, one_thread  # noqa: F401 - a fixture

CLOSED = "http://127.0.0.1:9"
"""Nothing listens there."""

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def spoilt(tiny_v17, tmp_path):
    return Spoilt(tiny_v17, tmp_path / "spoilt")


# --- files -----------------------------------------------------------------------------------


def remove(*names):
    return lambda spoilt: [(spoilt.folder / name).unlink() for name in names]


def cut_short(spoilt):
    whole = (spoilt.folder / WEIGHTS).read_bytes()
    (spoilt.folder / WEIGHTS).write_bytes(whole[:-1000])
    return len(whole)


def pickled(spoilt, change=lambda tensors: tensors):
    import torch
    from safetensors.torch import load_file

    torch.save(change(load_file(spoilt.folder / WEIGHTS)), spoilt.folder / "pytorch_model.bin")
    (spoilt.folder / WEIGHTS).unlink()


def raising_at_import(spoilt):
    (spoilt.code / "models/__init__.py").write_text('raise RuntimeError("no luck\\ntoday")\n')


def without_bias(tensors):
    return {name: tensor for name, tensor in tensors.items() if name != "skill_classifier.bias"}


def short_bias(tensors):
    return {**tensors, "skill_classifier.bias": tensors["skill_classifier.bias"][:3].clone()}


TOKENIZER = ("tokenizer.json", "vocab.json", "merges.txt", "special_tokens_map.json")
NO_TOKENIZER = (
    "FOLDER has no tokenizer (none of tokenizer.json, vocab.json, vocab.txt, tokenizer.model, "
    "spiece.model): copy the tokenizer's files that the model was trained with into it"
)
MISSING_TENSOR = (
    "FOLDER: 1 tensor is not in the weights, so the model would have random numbers there: "
    "skill_classifier.bias; weights and code do not belong together"
)
WRONG_SHAPE = (
    "FOLDER: 1 tensor is of another shape in the weights: skill_classifier.bias [3], in the model "
    "[34]; weights, config.json and code do not belong together"
)
UNUSABLE = [
    pytest.param(
        remove("config.json"),
        2,
        "FOLDER has no config.json, so it is no checkpoint folder; it holds EVAL_CONTRACT.json, "
        "README.md, code, merges.txt, model.safetensors, special_tokens_map.json, tokenizer.json, "
        "tokenizer_config.json",
        id="no config",
    ),
    pytest.param(
        raising_at_import,
        4,
        "the checkpoint's code (FOLDER/code/da3_xvla) failed at import: RuntimeError: no luck "
        "today (FOLDER/code/da3_xvla/models/__init__.py:1)",
        id="raises at import",
    ),
    pytest.param(
        lambda s: s.edit("class XVLA(", "class OtherName("),
        4,
        "FOLDER/code/da3_xvla/models/modeling_xvla.py defines no XVLA",
        id="no XVLA",
    ),
    pytest.param(remove("tokenizer_config.json", *TOKENIZER), 4, NO_TOKENIZER, id="no tokenizer"),
    # transformers 5 makes a tokenizer without a word of what is left
    pytest.param(remove(*TOKENIZER), 4, NO_TOKENIZER, id="no vocabulary"),
    pytest.param(lambda s: s.tensors(without_bias), 4, MISSING_TENSOR, id="missing tensor"),
    pytest.param(lambda s: s.tensors(short_bias), 4, WRONG_SHAPE, id="tensor of another shape"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "exit_code", "message"), UNUSABLE)
def test_what_cannot_be_used_is_refused_with_the_reason(spoilt, spoil, exit_code, message):
    spoil(spoilt)
    assert spoilt.refused() == (exit_code, message)


def test_weights_cut_short_are_refused_with_both_lengths(spoilt):
    length = cut_short(spoilt)
    assert spoilt.refused() == (
        4,
        f"FOLDER/model.safetensors is not a complete safetensors file ({length - 1000} bytes, its "
        f"header says {length}): download or copy it again",
    )


def test_a_tokenizer_that_knows_no_word_is_refused(spoilt):
    path = spoilt.folder / "tokenizer.json"
    document = json.loads(path.read_text())
    special = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    document["model"].update(vocab=special, merges=[], unk_token="<unk>")
    path.write_text(json.dumps(document))
    (spoilt.folder / "vocab.json").write_text(json.dumps(special))
    (spoilt.folder / "merges.txt").write_text("#version: 0.2\n")
    code, message = spoilt.refused()
    assert code == 4
    assert message.startswith("the tokenizer in FOLDER knows no word of 'Wash the two dusty boxing")


def test_a_pickle_is_held_to_the_model_as_safetensors_are(spoilt):
    pickled(spoilt, without_bias)
    assert spoilt.refused() == (4, MISSING_TENSOR)


def test_a_pickle_that_is_whole_gives_the_same_model(spoilt, tiny_v17):
    import torch
    from safetensors.torch import load_file

    pickled(spoilt)
    policy = spoilt.policy()
    stored = load_file(tiny_v17 / WEIGHTS)
    assert all(torch.equal(t, stored[name]) for name, t in policy.model.model.state_dict().items())
    assert policy.describe()["checkpoint"]["weights_format"] == "pickle"


def test_a_stored_tensor_that_nobody_uses_is_a_remark(spoilt):
    import torch

    spoilt.tensors(lambda tensors: {**tensors, "old_head.weight": torch.zeros(2)})
    assert "stored, but not used: old_head.weight (1 in all)" in spoilt.remarks()


def test_a_tensor_that_the_code_overwrites_is_refused(spoilt):
    """As versions of transformers did that loaded `gamma` under another name."""
    import transformers

    spoilt.edit(
        "    def generate_actions(",
        "    @classmethod\n"
        "    def from_pretrained(cls, *arguments, **options):\n"
        "        model = super().from_pretrained(*arguments, **options)\n"
        "        nn.init.zeros_(model.da3.ray.bias)\n"
        "        return model\n\n"
        "    def generate_actions(",
    )
    assert spoilt.refused() == (
        4,
        "FOLDER: 1 tensor is not in the model as in the weights: da3.ray.bias; transformers "
        f"{transformers.__version__} or the checkpoint's code does not load them: install another "
        "version of transformers",
    )


def test_packages_beside_and_in_the_code_shadow_nothing(spoilt):
    for place in (spoilt.code, spoilt.code.parent):
        for name in ("eval", "datasets", "numpy"):
            (place / name).mkdir()
            (place / name / "__init__.py").write_text("raise RuntimeError('not this one')\n")
    (spoilt.code / "datasets" / "__init__.py").write_text("MARK = 'its own'\n")
    spoilt.edit(
        "import torch\n",
        "import numpy\nimport torch\nfrom da3_xvla.datasets import MARK\n"
        "assert MARK == 'its own' and numpy.arange(3).sum() == 3\n",
    )
    path, finders, names = list(sys.path), list(sys.meta_path), set(sys.modules)
    spoilt.policy().close()
    assert sys.modules["numpy"] is np
    assert (sys.path, sys.meta_path) == (path, finders)
    new = {name.partition(".")[0] for name in set(sys.modules) - names}
    assert not new & {"eval", "datasets", "da3_xvla"}


def test_a_gpu_that_is_not_there_is_refused(spoilt, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert spoilt.refused(device="cuda") == (
        4,
        f"--device cuda: torch {torch.__version__} sees 0 CUDA devices here; use --device cpu, or "
        "install a torch that fits the driver",
    )


# --- no network --------------------------------------------------------------------------------


@pytest.fixture
def offline(tmp_path):
    """`b1k-eval run` in a process of its own, as huggingface_hub reads its settings once."""
    kept = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and k[:3] != "HF_"}

    def run(ckpt, **environment):
        done = subprocess.run(
            [sys.executable, "-c", "from b1k_eval.cli.main import main; main()", *RUN]
            + ["--ckpt", str(ckpt)],
            env={**kept, "HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": CLOSED, **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return done.returncode, json.loads(done.stdout)["error"]["message"]

    return run


@pytest.mark.slow
def test_a_hub_id_without_a_network_is_refused(offline, tmp_path):
    assert offline("org/name") == (
        4,
        f"org/name: no folder here; cannot reach the hub ({CLOSED}), not in the cache "
        f"({tmp_path}/home/hub); download it elsewhere and give the folder",
    )


FETCHES = {
    "snapshot_download": "snapshot_download('depth-anything/DA3-LARGE')",
    "hf_hub_download": "hf_hub_download('depth-anything/DA3-LARGE', 'model.safetensors')",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "environment"),
    [
        ("snapshot_download", {}),
        ("hf_hub_download", {"HF_HUB_OFFLINE": "1"}),
    ],
)
def test_code_that_fetches_weights_that_are_not_cached_is_told_what_to_get(
    spoilt, offline, tmp_path, how, environment
):
    spoilt.edit(
        "        super().__init__()\n",
        "        super().__init__()\n"
        f"        import huggingface_hub\n        huggingface_hub.{FETCHES[how]}\n",
        DA3,
    )
    assert offline(spoilt.folder, **environment) == (
        4,
        f"the code of {spoilt.folder} asks the hub for weights that are neither in the checkpoint "
        f"nor in the cache ({tmp_path}/home/hub) and cannot be fetched here; config.json names "
        "depth-anything/DA3-LARGE as geometry encoder: run `hf download depth-anything/DA3-LARGE` "
        "where there is a network and copy the cache",
    )
