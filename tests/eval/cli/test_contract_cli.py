"""`b1k-eval contract`: what it prints, what it refuses, and with which exit code."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from b1k_eval.cli.main import app
from b1k_policies.contract.contract import EvalContract
from b1k_policies.contract.presets import V4, V17


@pytest.fixture
def cli():
    runner = CliRunner(env={"COLUMNS": "200"})
    return lambda *arguments: runner.invoke(app, ["contract", *map(str, arguments)])


@pytest.fixture
def v17(tmp_path):
    """A checkpoint folder as far as its contract goes."""
    (tmp_path / "config.json").write_text(
        json.dumps({"num_actions": 30, "geometry_conditioning": {"da3_process_res": 224}})
    )
    (tmp_path / "EVAL_CONTRACT.json").write_text(
        json.dumps({"HEAD_K": "fx=fy=95.2, cx=cy=112", "mystery": [1, 2]})
    )
    return tmp_path


@pytest.mark.parametrize(("name", "preset"), [("v4", V4), ("v17", V17)])
def test_json_of_a_preset_is_the_contract(cli, name, preset):
    result = cli(name, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert EvalContract.from_dict(document["contract"]) == preset
    assert document["sources"]["camera_axes"]["sure"] == "open"
    assert result.stderr == ""


def test_what_json_prints_can_be_given_back(cli, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(cli("v17", "--set", "name=mine", "--json").stdout)
    assert json.loads(cli(path, "--json").stdout)["contract"]["name"] == "mine"


def test_a_preset_is_printed_for_people(cli):
    result = cli("v17")
    assert result.exit_code == 0, result.output
    for text in ("image_size", "224", "95.2, 95.2, 112.0, 112.0", "camera_to_base", "preset v17"):
        assert text in result.stdout
    assert "open, and taken from preset v17 unproven: extrinsics_direction" in result.stdout


def test_diff_shows_what_changed_and_nothing_else(cli):
    result = cli("diff", "v4", "v17")
    assert result.exit_code == 0, result.output
    for text in ("504", "224", "first_action", "extrinsics_rows", "progress_output", "214.2"):
        assert text in result.stdout
    assert "domain_id" not in result.stdout


def test_diff_as_json(cli, v17):
    changes = json.loads(cli("diff", "v4", v17, "--json").stdout)["changes"]
    assert [c["name"] for c in changes if c["effect"] != "derived"] == [
        "image_size",
        "geometry_size",
        "extrinsics_rows",
        "first_action",
        "progress_output",
    ]
    assert changes[0] == {
        "name": "image_size", "first": 504, "second": 224, "effect": "bytes", "sure": "card",
    }  # fmt: skip


def test_diff_of_the_same(cli):
    result = cli("diff", "v17", "v17")
    assert (result.exit_code, result.stdout) == (0, "v17 and v17: the same contract.\n")


def test_a_checkpoint_says_where_each_field_came_from_and_what_was_not_understood(cli, v17):
    result = cli(v17)
    assert result.exit_code == 0, result.output
    assert "config.json:geometry_conditioning.da3_process_res" in result.stdout
    assert "EVAL_CONTRACT.json:mystery: [1, 2]" in result.stdout
    assert "open, and taken from preset v17 unproven" in result.stdout


def test_v4_for_a_v17_folder_exits_3_with_a_table(cli, v17):
    result = cli(v17, "--contract", "v4")
    assert result.exit_code == 3
    assert result.stdout == ""
    assert "Contract and checkpoint disagree" in result.stderr
    assert "intrinsics.head" in result.stderr
    (line,) = [text for text in result.stderr.splitlines() if text.startswith("error: ")]
    assert "contract and checkpoint disagree on 2 fields: geometry_size: config.json:" in line
    assert "says 224, --contract v4 says 504;" in line


def test_the_same_as_json_is_one_document(cli, v17):
    result = cli(v17, "--set", "chunk_length=10", "--json")
    assert result.exit_code == 3
    error = json.loads(result.stdout)["error"]
    assert (error["type"], error["exit_code"]) == ("ContractConflictError", 3)
    assert "config.json:num_actions says 30, --set says 10" in error["message"]


def test_forced_it_is_printed_and_marked(cli, v17):
    result = cli(v17, "--contract", "v4", "--force-contract")
    assert result.exit_code == 0, result.output
    assert "FORCED" in result.stdout
    assert "Forced against the checkpoint's own files" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["v71"], "'v71' is no preset, folder or file; did you mean v17?"),
        (["org/na/me"], "neither a folder nor a hub id"),
        (["v4", "v17"], "to compare two: `b1k-eval contract diff v4 v17`"),
        (["diff", "v4"], "contract diff compares two contracts, got 1"),
        (["v17", "--contract", "v4"], "--contract is for a checkpoint folder"),
        (["v17", "--set", "chunk=3"], "'chunk' is no field of a contract"),
        (["v17", "--set", "first_action=30"], "but a chunk ends at row 29"),
    ],
)  # fmt: skip
def test_wrong_usage_exits_2_and_says_what_to_do(cli, arguments, message):
    result = cli(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
