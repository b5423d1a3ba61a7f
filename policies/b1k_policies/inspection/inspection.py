"""Everything about a checkpoint that can be known from one observation, without an episode.

`inspect_policy` asks a loaded `XVLAPolicy` once and compares what was sent and what came back with
the checkpoint's own contract, the cameras that took the pictures, and the robot. Finding nothing
does not prove that a checkpoint is run as it was trained: a field that is `open` can be known from
its files only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from b1k_envs.base import Observation, UInt8Array
from b1k_envs.errors import ActionError, UsageError
from b1k_policies.base import Query, Skill
from b1k_policies.contract.contract import EvalContract
from b1k_policies.contract.resolved import ContractConflictError, ResolvedContract
from b1k_policies.contract.resolving import resolve
from b1k_policies.inspection.chunk import ChunkFacts, chunk_facts, chunk_findings
from b1k_policies.inspection.findings import (
    LEVELS,
    Notice,
    Sent,
    contract_findings,
    geometry_findings,
    measured_findings,
    no_reference,
)
from b1k_policies.inspection.geometry import SeenImage, see_images
from b1k_policies.inspection.saved_observation import SavedObservation
from b1k_policies.xvla.batch import Batch
from b1k_policies.xvla.files.checkpoint import CheckpointError
from b1k_policies.xvla.heads import PROGRESS_HEAD, SKILL_HEAD
from b1k_policies.xvla.images import denormalise
from b1k_policies.xvla.policy import XVLAPolicy

if TYPE_CHECKING:
    import torch


_FORCED = "forced: "
"""Prefix of a policy's remark on a fault of `preflight.check_heads`; a head's name follows."""


@dataclass(frozen=True, kw_only=True)
class TensorFacts:
    """One argument of `generate_actions`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    min: float
    max: float
    mean: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Inspection:
    """The result of an inspection.

    Attributes:
        reading: The contract by which the model reads what it is sent: the checkpoint's own, or
            the one in force where its files give none.
        has_reference: Whether `reading` is the checkpoint's own.
        batch: Facts about each argument of `generate_actions`.
        pictures: uint8 [V, S, S, 3] RGB, as the model reads them.
        images: The cameras and grippers of those pictures.
        chunk: The answer; None where it cannot be read.
        skill: The skill that the model says it is performing.
        progress: The model's estimate of its progress, in [0, 1].
        progress_head: The output of the progress head itself.
        findings: All findings, worst first.
    """

    reading: EvalContract
    has_reference: bool
    batch: tuple[TensorFacts, ...]
    pictures: UInt8Array
    images: tuple[SeenImage, ...]
    chunk: ChunkFacts | None
    skill: Skill | None
    progress: float | None
    progress_head: float | None
    findings: tuple[Notice, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "reference": self.reading.to_dict() if self.has_reference else None,
            "batch": [asdict(row) for row in self.batch],
            "geometry": [image.to_dict() for image in self.images],
            "chunk": None if self.chunk is None else self.chunk.to_dict(),
            "skill": None if self.skill is None else asdict(self.skill),
            "progress": self.progress,
            "progress_head": self.progress_head,
            "findings": [asdict(finding) for finding in self.findings],
        }


def inspect_policy(policy: XVLAPolicy, saved: SavedObservation) -> Inspection:
    """Ask a checkpoint once, and examine the question and the answer.

    Args:
        policy: A policy loaded for the protocol of the observation.
        saved: The observation to ask it about.

    Raises:
        B1kEvalError: The contract's batch cannot be made from the observation.
    """
    observation, found = saved.observation, policy.resolved
    query = Query(observation=observation, instruction=saved.instruction, seed=saved.seed)
    batch = policy.prepare([query])
    sent, reference = _sent(batch), own_contract(policy.checkpoint.folder)
    reading = reference.contract if isinstance(reference, ResolvedContract) else found.contract
    images, findings = look_at(sent, observation, found, reference)
    findings += [Notice(level="doubt", field=f, text=text) for f, text in policy.doubts.items()]
    findings += _remarks(policy, findings)
    chunk, answer, raw = None, None, None
    try:
        if policy.refusal is not None:
            raise policy.refusal
        prediction = policy.predict(batch, [saved.seed])
        raw = None if prediction.progress is None else float(prediction.progress[0, 0])
        (answer,) = policy.read(prediction, [query])
    except (ActionError, CheckpointError) as error:
        text = f"the model gives no chunk: {error}"
        findings.append(Notice(level="wrong", field="chunk", text=text))
    else:
        (absolute,) = policy.absolute(prediction, [query])
        chunk = chunk_facts(absolute, observation, found.contract)
        findings += chunk_findings(chunk)
    return Inspection(
        reading=reading,
        has_reference=isinstance(reference, ResolvedContract),
        batch=tuple(_facts(name, tensor) for name, tensor in batch.items()),
        pictures=denormalise(batch["image_input"][0], reading),
        images=images,
        chunk=chunk,
        skill=None if answer is None else answer.skill,
        progress=None if answer is None else answer.progress,
        progress_head=raw,
        findings=tuple(sorted(findings, key=lambda finding: LEVELS.index(finding.level))),
    )


def own_contract(folder: Path) -> ResolvedContract | Notice:
    """Return the contract that a checkpoint gets when nothing is given by hand, or why none."""
    try:
        return resolve(folder)
    except (UsageError, ContractConflictError) as error:
        return no_reference(error)


def look_at(
    sent: Sent,
    observation: Observation,
    found: ResolvedContract,
    reference: ResolvedContract | Notice,
) -> tuple[tuple[SeenImage, ...], list[Notice]]:
    """Examine what is sent, before any model is asked.

    Args:
        sent: What is sent for the observation under `found`.
        observation: The observation.
        found: The contract in force.
        reference: As `own_contract` returns it.
    """
    own = reference if isinstance(reference, ResolvedContract) else None
    contract = found.contract
    images = see_images(
        observation, contract.view_order, contract.image_size, sent.poses, sent.k,
        contract if own is None else own.contract,
    )  # fmt: skip
    findings = [reference] if isinstance(reference, Notice) else []
    findings += contract_findings(found, own)
    if own is not None:
        findings += measured_findings(sent, observation, found, own)
    findings += geometry_findings(images, found, own)
    return images, findings


def _sent(batch: Batch) -> Sent:
    posed = "extrinsics" in batch
    return Sent(
        images=batch["image_input"][0].numpy(),
        k=batch["intrinsics"][0].numpy() if posed else None,
        poses=batch["extrinsics"][0].numpy() if posed else None,
        proprio=batch["proprio"][0].numpy(),
    )


def _remarks(policy: XVLAPolicy, said: Sequence[Notice]) -> Iterator[Notice]:
    """Yield the policy's remarks as findings, except those that a finding already covers."""
    by_field = policy.resolved.remarks_by_field
    said_already = {remark for finding in said for remark in by_field.get(finding.field, ())}
    for remark in policy.remarks:
        text = remark.removeprefix(_FORCED)
        if text != remark:
            heads = (name for name in (PROGRESS_HEAD, SKILL_HEAD) if text.startswith(name))
            yield Notice(level="wrong", field=next(heads, "model"), text=f"in the model: {text}")
        elif remark not in said_already and remark not in {finding.text for finding in said}:
            yield Notice(level="note", field="", text=remark)


def _facts(name: str, tensor: torch.Tensor) -> TensorFacts:
    values = tensor.numpy().astype(np.float64)
    return TensorFacts(
        name=name,
        dtype=str(tensor.dtype).removeprefix("torch."),
        shape=tuple(tensor.shape),
        min=float(values.min()),
        max=float(values.max()),
        mean=float(values.mean()),
    )
