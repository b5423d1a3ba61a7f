"""Resizing pictures before they are sent, for a server that asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from b1k_envs.base import UInt8Array, View
from b1k_envs.errors import UnavailableError
from b1k_policies.base import Resizing
from b1k_policies.xvla.images import resize


def require_torch(to: Resizing) -> None:
    """Check that pictures can be resized.

    Raises:
        UnavailableError: torch is missing.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise UnavailableError(
            f"the server asks for pictures resized to {to.size} px, which needs torch here too: "
            "pip install '.[xvla]' in the checkout, or have the server take native pictures"
        ) from error


def resized(pictures: Mapping[View, UInt8Array], to: Resizing) -> Mapping[View, UInt8Array]:
    """Return the pictures as `images.image_tensor` makes them before it normalises.

    torch is called in the same way, so the server's own resizing has nothing left to do. The bits
    are the same if both sides have the same torch and kind of processor; otherwise some values may
    differ by one level. Native pictures avoid that.

    Args:
        pictures: uint8 [N, N, 3] RGB by view.
        to: Size and filter.

    Returns:
        uint8 [S, S, 3] RGB by view, read-only.
    """
    return MappingProxyType({view: _resized(picture, to) for view, picture in pictures.items()})


def _resized(picture: UInt8Array, to: Resizing) -> UInt8Array:
    if picture.shape[:2] == (to.size, to.size):
        return picture
    batch = resize([picture], to.size, to.filter, antialias=to.antialias)
    small: UInt8Array = np.ascontiguousarray(batch[0].permute(1, 2, 0).numpy())
    small.setflags(write=False)
    return small
