"""Testing that the model's answer depends on every input that the contract says it reads.

A model can take an argument and do nothing with it: the public code of the X-VLA family reads
poses only if its configuration or an environment variable says so, and silently ignores them
otherwise. So one question is asked again with one input changed at a time, all in one batch with
the same noise. An input whose change alters no action was not read. That actions change does not
prove that the input is read as intended.

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
"""Denoising steps of a trial: whether an input is read already shows in the first."""
POSES = "the camera poses (extrinsics)"
INTRINSICS = "the cameras' K (intrinsics)"

Ask = Callable[["Batch", int], Float32Array]
"""Takes B questions and B, and returns actions float32 [B, T, 23] that start from one noise."""

_ROUNDING = 1e-6
"""Largest difference of equal answers, relative to their greatest number."""


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Inputs whose effect does not fit the contract.

    Attributes:
        ignored: Inputs that the contract sends and that change nothing, in words.
        heeded: Inputs that it does not send and that change the answer, in words.
        untold: Why nothing can be said; None if something can.
    """

    ignored: tuple[str, ...] = ()
    heeded: tuple[str, ...] = ()
    untold: str | None = None

    @property
    def words(self) -> tuple[str | None, str | None, str | None]:
        """(contradiction to the contract, why nothing is known, doubt), each None if absent."""
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
    """Ask the model again with one input changed at a time.

    Args:
        ask: See `Ask`; may fail for more than one question at once.
        batch: One question, as the contract makes it.
        other_ids: int64 [1, L], another instruction.
        contract: Names the views.
        posed: The same question with poses, if the contract sends none and the model would take
            them; else None.
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
    """Return the question with one input changed, by the name of that input."""
    variants: dict[str, Batch] = {}
    for row, view in enumerate(contract.view_order):
        images = batch["image_input"].clone()
        images[:, row] = -images[:, row].flip(-1)
        variants[f"the picture of {view}"] = {**batch, "image_input": images}
    proprio = batch["proprio"].clone()
    # A masked column is always sent as 0, so it must stay so here.
    seen = [c for c in range(proprio.shape[1]) if c not in contract.proprio_mask]
    proprio[:, seen] += 0.5
    if seen:
        variants["the proprio"] = {**batch, "proprio": proprio}
    if contract.skill_progress is not None:
        variants["the progress that it is told"] = {
            **batch, "skill_progress": (batch["skill_progress"] + 0.5) % 1.0
        }  # fmt: skip
    if not other_ids.equal(batch["input_ids"]):
        variants["the instruction"] = {**batch, "input_ids": other_ids}
    if "extrinsics" in batch:
        variants[POSES] = _moved(batch)
        k = batch["intrinsics"].clone()
        for row in range(k.shape[1]):  # each by another factor: some encoders only look at ratios
            k[:, row, [0, 1], [0, 1]] *= 1.5 + 0.5 * row
        variants[INTRINSICS] = {**batch, "intrinsics": k}
    return variants


def _moved(batch: Batch) -> Batch:
    """Return the question with every camera moved by about half a metre and turned.

    Each is moved differently: encoders take poses relative to the first camera's, so a common
    motion would change nothing.
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
    """Whether each variant gets another answer; None if the same question does, too."""
    # The question twice: only if equal questions get equal answers does a difference mean anything.
    questions = [question, question, *variants.values()]
    # One by one if a batch fails, or if equal questions in it get different answers.
    for answers in (_at_once, _one_by_one):
        found = answers(ask, questions)
        if found is None:
            continue
        first, again, *others = found
        if not _differ(first, again):
            return {name: _differ(first, o) for name, o in zip(variants, others, strict=True)}
    return None


def _at_once(ask: Ask, questions: Sequence[Batch]) -> list[Float32Array] | None:
    """Return all answers by one call; None if the model or its memory does not take so many."""
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
    # Not `>`: NaN must count as a difference.
    return not apart <= _ROUNDING * max(1e-6, float(np.abs(one).max()))
