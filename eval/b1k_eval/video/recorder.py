"""Recording the rollout video, an H.264 mp4 that plays in a browser.

`add` only queues a ticket (`b1k_envs.base.VideoFrame`). Other threads redeem it, compose the
picture (`video.layout`) and pipe it to ffmpeg (`video.render_thread`). No picture is dropped.
Tickets take a kilobyte and may wait without limit, so that rendering does not slow the loop. Frames
that hold pictures are limited in number, and `add` waits if the threads fall behind.

ffmpeg is run here and not by `imageio_ffmpeg.write_frames`, which ignores the exit status: a disk
that fills up while the file is finished would go unnoticed.

Format: yuv420p, index in front (`+faststart`), even sizes, tagged with BT.601 matrix and sRGB
primaries. Until the file is complete and on disk it is called `.<name>.partial`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO

from b1k_envs.base import UInt8Array, VideoFrame, View
from b1k_envs.errors import EnvError, UnavailableError
from b1k_envs.threads import deaf_to_ctrl_c, yield_to_the_loop
from b1k_eval.execution import VideoSize
from b1k_eval.video.layout import HEIGHT, WIDTH, Overlay, Painter
from b1k_eval.video.render_thread import RenderThread

__all__ = ["Overlay", "VideoRecorder", "ffmpeg_exe"]


def ffmpeg_exe() -> str:
    """Return the path of ffmpeg: `IMAGEIO_FFMPEG_EXE`, the bundled one, or the system's.

    Raises:
        UnavailableError: There is none; the message says how to get one.
    """
    import imageio_ffmpeg

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise UnavailableError(
            "no ffmpeg: this platform's imageio-ffmpeg bundles none; install one with: "
            "apt-get install ffmpeg, or set IMAGEIO_FFMPEG_EXE, or run with --no-video"
        ) from error


_CODING: Mapping[VideoSize, tuple[str, int]] = MappingProxyType(
    {"small": ("veryfast", 33), "medium": ("veryfast", 28), "large": ("ultrafast", 24)}
)
"""x264's preset and constant rate factor, 0 (lossless) to 51 (worst).

An episode of the twin of 40 s, 15 pictures a second: large takes 2.8 s of CPU for 17.2 MB a minute,
medium 8.0 s for 4.8 MB, at a structural similarity to large of 0.98.
"""


class VideoRecorder:
    """Records one episode: `start`, any number of `add`, then `close` or `abort`.

    As a context manager it starts on entry, closes on a normal exit and aborts on an exception.

    Args:
        path: The mp4; its folder must exist. A file of that name is replaced.
        fps: Pictures per second of video.
        size: How large the file may be, see `_CODING`.
        thread: Redeems tickets; None for a thread of this recorder's own.
        queue_size: Frames holding pictures that may wait in that own thread before `add` waits.
        stall_timeout_s: How long `add` and `close` wait for a thread or ffmpeg that does nothing
            [s].
    """

    def __init__(
        self,
        path: Path,
        fps: float,
        size: VideoSize = "large",
        *,
        thread: RenderThread | None = None,
        queue_size: int = 32,
        stall_timeout_s: float = 120.0,
    ) -> None:
        self.path = Path(path)
        self.partial_path = self.path.with_name(f".{self.path.name}.partial")
        self.fps = fps
        self.size = size
        self.frames_added = 0
        self.recording: dict[str, float] | None = None  # set when the file is complete
        self._frames_encoded = 0
        self._all_in: threading.Event | None = None  # set when the last picture is encoded
        self._stall_timeout_s = stall_timeout_s
        self._thread = thread
        self._own_thread = thread is None
        self._queue_size = queue_size
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._painter: Painter | None = None
        self._error: EnvError | None = None
        self._cancelled = False

    def start(self) -> None:
        """Start ffmpeg and the thread.

        Raises:
            UnavailableError: OpenCV or ffmpeg is missing; the message says what to install.
            EnvError: The folder cannot be written, ffmpeg does not start, or called twice.
        """
        if self._process is not None:
            raise EnvError(f"video {self.path}: already started")
        self._painter = Painter()
        exe = ffmpeg_exe()
        try:
            # A folder that cannot be written is found now, not by ffmpeg after the first pictures.
            self.partial_path.touch()
            self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by _discard
            with deaf_to_ctrl_c():  # ffmpeg ends when we say so
                self._process = subprocess.Popen(
                    [exe, *self._arguments()],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=self._log,
                )
            yield_to_the_loop(self._process.pid)
        except OSError as error:
            self._discard()
            raise EnvError(f"video {self.path}: cannot start: {error}") from error
        if self._thread is None:
            self._thread = RenderThread(self._queue_size)

    def add(self, frame: VideoFrame, overlay: Overlay) -> None:
        """Queue one picture; returns at once unless too many frames that hold pictures wait.

        Raises:
            EnvError: Not started or already ended; an earlier picture could not be rendered or
                written (full disk, dead ffmpeg); or nothing was done for `stall_timeout_s`.
        """
        thread = self._running("add")
        job = partial(self._get, frame, overlay)
        heavy = frame.holds_pictures
        if not thread.submit(job, heavy=heavy, timeout_s=self._stall_timeout_s):
            raise self._stalled()
        self.frames_added += 1

    def no_more(self) -> None:
        """Say that no picture follows: `close` then waits for those of this video alone."""
        if self._thread is not None:
            self._all_in = self._thread.mark()

    def close(self, waiting: Callable[[int], None] | None = None) -> None:
        """Write what is queued and finish the file; later calls do nothing.

        Args:
            waiting: Called a few times a second with the number of pictures left.

        Raises:
            EnvError: Something could not be rendered or written; there is no file then.
        """
        if self._process is None:
            return
        try:
            thread = self._running("close")
            tell = None if waiting is None else lambda: waiting(self.pictures_left)
            if not thread.wait(self._all_in or thread.mark(), self._stall_timeout_s, tell):
                raise self._stalled()
            if self._error is not None:
                raise self._error
            if self.frames_added == 0:
                raise EnvError(f"video {self.path}: no picture was added, there is nothing to play")
            self._finish()
        except BaseException:  # KeyboardInterrupt too: leave no child and no partial file
            self.abort()
            raise
        self._discard()
        size = self.path.stat().st_size
        self.recording = {"frames": self.frames_added, "fps": self.fps, "bytes": size}

    def abort(self) -> None:
        """Stop, and remove what was written; never raises, safe at any time."""
        self._cancelled = True
        if self._process is not None:
            # Killed first, to unblock a thread that is writing to it.
            self._process.kill()
            self._process.wait()
        self._discard()

    def __enter__(self) -> VideoRecorder:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _arguments(self) -> list[str]:
        rate = f"{self.fps:.6g}"
        source = f"-f rawvideo -pix_fmt yuv420p -s {WIDTH}x{HEIGHT} -r {rate} -i pipe:0"
        colour = "-vf setparams=range=tv:colorspace=smpte170m:color_primaries=bt709:color_trc=bt709"
        # A key frame every 2 s makes seeking fast. One thread, because runs use a process per core.
        key = max(1, round(2 * self.fps))
        preset, quality = _CODING[self.size]
        coder = f"-c:v libx264 -preset {preset} -crf {quality} -g {key} -threads 1"
        words = f"-hide_banner -loglevel error -y {source} {colour} {coder} -movflags +faststart"
        return [*words.split(), "-f", "mp4", str(self.partial_path)]

    def _running(self, what: str) -> RenderThread:
        if self._error is not None:
            raise self._error
        if self._cancelled or self._process is None or self._thread is None:
            raise EnvError(f"video {self.path}: cannot {what}, it is not being recorded")
        return self._thread

    @property
    def pictures_left(self) -> int:
        """Pictures that are not encoded yet."""
        return self.frames_added - self._frames_encoded

    def _stalled(self) -> EnvError:
        return EnvError(
            f"video {self.path}: no picture was taken for {self._stall_timeout_s:g} s; the "
            "renderer or ffmpeg hangs; run with --no-video to go on without"
        )

    def _get(self, frame: VideoFrame, overlay: Overlay) -> Callable[[], None]:
        """Get one step's views, on the first thread; the second then calls `_encode`."""
        if self._cancelled or self._error is not None:
            return _nothing
        try:
            return partial(self._encode, frame.redeem(), overlay)
        except Exception as error:  # noqa: BLE001 - raised in the loop by the next call
            self._error = self._not_made(overlay, error)
            return _nothing

    def _encode(self, views: Mapping[View, UInt8Array], overlay: Overlay) -> None:
        """Compose and write one picture; keep the first error."""
        if self._cancelled or self._error is not None:
            return
        process, painter = self._process, self._painter
        if process is None or process.stdin is None or painter is None:
            return
        try:
            picture = painter.to_yuv420(painter.compose(views, overlay))
        except Exception as error:  # noqa: BLE001 - raised in the loop by the next call
            self._error = self._not_made(overlay, error)
            return
        try:
            process.stdin.write(picture.data)
            self._frames_encoded += 1
        except (OSError, ValueError) as error:  # ValueError: an abort closed the pipe
            if not self._cancelled:
                self._error = self._ffmpeg_failed(process, error)

    def _not_made(self, overlay: Overlay, cause: Exception) -> EnvError:
        error = EnvError(
            f"video {self.path}: the picture of step {overlay.step} could not be made: "
            f"{cause or type(cause).__name__}"
        )
        error.__cause__ = cause
        return error

    def _finish(self) -> None:
        """Let ffmpeg write the index, then make the file durable and rename it into place."""
        process = self._process
        if process is None or process.stdin is None:
            return
        broken: OSError | None = None
        try:
            process.stdin.close()
        except OSError as error:
            broken = error
        if broken is not None:
            raise self._ffmpeg_failed(process, broken)
        try:
            status = process.wait(self._stall_timeout_s)
        except subprocess.TimeoutExpired as error:
            raise self._stalled() from error
        if status != 0:
            raise self._ffmpeg_failed(process, None)
        try:
            with self.partial_path.open("rb") as stream:
                os.fsync(stream.fileno())
            self.partial_path.replace(self.path)
        except OSError as error:
            raise EnvError(f"video {self.path}: cannot be put in its place: {error}") from error

    def _ffmpeg_failed(
        self, process: subprocess.Popen[bytes], seen: BaseException | None
    ) -> EnvError:
        """Build an error from ffmpeg's output, with a cause that tells a full disk."""
        try:
            # The pipe may break shortly before the process has an exit status.
            status: object = process.wait(5.0)
        except subprocess.TimeoutExpired:
            status = "still running"
        said = self._stderr() or "it said nothing"
        error = EnvError(
            f"video {self.path}: ffmpeg ended with status {status}: {said}; is the disk full? "
            "Free some space and --resume, or run with --no-video"
        )
        full = os.strerror(errno.ENOSPC)  # only in ffmpeg's output: here it is a broken pipe
        error.__cause__ = OSError(errno.ENOSPC, full) if full in said else seen
        return error

    def _stderr(self) -> str:
        if self._log is None or self._log.closed:
            return ""
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return " / ".join(lines[-3:])

    def _discard(self) -> None:
        """Release thread, pipe, log and partial file, as far as they exist."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):  # unsent bytes, and ffmpeg is gone
                process.stdin.close()
        if self._own_thread and self._thread is not None:
            self._thread.close()
            self._thread = None
        if self._log is not None:
            self._log.close()
        self._painter = None
        self.partial_path.unlink(missing_ok=True)


def _nothing() -> None:
    """What is left of a picture that nobody waits for."""
