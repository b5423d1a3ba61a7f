"""Two policies' studies side by side: along which axes does one keep more of its success?

Per axis, an instance's result is its mean success over the doses above 0 that both studies have;
the two policies are paired by instance, and all axes are corrected together (Holm). A policy that
succeeds more often undisturbed has a head start, so that difference stands beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from b1k_envs.errors import UsageError
from b1k_eval.comparison.comparable import require_comparable
from b1k_eval.comparison.paired import PairedComparison, compare_scores, compare_success
from b1k_eval.comparison.verdicts import holm
from b1k_eval.records.loading import RunData, read_run_data
from b1k_eval.records.run_files import STUDY_FILE, parse_object
from b1k_eval.stress.arms import BASE
from b1k_eval.stress.curves import Results
from b1k_eval.stress.study import results


def compare_studies(
    first: Path, second: Path, *, seed: int, level: float, mix: bool = False
) -> dict[str, Any]:
    """Compare two studies.

    Raises:
        UsageError: They share no axis and dose, or their undisturbed runs are not comparable and
            `mix` is not set.
    """
    documents = [parse_object((path / STUDY_FILE).read_bytes()) for path in (first, second)]
    bases = [read_run_data(path / BASE) for path in (first, second)]
    if not mix:
        require_comparable(bases)
    curves = []
    for one in documents[0]["curves"]:
        other = next((c for c in documents[1]["curves"] if c["name"] == one["name"]), None)
        doses = sorted(
            {a["dose"] for a in one["arms"]} & {a["dose"] for a in (other or one)["arms"]}
        )
        if other is None or not doses:
            continue
        arms = [
            [read_run_data(path / arm["run"]) for arm in curve["arms"] if arm["dose"] in doses]
            for path, curve in ((first, one), (second, other))
        ]
        found = compare_scores(_over(arms[0]), _over(arms[1]), seed=seed, level=level)
        if found is not None:
            curves.append(
                {
                    "name": one["name"],
                    "input": one["input"],
                    "unit": one["unit"],
                    "doses": doses,
                    "halving": [one["halving"], other["halving"]],
                    **_row(found),
                }
            )
    if not curves:
        raise UsageError(
            f"{first} and {second} share no axis and dose: there is nothing to compare"
        )
    for curve, corrected in zip(curves, holm([curve["p_value"] for curve in curves]), strict=True):
        curve["p_corrected"] = corrected
    undisturbed = compare_success(results(bases[0]), results(bases[1]), seed=seed, level=level)
    return {
        "studies": [str(path) for path in (first, second)],
        "labels": [document["label"] for document in documents],
        "level": level,
        "undisturbed": None if undisturbed is None else _row(undisturbed),
        "curves": curves,
    }


def _over(runs: Sequence[RunData]) -> dict[int, list[float]]:
    """Return, by instance, the mean success over doses, where every dose has a result."""
    found: list[Results] = [results(run) for run in runs]
    shared = [key for key in found[0] if all(key in each for each in found)]
    return {key: [float(np.mean([np.mean(each[key]) for each in found]))] for key in shared}


def _row(found: PairedComparison) -> dict[str, Any]:
    ends = found.interval
    return {
        "means": [found.mean_a, found.mean_b],
        "difference": found.difference,
        "interval": None if ends is None else [ends.low, ends.high],
        "p_value": found.test.p_value,
        "instances": found.n_pairs,
    }


def in_words(document: dict[str, Any], curve: dict[str, Any]) -> str:
    """Return along which axis who is more robust, as a sentence."""
    name = curve["input"] or curve["name"]
    names, points = document["labels"], 100 * curve["difference"]
    low, high = ("-", "-") if curve["interval"] is None else (
        f"{100 * end:.0f}" for end in curve["interval"]
    )  # fmt: skip
    figures = (
        f"{abs(points):.0f} points, difference [{low}, {high}], p = {curve['p_corrected']:.2g}"
    )
    if curve["p_corrected"] >= 1 - document["level"]:
        return f"{name}: cannot tell ({figures})"
    better = names[0] if points > 0 else names[1]
    return f"{name}: {better} keeps more ({figures})"
