"""The frozen encoder's weights where a checkpoint lacks some or all: proven, or refused by name.

The checkpoint is the stand-in for the public family, whose `da3_inline` is the encoder; what it
would be published as is written into a hub's cache that a test has to itself.
"""

from __future__ import annotations

import json

import pytest
from safetensors.torch import save_file
from spoilt import DA3, PICKLE, Spoilt, one_thread  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("one_thread")

FAMILY = {"contract": "v17", "force_contract": True}
NAME = "depth-anything/DA3-LARGE"
COMMIT = "5e9f" * 10
CONDITIONING = "models/da3_conditioning.py"
ENCODER = "da3_inline."
METHOD = "    def reload_pretrained_weights(self)"


@pytest.fixture
def spoilt(tiny_family, tmp_path):
    return Spoilt(tiny_family, tmp_path / "spoilt")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty hub's cache, and no hub."""
    from huggingface_hub import constants

    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return folder


@pytest.fixture
def published(cache, tiny_family):
    """Publishes an encoder: that of the checkpoint, changed; returns its tensors."""

    def publish(change=lambda tensors: tensors):
        import torch

        stored = torch.load(tiny_family / PICKLE, weights_only=True)
        encoder = {
            f"model.{name.removeprefix(ENCODER)}": tensor.clone()
            for name, tensor in stored.items()
            if name.startswith(ENCODER)
        }
        repo = cache / f"models--{NAME.replace('/', '--')}"
        snapshot = repo / "snapshots" / COMMIT
        snapshot.mkdir(parents=True)
        (repo / "refs").mkdir()
        (repo / "refs" / "main").write_text(COMMIT)
        encoder = change(encoder)
        save_file(encoder, snapshot / "model.safetensors")
        return encoder

    return publish


def without(*names):
    """Drop tensors of the encoder: those with one of the names in them."""
    return lambda tensors: {
        name: tensor
        for name, tensor in tensors.items()
        if not (name.startswith(ENCODER) and any(part in name for part in names))
    }


def no_encoder(tensors):
    return without("")(tensors)


def without_reload(spoilt):
    spoilt.edit(METHOD, "    def no_reload(self)", CONDITIONING)


def loads_instead(spoilt, arguments):
    """Have the reload method load this."""
    usual = "self.load_state_dict(tensors)"
    spoilt.edit(usual, f"self.load_state_dict({arguments})", CONDITIONING)


# --- what is proven


@pytest.mark.slow
@pytest.mark.parametrize("reload", [True, False], ids=["reload", "no reload"])
@pytest.mark.parametrize("kept", ["none", "some"])
def test_what_is_missing_is_that_of_the_snapshot_to_the_last_bit(spoilt, published, reload, kept):
    import torch

    encoder = published()
    spoilt.tensors(no_encoder if kept == "none" else without("queries", "mix"))
    if not reload:
        without_reload(spoilt)
    policy = spoilt.policy(**FAMILY)
    state = policy.model.model.state_dict()
    inside = [name for name in state if name.startswith(ENCODER)]
    assert len(inside) == len(encoder)
    assert all(
        torch.equal(state[name], encoder[f"model.{name.removeprefix(ENCODER)}"]) for name in inside
    )
    (remark,) = [text for text in policy.remarks if "geometry encoder" in text]
    assert f"each is that of {NAME} at {COMMIT[:12]}, compared number by number" in remark
    digest = policy.describe()["fetched_weights_sha256"]
    policy.close()
    again = spoilt.policy(**FAMILY)
    assert len(digest) == 64
    assert again.describe()["fetched_weights_sha256"] == digest
    again.close()


def test_a_whole_checkpoint_needs_no_snapshot(spoilt, cache):
    policy = spoilt.policy(**FAMILY)
    assert policy.describe()["fetched_weights_sha256"] is None
    policy.close()


def test_names_of_the_codes_own_are_believed_where_the_values_are_the_snapshots(spoilt, published):
    published(lambda tensors: {f"old.{n[6:][::-1]}": tensor for n, tensor in tensors.items()})
    spoilt.tensors(no_encoder)
    spoilt.edit('name.removeprefix("model.")', 'name.removeprefix("old.")[::-1]', CONDITIONING)
    spoilt.policy(**FAMILY).close()


def test_layers_around_the_encoder_that_a_reload_sets_back_keep_what_was_stored(spoilt, published):
    """As the public family sets back the layers that join several of the encoder's."""
    import torch

    published()
    spoilt.edit(
        "        self.requires_grad_(not geometry",
        "        self.join = nn.Linear(3, 3)\n        self.requires_grad_(not geometry",
        CONDITIONING,
    )
    spoilt.edit(
        "        self.load_state_dict(tensors)\n",
        "        self.load_state_dict(tensors, strict=False)\n"
        "        nn.init.zeros_(self.join.weight)\n",
        CONDITIONING,
    )
    trained = {"da3_inline.join.weight": torch.eye(3) * 2, "da3_inline.join.bias": torch.ones(3)}
    spoilt.tensors(lambda tensors: {**no_encoder(tensors), **trained})
    policy = spoilt.policy(**FAMILY)
    state = policy.model.model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in trained.items())
    policy.close()


# --- what is refused


def test_an_empty_cache_is_told_with_what_to_get(spoilt, cache):
    spoilt.tensors(without("queries"))
    assert spoilt.refused(**FAMILY) == (
        4,
        "FOLDER: 1 tensor is not in the weights, all of the frozen geometry encoder: "
        f"da3_inline.queries.weight; the snapshot {NAME} is not in the hub's cache ({cache}): run "
        f"`hf download {NAME}` where there is a network and copy the cache, or store the encoder's "
        "weights with the checkpoint",
    )


def test_a_tensor_that_the_snapshot_lacks_too_is_refused(spoilt, published):
    published(lambda tensors: {n: t for n, t in tensors.items() if "queries" not in n})
    spoilt.tensors(no_encoder)
    loads_instead(spoilt, "tensors, strict=False")
    code, message = spoilt.refused(**FAMILY)
    assert code == 4
    assert message.endswith(
        f"1 tensor is not in {NAME} at {COMMIT[:12]} either: da3_inline.queries.weight; the model "
        "would have random numbers there: save the checkpoint with all of its encoder"
    )


def test_a_reload_of_another_encoder_is_refused(spoilt, published):
    published()
    spoilt.tensors(no_encoder)
    loads_instead(spoilt, "{name: tensor + 1e-6 for name, tensor in tensors.items()}")
    code, message = spoilt.refused(**FAMILY)
    assert code == 4
    assert f"not that of {NAME} at {COMMIT[:12]} after reload_pretrained_weights()" in message


def test_a_reload_that_leaves_tensors_as_they_were_is_refused(spoilt, published):
    """As they were is random, or whatever lay in memory."""
    published()
    spoilt.tensors(no_encoder)
    kept = "{name: t for name, t in tensors.items() if name != 'queries.weight'}"
    loads_instead(spoilt, f"{kept}, strict=False")
    code, message = spoilt.refused(**FAMILY)
    assert code == 4
    assert "after reload_pretrained_weights(): da3_inline.queries.weight;" in message


def test_a_reload_that_fails_is_told_in_its_own_words(spoilt, published):
    published()
    spoilt.tensors(no_encoder)
    loads_instead(spoilt, "{}['no such encoder']")
    code, message = spoilt.refused(**FAMILY)
    assert code == 4
    assert message.endswith("reload_pretrained_weights() failed: KeyError: 'no such encoder'")


def test_an_encoder_that_was_trained_is_not_completed_from_the_snapshot(spoilt, published):
    published(lambda tensors: {n: t * (1.5 if "mix" in n else 1) for n, t in tensors.items()})
    spoilt.tensors(without("queries"))
    code, message = spoilt.refused(**FAMILY)
    assert code == 4
    assert f" stored 4 differ from {NAME} at {COMMIT[:12]} (da3_inline.mix.0.weight, " in message
    assert "so it was trained" in message


def test_what_is_not_frozen_is_not_the_snapshots(spoilt, published):
    published()
    path = spoilt.folder / "config.json"
    document = json.loads(path.read_text())
    document["geometry_conditioning"]["freeze_da3"] = False
    path.write_text(json.dumps(document))
    spoilt.tensors(without("queries"))
    code, message = spoilt.refused(**FAMILY)
    assert code == 4
    assert "da3_inline.queries.weight; weights and code do not belong together" in message


def test_buffers_that_no_file_stores_are_as_the_code_makes_them(spoilt):
    import torch

    spoilt.edit(
        "        self.requires_grad_(",
        '        self.register_buffer("grid", torch.arange(64.0) / 64, persistent=False)\n'
        "        self.requires_grad_(",
        DA3,
    )
    policy = spoilt.policy(**FAMILY)
    assert torch.equal(policy.model.model.da3_inline.grid, torch.arange(64.0) / 64)
    policy.close()


# --- a path of another machine


def test_a_path_of_another_machine_is_told_with_what_to_set(spoilt, cache):
    path = spoilt.folder / "config.json"
    text = path.read_text().replace(NAME, "/home/somebody/models/DA3-LARGE")
    path.write_text(text)
    said = (
        "geometry_conditioning.da3_model_name in FOLDER/config.json is "
        "/home/somebody/models/DA3-LARGE, a path on another machine: set it to the encoder's hub "
        "id (depth-anything/DA3-LARGE?) or to a folder here"
    )
    (remark,) = [r for r in spoilt.remarks(**FAMILY) if "another machine" in r]
    assert remark.replace(str(spoilt.folder), "FOLDER") == f"not used here: {said}"
    spoilt.tensors(no_encoder)
    code, message = spoilt.refused(**FAMILY)
    assert code == 4
    assert message.endswith(said)


def test_a_folder_here_serves_as_the_encoder(spoilt, published, tmp_path):
    encoder = published()
    folder = tmp_path / "encoders" / "DA3-LARGE"
    folder.mkdir(parents=True)
    save_file(encoder, folder / "model.safetensors")
    path = spoilt.folder / "config.json"
    path.write_text(path.read_text().replace(NAME, str(folder)))
    spoilt.tensors(no_encoder)
    without_reload(spoilt)
    (remark,) = [r for r in spoilt.remarks(**FAMILY) if "geometry encoder" in r]
    assert f"each is that of {folder}," in remark
