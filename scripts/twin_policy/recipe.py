"""What v4 got wrong, by the card of v17, as switches of the training: a recipe is one checkpoint.

The card lists seven changes from v4 to v17. Each has a counterpart in this small model, named
beside it in `FAULTS`; what has none of the same kind is said there too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from b1k_policies.contract.contract import EvalContract
from b1k_policies.contract.presets import PRESETS

FAULTS: Mapping[str, str] = MappingProxyType(
    {
        "picture-504": "pictures of 504 px, made 224 px again inside the model",
        "padded-action": "row 0 of a chunk is the action already commanded",
        "skill-rate": "the layers that the place on the task gates learn 20 times as fast",
        "detached-skill": "the skill classifier's gradient ends at what it reads",
        "progress-mse": "progress is one number, by sigmoid and MSE, not a leg and its clock",
        "pose-order": "the poses' blocks in the order recorded, beside pictures in view order",
        "skill-weight": "the skill classifier's loss counts a fifth",
    }
)
"""The card's faults in its order, and what each is here."""
RECORDED = (1, 2, 0)
"""For head, left and right wrist: whose pose stands beside its picture with `pose-order`."""


@dataclass(frozen=True)
class Recipe:
    """How a checkpoint is trained, and with it what contract it has.

    Attributes:
        faults: Names in `FAULTS`.
    """

    faults: frozenset[str] = frozenset()

    @classmethod
    def of(cls, version: str, faults: Iterable[str] = ()) -> Recipe:
        """v17 with some faults, or v4 with all of them."""
        return cls(frozenset(FAULTS if version == "v4" else faults))

    @property
    def name(self) -> str:
        """Of its checkpoint: twin-v17, twin-v4, or the fault it has."""
        if not self.faults or self.faults == FAULTS.keys():
            return "twin-v4" if self.faults else "twin-v17"
        return "twin-v17-" + "-".join(name for name in FAULTS if name in self.faults)

    @property
    def contract(self) -> EvalContract:
        """What the checkpoint is sent: v17's, and of v4's what the faults bring with them."""
        contract, old = PRESETS["v17"], PRESETS["v4"]
        if self.faults == FAULTS.keys():
            return old
        fields = {
            "picture-504": ("image_size", "geometry_size"),
            "padded-action": ("first_action",),
            "progress-mse": ("progress_output",),
            "pose-order": ("extrinsics_rows",),
        }
        changed = [
            name for fault, names in fields.items() if fault in self.faults for name in names
        ]
        return replace(contract, **{name: getattr(old, name) for name in changed})

    def __contains__(self, fault: str) -> bool:
        """Whether it has this fault."""
        return fault in self.faults


V17 = Recipe()


def beside_pictures(cameras: np.ndarray, recipe: Recipe) -> np.ndarray:
    """The poses that stand beside the pictures, [N, 3, ...], of those of the pictures."""
    return cameras[:, list(RECORDED)] if "pose-order" in recipe else cameras


def mistaken(points: np.ndarray, cameras: np.ndarray, by_wrist: np.ndarray) -> np.ndarray:
    """Where `pose-order` takes points to be, float32 [N, P, 3] [m], base frame.

    The point's place in the picture and its depth are right; the camera is thought to be elsewhere.

    Args:
        points: float32 [N, P, 3].
        cameras: float32 [N, 3, 3, 4], camera to base.
        by_wrist: bool [N, P], whether the left wrist's picture shows it; else the head's does.
    """
    there = []
    for view in (0, 1):
        true, told = cameras[:, view], cameras[:, RECORDED[view]]
        local = np.einsum("nji,npj->npi", true[..., :3], points - true[:, None, :, 3])
        there.append(np.einsum("nij,npj->npi", told[..., :3], local) + told[:, None, :, 3])
    return np.where(by_wrist[..., None], there[1], there[0]).astype(np.float32)
