"""From the typed options of a run to a run that is ready, for `run` and for `b1k_eval.evaluate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from b1k_envs.errors import UsageError
from b1k_eval.cli.resolving import against_folder, proposed_folder, resolve_execution
from b1k_eval.cli.task_choice import resolve_tasks
from b1k_eval.execution import AUTO, OFF, Execution
from b1k_eval.records.run_files import RUN_FILE, read_run
from b1k_eval.run.capacity import workers_here
from b1k_eval.run.session import ReadyRun
from b1k_policies.base import Policy
from b1k_policies.options import parsed
from b1k_policies.registry import CHOICES


def ready_run(
    asked: Mapping[str, Any],
    how: Mapping[str, Any],
    *,
    argv: Sequence[str],
    out: Path | None = None,
    resume: bool = False,
    official: bool = False,
    skip_impossible: bool = False,
    until_decided: bool = False,
    max_instances: int | None = None,
    rated: bool = False,
    lent: Policy | None = None,
) -> ReadyRun:
    """Complete the typed options, and make everything ready that they need.

    Args:
        asked: Typed values by field of `RunSettings` and `CheckpointRequest`.
        how: The same of `Execution`.
        argv: The command, for the record.
        out: The run folder; None for a new one in ./results.
        resume: As `--resume`.
        official: As `--official`.
        skip_impossible: As `--skip-impossible`.
        until_decided: As `--until-decided`.
        max_instances: As `--max-instances`.
        rated: See `ReadyRun`.
        lent: See there.

    Raises:
        B1kEvalError: See `resolve_tasks` and `ReadyRun`.
    """
    against = against_folder(until_decided, asked.get("against"), max_instances)
    asked = {**asked, "against": against}
    if resume and out is None:
        raise UsageError("--resume needs --out RUN, the folder of the run to go on with")
    recorded = None
    if resume and out is not None and (out / RUN_FILE).exists():
        recorded = read_run(out)
    if recorded is None:
        if resume and "task" not in asked:
            raise UsageError(
                f"{out} holds no run to resume, as it has no {RUN_FILE}: give the folder of a run, "
                "or --task and a policy to start one there"
            )
        require_policy(asked)
    new = (f"{out} holds no run yet, so --resume starts one",) if resume and not recorded else ()
    tasks, left_out = resolve_tasks(
        asked, recorded, official=official, most=max_instances, skip_impossible=skip_impossible
    )
    said: tuple[str, ...] = ()
    if how.get("workers") == AUTO:
        if how.get("ray", OFF) != OFF:
            raise UsageError("--workers auto is for this machine: with --ray 0 is for all places")
        given = parsed(Execution, how)
        count, why = workers_here(tasks, given.get("num_envs", 1), given.get("gpus", ()))
        how, said = {**how, "workers": 1 if lent else count}, (why,)
    execution = resolve_execution(how, recorded, official=official)
    folder = proposed_folder(tasks) if out is None else out
    session = ReadyRun(
        tasks,
        execution,
        folder,
        argv=argv,
        resume=resume,
        beside=out is None,
        rated=rated,
        lent=lent,
    )
    session.remarks = (*new, *left_out, *said, *session.remarks)
    return session


def require_policy(asked: Mapping[str, Any]) -> None:
    """Refuse a run whose policy is not named: by default it would be the one that cannot lose.

    Raises:
        UsageError: Neither --policy nor --ckpt was typed.
    """
    if asked.keys() & {"policy", "ckpt"}:
        return
    which = f"--policy NAME ({', '.join(CHOICES)}) or --ckpt PATH names what drives the robot"
    if "task" not in asked:
        raise UsageError(
            f"--task is missing: give an index or a name; `b1k-eval tasks` lists them; and {which}"
        )
    raise UsageError(
        f"the policy is missing: {which}; --policy expert is the scripted one, which reads the "
        "simulator's state"
    )
