"""A score here against a published one."""

from __future__ import annotations

from math import comb

import pytest

from b1k_envs.errors import UsageError
from b1k_eval.qualify.published import Published, parse_published, published_rung


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12/20", (12, 20)),
        ("0.6@20", (12, 20)),
        ("60%@20", (12, 20)),
        ("33%@3", (1, 3)),
        ("0/5", (0, 5)),
    ],
)
def test_scores_are_read_in_three_forms(text, expected):
    assert parse_published(text) == Published(successes=expected[0], trials=expected[1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.6", "give SUCCESSES/TRIALS such as 12/20, or RATE@TRIALS"),
        ("twelve/20", "give SUCCESSES/TRIALS"),
        ("21/20", "21 of 20 is not a count"),
        ("0/0", "has no trial"),
        ("0.55@10", "is 5.5 successes, no whole number"),
    ],
)
def test_what_is_no_score_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        parse_published(text)


def fisher(a, n, b, m):
    """Two-sided, by its definition: all tables with these margins that are no likelier."""
    total = a + b
    chance = [
        comb(n, k) * comb(m, total - k) / comb(n + m, total)
        for k in range(max(0, total - m), min(n, total) + 1)
    ]
    mine = comb(n, a) * comb(m, b) / comb(n + m, total)
    return sum(p for p in chance if p <= mine * (1 + 1e-9))


@pytest.mark.parametrize(("ours", "scored", "theirs", "trials"), [(0, 10, 12, 20), (5, 10, 12, 20)])
def test_the_verdict_follows_the_exact_test(ours, scored, theirs, trials):
    counts = {"success": ours, "failure": scored - ours, "error": 1}
    rung = published_rung(counts, Published(successes=theirs, trials=trials), "v17", "results/r")
    p_value = fisher(ours, scored, theirs, trials)
    assert rung.details["p_value"] == pytest.approx(p_value)
    assert rung.verdict == ("pass" if p_value >= 0.05 else "fail")
    name = "compatible" if rung.verdict == "pass" else "not compatible"
    assert rung.finding.startswith(f"{name}: v17: {ours} of {scored} here")
    assert rung.remarks == ("1 episodes ended in an error",)


def test_a_run_of_errors_is_no_score():
    counts = {"success": 0, "failure": 0, "error": 3}
    rung = published_rung(counts, Published(successes=1, trials=2), "v17", "results/r")
    assert (rung.verdict, "3 ended in an error" in rung.finding) == ("not done", True)
