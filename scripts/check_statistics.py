"""Measure how far the statistics of comparisons can be trusted, for docs/statistics.md.

    python scripts/check_statistics.py [--repeats 2000] [--out docs/statistics.md]

Outcomes are enumerated exactly where their number allows it, and simulated elsewhere. This takes
some minutes on one core. The page's tables are replaced, and the text around them kept. The
slow tests run the same functions.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from scipy import stats

from b1k_envs.base import Float64Array
from b1k_eval.comparison.intervals import bounded_mean, clopper_pearson, tango, wilson
from b1k_eval.comparison.paired import HALF, mcnemar, sign_flip
from b1k_eval.comparison.power import mcnemar_power, pairs_needed, smallest_detectable
from b1k_eval.comparison.sequential import betting_path
from b1k_eval.published.compatibility import mean_against, rate_against

Draw = Callable[[np.random.Generator, int, int], Float64Array]
"""Takes (generator, repeats, instances), returns figures, float64 [repeats, instances]."""

PAIRS: dict[str, tuple[float, float]] = {
    "10 % and 10 %": (0.1, 0.1),
    "50 % and 50 %": (0.5, 0.5),
    "80 % and 80 %": (0.8, 0.8),
    "10 % and 30 %": (0.1, 0.3),
    "50 % and 70 %": (0.5, 0.7),
    "30 % and 80 %": (0.3, 0.8),
}
"""Success rates of two policies that fail independently of each other."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Random results by instance.

    Attributes:
        name: Its name in the tables.
        draw: Draws the results.
        mean: Their true mean.
        low: Least possible value; the greatest is 1.
    """

    name: str
    draw: Draw
    mean: float
    low: float = 0.0


# --- scenarios ------------------------------------------------------------------------------------


def discrete(name: str, chances: dict[float, float], low: float = 0.0) -> Scenario:
    """Return a scenario of independent values with given probabilities."""
    values, shares = np.array(list(chances)), np.array(list(chances.values()))
    return Scenario(
        name=name,
        draw=lambda rng, repeats, n: rng.choice(values, p=shares, size=(repeats, n)),
        mean=float(values @ shares),
        low=low,
    )


def rates(
    rng: np.random.Generator, shape: tuple[int, int], centre: float, spread: float
) -> Float64Array:
    """Draw success rates of instances, some hard and some easy, from a Beta with mean `centre`.

    `spread` in (0, 1) is the correlation of two rollouts on one instance.
    """
    total = 1 / spread - 1
    return rng.beta(centre * total, (1 - centre) * total, size=shape)


def clusters(name: str, centre: float, spread: float, rollouts: int) -> Scenario:
    """Return a scenario of mean success over several rollouts, by instance."""

    def draw(rng: np.random.Generator, repeats: int, n: int) -> Float64Array:
        return rng.binomial(rollouts, rates(rng, (repeats, n), centre, spread)) / rollouts

    return Scenario(name=name, draw=draw, mean=centre)


def cluster_pairs(
    name: str, centre_a: float, centre_b: float, rollouts: tuple[int, int], shared: bool
) -> Scenario:
    """Return a scenario of differences in mean success; `shared`: instances are hard for both."""

    def draw(rng: np.random.Generator, repeats: int, n: int) -> Float64Array:
        on_a = rates(rng, (repeats, n), centre_a, 0.5)
        on_b = on_a if shared else rates(rng, (repeats, n), centre_b, 0.5)
        a, b = (rng.binomial(k, p) / k for k, p in zip(rollouts, (on_a, on_b), strict=True))
        return a - b

    return Scenario(name=name, draw=draw, mean=centre_a - centre_b, low=-1.0)


SCORES: tuple[Scenario, ...] = (
    discrete("q mostly 0 (80 % 0, 15 % 1/2, 5 % 1)", {0.0: 0.8, 0.5: 0.15, 1.0: 0.05}),
    discrete("q spread (40 % 0, 30 % 1/2, 30 % 1)", {0.0: 0.4, 0.5: 0.3, 1.0: 0.3}),
    discrete("q mostly 1 (5 % 0, 15 % 1/2, 80 % 1)", {0.0: 0.05, 0.5: 0.15, 1.0: 0.8}),
    clusters("success 20 %, 3 rollouts, correlation 0.5", 0.2, 0.5, 3),
    clusters("success 50 %, 3 rollouts, correlation 0.5", 0.5, 0.5, 3),
)

DIFFERENCES: tuple[Scenario, ...] = (
    cluster_pairs("30 % both, 3 and 3 rollouts, hard for both", 0.3, 0.3, (3, 3), True),
    cluster_pairs("30 % both, 3 and 3 rollouts, hard for one", 0.3, 0.3, (3, 3), False),
    cluster_pairs("10 % both, 3 and 1 rollouts, hard for both", 0.1, 0.1, (3, 1), True),
    cluster_pairs("10 % both, 5 and 1 rollouts, hard for one", 0.1, 0.1, (5, 1), False),
    cluster_pairs("30 % and 60 %, 3 and 3 rollouts", 0.3, 0.6, (3, 3), False),
    cluster_pairs("10 % and 90 %, 3 and 3 rollouts", 0.1, 0.9, (3, 3), False),
    discrete("q, equal (10 % -1/2, 80 % 0, 10 % 1/2)", {-0.5: 0.1, 0.0: 0.8, 0.5: 0.1}, -1.0),
    discrete("q, lopsided (20 % -1/2, 70 % 0, 10 % 1)", {-0.5: 0.2, 0.0: 0.7, 1.0: 0.1}, -1.0),
    discrete("q, better (5 % -1/2, 45 % 0, 50 % 1/2)", {-0.5: 0.05, 0.0: 0.45, 0.5: 0.5}, -1.0),
)

FAIR: tuple[Scenario, ...] = (
    discrete("half discordant", {-1.0: 0.25, 0.0: 0.5, 1.0: 0.25}, -1.0),
    discrete("always discordant", {-1.0: 0.5, 1.0: 0.5}, -1.0),
    discrete("seldom discordant", {-1.0: 0.05, 0.0: 0.9, 1.0: 0.05}, -1.0),
    discrete("lopsided scores (80 % -1/4, 20 % 1)", {-0.25: 0.8, 1.0: 0.2}, -1.0),
    cluster_pairs("30 % both, 3 rollouts", 0.3, 0.3, (3, 3), False),
)
"""Differences with mean zero: the null hypothesis of the sequential test."""

UNEVEN: tuple[Scenario, ...] = (
    cluster_pairs("30 % and 60 %, 3 rollouts", 0.3, 0.6, (3, 3), False),
    discrete("q, seldom better (90 % 0, 10 % 1)", {0.0: 0.9, 1.0: 0.1}, -1.0),
    discrete("one mostly wins (90 % 1, 10 % -1)", {1.0: 0.9, -1.0: 0.1}, -1.0),
)
"""Differences with a mean other than zero."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A run held against a published score.

    Attributes:
        name: Its name in the table.
        parts: Checks that make an episode's task progress; 1 for success.
        correlation: How much the checks of an episode are reached together, from 0 to 1.
        published: True score of the published policy.
        episodes: Published episodes; None if their number is not known (they are then 10,000).
        instances: Instances of the run.
    """

    name: str
    parts: int
    correlation: float
    published: float
    episodes: int | None
    instances: int


BELOW = 0.2
"""How much worse the worse policy of a study is: 20 points."""

STUDIES: tuple[Study, ...] = (
    *(
        Study(name="success 60 %", parts=1, correlation=0.0, published=0.6, episodes=m, instances=n)
        for m, n in ((10, 10), (10, 50), (500, 10), (500, 50), (None, 10), (None, 50))
    ),
    *(
        Study(
            name=f"task progress {rate:.0%} of 11 checks, correlation {together:g}",
            parts=11,
            correlation=together,
            published=rate,
            episodes=10,
            instances=n,
        )
        for rate, together in (
            (0.27, 0.0),
            (0.27, 0.2),
            (0.27, 0.5),
            (0.27, 1.0),
            (0.45, 0.2),
            (0.1, 1.0),
        )
        for n in (10, 20)
    ),
)
"""Published scores and runs; correlation 1 is all or nothing."""


# --- measurements ---------------------------------------------------------------------------------


def rate_coverage(method: Callable[..., object], n: int) -> Float64Array:
    """Return the exact coverage of a 95 % interval at rates 0.01 to 0.99, float64 [99]."""
    limits = [method(k, n) for k in range(n + 1)]
    low = np.array([limit.low for limit in limits])[:, None]
    high = np.array([limit.high for limit in limits])[:, None]
    rate = np.arange(1, 100) / 100
    chance = stats.binom.pmf(np.arange(n + 1)[:, None], n, rate)
    return np.sum(chance * ((low <= rate) & (rate <= high)), axis=0)


def pair_outcomes(n: int, rate_a: float, rate_b: float) -> Iterator[tuple[int, int, float]]:
    """Yield (wins of a, wins of b, probability) of every outcome for two independent policies."""
    shares = [rate_a * (1 - rate_b), rate_b * (1 - rate_a)]
    shares.append(1 - sum(shares))
    for wins_a in range(n + 1):
        for wins_b in range(n + 1 - wins_a):
            counts = [wins_a, wins_b, n - wins_a - wins_b]
            yield wins_a, wins_b, float(stats.multinomial.pmf(counts, n, shares))


def tango_coverage(n: int, rate_a: float, rate_b: float) -> float:
    """Return the exact coverage of Tango's 95 % interval."""
    covered = 0.0
    for wins_a, wins_b, chance in pair_outcomes(n, rate_a, rate_b):
        limits = tango(wins_a, wins_b, n)
        if limits.low - 1e-9 <= rate_a - rate_b <= limits.high + 1e-9:
            covered += chance
    return covered


def mcnemar_level(n: int, rate_a: float, rate_b: float) -> float:
    """Return the exact probability of p <= 0.05 in McNemar's test."""
    outcomes = pair_outcomes(n, rate_a, rate_b)
    return sum(chance for a, b, chance in outcomes if mcnemar(a, b).p_value <= 0.05)


def by_row(
    measure: Callable[[Float64Array], tuple[float, ...]], rows: Float64Array
) -> Float64Array:
    """Return figures of every row that its order does not change, float64 [R, figures].

    Of 2,000 rows of few different values, 50 to 900 differ in more than their order.
    """
    distinct, where = np.unique(np.sort(rows, axis=1), axis=0, return_inverse=True)
    return np.array([measure(row) for row in distinct])[where.reshape(-1)]


def in_use(rows: Float64Array, low: float) -> tuple[Float64Array, Float64Array]:
    """Return the limits of the method in use for every row, float64 [R] each."""
    weight = HALF if low < 0 else 1.0

    def limits(row: Float64Array) -> tuple[float, float]:
        found = bounded_mean(row, bounds=(low, 1.0), seed=7, weight=weight, draws=4000)
        return found.low, found.high

    lows, highs = by_row(limits, rows).T
    return lows, highs


def student(rows: Float64Array, low: float) -> tuple[Float64Array, Float64Array]:
    """Return the limits of Student's t for every row, float64 [R] each."""
    n = rows.shape[1]
    half = stats.t.ppf(0.975, n - 1) * rows.std(axis=1, ddof=1) / np.sqrt(n)
    return rows.mean(axis=1) - half, rows.mean(axis=1) + half


def scipy_bootstrap(method: str) -> Callable[..., tuple[Float64Array, Float64Array]]:
    """Return a bootstrap of scipy; without an answer it gives NaN, which covers nothing."""

    def limits(rows: Float64Array, low: float) -> tuple[Float64Array, Float64Array]:
        parts = []
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # BCa warns about equal values, for which it gives NaN
            for part in np.array_split(rows, max(1, len(rows) // 100)):
                found = stats.bootstrap(
                    (part,), np.mean, axis=1, n_resamples=999, method=method, rng=3
                )
                parts.append(found.confidence_interval)
        return tuple(np.concatenate([p[side] for p in parts]) for side in (0, 1))

    return limits


def studentised(rows: Float64Array, low: float) -> tuple[Float64Array, Float64Array]:
    """Return the limits of the bootstrap t; resamples without spread are left out."""
    rng, n, out = np.random.default_rng(3), rows.shape[1], []
    for row in rows:
        sample = row[rng.integers(0, n, size=(999, n))]
        spread, error = sample.std(axis=1, ddof=1), row.std(ddof=1) / np.sqrt(n)
        kept = spread > 0
        if not kept.any():
            out.append((row.mean(), row.mean()))
            continue
        t = (sample[kept].mean(axis=1) - row.mean()) / (spread[kept] / np.sqrt(n))
        high, low_t = np.quantile(t, (0.025, 0.975))
        out.append((row.mean() - low_t * error, row.mean() - high * error))
    return np.array(out)[:, 0], np.array(out)[:, 1]


METHODS: dict[str, Callable[..., tuple[Float64Array, Float64Array]]] = {
    "in use": in_use,
    "Student's t": student,
    "percentile": scipy_bootstrap("percentile"),
    "BCa": scipy_bootstrap("BCa"),
    "bootstrap t": studentised,
}


def coverage(
    scenario: Scenario, method: str, n: int, repeats: int, seed: int = 1
) -> tuple[float, float]:
    """Return the share of 95 % intervals with the true mean, and their mean width in bounds."""
    rows = scenario.draw(np.random.default_rng(seed), repeats, n)
    low, high = METHODS[method](rows, scenario.low)
    held = (low <= scenario.mean + 1e-9) & (scenario.mean - 1e-9 <= high)
    width = np.clip(high, scenario.low, 1) - np.clip(low, scenario.low, 1)
    return float(held.mean()), float(np.nanmean(width))


def flip_level(scenario: Scenario, n: int, repeats: int, seed: int = 2) -> float:
    """Return the share of sign-flip tests with p <= 0.05."""
    rows = scenario.draw(np.random.default_rng(seed), repeats, n)
    (p_values,) = by_row(lambda row: (sign_flip(row, seed=0).p_value,), rows).T
    return float(np.mean(p_values <= 0.05))


def decisions(scenario: Scenario, n: int, repeats: int, seed: int = 3) -> np.ndarray:
    """Return the instances until `PairedBetting` decides, tested after each; 0 if not within n."""
    return betting_path(scenario.draw(np.random.default_rng(seed), repeats, n)).decided_at


def refuted_ever(scenario: Scenario, n: int, repeats: int, seed: int = 4) -> float:
    """Return the share of sequences in which the confidence sequence ever excludes the true mean.

    An implementation of its own, as a check: numpy's Gauss-Chebyshev quadrature of the wealth.
    """
    rows = scenario.draw(np.random.default_rng(seed), repeats, n) - scenario.mean
    stakes, weights = np.polynomial.chebyshev.chebgauss(128)
    stakes = np.where(stakes > 0, stakes / (1 + scenario.mean), stakes / (1 - scenario.mean))
    wealth, peak = np.ones((repeats, len(stakes))), np.zeros(repeats)
    for step in range(n):
        wealth *= 1 + stakes * rows[:, step, None]
        peak = np.maximum(peak, wealth @ weights / np.pi)
    return float(np.mean(peak >= 20))


def independent(rate_a: float, rate_b: float) -> Scenario:
    """Return a scenario of differences of two independent policies, one rollout each."""
    win, lose = rate_a * (1 - rate_b), rate_b * (1 - rate_a)
    return discrete("", {1.0: win, -1.0: lose, 0.0: 1 - win - lose}, -1.0)


def progress(
    rng: np.random.Generator, study: Study, rate: float, shape: tuple[int, int]
) -> Float64Array:
    """Draw shares of the checks that episodes reach, float64 of that shape."""
    if study.correlation == 0:
        return rng.binomial(study.parts, rate, size=shape) / study.parts
    if study.correlation == 1:
        return (rng.random(shape) < rate).astype(np.float64)
    return rng.binomial(study.parts, rates(rng, shape, rate, study.correlation)) / study.parts


@cache
def rate_p_value(successes: int, trials: int, rate: float, episodes: int | None) -> float:
    """Return the p-value of a rate against a published one; few of them differ."""
    return rate_against(successes, trials, rate, episodes).p_value


def published_level(study: Study, below: float, repeats: int, seed: int = 8) -> float:
    """Return the share of studies called incompatible, with a true score so much below."""
    rng = np.random.default_rng(seed)
    theirs = progress(rng, study, study.published, (repeats, study.episodes or 10_000)).mean(axis=1)
    ours = progress(rng, study, study.published - below, (repeats, study.instances))
    told = []
    for values, score in zip(ours, theirs.tolist(), strict=True):
        if study.parts == 1:
            found = rate_p_value(int(values.sum()), len(values), score, study.episodes)
        else:
            found = mean_against(values, score, study.episodes, parts=study.parts).p_value
        told.append(found < 0.05)
    return float(np.mean(told))


# --- the page -------------------------------------------------------------------------------------


def table(head: str, rows: list[list[object]]) -> str:
    """Return a Markdown table; columns of `head` are separated by |, floats have three digits."""
    lines = [f"| {head} |", "|---" * (head.count("|") + 1) + "|"]
    for row in rows:
        cells = (f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def rates_table() -> str:
    """Return the table for one rate with one rollout per instance."""
    rows: list[list[object]] = []
    for n in (10, 20, 50):
        for method in (wilson, clopper_pearson):
            found = rate_coverage(method, n)
            spots = [float(found[index - 1]) for index in (10, 30, 50)]
            name = method.__name__.replace("_", "-")
            rows.append([n, name, float(found.mean()), float(found.min()), *spots])
    return table("n | interval | mean | least | at 10 % | at 30 % | at 50 %", rows)


def scores_table(repeats: int) -> str:
    """Return the coverage and width of several bootstraps, for means in [0, 1]."""
    rows: list[list[object]] = []
    for scenario in SCORES:
        for n in (10, 15, 20):
            found = (coverage(scenario, method, n, repeats) for method in METHODS)
            rows.append([scenario.name, n, *(f"{held:.3f} ({w:.2f})" for held, w in found)])
    return table("results by instance | n | " + " | ".join(METHODS), rows)


def pairs_table() -> str:
    """Return the exact table of Tango's interval and McNemar's test, one rollout each."""
    rows: list[list[object]] = []
    for name, (rate_a, rate_b) in PAIRS.items():
        for n in (10, 20, 50):
            shown = mcnemar_level(n, rate_a, rate_b)
            rows.append([name, n, tango_coverage(n, rate_a, rate_b), shown])
    return table("true rates | n | coverage, Tango | P(p <= 0.05), McNemar exact", rows)


def differences_table(repeats: int) -> str:
    """Return the table for several rollouts and q-scores."""
    rows: list[list[object]] = []
    for scenario in DIFFERENCES:
        for n in (10, 20):
            found = (coverage(scenario, m, n, repeats) for m in ("in use", "Student's t"))
            cells = [f"{held:.3f} ({w:.2f})" for held, w in found]
            rows.append([scenario.name, n, *cells, flip_level(scenario, n, repeats)])
    return table("differences by instance | n | in use | Student's t | P(p <= 0.05)", rows)


def null_table(repeats: int) -> str:
    """Return the table of the sequential test without a difference, beside one test at the end."""
    rows: list[list[object]] = [
        [
            scenario.name,
            float(np.mean(decisions(scenario, 200, repeats) > 0)),
            flip_level(scenario, 20, repeats),
        ]
        for scenario in FAIR
    ]
    return table("mean difference 0 | ever decided | sign flip, once, n = 20", rows)


def sequence_table(repeats: int) -> str:
    """Return the table of the confidence sequence with a difference."""
    rows: list[list[object]] = [
        [scenario.name, scenario.mean, refuted_ever(scenario, 200, repeats)] for scenario in UNEVEN
    ]
    return table("differences by instance | true mean | ever left out", rows)


def effort_table(repeats: int) -> str:
    """Return the table of instances until decided, beside those of a fixed plan."""
    plan = pairs_needed(0.2, 0.5)
    rows: list[list[object]] = []
    for rate_a, rate_b in ((0.3, 0.8), (0.4, 0.7), (0.5, 0.7), (0.5, 0.6), (0.1, 0.2)):
        scenario = independent(rate_b, rate_a)
        at = decisions(scenario, 1000, repeats)
        at = np.where(at > 0, at, 1000)
        share = rate_a * (1 - rate_b) + rate_b * (1 - rate_a)
        rows.append(
            [
                f"{rate_a:.0%} and {rate_b:.0%}",
                f"{at.mean():.0f}",
                f"{np.median(at):.0f}",
                f"{np.quantile(at, 0.9):.0f}",
                f"{np.mean(at <= plan):.2f}",
                f"{mcnemar_power(plan, rate_b - rate_a, share):.2f}",
                pairs_needed(rate_b - rate_a, share),
            ]
        )
    head = (
        "true rates | sequential: mean | median | 90th percentile | decided within {0} "
        "| McNemar's power at {0} | McNemar's plan for this very case"
    )
    return table(head.format(plan), rows)


def plans_table(repeats: int) -> str:
    """Return the table of plans, with their power simulated by the test itself."""
    rng, rows = np.random.default_rng(6), []
    for difference, share in ((0.1, 0.3), (0.2, 0.3), (0.2, 0.5), (0.3, 0.5), (0.5, 0.6)):
        n = pairs_needed(difference, share)
        chances = [(share + difference) / 2, (share - difference) / 2, 1 - share]
        wins = rng.multinomial(n, chances, size=repeats)
        seen = np.mean([mcnemar(int(a), int(b)).p_value <= 0.05 for a, b, _ in wins])
        exact = mcnemar_power(n, difference, share)
        rows.append([f"{100 * difference:.0f} points", share, n, exact, float(seen)])
    return table("difference | discordance | pairs for 80 % | power, exact | simulated", rows)


def detectable_table() -> str:
    """Return the table of differences that a number of pairs can show."""
    rows: list[list[object]] = [
        [n, *(smallest_detectable(n, share) or "none" for share in (0.2, 0.5))]
        for n in (5, 6, 10, 20, 50, 100)
    ]
    return table("pairs | detectable at discordance 0.2 | at 0.5", rows)


def published_table(repeats: int) -> str:
    """Return how often a run is called incompatible with a published score."""
    rows: list[list[object]] = []
    for study in STUDIES:
        episodes = study.episodes or "not known"
        same = published_level(study, 0.0, repeats)
        worse: object = "none is"
        if study.published > BELOW:
            worse = published_level(study, BELOW, repeats)
        rows.append([study.name, episodes, study.instances, same, worse])
    head = "published policy | its episodes | instances here | same policy | 20 points below"
    return table(head, rows)


def fill(page: str, tables: dict[str, str]) -> str:
    """Replace the text between the markers of each table, and keep the text around them."""
    for name, lines in tables.items():
        pattern = f"(<!-- {name} -->\n).*?(<!-- end -->)"
        page, count = re.subn(pattern, lambda m, t=lines: f"{m[1]}{t}\n{m[2]}", page, flags=re.S)
        if count != 1:
            raise SystemExit(f"{count} places for the table {name}: there must be one")
    return page


def main(
    repeats: Annotated[int, typer.Option(min=100, help="Of every simulation.")] = 2000,
    out: Annotated[Path, typer.Option(help="The page.")] = Path("docs/statistics.md"),
) -> None:
    tables = {
        "rates": rates_table(),
        "scores": scores_table(repeats),
        "pairs": pairs_table(),
        "differences": differences_table(repeats),
        "null": null_table(repeats),
        "sequence": sequence_table(repeats),
        "effort": effort_table(repeats),
        "plans": plans_table(repeats),
        "detectable": detectable_table(),
        "published": published_table(repeats),
    }
    out.write_text(fill(out.read_text(encoding="utf-8"), tables), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
