"""How many pictures a video has, and how many a second.

Which control step a picture shows follows from both. Picture n of a recording is that of step n *
every, with `every` control steps between two; the last one of an episode that was scored is that
of the last step, whichever that is (`b1k_eval.video.subscriber`).

The recorder knows both, and result.json has them with the size of the file. A file of another
size, of an older run folder or of somebody else is opened: ffmpeg reads its packets, which tells
whether it is whole, OpenCV its index. Pictures are not decoded, so damage inside them is not seen.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b1k_envs.errors import B1kEvalError
from b1k_envs.r1pro import CONTROL_HZ
from b1k_eval.video.layout import import_cv2
from b1k_eval.video.recorder import ffmpeg_exe


class DamagedVideoError(B1kEvalError):
    """A video that will not play: torn off, or none at all."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What there is to see.

    Attributes:
        frames: Pictures.
        fps: Pictures per second.
    """

    frames: int
    fps: float

    @property
    def every(self) -> int:
        """Control steps from one picture to the next."""
        return max(1, round(CONTROL_HZ / self.fps))

    def fits(self, steps: int) -> bool:
        """Whether it can be the recording of an episode of that many control steps.

        Scored episodes have a picture of their last step at the end; that of an error has not.
        """
        exact = abs(self.fps * self.every - CONTROL_HZ) < 0.01
        return exact and 0 <= self.frames - 1 - steps // self.every <= 1


def recording_of(video: Path, recorded: Mapping[str, Any] | None) -> Recording:
    """What a video has, by the record of its making where it is still that file.

    Args:
        video: The file.
        recorded: `EpisodeRecord.recording`.

    Raises:
        DamagedVideoError: It is torn off, or no video.
        UnavailableError: It has to be opened, and ffmpeg or OpenCV cannot be had here.
    """
    size = video.stat().st_size
    match recorded:
        case {"frames": int(frames), "fps": int(fps) | float(fps), "bytes": int(made)}:
            if made == size:
                return Recording(frames=frames, fps=fps)
    return measured(video)


def measured(video: Path) -> Recording:
    """What a video has, by its index; its packets are read too, but not decoded.

    Raises:
        DamagedVideoError: It is torn off, or no video.
        UnavailableError: There is no ffmpeg, or OpenCV does not import here.
    """
    options = ("-v", "error", "-nostdin", "-i", os.fspath(video), "-map", "0:v:0", "-c", "copy")
    read = subprocess.run([ffmpeg_exe(), *options, "-f", "null", "-"], capture_output=True)
    said = read.stderr.decode("utf-8", "replace").strip().splitlines()
    if said:  # of a torn file ffmpeg copies what is left, and its exit status is 0
        why = re.sub(r"\[[^\]]* @ 0x[0-9a-f]+\] ", "", said[-1])
        raise DamagedVideoError(f"{video} is torn off or no video ({why})")
    cv2 = import_cv2()
    with video.open("rb") as file:  # not by its name: OpenCV takes only such as are UTF-8
        capture = cv2.VideoCapture(f"/proc/self/fd/{file.fileno()}", cv2.CAP_FFMPEG)
        frames, fps = (capture.get(what) for what in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS))
        capture.release()
    if frames < 1 or not fps > 0:
        raise DamagedVideoError(f"{video} has no pictures")
    return Recording(frames=int(frames), fps=float(fps))
