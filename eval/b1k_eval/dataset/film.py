"""One camera's pictures as an H.264 mp4, for training and not for looking at.

Every control step has its picture. A key frame every 10 pictures makes random access cheap, and
there are no B frames, so that pictures are stored in their order. Colours are BT.601 at video
range, as decoders assume where they ignore the tags. ffmpeg is run here, as in
`b1k_eval.video.recorder`, because the exit status tells of a full disk.

Pictures of the twin come back within about 2 of 255 on average (docs/datasets.md); what a pass does
not prove: that another camera's noise survives the compression as well.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import tempfile
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from b1k_envs.base import UInt8Array
from b1k_envs.errors import EnvError
from b1k_envs.threads import deaf_to_ctrl_c, yield_to_the_loop
from b1k_eval.video.recorder import ffmpeg_exe

CODEC = "h264"
_CODING = "-c:v libx264 -preset veryfast -crf 18 -g 10 -bf 0 -threads 1 -movflags +faststart"
_COLOUR = (
    "scale=out_color_matrix=bt601:out_range=tv,format=yuv420p,"
    "setparams=range=tv:colorspace=smpte170m:color_primaries=bt709:color_trc=bt709"
)
_STRIDE = 8  # of the pixels that are counted: 8,100 of the head's 518,400 in each picture
_END_S = 120.0


class Film:
    """Writes one video; `add` waits while ffmpeg is busy, so pictures never pile up.

    Attributes:
        pictures: How many were added.
        histogram: int64 [3, 256], how often each value was seen by channel, on every 8th pixel of
            every 8th row.
        size: Rows and columns [px]; (0, 0) before the first picture.
    """

    def __init__(self, path: Path, fps: float) -> None:
        """Prepare; ffmpeg is started by the first picture, which says the size."""
        self.path = path
        self.pictures = 0
        self.histogram: npt.NDArray[np.int64] = np.zeros((3, 256), np.int64)
        self.size = (0, 0)
        self._fps = fps
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def add(self, picture: UInt8Array) -> None:
        """Add a picture, uint8 [H, W, 3] RGB with even H and W.

        Raises:
            EnvError: It has another size than the first, or ffmpeg failed.
        """
        if self._process is None:
            self._start(picture)
        if picture.shape != (*self.size, 3) or picture.dtype != np.uint8:
            raise EnvError(
                f"{self.path}: a picture must be uint8 {[*self.size, 3]}, got "
                f"{picture.dtype} {list(picture.shape)}"
            )
        process = self._process
        assert process is not None
        assert process.stdin is not None
        try:
            process.stdin.write(np.ascontiguousarray(picture).data)
        except OSError as error:
            raise self._failed(error) from error
        self.pictures += 1
        seen = picture[::_STRIDE, ::_STRIDE].reshape(-1, 3)
        for channel, counts in enumerate(self.histogram):
            counts += np.bincount(seen[:, channel], minlength=256)

    def finish(self) -> None:
        """Complete the file.

        Raises:
            EnvError: It cannot be written.
        """
        process = self._process
        if process is None or process.stdin is None:
            return
        try:
            process.stdin.close()
            status = process.wait(_END_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise self._failed(error) from error
        if status != 0:
            raise self._failed(None)
        self._release()

    def abort(self) -> None:
        """Stop and remove the file; safe at any time, also after `finish`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._release()
        self.path.unlink(missing_ok=True)

    def _start(self, picture: UInt8Array) -> None:
        self.size = (int(picture.shape[0]), int(picture.shape[1]))
        height, width = self.size
        source = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {self._fps:g} -i pipe:0"
        words = f"-hide_banner -loglevel error -y {source} -vf {_COLOUR} {_CODING} -f mp4"
        try:
            self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by _release
            with deaf_to_ctrl_c():
                self._process = subprocess.Popen(
                    [ffmpeg_exe(), *words.split(), str(self.path)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=self._log,
                )
        except OSError as error:
            raise EnvError(f"{self.path}: ffmpeg cannot be started: {error}") from error
        yield_to_the_loop(self._process.pid)

    def _failed(self, seen: BaseException | None) -> EnvError:
        """Build an error from ffmpeg's last words, with a cause that tells a full disk."""
        said = "it said nothing"
        if self._log is not None:
            if self._process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(5.0)
            self._log.seek(0)
            lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
            said = " / ".join(lines[-3:]) or said
        error = EnvError(
            f"{self.path}: ffmpeg failed: {said}; is the disk full? Free some space and --resume, "
            "or run without --record"
        )
        full = os.strerror(errno.ENOSPC)
        error.__cause__ = OSError(errno.ENOSPC, full) if full in said else seen
        return error

    def _release(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        if self._log is not None:
            self._log.close()
            self._log = None
