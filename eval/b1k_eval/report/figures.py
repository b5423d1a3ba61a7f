"""The figures of runs side by side, for the page and as files for a paper.

Each is a function of the findings and of a `Look`, and is drawn inside `looks.drawing`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from b1k_eval.diagnosis.failures import LABELS
from b1k_eval.diagnosis.funnel import Funnel
from b1k_eval.diagnosis.selfreport import Calibration, SelfReport, SkillReport
from b1k_eval.report.looks import MARKERS, Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 5.2
"""Width of every figure [inch], at which its text is about as large as that of a page."""

_ROW = 0.27
_NAME_LENGTH = 30  # leaves room for the figure itself
_SHOWN = 0.005  # rounds to 1 %


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure that can be drawn.

    Attributes:
        name: Name of its file.
        title: Title for display.
        description: What it shows, in words.
        draw: Draws it, inside `looks.drawing`.
        of_one_run: Whether it is of one run, named in the title; else of all.
    """

    name: str
    title: str
    description: str
    draw: Callable[[Look], Figure]
    of_one_run: bool = False


def success_figure(rows: Sequence[Mapping[str, Any]], level: float) -> Drawing:
    """Draw success rate and mean q-score of every run with their intervals.

    Args:
        rows: Runs of `comparison.summary`.
        level: Coverage of the intervals.
    """
    told = []
    for row in rows:
        for what, key, value in (("success", "success", "rate"), ("q", "q_score", "mean")):
            mean, interval = row[key][value], row[key]["interval"]
            if mean is not None:
                text = f"{row['name']} {what} {100 * mean:.0f} %"
                if interval is not None:
                    text += f" [{100 * interval['low']:.0f}, {100 * interval['high']:.0f}]"
                told.append(text)

    def draw(look: Look) -> Figure:
        from matplotlib.figure import Figure

        # Not by pyplot, which keeps every figure open and picks a backend by the display.
        figure = Figure(figsize=(WIDTH, 0.95 + 0.42 * len(rows)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        _points(left, look, rows, "success", "rate")
        _points(right, look, rows, "q_score", "mean")
        left.set_xlabel(f"success rate, {100 * level:g} % interval")
        right.set_xlabel(f"mean q-score, {100 * level:g} % interval")
        return figure

    return Drawing(
        name="success",
        title="Success rate and q-score",
        description="; ".join(told) or "no scored episode",
        draw=draw,
    )


def _points(
    axes: Axes, look: Look, rows: Sequence[Mapping[str, Any]], key: str, value: str
) -> None:
    for index, row in enumerate(rows):
        mean, interval = row[key][value], row[key]["interval"]
        colour = look.run(index)
        if interval is not None:
            ends = (interval["low"], interval["high"])
            axes.plot(ends, (index, index), color=colour, linewidth=2, solid_capstyle="butt")
        if mean is not None:
            marker = MARKERS[index % len(MARKERS)]
            axes.plot([mean], [index], marker, color=colour, markersize=7, clip_on=False)
        else:
            axes.text(0.5, index, "nothing scored", ha="center", va="center", color=look.muted)
    axes.set_yticks(range(len(rows)), [_name(look, row, i) for i, row in enumerate(rows)])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    _shares(axes, "x")


def funnel_figure(funnels: Sequence[Funnel]) -> Drawing:
    """Draw how many episodes reached each stage, the runs side by side."""
    labels = [stage.label for stage in funnels[0].stages]
    told = [
        f"{letter(i)}: "
        + ", ".join(f"{stage.label} {stage.count} of {run.scored}" for stage in run.stages)
        for i, run in enumerate(funnels)
    ]
    values = [[stage.count for stage in run.stages] for run in funnels]
    return Drawing(
        name="funnel",
        title="How far the episodes came",
        description="; ".join(told),
        draw=lambda look: _bars(
            look, labels, values, [run.scored for run in funnels], "of the scored episodes"
        ),
    )


def failures_figure(
    counts: Sequence[Mapping[str, int]], failed: Sequence[int], names: Sequence[str]
) -> Drawing:
    """Draw why episodes failed, the runs side by side.

    Args:
        counts: Failed episodes by label, per run.
        failed: Failed episodes with a label, per run.
        names: Names of the runs.
    """
    total = {label: sum(run.get(label, 0) for run in counts) for label in LABELS}
    labels = sorted((label for label in LABELS if total[label]), key=lambda label: -total[label])
    told = [
        f"{name}: {LABELS[label]} {run[label]}"
        for name, run in zip(names, counts, strict=True)
        for label in labels
        if run.get(label)
    ]
    values = [[run.get(label, 0) for label in labels] for run in counts]
    return Drawing(
        name="failures",
        title="Why episodes failed",
        description="; ".join(told),
        draw=lambda look: _bars(
            look, [LABELS[label] for label in labels], values, failed, "of the failed episodes"
        ),
    )


def _bars(
    look: Look,
    labels: Sequence[str],
    values: Sequence[Sequence[int]],
    totals: Sequence[int],
    unit: str,
) -> Figure:
    from matplotlib.figure import Figure

    runs = len(values)
    height = 0.75 + len(labels) * (_ROW if runs < 3 else 0.12 * runs + 0.06)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    thick = 0.78 / runs
    for index, (counts, total) in enumerate(zip(values, totals, strict=True)):
        y = np.arange(len(labels)) + (index - (runs - 1) / 2) * thick
        shares = [count / total if total else 0.0 for count in counts]
        axes.barh(y, shares, thick * 0.9, color=look.run(index), label=letter(index))
        for place, share, count in zip(y, shares, counts, strict=True):
            axes.annotate(
                str(count) if runs > 1 else f"{count}/{total}",
                (share, place),
                (3, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=look.muted,
            )
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    _shares(axes, "x")
    axes.set_xlim(0, 1.12)
    axes.set_xlabel(unit)
    if look.legend and runs > 1:
        axes.legend(frameon=False, loc="lower right")
    return figure


def progress_figure(reports: Sequence[SelfReport], names: Sequence[str]) -> Drawing | None:
    """Draw reported progress against what was done; None if no run reports any."""
    panels = [
        (title, [_calibration(report, kind) for report in reports])
        for title, kind in (
            ("share of sub-goals reached", "against_subgoals"),
            ("share of time, successes only", "against_time"),
        )
    ]
    panels = [(title, curves) for title, curves in panels if any(curves)]
    if not panels:
        return None
    told = [
        f"{name}, {title}: Brier score {curve.brier:.3f}, the best constant {curve.constant:.3f}"
        for title, curves in panels
        for name, curve in zip(names, curves, strict=True)
        if curve is not None
    ]

    def draw(look: Look) -> Figure:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(WIDTH, 2.75), layout="constrained")
        for axes, (title, curves) in zip(
            figure.subplots(1, 2, squeeze=False)[0], panels, strict=False
        ):
            _reliability(axes, look, curves)
            axes.set_ylabel(title)
        for axes in figure.axes[len(panels) :]:
            axes.set_visible(False)
        return figure

    return Drawing(
        name="progress",
        title="Progress: what the policy reports against what is done",
        description="; ".join(told),
        draw=draw,
    )


def _calibration(report: SelfReport, kind: str) -> Calibration | None:
    found: Calibration | None = getattr(report.progress, kind, None)
    return found


def _reliability(axes: Axes, look: Look, curves: Sequence[Calibration | None]) -> None:
    axes.plot((0, 1), (0, 1), color=look.muted, linewidth=1, linestyle=(0, (4, 3)))
    for index, curve in enumerate(curves):
        if curve is None:
            continue
        largest = max(entry.count for entry in curve.bins)
        said = [entry.said for entry in curve.bins]
        was = [entry.was for entry in curve.bins]
        axes.plot(said, was, color=look.run(index), linewidth=1.5)
        sizes = [12 + 50 * entry.count / largest for entry in curve.bins]
        marker = MARKERS[index % len(MARKERS)]
        axes.scatter(
            said,
            was,
            sizes,
            color=look.run(index),
            marker=marker,
            label=letter(index),
            zorder=3,
            clip_on=False,
        )
    _shares(axes, "x")
    _shares(axes, "y")
    axes.set_aspect("equal")
    axes.set_xlabel("reported progress")
    if look.legend and sum(curve is not None for curve in curves) > 1:
        axes.legend(frameon=False, loc="upper left")


def skill_figure(report: SkillReport, run: int, name: str) -> Drawing:
    """Draw the reported skill against the skill called for, for one run.

    Args:
        report: With at least one inference in its table.
        run: Number of the run.
        name: Name of the run.
    """
    calls = report.table.sum(axis=1, keepdims=True)  # [active, 1]
    shares = report.table / np.maximum(calls, 1)
    told = [
        f"{active} called for: {said} said in {100 * shares[row, column]:.0f} %"
        for row, active in enumerate(report.active)
        for column, said in enumerate(report.said)
        if shares[row, column] >= _SHOWN
    ]

    def draw(look: Look) -> Figure:
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle

        rows, columns = report.table.shape
        figure = Figure(figsize=(WIDTH, 1.7 + _ROW * rows), layout="constrained")
        axes = figure.subplots()
        for (row, column), share in np.ndenumerate(shares):
            corner = (column - 0.48, row - 0.46)
            axes.add_patch(
                Rectangle(corner, 0.96, 0.92, color=look.run(run), alpha=0.75 * share, linewidth=0)
            )
            if share >= _SHOWN:
                text = f"{100 * share:.0f}"
                axes.text(column, row, text, ha="center", va="center", fontsize=8)
        axes.set_xticks(range(columns), report.said, rotation=35, ha="right")
        axes.set_yticks(
            range(rows),
            [f"{label} ({n})" for label, n in zip(report.active, calls[:, 0], strict=True)],
        )
        axes.set_xlim(-0.5, columns - 0.5)
        axes.set_ylim(rows - 0.5, -0.5)
        axes.grid(visible=False)
        axes.set_xlabel("reported skill, in % of the inferences of that row")
        axes.set_ylabel("called for")
        return figure

    return Drawing(
        name=f"skill-{letter(run)}",
        title=f"Reported skill against skill called for: {name}",
        description="; ".join(told),
        draw=draw,
        of_one_run=True,
    )


def _shares(axes: Axes, axis: str) -> None:
    """Make an axis from 0 to 100 %."""
    ticks = np.linspace(0, 1, 5)
    texts = [f"{100 * tick:.0f} %" if tick in (0, 1) else f"{100 * tick:.0f}" for tick in ticks]
    if axis == "x":
        axes.set_xticks(ticks, texts)
        axes.set_xlim(-0.02, 1.02)
    else:
        axes.set_yticks(ticks, texts)
        axes.set_ylim(-0.02, 1.02)


def letter(index: int) -> str:
    """Return the letter of a run in figures: A, B, ..., Z, A2, ..."""
    return chr(ord("A") + index % 26) + (str(index // 26 + 1) if index >= 26 else "")


def _name(look: Look, row: Mapping[str, Any], index: int) -> str:
    if not look.legend:
        return letter(index)
    name = str(row["name"])
    short = name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 3]}..."
    return f"{letter(index)}  {short}"
