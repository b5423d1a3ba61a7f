"""numpy arrays and scalars as maps, in the form of openpi-client's `msgpack_numpy`.

An array is {b"__ndarray__": True, b"data": bytes in C order, b"dtype": `dtype.str`, b"shape": ...},
a scalar {b"__npgeneric__": True, b"data": number, b"dtype": `dtype.str`}. BEHAVIOR-1K's 2025 client
also has {b"__torch__": True, ...}, an array with the name of its dtype. A dtype that comes from a
peer is looked up in a table and never handed to numpy's own reader of dtypes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from b1k_policies.remote.wire.limits import MessageLimits, WireError

_ARRAY, _SCALAR, _TENSOR = b"__ndarray__", b"__npgeneric__", b"__torch__"
_MARKERS = (_ARRAY, _SCALAR, _TENSOR)
_MOST_DIMENSIONS = 32
"""Most dimensions of an array: the limit of numpy 1."""

_NAMES = (
    "bool",
    *(f"{kind}int{bits}" for kind in ("", "u") for bits in (8, 16, 32, 64)),
    *(f"float{bits}" for bits in (16, 32, 64)),
)
DTYPES: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        dtype.str: dtype
        for name in _NAMES
        for dtype in (np.dtype(name).newbyteorder("<"), np.dtype(name).newbyteorder(">"))
    }
)
"""Every dtype that is sent or accepted, by `dtype.str`: numbers and truth values only."""
_BY_NAME: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {prefix + name: np.dtype(name) for prefix in ("", "torch.") for name in _NAMES}
)


def array_form(array: npt.NDArray[Any]) -> dict[bytes, Any]:
    """Return the map of an array; `data` is a copy only if the array is not in C order.

    Raises:
        WireError: Its dtype is not in `DTYPES`.
    """
    _check_dtype(array.dtype)
    plain = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return {
        _ARRAY: True,
        b"data": plain.data,
        b"dtype": array.dtype.str,
        b"shape": array.shape,
    }


def scalar_form(scalar: np.generic) -> dict[bytes, Any]:
    """Return the map of a numpy scalar.

    Raises:
        WireError: Its dtype is not in `DTYPES`.
    """
    _check_dtype(scalar.dtype)
    return {_SCALAR: True, b"data": scalar.item(), b"dtype": scalar.dtype.str}


def is_form(found: Mapping[str | bytes, Any]) -> bool:
    """Whether a map says that it is an array or a scalar."""
    return any(marker in found for marker in _MARKERS)


def from_form(found: Mapping[str | bytes, Any], limits: MessageLimits) -> Any:  # noqa: ANN401 - or scalar
    """Return the array or scalar that a map describes.

    Args:
        found: A map for which `is_form` holds; `data` is bytes or a memoryview of the message.
        limits: Bounds the declared shape.

    Returns:
        A read-only array, on the message's own memory where alignment allows; or a scalar.

    Raises:
        WireError: The map does not have exactly one of the forms, or contradicts itself.
    """
    marker = next(marker for marker in _MARKERS if marker in found)
    wanted = {marker, b"data", b"dtype"} | ({b"shape"} if marker != _SCALAR else set())
    if set(found) != wanted or found[marker] is not True:
        raise WireError(
            f"a map with {marker!r} must have it True and exactly the keys "
            f"{', '.join(map(repr, sorted(wanted)))}; it has {len(found)} keys"
        )
    if marker == _SCALAR:
        return _scalar(found[b"data"], _dtype(found[b"dtype"], DTYPES))
    table = DTYPES if marker == _ARRAY else _BY_NAME
    return array_of(found[b"data"], _dtype(found[b"dtype"], table), found[b"shape"], limits)


def _check_dtype(dtype: np.dtype[Any]) -> None:
    if dtype.str not in DTYPES:
        raise WireError(
            f"an array of dtype {dtype} cannot be sent: only bool, integers and floats up to 64 bit"
        )


def _dtype(found: object, table: Mapping[str, np.dtype[Any]]) -> np.dtype[Any]:
    name = found
    if isinstance(name, memoryview) and table is _BY_NAME:  # one state of that client sent bytes
        name = bytes(name[:32]).decode("latin-1")
    if not isinstance(name, str) or name not in table:
        shown = repr(name[:32]) if isinstance(name, str) else f"a {type(name).__name__}"
        raise WireError(
            f"an array's dtype is {shown}: only bool, integers and floats up to 64 bit are taken "
            "(|u1, <f4, ...)"
        )
    return table[name]


def array_of(
    data: object, dtype: np.dtype[Any], shape: object, limits: MessageLimits
) -> npt.NDArray[np.generic]:
    """Return the array that bytes are, read-only; on their own memory where alignment allows.

    Args:
        data: A memoryview, in C order.
        dtype: One of `DTYPES`.
        shape: A list of whole numbers; anything else is refused, as it comes from a peer.
        limits: Bounds the declared shape.

    Raises:
        WireError: The shape is none, or does not need as many bytes as there are.
    """
    if not isinstance(data, memoryview):
        raise WireError(f"an array's data must be bytes, got {type(data).__name__}")
    if not isinstance(shape, list) or len(shape) > _MOST_DIMENSIONS:
        shown = f"{len(shape)} dimensions" if isinstance(shape, list) else type(shape).__name__
        raise WireError(f"an array's shape must be a list of at most {_MOST_DIMENSIONS}: {shown}")
    for length in shape:
        if type(length) is not int or length < 0:
            raise WireError("an array's shape must be whole numbers from 0 up")
    # Python's integers, since numpy's would overflow for a large shape.
    needed = math.prod(shape) * dtype.itemsize
    if needed != len(data):
        raise WireError(
            f"an array of {dtype.str} {_shown(shape)} needs {_shown(needed)} bytes, "
            f"{len(data)} came"
        )
    # A dimension of 0 would hide another one that numpy cannot hold.
    if math.prod(max(length, 1) for length in shape) * dtype.itemsize > limits.size:
        raise WireError(f"an array's shape {_shown(shape)} is larger than a message may be")
    array = np.frombuffer(data, dtype=dtype).reshape(shape)
    # The data may begin at any byte of the message.
    if not array.flags.aligned:
        array = array.copy()
    array.setflags(write=False)
    return array


def _scalar(data: object, dtype: np.dtype[Any]) -> np.generic:
    fits = False
    if dtype.kind == "b":
        fits = isinstance(data, bool)
    elif dtype.kind in "iu":
        # By exact type, because a bool is an int to Python.
        info = np.iinfo(dtype)
        fits = type(data) is int and int(info.min) <= data <= int(info.max)
    elif type(data) in (int, float):
        number = float(data)  # type: ignore[arg-type]
        fits = not math.isfinite(number) or abs(number) <= float(np.finfo(dtype).max)
    if not fits:
        shown = data if isinstance(data, (bool, int, float)) else f"a {type(data).__name__}"
        raise WireError(f"a scalar of dtype {dtype.str} cannot hold {shown}")
    scalar: np.generic = dtype.type(data)
    return scalar


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:60] + "..."
