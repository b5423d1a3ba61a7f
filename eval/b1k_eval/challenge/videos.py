"""Converting a rollout video to the official evaluator's layout.

    +----------+--------------------+
    |left wrist|                    |     twice 224 x 224 and 448 x 448: 448 high, 672 wide
    +----------+        head        |
    |  right   |                    |
    +----------+--------------------+

Our own video has the same three pictures in the same sizes, with text below them
(`b1k_eval.video.layout`), so they only need to be cut out and rearranged. The result has one
picture per step; ours also has one of the initial state, which is left out.
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
from b1k_eval.records.store import StorageError
from b1k_eval.video.layout import RED, VIEW_BOXES
from b1k_eval.video.recorder import ffmpeg_exe
from b1k_eval.video.recording import measured
from b1k_eval.video.text import import_cv2

OFFICIAL_HEIGHT, OFFICIAL_WIDTH = 448, 672

_QUALITY = 18


def official_video(source: Path, target: Path, *, steps: int | None, draft: bool) -> None:
    """Write a video in the official layout.

    Args:
        source: A video.mp4 of ours.
        target: The new file; its folder exists.
        steps: Steps of the episode, if `source` has a picture of each: pictures before the first
            step and after the last are left out. None to keep all pictures.
        draft: Write DRAFT across every picture.

    Raises:
        StorageError: ffmpeg cannot read or write; the message has its output.
        UnavailableError: There is no ffmpeg or OpenCV.
    """
    partial = target.with_name(f"{TEMP_PREFIX}{target.name}")
    with TemporaryDirectory() as folder:
        mark = None
        if draft:
            mark = Path(folder) / "draft.png"
            _write_mark(mark)
        done = subprocess.run(
            [ffmpeg_exe(), *_arguments(source, partial, steps, mark)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    if done.returncode != 0:
        with contextlib.suppress(OSError):
            partial.unlink()
        said = " / ".join(done.stderr.decode("utf-8", "replace").strip().splitlines()[-2:])
        # Without ffmpeg's `[h264 @ 0x55...]`: an address says nothing and differs every time.
        said = re.sub(r"\[[^\]]* @ 0x[0-9a-f]+\] ", "", said)
        full = os.strerror(errno.ENOSPC) in said
        advice = "free some space" if full else "the video is damaged; run its episode again"
        raise StorageError(f"{source} cannot be turned into {target} ({said}): {advice}")
    # From a damaged source ffmpeg writes what it can read and returns 0.
    if steps and (frames := measured(partial).frames) != steps:
        partial.unlink()
        raise StorageError(
            f"{source} has pictures of {frames} of {steps} steps: the video is damaged; run its "
            "episode again"
        )
    partial.replace(target)


def _arguments(source: Path, target: Path, steps: int | None, mark: Path | None) -> list[str]:
    def cut(copy: str, view: str, box: tuple[int, int, int, int]) -> str:
        x, y, width, height = box
        return f"[{copy}]crop={width}:{height}:{x}:{y}[{view}]"

    cuts = [cut(copy, *item) for copy, item in zip("abc", VIEW_BOXES.items(), strict=True)]
    stacked = ["[left_wrist][right_wrist]vstack[wrists]", "[wrists][head]hstack[all]"]
    # Picture n of ours is that of step n. An episode of 0 steps has only the initial picture.
    kept = "null" if not steps else f"trim=start_frame=1:end_frame={steps + 1},setpts=PTS-STARTPTS"
    out = ["[all]null[out]"] if mark is None else ["[all][1:v]overlay[out]"]
    inputs = ["-i", str(source), *([] if mark is None else ["-i", str(mark)])]
    return [
        *("-hide_banner", "-loglevel", "error", "-y", *inputs),
        *("-filter_complex", ";".join([f"[0:v]{kept},split=3[a][b][c]", *cuts, *stacked, *out])),
        *("-map", "[out]"),
        *("-c:v", "libx264", "-preset", "fast", "-crf", str(_QUALITY), "-pix_fmt", "yuv420p"),
        *("-movflags", "+faststart", "-f", "mp4", str(target)),
    ]


def _write_mark(path: Path) -> None:
    """Write the overlay for every frame: DRAFT, slanted, half transparent."""
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
