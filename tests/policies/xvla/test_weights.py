"""Pickled weights: read without running them, converted to the last bit, told what they are."""

from __future__ import annotations

import errno
import json
import pickle

import pytest
from safetensors.torch import load_file
from spoilt import PICKLE, WEIGHTS, Spoilt, answer, one_thread  # noqa: F401 - a fixture
from typer.testing import CliRunner

from b1k_eval.cli.main import app

pytestmark = pytest.mark.usefixtures("one_thread")

FAMILY = {"contract": "v17", "force_contract": True}


@pytest.fixture
def spoilt(tiny_family, tmp_path):
    return Spoilt(tiny_family, tmp_path / "spoilt")


class Opens:
    """Unpickled by Python it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def saved(spoilt, value):
    import torch

    torch.save(value, spoilt.folder / PICKLE)


def tensors_of(spoilt):
    import torch

    return torch.load(spoilt.folder / PICKLE, weights_only=True)


def convert(*words, expect=0):
    result = CliRunner().invoke(app, ["convert", *map(str, words), "--json"])
    assert result.exit_code == expect, result.output
    return json.loads(result.stdout)


# --- loading


def test_a_pickle_of_tensors_needs_no_consent(spoilt):
    policy = spoilt.policy(**FAMILY)
    assert policy.describe()["checkpoint"]["weights_format"] == "pickle"
    policy.close()


def test_a_pickle_that_could_run_code_is_not_run_without_consent(spoilt, tmp_path):
    left = tmp_path / "left"
    saved(spoilt, {**tensors_of(spoilt), "extra": Opens(left)})
    assert spoilt.refused(**FAMILY) == (
        4,
        "FOLDER/pytorch_model.bin is a pickle that holds more than tensors (io.open), so loading "
        "it can run code: pass --allow-pickle if you trust the file",
    )
    assert not left.exists()


def test_with_consent_it_is_told_where_its_tensors_lie(spoilt, tmp_path):
    saved(spoilt, {**tensors_of(spoilt), "extra": Opens(tmp_path / "left")})
    code, message = spoilt.refused(**FAMILY, allow_pickle=True)
    assert code == 4
    assert "holds its tensors beside extra (TextIOWrapper): `b1k-eval convert FOLDER`" in message


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_tensors_below_a_key_are_converted_as_the_message_says(spoilt, key):
    saved(spoilt, {key: tensors_of(spoilt), "step": 50_000})
    code, message = spoilt.refused(**FAMILY)
    assert code == 4
    assert message == (
        f"FOLDER/pytorch_model.bin holds its tensors below {key!r}: `b1k-eval convert FOLDER` "
        "writes them, and nothing else, as safetensors"
    )
    convert(spoilt.folder)
    spoilt.policy(**FAMILY).close()


def test_no_pickle_of_tensors_is_told_as_what_it_is(spoilt):
    path = spoilt.folder / PICKLE
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    code, message = spoilt.refused(**FAMILY)
    assert (code, "is no complete file of torch's" in message) == (4, True), message
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    code, message = spoilt.refused(**FAMILY)
    assert (code, "git-lfs pointer" in message) == (4, True), message
    saved(spoilt, [1, 2, 3])
    code, message = spoilt.refused(**FAMILY)
    assert (code, "it holds list, not one set of tensors" in message) == (4, True), message


# --- converting


def test_it_writes_the_same_bits_under_the_same_names_beside_the_pickle(spoilt):
    import torch

    def odd(tensors):
        wide = torch.arange(12, dtype=torch.float32).reshape(3, 4)
        nan = torch.full((3,), torch.nan, dtype=torch.bfloat16)
        return {**tensors, "turned": wide.T, "part": wide[1], "nan": nan, "none": torch.empty(0)}

    spoilt.tensors(odd)
    before = tensors_of(spoilt)
    pickled = (spoilt.folder / PICKLE).read_bytes()
    document = convert(spoilt.folder)
    after = load_file(spoilt.folder / WEIGHTS)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype
        assert torch.equal(tensor.nan_to_num(7.0), after[name].nan_to_num(7.0)), name
    assert document["tensors"] == len(before)
    assert {"lm_head.weight", "vlm.words.weight"} <= set(document["shared"])
    assert document["executed"] is False
    assert (spoilt.folder / PICKLE).read_bytes() == pickled


@pytest.mark.slow
def test_the_converted_checkpoint_answers_as_the_pickle_did(spoilt, tmp_path):
    before = spoilt.policy(**FAMILY)
    expected = answer(before)
    before.close()
    convert(spoilt.folder, "--out", tmp_path / "new")
    assert not (tmp_path / "new" / PICKLE).exists()
    assert not (spoilt.folder / WEIGHTS).exists()
    spoilt.folder = tmp_path / "new"
    after = spoilt.policy(**FAMILY)
    assert after.describe()["checkpoint"]["weights_format"] == "safetensors"
    # Not to the last bit: sums are rounded by where in memory, and in a mapped file, weights lie.
    assert abs(answer(after) - expected).max() < 1e-6
    after.close()


def test_shards_become_one_file(spoilt):
    import torch

    tensors = tensors_of(spoilt)
    (spoilt.folder / PICKLE).unlink()
    names = sorted(tensors)
    placed = {name: f"pytorch_model-0000{1 + i % 2}-of-00002.bin" for i, name in enumerate(names)}
    for shard in set(placed.values()):
        held = {name: tensors[name].clone() for name in names if placed[name] == shard}
        torch.save(held, spoilt.folder / shard)
    index = {"metadata": {}, "weight_map": placed}
    (spoilt.folder / f"{PICKLE}.index.json").write_text(json.dumps(index))
    document = convert(spoilt.folder)
    assert len(document["sources"]) == 2
    after = load_file(spoilt.folder / WEIGHTS)
    assert all(torch.equal(tensors[name], after[name]) for name in names)


def test_entries_that_are_no_tensors_are_left_out_and_named(spoilt):
    saved(spoilt, {**tensors_of(spoilt), "step": 3})
    document = convert(spoilt.folder)
    assert document["left_out"] == {"step": "int"}
    assert document["remarks"] == ["left out, as no tensors: step (int)"]


def test_converting_runs_nothing_without_consent(spoilt, tmp_path):
    left = tmp_path / "left"
    saved(spoilt, {**tensors_of(spoilt), "extra": Opens(left)})
    error = convert(spoilt.folder, expect=4)["error"]
    assert "pass --allow-pickle" in error["message"]
    assert not left.exists()
    assert not (spoilt.folder / WEIGHTS).exists()
    assert convert(spoilt.folder, "--allow-pickle")["executed"] is True
    assert left.exists()


def test_what_cannot_be_converted_is_refused_and_nothing_is_written(spoilt, tiny_v17, tmp_path):
    error = convert(tiny_v17, expect=2)["error"]
    assert error["message"].endswith("model.safetensors already: there is nothing to convert")
    error = convert(spoilt.folder, "--out", spoilt.folder, expect=2)["error"]
    assert error["message"].endswith("is not an empty folder: choose another")
    download = spoilt.folder / ".cache" / "huggingface" / "download"
    download.mkdir(parents=True)
    error = convert(spoilt.folder, expect=2)["error"]
    assert error["message"].endswith("left as it is: give a new folder with --out")
    convert(spoilt.folder, "--out", tmp_path / "new")


def test_a_full_disk_leaves_nothing_beside_the_pickle(spoilt, monkeypatch):
    import safetensors.torch

    def full(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    before = sorted(spoilt.folder.iterdir())
    error = convert(spoilt.folder, expect=1)["error"]
    assert error["message"].endswith(
        "cannot be written (No space left on device): free some space, or give a new folder "
        "elsewhere with --out"
    )
    assert sorted(spoilt.folder.iterdir()) == before


# --- bfloat16


@pytest.mark.slow
def test_bfloat16_weights_are_told_what_works_and_it_does(spoilt, monkeypatch):
    monkeypatch.setenv("XVLA_POSED_DA3", "1")
    code, message = spoilt.refused(**FAMILY, settings=("dtype=bfloat16",))
    assert code == 4
    assert "generate_actions failed in a trial inference: RuntimeError" in message
    advice = "--set dtype=float32 --autocast bfloat16"
    assert message.endswith(advice)
    _, setting, _, autocast = advice.split()
    spoilt.policy(**FAMILY, settings=(setting,), autocast=autocast).close()


def test_the_stand_in_for_a_dangerous_pickle_is_one(tmp_path):
    pickle.loads(pickle.dumps(Opens(tmp_path / "left"))).close()
    assert (tmp_path / "left").exists()
