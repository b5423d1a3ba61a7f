"""The shipped policy that learned: it washes the gloves, and with wrong poses it does not."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from omnigibson_double.fixtures import _og_data_2026, og_2026  # noqa: F401
from typer.testing import CliRunner

from b1k_eval.cli.main import app

pytest.importorskip("torch")
pytestmark = pytest.mark.slow


def actions_of(out):
    """Actions of the one episode, float [steps, 23]."""
    table = pd.read_parquet(next(out.glob("episodes/*/trace.parquet")))
    return table.filter(regex=r"^action_").to_numpy()


def outcome_of(out, *options):
    """Outcome and sub-goals of one episode of the shipped checkpoint."""
    run = ["run", "--task", "31", "--ckpt", "twin-v17", "--no-video", "--out", str(out)]
    result = CliRunner().invoke(app, [*run, "--max-steps", "1800", *options])
    assert result.exit_code == 0, result.output
    done = json.loads(next(out.glob("episodes/*/result.json")).read_text())
    return done["outcome"], done["subgoals"]


def test_it_washes_both_gloves_by_its_pictures(tmp_path):
    outcome, subgoals = outcome_of(tmp_path / "run")
    assert outcome == "success"
    assert all(step is not None for step in subgoals.values())


def test_with_the_cameras_poses_in_another_order_it_does_not_even_open_the_washer(tmp_path):
    wrong = ("--set", "extrinsics_rows=left_wrist,right_wrist,head", "--force-contract")
    outcome, subgoals = outcome_of(tmp_path / "run", *wrong, "--max-steps", "600")
    assert outcome == "failure"
    assert subgoals["washer_opened"] is None


def test_in_omnigibson_it_runs_on_pictures_that_it_never_saw(tmp_path, og_2026):  # noqa: F811
    here = ("--sim", "omnigibson", "--max-steps", "12")
    outcome, _ = outcome_of(tmp_path / "run", *here)
    assert outcome == "failure"
    moved = np.ptp(actions_of(tmp_path / "run"), axis=0)
    assert moved.max() > 0.05  # it acts on them
