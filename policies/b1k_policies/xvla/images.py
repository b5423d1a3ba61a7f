"""Turning native pictures into the image tensor of a contract, and back for people.

There are two bicubic filters. The checkpoints were trained with that of PIL and torchvision, which
is widened when a picture shrinks. torch's `interpolate(antialias=True)` on uint8 is that filter: it
is within one level of PIL, except for some tens of values in a million that are two levels off when
a picture goes to 504 px. OpenCV's INTER_CUBIC is the other one.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from b1k_envs.base import UInt8Array, View
from b1k_envs.errors import EnvError
from b1k_policies.base import ResizeFilter
from b1k_policies.contract.contract import EvalContract

if TYPE_CHECKING:
    import torch


def image_tensor(
    images: Sequence[Mapping[View, UInt8Array]], contract: EvalContract
) -> torch.Tensor:
    """Resize, order and normalise the pictures of one or many observations.

    Args:
        images: Per observation and view, uint8 [N, N, 3] RGB, row 0 on top. Any N: the whole
            field of view is in the picture, so K as sent does not depend on it.
        contract: Decides size, filter, colour order, normalisation and the order of the views.

    Returns:
        float32 [B, V, 3, S, S], contiguous, on the CPU; bit for bit what torchvision's
        `ToTensor` and `Normalize` make of the resized pictures.

    Raises:
        EnvError: A view is missing, or is not a uint8 picture of that shape.
    """
    import torch

    size, views = contract.image_size, contract.view_order
    tensor = torch.empty(len(images), len(views), 3, size, size)
    for column, view in enumerate(views):
        pictures = [_picture(views_of, view) for views_of in images]
        tensor[:, column].copy_(_resized(pictures, contract))
    shape = (3, 1, 1)
    # In this order, to have the bits of torchvision's `ToTensor` and `Normalize`.
    tensor.div_(255)
    tensor.sub_(torch.tensor(contract.image_mean).reshape(shape))
    tensor.div_(torch.tensor(contract.image_std).reshape(shape))
    return tensor


def denormalise(tensor: torch.Tensor, contract: EvalContract) -> UInt8Array:
    """Return the pictures in a normalised tensor as a model sees them by this contract.

    Args:
        tensor: floating point [..., 3, S, S], any device.
        contract: Gives mean, std and the order of the planes.

    Returns:
        uint8 [..., S, S, 3] RGB; what lies outside [0, 255] is clipped.
    """
    import torch

    shape = (3, 1, 1)
    mean = torch.tensor(contract.image_mean).reshape(shape)
    std = torch.tensor(contract.image_std).reshape(shape)
    levels = (tensor.detach().cpu().float() * std + mean) * 255
    if contract.colour_order == "bgr":
        levels = levels.flip(-3)
    picture: UInt8Array = levels.round().clamp(0, 255).to(torch.uint8).movedim(-3, -1).numpy()
    return np.ascontiguousarray(picture)


def resize(
    pictures: Sequence[UInt8Array], size: int, resize_filter: ResizeFilter, *, antialias: bool
) -> torch.Tensor:
    """Resize pictures as for a checkpoint; whatever needs the same pixels calls this.

    Args:
        pictures: uint8 [N, N, 3] RGB each, all of one size; only read.
        size: S, width and height of the result [px].
        resize_filter: `nearest` goes by pixel centres, and is never antialiased.
        antialias: Whether the other filters are widened when a picture shrinks.

    Returns:
        uint8 [B, 3, S, S]; shares memory with a single picture that already has the size.
    """
    from torch.nn.functional import interpolate

    # The memory stays channels last, for which torch has its fast uint8 path.
    batch = _shared(pictures).permute(0, 3, 1, 2)
    if batch.shape[2:] == (size, size):
        return batch
    # "nearest-exact" goes by pixel centres, which torch's "nearest" does not.
    if resize_filter == "nearest":
        return interpolate(batch, (size, size), mode="nearest-exact")
    return interpolate(batch, (size, size), mode=resize_filter, antialias=antialias)


def _resized(pictures: Sequence[UInt8Array], contract: EvalContract) -> torch.Tensor:
    """Return uint8 [B, 3, S, S], planes in the contract's order."""
    import torch

    if len({picture.shape for picture in pictures}) > 1:  # they cannot be stacked
        return torch.cat([_resized([picture], contract) for picture in pictures])
    batch = resize(
        pictures,
        contract.image_size,
        contract.resize_filter,
        antialias=contract.resize_antialias,
    )
    return batch.flip(1) if contract.colour_order == "bgr" else batch


def _shared(pictures: Sequence[UInt8Array]) -> torch.Tensor:
    """Return uint8 [B, N, N, 3]; a single picture is not copied, and must only be read."""
    import torch

    if len(pictures) > 1:
        return torch.from_numpy(np.stack(pictures))
    with warnings.catch_warnings():  # torch warns of memory that it may not write to
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(pictures[0])[None]


def _picture(images: Mapping[View, UInt8Array], view: View) -> UInt8Array:
    if view not in images:
        have = ", ".join(images) or "none"
        raise EnvError(f"the observation has no picture of {view} (it has: {have})")
    picture = images[view]
    square = picture.ndim == 3 and picture.shape[0] == picture.shape[1] and picture.shape[2] == 3
    if picture.dtype != np.uint8 or not square:
        raise EnvError(
            f"the picture of {view} must be uint8 [N, N, 3], got {picture.dtype} "
            f"{list(picture.shape)}"
        )
    return picture
