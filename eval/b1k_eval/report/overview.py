"""Findings on all runs, computed once for the page, the tables and the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from b1k_envs.errors import UsageError
from b1k_eval.comparison.summary import summarise_runs
from b1k_eval.diagnosis.funnel import Funnel, funnel
from b1k_eval.diagnosis.selfreport import SelfReport, judge
from b1k_eval.records.loading import RunData
from b1k_eval.report.episodes import EpisodePage, read_episode_page
from b1k_eval.report.figures import (
    Drawing,
    failures_figure,
    funnel_figure,
    progress_figure,
    skill_figure,
    success_figure,
)


@dataclass(frozen=True, kw_only=True)
class RunFindings:
    """Findings on one run.

    Attributes:
        data: The run.
        row: Its row of `comparison.summary`.
        episodes: The finished episodes, in the order of the plan.
        funnel: None if the task has no sub-goals.
        no_funnel: Why there is no funnel, else None.
        failures: Failed episodes by label, without those whose trace cannot be used.
        self_report: Measures of the policy's self-reports; None if no trace was read.
    """

    data: RunData
    row: Mapping[str, Any]
    episodes: tuple[EpisodePage, ...]
    funnel: Funnel | None
    no_funnel: str | None
    failures: Mapping[str, int]
    self_report: SelfReport | None

    @property
    def name(self) -> str:
        """Name of the run, unique in the report."""
        return str(self.row["name"])


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Findings on all runs, in the given order, and the document of `comparison.summary`."""

    runs: tuple[RunFindings, ...]
    document: Mapping[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the runs."""
        return tuple(run.name for run in self.runs)


def find(
    runs: Sequence[RunData], *, seed: int = 0, mix: bool = False, traces: bool = True
) -> Findings:
    """Read all results, traces and video indices of at least one run.

    `seed` is for bootstraps and chance levels; with `mix` the page says how runs that are different
    experiments differ; without `traces` only what the results say is found, which is fast.

    Raises:
        UsageError: A run is given twice, or they are not comparable and `mix` is not set.
    """
    paths = [(run.path.resolve(), run.task) for run in runs]
    for run, path in zip(runs, paths, strict=True):
        if paths.count(path) > 1:
            raise UsageError(f"{run.path} is given twice: report it once")
    document = summarise_runs(runs, seed=seed, mix=mix)
    rows = document["runs"]
    return Findings(
        runs=tuple(_run(run, row, seed, traces) for run, row in zip(runs, rows, strict=True)),
        document=document,
    )


def _run(run: RunData, row: Mapping[str, Any], seed: int, traces: bool) -> RunFindings:
    episodes = tuple(read_episode_page(episode, traces=traces) for episode in run.episodes)
    stages, why = None, None
    try:
        stages = funnel(run)
    except UsageError as error:
        why = str(error)
    failures: dict[str, int] = {}
    for episode in episodes:
        if episode.failure is not None:
            failures[episode.failure.label] = failures.get(episode.failure.label, 0) + 1
    return RunFindings(
        data=run,
        row=row,
        episodes=episodes,
        funnel=stages,
        no_funnel=why,
        failures=failures,
        self_report=judge(run, seed=seed) if traces else None,
    )


def drawings(found: Findings) -> list[Drawing]:
    """Return the figures that there are data for, in the order of the page."""
    runs, names = found.runs, found.names
    figures = [success_figure(found.document["runs"], found.document["level"])]
    funnels = [run.funnel for run in runs if run.funnel is not None]
    if len(funnels) == len(runs) and one_task(found) and any(run.scored for run in funnels):
        figures.append(funnel_figure(funnels))
    failed = [sum(run.failures.values()) for run in runs]
    if any(failed):
        figures.append(failures_figure([run.failures for run in runs], failed, names))
    reports = [run.self_report for run in runs if run.self_report is not None]
    if len(reports) < len(runs):
        return figures
    progress = progress_figure(reports, names)
    if progress is not None:
        figures.append(progress)
    for number, (run, report) in enumerate(zip(runs, reports, strict=True)):
        skill = report.skill
        if skill is not None and len(skill.said) > 1 and skill.table.sum():
            figures.append(skill_figure(skill, number, run.name))
    return figures


def one_task(found: Findings) -> bool:
    """Return whether all runs are of one task and can share a funnel."""
    return len({run.data.task for run in found.runs}) == 1
