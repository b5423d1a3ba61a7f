"""`b1k-eval run`: one policy on a set of episodes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from b1k_envs.errors import UsageError
from b1k_eval.cli.console import (
    err_console,
    out_console,
    print_json,
    say_remark,
    shell_word,
    show_limits,
    stop_code,
    stop_word,
)
from b1k_eval.cli.options import JsonOption, Options, Typed
from b1k_eval.cli.running.by_task import (
    over_tasks,
    over_tasks_words,
    progress_words,
    results_by_task,
    tasks_table,
    title_of,
)
from b1k_eval.cli.running.preparing import ready_run
from b1k_eval.dataset.writing import Written
from b1k_eval.diagnosis.failures import why
from b1k_eval.diagnosis.funnel import most_lost
from b1k_eval.execution import Execution
from b1k_eval.records.episode import RESULT_FILE, TRACE_FILE, VIDEO_FILE, EpisodeKey
from b1k_eval.records.loading import EpisodeData, RunData, read_tasks
from b1k_eval.records.run_files import EPISODES_FOLDER
from b1k_eval.run.pool import session_remarks
from b1k_eval.run.progress.displays import make_reporter
from b1k_eval.run.progress.reporter import OUTCOME_STYLES, duration
from b1k_eval.run.session import ReadyRun, summarise
from b1k_eval.settings import RunSettings
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.options import OUTPUT, STATISTICS, WHAT, consents, flag


def run(
    asked: Annotated[Typed, Options(RunSettings)],
    until_decided: Annotated[
        bool,
        typer.Option(
            "--until-decided",
            rich_help_panel=STATISTICS,
            help="Take the instances of --against in random order until it is decided which run "
            "is better.",
        ),
    ] = False,
    max_instances: Annotated[
        int | None,
        typer.Option(
            help="At most so many instances until decided.",
            show_default="all",
            rich_help_panel=STATISTICS,
        ),
    ] = None,
    *,
    skip_impossible: Annotated[
        bool,
        typer.Option(
            "--skip-impossible",
            rich_help_panel=WHAT,
            help="Leave out tasks that the simulator does not have.",
        ),
    ] = False,
    how: Annotated[Typed, Options(Execution)],
    official: Annotated[
        bool,
        typer.Option(
            "--official",
            rich_help_panel=WHAT,
            help="As a submission needs it: OmniGibson, every step rendered and filmed, instances "
            "0-9, one rollout each, the task's own time limit, the standard track.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The run folder.", show_default="results/<run-id>", rich_help_panel=OUTPUT
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            rich_help_panel=OUTPUT,
            help="Do the missing episodes of the run in --out and retry its errors; settings not "
            "given are the run's own, and there may be more --instances or --rollouts.",
        ),
    ] = False,
    json_output: JsonOption = False,
    fail_under: Annotated[
        float | None,
        typer.Option(
            help="Exit with 1 if the success rate is below this.",
            show_default="none",
            rich_help_panel=STATISTICS,
        ),
    ] = None,
) -> None:
    """Run a policy in closed loop and score it.

    Examples:
    b1k-eval run --task 31 --policy expert

    b1k-eval run --task 31 --ckpt PATH --instances 0-9 --out results/mine

    b1k-eval run --out results/mine --resume
    """
    if fail_under is not None and not 0 <= fail_under <= 1:
        raise UsageError(f"--fail-under {fail_under:g} must lie between 0 and 1")
    with err_console().status("getting ready: policy, its files' hashes, simulator"):
        session = ready_run(
            asked,
            how,
            argv=sys.argv,
            out=out,
            resume=resume,
            official=official,
            skip_impossible=skip_impossible,
            until_decided=until_decided,
            max_instances=max_instances,
            rated=fail_under is not None,
        )
    for remark in session.remarks:
        say_remark(remark)
    reporter = make_reporter(err_console())
    stop: KeyboardInterrupt | None = None
    try:
        session.run(reporter)
    except KeyboardInterrupt as caught:
        stop = caught
    finally:
        reporter.close()
        session.close()
    _conclude(session, json_output=json_output, stop=stop)
    summary = summarise(session.store.episodes)
    if stop is not None:
        raise typer.Exit(stop_code(stop))
    if summary["counts"]["error"]:
        raise typer.Exit(1)
    rate = summary["success_rate"]
    if fail_under is not None and (rate is None or rate < fail_under):
        err_console().print(f"success rate {rate} is below --fail-under {fail_under:g}")
        raise typer.Exit(1)


def _conclude(session: ReadyRun, *, json_output: bool, stop: KeyboardInterrupt | None) -> None:
    """Print the results: the table, or with `--json` the document."""
    store, settings = session.store, session.settings
    summary = summarise(store.episodes)
    if stop is not None:
        err_console().print(f"{stop_word(stop)}; go on with: {_resuming(session)}", soft_wrap=True)
    if json_output:
        standing, read = session.standing(), _by_key(read_tasks(store.path))
        print_json(
            {
                "run": str(store.path),
                "interrupted": stop is not None,
                "sim": settings.sim,
                "protocol": settings.protocol,
                "track": settings.track,
                "task": settings.task if len(session.tasks) == 1 else None,
                "tasks": results_by_task(session),
                "over_tasks": over_tasks(session),
                "policy": session.policy.name,
                "label": session.label,
                "checkpoint": None if settings.checkpoint is None else settings.checkpoint.ckpt,
                "remarks": [*session.remarks, *session_remarks(store)],
                "privileged": store.record["identity"]["privileged"],
                **summary,
                "dataset": None if session.written is None else _json(session.written),
                "decision": None if standing is None else asdict(standing),
                "episodes": [
                    {
                        **line,
                        **_more(read.get(key)),
                        "folder": str(store.path / EPISODES_FOLDER / key.folder),
                    }
                    for key, line in store.episodes.items()
                ],
            }
        )
        return
    console = out_console()
    lost = None
    if store.episodes and len(session.tasks) == 1:
        runs = read_tasks(store.path)
        console.print(_table(session, _by_key(runs)))
        lost = most_lost(runs[0]) if len(store.episodes) > 1 else None
    elif store.episodes:
        console.print(tasks_table(session))
    counts = summary["counts"]
    text = ", ".join(f"{counts[name]} {name}" for name in OUTCOME_STYLES)
    if summary["success_rate"] is not None:
        scored = counts["success"] + counts["failure"]
        text += (
            f"; success rate {summary['success_rate']:.0%}, mean q {summary['mean_q_score']:.2f}"
            f"{progress_words(summary)} over {scored} scored"
        )
    console.print(text)
    if lost is not None:
        console.print(lost, soft_wrap=True)
    means = over_tasks(session)
    if means is not None:
        console.print(over_tasks_words(means), soft_wrap=True)
    standing = session.standing()
    if standing is not None:
        console.print(standing.words(), soft_wrap=True)
    marked = store.record["identity"]["privileged"]
    show_limits(console, settings.sim, [session.policy.name] if marked else [])
    for label, path in _places(session):
        console.print(f"{label:<8}{path}", soft_wrap=True)
    if session.written is not None:
        console.print(f"data    {session.written.words()}", soft_wrap=True)
    if store.episodes:
        console.print(f"next    b1k-eval report {shell_word(store.path)}", soft_wrap=True)


def _json(written: Written) -> dict[str, Any]:
    return {**asdict(written), "path": str(written.path)}


def _resuming(session: ReadyRun) -> str:
    """Return the command that resumes a run, with the consents that must be given again."""
    words = ["b1k-eval run --resume --out", shell_word(session.store.path)]
    checkpoint = session.settings.checkpoint
    if checkpoint is not None:
        given = [name for name in consents(CheckpointRequest) if getattr(checkpoint, name)]
        words += [flag(CheckpointRequest, name) for name in given]
    return " ".join(words)


def _by_key(runs: Sequence[RunData]) -> dict[EpisodeKey, EpisodeData]:
    """Return the episodes: lines of episodes.jsonl do not say why one failed or how far it came."""
    return {episode.key: episode for run in runs for episode in run.episodes}


def _more(episode: EpisodeData | None) -> dict[str, Any]:
    """Return what `--json` has besides the line."""
    if episode is None:
        return {}
    return {"why": why(episode, episode.diagnosis), "subgoals": dict(episode.subgoals)}


def _table(session: ReadyRun, read: Mapping[EpisodeKey, EpisodeData]) -> Table:
    table = Table(title=title_of(session))
    several = session.settings.rollouts > 1
    names = ["instance", *(["rollout"] if several else []), "outcome", "q"]
    names += ["sub-goals", "steps", "wall", "why"]
    for name in names:
        left = name in ("outcome", "why")
        table.add_column(name, justify="left" if left else "right", no_wrap=name != "why")
    for key, line in session.store.episodes.items():
        outcome, q_score = line["outcome"], line["q_score"]
        episode = read.get(key)  # None for a line whose files were damaged since
        why_not = None if episode is None else why(episode, episode.diagnosis)
        table.add_row(
            str(line["instance"]),
            *([str(line["rollout"])] if several else []),
            Text(outcome, style=OUTCOME_STYLES[outcome]),
            "-" if q_score is None else f"{q_score:.2f}",
            (episode and episode.reached) or "-",
            str(line["steps"]),
            duration(line["timing"]["wall_s"]),
            Text(why_not or ""),
        )
    limit = session.settings.max_steps
    if any(line["steps"] > limit for line in session.store.episodes.values()):
        table.caption = f"A time limit of {limit:,} ends an episode after {limit + 1:,} steps."
    return table


def _places(session: ReadyRun) -> list[tuple[str, Path]]:
    """List the places of the results, with the first episode's files by name."""
    store = session.store
    places = [("run", store.path)]
    for key in list(store.episodes)[:1]:
        folder = store.path / EPISODES_FOLDER / key.folder
        places += [
            (label, folder / file)
            for label, file in (
                ("result", RESULT_FILE),
                ("trace", TRACE_FILE),
                ("video", VIDEO_FILE),
            )
            if (folder / file).exists()
        ]
    return places
