"""Messages as bytes: msgpack with numpy arrays, byte for byte as openpi-client writes them.

The format (msgpack.org, spec.md) is read and written here, not by the msgpack package, as a peer
need not be honest. Tried with msgpack 1.2.4, `unpackb(strict_map_key=True)`: lists are allocated
when they are announced, to a depth of 1,024 that no option lowers, so 5 KB of nested headers took
80 MB even with max_array_len=10,000; a million empty lists in 1 MB took 65 MB, as only each list
is bounded and not all of them; of two equal keys the last is kept; a timestamp is built before any
hook is asked. This reader takes nil, bool, int, float, str, bin, array and map with texts or bytes
for keys; everything else, and everything above its limits, is refused before anything is allocated.
Nothing received is ever executed or unpickled. As the package is not needed otherwise, the writer
is ours as well; it copies a picture once, where the package copies it twice.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from b1k_policies.remote.wire.arrays import array_form, from_form, is_form, scalar_form
from b1k_policies.remote.wire.limits import DEFAULT_LIMITS, MessageLimits, WireError

__all__ = ["DEFAULT_LIMITS", "MessageLimits", "WireError", "pack", "unpack"]

_MOST = 2**32 - 1
"""Greatest length of a text, bytes, list or map in the format."""


def unpack(data: bytes, limits: MessageLimits = DEFAULT_LIMITS) -> Any:  # noqa: ANN401 - any message
    """Read the value in a message.

    Args:
        data: One whole message.
        limits: What it may contain at most.

    Returns:
        None, bool, int, float, str, bytes, list, dict, read-only numpy array, or numpy scalar.
        Arrays may share the memory of `data`.

    Raises:
        WireError: It is not a valid message; the text says what came and at which byte.
    """
    if len(data) > limits.size:
        raise WireError(f"a message of {len(data)} bytes came, the limit is {limits.size}")
    reader = _Reader(memoryview(data), limits)
    value = _settled(reader.value(0))
    if reader.at != len(data):
        raise WireError(f"{len(data) - reader.at} bytes follow the message's end")
    return value


def pack(value: Any) -> bytes:  # noqa: ANN401 - checked below
    """Write a value as a message; `unpack` is the inverse, except that tuples become lists.

    Raises:
        WireError: It contains something that no message can; the text says what.
    """
    pieces: list[bytes | memoryview] = []
    try:
        _write(value, pieces)
    except RecursionError:
        raise WireError("a value that is nested without end cannot be sent") from None
    return b"".join(pieces)


# --- Reading --------------------------------------------------------------------------------

_NUMBERS = {
    0xCA: struct.Struct(">f"),
    0xCB: struct.Struct(">d"),
    0xCC: struct.Struct(">B"),
    0xCD: struct.Struct(">H"),
    0xCE: struct.Struct(">I"),
    0xCF: struct.Struct(">Q"),
    0xD0: struct.Struct(">b"),
    0xD1: struct.Struct(">h"),
    0xD2: struct.Struct(">i"),
    0xD3: struct.Struct(">q"),
}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_BIN = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_STR = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_LIST = {0xDC: 2, 0xDD: 4}
_MAP = {0xDE: 2, 0xDF: 4}


class _Reader:
    """The position in a message, and what is left of its limits."""

    def __init__(self, data: memoryview, limits: MessageLimits) -> None:
        self.at = 0
        self._data = data
        self._limits = limits
        self._elements = limits.elements
        self._text = limits.text

    def value(self, depth: int) -> Any:  # noqa: ANN401 - any message
        """Read the next value; bytes as a memoryview, so that an array need not copy them."""
        start = self.at
        self._elements -= 1
        if self._elements < 0:
            raise WireError(f"a message may have {self._limits.elements} values; more came")
        code = self._take(1)[0]
        if code <= 0x7F:
            return code
        if code >= 0xE0:
            return code - 0x100
        if code <= 0x8F:
            return self._map(code & 0x0F, depth)
        if code <= 0x9F:
            return self._list(code & 0x0F, depth)
        if code <= 0xBF:
            return self._str(code & 0x1F)
        if code in _CONSTANTS:
            return _CONSTANTS[code]
        if code in _NUMBERS:
            number = _NUMBERS[code]
            return number.unpack(self._take(number.size))[0]
        if code in _BIN:
            return self._take(self._length(_BIN[code]))
        if code in _STR:
            return self._str(self._length(_STR[code]))
        if code in _LIST:
            return self._list(self._length(_LIST[code]), depth)
        if code in _MAP:
            return self._map(self._length(_MAP[code]), depth)
        raise WireError(f"byte {start} is 0x{code:02x}: no value of this protocol begins so")

    def _take(self, count: int) -> memoryview:
        left = len(self._data) - self.at
        if count > left:
            raise WireError(f"byte {self.at}: {count} bytes are announced, {left} are left")
        self.at += count
        return self._data[self.at - count : self.at]

    def _length(self, width: int) -> int:
        return int.from_bytes(self._take(width), "big")

    def _str(self, length: int) -> str:
        start = self.at
        found = self._take(length)
        self._text -= length
        if self._text < 0:
            raise WireError(f"a message may have {self._limits.text} bytes of text; more came")
        try:
            return str(found, "utf-8")
        except UnicodeDecodeError:
            raise WireError(f"byte {start}: a text is not UTF-8") from None

    def _enter(self, count: int, depth: int) -> int:
        """Refuse a list or map that is too long, too deep or cut short, before it is built."""
        if depth >= self._limits.depth:
            raise WireError(f"values may be {self._limits.depth} deep; byte {self.at} is deeper")
        if count > self._elements:
            raise WireError(
                f"a message may have {self._limits.elements} values; byte {self.at} announces "
                f"{count} more"
            )
        return depth + 1

    def _list(self, length: int, depth: int) -> list[Any]:
        inner = self._enter(length, depth)
        return [_settled(self.value(inner)) for _ in range(length)]

    def _map(self, length: int, depth: int) -> Any:  # noqa: ANN401 - a dict, array or scalar
        # Keys count as elements, too.
        inner = self._enter(2 * length, depth)
        found: dict[str | bytes, Any] = {}
        for _ in range(length):
            key = self._key(inner)
            if key in found:
                raise WireError(f"a key comes twice in one map: {key[:40]!r}")
            found[key] = self.value(inner)
        # Values stay memoryviews until here, so that an array need not copy its data.
        if is_form(found):
            return from_form(found, self._limits)
        return {key: _settled(value) for key, value in found.items()}

    def _key(self, depth: int) -> str | bytes:
        start = self.at
        key = self.value(depth)
        if isinstance(key, str):
            return key
        if isinstance(key, memoryview):
            # Keys of bytes are copied, so they count as text.
            self._text -= len(key)
            if self._text >= 0:
                return bytes(key)
            raise WireError(f"a message may have {self._limits.text} bytes of text; more came")
        raise WireError(f"byte {start}: a key must be a text or bytes, got {type(key).__name__}")


def _settled(value: Any) -> Any:  # noqa: ANN401 - any message
    return bytes(value) if isinstance(value, memoryview) else value


# --- Writing --------------------------------------------------------------------------------


def _write(value: Any, pieces: list[bytes | memoryview]) -> None:  # noqa: ANN401
    """Append the pieces of a value. As in the msgpack package, np.float64 counts as a float."""
    if value is None:
        pieces.append(b"\xc0")
    elif value is True or value is False:
        pieces.append(b"\xc3" if value else b"\xc2")
    elif isinstance(value, int):
        pieces.append(_integer(value))
    elif isinstance(value, float):
        pieces.append(struct.pack(">Bd", 0xCB, value))
    elif isinstance(value, (bytes, bytearray, memoryview)):
        raw = memoryview(value)
        if not raw.c_contiguous:
            raise WireError("a memoryview with gaps cannot be sent")
        pieces += (_header(raw.nbytes, None, 0, (0xC4, 0xC5, 0xC6)), raw)
    elif isinstance(value, str):
        text = _encoded(value)
        pieces += (_header(len(text), 0xA0, 31, (0xD9, 0xDA, 0xDB)), text)
    elif isinstance(value, dict):
        pieces.append(_header(len(value), 0x80, 15, (None, 0xDE, 0xDF)))
        for key, inner in value.items():
            if not isinstance(key, (str, bytes)):
                raise WireError(f"a key must be a text or bytes, got {type(key).__name__}")
            _write(key, pieces)
            _write(inner, pieces)
    elif isinstance(value, (list, tuple)):
        pieces.append(_header(len(value), 0x90, 15, (None, 0xDC, 0xDD)))
        for inner in value:
            _write(inner, pieces)
    elif isinstance(value, np.ndarray):
        _write(array_form(value), pieces)
    elif isinstance(value, np.generic):
        _write(scalar_form(value), pieces)
    else:
        raise WireError(f"a {type(value).__name__} cannot be sent")


def _header(
    length: int, short: int | None, longest_short: int, codes: tuple[int | None, int, int]
) -> bytes:
    """Return code and length in the shortest form of the format."""
    if short is not None and length <= longest_short:
        return bytes([short | length])
    if codes[0] is not None and length <= 0xFF:
        return struct.pack(">BB", codes[0], length)
    if length <= 0xFFFF:
        return struct.pack(">BH", codes[1], length)
    if length <= _MOST:
        return struct.pack(">BI", codes[2], length)
    raise WireError(f"{length} bytes or values are more than one value of a message can have")


def _integer(value: int) -> bytes:
    if -0x20 <= value <= 0x7F:
        return struct.pack(">b" if value < 0 else ">B", value)
    unsigned = ((0xCC, ">BB", 0xFF), (0xCD, ">BH", 0xFFFF), (0xCE, ">BI", _MOST))
    signed = ((0xD0, ">Bb", 0x80), (0xD1, ">Bh", 0x8000), (0xD2, ">Bi", 0x80000000))
    for code, layout, bound in unsigned if value > 0 else signed:
        if -bound <= value <= bound:
            return struct.pack(layout, code, value)
    try:
        return struct.pack(">BQ", 0xCF, value) if value > 0 else struct.pack(">Bq", 0xD3, value)
    except struct.error:
        raise WireError(f"the number {str(value)[:40]} has more than 64 bit") from None


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise WireError(f"a text is not valid Unicode: {text[:40]!r}") from None
