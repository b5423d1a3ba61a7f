"""Reading what a model says about itself from its heads while it infers.

`generate_actions` returns actions only. The skill classifier and the progress head are read by
forward hooks wherever they are in the module tree, and turned into a probability and a progress
exactly once, as the contract says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from b1k_envs.errors import ActionError, ContractMismatchError
from b1k_policies.base import Skill
from b1k_policies.contract.contract import EvalContract

if TYPE_CHECKING:
    import torch

SKILL_HEAD = "skill_classifier"
PROGRESS_HEAD = "progress_head"


class HeadTap:
    """Keeps the last output of one head; does nothing if the model has no such head.

    Attributes:
        name: The head's own name.
        path: Its place in the module tree; None if the model has no such head.
        module: The head, or None.
    """

    def __init__(self, model: torch.nn.Module, name: str) -> None:
        """Hook the head of that name that is nearest to the root."""
        self.name = name
        found = [
            (path.count("."), path, module)
            for path, module in model.named_modules()
            if path.rsplit(".", 1)[-1] == name
        ]
        self.path: str | None = None
        self.module: torch.nn.Module | None = None
        if found:
            _, self.path, self.module = min(found, key=lambda entry: entry[:2])
        self._last: torch.Tensor | None = None
        self._handle = (
            None if self.module is None else self.module.register_forward_hook(self._keep)
        )

    def _keep(self, module: torch.nn.Module, inputs: Any, output: Any) -> None:  # noqa: ANN401 - torch's own signature
        tensor = output[0] if isinstance(output, (tuple, list)) else output
        self._last = tensor.detach()

    def take(self, count: int) -> npt.NDArray[np.float32] | None:
        """Return the output of the last inference, once.

        Args:
            count: Number of observations in the batch.

        Returns:
            float32 [count, n], finite or not; None if there is no head or it was not called.

        Raises:
            ActionError: It does not have one row per observation.
        """
        last, self._last = self._last, None
        if last is None:
            return None
        values: npt.NDArray[np.float32] = last.float().cpu().numpy()
        if values.shape[:1] != (count,):
            raise ActionError(
                f"{self.name} returned {list(values.shape)} for a batch of {count}: expected "
                f"[{count}, n]"
            )
        return values.reshape(count, -1)

    def remove(self) -> None:
        """Remove the hook; safe to call twice."""
        if self._handle is not None:
            self._handle.remove()


def read_skills(
    logits: npt.NDArray[np.float32] | None, contract: EvalContract, count: int
) -> list[Skill | None]:
    """Return the most probable skill of each observation; None where logits are not finite.

    A bad value is left out and never ends an episode, since no action depends on it.

    Args:
        logits: float32 [B, n] from `skill_classifier`, or None.
        contract: Gives the names.
        count: B.
    """
    if logits is None:
        return [None] * count
    names = contract.skill_names
    skills: list[Skill | None] = []
    for values in logits.astype(np.float64):
        if not np.isfinite(values).all():
            skills.append(None)
            continue
        # Less the greatest logit, so that the exponential does not overflow.
        row = np.exp(values - values.max())
        row /= row.sum()
        index = int(row.argmax())
        name = names[index] if names is not None and index < len(names) else None
        skills.append(Skill(index=index, name=name, probability=float(row[index])))
    return skills


def read_progress(
    output: npt.NDArray[np.float32] | None, contract: EvalContract, count: int
) -> list[float | None]:
    """Return the progress of each observation, in [0, 1]; None where the output cannot be one.

    Args:
        output: float32 [B, 1] from `progress_head`, or None.
        contract: Says whether that is a logit, which gets one sigmoid, or a probability.
        count: B.
    """
    if output is None or contract.progress_output == "none" or output.shape[1] != 1:
        return [None] * count
    values = output[:, 0].astype(np.float64)
    if contract.progress_output == "logit":
        # The sigmoid, in a form that does not overflow.
        values = 0.5 * (1.0 + np.tanh(0.5 * values))
    return [float(value) if 0 <= value <= 1 else None for value in values]  # NaN gives None, too


def unreadable(
    logits: npt.NDArray[np.float32] | None,
    output: npt.NDArray[np.float32] | None,
    contract: EvalContract,
) -> list[str]:
    """Describe the outputs of the heads that the contract rules out; for a trial inference.

    Args:
        logits: As in `read_skills`.
        output: As in `read_progress`.
        contract: Says what the heads should give.
    """
    found = []
    if logits is not None:
        if not np.isfinite(logits).all():
            found.append(f"{SKILL_HEAD} returned a value that is not finite")
        elif logits.shape[1] != contract.skill_count:
            found.append(
                f"{SKILL_HEAD} gives {logits.shape[1]} classes, the contract says skill_count is "
                f"{contract.skill_count}"
            )
    if output is None or contract.progress_output == "none":
        return found
    if output.shape[1] != 1:
        found.append(f"{PROGRESS_HEAD} returned {output.shape[1]} numbers: expected one")
    elif not np.isfinite(output).all():
        found.append(f"{PROGRESS_HEAD} returned a value that is not finite")
    elif contract.progress_output == "probability" and not 0 <= output[0, 0] <= 1:
        found.append(
            f"{PROGRESS_HEAD} returned {output[0, 0]:.3g}, which is no probability, and the "
            "contract says progress_output is probability (a logit, as in v17?)"
        )
    return found


def check_skill(index: int | None, count: int) -> None:
    """Refuse a forced skill that the contract has not.

    Raises:
        ContractMismatchError: There are only `count` skills.
    """
    if index is not None and not 0 <= index < count:
        raise ContractMismatchError(
            f"--skill-id {index}: the contract has {count} skills, 0 to {count - 1}"
        )
