"""The commands in the documentation have verbs and options that exist."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from b1k_eval.cli.main import VERBS, command

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> list[list[str]]:
    """Words of each `b1k-eval` command in a block of code."""
    text = re.sub(r"\\\n\s*", " ", page.read_text(encoding="utf-8"))
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    typed = [shlex.split(line, comments=True) for line in lines if line.startswith("b1k-eval ")]
    return typed + [json.loads(words) for words in re.findall(r"^CMD (\[.*\])$", text, re.M)]


def known(verb: str) -> set[str]:
    """Options of a verb."""
    parameters = command(verb).params
    return {option for each in parameters for option in (*each.opts, *each.secondary_opts)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_exist(page: Path) -> None:
    for _, verb, *words in commands(page):
        assert verb in VERBS, f"{page.name}: {verb}"
        unknown = {word.partition("=")[0] for word in words if word.startswith("--")} - known(verb)
        assert not unknown, f"{page.name}: b1k-eval {verb} {' '.join(words)}"


def test_commands_are_found_at_all() -> None:
    served = commands(ROOT / "docs" / "server.md")
    assert ["b1k-eval", "serve", "--ckpt", "/checkpoint"] in [words[:4] for words in served]
    assert len(commands(ROOT / "docs" / "omnigibson.md")) >= 8
