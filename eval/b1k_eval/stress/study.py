"""A study: the undisturbed arm, then every dose of every axis, each as a run of its own.

The folder has a run per arm, so everything that reads runs reads them, and the same command goes
on where it was. study.json has what they say together, anew after each arm.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from b1k_envs.errors import EnvError, UsageError
from b1k_eval.comparison.paired import compare_success
from b1k_eval.comparison.verdicts import holm
from b1k_eval.diagnosis.funnel import most_lost
from b1k_eval.disturbances.axes import Disturbance
from b1k_eval.execution import Execution
from b1k_eval.files import to_json, write_atomic
from b1k_eval.loop.events import StepEvent, Subscriber
from b1k_eval.loop.runner import run_episode
from b1k_eval.records.loading import RunData, read_run_data
from b1k_eval.records.run_files import STUDY_FILE
from b1k_eval.run.progress.reporter import Reporter
from b1k_eval.run.remarks import check_disturbances
from b1k_eval.run.session import ReadyRun
from b1k_eval.settings import RunSettings, chunking_factory
from b1k_eval.stress.arms import BASE, INPUTS, Curve
from b1k_eval.stress.curves import Results, halving, rate, trend
from b1k_policies.remote.sharing.model import SharedHandle

Found = dict[str, dict[float, RunData]]
"""By name of the curve and size of the dose, the runs so far."""

_PROBE = 45  # steps that are timed before a study begins


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is studied, and with what it is run.

    Attributes:
        settings: What is run, undisturbed.
        execution: How.
        curves: The axes, and the doses to try.
        budget: Most episodes in all; the doses are then searched for. None to try all doses.
        argv: Command line, for the record.
        reporter: Makes the display of a run.
    """

    settings: RunSettings
    execution: Execution
    curves: tuple[Curve, ...]
    budget: int | None
    argv: Sequence[str]
    reporter: Callable[[], Reporter] = Reporter

    @property
    def episodes_per_arm(self) -> int:
        """How many episodes an arm has."""
        return len(self.settings.instances) * self.settings.rollouts

    @property
    def most_arms(self) -> int:
        """How many arms there are at most, the undisturbed one included."""
        every = 1 + sum(len(curve.doses) for curve in self.curves)
        return every if self.budget is None else self.budget // self.episodes_per_arm

    def disturbed(self) -> RunSettings:
        """Return settings with every axis once, to be checked and not to be run.

        Raises:
            UsageError: The simulator or the other settings rule one out.
        """
        arms = {(each.axis.name, each.part): each.arm(each.doses[0]) for each in self.curves}
        return replace(self.settings, disturb=tuple(map(str, arms.values())))


def run_study(
    study: Study,
    folder: Path,
    told: Callable[[str, int, int], None] = lambda *_: None,
    estimated: Callable[[float], None] = lambda _: None,
) -> dict[str, Any]:
    """Run the missing episodes of a study and return what study.json has.

    Args:
        study: The study.
        folder: Its folder, which may exist.
        told: Called before an arm with its name, its number and the number of arms at most.
        estimated: Called before the first episode of a new study with its wall time [s], were every
            episode to last to its limit; not called where only workers have a world.

    Raises:
        UsageError: The folder has another study, or the budget is too small.
    """
    searching = study.budget is not None
    least = 2 if searching else 1
    if study.most_arms < least:
        raise UsageError(
            f"--budget {study.budget} is less than two arms of {study.episodes_per_arm} episodes"
        )
    done = 0

    def arm(disturbance: Disturbance | None) -> RunData:
        nonlocal done
        done += 1
        name = BASE if disturbance is None else str(disturbance)
        told(name, done, study.most_arms)
        return _run(study, folder / arm_folder(name), disturbance, estimated)

    base = arm(None)
    found: Found = {curve.name: {} for curve in study.curves}
    document: dict[str, Any] = {}
    for curve, size in _order(study, results(base), found):
        found[curve.name][size] = arm(curve.arm(size))
        document = _document(study, base, found)
        write_atomic(folder / STUDY_FILE, to_json(document).encode())
    return document


def _order(study: Study, base: Results, found: Found) -> Iterator[tuple[Curve, float]]:
    """Yield the arms in their order; with a budget each depends on what was found before."""
    if study.budget is None:
        yield from ((curve, size) for curve in study.curves for size in curve.doses)
        return
    # The order of the axes is drawn beforehand: what is left out when the budget ends must not
    # depend on what was seen.
    drawn = np.random.default_rng(study.settings.seed).permutation(len(study.curves))
    curves = [study.curves[int(index)] for index in drawn]
    left = study.most_arms - 1
    for curve in curves:
        if not left:
            return
        yield curve, curve.doses[-1]  # the largest
        left -= 1
    going = True
    while left and going:
        going = False
        for curve in curves:
            arms = {size: results(run) for size, run in found[curve.name].items()}
            size = next_dose(curve, base, arms)
            if size is None or not left:
                continue
            going, left = True, left - 1
            yield curve, size


def next_dose(curve: Curve, base: Results, arms: dict[float, Results]) -> float | None:
    """Return the dose to try next; None if there is nothing more to learn.

    It lies between the last that leaves more than half of the success and the first that does not.
    """
    half = rate(base) / 2.0
    rates = {size: rate(found) for size, found in arms.items()}
    less = [size for size, share in rates.items() if share <= half]
    if half == 0 or not less:
        return None
    high = min(less)
    low = max((size for size, share in rates.items() if share > half and size < high), default=0.0)
    return None if curve.axis.whole else curve.between(low, high)


def arm_folder(name: str) -> str:
    """Return the name of an arm's run folder."""
    plain = name.replace(":", "-").replace("=", "-").replace(" ", "-")
    if "/" not in plain:
        return plain
    return f"paraphrase-{hashlib.sha256(name.encode()).hexdigest()[:8]}-{plain.rpartition('-')[2]}"


def _run(
    study: Study,
    folder: Path,
    disturbance: Disturbance | None,
    estimated: Callable[[float], None],
) -> RunData:
    disturb = () if disturbance is None else (str(disturbance),)
    settings = replace(study.settings, disturb=disturb)
    ready = ReadyRun([settings], study.execution, folder, argv=study.argv, resume=True)
    try:
        if disturbance is None:  # what cannot be is said before the first episode
            check_disturbances(study.disturbed(), ready.policy)
            each = None if ready.store.episodes else seconds_per_step(ready)
            if each is not None:
                steps = study.settings.max_steps * study.episodes_per_arm * study.most_arms
                estimated(each * steps / max(1, study.execution.workers or 1))
        reporter = study.reporter()
        try:
            ready.run(reporter)
        finally:
            reporter.close()
    finally:
        ready.close()
    return read_run_data(folder)


def seconds_per_step(ready: ReadyRun) -> float | None:
    """Time some steps of a run that has not begun; None where this process has no world or model.

    They are the first of its first episode, which begins anew afterwards.
    """
    policy = ready.policy
    if ready.worlds is None or isinstance(policy, SharedHandle):
        return None
    chunking = chunking_factory(ready.settings, policy.skipped_rows)(policy.chunk_length)
    timed = run_episode(
        ready.worlds.envs[0], policy, ready.plan[0], chunking, subscribers=[_Enough()]
    )
    spent = timed.timing.step_s + timed.timing.observe_s + timed.timing.policy_s
    return spent / timed.steps if timed.steps else None


class _Enough(Subscriber):
    def on_step(self, event: StepEvent) -> None:
        if event.result.step >= _PROBE:
            raise EnvError("enough steps were timed")


def results(run: RunData) -> Results:
    """Return the successes of a run, by instance; errors are no results."""
    found: dict[int, list[float]] = {}
    for episode in run.scored:
        found.setdefault(episode.key.instance, []).append(float(bool(episode.success)))
    return found


def _document(study: Study, base_run: RunData, found: Found) -> dict[str, Any]:
    base = results(base_run)
    curves: list[dict[str, Any]] = []
    p_values = []
    for curve in study.curves:
        runs = dict(sorted(found[curve.name].items()))
        arms = {size: results(run) for size, run in runs.items()}
        rows = [
            {"dose": curve.sign * size, **_row(base, run, study.settings.seed)}
            for size, run in runs.items()
        ]
        if not rows:
            continue
        half = None if curve.axis.whole else halving(base, arms)
        p_values.append(trend(base, arms, seed=study.settings.seed))
        curves.append(
            {
                "name": curve.name,
                "axis": curve.axis.name,
                "part": curve.part,
                "unit": curve.axis.unit,
                "meaning": curve.axis.meaning,
                "input": INPUTS.get(curve.name),
                "arms": rows,
                "halving": None if half is None else asdict(half),
            }
        )
    for curve_row, p_value, corrected in zip(curves, p_values, holm(p_values), strict=True):
        curve_row |= {"p_value": p_value, "p_corrected": corrected}
    return {
        "task": study.settings.task,
        "label": base_run.label,
        "sim": study.settings.sim,
        "protocol": study.settings.protocol,
        "instances": list(study.settings.instances),
        "rollouts": study.settings.rollouts,
        "budget": study.budget,
        "complete": 1 + sum(map(len, found.values())) >= study.most_arms,
        "undisturbed": _row(base, base_run, study.settings.seed),
        "curves": curves,
    }


def _row(base: Results, run: RunData, seed: int) -> dict[str, Any]:
    mine = results(run)
    compared = compare_success(mine, base, seed=seed)
    interval = None if compared is None or compared.interval is None else compared.interval
    return {
        "run": run.path.name,
        "successes": sum(sum(values) for values in mine.values()),
        "episodes": sum(len(values) for values in mine.values()),
        "errors": len(run.episodes) - len(run.scored),
        "difference": None if compared is None else compared.difference,
        "interval": None if interval is None else [interval.low, interval.high],
        "lost": most_lost(run),
    }
