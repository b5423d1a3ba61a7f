"""The action noise has the statistics it promises, is seeded, and leaves the grippers alone."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from b1k_envs.errors import UsageError
from b1k_eval.disturbances.noise import KICK_STEPS, ActionNoise, NoiseSpec, column_scale


def offsets(text, steps, seed=3):
    noise = ActionNoise(NoiseSpec.parse(text))
    noise.reset(seed)
    zero = np.zeros(23, dtype=np.float32)
    return np.array([noise.apply(zero) for _ in range(steps)], dtype=np.float64)


def test_spread_and_correlation_time_are_as_asked():
    rows = offsets("0.1,0.2", 60_000) / np.where(column_scale() > 0, column_scale(), 1)
    moved = rows[:, column_scale() > 0]
    np.testing.assert_allclose(moved.std(axis=0), 0.1, rtol=0.08)
    lag = 6  # 0.2 s at 30 Hz: one correlation time, 1/e
    correlation = (moved[:-lag] * moved[lag:]).mean(axis=0) / moved.var(axis=0)
    np.testing.assert_allclose(correlation, math.exp(-1), atol=0.06)


def test_no_correlation_time_is_white():
    rows = offsets("0.1,0", 40_000)[:, 0]
    assert abs(np.corrcoef(rows[:-1], rows[1:])[0, 1]) < 0.03


def test_grippers_are_untouched_and_the_command_is_not_written_to():
    noise = ActionNoise(NoiseSpec.parse("0.1,0.2,5,1"))
    command = np.linspace(-1, 1, 23).astype(np.float32)
    command.setflags(write=False)
    for _ in range(200):
        action = noise.apply(command)
        assert action.dtype == np.float32
        assert action[14] == command[14]
        assert action[22] == command[22]
        assert (action[[0, 3, 7, 15]] != command[[0, 3, 7, 15]]).all()


def test_kicks_are_constant_last_their_steps_and_come_as_often_as_asked():
    rows = offsets("0,0,0.5,0.2", 60_000)  # no noise: only kicks are left
    kicked = (rows[:, 0] != 0).astype(int)
    starts = np.flatnonzero(np.diff(kicked, prepend=0) == 1)
    ends = np.flatnonzero(np.diff(kicked, append=0) == -1)
    single = (ends - starts + 1) == KICK_STEPS  # two in a row look like one of twice the length
    assert single.mean() > 0.9
    for start in starts[single][:50]:
        assert (rows[start : start + KICK_STEPS] == rows[start]).all()
    assert len(starts) / (60_000 / 30) == pytest.approx(0.5, rel=0.15)
    assert np.abs(rows).max(axis=0) == pytest.approx(0.2 * column_scale(), rel=0.05)


def test_seeds_decide():
    np.testing.assert_array_equal(offsets("0.1,0.2,1", 50, 5), offsets("0.1,0.2,1", 50, 5))
    assert not np.array_equal(offsets("0.1", 50, 5), offsets("0.1", 50, 6))


def test_what_is_left_out_has_documented_defaults():
    assert NoiseSpec.parse("0.02") == NoiseSpec(
        sigma=0.02, correlation_s=0.3, kick_rate_hz=0.0, kick=pytest.approx(0.1)
    )
    assert NoiseSpec.parse("0.02,0.5,0.1,0.3") == NoiseSpec(
        sigma=0.02, correlation_s=0.5, kick_rate_hz=0.1, kick=0.3
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "much",
            "--action-noise 'much' must be SIGMA[,CORRELATION_S[,KICK_RATE_HZ[,KICK]]], numbers",
        ),
        (
            "1,2,3,4,5",
            "--action-noise '1,2,3,4,5' has 5 numbers; it is "
            "SIGMA[,CORRELATION_S[,KICK_RATE_HZ[,KICK]]]",
        ),
        (
            "-1",
            "--action-noise '-1': every number of SIGMA[,CORRELATION_S[,KICK_RATE_HZ[,KICK]]] "
            "must be >= 0",
        ),
        (
            "1,1,31",
            "--action-noise '1,1,31': KICK_RATE_HZ 31 is above the control rate, 30 Hz",
        ),
        (
            "0.1,0.3,1,0",
            "--action-noise '0.1,0.3,1,0': KICK_RATE_HZ 1 with kicks of size 0; give a KICK, which "
            "is 5 SIGMA where it is left out",
        ),
        (
            "0,0.3,1",
            "--action-noise '0,0.3,1': KICK_RATE_HZ 1 with kicks of size 0; give a KICK, which "
            "is 5 SIGMA where it is left out",
        ),
        (
            "0,0.3",
            "--action-noise '0,0.3' disturbs nothing: give a SIGMA, or kicks, or leave the option "
            "out",
        ),
        (
            "10.5",
            "--action-noise '10.5': SIGMA 10.5 is above 10; in an arm's joint it is radians, and "
            "0.01 to 0.1 is much",
        ),
        (
            "3,0.3,1",
            "--action-noise '3,0.3,1': KICK 15 is above 10; in an arm's joint it is radians, and "
            "0.01 to 0.1 is much",
        ),
    ],
)
def test_malformed_noise_is_refused(text, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        NoiseSpec.parse(text)


def test_the_size_of_kicks_that_never_come_is_not_held_against_a_strong_noise():
    assert NoiseSpec.parse("10").sigma == 10
