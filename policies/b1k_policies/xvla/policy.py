"""A DA3-XVLA checkpoint as a policy: observation, batch, `generate_actions`, absolute chunk.

Which bytes the model sees and what its numbers mean follows from the `EvalContract` alone; this
module only moves them. v4 and v17 run the same code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from b1k_envs.base import Float32Array, Observation, ProtocolYear
from b1k_envs.errors import ActionError, B1kEvalError, HostFaultError
from b1k_envs.r1pro import ACTION_DIM
from b1k_policies.base import ActionChunk, EpisodeInfo, Policy, Query, Resizing
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.contract.resolving import resolve
from b1k_policies.seeding import inference_seed, seeded
from b1k_policies.xvla.actions import decode, executable
from b1k_policies.xvla.batch import Batch, build_batch, extract_proprio, told_progress
from b1k_policies.xvla.checks.preflight import probe_observation
from b1k_policies.xvla.checks.trial import Trial, is_the_machines
from b1k_policies.xvla.code.surroundings import packages_of, switches
from b1k_policies.xvla.files.checkpoint import locate
from b1k_policies.xvla.heads import (
    PROGRESS_HEAD,
    SKILL_HEAD,
    HeadTap,
    check_skill,
    read_progress,
    read_skills,
)
from b1k_policies.xvla.loading.model import load_model, pick_device, require_torch
from b1k_policies.xvla.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

_CAST = ("image_input", "proprio", "skill_progress")
"""What follows the weights' dtype. Poses and K stay float32: bfloat16 would round 95.2 to 95."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What one `generate_actions` gave for B observations, unread.

    Attributes:
        actions: float32 [B, T, 23], the model's columns, offsets not yet added; may be not finite.
        skill_logits: float32 [B, n], or None.
        progress: float32 [B, 1], as the head gave it, or None.
    """

    actions: Float32Array
    skill_logits: npt.NDArray[np.float32] | None
    progress: npt.NDArray[np.float32] | None


class XVLAPolicy(Policy):
    """A checkpoint under its contract. One call of the model at a time.

    Attributes:
        request: What was asked for, by the folder that was found.
        checkpoint: Where it lies, and its hashes.
        resolved: Its contract, with the source of every field.
        contract: The contract itself.
        model: The loaded model.
        generate: Its `generate_actions`, compiled if that was asked for.
        signature: How that is called.
        tokenizer: The checkpoint's tokenizer.
        skill_head: Where its skills are read.
        progress_head: Where its progress is read.
        remarks: What a person should read before trusting a result.
        forced: Whether the contract overrules the checkpoint's files or its model.
        doubts: Those of the remarks that may spoil a result, by field of the contract or `code`.
        refusal: Why the trial inference failed; None if it did not.
    """

    stateless = True

    def __init__(
        self,
        request: CheckpointRequest,
        protocol: ProtocolYear = "2026",
        *,
        instruction: str | None = None,
        keep_refusal: bool = False,
        tried: bool = False,
    ) -> None:
        """Find, verify and load the checkpoint, and try a few inferences.

        Args:
            request: What was asked for on the command line.
            protocol: Layout of the proprio that will come.
            instruction: The task in words, where it is known already.
            keep_refusal: Keep the error of a failed trial inference in `refusal` instead of
                raising it, for looking at a checkpoint that cannot run.
            tried: Another process has tried it: load it only.

        Raises:
            ContractMismatchError: Files, model and contract disagree (exit 3).
            CheckpointError: The checkpoint cannot be used (exit 4).
            UnavailableError: torch or the device is missing (exit 4).
            UsageError: The request cannot be meant (exit 2).
        """
        require_torch()
        self.checkpoint = locate(request)
        # Another process that loads the same finds the same, wherever a hub's branch is by then.
        self.request = replace(request, ckpt=str(self.checkpoint.folder))
        self.resolved = resolve(
            self.checkpoint.folder,
            contract=request.contract,
            settings=request.settings,
            force=request.force_contract,
        )
        self.contract = contract = self.resolved.contract
        check_skill(request.skill_id, contract.skill_count)
        device = pick_device(request.device)
        self.tokenizer = Tokenizer(self.checkpoint.folder, contract.language_length)
        self.model = load_model(self.checkpoint, contract, device)
        self.skill_head = HeadTap(self.model.model, SKILL_HEAD)
        self.progress_head = HeadTap(self.model.model, PROGRESS_HEAD)
        self.name = contract.name
        self.chunk_length = contract.executed_steps
        self.skipped_rows = contract.first_action
        self._ids: dict[str, torch.Tensor] = {}
        self._episode: EpisodeInfo | None = None
        self._inference = 0
        self._progress: float | None = None
        self.prompt = contract.prompt
        self.resize = Resizing(
            size=contract.image_size,
            filter=contract.resize_filter,
            antialias=contract.resize_antialias,
        )
        self._protocol: ProtocolYear = protocol
        self._instruction = instruction
        trial = Trial(self, protocol, instruction)
        self.signature = trial.signature
        self.generate: Callable[..., torch.Tensor] = self.model.model.generate_actions  # type: ignore[assignment]
        if request.compile:
            import torch

            # Otherwise compiled code has a noise of its own, and a batch another than its singles.
            self.generate = torch.compile(self.generate, options={"fallback_random": True})
        if not tried:
            trial.ask(keep_refusal=keep_refusal)
        self.remarks = tuple(trial.remarks)
        self.doubts = trial.doubts
        self.refusal = trial.refusal
        self.forced = trial.forced
        if self.forced:
            self.name += " (forced)"
        forced = ", forced" if self.forced else ""
        self.origin = f"{contract.name}{forced}; on {self.model.device}"

    # --- the Policy ---------------------------------------------------------------------------

    def reset(self, episode: EpisodeInfo) -> None:
        """Start an episode: its instruction, and the first of its inferences."""
        self._episode = episode
        self._inference = 0
        self._progress = None

    def infer(self, observation: Observation) -> ActionChunk:
        """The next chunk; equal for equal episode, inference number and observation.

        Raises:
            ActionError: The model returned something that is no finite chunk.
            HostFaultError: No memory, a lost GPU, or an observation that cannot be sent.
        """
        if self._episode is None:
            raise RuntimeError("infer before reset")
        seed = inference_seed(self._episode.seed, self._inference)
        self._inference += 1
        query = Query(
            observation=observation,
            instruction=self._episode.instruction,
            seed=seed,
            progress=self._progress,
        )
        chunk = self.infer_batch([query])[0]
        self._progress = chunk.progress
        return chunk

    def infer_batch(self, queries: Sequence[Query]) -> list[ActionChunk]:
        """Chunks for observations of several episodes, in one call of the model.

        Each starts from the noise it would have alone; sums may round differently in a batch.

        Raises:
            ActionError: As `infer`; nothing is returned for the others then either.
            HostFaultError: As `infer`.
        """
        try:
            batch = self.prepare(queries)
        except B1kEvalError as error:  # the model has not been asked yet
            raise HostFaultError(str(error)) from error
        try:
            prediction = self.predict(batch, [query.seed for query in queries])
        except Exception as error:
            if is_the_machines(error):
                raise HostFaultError(f"{type(error).__name__}: {error}") from error
            raise
        return self.read(prediction, queries)

    def elsewhere(self) -> Callable[..., Policy]:
        """Loads the folder that was found here, whatever a hub's name means by then."""
        return partial(_load_again, self.request, self._protocol, self._instruction)

    def check_masked(self, mask: Callable[[Float32Array], Float32Array]) -> None:
        """See `Policy.check_masked`."""
        probe = probe_observation(self._protocol)
        extract_proprio(replace(probe, proprio=mask(probe.proprio)), self.contract)

    def describe(self) -> dict[str, Any]:
        """Everything that decides the actions, for run.json."""
        request = self.request
        return {
            "name": self.name,
            "chunk_length": self.chunk_length,
            "checkpoint": self.checkpoint.to_dict(),
            "contract": self.resolved.to_dict(),
            "parameters": self.model.parameters,
            "device": self.model.device.type,
            "forced": self.forced,
            "fetched_weights_sha256": self.model.fetched_sha256,
            "autocast": request.autocast,
            "compiled": request.compile,
            "forced_skill_id": request.skill_id,
            "forced_skill_progress": request.skill_progress,
            "variables": switches(),
            "packages": packages_of(self.model.code.modules(), self.model.code.name),
            # How it was found may differ from one session to the next.
            "remarks": [text for text in self.remarks if text not in self.checkpoint.remarks],
        }

    def describe_here(self) -> dict[str, Any]:
        """Device and threads: they can change how sums are rounded."""
        import torch

        device = self.model.device
        on_gpu = device.type == "cuda"
        return {
            "device_name": torch.cuda.get_device_name(device) if on_gpu else None,
            "torch_threads": None if on_gpu else torch.get_num_threads(),
        }

    def close(self) -> None:
        """Unhook and forget the model."""
        self.skill_head.remove()
        self.progress_head.remove()
        if not hasattr(self, "model"):
            return
        on_gpu = self.model.device.type == "cuda"
        del self.model, self.generate
        if on_gpu:
            import torch

            torch.cuda.empty_cache()

    # --- its three steps, apart for inspection and measurement -----------------------------------

    def prepare(self, queries: Sequence[Query]) -> Batch:
        """The batch of the contract, on the CPU; see `build_batch`."""
        import torch

        instructions = [self.contract.prompt or query.instruction for query in queries]
        for instruction in instructions:
            if instruction not in self._ids:
                self._ids[instruction] = self.tokenizer.ids(instruction)
        return build_batch(
            [query.observation for query in queries],
            self.contract,
            torch.cat([self._ids[instruction] for instruction in instructions]),
            skill_id=self.request.skill_id,
            skill_progress=told_progress(queries, self.contract, self.request.skill_progress),
        )

    def predict(
        self, batch: Batch, seeds: Sequence[int], *, steps: int | None = None
    ) -> Prediction:
        """Call the model, and read its heads.

        Args:
            batch: As `prepare` makes it.
            seeds: One per observation.
            steps: Denoising steps of a trial, by the model as it is, not compiled; None for those
                of the contract.

        Raises:
            ActionError: It returned no tensor of the shape, dtype and device that it should; or a
                head gave something unreadable.
        """
        import torch

        count, device = len(seeds), self.model.device
        dtype = getattr(torch, self.contract.dtype)
        arguments: dict[str, Any] = {
            name: batch[name].to(device=device, dtype=dtype if name in _CAST else None)
            for name in (self.signature.names if steps is None else batch)
        }
        if self.signature.steps is not None:
            arguments[self.signature.steps] = steps or self.contract.denoising_steps
        plain: Callable[..., torch.Tensor] = self.model.model.generate_actions  # type: ignore[assignment]
        generate = self.generate if steps is None else plain
        for head in (self.skill_head, self.progress_head):
            head.take(count)  # nothing of an inference that broke off
        with ExitStack() as stack:
            stack.enter_context(self.model.code.active())
            stack.enter_context(redirect_stdout(sys.stderr))
            stack.enter_context(torch.inference_mode())
            stack.enter_context(seeded(seeds, device))
            stack.enter_context(self._autocast())
            predicted = generate(**arguments)
        return Prediction(
            actions=self._checked(predicted, count),
            skill_logits=self.skill_head.take(count),
            progress=self.progress_head.take(count),
        )

    def absolute(self, prediction: Prediction, queries: Sequence[Query]) -> Float32Array:
        """Every row the model predicted, as the robot takes it; float32 [B, T, 23]."""
        states = [extract_proprio(query.observation, self.contract) for query in queries]
        return decode(prediction.actions, np.stack(states), self.contract)

    def read(self, prediction: Prediction, queries: Sequence[Query]) -> list[ActionChunk]:
        """Absolute chunks to be executed, and what the model says of itself.

        Args:
            prediction: As `predict` gives it.
            queries: Those it answers.

        Raises:
            ActionError: An action is not finite.
        """
        count = len(prediction.actions)
        absolute = self.absolute(prediction, queries)
        chunks = np.ascontiguousarray(executable(absolute, self.contract))
        skills = read_skills(prediction.skill_logits, self.contract, count)
        progress = read_progress(prediction.progress, self.contract, count)
        return [
            ActionChunk(actions=actions.copy(), skill=skill, progress=done)
            for actions, skill, done in zip(chunks, skills, progress, strict=True)
        ]

    # --- inside -----------------------------------------------------------------------------

    def _autocast(self) -> Any:  # noqa: ANN401 - a context manager of torch's own
        import torch

        mixed = self.request.autocast
        if mixed is None and self.contract.dtype != "float32":
            mixed = self.contract.dtype
        if mixed is None:
            return nullcontext()
        return torch.autocast(self.model.device.type, dtype=getattr(torch, mixed))

    def _checked(self, predicted: Any, count: int) -> Float32Array:  # noqa: ANN401 - whatever came
        import torch

        wanted = (count, self.contract.chunk_length, ACTION_DIM)
        if not isinstance(predicted, torch.Tensor):
            raise ActionError(
                f"generate_actions returned a {type(predicted).__name__}, expected a tensor "
                f"{list(wanted)}"
            )
        narrow = (torch.float32, torch.bfloat16, torch.float16)
        if tuple(predicted.shape) != wanted or predicted.dtype not in narrow:
            raise ActionError(
                f"generate_actions returned {str(predicted.dtype).removeprefix('torch.')} "
                f"{list(predicted.shape)}, expected float32 {list(wanted)} (or bfloat16, float16)"
            )
        if predicted.device.type != self.model.device.type:
            raise ActionError(
                f"generate_actions returned a tensor on {predicted.device}, but model and inputs "
                f"are on {self.model.device}"
            )
        actions: Float32Array = predicted.detach().float().cpu().numpy()
        return actions


def _load_again(
    request: CheckpointRequest,
    protocol: ProtocolYear,
    instruction: str | None,
    *,
    gpu: int | None = None,
) -> Policy:
    """Load what another process has tried; a checkpoint goes where the worker's simulator is."""
    free = gpu is not None and request.device in ("auto", "cuda")
    if free and pick_device(request.device).type == "cuda":
        request = replace(request, device=f"cuda:{gpu}")
    return XVLAPolicy(request, protocol, instruction=instruction, tried=True)
