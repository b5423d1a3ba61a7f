"""A client written from the protocol's text alone: websockets and msgpack, nothing of ours.

What an evaluator of each generation sends is made here by hand: keys, dtypes and shapes as the
2025 evaluator (no leading dimension), v3.9.0 to v3.9.2 (the same, 61 numbers), and v3.9.3 and later
(a leading dimension of the envs) have them.
"""

from __future__ import annotations

import http.client
import socket
import struct
from urllib.parse import urlsplit

import msgpack
import numpy as np
from websockets.sync.client import connect

CAMERAS = (("zed_link", 720), ("left_realsense_link", 480), ("right_realsense_link", 480))
PROPRIO = {"2025": 256, "2026": 61}
OPENING = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SMALL = {"size": 32}
"""Pictures where their size is not the point."""


def encode(value):
    if isinstance(value, np.ndarray):
        return {
            b"__ndarray__": True,
            b"data": value.tobytes(),
            b"dtype": value.dtype.str,
            b"shape": value.shape,
        }
    raise TypeError(type(value))


def decode(found):
    if b"__ndarray__" in found:
        array = np.frombuffer(found[b"data"], dtype=found[b"dtype"])
        return array.reshape(found[b"shape"])
    return found


def pack(message):
    return msgpack.packb(message, default=encode)


def unpack(data):
    return msgpack.unpackb(data, object_hook=decode, strict_map_key=False)


def observation(year, *, size=None, channels=4, envs=None, seed=0, task=31, **more):
    """As the evaluator of that year sends it.

    Args:
        year: 2025 or 2026.
        size: Of the pictures; None for the native ones.
        channels: 4 for RGBA, 3 for RGB.
        envs: Leading dimension; None for none.
        seed: Of the numbers.
        task: `task_id`.
        more: Further keys.
    """
    random = np.random.default_rng(seed)
    lead = () if envs is None else (envs,)
    message = {}
    for link, native in CAMERAS:
        side = size or native
        picture = np.full((*lead, side, side, channels), 255, np.uint8)
        picture[..., :3] = random.integers(0, 256, (*lead, 1, 1, 3), np.uint8)
        message[f"robot_r1::robot_r1:{link}:Camera:0::rgb"] = picture
    proprio = random.uniform(0, 0.05, (*lead, PROPRIO[year])).astype(np.float32)
    pose = np.tile(np.array([0, 0, 1, 0, 0, 0, 1], np.float32), 3)
    message["robot_r1::proprio"] = proprio
    message["robot_r1::cam_rel_poses"] = np.broadcast_to(pose, (*lead, 21)).copy()
    message["task_id"] = np.full((*lead, 1), task, np.int64)
    return {**message, **more}


def opened_socket(url):
    """A TCP connection that has become a WebSocket; nobody reads or answers on it by itself."""
    place = urlsplit(url)
    raw = socket.create_connection((place.hostname, place.port), timeout=30)
    raw.sendall(OPENING)
    found = b""
    while b"\r\n\r\n" not in found:
        found += raw.recv(1024)
    return raw


def frame(data, code=0x82):
    """One masked frame; a mask of zeros changes nothing. Default: a whole binary message."""
    return struct.pack(">BBQI", code, 0xFF, len(data), 0) + data


class RawClient:
    """One connection; as strict about the protocol's order as the evaluator's own client."""

    def __init__(self, url, api_key=None, **options):
        headers = {"Authorization": f"Api-Key {api_key}"} if api_key is not None else {}
        self._opened = connect(
            url, compression=None, max_size=None, additional_headers=headers, **options
        )
        self.socket = self._opened.__enter__()
        self.metadata = unpack(self.socket.recv(timeout=20))

    def reset(self, **more):
        self.socket.send(pack({"reset": True, **more}))

    def ask(self, message):
        self.socket.send(pack(message))
        return self.answer()

    def answer(self):
        data = self.socket.recv(timeout=60)
        return data if isinstance(data, str) else unpack(data)

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def get(url, path, **headers):
    """Status and body of a plain HTTP request to a server's port."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=20)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    try:
        return answer.status, answer.read()
    finally:
        connection.close()
