"""Messages for `fuzz_wire`: valid ones to begin with, and ways to change them.

libFuzzer changes bytes. Besides, a message is read as a tree (by the msgpack package, so that no
rule of our codec is in the way), changed there, and written again. So it stays a message, and code
behind the codec is reached.
"""

from __future__ import annotations

import copy
import math
import random
import struct
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np

if TYPE_CHECKING:
    from b1k_envs.base import Observation, ProtocolYear

NEXT = b"\xc1next\xc1"
"""Separates two messages of a sequence; msgpack never uses the byte 0xc1."""
TEXT = b"\xc1text\xc1"
"""Precedes a message that is sent as a text."""
MOST_MESSAGES = 8


def messages_of(data: bytes) -> list[bytes | str]:
    """Return the messages of an input; any bytes give some."""
    parts = data.split(NEXT)[:MOST_MESSAGES]
    return [
        part.removeprefix(TEXT).decode("utf-8", "replace") if part.startswith(TEXT) else part
        for part in parts
    ]


def sequence(*messages: bytes) -> bytes:
    """Return the input with these messages."""
    return NEXT.join(messages)


# --- honest ones ----------------------------------------------------------------------------------


def tiny_observation(protocol: ProtocolYear) -> Observation:
    """Return an observation with pictures of 2 x 2 px."""
    from b1k_envs.base import VIEWS, Observation
    from b1k_envs.r1pro import PROPRIO_DIM
    from b1k_policies.remote.wire.observations import camera_poses

    poses = np.array([0.1, 0.2, 0.3, 0, 0, 0, 1] * 3, np.float32)
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    return Observation(
        images=MappingProxyType(dict.fromkeys(VIEWS, picture)),
        camera_to_base=camera_poses(poses),
        cam_rel_poses=poses,
        proprio=np.linspace(0, 1, PROPRIO_DIM[protocol], dtype=np.float32),
        protocol=protocol,
        task_index=31,
        step=0,
        time=0.0,
    )


def honest_observation(
    protocol: ProtocolYear = "2026",
    *,
    envs: int | None = 1,
    **more: Any,  # noqa: ANN401 - options of `to_wire`
) -> dict[str, Any]:
    """Return an observation as an evaluator sends it; `envs` is the leading dimension."""
    from b1k_policies.remote.wire.messages import to_wire

    message = to_wire(tiny_observation(protocol), batch=envs is not None, **more)
    if envs in (None, 1):
        return message
    return {
        key: np.repeat(value, envs, axis=0) if isinstance(value, np.ndarray) else value
        for key, value in message.items()
    }


def observations() -> list[bytes]:
    """Return observations of every generation, as evaluators and our own client send them."""
    from b1k_policies.remote.wire.codec import pack

    return [
        pack(honest_observation("2025", envs=None)),
        pack(honest_observation("2026", envs=None, channels="rgb")),
        pack(honest_observation("2026", rows=4)),
        pack(honest_observation("2026", rows=3, channels="rgb", extended=True)),
        pack(honest_observation("2025", envs=2, rows=9)),
        pack({**honest_observation("2026", envs=None), "task_id": np.int64(31)}),
    ]


def resets() -> list[bytes]:
    """Return resets as evaluators and our own client send them."""
    from b1k_policies.remote.wire.codec import pack
    from b1k_policies.remote.wire.messages import Announcement, reset_message

    told = Announcement(seed=5, instance=2, rollout=1, inference=3, step=40)
    return [pack(reset_message()), pack(reset_message(told))]


def answers() -> list[bytes]:
    """Return one action, a chunk of 3, the same from a server of ours, and reports of faults."""
    from b1k_policies.base import ActionChunk, Skill
    from b1k_policies.remote.wire.codec import pack
    from b1k_policies.remote.wire.messages import answer_message

    rows = np.linspace(-1, 1, 3 * 23, dtype=np.float32).reshape(1, 3, 23)
    skill = Skill(index=2, name="wipe", probability=0.5)
    said = ActionChunk(actions=rows[0], skill=skill, progress=0.25)
    timing = {"infer_ms": 12.5, "prev_total_ms": 80.0}
    return [
        pack(answer_message(rows[:, 0], batched=False)),
        pack(answer_message(rows[:, 0], batched=True, timing=timing)),
        pack(answer_message(rows[:, 0], rows, batched=True, timing=timing)),
        pack(answer_message(rows[:, 0], rows, batched=False, timing=timing, said=said)),
        TEXT + b"policy_error: the policy failed on this observation; the server's log says why",
        TEXT + b"Traceback (most recent call last):\n  File\nValueError: no",
    ]


def greetings() -> list[bytes]:
    """Return metadata of our servers and of others."""
    from b1k_policies.base import Resizing
    from b1k_policies.remote.wire.codec import pack
    from b1k_policies.remote.wire.metadata import ServerInfo

    resizing = Resizing(size=224, filter="bilinear", antialias=True)
    return [
        pack({}),
        pack({"policy": "pi0", "horizon": 10, "shape": np.zeros(2), "rate": np.float16(0.5)}),
        pack(ServerInfo(name="hold", chunk_length=3, remarks=("slow",)).as_metadata()),
        pack(ServerInfo(name="v17", chunk_length=30, images=resizing).as_metadata()),
        pack(ServerInfo(name="v4", chunk_length=1, images="none").as_metadata()),
    ]


def seeds(target: str) -> list[bytes]:
    """Return the inputs to begin with."""
    from b1k_policies.remote.wire.codec import pack

    asked, began, answered, greeted = observations(), resets(), answers(), greetings()
    if target == "codec":
        return [*asked, *began, *answered[:4], *greeted]
    if target == "server":
        pairs = [sequence(reset, one) for reset in began for one in asked]
        return [*asked, *pairs, sequence(asked[2], asked[2], began[0], asked[3]), TEXT + b"hello"]
    nothing = pack({"observation": 1})  # no action: a client asks again, twice
    return [
        *(sequence(hello, answer, answer) for hello in greeted for answer in answered),
        *(sequence(hello, nothing, nothing, nothing) for hello in greeted),
    ]


# --- trees ----------------------------------------------------------------------------------------


class Pairs(list[Any]):
    """A map as a list of [key, value], so that a key may come twice or be of any type."""


_PACKER = msgpack.Packer(unicode_errors="surrogateescape")


def read_tree(data: bytes) -> Any:  # noqa: ANN401 - any message
    """Read the tree of a message.

    Raises:
        ValueError: It is not a message.
    """
    try:
        return msgpack.unpackb(
            data,
            object_pairs_hook=lambda pairs: Pairs(map(list, pairs)),
            strict_map_key=False,
            unicode_errors="surrogateescape",
        )
    except (msgpack.UnpackException, OverflowError, TypeError) as error:
        raise ValueError(str(error)) from error


def written(node: Any) -> bytes:  # noqa: ANN401 - any message
    """Write a tree as a message."""
    if isinstance(node, Pairs):
        inner = b"".join(written(part) for pair in node for part in pair)
        return bytes(_PACKER.pack_map_header(len(node))) + inner
    if isinstance(node, list):
        return bytes(_PACKER.pack_array_header(len(node))) + b"".join(map(written, node))
    return bytes(_PACKER.pack(node))


_WORDS: Sequence[Any] = (
    *(None, True, False, 0, 1, 2, 3, 4, 23, 61, 256, 31, -1, -2, 127, 128, 255, 256, 720),
    *(2**31 - 1, 2**31, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**31), -(2**63)),
    *(0.0, -0.0, 0.5, 1.0, -1.0, 1e-45, 3.5e38, 1e300, math.nan, math.inf, -math.inf),
    *("", "x", "native", "none", "bilinear", "bicubic", "nearest", "\x1b[2J", "\u202e"),
    *("\U0001f9fc", b"", b"x", b"\0" * 64, b"\xff" * 92, [], [1], [2, 2], Pairs()),
    *("x" * 300, b"x" * 300, [0] * 70, msgpack.ExtType(5, b"x"), msgpack.Timestamp(1, 2)),
)  # fmt: skip
_KEYS: Sequence[Any] = (
    *("reset", "action", "action_chunk", "__action_chunk_size__", "server_timing", "b1k_eval"),
    *("seed", "instance", "rollout", "inference", "step", "camera_to_base", "task_id"),
    *("robot_r1::proprio", "robot_r1::cam_rel_poses", "robot_r1::robot_r1:zed_link:Camera:0::rgb"),
    *("skill", "progress", "index", "name", "probability", "protocol_version", "episode"),
    *("chunk_length", "skipped_rows", "images", "remarks", "size", "filter", "antialias"),
    *(b"__ndarray__", b"__npgeneric__", b"__torch__", b"data", b"dtype", b"shape", "", 0, None),
)
_SIZES: dict[str, int] = {
    **{"|u1": 1, "|i1": 1, "|b1": 1, "<f2": 2, ">i2": 2, "<i4": 4, "<f4": 4, ">f4": 4, "<f8": 8},
    **{"<i8": 8, ">f8": 8, "<u8": 8, "|O": 8, "|V8": 8, "<c8": 8, "<U1": 4, "|S1": 1, "f4,f4": 8},
    **{"<M8[s]": 8, "<f16": 16, "float32": 4, "torch.float32": 4, "uint8": 1, "": 1},
}


def _array(dtype: str, shape: Sequence[int], data: bytes | None = None) -> Pairs:
    count = math.prod(shape) * _SIZES[dtype]
    filled = bytes(count) if data is None else (data * (count // max(len(data), 1) + 1))[:count]
    marker = b"__torch__" if dtype in ("float32", "torch.float32", "uint8") else b"__ndarray__"
    return Pairs([[marker, True], [b"data", filled], [b"dtype", dtype], [b"shape", list(shape)]])


def _slots(root: list[Any]) -> list[tuple[list[Any], int]]:
    """List every place in a tree that holds a value or a key."""
    found: list[tuple[list[Any], int]] = []
    waiting = [root]
    while waiting:
        node = waiting.pop()
        for at, inner in enumerate(node):
            if not isinstance(node, Pairs):  # a pair itself is not a value
                found.append((node, at))
            if isinstance(inner, list):
                waiting.append(inner)
    return found


def _is_array(node: object) -> bool:
    return isinstance(node, Pairs) and {b"data", b"dtype", b"shape"} <= {
        pair[0] for pair in node if isinstance(pair[0], bytes)
    }


class _Change:
    """A random change of a tree."""

    def __init__(self, chance: random.Random, root: list[Any]) -> None:
        self._chance = chance
        self._root = root
        self._slots = _slots(root)

    def make(self) -> None:
        arrays = [(node, at) for node, at in self._slots if _is_array(node[at])]
        if arrays and self._chance.random() < 0.5:
            node, at = self._chance.choice(arrays)
            node[at] = self._changed_array(node[at])
            return
        changes: tuple[Callable[[], None], ...] = (
            self._word, self._alike, self._number, self._array, self._copy, self._wrap,
            self._drop, self._twice, self._add, self._rename,
        )  # fmt: skip
        self._chance.choice(changes)()

    def _any(self) -> tuple[list[Any], int]:
        return self._chance.choice(self._slots)

    def _maps(self) -> list[Pairs]:
        return [node[at] for node, at in self._slots if isinstance(node[at], Pairs)]

    def _new(self) -> Any:  # noqa: ANN401 - any value
        if self._chance.random() < 0.2:
            shape = self._chance.choice([(), (1,), (2,), (23,), (1, 23), (0,), (2, 2), (1, 3, 23)])
            return _array(self._chance.choice([*_SIZES]), shape, self._chance.randbytes(8))
        return copy.deepcopy(self._chance.choice(_WORDS))

    def _word(self) -> None:
        node, at = self._any()
        node[at] = self._new()

    def _number(self) -> None:
        slots = [(n, at) for n, at in self._slots if type(n[at]) in (int, float)]
        for node, at in slots and [self._chance.choice(slots)]:
            found = node[at] + self._chance.choice([-1, 1, -10, 1000])
            node[at] = found if isinstance(found, float) else min(max(found, -(2**63)), 2**64 - 1)

    def _array(self) -> None:
        node, at = self._any()
        if type(node[at]) in (int, float):
            node[at] = _array("<f8", (self._chance.randint(0, 3),), struct.pack("<d", node[at]))
        else:
            node[at] = _array("<f4", (23,))

    def _alike(self) -> None:
        node, at = self._any()
        words = [word for word in _WORDS if type(word) is type(node[at])]
        if words:
            node[at] = copy.deepcopy(self._chance.choice(words))

    def _copy(self) -> None:
        (node, at), (other, there) = self._any(), self._any()
        node[at] = copy.deepcopy(other[there])

    def _wrap(self) -> None:
        node, at = self._any()
        for _ in range(self._chance.choice([1, 1, 2, 20])):
            inner = node[at]
            node[at] = [inner] if self._chance.random() < 0.5 else Pairs([["x", inner]])

    def _drop(self) -> None:
        maps = self._maps()
        if maps and (found := self._chance.choice(maps)):
            del found[self._chance.randrange(len(found))]

    def _twice(self) -> None:
        maps = self._maps()
        if maps and (found := self._chance.choice(maps)):
            found.append(copy.deepcopy(self._chance.choice(found)))

    def _add(self) -> None:
        maps = self._maps()
        if maps:
            self._chance.choice(maps).append([self._chance.choice(_KEYS), self._new()])

    def _rename(self) -> None:
        maps = self._maps()
        if maps and (found := self._chance.choice(maps)):
            self._chance.choice(found)[0] = self._chance.choice(_KEYS)

    def _changed_array(self, form: Pairs) -> Any:  # noqa: ANN401 - any value
        chance, fields = self._chance, dict(pair for pair in form if isinstance(pair[0], bytes))
        data, dtype, shape = fields[b"data"], fields[b"dtype"], fields[b"shape"]
        plain = isinstance(data, bytes) and isinstance(dtype, str) and dtype in _SIZES
        lengths = isinstance(shape, list) and all(type(n) is int and 0 <= n < 99 for n in shape)
        kind = chance.randrange(7)
        if not plain or not lengths or kind == 0:
            pair = chance.choice(form)
            pair[1] = self._new()
            return form
        if kind == 1:  # other numbers
            value = chance.choice([math.nan, math.inf, 3e38, -1.0, 0.0, 1.0, 1e-40, 0.7])
            at = chance.randrange(len(data) // 4 + 1) * 4
            return _array(dtype, shape, data[:at] + struct.pack("<f", value) + data[at + 4 :])
        if kind == 2:  # another dtype
            return _array(chance.choice([*_SIZES]), shape, data)
        if kind == 3:  # another shape
            other = chance.choice([[1, *shape], [2, *shape], shape[1:], shape[::-1], [*shape, 1]])
            return _array(dtype, other, data)
        if kind == 4 and shape:  # one other length
            at = chance.randrange(len(shape))
            length = chance.choice([0, 1, 2, 3, 4, 5, 21, 22, 23, 24, 61, 256])
            other = [*shape[:at], length, *shape[at + 1 :]]
            return _array(dtype, other, data) if math.prod(other) < 2000 else form
        if kind == 5:  # numbers that are not of an array
            numbers = [0.5] * min(math.prod(shape), 40)
            scalar = Pairs([[b"__npgeneric__", True], [b"data", 31], [b"dtype", dtype]])
            return chance.choice([numbers, scalar, 31, 0.5])
        return Pairs([[key, copy.deepcopy(value)] for key, value in chance.sample(form, len(form))])


def mutated(
    data: bytes, max_size: int, seed: int, bytewise: Callable[[bytes, int], bytes]
) -> bytes:
    """Change an input: one message's bytes or tree, or the order of the messages."""
    chance = random.Random(seed)
    parts = data.split(NEXT)
    if chance.random() < 0.1:
        parts.insert(chance.randrange(len(parts) + 1), chance.choice(parts))
    elif len(parts) > 1 and chance.random() < 0.1:
        parts.pop(chance.randrange(len(parts)))
    at = chance.randrange(len(parts))
    parts[at] = _changed(parts[at], max_size, chance, bytewise)
    found = NEXT.join(parts)
    return found if len(found) <= max_size else bytewise(data, max_size)


def _changed(
    message: bytes, max_size: int, chance: random.Random, bytewise: Callable[[bytes, int], bytes]
) -> bytes:
    try:
        root = [read_tree(message)]
    except ValueError:
        return bytewise(message, max_size)
    if chance.random() < 0.25:
        return bytewise(message, max_size)
    for _ in range(chance.choice([1, 1, 1, 2, 3, 8])):
        _Change(chance, root).make()
    return written(root[0])


def crossed(data: bytes, other: bytes, max_size: int, seed: int) -> bytes:
    """Join two inputs: a message is replaced, or a value within a message."""
    chance = random.Random(seed)
    parts, others = data.split(NEXT), other.split(NEXT)
    at, taken = chance.randrange(len(parts)), chance.choice(others)
    try:
        root, donor = [read_tree(parts[at])], [read_tree(taken)]
    except ValueError:
        parts[at] = taken
    else:
        (node, place), (source, there) = chance.choice(_slots(root)), chance.choice(_slots(donor))
        node[place] = copy.deepcopy(source[there])
        parts[at] = written(root[0])
    return NEXT.join(parts)[:max_size]
