"""Checking that a loaded model takes what its contract sends, and gives what it says.

This is checked before the first episode, as most such mistakes give no error at run time.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from b1k_envs.base import VIEWS, Float32Array, Observation, ProtocolYear, UInt8Array, View
from b1k_envs.errors import ContractMismatchError
from b1k_envs.r1pro import CAMERAS, PROPRIO_DIM, PROPRIO_LAYOUTS
from b1k_policies.contract.contract import EvalContract
from b1k_policies.contract.resolved import ResolvedContract
from b1k_policies.contract.statistics import BUFFERS, FIELDS_OF_STATISTICS
from b1k_policies.xvla.heads import PROGRESS_HEAD, SKILL_HEAD, HeadTap

if TYPE_CHECKING:
    import torch

_STEPS_ARGUMENTS = (
    "steps",
    "num_steps",
    "denoising_steps",
    "num_denoising_steps",
    "num_inference_steps",
)
POSE_INPUTS = ("extrinsics", "intrinsics")
"""Arguments that only a posed contract sends."""
_DROPPABLE = ("image_mask",)
"""Arguments that a model need not take: this one only says that every view is there."""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """How `generate_actions` is called.

    Attributes:
        names: Arguments of the batch that it takes.
        steps: Name of its argument for the number of denoising steps; None if it has none.
        takes_poses: Whether it has arguments for poses and K, sent or not.
        remarks: What is not passed.
    """

    names: tuple[str, ...]
    steps: str | None
    takes_poses: bool
    remarks: tuple[str, ...]


def read_signature(
    model: torch.nn.Module,
    batch_names: Sequence[str],
    contract: EvalContract,
    *,
    steps_stated: bool,
) -> Signature:
    """Compare the arguments of `generate_actions` with the batch.

    Args:
        model: The model.
        batch_names: Keys of the batch that the contract makes.
        contract: Gives the number of denoising steps.
        steps_stated: Whether somebody asked for that number; if not it is a default, and a model
            without such an argument keeps its own.

    Raises:
        ContractMismatchError: It lacks an argument that the contract sends, or needs one that the
            contract does not send.
    """
    method = getattr(model, "generate_actions", None)
    if method is None:
        raise ContractMismatchError(f"{type(model).__name__} has no generate_actions")
    parameters = inspect.signature(method).parameters.values()
    anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    named = {
        parameter.name: parameter
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    takes = ", ".join(named) + (", ..." if anything else "")
    refused = [name for name in batch_names if name not in named and not anything]
    wrong = [name for name in refused if name not in _DROPPABLE]
    if wrong:
        posed = set(POSE_INPUTS) & set(wrong)
        raise ContractMismatchError(
            f"the contract sends {', '.join(wrong)}, which generate_actions({takes}) does not "
            "take" + ("; a model without poses has --set posed=false" if posed else "")
        )
    steps = next((name for name in _STEPS_ARGUMENTS if name in named), None)
    if steps is None and steps_stated:
        raise ContractMismatchError(
            f"denoising_steps is {contract.denoising_steps}, but generate_actions({takes}) takes "
            f"no number of steps (none of {', '.join(_STEPS_ARGUMENTS)})"
        )
    wanted = [
        name
        for name, parameter in named.items()
        if parameter.default is parameter.empty and name not in batch_names and name != steps
    ]
    if wanted:
        raise ContractMismatchError(
            f"generate_actions wants {', '.join(wanted)}, which the contract does not send "
            f"(it sends {', '.join(batch_names)})"
        )
    remarks = [f"generate_actions does not take {name}: not passed" for name in refused]
    if steps is None:
        remarks.append("generate_actions takes no number of denoising steps: the model's own")
    return Signature(
        names=tuple(name for name in batch_names if name not in refused),
        steps=steps,
        takes_poses=all(name in named for name in POSE_INPUTS),
        remarks=tuple(remarks),
    )


def check_heads(
    skill: HeadTap, progress: HeadTap, contract: EvalContract
) -> tuple[list[str], list[str]]:
    """Compare the heads' modules with the contract.

    Returns:
        (what contradicts it, what is only worth a remark).
    """
    wrong, remarks = [], []
    if skill.module is None:
        remarks.append(f"the model has no {SKILL_HEAD}: the skill columns stay empty")
    for head in (skill, progress):
        if head.module is not None and head.path != head.name:
            remarks.append(f"{head.name} is read at {head.path}")
    classes = _out_features(skill.module)
    if classes is not None and classes != contract.skill_count:
        wrong.append(
            f"{SKILL_HEAD} has {classes} classes, the contract says skill_count is "
            f"{contract.skill_count}"
        )
    says = contract.progress_output
    if progress.module is None:
        if says != "none":
            remarks.append(f"the model has no {PROGRESS_HEAD}: the progress column stays empty")
        return wrong, remarks
    if says == "none":
        remarks.append(f"the model has a {PROGRESS_HEAD}, which the contract leaves unread")
    elif _ends_in_sigmoid(progress.module) and says == "logit":
        wrong.append(
            f"{PROGRESS_HEAD} ends in a Sigmoid, so it gives a probability, but the contract says "
            "progress_output is logit: a second sigmoid would squeeze it into [0.5, 0.73]"
        )
    elif _out_features(progress.module) is not None and says == "probability":
        wrong.append(
            f"{PROGRESS_HEAD} ends in a Linear, so it gives a logit, but the contract says "
            "progress_output is probability: the sigmoid would be missing"
        )
    return wrong, remarks


def check_statistics(model: torch.nn.Module, found: ResolvedContract) -> str | None:
    """Compare the statistics that the model keeps with the contract; for pickled weights.

    Returns:
        The contradiction: the model has buffers to normalise by, and nobody says how the contract
        normalises. None if there is none.
    """
    if not all(found.sources[name].by_default for name in FIELDS_OF_STATISTICS):
        return None
    names = [name for name in model.state_dict() if BUFFERS.search(name)]
    if not names:
        return None
    return (
        f"the model has {names[0]} and {len(names) - 1} more tensors to normalise by, and the "
        f"contract says nothing of {' and '.join(FIELDS_OF_STATISTICS)}: --set both to what they "
        "are, to none where the model applies them by itself"
    )


def _leaves(module: torch.nn.Module | None) -> list[torch.nn.Module]:
    if module is None:
        return []
    return [part for part in module.modules() if next(part.children(), None) is None]


def _ends_in_sigmoid(module: torch.nn.Module) -> bool:
    from torch.nn import Sigmoid

    return isinstance(_leaves(module)[-1], Sigmoid)


def _out_features(module: torch.nn.Module | None) -> int | None:
    """Return the width of a head that ends in a Linear; None for any other head."""
    from torch.nn import Linear

    leaves = _leaves(module)
    if not leaves or not isinstance(leaves[-1], Linear):
        return None
    return int(leaves[-1].out_features)


def probe_observation(protocol: ProtocolYear) -> Observation:
    """Make up an observation for one trial inference: grey ramps, cameras at a robot's height.

    No answer to it ever counts.
    """
    images: Mapping[View, UInt8Array] = {view: _ramp(CAMERAS[view].size) for view in VIEWS}
    poses: dict[View, Float32Array] = {}
    for offset, view in enumerate(VIEWS):
        pose = np.eye(4, dtype=np.float32)
        # Columns are USD camera axes in the base frame: it looks (-z) along +x, its +y is up (z).
        pose[:3, :3] = [[0, 0, -1], [-1, 0, 0], [0, 1, 0]]
        pose[:3, 3] = (0.1 * offset, 0.2 * (offset - 1), 1.2)
        poses[view] = pose
    proprio = np.zeros(PROPRIO_DIM[protocol], dtype=np.float32)
    if protocol == "2025":  # heading along x; 0 is what the standard track shows for a heading
        proprio[PROPRIO_LAYOUTS[protocol]["base_qpos_cos"]] = 1.0
    return Observation(
        images=images,
        camera_to_base=poses,
        cam_rel_poses=np.zeros(21, dtype=np.float32),
        proprio=proprio,
        protocol=protocol,
        task_index=0,
        step=0,
        time=0.0,
    )


def _ramp(size: int) -> UInt8Array:
    levels = np.linspace(0, 255, size).astype(np.uint8)
    picture = np.stack(np.broadcast_arrays(levels[:, None], levels[None], np.uint8(128)), axis=-1)
    return np.ascontiguousarray(picture)
