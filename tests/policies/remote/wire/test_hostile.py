"""What a peer that means harm can send: refused, and nothing is allocated for it."""

from __future__ import annotations

import math
import struct
import tracemalloc
from contextlib import contextmanager

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpi_client import msgpack_numpy

from b1k_policies.remote.wire.codec import MessageLimits, WireError, unpack

SMALL = MessageLimits(size=64 * 1024, depth=16, elements=2000, text=4096)
ROOM = 2 * SMALL.size + 4 * SMALL.text + 250 * SMALL.elements
"""What `MessageLimits` says, and the error itself."""

OBSERVATION = msgpack_numpy.packb(
    {
        "robot_r1::robot_r1:zed_link:Camera:0::rgb": np.zeros((1, 16, 16, 4), np.uint8),
        "robot_r1::proprio": np.linspace(0, 1, 61, dtype=np.float32)[None],
        "robot_r1::cam_rel_poses": np.zeros((1, 21), np.float32),
        "task_id": np.array([[31]]),
        "nested": {"list": [1, 2.5, None, True, "text", b"bytes"], "scalar": np.float32(0.5)},
    }
)


@contextmanager
def little_memory():
    """Holds the peak of what is allocated inside."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < ROOM
    finally:
        tracemalloc.stop()


def read(data: bytes) -> None:
    """Take or refuse; whatever else happens is the failure of a test."""
    refusal = ""
    with little_memory():
        try:
            unpack(data, SMALL)
        except WireError as error:
            refusal = str(error)
    assert len(refusal) < 400


def refused(data: bytes, text: str, limits: MessageLimits = SMALL) -> None:
    with little_memory(), pytest.raises(WireError, match=text):
        unpack(data, limits)


def form(data: object = b"", dtype: object = "|u1", shape: object = (0,), **more: object) -> bytes:
    """An array's map, with whatever in it; keys as bytes."""
    fields = {"__ndarray__": True, "data": data, "dtype": dtype, "shape": shape, **more}
    return msgpack.packb({key.encode(): value for key, value in fields.items()})


@given(st.binary(max_size=2000))
@settings(max_examples=300)
def test_random_bytes_are_read_or_refused(data):
    read(data)


@given(st.data())
@settings(max_examples=300)
def test_an_observation_with_some_bytes_changed_is_read_or_refused(data):
    mutated = bytearray(OBSERVATION)
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(mutated) - 1))
        # Headers, not pixels: the keys and the shapes are in the first and last few hundred bytes.
        if data.draw(st.booleans()):
            place = place % 200 if data.draw(st.booleans()) else -1 - place % 700
        mutated[place] = data.draw(st.integers(0, 255))
    read(bytes(mutated))


@given(st.integers(0, len(OBSERVATION) - 1))
def test_an_observation_that_is_cut_off_is_refused(length):
    with pytest.raises(WireError):
        unpack(OBSERVATION[:length])


@given(st.integers(0, len(OBSERVATION)), st.binary(min_size=1, max_size=40))
def test_an_observation_with_bytes_put_in_is_read_or_refused(place, more):
    read(OBSERVATION[:place] + more + OBSERVATION[place:])


@given(
    st.lists(st.integers(-(2**63), 2**64 - 1) | st.integers(0, 5), max_size=40),
    st.sampled_from(["|u1", "<f4", ">f8", "|b1"]),
    st.binary(max_size=64),
)
@settings(max_examples=300)
def test_declared_shapes_are_held_to_the_bytes_that_came(shape, dtype, data):
    try:
        with little_memory():
            array = unpack(form(data, dtype, shape), SMALL)
    except WireError:
        return
    assert list(array.shape) == shape
    assert math.prod(shape) * np.dtype(dtype).itemsize == len(data)


@pytest.mark.parametrize("code", [b"\xdd", b"\xdf", b"\xdb", b"\xc6"])
def test_a_huge_declared_length_is_refused(code):
    refused(code + b"\xff\xff\xff\xff", "values; byte|bytes are announced")


def test_huge_lists_within_one_another_are_refused():
    refused((b"\xdd\x00\x10\x00\x00") * 1000, "a message may have 2000 values; byte 5 announces")


def test_lists_that_together_have_too_many_values_are_refused():
    refused(msgpack.packb([[0] * 500] * 5), "a message may have 2000 values")


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1k", b"\x91\x81\xa1k"])
def test_ten_thousand_levels_are_refused(opening):
    refused(opening * 10_000, "values may be 16 deep")


def test_sixteen_levels_are_read():
    assert unpack(b"\x91" * 16 + b"\xc0", SMALL) is not None
    refused(b"\x91" * 17 + b"\xc0", "values may be 16 deep")


def test_a_message_above_the_limit_is_refused():
    refused(bytes(SMALL.size + 1), "a message of 65537 bytes came, the limit is 65536")


def test_texts_above_the_limit_are_refused_together_with_keys():
    refused(msgpack.packb("x" * 5000), "4096 bytes of text; more came")
    refused(msgpack.packb(["x" * 2000] * 3), "4096 bytes of text; more came")
    refused(msgpack.packb({b"x" * 5000: 1}), "4096 bytes of text; more came")


def test_a_text_of_wide_letters_stays_within_the_bound():
    read(msgpack.packb("x" * 4000 + "\U0001f9fc"))


@pytest.mark.parametrize("dtype", ["|O", "O", "|V8", "i4,f4", "<c8", "<U4", "|S4", "<M8[s]", "f4",
                                   "(9999,9999)f4", "<f16", "", "x" * 2000, b"|u1", 5, None,
                                   ["<f4"]])  # fmt: skip
def test_only_plain_dtypes_are_taken(dtype):
    refused(form(bytes(8), dtype, (8,)), "an array's dtype is")


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ([-1], "whole numbers from 0 up"),
        ([-2, -4], "whole numbers from 0 up"),
        ([8.0], "whole numbers from 0 up"),
        ([True] * 3, "whole numbers from 0 up"),
        (["8"], "whole numbers from 0 up"),
        (8, "must be a list of at most 32: int"),
        ({"0": 8}, "must be a list of at most 32: dict"),
        ([1] * 33, "must be a list of at most 32: 33 dimensions"),
        ([9], r"needs 9 bytes, 8 came"),
        ([2**63, 2**63], "needs 85070591730234615865843651857942052864 bytes, 8 came"),
        ([2**63, 2], "bytes, 8 came"),
        ([4, 4], r"\[4, 4\] needs 16 bytes, 8 came"),
    ],
)
def test_only_shapes_that_fit_the_bytes_are_taken(shape, text):
    refused(form(bytes(8), "|u1", shape), text)


def test_a_length_beside_a_zero_is_bounded_too():
    refused(form(b"", "|u1", [0, 2**40]), "larger than a message may be")
    assert unpack(form(b"", "<f4", [0, 23]), SMALL).shape == (0, 23)


@pytest.mark.parametrize("data", ["text", 5, None, [1, 2], {"a": 1}])
def test_an_arrays_data_must_be_bytes(data):
    refused(form(data, "|u1", (2,)), "an array's data must be bytes")


def test_an_arrays_map_must_have_its_keys_and_no_other():
    refused(form(b"ab", "|u1", (2,), more=1), "exactly the keys .*; it has 5 keys")
    refused(msgpack.packb({b"__ndarray__": True}), "exactly the keys .*; it has 1 keys")
    refused(msgpack.packb({b"__ndarray__": True, b"__torch__": True}), "exactly the keys")
    for marker in (False, 1, None, "yes"):
        refused(
            msgpack.packb({b"__ndarray__": marker, b"data": b"", b"dtype": "|u1", b"shape": [0]}),
            "must have it True",
        )


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        ("|u1", 256), ("|u1", -1), ("|i1", 128), ("|u1", 1.0), ("|u1", True), ("|b1", 1),
        ("<f4", 1e39), ("<f4", True), ("<f2", 70000), ("<f8", "1"), ("<f8", None), ("<f8", b"1"),
    ],
)  # fmt: skip
def test_a_scalar_must_fit_its_dtype(dtype, data):
    message = msgpack.packb({b"__npgeneric__": True, b"data": data, b"dtype": dtype})
    refused(message, "a scalar of dtype .* cannot hold")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 3])
def test_a_scalar_may_be_whatever_its_dtype_holds(value):
    message = msgpack.packb({b"__npgeneric__": True, b"data": value, b"dtype": "<f2"})
    np.testing.assert_equal(unpack(message), np.float16(value))


def test_a_key_that_comes_twice_is_refused():
    refused(b"\x82\xa1a\x01\xa1a\x02", "a key comes twice in one map: 'a'")
    refused(b"\x82\xc4\x01a\x01\xc4\x01a\x02", "a key comes twice in one map: b'a'")
    assert unpack(b"\x82\xa1a\x01\xc4\x01a\x02", SMALL) == {"a": 1, b"a": 2}


@pytest.mark.parametrize("key", [1, None, True, 1.5, [1], {"a": 1}, np.arange(2)])
def test_a_key_must_be_a_text_or_bytes(key):
    message = b"\x81" + msgpack_numpy.packb(key) + b"\x01"
    refused(message, "a key must be a text or bytes, got")


@pytest.mark.parametrize(
    "data",
    [
        msgpack.packb(msgpack.ExtType(5, b"x")),
        msgpack.packb(msgpack.ExtType(5, b"x" * 300)),
        msgpack.packb(msgpack.Timestamp(1, 2)),
        b"\xc1",
        b"\xc9\xff\xff\xff\xff\x05",
    ],
)
def test_extension_types_are_refused(data):
    refused(data, "byte 0 is 0x.*: no value of this protocol begins so")


def test_a_pickle_is_not_a_message():
    refused(b"\x80\x04\x95" + bytes(20), "follow the message's end")


def test_text_must_be_utf_8():
    refused(b"\xa2\xff\xfe", "byte 1: a text is not UTF-8")


def test_nothing_may_follow_and_nothing_may_lack():
    refused(b"", "byte 0: 1 bytes are announced, 0 are left")
    refused(b"\xc0\xc0", "1 bytes follow the message's end")
    refused(struct.pack(">BI", 0xC6, 10) + b"123", "byte 5: 10 bytes are announced, 3 are left")


@pytest.mark.parametrize("name", ["size", "depth", "elements", "text"])
def test_limits_must_be_some(name):
    with pytest.raises(ValueError, match=f"MessageLimits: {name} must be at least 1, got 0"):
        MessageLimits(**{name: 0})


def test_depth_is_limited_by_the_reader_itself():
    with pytest.raises(ValueError, match="depth may be 64 at most, got 65"):
        MessageLimits(depth=65)
    assert unpack(b"\x91" * 64 + b"\xc0", MessageLimits(depth=64)) is not None
