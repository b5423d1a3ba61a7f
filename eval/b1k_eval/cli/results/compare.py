"""`b1k-eval compare RUN RUN [RUN...]`: is one policy better, and how sure is that?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from b1k_envs.errors import UsageError
from b1k_eval.cli.console import out_console, print_json, say_remark, show_limits
from b1k_eval.cli.options import JsonOption, Options, PublishedFile, Typed
from b1k_eval.cli.results.pairs import range_text, show_pair, show_published
from b1k_eval.execution import Execution
from b1k_eval.published import PREFIX
from b1k_eval.records.episode import OUTCOMES
from b1k_eval.records.run_files import STUDY_FILE, runs_there
from b1k_eval.trackers.starting import check_trackers, log_comparison
from b1k_policies.options import parsed

if TYPE_CHECKING:
    from b1k_eval.records.loading import RunData


def compare(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN RUN [RUN...]",
            help="Run folders; the first is the baseline. Or one run and published:NAME.",
        ),
    ] = None,
    level: Annotated[float, typer.Option(help="Coverage of intervals; 1 - level tests.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Seed of bootstrap and random permutations.")] = 0,
    mix: Annotated[
        bool,
        typer.Option(
            "--mix", help="Compare different experiments on what they share; the output says so."
        ),
    ] = False,
    published_file: PublishedFile = None,
    *,
    tracked: Annotated[
        Typed,
        Options(
            Execution,
            "log_to",
            log_to={"heading": None, "help": "Log the verdict to trackers too, as `run` does."},
        ),
    ],
    json_output: JsonOption = False,
) -> None:
    """Compare runs on the instances they share: rates with intervals, tests, verdicts in words.

    Two studies of `stress` are compared axis by axis. A run and published:NAME: is the run
    compatible with what is published of that policy, as `b1k-eval published` lists it?

    Runs of different simulators, protocols, tasks, instances or time limits are refused unless
    --mix is given. Errors are counted, never scored.
    """
    from b1k_eval.comparison.summary import summarise_runs
    from b1k_eval.diagnosis.failures import label_failures
    from b1k_eval.records.loading import read_tasks

    if runs is None or len(runs) < 2:
        count = 0 if runs is None else len(runs)
        raise UsageError(
            f"compare needs two runs or more, got {count}: b1k-eval compare RUN RUN; {runs_there()}"
        )
    trackers = parsed(Execution, tracked).get("log_to", ())
    if any(str(path).startswith(PREFIX) for path in runs):
        if trackers:
            raise UsageError(
                "--log-to logs comparisons of runs, not of a run with published scores"
            )
        _against_published(
            runs, published_file, seed=seed, level=level, mix=mix, json_output=json_output
        )
        return
    if published_file is not None:
        raise UsageError(f"--published-file goes with {PREFIX}NAME in place of the second run")
    check_trackers(trackers)
    if (runs[0] / STUDY_FILE).exists():
        from b1k_eval.cli.results.compare_studies import print_studies

        if len(runs) != 2 or not (runs[1] / STUDY_FILE).exists():
            raise UsageError(
                f"{runs[0]} is a study of `stress`: compare it with one other study, or one of the "
                "runs in its folder with a run"
            )
        print_studies(*runs, seed=seed, level=level, mix=mix, json_output=json_output)
        return
    of_tasks = [read_tasks(path) for path in runs]
    if any(len(run) > 1 for run in of_tasks):
        from b1k_eval.cli.results.compare_tasks import print_comparison

        over = print_comparison(of_tasks, seed=seed, level=level, mix=mix, json_output=json_output)
        log_comparison(trackers, over, runs[-1], say_remark)
        return
    read = [run[0] for run in of_tasks]
    document = summarise_runs(read, seed=seed, level=level, mix=mix)
    document["funnels"] = [_funnel(run) for run in read]
    for row, run in zip(document["runs"], read, strict=True):
        row["failures"] = None
        if run.identity.get("imported_from") is None:  # imported results have no traces to judge by
            failures = label_failures(run)
            row["failures"] = dict(failures.counts)
            row["damaged"] += [asdict(entry) for entry in failures.left_out]
    for row in document["runs"]:
        for text in _warnings(row):
            say_remark(text)
    if json_output:
        print_json(document)
    else:
        _show(document)
    log_comparison(trackers, document, runs[-1], say_remark)


def _against_published(
    words: list[Path], file: Path | None, *, seed: int, level: float, mix: bool, json_output: bool
) -> None:
    """Hold a run against published scores.

    Raises:
        UsageError: Other than one run and one name were given, or see `compare_with_published`.
    """
    from b1k_eval.published.comparing import compare_with_published
    from b1k_eval.published.table import published_scores, scores_of
    from b1k_eval.records.loading import read_tasks

    named = [word for word in map(str, words) if word.startswith(PREFIX)]
    runs = [path for path in words if str(path) not in named]
    if len(named) != 1 or len(runs) != 1:
        raise UsageError(
            f"{PREFIX}NAME is compared with one run: b1k-eval compare RUN {PREFIX}gr00t-n1.6; "
            "`b1k-eval published` lists the names"
        )
    scores = scores_of(published_scores(file), named[0].removeprefix(PREFIX))
    run = read_tasks(runs[0])
    for part in run:
        for damaged in part.damaged:
            say_remark(f"{part.name}: {damaged.name} is left out: {damaged.why}")
        if part.pending:
            say_remark(f"{part.name}: {len(part.pending)} of {len(part.plan)} episodes are missing")
    document = compare_with_published(run, scores, seed=seed, level=level, mix=mix)
    if json_output:
        print_json(document)
    else:
        show_published(out_console(), document)


def _show(document: Mapping[str, Any]) -> None:
    console = out_console()
    console.print(_runs_table(document))
    if any(funnel is not None for funnel in document["funnels"]):
        console.print(_funnel_table(document))
    for pair in document["pairs"]:
        show_pair(console, pair)
    marked = [row["name"] for row in document["runs"] if row["privileged"]]
    show_limits(console, document["runs"][0]["sim"], marked)


def _funnel(run: RunData) -> dict[str, Any] | None:
    """Return how far the episodes came; if that is not known, None with a remark."""
    from b1k_eval.diagnosis.funnel import funnel

    try:
        return asdict(funnel(run))
    except UsageError as error:
        say_remark(f"{run.name}: {error}")
        return None


def _warnings(row: Mapping[str, Any]) -> list[str]:
    found = [f"{row['name']}: {d['name']} is left out: {d['why']}" for d in row["damaged"]]
    if row["pending"] and not row["until_decided"]:
        found.append(f"{row['name']}: {row['pending']} of {row['planned']} episodes are missing")
    return found


def _runs_table(document: Mapping[str, Any]) -> Table:
    """Make a table with a column per run: names are long, and runs are few."""
    from b1k_eval import frames

    title = f"{document['runs'][0]['task']}, intervals of {document['level']:.0%}"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    rows: list[list[str]] = [[] for _ in _MEASURES]
    for row in frames.runs(document["runs"]).to_dict("records"):
        table.add_column(row["run"], justify="right", overflow="fold")
        for cells, (_, text) in zip(rows, _MEASURES, strict=True):
            cells.append(text(row))
    for (name, _), cells in zip(_MEASURES, rows, strict=True):
        table.add_row(name, *cells)
    return table


def _outcomes(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{row[name]} {name}" for name in OUTCOMES)


def _success(row: Mapping[str, Any]) -> str:
    rate = _number(100 * row["success_rate"], 0)
    return rate if rate == "-" else f"{rate} %"


def _range(row: Mapping[str, Any], name: str, scale: float, digits: int) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return range_text(None if math.isnan(low) else {"low": low, "high": high}, scale, digits)


_MEASURES: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("episodes", _outcomes),
    ("success rate", _success),
    ("  interval", lambda row: _range(row, "success_rate", 100, 0)),
    ("  exact interval", lambda row: _range(row, "success_rate_exact", 100, 0)),
    ("q-score", lambda row: _number(row["q_score"], 2)),
    ("  interval", lambda row: _range(row, "q_score", 1, 2)),
    ("task progress [%]", lambda row: _number(100 * row["task_progress"], 1)),
    ("  interval", lambda row: _range(row, "task_progress", 100, 1)),
    ("simulated time [s]", lambda row: _number(row["simulated_s"], 0)),
    ("base distance [m]", lambda row: _number(row["distance_base_m"], 1)),
    ("left hand [m]", lambda row: _number(row["distance_left_m"], 1)),
    ("right hand [m]", lambda row: _number(row["distance_right_m"], 1)),
    ("inference [ms]", lambda row: _number(1000 * row["latency_s"], 1)),
)


def _funnel_table(document: Mapping[str, Any]) -> Table:
    table = Table(title="Reached by (median step)", title_justify="left")
    table.add_column("stage")
    for row in document["runs"]:
        table.add_column(row["name"], justify="right", overflow="fold")
    known = next(funnel for funnel in document["funnels"] if funnel is not None)
    for index, label in enumerate(stage["label"] for stage in known["stages"]):
        cells = []
        for funnel in document["funnels"]:
            if funnel is None:
                cells.append("unknown")
                continue
            stage = funnel["stages"][index]
            step = "" if stage["median_step"] is None else f" ({stage['median_step']:.0f})"
            cells.append(f"{stage['count']} of {funnel['scored']}{step}")
        table.add_row(label, *cells)
    table.add_section()
    modes = sorted({name for row in document["runs"] for name in row["failures"] or {}})
    for mode in modes:
        table.add_row(
            Text(f"failed: {mode.replace('_', ' ')}", style="dim"),
            *(
                "unknown" if row["failures"] is None else str(row["failures"].get(mode, 0))
                for row in document["runs"]
            ),
        )
    return table


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
