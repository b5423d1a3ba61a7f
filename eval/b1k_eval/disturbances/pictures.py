"""Disturbed pictures: from a picture, a dose and the episode's generator to a picture.

Each function takes uint8 [H, W, 3] RGB, the dose and the draws, and returns a new array of the same
shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from b1k_envs.base import UInt8Array


class Draws(NamedTuple):
    """Sources of random numbers.

    Attributes:
        steady: Gives the same at every step of an episode.
        fresh: Gives something new at every step.
    """

    steady: np.random.Generator
    fresh: np.random.Generator


Change = Callable[[UInt8Array, float, Draws], UInt8Array]

_GREY = 128


def _levels(values: npt.NDArray[Any]) -> UInt8Array:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def _brightness(picture: UInt8Array, dose: float, _: Draws) -> UInt8Array:
    return _levels(picture.astype(np.float32) + 255.0 * dose)


def _contrast(picture: UInt8Array, dose: float, _: Draws) -> UInt8Array:
    import cv2

    middle = float(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).mean())
    return _levels(middle + (picture.astype(np.float32) - middle) * (1.0 + dose))


def _hue(picture: UInt8Array, dose: float, _: Draws) -> UInt8Array:
    import cv2

    # In float32 the hue is in degrees; with bytes it would be rounded to two.
    colours = cv2.cvtColor(picture.astype(np.float32) / 255.0, cv2.COLOR_RGB2HSV)
    colours[..., 0] = (colours[..., 0] + dose) % 360.0
    return _levels(255.0 * cv2.cvtColor(colours, cv2.COLOR_HSV2RGB))


def _noise(picture: UInt8Array, dose: float, draws: Draws) -> UInt8Array:
    drawn = draws.fresh.standard_normal(picture.shape, dtype=np.float32)
    return _levels(picture.astype(np.float32) + dose * drawn)


def _blur(picture: UInt8Array, dose: float, _: Draws) -> UInt8Array:
    import cv2

    return np.asarray(cv2.GaussianBlur(picture, (0, 0), dose), np.uint8)


def _jpeg(picture: UInt8Array, dose: float, _: Draws) -> UInt8Array:
    import cv2

    quality = [cv2.IMWRITE_JPEG_QUALITY, round(100 - dose)]
    stored = cv2.imencode(".jpg", picture[..., ::-1], quality)[1]
    return np.ascontiguousarray(np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR))[..., ::-1])


def _patch(picture: UInt8Array, dose: float, draws: Draws) -> UInt8Array:
    height, width = picture.shape[:2]
    rows, columns = round(height * dose**0.5), round(width * dose**0.5)
    top = round(draws.steady.random() * (height - rows))
    left = round(draws.steady.random() * (width - columns))
    covered = picture.copy()
    covered[top : top + rows, left : left + columns] = _GREY
    return covered


def _shift(picture: UInt8Array, dose: float, draws: Draws) -> UInt8Array:
    angle = 2.0 * np.pi * draws.steady.random()
    way = dose * picture.shape[1] * np.array([np.cos(angle), np.sin(angle)])
    return _moved(picture, np.column_stack([np.eye(2), way]))


def _rotation(picture: UInt8Array, dose: float, _: Draws) -> UInt8Array:
    import cv2

    height, width = picture.shape[:2]
    centre = ((width - 1) / 2, (height - 1) / 2)
    return _moved(picture, cv2.getRotationMatrix2D(centre, dose, 1.0))


def _moved(picture: UInt8Array, by: npt.NDArray[Any]) -> UInt8Array:
    import cv2

    size = (picture.shape[1], picture.shape[0])
    return np.asarray(
        cv2.warpAffine(picture, by, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        np.uint8,
    )


def _blank(picture: UInt8Array, _dose: float, _: Draws) -> UInt8Array:
    return np.zeros_like(picture)


CHANGES: Mapping[str, Change] = MappingProxyType(
    {
        "brightness": _brightness,
        "contrast": _contrast,
        "hue": _hue,
        "noise": _noise,
        "blur": _blur,
        "jpeg": _jpeg,
        "patch": _patch,
        "shift": _shift,
        "rotation": _rotation,
        "blank": _blank,
    }
)
"""By axis; `frozen` and `swapped` need more than a picture and are in `shown`."""
