"""A lerobot policy in this process: ACT, SmolVLA or pi0, by its own `from_pretrained`.

Source: lerobot 0.4.4 (policies/*/modeling_*.py, processor/pipeline.py): `predict_action_chunk`
between the checkpoint's saved pre- and post-processors. A randomly initialised ACT was run; of
SmolVLA and pi0 only the calls are the same. Whether states, cameras and actions mean what they
meant in training, no check here can tell: `state` and `cameras` are that table.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np

from b1k_envs.base import VIEWS, Float32Array, Observation, UInt8Array, View
from b1k_envs.errors import UnavailableError, UsageError
from b1k_envs.r1pro import ACTION_DIM, CAMERAS, PROPRIO_LAYOUTS
from b1k_policies.base import ActionChunk, EpisodeInfo, Policy, Query
from b1k_policies.seeding import inference_seed, seeded

CLASSES: Mapping[str, str] = {
    "act": "lerobot.policies.act.modeling_act:ACTPolicy",
    "smolvla": "lerobot.policies.smolvla.modeling_smolvla:SmolVLAPolicy",
    "pi0": "lerobot.policies.pi0.modeling_pi0:PI0Policy",
}
"""The policies by `type` in config.json."""

STATE, ACTION = "observation.state", "action"
"""lerobot's names of the state and of the action."""

INSTALL = "pip install 'lerobot>=0.4'"


class LeRobotPolicy(Policy):
    """Answers by the policy in a folder that `save_pretrained` wrote, processors included.

    It must take one observation and no history, so that one copy serves all workers.
    """

    name = "lerobot"
    stateless = True

    def __init__(
        self,
        ckpt: Path,
        state: Sequence[str] = (),
        cameras: Sequence[str] = (),
        resize: Literal["bilinear", "bicubic"] | None = None,
        device: str = "cpu",
    ) -> None:
        """Load it; nothing is fetched.

        Args:
            ckpt: The folder.
            state: Slices of the proprio that make `observation.state`, in order, by their names in
                `r1pro.PROPRIO_LAYOUTS`, such as `trunk_qpos`; empty for the whole proprio.
            cameras: `FEATURE=VIEW` for each picture that the policy takes; a feature whose name
                ends in a view's, as in BEHAVIOR's data set, need not be listed.
            resize: How pictures are made the size in config.json where that is not the camera's.
            device: Where the model is, as torch names it.

        Raises:
            UsageError: There is no such folder, or its features do not fit; the text lists them.
            UnavailableError: lerobot is missing.
        """
        self._ckpt, self._state, self._resize = ckpt, tuple(state), resize
        self._model, self._before, self._after = _load(ckpt, device)
        config = self._model.config
        self.name = f"lerobot-{config.type}"
        self.chunk_length = int(config.chunk_size)
        if config.n_obs_steps != 1:
            raise UsageError(f"{ckpt} takes {config.n_obs_steps} observations; one is supported")
        if tuple(config.output_features[ACTION].shape) != (ACTION_DIM,):
            shape = list(config.output_features[ACTION].shape)
            raise UsageError(f"{ckpt} gives actions {shape}, expected [{ACTION_DIM}]")
        self._views = _views(config, cameras)
        self._sizes = {key: config.input_features[key].shape for key in self._views}
        self._device = device
        self._episode: EpisodeInfo | None = None
        self._inference = 0
        for key, view in self._views.items():
            if resize is None and self._sizes[key][-1] != CAMERAS[view].size:
                raise UsageError(
                    f"{ckpt} takes {key} of {list(self._sizes[key])}, the camera's pictures have "
                    f"{CAMERAS[view].size} px: give resize=bilinear or bicubic, as in training"
                )

    def reset(self, episode: EpisodeInfo) -> None:
        """Note the episode; the policy itself keeps nothing between questions."""
        self._episode, self._inference = episode, 0

    def infer(self, observation: Observation) -> ActionChunk:
        """Ask by observation; a run asks by `infer_batch`."""
        assert self._episode is not None, "infer before reset"
        seed = inference_seed(self._episode.seed, self._inference)
        self._inference += 1
        instruction = self._episode.instruction
        query = Query(observation=observation, instruction=instruction, seed=seed)
        return self.infer_batch([query])[0]

    def infer_batch(self, queries: Sequence[Query]) -> list[ActionChunk]:
        """Answer all with one call of the model; each starts from the noise of its own seed."""
        import torch

        batch: dict[str, Any] = {
            STATE: torch.from_numpy(np.stack([self._state_of(q.observation) for q in queries])),
            "task": [query.instruction for query in queries],
        }
        for key, view in self._views.items():
            pictures = [query.observation.images[view] for query in queries]
            batch[key] = _planes(pictures, self._sizes[key][-2:], self._resize)
        with torch.inference_mode(), seeded([q.seed for q in queries], torch.device(self._device)):
            self._model.reset()  # the queues in which lerobot's own loop keeps observations
            predicted = self._model.predict_action_chunk(self._before(batch))
            actions = self._after(predicted)
        rows = actions.to("cpu", torch.float32).numpy()
        return [ActionChunk(actions=row.copy()) for row in rows]

    def describe(self) -> dict[str, Any]:
        """Add the hashes of the checkpoint's files, which decide the actions."""
        files = sorted(each for each in self._ckpt.iterdir() if each.is_file())
        hashes = {each.name: _sha256(each) for each in files}
        return {**super().describe(), "files": hashes, "cameras": dict(self._views)}

    def _state_of(self, observation: Observation) -> Float32Array:
        layout, proprio = PROPRIO_LAYOUTS[observation.protocol], observation.proprio
        unknown = [name for name in self._state if name not in layout]
        if unknown:
            raise UsageError(f"state has {unknown[0]}, choose from {', '.join(layout)}")
        parts = [proprio[layout[name]] for name in self._state] or [proprio]
        found = np.concatenate(parts)
        wanted = self._model.config.input_features[STATE].shape[0]
        if len(found) != wanted:
            lengths = ", ".join(f"{name} {each.stop - each.start}" for name, each in layout.items())
            raise UsageError(
                f"{self._ckpt} takes a state of {wanted} numbers, state gives {len(found)}; "
                f"choose from {lengths}"
            )
        return found


def _load(ckpt: Path, device: str) -> tuple[Any, Any, Any]:
    """Return the model and its two processors."""
    if not (ckpt / "config.json").is_file():
        raise UsageError(f"ckpt={ckpt} has no config.json: give the folder of save_pretrained")
    try:
        from lerobot.configs.policies import PreTrainedConfig
        from lerobot.processor import PolicyProcessorPipeline
        from lerobot.processor.converters import (
            policy_action_to_transition,
            transition_to_policy_action,
        )
    except ImportError as error:
        raise UnavailableError(f"lerobot cannot be imported ({error}): {INSTALL}") from error
    import_module("lerobot.policies")  # registers the types of config.json
    config = PreTrainedConfig.from_pretrained(ckpt, local_files_only=True)
    if config.type not in CLASSES:
        raise UsageError(f"{ckpt} is of type {config.type}, expected {', '.join(CLASSES)}")
    config.device = device
    if hasattr(config, "pretrained_backbone_weights"):
        config.pretrained_backbone_weights = None  # they would be fetched, and then overwritten
    module, _, name = CLASSES[config.type].partition(":")
    cls = getattr(import_module(module), name)
    with redirect_stdout(sys.stderr):  # it prints that it loads
        model = cls.from_pretrained(ckpt, config=config, local_files_only=True)
    on_device = {"device_processor": {"device": device}}
    before = PolicyProcessorPipeline.from_pretrained(
        ckpt, config_filename="policy_preprocessor.json", overrides=on_device
    )
    after = PolicyProcessorPipeline.from_pretrained(
        ckpt,
        config_filename="policy_postprocessor.json",
        to_transition=policy_action_to_transition,
        to_output=transition_to_policy_action,
    )
    return model.eval(), before, after


def _views(config: Any, cameras: Sequence[str]) -> dict[str, View]:  # noqa: ANN401 - lerobot's
    """Return the view of each picture that the policy takes.

    Raises:
        UsageError: One has none, or `cameras` has what is no picture or no view.
    """
    named = dict(each.partition("=")[::2] for each in cameras)
    found: dict[str, View] = {}
    for key in config.image_features:
        word = named.pop(key, key.rpartition(".")[2])
        view = next((each for each in VIEWS if each == word), None)
        if view is None:
            raise UsageError(
                f"the picture {key} is of no view: give cameras={key}=VIEW, one of "
                f"{', '.join(VIEWS)}"
            )
        found[key] = view
    if named:
        known = ", ".join(config.image_features)
        raise UsageError(f"cameras has {next(iter(named))}; the policy's pictures are {known}")
    return found


def _planes(pictures: Sequence[UInt8Array], size: Sequence[int], resize: str | None) -> Any:  # noqa: ANN401 - torch's
    """Return float32 [N, 3, H, W] in [0, 1], as lerobot's data sets give pictures."""
    import torch

    planes = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).to(torch.float32) / 255
    if tuple(planes.shape[-2:]) == tuple(size):
        return planes.contiguous()
    assert resize is not None  # checked in __init__
    return torch.nn.functional.interpolate(planes, tuple(size), mode=resize, antialias=True).clamp(
        0, 1
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        digest = hashlib.sha256()
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
