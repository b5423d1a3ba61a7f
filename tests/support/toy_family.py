"""A family of checkpoints beside X-VLA: its policy stands still and drives at a stored speed.

Its folder has config.json (`model_type` toy, `speed`) and EVAL_CONTRACT.json, as any family's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from b1k_envs.base import Observation, ProtocolYear
from b1k_envs.r1pro import hold_action
from b1k_policies.base import ActionChunk, EpisodeInfo, Policy
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.contract.presets import V17
from b1k_policies.contract.resolving import resolve

FAMILY = {"toy": "toy_family:ToyCheckpoint"}
"""The line of the registry."""


def make_checkpoint(folder: Path, speed: float) -> Path:
    """Write a checkpoint of the family, which has v17's contract under a name of its own."""
    folder.mkdir()
    config = {"model_type": "toy", "speed": speed}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    contract = {**V17.to_dict(), "name": "toy-1"}
    (folder / "EVAL_CONTRACT.json").write_text(json.dumps(contract), "utf-8")
    return folder


class ToyCheckpoint(Policy):
    """Holds every joint and drives ahead."""

    needs_images = False

    def __init__(
        self,
        request: CheckpointRequest,
        protocol: ProtocolYear,
        *,
        instruction: str | None = None,
    ) -> None:
        self.request = request
        self.resolved = resolve(
            Path(request.ckpt),
            contract=request.contract,
            settings=request.settings,
            force=request.force_contract,
        )
        self.name = self.resolved.contract.name
        self.chunk_length = self.resolved.contract.chunk_length
        self.instruction = instruction
        config = json.loads((Path(request.ckpt) / "config.json").read_text("utf-8"))
        self.speed = float(config["speed"])

    def reset(self, episode: EpisodeInfo) -> None:
        pass

    def infer(self, observation: Observation) -> ActionChunk:
        action = hold_action(observation.proprio, observation.protocol, 1.0, 1.0)
        action[0] = self.speed
        return ActionChunk(actions=np.tile(action, (self.chunk_length, 1)))

    def describe(self) -> dict[str, Any]:
        return {
            **super().describe(),
            "checkpoint": {"origin": f"folder {Path(self.request.ckpt).name}", "speed": self.speed},
            "contract": self.resolved.to_dict(),
        }
