"""The small pictures that training keeps: 224 px JPEGs, close to what a v17 batch has.

Measured on 12 frames of an episode, mean difference in levels from `build_batch`'s native picture
(720 or 480 px, bicubic, antialiased) of head and left wrist: rendered at 448 px and shrunk by the
same filter 1.6 and 0.5, at 448 px averaged 2.1 and 0.8, at 224 px with four samples 2.4 and 1.0, at
224 px 4.1 and 1.4, and JPEG at quality 92 without subsampling 1.5 and 1.0. So the head is rendered
at 448 px (half the time of 720), the wrist natively, and both go through the batch's own filter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np

from b1k_envs.base import VIEWS, UInt8Array, View
from b1k_policies.xvla.images import resize

SIZE = 224
RENDERED: Mapping[View, int] = MappingProxyType(
    {"head": 448, "left_wrist": 480, "right_wrist": 448}
)
_JPEG = (
    cv2.IMWRITE_JPEG_QUALITY, 92,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)  # fmt: skip


def encode(picture: UInt8Array) -> bytes:
    """A picture of any size, uint8 [N, N, 3] RGB, as a JPEG of 224 px."""
    small = resize([picture], SIZE, "bicubic", antialias=True)[0].permute(1, 2, 0).numpy()
    done, coded = cv2.imencode(".jpg", np.ascontiguousarray(small[:, :, ::-1]), _JPEG)
    assert done
    return bytes(coded)


def encode_views(pictures: Mapping[View, UInt8Array]) -> list[bytes]:
    """The three views of an observation as JPEGs, in the order of `VIEWS`."""
    return [encode(pictures[view]) for view in VIEWS]


def decode(coded: Sequence[Any]) -> UInt8Array:
    """JPEGs as uint8 [n, 224, 224, 3] RGB."""
    pictures = [
        cv2.imdecode(np.frombuffer(c, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1] for c in coded
    ]
    return np.stack(pictures) if pictures else np.empty((0, SIZE, SIZE, 3), np.uint8)
