"""Does the model's answer depend on every input that the contract says it reads?

A model can take an argument and do nothing with it: the public code of the X-VLA family reads
poses only where its configuration or an environment variable says so, and otherwise ignores them
without a word. So one question is asked again with one input changed at a time, all in one batch
with the same noise, and what changes no action was not read. That the actions change does not
prove that the input is read as it is meant.

Source of the switches: JackLiu0406/spatial-xvla-training (`XVLA_POSED_DA3`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from b1k_envs.base import Float32Array
from b1k_policies.contract.contract import EvalContract

if TYPE_CHECKING:
    import torch

    from b1k_policies.xvla.batch import Batch

OTHER_WORDS = "Open the drawer of the desk and pick up the red apple in it."
"""An instruction that no task has."""
STEPS = 2
"""Denoising steps of a trial: whether something is read shows in the first."""
POSES = "the camera poses (extrinsics)"
INTRINSICS = "the cameras' K (intrinsics)"

Ask = Callable[["Batch", int], Float32Array]
"""From B questions, and B, to actions float32 [B, T, 23] that start from one noise."""

_ROUNDING = 1e-6
"""How far equal answers may lie apart, over their greatest number."""


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """What does not fit the contract.

    Attributes:
        ignored: Inputs that it sends and that change nothing, in words.
        heeded: Inputs that it does not send and that change the answer, in words.
        untold: Why nothing can be said; None if it can.
    """

    ignored: tuple[str, ...] = ()
    heeded: tuple[str, ...] = ()
    untold: str | None = None

    @property
    def words(self) -> tuple[str | None, str | None, str | None]:
        """(what contradicts the contract, why nothing is known, what may); None for nothing."""
        wrong = doubt = None
        if self.ignored:
            wrong = (
                f"the contract sends {', '.join(self.ignored)}, but the model does not read it: "
                "changing that alone changes none of its actions"
            )
        if {POSES, INTRINSICS} & {*self.ignored}:
            wrong = (
                f"{wrong}; where config.json has no use_posed_da3, the public code of this family "
                "reads poses only with XVLA_POSED_DA3=1 in the environment: set it if the "
                "checkpoint was trained so, else --set posed=false"
            )
        if self.heeded:
            doubt = (
                f"the contract sends no poses (posed is false), but the model reads "
                f"{', '.join(self.heeded)} where it is given them: perhaps it was trained with them"
            )
        return wrong, self.untold, doubt


def try_inputs(
    ask: Ask, batch: Batch, other_ids: torch.Tensor, contract: EvalContract, posed: Batch | None
) -> Sensitivity:
    """Ask the model with one input changed at a time.

    Args:
        ask: See `Ask`; may fail for more than one question at once.
        batch: One question, as the contract makes it.
        other_ids: int64 [1, L], another instruction.
        contract: Names the views.
        posed: The same question with poses, where the contract sends none and the model would
            take them; else None.
    """
    heeded: tuple[str, ...] = ()
    if posed is not None:
        told = _told_apart(ask, posed, {POSES: _moved(posed)})
        heeded = (POSES,) if told is not None and told[POSES] else ()
    told = _told_apart(ask, batch, _variants(batch, other_ids, contract))
    if told is None:
        why = "the model answers equal questions from equal noise differently"
    elif not any(told.values()):
        why = "the model's actions are the same whatever it is shown"
    else:
        ignored = tuple(name for name, differs in told.items() if not differs)
        return Sensitivity(ignored=ignored, heeded=heeded)
    return Sensitivity(heeded=heeded, untold=f"{why}: which of its inputs it reads is not known")


def _variants(batch: Batch, other_ids: torch.Tensor, contract: EvalContract) -> dict[str, Batch]:
    """The question with one input changed, by what is changed."""
    variants: dict[str, Batch] = {}
    for row, view in enumerate(contract.view_order):
        images = batch["image_input"].clone()
        images[:, row] = -images[:, row].flip(-1)
        variants[f"the picture of {view}"] = {**batch, "image_input": images}
    proprio = batch["proprio"].clone()
    seen = [c for c in range(proprio.shape[1]) if c not in contract.proprio_mask]
    proprio[:, seen] += 0.5
    if seen:
        variants["the proprio"] = {**batch, "proprio": proprio}
    if not other_ids.equal(batch["input_ids"]):
        variants["the instruction"] = {**batch, "input_ids": other_ids}
    if "extrinsics" in batch:
        variants[POSES] = _moved(batch)
        k = batch["intrinsics"].clone()
        for row in range(k.shape[1]):  # each otherwise: some encoders only look at ratios
            k[:, row, [0, 1], [0, 1]] *= 1.5 + 0.5 * row
        variants[INTRINSICS] = {**batch, "intrinsics": k}
    return variants


def _moved(batch: Batch) -> Batch:
    """Every camera about half a metre away and turned, each otherwise.

    Encoders take poses relative to the first camera's: moved alike, they would be where they were.
    """
    from torch import tensor

    poses = batch["extrinsics"].clone()
    for row in range(poses.shape[1]):
        angle = 0.4 * (row + 1)
        cosine, sine = float(np.cos(angle)), float(np.sin(angle))
        turn = tensor(
            [[cosine, -sine, 0, 0.5], [sine, cosine, 0, 0.3 * row], [0, 0, 1, -0.4 * row],
             [0, 0, 0, 1]], dtype=poses.dtype,
        )  # fmt: skip
        poses[:, row] = turn @ poses[:, row]
    return {**batch, "extrinsics": poses}


def _told_apart(ask: Ask, question: Batch, variants: Mapping[str, Batch]) -> dict[str, bool] | None:
    """Whether each variant gets another answer; None where the question itself does."""
    questions = [question, question, *variants.values()]
    for answers in (_at_once, _one_by_one):
        found = answers(ask, questions)
        if found is None:
            continue
        first, again, *others = found
        if not _differ(first, again):
            return {name: _differ(first, o) for name, o in zip(variants, others, strict=True)}
    return None


def _at_once(ask: Ask, questions: Sequence[Batch]) -> list[Float32Array] | None:
    """All answers by one call; None where the model, or its memory, does not take so many."""
    import torch

    names = questions[0]
    together = {name: torch.cat([question[name] for question in questions]) for name in names}
    try:
        return list(ask(together, len(questions)))
    except Exception:  # noqa: BLE001 - code of others; what it cannot do at all shows one by one
        return None


def _one_by_one(ask: Ask, questions: Sequence[Batch]) -> list[Float32Array]:
    return [ask(question, 1)[0] for question in questions]


def _differ(one: Float32Array, other: Float32Array) -> bool:
    apart = np.abs(one - other).max()
    # Not >: what is not finite differs.
    return not apart <= _ROUNDING * max(1e-6, float(np.abs(one).max()))
