"""How many pictures a video has and how many a second, from its index; nothing is decoded.

Which control step a picture shows follows from both: `step_of_frame`, `frame_of_step`. Picture n of
a recording is that of step n * every, with `every` control steps between two; the last one of an
episode that was scored is that of the last step, whichever that is (`b1k_eval.video.subscriber`).

Boxes: ISO/IEC 14496-12.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from b1k_envs.errors import B1kEvalError
from b1k_envs.r1pro import CONTROL_HZ

_MAX_INDEX_BYTES = 64 * 1024 * 1024
_INSIDE = ("moov", "trak", "mdia", "minf", "stbl")


class DamagedVideoError(B1kEvalError):
    """A video that will not play: torn off, or none at all."""


@dataclass(frozen=True, kw_only=True)
class VideoIndex:
    """What the index of a video says.

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


def step_of_frame(frame: int, every: int, steps: int) -> int:
    """Control step that a picture shows; 0 is the state before the first."""
    return min(frame * every, steps)


def frame_of_step(step: int, every: int, steps: int, frames: int) -> int:
    """Picture that shows a control step, or the last one before it."""
    return frames - 1 if step >= steps else min(step // every, frames - 1)


def read_index(path: Path) -> VideoIndex:
    """Read the index of an mp4.

    Raises:
        DamagedVideoError: It is none, its index is missing, or its end is.
    """
    try:
        with path.open("rb") as file:
            return _read(file, path)
    except (OSError, struct.error) as error:
        raise DamagedVideoError(f"{path} cannot be read ({error})") from error


def _read(file: BinaryIO, path: Path) -> VideoIndex:
    size = path.stat().st_size
    index: bytes | None = None
    position = 0
    while position + 8 <= size:
        file.seek(position)
        length, kind, head = _header(file.read(16))
        if length < head or position + length > size:
            raise DamagedVideoError(f"{path} is torn off: {size} bytes, its end is missing")
        if kind == "moov":
            if length > _MAX_INDEX_BYTES:
                raise DamagedVideoError(f"{path} has an index of {length} bytes")
            file.seek(position)
            index = file.read(length)
        position += length
    if index is None:
        raise DamagedVideoError(f"{path} is no mp4, or has no index")
    for track in _tracks(index):
        if b"vide" in track.get("hdlr", b"")[8:12]:
            return _rate(track, path)
    raise DamagedVideoError(f"{path} has no video track")


def _rate(track: dict[str, bytes], path: Path) -> VideoIndex:
    if "mdhd" not in track or "stts" not in track:
        raise DamagedVideoError(f"{path} has an index without times")
    media = track["mdhd"]
    (timescale,) = struct.unpack_from(">I", media, 20 if media[0] == 1 else 12)
    (entries,) = struct.unpack_from(">I", track["stts"], 4)
    runs = [struct.unpack_from(">II", track["stts"], 8 + 8 * i) for i in range(entries)]
    frames = sum(count for count, _ in runs)
    duration = sum(count * delta for count, delta in runs)
    if not frames or not duration:
        raise DamagedVideoError(f"{path} has no pictures")
    return VideoIndex(frames=frames, fps=frames * timescale / duration)


def _tracks(index: bytes) -> list[dict[str, bytes]]:
    """Of each track, the boxes in it by their kind."""
    tracks: list[dict[str, bytes]] = []

    def walk(data: bytes) -> None:
        for kind, content in _boxes(data):
            if kind == "trak":
                tracks.append({})
            if kind in _INSIDE:
                walk(content)
            elif tracks:
                tracks[-1].setdefault(kind, content)

    walk(index)
    return tracks


def _boxes(data: bytes) -> Iterator[tuple[str, bytes]]:
    position = 0
    while position + 8 <= len(data):
        length, kind, head = _header(data[position : position + 16])
        if length < head:
            return
        yield kind, data[position + head : position + length]
        position += length


def _header(data: bytes) -> tuple[int, str, int]:
    """Length of a box, its kind, and the length of this header."""
    length, kind = struct.unpack_from(">I4s", data)
    if length == 1:
        return int(struct.unpack_from(">Q", data, 8)[0]), kind.decode("latin-1"), 16
    return int(length), kind.decode("latin-1"), 8
