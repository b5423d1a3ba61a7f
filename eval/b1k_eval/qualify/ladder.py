"""Running the rungs in order on one world, in this process or in one of its own.

The twin runs in this process. OmniGibson can hang, crash and print, so it gets a process of its
own, with a log and deadlines, as in a run. A rung that cannot be tried is `not done`; if the world
stops, the rung in which it stopped fails.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from time import monotonic

from b1k_envs.base import Env
from b1k_envs.errors import EnvError, UnavailableError
from b1k_envs.threads import deaf_to_ctrl_c, die_with_parent
from b1k_eval.qualify.one_replay import Assigned
from b1k_eval.qualify.pictures import pictures_rung
from b1k_eval.qualify.replays import replays_rung
from b1k_eval.qualify.rungs import Rung, not_done
from b1k_eval.qualify.world_checks import hold_rung, startup_rung
from b1k_eval.records.store import StorageError
from b1k_eval.run import simulators
from b1k_eval.run.pool import LOGS_FOLDER
from b1k_eval.run.watchdog import Watch, WatchedEnv
from b1k_eval.run.worker import exit_at_once, redirect_output
from b1k_eval.settings import RunSettings

WORLD_RUNGS = (1, 2, 3, 4)
"""The rungs that need the world and no policy."""

Tell = Callable[["Rung | str"], None]
"""Called with every finished rung, and with progress in words."""

_LOOK_INTERVAL_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to check, and on what; picklable.

    Attributes:
        settings: Settings of the world.
        instance: Initial state for the rungs below the demonstrations.
        assigned: Recordings to replay; empty for none.
        no_demos: Why there are no recordings; empty if there are.
        remarks: Remarks on the data set of the recordings.
        out: Folder for the results.
    """

    settings: RunSettings
    instance: int
    assigned: tuple[Assigned, ...]
    no_demos: str
    remarks: tuple[str, ...]
    out: Path


def climb(env: Env, plan: Plan, tell: Tell) -> None:
    """Run the rungs of the world, lowest first; after a failed one the next is still tried.

    Raises:
        StorageError: A result cannot be written.
    """
    number = 1
    try:
        for number in WORLD_RUNGS:
            tell(_rung(env, plan, number, tell))
    except EnvError as error:
        _stopped(number, str(error), tell)


def _rung(env: Env, plan: Plan, number: int, tell: Tell) -> Rung:
    if number == 1:
        return startup_rung(env, plan.instance)
    if number == 2:
        return hold_rung(env, plan.instance)
    if number == 3:
        return pictures_rung(env, plan.instance)
    if not plan.assigned:
        return not_done(4, plan.no_demos, "download demonstrations of the task, then --demos DIR")
    return replays_rung(env, plan.assigned, plan.out, remarks=plan.remarks, say=tell)


def _stopped(number: int, why: str, tell: Tell, log: Path | None = None) -> None:
    """Report a world that stopped in a rung: it fails, and those above it are not done."""
    advice = "see the message" if log is None else f"see the message, and {log}"
    tell(Rung(number=number, verdict="fail", finding=why, advice=advice))
    for above in WORLD_RUNGS:
        if above > number:
            tell(not_done(above, f"the world failed in rung {number}"))


def climb_world(plan: Plan, tell: Tell) -> None:
    """Build the world of a plan and run its rungs, in the process that its simulator needs.

    Raises:
        UsageError: See `simulators.check_world`.
        UnavailableError: The simulator cannot be had.
        StorageError: A result cannot be written.
    """
    limits = simulators.limits(plan.settings)
    if limits is None:
        simulators.prepare_pictures()
        env = simulators.make_env(plan.settings)
        try:
            climb(env, plan, tell)
        finally:
            env.close()
        return
    context = multiprocessing.get_context("spawn")
    watch = Watch(limits, context)
    folder = plan.out / LOGS_FOLDER
    log = next(file for n in count(1) if not (file := folder / f"world-{n}.log").exists())
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_climb_apart, args=(theirs, plan, watch, log), name="b1k-eval-qualify", daemon=True
    )
    resource_tracker.ensure_running()
    with deaf_to_ctrl_c():
        process.start()
    # Closed on this side, so that the end of the child shows as the end of the pipe.
    theirs.close()
    tell(f"starting a world, which may take minutes; its output is in {log}")
    next_rung = 1
    why: str | None = None
    try:
        while next_rung <= WORLD_RUNGS[-1]:
            overdue = watch.overdue(monotonic())
            if overdue is not None:
                why = overdue.words()
                break
            if not wait([ours, process.sentinel], _LOOK_INTERVAL_S):
                continue
            try:
                if not ours.poll():
                    raise EOFError
                message = ours.recv()
            except (EOFError, OSError):
                process.join()
                why = f"the simulator's process died (exit code {process.exitcode})"
                break
            if isinstance(message, Exception):
                raise message
            if isinstance(message, Rung):
                next_rung = message.number + 1
            tell(message)
        else:
            process.join(limits.close_s)  # time for it to close its simulator
    finally:
        if process.is_alive():
            process.kill()
            process.join()
        ours.close()
    if why is not None:
        _stopped(next_rung, why, tell, log)


def _climb_apart(pipe: Connection, plan: Plan, watch: Watch, log: Path) -> None:
    """Run `climb` in a child process, which this is the entry point of."""
    die_with_parent()
    code = 1
    env: Env | None = None
    try:
        redirect_output(log)
        try:
            with watch.phase("start"):
                env = simulators.make_env(plan.settings)
        except EnvError as error:
            _stopped(1, str(error), pipe.send, log)
        else:
            climb(WatchedEnv(env, watch.phase), plan, pipe.send)
        code = 0
    except (StorageError, UnavailableError) as error:
        pipe.send(error)
    except BaseException:  # noqa: BLE001 - the log is the last place where it can be said
        sys.excepthook(*sys.exc_info())
    finally:
        if env is not None and code == 0:
            with suppress(Exception), watch.phase("close"):
                env.close()
        exit_at_once(code)
