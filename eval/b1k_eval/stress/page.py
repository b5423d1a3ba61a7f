"""The page of a study, or of two policies' studies side by side.

    report.html            this page
    report-study/assets/   its styles

It opens from disk, without a network. Every arm is a run of its own, with a page of its own by
`b1k-eval report STUDY/ARM`.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b1k_envs.errors import UsageError
from b1k_eval import __version__, report
from b1k_eval.files import spelled_out, write_atomic
from b1k_eval.records.run_files import STUDY_FILE, parse_object
from b1k_eval.records.store import START_AGAIN, storing
from b1k_eval.report.figures import WIDTH, Drawing, letter
from b1k_eval.report.looks import MARKERS, ON_PAGE, RUN_COLOURS, Look, as_page_svg, drawing
from b1k_eval.report.page import PAGE, rendered
from b1k_eval.stress.comparing import compare_studies, in_words
from b1k_eval.stress.words import halving_words, points, share

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOLDER = "report-study"
_LEVEL = 0.95

Document = dict[str, Any]


def write_study_page(studies: Sequence[Path], out: Path, *, mix: bool = False) -> Path:
    """Write the page of one study or two.

    Args:
        studies: Their folders.
        out: Folder for the page; made if needed.
        mix: Whether two may be of different experiments.

    Returns:
        The page.

    Raises:
        UsageError: More than two, or two that share nothing.
        UnavailableError: A package of the extra `report` is missing.
        StorageError: The page cannot be written.
    """
    if len(studies) > 2:
        raise UsageError("a page shows one study or two: give one or two folders")
    documents = [parse_object((path / STUDY_FILE).read_bytes()) for path in studies]
    compared = None
    if len(studies) == 2:
        compared = compare_studies(*studies, seed=0, level=_LEVEL, mix=mix)
    svgs = []
    for number, figure in enumerate(_figures(documents)):
        with drawing(ON_PAGE, salt=str(number)):
            svg = as_page_svg(figure.draw(ON_PAGE), figure.description)
        svgs.append({"title": figure.title, "svg": svg})
    text = rendered(
        "study.html",
        title=" and ".join(document["label"] for document in documents) + " under stress",
        task=documents[0]["task"],
        version=__version__,
        folder=FOLDER,
        twin=documents[0]["sim"] == "mujoco",
        figures=svgs,
        verdicts=[in_words(compared, curve) for curve in compared["curves"]] if compared else [],
        studies=[
            {
                "letter": letter(number),
                "colour": number % len(RUN_COLOURS),
                "label": document["label"],
                "complete": document["complete"],
                "undisturbed": share(document["undisturbed"]),
                "rows": _rows(document),
                "halving": [words for c in document["curves"] if (words := halving_words(c))],
            }
            for number, document in enumerate(documents)
        ],
    )
    with storing(out / PAGE, START_AGAIN):
        shutil.rmtree(out / FOLDER, ignore_errors=True)
        (out / FOLDER).mkdir(parents=True)
        assets = Path(str(report.__file__)).parent / "assets"
        shutil.copytree(assets, out / FOLDER / "assets")
        write_atomic(out / PAGE, spelled_out(text).encode("utf-8"))
    return out / PAGE


def _rows(document: Document) -> list[dict[str, Any]]:
    return [
        {
            "axis": (curve["input"] or curve["name"]) if number == 0 else "",
            "meaning": curve["meaning"],
            "dose": f"{arm['dose']:g} {curve['unit']}".strip(),
            "success": share(arm),
            "points": points(arm),
            "p": f"{curve['p_corrected']:.2g}" if number == 0 else "",
            "sure": curve["p_corrected"] < 1 - _LEVEL,
            "lost": arm["lost"] or "",
        }
        for curve in document["curves"]
        for number, arm in enumerate(curve["arms"])
    ]


# --- figures -------------------------------------------------------------------------------------


def _figures(documents: Sequence[Document]) -> list[Drawing]:
    names = list(dict.fromkeys(c["name"] for d in documents for c in d["curves"]))
    of = [{curve["name"]: curve for curve in document["curves"]} for document in documents]
    whole = [name for name in names if all(c[name]["halving"] is None for c in of if name in c)]
    figures = []
    if whole:
        told = "; ".join(
            f"{letter(n)}: {c[name]['input'] or name} {points(c[name]['arms'][-1])}"
            for name in whole
            for n, c in enumerate(of)
            if name in c
        )
        figures.append(
            Drawing(
                name="inputs",
                title="What it costs to take an input away, in points of success",
                description=told,
                draw=lambda look: _forest(look, whole, of),
            )
        )
    dosed = [name for name in names if name not in whole]
    if dosed:
        # Both directions of an axis are one panel.
        panels = [list(group) for _, group in groupby(dosed, lambda name: name.split(" ")[0])]
        told = "; ".join(
            f"{letter(n)} {name}: "
            + ", ".join(f"{share(arm)} at {arm['dose']:g}" for arm in c[name]["arms"])
            for name in dosed
            for n, c in enumerate(of)
            if name in c
        )
        figures.append(
            Drawing(
                name="doses",
                title="Success by dose; the dashed line is half of the undisturbed",
                description=told,
                draw=lambda look: _panels(look, panels, documents, of),
            )
        )
    return figures


def _forest(look: Look, names: Sequence[str], of: Sequence[dict[str, Any]]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 0.9 + 0.28 * len(names) * max(1, 0.8 * len(of))),
                    layout="constrained")  # fmt: skip
    axes = figure.subplots()
    labels = []
    for row, name in enumerate(names):
        labels.append(next(c[name]["input"] or name for c in of if name in c))
        for number, curves in enumerate(of):
            if name not in curves or curves[name]["arms"][-1]["difference"] is None:
                continue
            arm, y = curves[name]["arms"][-1], row + 0.26 * (number - (len(of) - 1) / 2)
            if arm["interval"] is not None:
                axes.plot([100 * end for end in arm["interval"]], (y, y), color=look.run(number),
                          linewidth=2, solid_capstyle="butt")  # fmt: skip
            axes.plot([100 * arm["difference"]], [y], MARKERS[number], color=look.run(number),
                      markersize=6)  # fmt: skip
    axes.axvline(0.0, color=look.muted, linewidth=1)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlim(-104, 54)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"points of success, {100 * _LEVEL:g} % interval")
    return figure


def _panels(
    look: Look,
    panels: Sequence[Sequence[str]],
    documents: Sequence[Document],
    of: Sequence[dict[str, Any]],
) -> Figure:
    from matplotlib.figure import Figure

    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(WIDTH, 0.3 + 1.7 * rows), layout="constrained")
    grid = figure.subplots(rows, 2, squeeze=False).ravel()
    for axes, names in zip(grid, panels, strict=False):
        for number, curves in enumerate(of):
            _curve(axes, look, names, documents[number], curves, number)
        unit = next(c[name]["unit"] for name in names for c in of if name in c)
        axes.set_title(f"{names[0].split(' ')[0]}{f' [{unit}]' if unit else ''}", fontsize=10)
        axes.set_ylim(-0.04, 1.04)
        axes.set_yticks((0, 0.5, 1), ("0", "50", "100 %"))
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    return figure


def _curve(
    axes: Axes,
    look: Look,
    names: Sequence[str],
    document: Document,
    curves: dict[str, Any],
    number: int,
) -> None:
    base = document["undisturbed"]
    found = [(0.0, base)] + [
        (arm["dose"], arm) for name in names if name in curves for arm in curves[name]["arms"]
    ]
    found.sort(key=lambda each: each[0])
    doses = [dose for dose, _ in found]
    rates = [arm["successes"] / max(1, arm["episodes"]) for _, arm in found]
    colour, half = look.run(number), base["successes"] / max(1, base["episodes"]) / 2
    axes.plot(doses, rates, color=colour, linewidth=1.5, marker=MARKERS[number], markersize=5)
    axes.axhline(half, color=colour, linewidth=1, linestyle=(0, (4, 3)), alpha=0.6)
