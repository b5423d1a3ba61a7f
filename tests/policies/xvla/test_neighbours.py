"""Folders of the neighbourhood: a flat upload of X-VLA loads, a policy of LeRobot is named."""

from __future__ import annotations

import json
import shutil

import pytest
from spoilt import Spoilt, answer, one_thread  # noqa: F401 - a fixture

from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.xvla.files.checkpoint import locate

pytestmark = pytest.mark.usefixtures("one_thread")

FAMILY = {"contract": "v17", "force_contract": True}


@pytest.fixture
def flat(tiny_family, tmp_path):
    """The family's stand-in with its modules beside config.json, as plain uploads have them."""
    spoilt = Spoilt(tiny_family, tmp_path / "flat")
    for path in (spoilt.code / "models").glob("*.py"):
        if path.name != "__init__.py":
            shutil.move(path, spoilt.folder / path.name)
    shutil.rmtree(spoilt.folder / "code")
    transformer = spoilt.folder / "transformer.py"
    transformer.write_text(transformer.read_text().replace("from da3_xvla.models.", "from ."))
    return spoilt


@pytest.mark.slow
def test_a_flat_upload_gives_the_actions_of_the_package(flat, tiny_family):
    policy = flat.policy(**FAMILY)
    whole = Spoilt(tiny_family, flat.folder.parent / "whole")
    expected = whole.policy(**FAMILY)
    assert (answer(policy) == answer(expected)).all()
    policy.close()
    expected.close()


def test_the_hash_of_flat_code_covers_its_sources_and_not_the_weights(flat):
    request = CheckpointRequest(ckpt=str(flat.folder))
    before = locate(request).code_sha256
    (flat.folder / "pytorch_model.bin").write_bytes(b"other")
    assert locate(request).code_sha256 == before
    (flat.folder / "layers.py").write_text("# other\n")
    assert locate(request).code_sha256 != before


def test_flat_code_that_was_downloaded_is_not_run_without_consent(flat):
    (flat.folder / ".cache" / "huggingface" / "download").mkdir(parents=True)
    code, message = flat.refused(**FAMILY)
    assert code == 4
    assert "pass --trust-checkpoint-code" in message


def test_flat_code_may_be_given_apart_and_a_folder_models_is_taken_for_its_package(
    flat, tiny_family
):
    where = {"ckpt": str(tiny_family)}
    found = locate(CheckpointRequest(**where, code_dir=str(flat.folder)))
    assert found.code_root == flat.folder
    inside = tiny_family / "code" / "da3_xvla" / "models"
    assert locate(CheckpointRequest(**where, code_dir=str(inside))).code_root == inside.parent


@pytest.mark.parametrize(
    ("config", "files", "marks"),
    [
        ({"type": "pi0", "input_features": {}}, (), "type 'pi0' in config.json"),
        (
            {"type": "xvla", "model_type": "xvla"},
            ("policy_preprocessor.json", "policy_postprocessor.json"),
            "policy_postprocessor.json, policy_preprocessor.json, type 'xvla' in config.json",
        ),
    ],
)
def test_a_policy_of_lerobot_is_named_with_the_way_that_works(
    tiny_family, tmp_path, config, files, marks
):
    spoilt = Spoilt(tiny_family, tmp_path / "lerobot")
    (spoilt.folder / "config.json").write_text(json.dumps(config))
    for name in files:
        (spoilt.folder / name).write_text("{}")
    assert spoilt.refused(**FAMILY) == (
        4,
        f"FOLDER is a policy of LeRobot ({marks}), whose processors scale states and actions and "
        "are not run here: serve it with LeRobot behind openpi's WebSocket protocol "
        "(docs/server.md) and pass --policy ws://HOST:PORT in place of --ckpt",
    )
