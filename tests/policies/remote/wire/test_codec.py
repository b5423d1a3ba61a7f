"""Bytes: openpi-client and the msgpack package write the same and read the same."""

from __future__ import annotations

import math
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from openpi_client import msgpack_numpy

from b1k_policies.remote.wire.codec import MessageLimits, WireError, pack, unpack

NUMBERS = [kind + width for kind in "iu" for width in "1248"] + ["f2", "f4", "f8", "b1"]
DTYPES = [np.dtype(order + name) for name in NUMBERS for order in "<>"]

arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=5, min_side=0))
)
scalars = st.sampled_from([dtype for dtype in DTYPES if dtype.isnative]).flatmap(
    lambda dtype: hnp.arrays(dtype, ()).map(lambda array: array[()])
)
plain = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text()
    | st.binary()
)
keys = st.text() | st.binary().filter(lambda key: not key.startswith(b"__"))
values = st.recursive(
    plain | arrays | scalars,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(keys, inner, max_size=20),
    max_leaves=30,
)


def same(first: Any, second: Any) -> bool:
    """Equal in type and value, NaN equal to itself, arrays in dtype and shape."""
    if type(first) is not type(second):
        return False
    if isinstance(first, (np.ndarray, np.generic)):
        return (
            first.dtype == second.dtype
            and first.shape == second.shape
            and first.tobytes() == second.tobytes()
        )
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second or (first != first and second != second)


@pytest.mark.slow
@given(values)
def test_every_value_is_written_byte_for_byte_as_openpi_client_writes_it(value):
    assert pack(value) == msgpack_numpy.packb(value)


@pytest.mark.slow
@given(values)
def test_every_message_is_read_as_openpi_client_reads_it(value):
    data = msgpack_numpy.packb(value)
    assert same(unpack(data), msgpack_numpy.unpackb(data))


@pytest.mark.parametrize("length", [0, 15, 16, 31, 32, 255, 256, 65535, 65536])
def test_lengths_change_form_where_msgpack_changes_it(length):
    for value in ("x" * length, b"x" * length, [None] * length, {str(n): n for n in range(length)}):
        data = pack(value)
        assert data == msgpack.packb(value)
        assert unpack(data, MessageLimits(elements=200_000)) == value


@pytest.mark.parametrize("exponent", range(65))
def test_integers_change_form_where_msgpack_changes_it(exponent):
    for value in range(2**exponent - 2, 2**exponent + 3):
        for signed in (value, -value):
            if -(2**63) <= signed < 2**64:
                assert pack(signed) == msgpack.packb(signed)
                assert unpack(pack(signed)) == signed


def test_longer_forms_than_needed_are_read_as_well():
    assert unpack(b"\xcd\x00\x05") == 5
    assert unpack(b"\xd3" + b"\xff" * 8) == -1
    assert unpack(b"\xdb\x00\x00\x00\x01a") == "a"
    assert unpack(b"\xdd\x00\x00\x00\x00") == []
    assert math.isclose(unpack(b"\xca\x3f\x80\x00\x00"), 1.0)


def test_an_array_in_another_memory_order_is_sent_in_c_order():
    array = np.arange(24, dtype="<f4").reshape(2, 3, 4)
    for view in (array.T, array[:, ::-1], np.asfortranarray(array), array[..., 1]):
        assert pack(view) == msgpack_numpy.packb(view)
        np.testing.assert_array_equal(unpack(pack(view)), view)


def test_an_array_that_is_read_cannot_be_written_to_even_from_writable_bytes():
    array = unpack(bytearray(pack(np.zeros(3, np.uint8))))
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_a_picture_is_not_copied_when_it_is_read():
    data = pack({"rgb": np.zeros((720, 720, 4), np.uint8)})
    assert np.shares_memory(unpack(data)["rgb"], np.frombuffer(data, np.uint8))


@settings(max_examples=20)
@given(st.integers(0, 8))
def test_arrays_are_aligned_wherever_they_lie_in_the_message(offset):
    found = unpack(pack(["x" * offset, np.arange(5, dtype="<f8")]))[1]
    assert found.flags.aligned
    np.testing.assert_array_equal(found, np.arange(5))


def test_tuples_become_lists_and_subclasses_what_they_are_made_of():
    value = {"shape": (1, 2), "name": np.str_("x"), "number": np.float64(0.5)}
    assert pack(value) == msgpack_numpy.packb(value)
    assert unpack(pack(value)) == {"shape": [1, 2], "name": "x", "number": 0.5}


@pytest.mark.parametrize("name", ["uint8", "float32", "int64", "bool"])
@pytest.mark.parametrize("form", [str, lambda name: f"torch.{name}", str.encode])
def test_the_form_for_tensors_of_the_2025_client_is_read(name, form):
    array = np.array([[1, 0, 1]]).astype(name)
    data = msgpack.packb(
        {
            b"__torch__": True,
            b"data": array.tobytes(),
            b"dtype": form(name),
            b"shape": array.shape,
        }
    )
    assert same(unpack(data), array)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.array([object()]), "an array of dtype object cannot be sent"),
        (np.zeros(2, np.complex64), "an array of dtype complex64 cannot be sent"),
        (np.zeros(2, "i4,f4"), "cannot be sent: only bool, integers and floats"),
        (np.array(["a"]), "an array of dtype <U1 cannot be sent"),
        (np.datetime64("2026-01-01"), "an array of dtype datetime64"),
        (np.zeros(1, np.longdouble), "cannot be sent: only bool, integers and floats up to 64"),
        ({1: 2}, "a key must be a text or bytes, got int"),
        ({"x": {3}}, "a set cannot be sent"),
        (2**64, "the number 18446744073709551616 has more than 64 bit"),
        (-(2**63) - 1, "has more than 64 bit"),
        ("\ud800", "a text is not valid Unicode"),
        (memoryview(b"abcd")[::2], "a memoryview with gaps cannot be sent"),
    ],
)
def test_what_no_message_can_hold_is_not_sent(value, text):
    with pytest.raises(WireError, match=text):
        pack(value)


def test_a_value_inside_itself_is_not_sent():
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(WireError, match="nested without end"):
        pack(loop)
