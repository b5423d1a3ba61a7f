"""`b1k-eval replay RUN EPISODE`: the recorded actions again, held against the trace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from b1k_envs.errors import UsageError
from b1k_eval.cli.console import err_console, out_console, print_json, say_remark
from b1k_eval.cli.options import JsonOption
from b1k_eval.records.run_files import read_episodes, read_run, runs_there

if TYPE_CHECKING:
    from b1k_envs.base import Env
    from b1k_eval.records.loading import RunData
    from b1k_eval.replay.recorded import Recorded
    from b1k_eval.replay.retrace import ReplayComparison
    from b1k_eval.settings import RunSettings


def replay(
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="Run folder, finished or not.")
    ] = None,
    episode: Annotated[
        str | None,
        typer.Argument(
            metavar="EPISODE",
            help="TASK-INSTANCE-ROLLOUT, INSTANCE-ROLLOUT, or INSTANCE for its rollout 0.",
        ),
    ] = None,
    rerun: Annotated[
        Path | None,
        typer.Option(
            "--rerun",
            metavar="FILE.rrd",
            help="Write cameras, robot, actions and goal for the Rerun viewer.",
            show_default="no file",
        ),
    ] = None,
    every: Annotated[
        int | None,
        typer.Option(min=1, help="Control steps from one picture to the next.", show_default="3"),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Execute an episode's recorded actions again in the twin, and see whether all comes out equal.

    The policy is not asked; with action noise the disturbed actions are executed. Exits with 1
    where predicates, sub-goals, q-score or positions differ from the trace, and says at which
    step they first do.
    """
    # Imported here, because importing the simulator takes a second that `--help` should not take.
    from b1k_eval.replay.recorded import find_episode, read_recorded, run_of_episode, world_settings
    from b1k_eval.replay.retrace import other_conditions
    from b1k_eval.run import simulators

    if run is None or episode is None:
        raise UsageError(f"replay needs both: b1k-eval replay RUN EPISODE; {_there(run)}")
    if every is not None and rerun is None:
        raise UsageError("--every only means something with --rerun")
    data = run_of_episode(run, episode)
    settings = world_settings(data)
    recorded = read_recorded(find_episode(data, episode))
    simulators.check_world(settings)
    if rerun is not None:
        from b1k_eval.replay.rrd import check_target

        check_target(rerun)
        simulators.prepare_pictures()
    env = simulators.make_env(settings)
    try:
        remarks = other_conditions(data, env.info)
        comparison = _replay(env, data, recorded, rerun, every, settings)
    finally:
        env.close()
    for remark in remarks:
        say_remark(remark)
    if json_output:
        print_json(_document(data, recorded, comparison, remarks, rerun))
    else:
        _show(recorded, comparison, rerun)
    if not comparison.equal:
        raise typer.Exit(1)


def _there(run: Path | None) -> str:
    """Say what could have been named: the runs, or the episodes of the run that was."""
    if run is None:
        return runs_there()
    names = [key.folder for key in read_episodes(run)] if read_run(run) else []
    if not names:
        return f"{run} has no finished episode"
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"{run} has: {', '.join(names[:8])}{more}"


def _replay(
    env: Env,
    run: RunData,
    recorded: Recorded,
    file: Path | None,
    every: int | None,
    settings: RunSettings,
) -> ReplayComparison:
    """Execute the actions, compare, and write the file if one is wanted."""
    from b1k_eval.replay.retrace import compare, execute
    from b1k_eval.run.progress.displays import make_reporter

    episode = recorded.episode
    reporter = make_reporter(err_console())
    writer = None
    try:
        if file is not None:
            from b1k_eval.replay.rrd import DEFAULT_EVERY, RrdWriter

            title = f"{run.name}, {run.label}, {settings.split}"
            step = DEFAULT_EVERY if every is None else every
            writer = RrdWriter(file, env, recorded, title=title, every=step)
        reporter.run_started(1, 0, episode.steps, 1)
        reporter.episode_started(episode.key)
        tell = _teller(recorded, lambda snapshot: reporter.step(episode.key, snapshot))

        def watch(step: int) -> None:
            if writer is not None:
                writer.watch(step)
            tell(step)

        replayed = execute(env, recorded, watch=watch)
        comparison = compare(recorded.states, replayed)
        if writer is not None:
            writer.finish(replayed, comparison)
        return comparison
    finally:
        reporter.close()
        if writer is not None:
            writer.close()


def _teller(recorded: Recorded, send: Callable[[Any], None]) -> Callable[[int], None]:
    """Return a function that now and then shows how far the replay is."""
    from b1k_eval.run.progress.snapshot import UPDATE_INTERVAL_S, EpisodeProgress

    due = monotonic()
    scores, skills = recorded.states.numbers["q_score"], recorded.words["skill"]

    def tell(step: int) -> None:
        nonlocal due
        if step == 0 or monotonic() < due:
            return
        due = monotonic() + UPDATE_INTERVAL_S
        send(EpisodeProgress(step, float(scores[step - 1]), skills[step - 1], None))

    return tell


def _document(
    run: RunData,
    recorded: Recorded,
    comparison: ReplayComparison,
    remarks: tuple[str, ...],
    file: Path | None,
) -> dict[str, Any]:
    return {
        "run": str(run.path),
        "episode": recorded.episode.name,
        "equal": comparison.equal,
        **asdict(comparison),
        "first": [asdict(difference) for difference in comparison.first],
        "remarks": list(remarks),
        "rerun": None if file is None else str(file),
    }


def _show(recorded: Recorded, comparison: ReplayComparison, file: Path | None) -> None:
    console = out_console()
    name, steps = recorded.episode.name, comparison.steps
    apart = comparison.largest_position_m
    if comparison.equal:
        exactly = "equal" if apart == 0.0 else f"apart by at most {apart:.1e} m"
        said = Text(f"same    {name}: all {steps} steps as recorded, positions {exactly}", "green")
    else:
        said = Text(
            f"differs {name}: from step {comparison.first_step} on, in "
            f"{comparison.differing_states} of {steps + 1} states; "
            f"positions by up to {apart:.1e} m",
            "red",
        )
    console.print(said, soft_wrap=True)
    if comparison.first:
        console.print(_table(comparison))
    if file is not None:
        console.print(f"rerun   {file}", soft_wrap=True)


def _table(comparison: ReplayComparison) -> Table:
    """Make the table of the first differences."""
    table = Table(title=f"Step {comparison.first_step}", title_justify="left")
    for column in ("what", "recorded", "replayed"):
        table.add_column(column, overflow="fold")
    for difference in comparison.first:
        table.add_row(
            Text(difference.what),
            Text(_text(difference.recorded)),
            Text(_text(difference.replayed)),
        )
    return table


def _text(value: bool | float | str | None) -> str:
    return "none" if value is None else str(value)
