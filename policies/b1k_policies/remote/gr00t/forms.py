"""Messages of GR00T's protocol as bytes: msgpack, with arrays as .npy files inside.

An array is {"__ndarray_class__": True, "as_npy": bytes}, a modality config
{"__ModalityConfig_class__": True, "as_json": map}. msgpack is read by the project's own reader
(`wire.codec`, whose header says why), and so is the head of a .npy file: numpy's evaluates it as
Python's syntax and takes memory for whatever shape it names. Nothing is unpickled.

Source: NVIDIA/Isaac-GR00T, `gr00t/policy/server_client.py`@38624dff; the layout of .npy files from
numpy's documentation (`numpy.lib.format`), versions 1.0 to 3.0.
"""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from b1k_policies.remote.wire.arrays import DTYPES, array_of
from b1k_policies.remote.wire.codec import pack, unpack
from b1k_policies.remote.wire.limits import MessageLimits, WireError

ARRAY, NPY = "__ndarray_class__", "as_npy"
CONFIG, JSON = "__ModalityConfig_class__", "as_json"

_MAGIC = b"\x93NUMPY"
_LENGTH_BYTES = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}
"""Bytes of the header's length, by version."""
_LONGEST_HEADER = 4096
_HEADER = re.compile(
    r"\{'descr': '([<>|][a-z]\d)', 'fortran_order': (True|False), "
    r"'shape': \(((?:\d{1,19}, ?)*(?:\d{1,19})?)\), \} *\n?"
)
"""What numpy writes for an array of plain numbers."""


def pack_message(value: object) -> bytes:
    """Write a message.

    Raises:
        WireError: It contains something that no message can.
    """
    return pack(_with_files(value))


def unpack_message(data: bytes, limits: MessageLimits) -> Any:  # noqa: ANN401 - any message
    """Read a message; arrays are read-only, and a modality config is the map under `as_json`.

    Raises:
        WireError: It is not a valid message; the text says what came.
    """
    return _without_files(unpack(data, limits), limits)


def config_form(as_json: dict[str, Any]) -> dict[str, Any]:
    """Return the map of a modality config."""
    return {CONFIG: True, JSON: as_json}


def _with_files(value: object) -> object:
    if isinstance(value, dict):
        return {key: _with_files(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_files(inner) for inner in value]
    if isinstance(value, np.ndarray):
        return {ARRAY: True, NPY: _npy(value)}
    return value


def _npy(array: npt.NDArray[Any]) -> memoryview:
    if array.dtype.str not in DTYPES:
        raise WireError(f"an array of dtype {array.dtype} cannot be sent")
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getbuffer()


def _without_files(value: Any, limits: MessageLimits) -> Any:  # noqa: ANN401 - any message
    # No deeper than the reader's limit, so recursion has an end.
    if isinstance(value, list):
        return [_without_files(inner, limits) for inner in value]
    if not isinstance(value, dict):
        return value
    if ARRAY in value:
        if set(value) != {ARRAY, NPY} or value[ARRAY] is not True:
            raise WireError(f"a map with {ARRAY!r} must have it true, and {NPY!r} and nothing else")
        return read_npy(value[NPY], limits)
    if CONFIG in value:
        inner = value.get(JSON)
        if set(value) != {CONFIG, JSON} or not isinstance(inner, dict):
            raise WireError(f"a map with {CONFIG!r} must have a map as {JSON!r} and nothing else")
        return inner
    return {key: _without_files(inner, limits) for key, inner in value.items()}


def read_npy(found: object, limits: MessageLimits) -> npt.NDArray[np.generic]:
    """Read the bytes of a .npy file, an array of plain numbers in either order.

    Raises:
        WireError: They are not that, or their shape does not match their length.
    """
    if not isinstance(found, bytes):
        raise WireError(f"an array's {NPY} must be bytes, got {type(found).__name__}")
    width = _LENGTH_BYTES.get(found[6:8]) if found.startswith(_MAGIC) else None
    if width is None:
        raise WireError(f"an array's {NPY} is no .npy file: it begins with {found[:8]!r}")
    begin = 8 + width
    length = int.from_bytes(found[8:begin], "little")
    if length > min(_LONGEST_HEADER, len(found) - begin):
        raise WireError(
            f"an array's .npy header of {length} bytes is longer than {_LONGEST_HEADER}, or than "
            "what came"
        )
    header = found[begin : begin + length].decode("latin-1")
    said = _HEADER.fullmatch(header)
    if said is None or said[1] not in DTYPES:
        raise WireError(
            f"an array's .npy header is {header[:80]!a}: only bool, integers and floats up to "
            "64 bit are taken"
        )
    shape = [int(length) for length in said[3].replace(" ", "").split(",") if length]
    data = memoryview(found)[begin + length :]
    if said[2] == "False":
        return array_of(data, DTYPES[said[1]], shape, limits)
    return array_of(data, DTYPES[said[1]], shape[::-1], limits).transpose()
