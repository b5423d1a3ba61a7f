"""A saved observation is the same observation, and any other file is told what it lacks."""

from __future__ import annotations

import io
import re
import struct
import zipfile

import numpy as np
import pytest
from observations import VIEWS, made_observation

from b1k_envs.errors import UsageError
from b1k_policies.inspection.saved_observation import SavedObservation, read_npz, to_npz


@pytest.fixture(scope="module")
def saved():
    return SavedObservation(
        observation=made_observation(protocol="2026"), instruction="wash", seed=5, origin="a test"
    )


def test_a_saved_observation_reads_back_byte_for_byte(tmp_path, saved):
    path = tmp_path / "observation.npz"
    path.write_bytes(to_npz(saved))
    back = read_npz(path)
    assert (back.instruction, back.seed, back.origin) == ("wash", 5, "a test")
    for name in ("protocol", "task_index", "step", "time"):
        assert getattr(back.observation, name) == getattr(saved.observation, name)
    for name in ("proprio", "cam_rel_poses"):
        one, other = getattr(back.observation, name), getattr(saved.observation, name)
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()
        assert not one.flags.writeable
    for view in VIEWS:
        for name in ("images", "camera_to_base"):
            one, other = getattr(back.observation, name), getattr(saved.observation, name)
            assert (one[view] == other[view]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images.head": None}, "it lacks images.head"),
        ({"format": None}, "is no saved observation: it has no format"),
        ({"format": "b1k-eval-observation/9"}, "format is 'b1k-eval-observation/9', this version"),
        ({"protocol": "2024"}, "protocol '2024' is unknown"),
        ({"proprio": np.zeros(60, np.float32)}, "proprio must be float32 [61], got float32 [60]"),
        ({"proprio": np.full(61, np.nan, np.float32)}, "proprio holds a number that is not finite"),
        ({"images.head": np.zeros((4, 5, 3), np.uint8)}, "images.head must be uint8 [N, N, 3]"),
        ({"images.head": np.zeros((4, 4, 3))}, "images.head must be uint8 [N, N, 3], got float64"),
        ({"camera_to_base.head": np.zeros((4, 4), np.float32)}, "camera_to_base.head is no pose"),
        ({"seed": "x"}, "seed must be a number"),
        ({"origin": np.array(["a", object()])}, "or damaged"),
    ],
)  # fmt: skip
def test_a_damaged_or_foreign_file_says_what_is_missing(tmp_path, saved, change, message):
    with np.load(io.BytesIO(to_npz(saved))) as file:
        arrays = {**{name: file[name] for name in file.files}, **change}
    path = tmp_path / "observation.npz"
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(UsageError, match=re.escape(message)) as told:
        read_npz(path)
    assert str(path) in str(told.value)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut off"])
def test_what_is_no_npz_is_told(tmp_path, content):
    path = tmp_path / "observation.npz"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="no saved observation, or damaged"):
        read_npz(path)


def test_a_single_array_is_told_from_an_observation(tmp_path):
    path = tmp_path / "observation.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(UsageError, match="holds one array, not an observation"):
        read_npz(path)


@pytest.mark.parametrize(
    ("local", "central", "value"),
    [(6, 8, 1), (8, 10, 97)],  # flag: encrypted; method: one that zipfile does not know
    ids=["encrypted", "unknown compression"],
)
def test_a_zip_that_python_cannot_unpack_is_told(tmp_path, saved, local, central, value):
    path = tmp_path / "observation.npz"
    data = bytearray(to_npz(saved))
    for signature, offset in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        struct.pack_into("<H", data, data.find(signature) + offset, value)
    path.write_bytes(data)
    with pytest.raises(UsageError, match="no saved observation, or damaged"):
        read_npz(path)


def test_a_zip_of_other_things_than_arrays_is_told(tmp_path, saved):
    path = tmp_path / "observation.npz"
    path.write_bytes(to_npz(saved))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(UsageError, match=r"readme\.txt in it is no array"):
        read_npz(path)


def test_a_file_cut_short_or_missing_is_told(tmp_path, saved):
    path = tmp_path / "observation.npz"
    data = bytearray(to_npz(saved))
    with pytest.raises(UsageError, match="cannot be read"):
        read_npz(path)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UsageError, match="no saved observation, or damaged"):
        read_npz(path)
