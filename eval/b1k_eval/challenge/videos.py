"""A rollout video in the official evaluator's layout, cut from ours.

    +----------+--------------------+
    |left wrist|                    |     twice 224 x 224 and 448 x 448: 448 high, 672 wide
    +----------+        head        |
    |  right   |                    |
    +----------+--------------------+

Our own video has the same three pictures in the same sizes and writes below them
(`b1k_eval.video_layout`), so that the layout is a matter of cutting. It is encoded anew.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from b1k_eval.files import TEMP_PREFIX
from b1k_eval.store import StorageError
from b1k_eval.video import ffmpeg_exe
from b1k_eval.video_layout import RED, VIEW_BOXES, import_cv2

OFFICIAL_HEIGHT, OFFICIAL_WIDTH = 448, 672

_QUALITY = 18


def official_video(source: Path, target: Path, *, draft: bool) -> None:
    """Write a video in the official layout.

    Args:
        source: A video.mp4 of ours.
        target: Where it goes; its folder exists.
        draft: Write DRAFT across every picture.

    Raises:
        StorageError: ffmpeg cannot read the one or write the other; says what it said.
        UnavailableError: There is no ffmpeg or OpenCV.
    """
    partial = target.with_name(f"{TEMP_PREFIX}{target.name}")
    with TemporaryDirectory() as folder:
        mark = None
        if draft:
            mark = Path(folder) / "draft.png"
            _write_mark(mark)
        done = subprocess.run(
            [ffmpeg_exe(), *_arguments(source, partial, mark)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    if done.returncode != 0:
        with contextlib.suppress(OSError):
            partial.unlink()
        said = " / ".join(done.stderr.decode("utf-8", "replace").strip().splitlines()[-2:])
        said = re.sub(r"\[[^\]]* @ 0x[0-9a-f]+\] ", "", said)
        full = os.strerror(errno.ENOSPC) in said
        advice = "free some space" if full else "the video is damaged; run its episode again"
        raise StorageError(f"{source} cannot be turned into {target} ({said}): {advice}")
    partial.replace(target)


def _arguments(source: Path, target: Path, mark: Path | None) -> list[str]:
    def cut(view: str, box: tuple[int, int, int, int]) -> str:
        x, y, width, height = box
        return f"[0:v]crop={width}:{height}:{x}:{y}[{view}]"

    cuts = [cut(view, box) for view, box in VIEW_BOXES.items()]
    stacked = ["[left_wrist][right_wrist]vstack[wrists]", "[wrists][head]hstack[all]"]
    over = [] if mark is None else ["[all][1:v]overlay[marked]"]
    inputs = ["-i", str(source), *([] if mark is None else ["-i", str(mark)])]
    return [
        *("-hide_banner", "-loglevel", "error", "-y", *inputs),
        *("-filter_complex", ";".join([*cuts, *stacked, *over])),
        *("-map", "[all]" if mark is None else "[marked]"),
        *("-c:v", "libx264", "-preset", "fast", "-crf", str(_QUALITY), "-pix_fmt", "yuv420p"),
        *("-movflags", "+faststart", "-f", "mp4", str(target)),
    ]


def _write_mark(path: Path) -> None:
    """A picture to lay over every frame: DRAFT, slanted, half transparent."""
    cv2 = import_cv2()
    mark = np.zeros((OFFICIAL_HEIGHT, OFFICIAL_WIDTH, 4), dtype=np.uint8)
    red, green, blue = RED
    cv2.putText(
        mark, "DRAFT", (60, 300), cv2.FONT_HERSHEY_SIMPLEX, 6.0, (blue, green, red, 150), 22
    )
    centre = (OFFICIAL_WIDTH / 2, OFFICIAL_HEIGHT / 2)
    turned = cv2.warpAffine(
        mark, cv2.getRotationMatrix2D(centre, 20.0, 0.9), (OFFICIAL_WIDTH, OFFICIAL_HEIGHT)
    )
    cv2.imwrite(str(path), turned)
