"""The class that --policy names: found, or refused with the exact words."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from observations import made_observation
from serving import EPISODE

from b1k_envs.errors import UnavailableError, UsageError
from b1k_policies.own.loading import absolute_spec
from b1k_policies.registry import CHOICES, make_policy, source

POLICY = """\
from __future__ import annotations

import numpy as np

from b1k_policies.base import ActionChunk, Policy

import gains


class Still(Policy):
    name = "still"
    chunk_length = 4
    needs_images = False

    def reset(self, episode):
        self.seen = []

    def infer(self, observation):
        self.seen.append(observation)
        return ActionChunk(actions=np.full((4, 23), gains.GAIN, dtype=np.float32))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a policy in a file, and its helper; what they add to the process goes again."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    (tmp_path / "still.py").write_text(POLICY)
    (tmp_path / "gains.py").write_text("GAIN = 0.25\n")
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def refused(spec, error=UsageError):
    with pytest.raises(error) as caught:
        make_policy(spec)
    return str(caught.value)


def test_a_class_in_a_file_is_a_policy_and_may_import_what_lies_beside_it(folder):
    policy = make_policy("still.py:Still")
    policy.reset(EPISODE)
    observation = made_observation(0, "2026")
    assert (policy.infer(observation).actions == 0.25).all()
    assert policy.seen == [observation]
    assert policy.seen[0] is observation
    assert type(make_policy(str(folder / "still.py:Still"))) is type(policy)


def test_an_edited_file_is_imported_anew_even_within_the_same_second(folder):
    before = make_policy("still.py:Still")
    (folder / "still.py").write_text(POLICY.replace('"still"', '"quiet"'))
    assert (before.name, make_policy("still.py:Still").name) == ("still", "quiet")


def test_an_edited_helper_is_imported_anew(folder):
    observation = made_observation(0, "2026")
    for gain in (0.25, 0.5):
        (folder / "gains.py").write_text(f"GAIN = {gain}\n")
        policy = make_policy("still.py:Still")
        policy.reset(EPISODE)
        assert (policy.infer(observation).actions == gain).all()


def test_a_class_in_a_module_is_a_policy(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    (folder / "mine").mkdir()
    (folder / "mine" / "__init__.py").write_text("")
    (folder / "mine" / "still.py").write_text(POLICY)
    assert make_policy("mine.still:Still").name == "still"


def test_a_file_that_is_not_there(folder):
    assert refused("stil.py:Still") == (
        f"--policy stil.py:Still: there is no file {folder}/stil.py (No such file or directory); "
        f"did you mean {folder}/still.py?"
    )
    (folder / "empty").mkdir()
    assert refused("empty/a.py:A") == (
        f"--policy empty/a.py:A: there is no file {folder}/empty/a.py (No such file or directory)"
    )


def test_a_file_without_a_class(folder):
    assert refused("still.py") == (
        "--policy still.py: name its class as well, --policy still.py:Still"
    )


def test_a_class_that_is_not_there(folder):
    assert refused("still.py:Stil") == (
        f"--policy still.py:Stil: {folder}/still.py has no class Stil; did you mean Still?"
    )
    assert refused("still.py:Wave") == (
        f"--policy still.py:Wave: {folder}/still.py has no class Wave; it has Still"
    )


def test_a_class_that_is_no_policy_says_which_member_is_missing(folder):
    (folder / "other.py").write_text(
        "from b1k_policies.base import Policy\n"
        "class Thing:\n    def reset(self, episode): ...\n"
        "class Like(Thing):\n    def infer(self, observation): ...\n"
        "class Half(Policy):\n    def reset(self, episode): ...\n"
        "class Nameless(Half):\n    chunk_length = 3\n    def infer(self, observation): ...\n"
        "class Zero(Nameless):\n    name = 'zero'\n    chunk_length = -1\n"
    )
    a_subclass = "make it a subclass of b1k_policies.base.Policy"
    assert refused("other.py:Thing") == (
        f"--policy other.py:Thing is no policy: it lacks infer; {a_subclass}"
    )
    assert refused("other.py:Like") == (
        f"--policy other.py:Like is no policy: it does not derive from it; {a_subclass}"
    )
    assert refused("other.py:Half") == ("--policy other.py:Half is no whole policy: it lacks infer")
    assert refused("other.py:Nameless") == (
        "--policy other.py:Nameless is no whole policy: once made, it has no name; set it in the "
        "class or in __init__"
    )
    assert refused("other.py:Zero") == (
        "--policy other.py:Zero: chunk_length is -1, not a whole number from 1"
    )


def test_a_policy_that_raises_at_import_says_where(folder):
    (folder / "bad.py").write_text("def half(x):\n    return 1 / x\n\n\nHALF = half(0)\n")
    bad = folder / "bad.py"
    assert refused("bad.py:P", UnavailableError) == (
        f"--policy bad.py:P: importing it failed: {bad}, line 5, in <module>: HALF = half(0); "
        f"{bad}, line 2, in half: return 1 / x; ZeroDivisionError: division by zero"
    )
    (folder / "broken.py").write_text("x = 1\nclass P(:\n")
    assert refused("broken.py:P", UnavailableError) == (
        f"--policy broken.py:P: importing it failed: {folder}/broken.py, line 2: SyntaxError: "
        "invalid syntax"
    )
    (folder / "needy.py").write_text("import no_such_package\n")
    assert refused("needy.py:P", UnavailableError) == (
        f"--policy needy.py:P: importing it failed: {folder}/needy.py, line 1, in <module>: "
        "import no_such_package; ModuleNotFoundError: No module named 'no_such_package'"
    )
    (folder / "leaves.py").write_text("raise SystemExit(3)\n")
    assert refused("leaves.py:P", UnavailableError) == (
        "--policy leaves.py:P: importing it failed: it ended the process, SystemExit 3"
    )
    assert not [name for name in sys.modules if name.startswith("b1k_own_bad")]


def test_a_constructor_that_raises_says_where(folder):
    file = folder / "made.py"
    file.write_text(POLICY + "\n    def __init__(self, scale: float = 0.0):\n        1 / scale\n")
    assert refused("made.py:Still", UnavailableError) == (
        f"--policy made.py:Still: Still(scale: float = 0.0) raised: {file}, line 23, in __init__: "
        "1 / scale; ZeroDivisionError: float division by zero"
    )


def test_a_module_that_is_not_there(folder):
    assert refused("still:Still") == (
        "--policy still:Still: there is no module still; for the file in this folder give "
        "--policy still.py:Still"
    )
    assert refused("b1k_policies.nothing:P") == (
        "--policy b1k_policies.nothing:P: there is no module b1k_policies.nothing; install its "
        "package, or give the file, --policy path/to/file.py:CLASS"
    )


def test_what_is_no_class_is_refused_as_before(folder):
    for spec in ("hold:", "a b:C", "c.py:D.E"):
        assert re.match(f"--policy '{spec}' is unknown.* choose from ", refused(spec)), spec
    assert CHOICES[-2:] == ("FILE.py:CLASS", "PACKAGE.MODULE:CLASS")


def test_a_spec_becomes_absolute_and_others_stay(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    whole = f"{folder.resolve()}/still.py:Still"
    assert absolute_spec("still.py:Still") == whole
    assert absolute_spec("~/still.py:Still") == whole
    assert absolute_spec(whole) == whole
    for spec in ("hold", "mine.still:Still", "ws://a.py:8000", "replay:a.npy"):
        assert absolute_spec(spec) == spec


# --- what is recorded ----------------------------------------------------------------------------


def test_the_files_that_a_policy_imports_are_hashed_and_no_others(folder):
    import hashlib

    (folder / "unused.py").write_text("")
    (folder / "parts").mkdir()
    (folder / "parts" / "__init__.py").write_text("")
    (folder / "parts" / "deep.py").write_text("from .deeper import X\n")
    (folder / "parts" / "deeper.py").write_text("X = 1\n")
    (folder / "gains.py").write_text(
        "GAIN = 0.25\n\ndef later():\n    from parts import deep\n    import numpy\n"
    )
    found = source("still.py:Still")
    assert found is not None
    assert found.files == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in (
            "gains.py",
            "parts/__init__.py",
            "parts/deep.py",
            "parts/deeper.py",
            "still.py",
        )
    }
    assert (found.module, found.name, found.package) == ("still.py", "Still", None)


def test_of_a_package_the_modules_that_are_used_are_hashed(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    package = folder / "mine2" / "sub"
    package.mkdir(parents=True)
    for each in (folder / "mine2" / "__init__.py", package / "__init__.py", package / "other.py"):
        each.write_text("")
    (folder / "mine2" / "gains.py").write_text("GAIN = 1\n")
    (package / "still.py").write_text(POLICY.replace("import gains", "from .. import gains"))
    found = source("mine2.sub.still:Still")
    assert found is not None
    assert sorted(found.files) == [
        "mine2/__init__.py",
        "mine2/gains.py",
        "mine2/sub/__init__.py",
        "mine2/sub/still.py",
    ]
    assert found.module == "mine2.sub.still"


def test_the_commit_of_the_git_tree_is_noted_and_does_not_decide(folder):
    import subprocess

    def git(*words):
        who = ("-c", "user.name=A", "-c", "user.email=a@b")
        return subprocess.run(
            ["git", "-C", str(folder), *who, *words], check=True, capture_output=True, text=True
        ).stdout.strip()

    bare = source("still.py:Still")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    clean = source("still.py:Still")
    (folder / "gains.py").write_text("GAIN = 1\n")
    dirty = source("still.py:Still")
    assert bare.here() == {"source_commit": None, "source_dirty": None}
    assert clean.here() == {"source_commit": git("rev-parse", "HEAD"), "source_dirty": False}
    assert dirty.here() == {**clean.here(), "source_dirty": True}
    assert bare.identity() == clean.identity() != dirty.identity()


def test_built_in_policies_have_no_source_of_their_own(folder):
    np_file = Path("a.npy")
    for spec in ("hold", "expert", "checkpoint", f"replay:{np_file}", "ws://localhost:1"):
        assert source(spec) is None
