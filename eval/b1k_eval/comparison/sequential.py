"""A test that may be evaluated after every instance: betting on the paired differences.

Null hypothesis: given all earlier instances, the difference d in [-1, 1] of the next one (mean of
a minus mean of b) has mean zero. It holds if instances are drawn independently and both runs
solve equally many on average; and, in any order, if both solve each single instance equally often.
Nothing is assumed about ties, the shape of scores, or a and b being independent.

Start with a wealth of 1 and stake a share x of it on every instance: wealth is multiplied by
1 + x d. Under the null hypothesis this changes nothing on average, so by Ville's inequality wealth
ever reaches 1 / alpha with probability alpha at most, however often one looks and whenever one
stops. The e-value is the mean wealth over stakes x in (-1, 1), positive ones for a and negative
ones for b, with the arcsine density 1 / (pi sqrt(1 - x^2)). With w wins of a and l of b, and one
rollout each, that mean is 2^(w + l) B(w + 1/2, l + 1/2) / B(1/2, 1/2), the wealth of the
Krichevsky-Trofimov bettor: seven wins in a row decide at alpha = 0.05. Here it is computed over
`STAKES` Chebyshev nodes. This is exact below twice as many discordant pairs, a valid e-value for
any number, and works for fractional differences too.

The order of the instances must not depend on results; a random one is best. If instances are taken
from a small fixed set, the remaining differences lean against those seen: the test is then about
the population that the set was drawn from, not about the set's own mean.

References: G. Shafer, JRSS A 184 (2021) 407; I. Waudby-Smith and A. Ramdas, "Estimating means of
bounded random variables by betting", JRSS B 86 (2024) 1; R. E. Krichevsky and V. K. Trofimov, IEEE
Trans. Inf. Theory 27 (1981) 199.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from b1k_envs.base import Float64Array
from b1k_eval.comparison.intervals import Interval, check_alpha, check_within

Direction = Literal["a", "b"]

STAKES = 128
"""Number of stakes that wealth is averaged over; even, so that none is zero."""


def _stakes() -> Float64Array:
    """Return the Chebyshev nodes, float64 [STAKES], from near 1 to near -1, symmetric."""
    half = np.cos(np.pi * (np.arange(STAKES // 2) + 0.5) / STAKES)
    return np.concatenate([half, -half[::-1]])


_STAKES = _stakes()


class PairedBetting:
    """The test, one instance after another.

    Attributes:
        alpha: Upper bound of the probability of ever deciding under the null hypothesis.

    Raises:
        UsageError: Not 0 < alpha < 1.
    """

    def __init__(self, alpha: float = 0.05) -> None:
        check_alpha(alpha)
        self.alpha = alpha
        self._differences: list[float] = []
        self._log_wealth = np.zeros(STAKES)
        self._direction: Direction | None = None
        self._decided_at: int | None = None

    def add(self, d: float) -> None:
        """Add the next instance.

        Args:
            d: Mean of a minus mean of b, in [-1, 1].

        Raises:
            UsageError: `d` is outside [-1, 1].
        """
        check_within(np.array([d], dtype=np.float64), -1.0, 1.0)
        self._differences.append(float(d))
        self._log_wealth += np.log1p(_STAKES * d)
        if self._decided_at is None and self.e_value >= 1 / self.alpha:
            self._decided_at = self.n
            on_a, on_b = np.split(np.exp(self._log_wealth - self._log_wealth.max()), 2)
            self._direction = "a" if on_a.sum() > on_b.sum() else "b"

    @property
    def n(self) -> int:
        """Instances so far."""
        return len(self._differences)

    @property
    def e_value(self) -> float:
        """Present evidence against the null hypothesis; 1 at the start, and it may fall again."""
        return float(np.exp(_log_mean_exp(self._log_wealth)))

    @property
    def decided(self) -> bool:
        """Whether the e-value has ever reached 1 / alpha."""
        return self._decided_at is not None

    @property
    def decided_at(self) -> int | None:
        """Instances until it was decided; None while undecided."""
        return self._decided_at

    @property
    def direction(self) -> Direction | None:
        """The better run, wrong with probability alpha at most; None while undecided."""
        # Wrong only if the stakes on this side alone have reached 1 / alpha as well.
        return self._direction

    def interval(self) -> Interval | None:
        """Return the confidence sequence at this instance; see `confidence_interval`."""
        return confidence_interval(np.array(self._differences), self.alpha)


@dataclass(frozen=True, kw_only=True, eq=False)
class BettingPath:
    """The test along whole sequences.

    Attributes:
        e_values: float64 [..., n], after every instance.
        decided_at: int64 [...], instances until decided; 0 if never.
    """

    e_values: Float64Array
    decided_at: np.ndarray[tuple[int, ...], np.dtype[np.int64]]


def betting_path(differences: Float64Array, alpha: float = 0.05) -> BettingPath:
    """Compute `PairedBetting` on many sequences at once.

    Args:
        differences: float64 [..., n], each in [-1, 1], in the order of the instances.
        alpha: Level of the test.

    Raises:
        UsageError: A difference is outside [-1, 1], or not 0 < alpha < 1.
    """
    check_alpha(alpha)
    check_within(differences.ravel(), -1.0, 1.0)
    e_values = np.empty(differences.shape)
    log_wealth = np.zeros((*differences.shape[:-1], STAKES))
    for step in range(differences.shape[-1]):
        log_wealth += np.log1p(_STAKES * differences[..., step, None])
        e_values[..., step] = np.exp(_log_mean_exp(log_wealth))
    reached = e_values >= 1 / alpha
    first = np.argmax(reached, axis=-1) + 1 if differences.shape[-1] else 0
    return BettingPath(
        e_values=e_values,
        decided_at=np.where(reached.any(axis=-1), first, 0).astype(np.int64),
    )


def confidence_interval(differences: Float64Array, alpha: float = 0.05) -> Interval | None:
    """Return the interval of mean differences that the test does not refute; None without any.

    For a mean m the bets are on d - m, with stakes shrunk so that wealth stays positive:
    x / (1 + m) on a, x / (1 - m) on b. Both are log-convex in m and at most 1 at the observed mean,
    so the means that are not refuted form one interval, found by bisection. At all instances
    together it contains the true mean with probability 1 - alpha. It excludes 0 exactly if the
    present e-value is at least 1 / alpha.

    Args:
        differences: float64 [n], each in [-1, 1], in any order.
        alpha: 1 minus the coverage.

    Raises:
        UsageError: A difference is outside [-1, 1], or not 0 < alpha < 1.
    """
    check_alpha(alpha)
    check_within(differences, -1.0, 1.0)
    if not len(differences):
        return None
    return Interval(
        estimate=float(np.mean(differences)),
        low=-_upper_limit(-differences, alpha),
        high=_upper_limit(differences, alpha),
        level=1 - alpha,
        method="betting confidence sequence",
    )


def _upper_limit(differences: Float64Array, alpha: float) -> float:
    values, counts = np.unique(differences, return_counts=True)
    stakes = _STAKES[: STAKES // 2, None]

    def refuted(mean: float) -> bool:
        on_a = np.log1p(stakes * (values - mean) / (1 + mean)) @ counts
        on_b = np.log1p(-stakes * (values - mean) / (1 - mean)) @ counts
        return bool(_log_mean_exp(np.concatenate([on_a, on_b])) >= -np.log(alpha))

    inside, outside = float(np.mean(differences)), 1.0
    while outside - inside > 1e-9:
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if refuted(middle) else (middle, outside)
    return outside


def _log_mean_exp(logs: Float64Array) -> Float64Array:
    """Return the logarithm of the mean of exponentials over the last axis, float64 [...]."""
    top = logs.max(axis=-1, keepdims=True)
    result: Float64Array = top[..., 0] + np.log(np.exp(logs - top).mean(axis=-1))
    return result
