"""Trying a checkpoint before the first episode: model against contract, and a few inferences.

A pass does not prove that a checkpoint is run as it was trained; it proves that its model takes
what the contract sends, and that what comes back can be read.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from b1k_envs.base import Float32Array, ProtocolYear
from b1k_envs.errors import B1kEvalError, ContractMismatchError
from b1k_policies.base import Query
from b1k_policies.xvla.base_frame import frame_doubt
from b1k_policies.xvla.batch import Batch, build_batch
from b1k_policies.xvla.checks.preflight import (
    POSE_INPUTS,
    check_heads,
    check_statistics,
    probe_observation,
    read_signature,
)
from b1k_policies.xvla.checks.sensitivity import OTHER_WORDS, STEPS, Sensitivity, try_inputs
from b1k_policies.xvla.code.hints import mask_doubt
from b1k_policies.xvla.code.required_packages import package_advice, words
from b1k_policies.xvla.files.checkpoint import CheckpointError
from b1k_policies.xvla.heads import unreadable

if TYPE_CHECKING:
    from b1k_policies.xvla.policy import Prediction, XVLAPolicy

_SEED = 0


class Trial:
    """What is found out about a policy before its first episode.

    Attributes:
        signature: How `generate_actions` is called.
        remarks: What a person should read before trusting a result.
        doubts: Those of the remarks that may spoil a result, by field of the contract or `code`.
        forced: Whether the contract overrules the checkpoint's files or its model.
        refusal: Why the trial inference failed; None if it did not.
    """

    def __init__(self, policy: XVLAPolicy, protocol: ProtocolYear, task: str | None) -> None:
        """Compare model and contract, without an inference.

        Args:
            policy: The policy, loaded.
            protocol: Layout of the proprio that will come.
            task: The task in words, if it is known already.

        Raises:
            ContractMismatchError: They disagree, and nobody forces the contract.
        """
        self._policy = policy
        self._task = task
        contract, model = policy.contract, policy.model.model
        instruction = contract.prompt or task or "try"
        self._probe = Query(
            observation=probe_observation(protocol), instruction=instruction, seed=_SEED
        )
        self._batch = policy.prepare([self._probe])
        stated = not policy.resolved.sources["denoising_steps"].by_default
        self.signature = read_signature(model, list(self._batch), contract, steps_stated=stated)
        wrong, remarks = check_heads(policy.skill_head, policy.progress_head, contract)
        if (kept := check_statistics(model, policy.resolved)) is not None:
            wrong.append(kept)
        self.remarks = [
            *policy.checkpoint.remarks,
            *policy.resolved.remarks,
            *policy.model.remarks,
            *self.signature.remarks,
        ]
        self.forced = policy.resolved.is_forced
        self.doubts: dict[str, str] = {}
        self.refusal: CheckpointError | None = None
        self._unless_forced(wrong)
        self.remarks += remarks
        tokens = policy.tokenizer.count(instruction)
        if tokens > contract.language_length:
            self.remarks.append(
                f"the prompt has {tokens} tokens and is cut to {contract.language_length}"
            )
        if contract.prompt is not None and task is not None and contract.prompt != task:
            self.remarks.append(f"the contract's prompt is sent, not the task's own: {task!r}")
        if changed := policy.checkpoint.changed_code:
            others = "" if len(changed) == 1 else f" (and {len(changed) - 1} more)"
            self._doubt(
                "code",
                f"the code is not the checkpoint's own: {changed[0]} differs{others}; what is sent "
                "may reach the model changed",
            )
        if (doubt := mask_doubt(policy.checkpoint.code_root, policy.resolved)) is not None:
            self._doubt("proprio_mask", doubt)
        if (doubt := frame_doubt(contract, protocol)) is not None:
            self._doubt("base_qvel_frame", doubt, only_told=protocol != "2026")

    def ask(self, *, keep_refusal: bool) -> None:
        """Try one inference, and whether its answer depends on every input.

        Args:
            keep_refusal: Keep the error of a failed inference in `refusal` instead of raising it.

        Raises:
            CheckpointError: The inference failed.
            ContractMismatchError: A head cannot be read, or an input is not; nobody forces it.
        """
        try:
            prediction = self._inference()
        except CheckpointError as error:
            if not keep_refusal:
                raise
            self.refusal = error
            return
        for head, output in (
            (self._policy.skill_head, prediction.skill_logits),
            (self._policy.progress_head, prediction.progress),
        ):
            if head.module is not None and output is None:
                self.remarks.append(f"generate_actions does not call {head.name}: nothing to read")
        unread, untold, doubt = self._inputs().words
        self._unless_forced([] if unread is None else [unread])
        self.remarks += [] if untold is None else [untold]
        if doubt is not None:
            self._doubt("posed", doubt)

    def _doubt(self, field: str, text: str, *, only_told: bool = False) -> None:
        self.remarks.append(text)
        if not only_told:
            self.doubts[field] = text

    def _unless_forced(self, wrong: list[str]) -> None:
        """Stop for contradictions, or go on with them as remarks where the contract is forced."""
        if wrong and not self._policy.request.force_contract:
            raise ContractMismatchError(f"{self._policy.checkpoint.origin}: {'; '.join(wrong)}")
        self.forced = self.forced or bool(wrong)
        self.remarks += [f"forced: {text}" for text in wrong]

    def _inputs(self) -> Sensitivity:
        """Ask with one input changed at a time."""
        policy, contract = self._policy, self._policy.contract
        sent = {name: self._batch[name] for name in self.signature.names}
        posed = None
        if not contract.posed and self.signature.takes_poses:
            whole = replace(contract, posed=True)
            with_poses = build_batch([self._probe.observation], whole, self._batch["input_ids"])
            posed = sent | {name: with_poses[name] for name in POSE_INPUTS}
        steps = min(STEPS, contract.denoising_steps)

        def ask(questions: Batch, count: int) -> Float32Array:
            return policy.predict(questions, [_SEED] * count, steps=steps).actions

        try:
            return try_inputs(ask, sent, policy.tokenizer.ids(OTHER_WORDS), contract, posed)
        except Exception as error:
            if is_the_machines(error):
                raise
            return Sensitivity(untold=f"a trial of its inputs failed ({error})")

    def _inference(self) -> Prediction:
        policy, origin = self._policy, self._policy.checkpoint.origin
        try:
            prediction = policy.predict(self._batch, [_SEED])
            policy.read(prediction, [self._probe])
            wrong = unreadable(prediction.skill_logits, prediction.progress, policy.contract)
            if wrong and not policy.request.force_contract:
                raise ContractMismatchError(f"{origin}: {'; '.join(wrong)}")
        except ContractMismatchError:
            raise
        except B1kEvalError as error:
            raise CheckpointError(f"{origin}: trial inference: {error}") from error
        except Exception as error:
            compiled = " (compiled; try without --compile)" if policy.request.compile else ""
            advice, dtype = package_advice(error), policy.contract.dtype
            if advice is None and dtype != "float32" and "type" in str(error):
                advice = (
                    f"weights of {dtype} meet float32 where the code switches autocast off, as "
                    f"DA3's camera encoder does: --set dtype=float32 --autocast {dtype}"
                )
            raise CheckpointError(
                f"{origin}: generate_actions failed in a trial inference{compiled}: "
                f"{words(error)}{'' if advice is None else f'; {advice}'}"
            ) from error
        return prediction


def is_the_machines(error: Exception) -> bool:
    """Whether an exception tells of the machine and not of the model."""
    import torch

    out_of_memory = (MemoryError, torch.cuda.OutOfMemoryError)
    lost = isinstance(error, RuntimeError) and str(error).startswith("CUDA error")
    return isinstance(error, out_of_memory) or lost
