"""`b1k-eval check-policy`: its document, its words and its exit codes."""

from __future__ import annotations

import json
import sys

import pytest
from typer.testing import CliRunner

from b1k_eval.cli.main import app

POLICY = """\
import numpy as np

from b1k_policies.base import ActionChunk, Policy


class Fixed(Policy):
    name, chunk_length, needs_images = "fixed", 100, False

    def __init__(self, width: int = 23, level: float = 0.0):
        self.width, self.level = width, level

    def reset(self, episode): ...

    def infer(self, observation):
        return ActionChunk(actions=np.full((100, self.width), self.level, np.float32))
"""


@pytest.fixture
def check(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "fixed.py").write_text(POLICY)
    return lambda *words: CliRunner().invoke(app, ["check-policy", *words])


def test_a_policy_that_passes_is_told_so_and_where_it_is_from(check):
    done = check("fixed.py:Fixed", "--policy-arg", "level=0.5", "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["policy"], document["passed"]) == ("fixed.py:Fixed", True)
    assert document["source"]["arguments"] == {"width": 23, "level": 0.5}
    assert {each["verdict"] for each in document["checks"]} == {"holds", "skipped"}
    words = check("fixed.py:Fixed").stdout
    assert "holds   repeats           Two made alike give the same chunks" in words
    assert words.endswith("10 holds, 0 fails, 0 note, 1 skipped\n")


def test_a_fault_exits_with_3_and_says_what_to_do(check):
    done = check("fixed.py:Fixed", "--policy-arg", "width=22")
    assert done.exit_code == 3
    assert "got float32 [100, 22]" in done.stdout
    assert "fails   actions" in done.stdout
    assert "ActionChunk(actions=...) takes np.float32, a row per control step" in done.stdout
    document = json.loads(check("fixed.py:Fixed", "--policy-arg", "width=22", "--json").stdout)
    assert document["passed"] is False


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ([], 2, "which policy? Give it as for run --policy, or --ckpt"),
        (["hold", "--ckpt", "x"], 2, "--policy and --ckpt both name a policy: give one of them"),
        (["fixed.py:Fixd"], 2, "has no class Fixd; did you mean Fixed?"),
        (["hold", "--protocol", "2027"], 2, "--protocol '2027' is unknown: choose 2025 or 2026"),
        (["hold", "--task", "dust"], 2, "'dust'"),
    ],
)
def test_what_is_wrong_with_the_words_is_said(check, words, code, text):
    done = check(*words)
    assert done.exit_code == code
    assert text in done.stderr
