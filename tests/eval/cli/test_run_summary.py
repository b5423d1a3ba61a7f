"""What the end of `run` says: how far an episode came, why it failed, and what to type next."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from b1k_eval.cli.main import app
from b1k_eval.run.episode import read_record
from b1k_eval.run.progress.reporter import ending

NEVER = "the robot never moved"


@pytest.fixture(scope="module")
def hold(tmp_path_factory):
    """The robot that does nothing, twice: the folder, what was printed, and the document."""
    folder = tmp_path_factory.mktemp("runs") / "hold"
    run = ["run", "--task", "31", "--policy", "hold", "--max-steps", "4", "--no-video"]
    said = CliRunner().invoke(app, [*run, "--instances", "0-1", "--out", str(folder)])
    assert said.exit_code == 0, said.output
    again = CliRunner().invoke(app, ["run", "--resume", "--out", str(folder), "--json"])
    return folder, said, json.loads(again.stdout)


def test_the_table_says_why_and_how_far_instead_of_time_limit(hold):
    _, said, _ = hold
    (row,) = [line for line in said.stdout.splitlines() if line.startswith("│        1")]
    assert [cell.strip() for cell in row.strip("│").split("│")][3:] == [
        "0 of 11",
        "5",
        "0 s",
        NEVER,
    ]
    (line,) = [line for line in said.stdout.splitlines() if "time limit" in line]
    assert line.strip() == "A time limit of 4 ends an episode after 5 steps."


def test_the_last_lines_say_where_most_were_lost_and_what_to_type_next(hold):
    folder, said, _ = hold
    lines = said.stdout.splitlines()
    assert "2 of 2 did not reach “robot near washer”." in lines
    assert lines[-1] == f"next    b1k-eval report {folder}"


def test_result_json_and_the_document_say_why(hold):
    folder, _, document = hold
    record = read_record(folder / "episodes" / "clean_boxing_gloves-0-0")
    assert record is not None
    assert record.diagnosis == {
        "label": "never_moved",
        "words": NEVER,
        "step": 5,
        "seen": "base and hands stayed within 0.00 m of their places in all 5 steps",
    }
    assert ending(record).endswith(f", 0 of 11 sub-goals reached, {NEVER}")
    (first, _) = document["episodes"]
    assert first["why"] == NEVER
    assert first["subgoals"] == dict.fromkeys(record.subgoals)
