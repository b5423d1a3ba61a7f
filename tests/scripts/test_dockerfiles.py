"""The Dockerfiles: every line is known, what is copied is there, and the command is one of ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from dockerfile import Step, command, context, copied, steps

from b1k_eval.cli.main import VERBS
from b1k_eval.cli.main import command as verb

ROOT = Path(__file__).parents[2]


def test_the_twins_image_is_made_of_what_is_there_and_starts_a_verb():
    found = steps((ROOT / "Dockerfile").read_text("utf-8"))
    sent = {path.as_posix() for path, _ in copied(Step("COPY", ". /src"), ROOT)}
    assert [step.text for step in found if step.word == "COPY"] == [". /src"]
    needed = ("pyproject.toml", "README.md", "LICENSE", "eval/b1k_eval/cli/main.py")
    assert sent.issuperset(needed)
    assert all((ROOT / path).is_file() for path in sent)
    unwanted = [path for path in sent if "__pycache__" in path or path.startswith((".", "tests"))]
    assert not unwanted
    assert command(found) == ["b1k-eval", "--help"]
    assert "smoke" in VERBS
    assert verb("smoke").make_context("smoke", []).params
    extras = next(step.pairs()["EXTRAS"] for step in found if step.word == "ARG")
    assert set(extras.split(",")) == {"report", "server"}


def test_lines_go_on_after_a_backslash_and_unknown_ones_are_refused():
    (_, run, env) = steps("FROM a\n# b\nRUN one \\\n    # aside\n    && two\nENV A=1 B='2 3'\n")
    assert run == Step("RUN", "one && two")
    assert env.pairs() == {"A": "1", "B": "2 3"}
    for line in ("VOLUME /x", "COPY --from=a b c", "RUN <<EOF"):
        with pytest.raises(ValueError, match="not known here"):
            steps(f"FROM a\n{line}\n")
    with pytest.raises(ValueError, match="begin with FROM"):
        steps("RUN true")


def test_what_dockerignore_keeps_out_cannot_be_copied(tmp_path):
    for name in ("a/one.py", "a/__pycache__/one.pyc", "b/two.py", "three"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".dockerignore").write_text("# note\n*\n!a\n!three\n**/__pycache__\n")
    assert [path.as_posix() for path in context(tmp_path)] == ["a/one.py", "three"]
    assert copied(Step("COPY", "three a /x"), tmp_path) == [
        (Path("three"), "/x"),
        (Path("a/one.py"), "/x/one.py"),
    ]
    assert copied(Step("COPY", "three /x/"), tmp_path) == [(Path("three"), "/x/three")]
    with pytest.raises(ValueError, match="COPY b: there is no such file"):
        copied(Step("COPY", "b /b"), tmp_path)
