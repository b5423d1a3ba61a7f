"""`b1k-eval list [RESULTS]`: a table of runs, once or as they go on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep, time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from b1k_envs.errors import UsageError
from b1k_eval.cli.console import (
    err_console,
    out_console,
    print_json,
    say_remark,
    show_limits,
)
from b1k_eval.cli.options import JsonOption

if TYPE_CHECKING:
    from b1k_eval.records.state import RunState

_INTERVAL_S = 1.0
"""Time between two looks with --watch [s]; nine times the last look's if that is longer."""


def listing(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RESULTS|RUN...]", help="Run folders, or folders of them.", show_default=False
        ),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Follow them, with the episodes under way, to their end."),
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """List runs: policy, task, counts, success rate, and whether one is still going.

    Of the folder `results` if none is named. With --watch, from any terminal of the machine: until
    none of the runs is going any more, or Ctrl-C, which ends the watching alone.
    """
    asked = folders or [Path("results")]
    if watch and json_output:
        raise UsageError("--watch and --json do not go together: --json is one document")
    states = _read(asked, said=set())
    if json_output:
        print_json({"runs": [_row(state) for state in states]})
        return
    if not states:
        raise UsageError(f"there is no run in {', '.join(map(str, asked))}")
    if watch:
        states = _watch(asked)
    console = out_console()
    console.print(_table(states))
    show_limits(console, "mujoco" if any(state.sim == "mujoco" for state in states) else "", [])


def _read(asked: Sequence[Path], said: set[str]) -> list[RunState]:
    """Read the runs, the newest first; one that cannot be read is said once and left out."""
    from b1k_eval.records.state import read_state, runs_in  # numpy, which `--help` need not have

    found = []
    for path in runs_in(asked):
        try:
            found.append(read_state(path))
        except UsageError as error:
            if str(error) not in said:
                say_remark(str(error))
            said.add(str(error))
    return sorted(found, key=lambda state: state.changed, reverse=True)


def _watch(asked: Sequence[Path]) -> list[RunState]:
    """Show the runs until none is going; on a terminal in place, else a line per change."""
    console, said, told = err_console(), set[str](), dict[Path, str]()
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            before = monotonic()
            states = _read(asked, said)
            going = [state for state in states if state.standing == "running"]
            if console.is_terminal:
                live.update(Group(_table(states), *map(_under_way, going)), refresh=True)
            else:
                for state in states:
                    line = f"{state.path}: {_counts(state)}, {state.standing}"
                    if told.get(state.path) != line:
                        console.print(line, soft_wrap=True)
                    told[state.path] = line
            if not going:
                return states
            sleep(max(_INTERVAL_S, 9 * (monotonic() - before)))


def _under_way(state: RunState) -> RenderableType:
    """Return lines on the episodes under way, as the run's own display has them."""
    from b1k_eval.run.progress.reporter import duration, finishing

    told = state.progress or {"episodes": [], "left_s": None}
    lines = []
    for each in told["episodes"]:
        said = [f"step {each['step']}", f"q {each['q_score']:.2f}", each["skill"]]
        said.append(f"{each['steps_per_s']:.0f} steps/s")
        if each["pictures_left"] is not None:
            said = [finishing(each["pictures_left"])]
        lines.append(f"  {each['episode']}{each['where']}  {', '.join(filter(None, said))}")
    left = told["left_s"]
    lines.append(f"  about {duration(left)} left" if left is not None else "  time left unknown")
    return Text("\n".join([str(state.path), *lines]))


def _table(states: Sequence[RunState]) -> Table:
    """Return the table; three lines a run, as names are long and a terminal has 80 columns."""
    table = Table(title=f"{len(states)} run{'' if len(states) == 1 else 's'}", title_justify="left")
    table.add_column("run, policy, task", overflow="fold")
    table.add_column("done", justify="right", no_wrap=True)
    table.add_column("outcomes", justify="right", no_wrap=True)
    table.add_column("rate", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for state in states:
        rate = state.success_rate
        task = state.tasks[0] if len(state.tasks) == 1 else f"{len(state.tasks)} tasks"
        named = Text.assemble((str(state.path), "bold"), f"\n{state.label}\n", (task, "dim"))
        standing = Text(state.standing, style=_STYLES.get(state.standing, ""))
        table.add_row(
            named,
            f"{state.done}/{state.planned}",
            "\n".join(f"{count} {name}" for name, count in state.counts.items()),
            "-" if rate is None else f"{rate:.0%}",
            standing.append(f"\n{_age(state)} ago", style="dim"),
            end_section=True,
        )
    return table


_STYLES = {"running": "cyan", "killed": "red", "stopped": "yellow", "unknown": "yellow"}


def _counts(state: RunState) -> str:
    counts = ", ".join(f"{count} {name}" for name, count in state.counts.items())
    return f"{state.done} of {state.planned} episodes, {counts}"


def _age(state: RunState) -> str:
    """Return the time since an episode last ended, in one unit."""
    seconds = max(time() - state.changed, 0.0)
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _row(state: RunState) -> dict[str, Any]:
    return {
        "run": str(state.path),
        "policy": state.label,
        "tasks": list(state.tasks),
        "sim": state.sim,
        "state": state.standing,
        "planned": state.planned,
        "counts": dict(state.counts),
        "damaged": state.damaged,
        "success_rate": state.success_rate,
        "mean_q_score": state.q_score,
        "age_s": max(time() - state.changed, 0.0),
        "under_way": state.progress if state.standing == "running" else None,
    }
