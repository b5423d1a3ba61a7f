"""Chunk execution against a reference that keeps every chunk and recomputes from scratch."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from b1k_envs.errors import UsageError
from b1k_eval.loop.chunking import Chunking, RecedingHorizon, TemporalEnsemble


def drive(chunking: Chunking, chunk_length: int, steps: int, seed: int):
    """Run a strategy on random chunks; returns its actions, and all chunks by their start."""
    rng = np.random.default_rng(seed)
    chunks, actions = {}, []
    for step in range(steps):
        if chunking.wants_inference(step):
            chunks[step] = rng.standard_normal((chunk_length, 23)).astype(np.float32)
            chunking.add(step, chunks[step])
        actions.append(chunking.action(step).copy())
    return np.array(actions), chunks


lengths = st.integers(1, 12)


@given(data=st.data(), length=lengths, steps=st.integers(1, 40))
def test_receding_horizon_executes_the_first_h_rows_of_every_chunk(data, length, steps):
    horizon = data.draw(st.integers(1, length))
    actions, chunks = drive(RecedingHorizon(horizon, length), length, steps, seed=1)
    assert list(chunks) == list(range(0, steps, horizon))
    expected = np.concatenate([chunk[:horizon] for chunk in chunks.values()])[:steps]
    np.testing.assert_array_equal(actions, expected)


@given(
    data=st.data(),
    length=lengths,
    steps=st.integers(1, 40),
    decay=st.floats(0, 2, allow_nan=False),
)
def test_temporal_ensemble_is_the_weighted_mean_of_all_overlapping_predictions(
    data, length, steps, decay
):
    every = data.draw(st.integers(1, length))
    actions, chunks = drive(TemporalEnsemble(every, decay, length), length, steps, seed=2)
    assert list(chunks) == list(range(0, steps, every))
    for step in range(steps):
        rows = [
            c[step - start] for start, c in sorted(chunks.items()) if 0 <= step - start < length
        ]
        weights = [math.exp(-decay * i) for i in range(len(rows))]  # i = 0 is the oldest
        for column in range(23):
            total = math.fsum(w * float(row[column]) for w, row in zip(weights, rows, strict=True))
            assert actions[step, column] == pytest.approx(total / math.fsum(weights), abs=1e-6)


def test_ensemble_weighs_the_oldest_prediction_most():
    chunking = TemporalEnsemble(1, math.log(3), 2)
    chunking.add(0, np.full((2, 23), 1.0, dtype=np.float32))
    chunking.action(0)
    chunking.add(1, np.full((2, 23), 5.0, dtype=np.float32))
    np.testing.assert_allclose(chunking.action(1), 2.0, rtol=1e-6)  # (1*1 + 1/3*5) / (4/3)


@given(decay=st.floats(0, 3, allow_nan=False), value=st.floats(-1, 1, width=32))
def test_predictions_that_agree_come_out_exactly(decay, value):
    chunking = TemporalEnsemble(1, decay, 7)
    chunk = np.full((7, 23), value, dtype=np.float32)
    for step in range(20):
        chunking.add(step, chunk)
        assert (chunking.action(step) == np.float32(value)).all()


def test_ensemble_asked_every_t_steps_is_receding_horizon_t():
    ensemble, _ = drive(TemporalEnsemble(6, 0.3, 6), 6, 25, seed=3)
    receding, _ = drive(RecedingHorizon(6, 6), 6, 25, seed=3)
    np.testing.assert_array_equal(ensemble, receding)


@pytest.mark.parametrize(
    "make", [lambda: RecedingHorizon(4, 6), lambda: TemporalEnsemble(2, 0.1, 6)]
)
def test_reset_forgets_the_previous_episode(make):
    fresh, _ = drive(make(), 6, 9, seed=4)
    used = make()
    drive(used, 6, 11, seed=5)
    used.reset()
    again, _ = drive(used, 6, 9, seed=4)
    np.testing.assert_array_equal(fresh, again)


def test_chunks_are_not_written_to():
    chunk = np.ones((3, 23), dtype=np.float32)
    chunk.setflags(write=False)
    for chunking in (RecedingHorizon(3, 3), TemporalEnsemble(1, 0.1, 3)):
        for step in range(3):
            if chunking.wants_inference(step):
                chunking.add(step, chunk)
            chunking.action(step)
    assert (chunk == 1).all()


@pytest.mark.parametrize("horizon", [0, -1, 9])
def test_horizon_outside_the_chunk_is_refused(horizon):
    text = f"--horizon {horizon} must lie between 1 and the policy's chunk length, 8"
    with pytest.raises(UsageError, match=f"^{re.escape(text)}$"):
        RecedingHorizon(horizon, 8)


@pytest.mark.parametrize(
    ("every", "decay", "text"),
    [
        (0, 0.1, "--ensemble-every 0 must lie between 1 and the policy's chunk length, 8"),
        (9, 0.1, "--ensemble-every 9 must lie between 1 and the policy's chunk length, 8"),
        (1, -0.1, "--ensemble-decay -0.1 must be finite and at least 0"),
        (1, math.nan, "--ensemble-decay nan must be finite and at least 0"),
    ],
)
def test_ensemble_parameters_out_of_range_are_refused(every, decay, text):
    with pytest.raises(UsageError, match=f"^{re.escape(text)}$"):
        TemporalEnsemble(every, decay, 8)
