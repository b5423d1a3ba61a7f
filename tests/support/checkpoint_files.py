"""Small checkpoint folders for tests: real files, no model."""

from __future__ import annotations

import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.xvla.files.checkpoint import CheckpointError, locate


def write_checkpoint(folder):
    """A folder that passes; the weights are one real safetensors file of 400 bytes of numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"num_actions": 30}')
    (folder / "vocab.json").write_text("{}")
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "README.md").write_text("words")
    save_file({"a": np.zeros(100, np.float32)}, folder / "model.safetensors")
    write_code(folder / "code" / "da3_xvla")
    return folder


def write_code(root):
    """The least that counts as the package `da3_xvla`."""
    (root / "models").mkdir(parents=True)
    (root / "models" / "modeling_xvla.py").write_text("class XVLA:\n    pass\n")
    return root


def found(folder, **options):
    """The checkpoint that `--ckpt FOLDER` and further options give."""
    return locate(CheckpointRequest(ckpt=str(folder), **options))


def refused(folder, text, **options):
    """Check that it is refused in one line that holds the text, with exit code 4."""
    with pytest.raises(CheckpointError, match=re.escape(text)) as caught:
        found(folder, **options)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
