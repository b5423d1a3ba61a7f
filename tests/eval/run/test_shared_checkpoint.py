"""Four workers and one tiny v17: loaded once, killed half way, and the episodes of a lone run.

In a batch the model's sums round otherwise, and a closed loop amplifies that: the bits are held
with an exact model (`test_shared_model`), and the checkpoint to a tolerance.
"""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from b1k_eval.cli.main import app
from b1k_eval.records.columns import CHECKSUMS
from b1k_eval.run import policies
from b1k_eval.run.progress.reporter import Reporter
from b1k_policies.remote.sharing.model import share_model


class Killing(Reporter):
    """Kills the model's process as soon as an episode is under way."""

    def __init__(self, models):
        self.models = models
        self.notes = []

    def step(self, key, snapshot):
        if self.models and not self.notes and self.models[0].starts == 1:
            pid = self.models[0].process_id
            if pid is not None and snapshot.step > 0:
                os.kill(pid, signal.SIGKILL)
                self.notes.append("killed")

    def note(self, text):
        self.notes.append(text)


def run(out, checkpoint, *options):
    words = [
        "run", "--task", "31", "--ckpt", checkpoint, "--device", "cpu", "--instances", "0-3",
        "--max-steps", 19, "--no-video", "--json", "--out", out, *options,
    ]  # fmt: skip
    result = CliRunner().invoke(app, [*map(str, words)])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.slow
def test_four_workers_share_a_checkpoint_that_is_killed_half_way(tiny_v17, tmp_path, monkeypatch):
    models = []

    def noted(*arguments, **options):
        found = share_model(*arguments, **options)
        models.extend(found.values())
        return found

    reporter = Killing(models)
    monkeypatch.setattr(policies, "share_model", noted)
    monkeypatch.setattr("b1k_eval.cli.running.run.make_reporter", lambda _: reporter)
    shared = run(tmp_path / "shared", tiny_v17, "--workers", 4)
    assert [model.starts for model in models] == [2]  # once for all workers, once after its death
    assert reporter.notes == [
        "killed",
        "the process of the shared model died: it is started again",
    ]
    assert any("the workers share one copy of the model per GPU" in r for r in shared["remarks"])
    record = json.loads((tmp_path / "shared" / "run.json").read_text())
    assert record["sessions"][0]["policy"]["shared_copies"] == 1
    lone = run(tmp_path / "lone", tiny_v17)
    assert shared["counts"] == lone["counts"] == {"success": 0, "failure": 4, "error": 0}
    identity = json.loads((tmp_path / "lone" / "run.json").read_text())["identity"]
    assert record["identity"] == identity  # a run may be resumed either way
    for episode in range(4):
        ours, theirs = (
            pd.read_parquet(
                tmp_path / name / f"episodes/clean_boxing_gloves-{episode}-0/trace.parquet"
            )
            for name in ("shared", "lone")
        )
        asked = ours["inference"].to_numpy()
        assert (ours["latency_s"][asked] > 0).all()
        assert (ours["wait_s"][asked] >= 0).all()
        for column in theirs:
            if column in ("latency_s", "wait_s", *CHECKSUMS):  # these of what was rounded
                continue
            if theirs[column].dtype.kind == "f":
                np.testing.assert_allclose(ours[column], theirs[column], atol=1e-3, err_msg=column)
            else:
                assert ours[column].equals(theirs[column]), column
