"""docs/python.md and docs/evaluate.ipynb do what they say, in the twin."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from b1k_eval import frames

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "python.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def execute(blocks):
    """Run blocks one after the other, as a reader would, and return the names they leave."""
    names = {"__name__": "__main__"}
    for number, block in enumerate(blocks):
        if "import torch" in block and importlib.util.find_spec("torch") is None:
            pytest.skip("all but the blocks with torch has run")
        exec(compile(block, f"block {number}", "exec"), names)
    return names


@pytest.mark.slow
def test_every_block_of_the_page_runs_and_prints_what_the_text_promises(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS) == 7
    names = execute(BLOCKS)
    said = capsys.readouterr().out
    assert re.search(
        r"<Run '.*': turning_on_radio, tape; [12] success, [12] failure, 0 error>", said
    )
    assert names["page"].is_file()
    assert "did you mean max_steps" in said
    assert len(re.findall(r"^[012] \d\.\d+ 0\.0 0\.0$", said, re.MULTILINE)) == 3  # the epochs
    assert len(names["run"].episodes) == 2
    assert not re.search(r"^episode", said, re.MULTILINE)


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom_and_shows_a_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = json.loads((DOCS / "evaluate.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 5
    names = execute(code)
    assert names["run"].success_rate > 0
    assert "data:image/jpeg;base64," in names["run"]._repr_html_()
    assert len(names["run"].episodes) == 3


def test_the_tables_of_columns_are_those_of_the_frames():
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.+) \|$", PAGE, re.MULTILINE)
    declared = [*frames.RUNS.items(), *frames.EPISODES.items()]
    assert rows == [(name, column.dtype, column.meaning) for name, column in declared]
