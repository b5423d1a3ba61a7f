"""From the words of the command line, and a run's record, to the request for a checkpoint."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from checkpoint_files import write_checkpoint, write_code

from b1k_envs.errors import UsageError
from b1k_eval.cli.checkpoints import contract as verb
from b1k_eval.cli.resolving import resolve_checkpoint
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.options import read
from b1k_policies.xvla.files.checkpoint import CheckpointError, locate
from b1k_policies.xvla.files.folder import CheckpointFolder


@pytest.fixture
def folder(tmp_path):
    return write_checkpoint(tmp_path / "ckpt")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Another directory, which is the current one."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def request(recorded=None, **options):
    if recorded is not None:
        recorded = read(CheckpointRequest, recorded, "checkpoint", others=False)
    return resolve_checkpoint(options, recorded, None)


# --- words that name files -----------------------------------------------------------------------


def test_an_empty_checkpoint_is_refused_and_not_the_current_directory(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(UsageError, match="--ckpt needs the folder of a checkpoint, or a hub id"):
        request(ckpt="")


def test_an_empty_code_dir_is_refused_and_not_the_current_directory(folder, monkeypatch):
    monkeypatch.chdir(folder / "code")
    with pytest.raises(UsageError, match="--code-dir needs the folder of the package da3_xvla"):
        request(ckpt=str(folder), code_dir="")


def test_a_contract_file_becomes_absolute_and_a_preset_stays_one(here):
    for name in ("mine.json", "v17"):  # a preset goes before a file of its name
        (here / name).write_text("{}")
    for word, kept in (("mine.json", str(here / "mine.json")), ("v17", "v17"), ("v71", "v71")):
        assert request(ckpt="org/name", contract=word).contract == kept


def test_own_code_is_found_again_from_elsewhere(folder, here, tmp_path, monkeypatch):
    mine = write_code(here / "mine" / "da3_xvla")
    first = request(ckpt=str(folder), code_dir="mine")
    hub = request(ckpt="org/name", code_dir="mine")
    monkeypatch.chdir(tmp_path)
    assert locate(first).code_root == mine
    assert hub.code_dir == str(mine.parent)
    again = request(asdict(first), code_dir="here/mine")
    assert again == first


def test_code_within_the_checkpoint_stays_that_one_wherever_a_resume_starts(folder, here):
    first = request(ckpt=str(folder), code_dir="code/da3_xvla")
    write_code(here / "code" / "da3_xvla")
    assert locate(first).code_root == folder / "code" / "da3_xvla"


def test_a_code_dir_that_can_mean_two_or_none_is_left_for_the_refusal(folder, here):
    with pytest.raises(CheckpointError, match="looked for"):
        locate(request(ckpt=str(folder), code_dir="nowhere"))
    write_code(here / "code" / "da3_xvla")
    with pytest.raises(UsageError, match="give the absolute path of the one that is meant"):
        locate(request(ckpt=str(folder), code_dir="code/da3_xvla"))
    # The hub's files are not here yet, and the card's own word is likely meant for them.
    assert request(ckpt="org/name", code_dir="code/da3_xvla").code_dir == "code/da3_xvla"


# --- a run that is resumed -----------------------------------------------------------------------


def test_consent_is_never_read_from_a_record(folder):
    before = CheckpointRequest(
        ckpt=str(folder), trust_code=True, allow_pickle=True, device="cpu", settings=("a=1",)
    )
    old = {**asdict(before), "settings": ["a=1"]}
    resumed = request(old)
    assert (resumed.trust_code, resumed.allow_pickle) == (False, False)
    assert (resumed.ckpt, resumed.device, resumed.settings) == (str(folder), "cpu", ("a=1",))
    new = {name: value for name, value in old.items() if name not in ("trust_code", "allow_pickle")}
    assert request(new) == resumed
    assert request(new, trust_code=True, allow_pickle=True) == before


# --- `b1k-eval contract` -------------------------------------------------------------------------


def test_the_contract_verb_asks_for_no_weights_and_passes_on_remarks(tmp_path, monkeypatch):
    folder = write_checkpoint(tmp_path / "snapshot")
    (folder / "config.json").write_text('{"geometry_conditioning": {"da3_process_res": 224}}')
    asked = []

    def find(word, **options):
        asked.append((word, options))
        return CheckpointFolder(folder=folder, origin=word, remarks=("from the cache",))

    monkeypatch.setattr(verb, "find_folder", find)
    found = verb._find("org/name", None, [], False)
    assert asked == [("org/name", {"weights": False})]
    assert found.remarks[0] == "from the cache"
    assert len(found.remarks) > 1
