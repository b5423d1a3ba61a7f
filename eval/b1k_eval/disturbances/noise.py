"""Disturbance of the executed actions, to test how a policy recovers: `--action-noise`.

Two parts are added to the command of every control step, grippers untouched:

- noise: a stationary first-order autoregressive (Ornstein-Uhlenbeck) Gaussian of standard
  deviation SIGMA and correlation time CORRELATION_S [s], independent per column;
- kicks: at random moments, about KICK_RATE_HZ per simulated second, a constant offset drawn
  uniformly from [-KICK, KICK] per column for `KICK_STEPS` control steps.

Both are multiplied by `column_scale`, because one number cannot suit both a velocity command and
a joint with a long lever. The sum is not clipped: the simulator's controllers limit it like any
command. Everything is drawn from the episode's seed.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from b1k_envs.base import Float32Array, Float64Array
from b1k_envs.errors import UsageError
from b1k_envs.r1pro import ACTION_DIM, ACTION_SLICES, CONTROL_HZ

KICK_STEPS = 5
"""Control steps a kick lasts (1/6 s)."""

DEFAULT_CORRELATION_S = 0.3
DEFAULT_KICK_IN_SIGMAS = 5.0

MAX_UNITS = 10.0
"""Largest SIGMA or KICK: more than 10 rad on an arm's joint can only be a mistake."""

_STREAM = 0x6E6F697365  # "noise": keeps the draws apart from the policy's, which share the seed


def column_scale() -> Float64Array:
    """Return the offset per unit of SIGMA or KICK, float64 [23].

    Base 5 (SIGMA 0.02 is then 0.1 of the velocity command: 0.075 m/s, 0.1 rad/s), trunk 0.5
    (0.01 rad about 1 m below the hands, 1 cm), arms 1 (0.02 rad), grippers 0.
    """
    scale = np.zeros(ACTION_DIM)
    scale[ACTION_SLICES["base"]] = 5.0  # of the [-1, 1] command
    scale[ACTION_SLICES["trunk"]] = 0.5  # rad
    scale[ACTION_SLICES["arm_left"]] = 1.0  # rad
    scale[ACTION_SLICES["arm_right"]] = 1.0  # rad
    return scale


@dataclass(frozen=True, kw_only=True)
class NoiseSpec:
    """Parameters of the disturbance; see the module header.

    Attributes:
        sigma: Standard deviation of the noise, in units of `column_scale`.
        correlation_s: Correlation time [s]; 0 for white noise.
        kick_rate_hz: Kicks per simulated second; 0 for none.
        kick: Largest offset of a kick, in units of `column_scale`.
    """

    sigma: float
    correlation_s: float
    kick_rate_hz: float
    kick: float

    @classmethod
    def parse(cls, text: str) -> NoiseSpec:
        """Read `SIGMA[,CORRELATION_S[,KICK_RATE_HZ[,KICK]]]`.

        Defaults: correlation 0.3 s, no kicks, and kicks of 5 SIGMA where a rate is given.

        Raises:
            UsageError: Not one to four finite numbers >= 0; kicks more often than every step, or
                of size 0; nothing disturbed at all; or SIGMA or KICK above `MAX_UNITS`.
        """
        form = "SIGMA[,CORRELATION_S[,KICK_RATE_HZ[,KICK]]]"
        try:
            numbers = [float(part) for part in text.split(",")]
        except ValueError:
            raise UsageError(f"--action-noise {text!r} must be {form}, numbers") from None
        if len(numbers) > 4:
            raise UsageError(f"--action-noise {text!r} has {len(numbers)} numbers; it is {form}")
        if not all(math.isfinite(number) and number >= 0 for number in numbers):
            raise UsageError(f"--action-noise {text!r}: every number of {form} must be >= 0")
        sigma = numbers[0]
        given = dict(zip(("correlation_s", "kick_rate_hz", "kick"), numbers[1:], strict=False))
        spec = cls(
            sigma=sigma,
            correlation_s=given.get("correlation_s", DEFAULT_CORRELATION_S),
            kick_rate_hz=given.get("kick_rate_hz", 0.0),
            kick=given.get("kick", DEFAULT_KICK_IN_SIGMAS * sigma),
        )
        if spec.kick_rate_hz > CONTROL_HZ:
            raise UsageError(
                f"--action-noise {text!r}: KICK_RATE_HZ {spec.kick_rate_hz:g} is above the "
                f"control rate, {CONTROL_HZ:g} Hz"
            )
        if spec.kick_rate_hz > 0 and spec.kick == 0:
            raise UsageError(
                f"--action-noise {text!r}: KICK_RATE_HZ {spec.kick_rate_hz:g} with kicks of size "
                f"0; give a KICK, which is {DEFAULT_KICK_IN_SIGMAS:g} SIGMA where it is left out"
            )
        if spec.sigma == 0 and spec.kick_rate_hz == 0:
            raise UsageError(
                f"--action-noise {text!r} disturbs nothing: give a SIGMA, or kicks, or leave the "
                "option out"
            )
        # A size that was not given counts only where there are kicks to have it.
        kick = spec.kick if "kick" in given or spec.kick_rate_hz > 0 else 0.0
        for name, size in (("SIGMA", spec.sigma), ("KICK", kick)):
            if size > MAX_UNITS:
                raise UsageError(
                    f"--action-noise {text!r}: {name} {size:g} is above {MAX_UNITS:g}; in an "
                    "arm's joint it is radians, and 0.01 to 0.1 is much"
                )
        return spec

    def describe(self) -> dict[str, Any]:
        """Return the parameters and the constants, for run.json."""
        return {**asdict(self), "kick_steps": KICK_STEPS, "column_scale": column_scale().tolist()}


class ActionNoise:
    """Applies the disturbance; call once per control step."""

    def __init__(self, spec: NoiseSpec) -> None:
        self.spec = spec
        self._scale = column_scale()
        decay = 0.0
        if spec.correlation_s > 0:
            decay = math.exp(-1.0 / (CONTROL_HZ * spec.correlation_s))
        self._decay = decay
        self._innovation = spec.sigma * math.sqrt(1.0 - decay**2)
        self._kick_probability = spec.kick_rate_hz / CONTROL_HZ
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Start an episode's random numbers, in the stationary distribution."""
        self._rng = np.random.default_rng([seed, _STREAM])
        self._state = self.spec.sigma * self._rng.standard_normal(ACTION_DIM)
        self._kick = np.zeros(ACTION_DIM)
        self._kick_left = 0

    def apply(self, command: Float32Array) -> Float32Array:
        """Return the disturbed action, float32 [23], a new array."""
        offset = self._state
        if self._kick_left > 0:
            self._kick_left -= 1
        elif self._kick_probability and self._rng.random() < self._kick_probability:
            self._kick = self._rng.uniform(-self.spec.kick, self.spec.kick, ACTION_DIM)
            self._kick_left = KICK_STEPS - 1
        else:
            self._kick[:] = 0.0
        # The state is drawn by `reset` and advanced after use: the first action is disturbed too.
        disturbed = command + self._scale * (offset + self._kick)
        drawn = self._rng.standard_normal(ACTION_DIM)
        self._state = self._decay * self._state + self._innovation * drawn
        return disturbed.astype(np.float32)
