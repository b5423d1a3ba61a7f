"""Text on pictures, by OpenCV.

OpenCV 4 has only stroke fonts, so text is drawn at twice its size and shrunk. It is kept as masks.
Pictures are uint8 [H, W, 3] RGB.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import lru_cache
from types import ModuleType

import numpy as np
import numpy.typing as npt

from b1k_envs.base import UInt8Array
from b1k_envs.errors import UnavailableError

_SUPERSAMPLE = 2

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


def import_cv2() -> ModuleType:
    """Import OpenCV, at first use.

    Raises:
        UnavailableError: The package or a shared library is missing; the text says what to install.
    """
    try:
        import cv2
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "cv2":
            raise UnavailableError(
                "no OpenCV: the package is not installed; install with: pip install opencv-python, "
                "or run with --no-video"
            ) from error
        raise UnavailableError(
            f"no OpenCV: {error}; install with: apt-get install libgl1 libglib2.0-0, "
            "or run with --no-video"
        ) from error
    return cv2  # type: ignore[no-any-return, unused-ignore]  # typed from OpenCV 4.8 on


def readable(name: str) -> str:
    """Return a goal literal or identifier as people read it.

    `not covered boxing_glove.n.01_2 dust.n.01_1` becomes `not covered boxing glove 2 dust 1`.
    """
    return re.sub(r"\.[nvars]\.\d+(?=_|\b)", "", name).replace("_", " ")


def truncate(text: str, width: int, scale: float, *, bold: bool = False) -> str:
    """Return the text, or its longest beginning that fits into `width` [px] with `...`."""
    text = text[
        : max(width, 0) + 1
    ]  # no letter is narrower than a pixel, and a name from elsewhere may be endless
    if text_width(text, scale, bold=bold) <= width:
        return text

    def width_of(letters: int) -> int:
        return text_width(text[:letters] + "...", scale, bold=bold)

    # The width grows with the letters, so the longest text that fits is found by bisection.
    fits = bisect_right(range(len(text)), width, key=width_of) - 1
    return text[: max(fits, 0)].rstrip() + "..."


def text_width(text: str, scale: float, *, bold: bool = False) -> int:
    """Return the width of a text on the picture [px]."""
    return 0 if not text else int(_mask(text, scale, bold)[0].shape[1])


def draw_text(
    image: UInt8Array, text: str, x: int, y: int, scale: float, colour: Colour, bold: bool = False
) -> None:
    """Write a text into `image` with its baseline at `y`; what falls outside is cut off."""
    if not text:
        return
    mask, ascent = _mask(text, scale, bold)
    top = y - ascent
    cut = max(0, -top)
    region = image[top + cut : top + mask.shape[0], x : x + mask.shape[1]]
    alpha = mask[cut : cut + region.shape[0], : region.shape[1], None]
    region[:] = region + (np.asarray(colour, np.float32) - region) * alpha


@lru_cache(maxsize=1024)
def _mask(text: str, scale: float, bold: bool) -> tuple[npt.NDArray[np.float32], int]:
    """Return a line's coverage, float32 [h, w] in [0, 1], and the rows above its baseline."""
    cv2 = import_cv2()
    # Both are weights of the sans font: strokes in OpenCV 4, a TrueType face in OpenCV 5.
    font = cv2.FONT_HERSHEY_DUPLEX if bold else cv2.FONT_HERSHEY_SIMPLEX
    (width, height), baseline = cv2.getTextSize(text, font, scale * _SUPERSAMPLE, _SUPERSAMPLE)
    pad = 2 * _SUPERSAMPLE
    rows = height + baseline + 2 * pad
    # Multiples of the supersampling, so that the text shrinks to whole pixels.
    rows += -rows % _SUPERSAMPLE
    ascent = height + pad
    ascent += -ascent % _SUPERSAMPLE
    columns = width + pad
    columns += -columns % _SUPERSAMPLE
    big = np.zeros((rows + _SUPERSAMPLE, columns), np.uint8)
    cv2.putText(big, text, (0, ascent), font, scale * _SUPERSAMPLE, 255, _SUPERSAMPLE, cv2.LINE_AA)
    small = cv2.resize(
        big,
        (big.shape[1] // _SUPERSAMPLE, big.shape[0] // _SUPERSAMPLE),
        interpolation=cv2.INTER_AREA,
    )
    mask = small.astype(np.float32) / 255
    mask.setflags(write=False)
    return mask, ascent // _SUPERSAMPLE
