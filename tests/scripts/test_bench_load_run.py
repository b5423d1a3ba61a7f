"""The bench of `load_run`: what it reads is a whole run."""

from __future__ import annotations

import bench_load_run
import pytest

import b1k_eval


@pytest.mark.slow
def test_the_run_that_is_measured_is_whole(tmp_path):
    made = bench_load_run.make_run(tmp_path, 25)
    run = b1k_eval.load_run(made)
    assert len(run.episodes) == 25
    assert run.data[0].damaged == ()
    assert run.success_rate == 1.0
    names = [name for name, _, _ in bench_load_run.measure(made, repeats=1)]
    assert names[-4:] == [
        "`load_run`",
        "... in readings by `json`",
        "`load_run(...).episodes`",
        "the imports of both, once",
    ]
