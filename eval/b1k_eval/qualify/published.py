"""Rung 5: a policy whose score is known, run here and held against it.

The score is one of the table of published scores, or typed as successes of trials. On other
instances, with another time limit or by another evaluator, a policy has another score; what is
known to differ is said beside the verdict.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from b1k_envs.base import Sim
from b1k_envs.errors import UsageError
from b1k_envs.r1pro import BASE_MASS
from b1k_eval.comparison.intervals import check_count
from b1k_eval.published.table import PublishedScore
from b1k_eval.qualify.rungs import Rung, Verdict, not_done
from b1k_eval.settings import RunSettings

GR00T = "gr00t-n1.6"
"""Whose scores a policy of gr00t:// is held against if no other is named."""

TYPED = "--published"
"""Source of a typed score, which names no policy and no protocol."""

FORM = "SUCCESSES/TRIALS such as 12/20, or RATE@TRIALS such as 0.6@20 or 60%@20"

_ADVICE: Mapping[Verdict, str | None] = {
    "pass": None,
    "fail": "with the rungs below passed, hold the policy's inputs against its contract "
    "(b1k-eval inspect CKPT), and instances, time limit and protocol against the published run",
    "not done": "call qualify again with more instances",
}

_COUNT = re.compile(r"(\d+)/(\d+)")
_RATE = re.compile(r"(\d*\.?\d+)(%?)@(\d+)")


def is_typed(text: str) -> bool:
    """Return whether a text gives a score itself, and does not name a policy of the table."""
    return "/" in text or "@" in text


def parse_published(text: str, task: str, sim: Sim) -> PublishedScore:
    """Read `12/20`, `0.6@20` or `60%@20`.

    Args:
        text: What was typed.
        task: Name of the task.
        sim: The simulator here, which a typed score is taken to be of.

    Raises:
        UsageError: The text has another form, there is no trial, or the rate does not give a whole
            number of successes.
    """
    count, rate = _COUNT.fullmatch(text.strip()), _RATE.fullmatch(text.strip())
    if count is not None:
        successes, trials = int(count[1]), int(count[2])
    elif rate is not None:
        trials = int(rate[3])
        exact = float(rate[1]) * (0.01 if rate[2] else 1.0) * trials
        successes = round(exact)
        if abs(exact - successes) > 0.5 * 0.01 * trials:
            raise UsageError(
                f"--published {text!r}: that rate of {trials} trials is {exact:g} successes, no "
                f"whole number: give {FORM}"
            )
    else:
        raise UsageError(f"--published {text!r}: give {FORM}")
    if trials == 0:
        raise UsageError(f"--published {text!r} has no trial: give {FORM}")
    try:
        check_count(successes, trials)
    except UsageError as error:
        raise UsageError(f"--published {text!r}: {error}") from error
    return PublishedScore(
        task=task, tasks=(task,), policy=text.strip(), metric="success", value=successes / trials,
        rounding=0.0, sim=sim, episodes=trials, variant=None, protocol=None, split=None,
        instances=None, time_limit=None, base_mass_kg=None, picture_px=None, evaluator=None,
        source=TYPED, note=None, doubt=None,
    )  # fmt: skip


def as_published(scores: Sequence[PublishedScore], settings: RunSettings) -> dict[str, Any]:
    """Return the settings in which the policy's run should follow the published one.

    That is the split, and in OmniGibson 2025, which leaves it open, the mass of the base. Time
    limit and pictures are the protocol's.
    """
    found: dict[str, Any] = {}
    # A split of another generation has other initial states.
    splits = {s.split for s in scores if s.protocol in (None, settings.protocol)} - {None}
    if len(splits) == 1:
        found["split"] = splits.pop()
    heavy = any(score.base_mass_kg == BASE_MASS for score in scores)
    if heavy and (settings.sim, settings.protocol) == ("omnigibson", "2025"):
        found["heavy_base"] = True
    return found


def not_to_be_held(scores: Sequence[PublishedScore], sim: Sim) -> Rung | None:
    """Return the rung as not done where no score is to be held against; else None."""
    name = scores[0].policy
    of_this = [score for score in scores if score.sim == sim]
    if not of_this and sim == "mujoco":
        return not_done(
            5,
            f"a score of the twin is never held against the benchmark's: {name}'s published scores "
            f"are of {scores[0].sim}",
            "--sim omnigibson, on a machine that has it (b1k-eval doctor)",
        )
    if not of_this:
        return not_done(5, f"{name}'s published scores are of {scores[0].sim}, and this is {sim}")
    if all(score.doubt is not None for score in of_this):
        return not_done(
            5,
            f"{name}'s published score on {of_this[0].task} is in doubt: {of_this[0].doubt}",
            "another --task: `b1k-eval published` lists what is known",
        )
    return None


def published_rung(
    document: Mapping[str, Any], counts: Mapping[str, int], policy: str, where: str
) -> Rung:
    """Run rung 5: judge a run that was held against published scores.

    Args:
        document: Of `published.comparing.compare_with_published`.
        counts: Number of episodes by outcome: `success`, `failure`, `error`.
        policy: Name of the policy.
        where: The run folder.
    """
    details = {"run": where, "counts": dict(counts), **document}
    errors = counts["error"]
    remarks = [f"{errors} episode{'s' if errors != 1 else ''} ended in an error"] if errors else []
    for each in document["comparisons"]:
        remarks += [
            f"{each['metric_name']}: {entry['text']}" for entry in each["differences"]["notable"]
        ]
        if each["score"]["note"]:
            remarks.append(f"{each['metric_name']}, published: {each['score']['note']}")
    found = [each["compatible"] for each in document["comparisons"]]
    said = "; ".join(each["verdict"] for each in document["comparisons"])
    verdict: Verdict = "fail" if False in found else "pass" if True in found else "not done"
    if verdict == "not done" and not counts["success"] + counts["failure"]:
        said += f"; see the errors in {where}"
    return Rung(
        number=5, verdict=verdict, finding=f"{policy}: {said}", advice=_ADVICE[verdict],
        details=details, remarks=tuple(remarks),
    )  # fmt: skip
