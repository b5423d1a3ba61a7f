"""Verifying a checkpoint: the request, weights, code, and what it consists of."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import shutil

import numpy as np
import pytest
from checkpoint_files import found, refused, write_checkpoint, write_code
from safetensors.numpy import save_file

from b1k_envs.errors import UsageError
from b1k_policies.checkpoint import CheckpointRequest


@pytest.fixture
def folder(tmp_path):
    return write_checkpoint(tmp_path / "ckpt")


# --- the request -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ckpt": ""}, "--ckpt needs the folder of a checkpoint"),
        ({"code_dir": ""}, "--code-dir needs the folder of the package da3_xvla"),
        ({"device": "gpu"}, "--device 'gpu' is unknown; choose from auto, cpu, cuda, cuda:N"),
        ({"device": "cuda:"}, "--device 'cuda:'"),
        ({"autocast": "int8"}, "--autocast 'int8' is unknown; choose from bfloat16, float16"),
        ({"skill_id": -1}, "--skill-id -1 must be 0 or more"),
        ({"skill_progress": 1.5}, "--skill-progress 1.5 must lie in [0, 1]"),
        ({"skill_progress": float("nan")}, "--skill-progress nan must lie in [0, 1]"),
    ],
)
def test_a_value_no_checkpoint_allows_is_refused_by_the_name_of_its_option(options, text):
    with pytest.raises(UsageError, match=re.escape(text)):
        CheckpointRequest(**{"ckpt": "x", **options})


def test_the_limits_of_every_option_are_allowed():
    for device in ("auto", "cpu", "cuda", "cuda:11"):
        CheckpointRequest(ckpt="x", device=device, autocast="float16", skill_id=0)
    for progress in (0.0, 1.0):
        CheckpointRequest(ckpt="x", skill_progress=progress)


# --- the weights -----------------------------------------------------------------------------


def test_a_file_cut_short_is_refused_with_both_lengths(folder):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-17])
    refused(
        folder,
        f"{path} is not a complete safetensors file ({len(whole) - 17} bytes, its header says "
        f"{len(whole)}): download or copy it again",
    )


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "(0 bytes, shorter than its own header)"),
        ((300).to_bytes(8, "little") + b'{"a"', "(12 bytes, shorter than its own header)"),
        ((4).to_bytes(8, "little") + b"nope", "not a complete safetensors file (Error while"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
            "(it is a git-lfs pointer; `git lfs pull` fetches the file)",
        ),
    ],
)
def test_a_file_that_is_no_safetensors_is_refused_with_the_reason(folder, content, text):
    (folder / "model.safetensors").write_bytes(content)
    refused(folder, text)


def write_shards(folder, names):
    (folder / "model.safetensors").unlink(missing_ok=True)
    for i, name in enumerate(names):
        save_file({f"t{i}": np.full(3, i, np.float32)}, folder / name)
    index = {"metadata": {}, "weight_map": {f"t{i}": name for i, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return [folder / name for name in names]


SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def test_every_shard_of_an_index_is_found_and_checked(folder):
    shards = write_shards(folder, SHARDS)
    assert found(folder).weights == tuple(shards)
    shards[1].write_bytes(shards[1].read_bytes()[:-1])
    refused(folder, f"{shards[1]} is not a complete safetensors file")


def test_a_missing_shard_is_named(folder):
    shards = write_shards(folder, SHARDS)
    shards[1].unlink()
    refused(folder, f"{folder} lacks {SHARDS[1]}, named by model.safetensors.index.json")


@pytest.mark.parametrize(
    "text", ["[", "[]", '{"weight_map": {}}', '{"weight_map": {"a": "../x.safetensors"}}']
)
def test_an_index_that_names_no_shards_beside_it_is_refused(folder, text):
    write_shards(folder, SHARDS)
    (folder / "model.safetensors.index.json").write_text(text)
    refused(folder, "model.safetensors.index.json")


def test_pickled_weights_are_found_among_other_pickles_by_their_name(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "optimizer.pt").write_bytes(b"pickle")
    checkpoint = found(folder)
    assert checkpoint.weights == (folder / "pytorch_model.bin",)
    assert checkpoint.weights_format == "pickle"


def test_among_pickles_of_no_usual_name_none_is_guessed(folder):
    (folder / "model.safetensors").unlink()
    (folder / "a.pth").write_bytes(b"pickle")
    assert found(folder, allow_pickle=True).weights == (folder / "a.pth",)
    (folder / "b.ckpt").write_bytes(b"pickle")
    refused(folder, "holds several pickles (a.pth, b.ckpt)")


def test_safetensors_are_taken_where_both_are_there(folder):
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    checkpoint = found(folder, allow_pickle=True)
    assert checkpoint.weights_format == "safetensors"
    assert checkpoint.weights == (folder / "model.safetensors",)


def test_a_folder_without_weights_is_refused_with_what_it_holds(folder):
    (folder / "model.safetensors").unlink()
    refused(folder, "it holds README.md, code, config.json, merges.txt, vocab.json")


# --- the code --------------------------------------------------------------------------------


def test_the_code_may_be_given_as_the_package_or_as_its_parent(folder, tmp_path):
    mine = write_code(tmp_path / "mine" / "da3_xvla")
    assert found(folder, code_dir=str(mine)).code_root == mine
    assert found(folder, code_dir=str(mine.parent)).code_root == mine


def test_a_relative_code_dir_means_here_or_the_checkpoint_but_never_either_of_two(
    folder, tmp_path, monkeypatch
):
    elsewhere = tmp_path / "elsewhere"
    mine = write_code(elsewhere / "mine" / "da3_xvla")
    monkeypatch.chdir(elsewhere)
    inside = folder / "code" / "da3_xvla"
    assert found(folder, code_dir="mine").code_root == mine
    assert found(folder, code_dir="code/da3_xvla").code_root == inside
    here = write_code(elsewhere / "code" / "da3_xvla")
    for word in ("code/da3_xvla", "code"):
        with pytest.raises(UsageError) as caught:
            found(folder, code_dir=word)
        assert str(caught.value) == (
            f"--code-dir {word} can mean {here} (from the current directory) or {inside} (in the "
            f"checkpoint): give the absolute path of the one that is meant"
        )
    assert found(folder, code_dir=str(here)).code_root == here
    assert found(folder, code_dir=str(inside)).code_root == inside
    monkeypatch.chdir(folder)
    assert found(folder, code_dir="code/da3_xvla").code_root == inside


def test_code_that_is_not_the_checkpoints_own_is_told_by_the_files_that_differ(folder, tmp_path):
    assert found(folder).changed_code == ()
    mine = shutil.copytree(folder / "code" / "da3_xvla", tmp_path / "da3_xvla")
    assert found(folder, code_dir=str(mine)).changed_code == ()
    (mine / "more.py").write_text("")
    first, *_ = sorted(mine.rglob("*.py"))
    first.write_text(first.read_text() + "# changed\n")
    changed = found(folder, code_dir=str(mine)).changed_code
    assert changed == tuple(sorted(["more.py", first.relative_to(mine).as_posix()]))
    shutil.rmtree(folder / "code")
    assert found(folder, code_dir=str(mine)).changed_code == ()


def test_missing_code_is_refused_with_the_places_looked_at(folder):
    shutil.rmtree(folder / "code")
    refused(
        folder,
        f"no code for ckpt: looked for models/modeling_xvla.py in {folder}/code/da3_xvla, "
        f"{folder}; pass --code-dir",
    )
    refused(folder, f"{folder}/nowhere/da3_xvla; pass", code_dir=f"{folder}/nowhere")


# --- what it consists of ---------------------------------------------------------------------


def test_the_files_are_listed_with_the_sizes_and_hashes_of_their_bytes(folder):
    expected = {"config.json", "vocab.json", "merges.txt", "model.safetensors"}
    files = found(folder).files()
    assert {name for name, _, _ in files} == expected
    for name, size, digest in files:
        content = (folder / name).read_bytes()
        assert (size, digest) == (len(content), hashlib.sha256(content).hexdigest())


def test_a_moved_checkpoint_has_the_same_record_and_another_weight_another(folder, tmp_path):
    first = found(folder).to_dict()
    shutil.copytree(folder, tmp_path / "b" / "ckpt")
    assert found(tmp_path / "b" / "ckpt").to_dict() == first
    json.dumps(first, allow_nan=False)
    save_file({"a": np.ones(100, np.float32)}, folder / "model.safetensors")
    second = found(folder).to_dict()
    changed = {name for name, value in second.items() if value != first[name]}
    assert changed == {"weights_sha256", "files"}


def test_the_digest_of_the_weights_covers_contents_and_names(folder):
    shards = write_shards(folder, SHARDS)
    before = found(folder).weights_sha256
    contents = [shard.read_bytes() for shard in shards]
    for shard, content in zip(shards, reversed(contents), strict=True):
        shard.write_bytes(content)
    swapped = found(folder).weights_sha256
    renamed = [name.replace("model-", "model_") for name in SHARDS]
    write_shards(folder, renamed)
    assert len({before, swapped, found(folder).weights_sha256}) == 3


def test_the_digest_of_the_code_follows_its_files_and_ignores_compiled_ones(folder):
    root = folder / "code" / "da3_xvla"
    before = found(folder).code_sha256
    (root / "__pycache__").mkdir()
    (root / "__pycache__" / "x.cpython-311.pyc").write_bytes(b"x")
    (root / "models" / "y.pyc").write_bytes(b"y")
    (folder / "code" / "beside.py").write_text("")
    assert found(folder).code_sha256 == before
    (root / "z.py").write_text("")
    added = found(folder).code_sha256
    (root / "models" / "again").symlink_to(root)
    assert found(folder).code_sha256 == added
    (root / "z.py").rename(root / "w.py")
    renamed = found(folder).code_sha256
    (root / "w.py").write_text("1\n")
    assert len({before, added, renamed, found(folder).code_sha256}) == 4


def test_the_weights_are_read_once_and_a_pickled_checkpoint_keeps_its_hashes(folder):
    checkpoint = found(folder)
    before = checkpoint.weights_sha256
    (folder / "model.safetensors").unlink()
    assert checkpoint.weights_sha256 == before
    assert pickle.loads(pickle.dumps(checkpoint)).weights_sha256 == before


def test_the_geometry_encoder_is_the_one_config_names(folder):
    assert found(folder).geometry_model is None
    (folder / "config.json").write_text('{"geometry_conditioning": {"da3_model_name": "a/b"}}')
    assert found(folder).geometry_model == "a/b"
