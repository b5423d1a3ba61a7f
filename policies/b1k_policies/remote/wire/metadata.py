"""A server's metadata: any map, with an entry of their own from servers of ours."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from b1k_envs.errors import UnavailableError
from b1k_policies.base import ResizeFilter, Resizing
from b1k_policies.remote.wire import keys
from b1k_policies.remote.wire.limits import WireError

VERSION = 1
"""Version of what is under `keys.EXTENSION` in all messages."""

_LONGEST_CHUNK = 10_000
_LARGEST_PICTURE = 4096
_LONGEST_TEXT = 2000

Images = Literal["native", "none"] | Resizing
"""The pictures a server wants: as the cameras give them, none, or resized."""


@dataclass(frozen=True, kw_only=True)
class ServerInfo:
    """What a server of ours says about itself.

    Attributes:
        name: Name of its policy.
        chunk_length: Rows of its chunks; a client may ask for as many or fewer.
        skipped_rows: As in `Policy`.
        images: The pictures to send.
        remarks: As in `Policy`.
    """

    name: str
    chunk_length: int
    skipped_rows: int = 0
    images: Images = "native"
    remarks: tuple[str, ...] = ()

    def as_metadata(self) -> dict[str, Any]:
        """Return the metadata to send; `read_info` is the inverse."""
        images: Any = self.images
        if isinstance(images, Resizing):
            images = {
                "size": [images.size, images.size],
                "filter": images.filter,
                "antialias": images.antialias,
            }
        return {
            keys.EXTENSION: {
                "protocol_version": VERSION,
                "episode": True,
                "name": self.name,
                "chunk_length": self.chunk_length,
                "skipped_rows": self.skipped_rows,
                "images": images,
                "remarks": list(self.remarks),
            }
        }


def read_info(metadata: object) -> ServerInfo | None:
    """Read what a server of ours says about itself; None for any other server.

    Raises:
        UnavailableError: It speaks another version than this client.
        WireError: The metadata is not a map, or a figure is not valid.
    """
    if not isinstance(metadata, dict):
        raise WireError(f"a server's metadata must be a map, got {type(metadata).__name__}")
    block = metadata.get(keys.EXTENSION)
    if block is None:
        return None
    if not isinstance(block, dict):
        raise _wrong("its own map", block)
    version = block.get("protocol_version")
    if type(version) is not int or version != VERSION:
        raise UnavailableError(
            f"the server speaks version {ascii(block.get('protocol_version'))[:20]} of b1k-eval's "
            f"own protocol, this client version {VERSION}: install the same b1k-eval on both sides"
        )
    remarks = block.get("remarks", [])
    if not isinstance(remarks, list) or not all(isinstance(text, str) for text in remarks):
        raise _wrong("remarks", remarks)
    if block.get("episode") is not True:
        raise _wrong("episode", block.get("episode"))
    name = block.get("name")
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= 200:
        raise _wrong("name", name)
    return ServerInfo(
        name=name,
        chunk_length=_whole(block, "chunk_length", 1, _LONGEST_CHUNK),
        skipped_rows=_whole(block, "skipped_rows", 0, _LONGEST_CHUNK),
        images=_images(block.get("images")),
        remarks=tuple(_printable(text[:_LONGEST_TEXT]) for text in remarks),
    )


def json_value(found: Any) -> Any:  # noqa: ANN401 - whatever a server says
    """Return metadata for run.json: arrays and bytes as hashes, numbers not in JSON as texts."""
    if isinstance(found, dict):
        return {str(key): json_value(value) for key, value in found.items()}
    if isinstance(found, list):
        return [json_value(value) for value in found]
    if isinstance(found, bytes):
        return f"{len(found)} bytes, sha256 {hashlib.sha256(found).hexdigest()}"
    if isinstance(found, np.ndarray):
        digest = hashlib.sha256(found.tobytes()).hexdigest()
        return f"{found.dtype} {list(found.shape)}, sha256 {digest}"
    value = found.item() if isinstance(found, np.generic) else found
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _printable(text: str) -> str:
    """Return a text without control characters, which a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _whole(block: dict[Any, Any], name: str, least: int, most: int) -> int:
    found = block.get(name)
    if type(found) is not int or not least <= found <= most:
        raise _wrong(name, found)
    return found


def _images(found: object) -> Images:
    if isinstance(found, str) and found == "native":
        return "native"
    if isinstance(found, str) and found == "none":
        return "none"
    if not isinstance(found, dict) or set(found) != {"size", "filter", "antialias"}:
        raise _wrong("images", found)
    size, antialias = found["size"], found["antialias"]
    whole = isinstance(size, list) and len(size) == 2 and all(type(n) is int for n in size)
    if not whole or size[0] != size[1] or not 1 <= size[0] <= _LARGEST_PICTURE:
        raise _wrong("images.size", size)
    for name in get_args(ResizeFilter):
        if type(found["filter"]) is str and found["filter"] == name and isinstance(antialias, bool):
            return Resizing(size=size[0], filter=name, antialias=antialias)
    raise _wrong("images.filter or images.antialias", found)


def _wrong(name: str, found: object) -> WireError:
    return WireError(
        f"the server's metadata has {str(found)[:60]!r} for {name} under {keys.EXTENSION!r}, "
        "which cannot be meant"
    )
