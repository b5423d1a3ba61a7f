"""The bench of the policies: it runs, and times what it says it times."""

from __future__ import annotations

import importlib
import re
import time
from dataclasses import replace
from functools import partial

import pytest
from spoilt import one_thread  # noqa: F401 - a fixture
from typer.testing import CliRunner

from b1k_policies.contract.presets import V17
from b1k_policies.xvla.batch import build_batch

pytestmark = pytest.mark.usefixtures("one_thread")  # and back, as the bench sets the number


@pytest.fixture
def bench():
    """scripts/bench_policy.py, which imports its neighbour as a script does."""
    return importlib.import_module("bench_policy")


@pytest.fixture
def run(bench, twin_2026, monkeypatch, tmp_path):
    """Runs it on the twin that is there already: rows by figure, from the file it writes."""
    observation = twin_2026.observe()
    monkeypatch.setattr(bench, "rendered", lambda: observation)
    app = bench.typer.Typer()
    app.command()(bench.main)

    def invoke(*arguments):
        file = tmp_path / "table.md"
        result = CliRunner().invoke(
            app, ["--repeats", "1", "--batches", "1,2", "--write", str(file), *arguments]
        )
        assert result.exit_code == 0, result.output
        head, line, *rows = file.read_text().splitlines()
        assert (head, line) == ("| figure | measured | wanted |", "|---|---|---|")
        return [tuple(cell.strip() for cell in row[1:-1].split("|")) for row in rows]

    return invoke


def test_help_names_what_can_be_chosen(bench):
    app = bench.typer.Typer()
    app.command()(bench.main)
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120", "NO_COLOR": "1"}).stdout
    for option in ("--repeats", "--write", "--device", "--real-widths", "--batches", "--threads"):
        assert option in shown
    assert "--scale" not in shown


@pytest.mark.slow
def test_the_tiny_checkpoints_give_a_table_with_what_was_wanted(run, bench, monkeypatch):
    few = partial(bench.world_rows, counts=(1, 2), steps=11)
    monkeypatch.setattr(bench, "world_rows", few)
    rows = run()
    figures = {row[0]: row[1:] for row in rows}
    wanted = {name: wish for name, (_, wish) in figures.items() if wish}
    assert wanted == {
        "v17: observation to batch, three full-size views": "< 3 ms",
        "v17: the same batch with PIL and numpy / that": "> 5",
        "v17: the same, share of the tiny model's inference": "< 2 %",
        "v4: the same, share of the tiny model's inference": "< 2 %",
    }
    for version in ("v17", "v4"):
        for count in (1, 2):
            name = f"{version}: inference of the tiny model, batch of {count}, per observation"
            assert re.fullmatch(r"\d+\.\d ms", figures[name][0])
    for count in (1, 2):
        assert float(figures[f"v17: observations per second, {count} twins"][0]) > 0


def test_a_batch_that_is_not_pils_stops_the_bench(bench, twin_2026):
    import torch

    seen, ids = twin_2026.observe(), torch.zeros(1, 50, dtype=torch.int64)
    pil = bench.pil_batch(seen, V17, ids)
    bench.check_same(build_batch([seen], V17, ids), pil, V17)
    for change in ({"resize_filter": "bilinear"}, {"domain_id": 0}, {"resize_antialias": False}):
        other = build_batch([seen], replace(V17, **change), ids)
        with pytest.raises(SystemExit, match=r"v17: the (pictures|two batches) differ"):
            bench.check_same(other, pil, V17)


@pytest.mark.slow
def test_the_stand_in_runs_small(run):
    rows = run("--real-widths", "--scale", "0.05", "--no-compile")
    eager = [row for row in rows if row[0].startswith("eager")]
    assert [(row[0], row[2]) for row in eager] == [
        ("eager, batch of 1", "< 333 ms"),
        ("eager, batch of 2", ""),
    ]


@pytest.mark.slow
def test_the_stand_in_runs_small_and_compiled(run):
    rows = run("--real-widths", "--scale", "0.05", "--batches", "1")
    assert [row[0] for row in rows if "batch" in row[0]] == [
        "eager, batch of 1",
        "compiled, batch of 1",
    ]


def test_the_stand_in_has_the_size_of_what_it_stands_for(bench):
    import torch

    with torch.device("meta"):
        model = bench.StandIn(1.0)

    def millions(*parts):
        return sum(p.numel() for part in parts for p in part.parameters()) / 1e6

    assert len(model.transformer) == 24
    assert model.transformer[0].out.weight.shape == (1024, 1024)
    assert millions(model.words, model.see, model.vision, model.language) == pytest.approx(
        830, 0.05
    )
    assert millions(model.each_view, model.all_views) == pytest.approx(304, 0.05)  # ViT-L
    assert len(model.each_view) + len(model.all_views) == 24


def test_waiting_threads_are_not_counted_as_computing(bench):
    import torch

    assert bench.cpu_clock() is time.process_time
    torch.set_num_threads(2)
    assert bench.cpu_clock() is time.perf_counter
    torch.set_num_threads(1)


def test_ways_are_timed_in_turn_and_their_first_calls_do_not_count(bench):
    called, ticks = [], iter(range(100))
    times = bench.timed(
        {name: lambda n=name: called.append(n) for name in ("a", "b")}, 2, lambda: next(ticks)
    )
    assert called == ["a", "b"] * 3
    assert times == {"a": [1000.0, 1000.0], "b": [1000.0, 1000.0]}
