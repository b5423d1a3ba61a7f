"""The bench of `--help`: what it runs, what it counts, what it writes."""

from __future__ import annotations

import importlib
import sys

import pytest


@pytest.fixture
def bench():
    return importlib.import_module("bench_help")


def test_the_first_round_is_not_counted_and_rounds_run_in_turn(bench, monkeypatch):
    asked = []

    def wall_s(command):
        asked.append(command)
        return float(len(asked))

    monkeypatch.setattr(bench, "wall_s", wall_s)
    times = bench.in_turn({"a": ["A"], "b": ["B"]}, 2)
    assert asked == [["A"], ["B"]] * 3
    assert times == {"a": [3.0, 5.0], "b": [4.0, 6.0]}


def test_the_table_has_medians_and_the_slowest_verb(bench, monkeypatch, tmp_path):
    def wall_s(command):
        if command == (sys.executable, "-c", "pass"):
            return 0.01
        return {"--help": 0.2, "compare": 0.7}.get(command[3], 0.3)

    monkeypatch.setattr(bench, "wall_s", wall_s)
    bench.main(repeats=3, write=tmp_path / "table.md")
    written = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "| `b1k-eval --help` | 200 ms | < 500 ms |" in written
    assert "| ... in bare Pythons, run in turn | 20 |  |" in written
    assert "| `--help` of the slowest verb, `compare` | 700 ms |  |" in written


def test_a_command_that_fails_stops_the_bench(bench):
    with pytest.raises(bench.subprocess.CalledProcessError):
        bench.wall_s([sys.executable, "-c", "raise SystemExit(3)"])
