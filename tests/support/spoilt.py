"""A checkpoint to be spoilt: a copy of a tiny one, one thing of which a test changes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from b1k_envs.errors import B1kEvalError
from b1k_eval.cli.main import app
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.registry import CHECKPOINT, make_policy

MODEL = "models/modeling_xvla.py"
DA3 = "models/da3_inline.py"
CONFIG = "models/configuration_xvla.py"
WEIGHTS = "model.safetensors"
PICKLE = "pytorch_model.bin"
RUN = ["run", "--task", "31", "--no-video", "--max-steps", "25", "--out", "r", "--json"]


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """torch in one thread: two that wait for each other are slow where others use the cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Spoilt:
    """A copy of the checkpoint, to be changed; messages name its folder FOLDER."""

    def __init__(self, tiny: Path, folder: Path) -> None:
        self.folder = Path(shutil.copytree(tiny, folder))
        self.code = folder / "code" / "da3_xvla"

    def edit(self, old: str, new: str, file: str = MODEL) -> None:
        """Replace the first occurrence in a file of the code."""
        text = (self.code / file).read_text()
        assert old in text
        (self.code / file).write_text(text.replace(old, new, 1))

    def returns(self, expression: str) -> None:
        self.edit("        return chunk\n", f"        return {expression}\n")

    def begins(self, line: str) -> None:
        """Have `generate_actions` do this first."""
        self.edit(
            "        self._check(image_input", f"        {line}\n        self._check(image_input"
        )

    def tensors(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Write the weights anew, in the form that they have."""
        import torch
        from safetensors.torch import load_file, save_file

        pickled = self.folder / PICKLE
        if pickled.is_file():
            torch.save(change(torch.load(pickled, weights_only=True)), pickled)
            return
        changed = change(load_file(self.folder / WEIGHTS))
        (self.folder / WEIGHTS).unlink()
        save_file(changed, self.folder / WEIGHTS, metadata={"format": "pt"})

    def unsaid(self, file: str, *path: str) -> None:
        """Take a key out of a JSON file."""
        document = inner = json.loads((self.folder / file).read_text())
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        (self.folder / file).write_text(json.dumps(document))

    def policy(self, **options: Any):
        return make_policy(CHECKPOINT, CheckpointRequest(ckpt=str(self.folder), **options))

    def remarks(self, **options: Any) -> tuple[str, ...]:
        policy = self.policy(**options)
        policy.close()
        return policy.remarks

    def refused(self, **options: Any) -> tuple[int, str]:
        """(exit code, message)."""
        with pytest.raises(B1kEvalError) as caught:
            self.policy(**options)
        return caught.value.exit_code, str(caught.value).replace(str(self.folder), "FOLDER")

    def run(self, *arguments: str) -> tuple[int, dict[str, Any], str]:
        """Exit code, document and standard error of `b1k-eval run --json`, here and now."""
        result = CliRunner().invoke(app, [*RUN, "--ckpt", str(self.folder), *arguments])
        return result.exit_code, json.loads(result.stdout), result.stderr


def answer(policy, *, moved=0.0):
    """float32 [30, 23] for the trial observation, all cameras moved by so many metres."""
    from b1k_policies.base import Query
    from b1k_policies.xvla.checks.preflight import probe_observation

    batch = policy.prepare([Query(observation=probe_observation("2026"), instruction="", seed=0)])
    batch["extrinsics"][..., :3, 3] += moved
    return policy.predict(batch, [0]).actions[0]
