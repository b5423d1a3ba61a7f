"""GR00T's server and client written from the protocol's text alone: pyzmq and msgpack, not ours.

REQ and REP sockets; a map {"endpoint", "data", "api_token"} each way up, a result or {"error"} each
way down; arrays as .npy files, modality configs as maps. The robot's names are typed from the text.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np
import zmq

DIMENSIONS = {
    "robot_pos": 3, "robot_ori_cos": 3, "robot_ori_sin": 3, "robot_2d_ori": 1,
    "robot_2d_ori_cos": 1, "robot_2d_ori_sin": 1, "robot_lin_vel": 3, "robot_ang_vel": 3,
    "arm_left_qpos": 7, "arm_left_qpos_sin": 7, "arm_left_qpos_cos": 7, "eef_left_pos": 3,
    "eef_left_quat": 4, "gripper_left_qpos": 2, "arm_right_qpos": 7, "arm_right_qpos_sin": 7,
    "arm_right_qpos_cos": 7, "eef_right_pos": 3, "eef_right_quat": 4, "gripper_right_qpos": 2,
    "trunk_qpos": 4,
}  # fmt: skip
"""The 82 numbers."""
PICTURES = tuple(
    f"observation.images.rgb.{view}_256_256" for view in ("head", "left_wrist", "right_wrist")
)
PARTS = {
    "base": (0, 3), "torso": (3, 7), "left_arm": (7, 14), "left_gripper": (14, 15),
    "right_arm": (15, 22), "right_gripper": (22, 23),
}  # fmt: skip
WORDS = "annotation.human.coarse_action"
WAIT_MS = 20_000


def encode(value: Any) -> bytes:
    def default(found: Any) -> Any:
        if not isinstance(found, np.ndarray):
            raise TypeError(type(found))
        file = io.BytesIO()
        np.save(file, found, allow_pickle=False)
        return {"__ndarray_class__": True, "as_npy": file.getvalue()}

    return msgpack.packb(value, default=default)


def decode(data: bytes) -> Any:
    def hook(found: dict[str, Any]) -> Any:
        if "__ndarray_class__" in found:
            return np.load(io.BytesIO(found["as_npy"]), allow_pickle=False)
        if "__ModalityConfig_class__" in found:
            return found["as_json"]
        return found

    return msgpack.unpackb(data, object_hook=hook)


def config_of(
    *,
    video: Any = PICTURES,
    state: Any = tuple(DIMENSIONS),
    action: Any = tuple(PARTS),
    rows: int = 32,
    steps: dict[str, list[int]] | None = None,
) -> dict[str, Any]:
    """A modality config; `steps` replaces those of some modalities."""
    named = {"video": video, "state": state, "action": action, "language": (WORDS,)}
    usual = {"video": [0], "state": [0], "action": list(range(rows)), "language": [0]}
    steps = usual | (steps or {})
    return {
        name: {
            "__ModalityConfig_class__": True,
            "as_json": {
                "delta_indices": steps[name], "modality_keys": list(keys),
                "sin_cos_embedding_keys": None, "action_configs": None,
            },
        }
        for name, keys in named.items()
    }  # fmt: skip


def action_of(rows: Any, *, flat: bool = True) -> dict[str, Any]:
    """The parts of float32 [B, T, 23]."""
    lead = "action." if flat else ""
    return {f"{lead}{name}": rows[..., a:b] for name, (a, b) in PARTS.items()}


class GoesError(Exception):
    """Raised by a script: the socket closes without an answer, until `start`."""


class HangsError(Exception):
    """Raised by a script: no answer until `released`, and the socket stays."""


@dataclass
class Gr00tServer:
    """One REP socket on a thread.

    Attributes:
        script: From an observation to the answer; raw bytes go as they are; or raises.
        wrapped: With the wrapper for simulations: flat keys, or else an error, as theirs has it.
        config: Answer to `get_modality_config`.
        token: Wanted in every request; None for nobody's.
        back: Whether the socket is made anew at once after `GoesError`.
        on_reset: Answer to `reset`.
        listening: Set while the socket is bound.
        requests: Every request, decoded, in order.
    """

    script: Callable[[Any], Any]
    wrapped: bool = True
    config: Any = field(default_factory=config_of)
    token: str | None = None
    back: bool = True
    on_reset: Any = field(default_factory=dict)
    port: int = 0
    requests: list[Any] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    stopping: threading.Event = field(default_factory=threading.Event)
    listening: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        return f"gr00t://127.0.0.1:{self.port}"

    @property
    def endpoints(self) -> list[str]:
        return [request["endpoint"] for request in self.requests]

    @property
    def observations(self) -> list[Any]:
        return [r["data"]["observation"] for r in self.requests if r["endpoint"] == "get_action"]

    def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        ready = threading.Event()
        self.stopping.clear()
        self._thread = threading.Thread(target=self._serve, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(20)

    def stop(self) -> None:
        self.stopping.set()
        self.released.set()
        if self._thread is not None:
            self._thread.join(20)

    def _serve(self, ready: threading.Event) -> None:
        context = zmq.Context()
        again = True
        while again:
            again = False
            socket = context.socket(zmq.REP)
            socket.setsockopt(zmq.LINGER, 0)
            self._bind(socket)
            self.port = int(socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
            ready.set()
            self.listening.set()
            try:
                while not self.stopping.is_set():
                    if socket.poll(20):
                        frame = socket.recv()
                        self.frames.append(frame)
                        answer = self._answer(decode(frame))
                        socket.send(answer if isinstance(answer, bytes) else encode(answer))
            except GoesError:
                self.listening.clear()
                again = self.back
            except HangsError:
                self.released.wait(20)
            finally:
                socket.close(linger=0)
        context.term()

    def _bind(self, socket: zmq.Socket[bytes]) -> None:
        """Bind; the socket before may still be closing, in ZeroMQ's own thread."""
        for _ in range(1000):
            try:
                socket.bind(f"tcp://127.0.0.1:{self.port or '*'}")
            except zmq.ZMQError:
                self.stopping.wait(0.01)
            else:
                return
        raise AssertionError("the port does not become free")

    def _answer(self, request: Any) -> Any:
        self.requests.append(request)
        if self.token is not None and request.get("api_token") != self.token:
            return {"error": "Unauthorized: Invalid API token"}
        endpoint = request["endpoint"]
        if endpoint == "ping":
            return {"status": "ok"}
        if endpoint == "get_modality_config":
            return self.config
        if endpoint == "reset":
            assert list(request["data"]) == ["options"]
            return self.on_reset
        assert endpoint == "get_action", endpoint
        observation = request["data"]["observation"]
        for key in ["state.trunk_qpos"] if self.wrapped else ["video", "state", "language"]:
            if key not in observation:
                return {"error": f"Observation must contain a '{key}' key"}
        return self.script(observation)


@contextmanager
def gr00t_server(script: Callable[[Any], Any], **fields: Any) -> Iterator[Gr00tServer]:
    server = Gr00tServer(script, **fields)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class Gr00tClient:
    """One REQ socket."""

    def __init__(self, address: str, token: str | None = None) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.REQ)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(address.replace("gr00t://", "tcp://"))
        self._token = token

    def __enter__(self) -> Gr00tClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close(linger=0)
        self._context.term()

    def call(self, endpoint: str, data: Any = None) -> Any:
        request = {"endpoint": endpoint}
        if data is not None:
            request["data"] = data
        if self._token is not None:
            request["api_token"] = self._token
        return decode(self.raw(encode(request)))

    def raw(self, message: bytes) -> bytes:
        self._socket.send(message)
        assert self._socket.poll(WAIT_MS), "no answer"
        return self._socket.recv()

    def action(self, observation: Any) -> Any:
        return self.call("get_action", {"observation": observation, "options": None})


def observation_of(
    worlds: int = 1, *, flat: bool = True, task: str = "Clean boxing gloves."
) -> Any:
    """What their evaluator sends of the state they name, with pictures that differ."""
    video = {
        key: np.full((worlds, 1, 256, 256, 3), 10 * (1 + n), np.uint8)
        for n, key in enumerate(PICTURES)
    }
    state = {
        name: np.full((worlds, 1, size), 0.01 * n, np.float32)
        for n, (name, size) in enumerate(DIMENSIONS.items())
    }
    if not flat:
        return {"video": video, "state": state, "language": {WORDS: [[task]] * worlds}}
    return {
        **{f"video.{key}": array for key, array in video.items()},
        **{f"state.{name}": array for name, array in state.items()},
        WORDS: [task] * worlds,
    }
