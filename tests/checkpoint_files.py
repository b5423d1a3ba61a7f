"""Small checkpoint folders for tests: real files, no model."""

from __future__ import annotations

import numpy as np
from safetensors.numpy import save_file

MODELING = "class XVLA:\n    pass\n"


def write_checkpoint(folder, *, weights=True, code=True):
    """A folder that passes; the weights are one real safetensors file of 400 bytes of numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"num_actions": 30}')
    (folder / "vocab.json").write_text("{}")
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "README.md").write_text("words")
    if weights:
        save_file({"a": np.zeros(100, np.float32)}, folder / "model.safetensors")
    if code:
        write_code(folder / "code" / "da3_xvla")
    return folder


def write_code(root):
    (root / "models").mkdir(parents=True)
    (root / "models" / "modeling_xvla.py").write_text(MODELING)
    return root
