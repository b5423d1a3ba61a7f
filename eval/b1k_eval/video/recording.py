"""The number of pictures of a video, and its rate.

They give the control step of each picture: picture n is that of step n * `every`, with `every`
control steps between pictures; the last picture of a scored episode is that of its last step
(`b1k_eval.video.subscriber`).

The recorder knows both, and result.json has them with the size of the file. A file of another size,
an imported one or one of an older version is opened: ffmpeg reads its packets, to see whether it is
complete, and OpenCV its index. Pictures are not decoded, so damage inside them is not found.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b1k_envs.errors import B1kEvalError
from b1k_envs.r1pro import CONTROL_HZ
from b1k_eval.video.recorder import ffmpeg_exe
from b1k_eval.video.text import import_cv2


class DamagedVideoError(B1kEvalError):
    """A video that will not play: truncated, or not a video."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Number of pictures, and pictures per second."""

    frames: int
    fps: float

    @property
    def every(self) -> int:
        """Control steps from one picture to the next."""
        return max(1, round(CONTROL_HZ / self.fps))

    def fits(self, steps: int) -> bool:
        """Return whether it can be the recording of an episode of that many control steps."""
        # One picture more or less: only scored episodes have a last one of their last step.
        exact = abs(self.fps * self.every - CONTROL_HZ) < 0.01
        return exact and 0 <= self.frames - 1 - steps // self.every <= 1


def recording_of(video: Path, recorded: Mapping[str, Any] | None) -> Recording:
    """Return a video's figures, from `EpisodeRecord.recording` if the file is unchanged.

    Raises:
        DamagedVideoError: It is truncated or not a video.
        UnavailableError: It must be opened, and ffmpeg or OpenCV is missing.
    """
    size = video.stat().st_size
    match recorded:
        case {"frames": int(frames), "fps": int(fps) | float(fps), "bytes": int(made)}:
            if made == size:
                return Recording(frames=frames, fps=fps)
    return measured(video)


@contextmanager
def opened(video: Path) -> Iterator[Any]:
    """Open a video as OpenCV's `VideoCapture` within this context.

    Raises:
        UnavailableError: OpenCV is missing.
        OSError: There is no such file.
    """
    cv2 = import_cv2()
    with video.open("rb") as file:  # not by name: OpenCV takes only names that are UTF-8
        capture = cv2.VideoCapture(f"/proc/self/fd/{file.fileno()}", cv2.CAP_FFMPEG)
        yield capture
        capture.release()


def measured(video: Path) -> Recording:
    """Read a video's figures from its packets and index.

    Raises:
        DamagedVideoError: It is truncated or not a video.
        UnavailableError: ffmpeg or OpenCV is missing.
    """
    options = ("-v", "error", "-nostdin", "-i", os.fspath(video), "-map", "0:v:0", "-c", "copy")
    read = subprocess.run([ffmpeg_exe(), *options, "-f", "null", "-"], capture_output=True)
    said = read.stderr.decode("utf-8", "replace").strip().splitlines()
    if said:  # not the exit status: of a truncated file ffmpeg copies what is left and returns 0
        why = re.sub(r"\[[^\]]* @ 0x[0-9a-f]+\] ", "", said[-1])
        raise DamagedVideoError(f"{video} is truncated or not a video ({why})")
    cv2 = import_cv2()
    with opened(video) as capture:
        frames, fps = (capture.get(what) for what in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS))
    if frames < 1 or not fps > 0:
        raise DamagedVideoError(f"{video} has no pictures")
    return Recording(frames=int(frames), fps=float(fps))
