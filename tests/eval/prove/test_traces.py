"""What is equal to the bit, what is rounding, and what is different; and the equivalence test."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from doubles import PREDICATES, RandomWalkPolicy

from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.loop.runner import run_episode
from b1k_eval.prove.equivalence import equivalence, pairs_for
from b1k_eval.prove.traces import GROWN, ROUNDING, compare_episodes
from b1k_eval.records.loading import EpisodeData
from b1k_eval.records.trace import Trace


@pytest.fixture
def recorded(toy_env, episode, tmp_path):
    """An episode of some 20 steps."""
    trace, folder = Trace(), tmp_path / "one"
    folder.mkdir()
    chunking = RecedingHorizon(4, 8)
    result = run_episode(toy_env, RandomWalkPolicy(), episode, chunking, subscribers=[trace])
    trace.write(folder / "trace.parquet")
    return EpisodeData(
        folder=folder,
        **{name: getattr(episode, name) for name in ("task", "task_index", "instance", "rollout")},
        seed=7,
        outcome="success",
        success=True,
        q_score=1.0,
        failure_reason=None,
        message=None,
        steps=result.steps,
        simulated_s=result.time,
        privileged=False,
        timing={},
    )


@pytest.fixture
def against(recorded, tmp_path):
    """The comparison with the same episode after changes: column, row (from 0), by how much."""

    def compared(*changes, rows=None, **fields):
        folder = tmp_path / "two"
        folder.mkdir(exist_ok=True)
        table = pq.read_table(recorded.trace).slice(0, rows)
        for name, row, change in changes:
            at, kind = table.column_names.index(name), table.schema.field(name).type
            values = table.column(name).to_pylist()
            values[row] = change(values[row])
            table = table.set_column(at, name, pa.array(values, kind))
        pq.write_table(table, folder / "trace.parquet")
        return compare_episodes(recorded, replace(recorded, folder=folder, **fields))

    return compared


def test_the_same_trace_is_equal_whatever_its_wall_times(against):
    assert against(("latency_s", 0, lambda _: 9.0), ("wait_s", 4, lambda _: 1.0)).verdict == "equal"


def test_a_number_that_moves_a_little_is_rounding_and_its_largest_difference_is_told(against):
    found = against(
        ("base_x", 5, lambda x: x + 1e-6),
        ("base_y", 9, lambda y: y + GROWN / 2),
        ("asked_state", 8, lambda s: s ^ 1),  # as of an observation that has moved
    )
    assert found.verdict == "rounding"
    assert (found.first.step, found.first.column) == (6, "base_x")
    assert (found.largest, found.largest_in) == (pytest.approx(GROWN / 2), "base_y")


@pytest.mark.parametrize(
    ("changes", "step", "column"),
    [
        ([("base_x", 5, lambda x: x + 2 * ROUNDING)], 6, "base_x"),
        ([("base_x", 5, lambda x: x + 1e-6), ("base_x", 9, lambda x: x + 2 * GROWN)], 6, "base_x"),
        ([("asked_state", 0, lambda s: s ^ 1), ("base_x", 0, lambda x: x + 1e-6)], 1, None),
        ([("asked_pictures", 4, lambda _: 7)], 5, "asked_pictures"),
        ([("base_x", 5, lambda x: x + 1e-6), (f"predicate:{PREDICATES[0]}", 6, lambda b: not b)],
         6, "base_x"),
        ([("asked_seed", 4, lambda s: s + 1), ("action_0", 4, lambda a: a + 0.1)], 5, "asked_seed"),
        ([("skill", 2, lambda _: "wipe")], 3, "skill"),
        ([("progress", 0, lambda _: 0.5), ("base_x", 3, lambda _: None)], 1, "progress"),
    ],
)  # fmt: skip
def test_anything_else_is_different_and_the_first_cell_is_named(against, changes, step, column):
    found = against(*changes)
    assert found.verdict == "different"
    assert (found.first.step, found.first.column) == (step, column or "asked_state")


def test_zero_and_minus_zero_are_not_equal_to_the_bit(against):
    found = against(("base_y", 3, lambda y: -y))
    assert (found.verdict, found.largest) == ("rounding", 0.0)


def test_an_episode_that_goes_on_longer_is_different(against, recorded):
    found = against(rows=recorded.steps - 2, steps=recorded.steps - 2)
    assert found.verdict == "different"
    assert found.first.words() == (
        f"clean_boxing_gloves-0-0, step {recorded.steps - 1}, step: {recorded.steps - 2} steps "
        f"instead of {recorded.steps} steps"
    )


def test_another_result_is_different_though_the_traces_are_equal(against):
    found = against(outcome="failure", success=False)
    assert found.first.words() == (
        "clean_boxing_gloves-0-0, result.json outcome: failure instead of success"
    )
    found = against(outcome="error", success=None, q_score=None, message="EnvError: it fell")
    assert found.first.words().endswith("outcome: EnvError: it fell instead of success")


def test_an_episode_that_is_not_there_is_different(recorded):
    assert compare_episodes(recorded, None).verdict == "different"
    (recorded.folder / "trace.parquet").unlink()
    found = compare_episodes(recorded, recorded)
    assert (found.verdict, found.first.column) == ("different", "trace.parquet")


def results(ones, zeros, start=0):
    return {n: [float(n < start + ones)] for n in range(start, start + ones + zeros)}


def test_few_episodes_are_undecided_and_say_how_many_more_would_decide():
    same = results(3, 3)
    found = equivalence((same, same), (same, same), bound=0.1)
    assert (found.verdict, found.pairs) == ("undecided", 6)
    # 80 % limit of 0 discordant pairs of 6: 1 - 0.2^(1/6); n = 0.235 (1.645 + 1.282)^2 / 0.01.
    assert found.more == 202 - 6
    assert pairs_for(0.1, 0.05) == 343
    assert found.words().endswith("196 more instances would show it, if nothing differs")


def test_many_equal_episodes_are_equivalent_within_the_bound_and_not_within_a_narrow_one():
    one, two = results(150, 50), results(150, 50)
    two[0], two[199] = [0.0], [1.0]
    assert equivalence((one, two), (one, two), bound=0.1).verdict == "equivalent"
    assert equivalence((one, two), (one, two), bound=0.005).verdict == "undecided"


def test_a_run_that_fails_far_more_often_is_apart():
    one, two = results(90, 10), results(30, 70)
    found = equivalence((one, two), (one, two), bound=0.1)
    assert (found.verdict, found.more) == ("apart", 0)
    assert "success +0.60 (+0.5" in found.words()
