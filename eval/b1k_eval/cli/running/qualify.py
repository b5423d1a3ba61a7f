"""`b1k-eval qualify`: is this installation right, or is it the checkpoint?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from b1k_envs.errors import UsageError
from b1k_eval.cli.console import err_console, out_console, print_json, say_remark
from b1k_eval.cli.options import JsonOption, Options, PublishedFile, Typed
from b1k_eval.execution import Execution
from b1k_eval.settings import RunSettings
from b1k_policies.checkpoint import CheckpointRequest

if TYPE_CHECKING:
    from b1k_eval.published.table import PublishedScore
    from b1k_eval.qualify.ladder import Plan
    from b1k_eval.qualify.rungs import Rung

POLICY_FOLDER = "policy"
"""Folder in the output folder with the run of rung 5."""


def qualify(
    world: Annotated[
        Typed,
        Options(
            RunSettings,
            *("task", "sim", "protocol", "split"),
            task={"help": "Task by index or name.", "preset": "31"},
            sim={"preset": "auto"},
            split={"help": "Which initial states the demonstrations are of.", "preset": "train"},
        ),
    ],
    instance: Annotated[
        int | None,
        typer.Option(
            help="Initial state for the rungs below the demonstrations.",
            show_default="that of the first demonstration",
        ),
    ] = None,
    demos: Annotated[
        Path | None,
        typer.Option(
            "--demos",
            metavar="DIR",
            help="A LeRobot data set (v2.1 or v3.0) of BEHAVIOR demonstrations.",
            show_default="none",
        ),
    ] = None,
    max_demos: Annotated[int, typer.Option(min=1, help="Replay at most so many, by number.")] = 10,
    *,
    whose: Annotated[
        Typed,
        Options(
            RunSettings,
            *("policy", "policy_args", "ckpt"),
            policy={"help": "A policy with a published score, as for run.", "default": "none"},
            ckpt={"help": "In place of --policy: a checkpoint, as for run."},
        ),
    ],
    published: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|SUCCESSES/TRIALS",
            help="The policy's published score on the task: its name in `b1k-eval published`, or "
            "12/20, or RATE@TRIALS: 60%@20.",
            show_default="gr00t-n1.6 with --policy gr00t://",
        ),
    ] = None,
    published_file: PublishedFile = None,
    how: Annotated[
        Typed,
        Options(
            RunSettings,
            *("instances", "horizon", "render", "max_steps"),
            instances={
                "help": "The policy's initial states, of public-test, or of the published split if "
                "its files are here.",
                "preset": "0-9",
            },
            horizon={"help": "Actions executed per chunk of the policy.", "default": "as for run"},
            render={
                "help": "For the policy: every-step, as officially, or on-demand.",
                "preset": "every-step",
            },
            max_steps={"help": "Time limit of the policy in control steps."},
        ),
    ],
    checkpoint: Annotated[
        Typed,
        Options(CheckpointRequest, "contract", "code_dir", "trust_code", "allow_pickle", "device"),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where results go; given again, what is done there is not done again.",
            show_default="results/qualify-<time>",
        ),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Tell a bad installation from a bad checkpoint: checks, hold, pictures, demonstrations.

    Five rungs, each standing on those below it. Exits with 1 where one of them fails.
    """
    # Imported here, because importing simulators takes seconds that `--help` should not take.
    from b1k_eval.qualify.ladder import climb_world
    from b1k_eval.qualify.page import document, save, show

    asked = _published(published, whose, published_file)
    plan = _plan(world, instance, demos, max_demos, out)
    scores = _scores(asked, plan.settings, published_file)
    rungs: list[Rung] = []

    def tell(what: Rung | str) -> None:
        if isinstance(what, str):
            say_remark(what)
            return
        rungs.append(what)
        save(document(plan, rungs, sys.argv), plan.out)
        err_console().print(f"rung {what.number} of 5, {what.name}: {what.verdict}", soft_wrap=True)

    climb_world(plan, tell)
    sim = plan.settings.sim
    given = {**world, **whose, **how, **checkpoint, "split": "public-test", "sim": sim}
    tell(_policy_rung(plan, given, scores, rungs))
    made = document(plan, rungs, sys.argv)
    if json_output:
        print_json({"out": str(plan.out), **made})
    else:
        show(out_console(), made, plan.out)
    if not made["passed"]:
        raise typer.Exit(1)


def _published(text: str | None, whose: Typed, file: Path | None) -> str | None:
    """Return the published score to hold a policy against, typed or by name; None for none.

    Raises:
        UsageError: A score came without a policy, or a policy without a score.
    """
    from b1k_eval.qualify.published import GR00T

    if {"policy", "ckpt"} <= {*whose}:
        raise UsageError("--policy and --ckpt: give one of them")
    if text is None and str(whose.get("policy", "")).startswith("gr00t://"):
        text = GR00T
    if (text is None) != (not {"policy", "ckpt"} & {*whose}):
        raise UsageError(
            "--published goes with --policy or --ckpt: the score that somebody published, and the "
            "policy that it is of; without a published score, `b1k-eval run` gives the policy's"
        )
    if text is None and file is not None:
        raise UsageError("--published-file goes with --published NAME and a policy")
    return text


def _scores(
    asked: str | None, settings: RunSettings, file: Path | None
) -> tuple[PublishedScore, ...]:
    """Return the published scores on the task; () if none was asked for.

    Raises:
        UsageError: The score cannot be read, or none is known of the policy on the task.
    """
    from b1k_eval.published.table import published_scores, scores_of
    from b1k_eval.qualify.published import is_typed, parse_published

    if asked is None:
        return ()
    if is_typed(asked):
        return (parse_published(asked, settings.task, settings.sim),)
    scores = scores_of(published_scores(file), asked)
    found = tuple(score for score in scores if score.tasks == (settings.task,))
    if not found:
        raise UsageError(
            f"no published score of {asked} is of {settings.task}: `b1k-eval published "
            f"{settings.task}` lists what is known of it"
        )
    return found


def _plan(
    world: Typed, instance: int | None, demos: Path | None, most: int, out: Path | None
) -> Plan:
    """Check everything, read the demonstrations, and make the output folder.

    Raises:
        UsageError: See `resolve_settings`, `find_demos`, `read_demo`; or the folder holds
            something else.
        UnavailableError: The simulator is not available.
        StorageError: The folder cannot be made.
    """
    from b1k_eval.cli.resolving import resolve_settings
    from b1k_eval.qualify.demos import find_demos, read_demo
    from b1k_eval.qualify.ladder import Plan
    from b1k_eval.qualify.one_replay import Assigned
    from b1k_eval.run import simulators

    given = {**world, "policy": "hold", "instances": None if instance is None else str(instance)}
    settings = resolve_settings(given)
    assigned: list[Assigned] = []
    remarks: list[str] = []
    missing = "no demonstrations were given: --demos DIR"
    if demos is not None:
        found = find_demos(demos, settings.task_entry())
        remarks += found.remarks
        without = []
        for entry in found.entries:
            index = simulators.instance_index(settings, entry.instance_id)
            if index is None:
                without.append(entry)
            elif len(assigned) < most:
                assigned.append(Assigned(demo=read_demo(entry), instance=index))
        if not assigned:
            raise UsageError(
                f"--demos {demos}: none of the initial states of its {len(without)} episodes of "
                f"task {settings.task} is in {settings.split} here, such as number "
                f"{without[0].instance_id} of {without[0].name}: choose another --split, or get "
                "the instances' files"
            )
        if without:
            remarks.append(
                f"{len(without)} recordings are of initial states that {settings.split} does not "
                f"have here, such as number {without[0].instance_id}"
            )
        if instance is None:
            given["instances"] = str(assigned[0].instance)
            settings = resolve_settings(given)
    simulators.check_world(settings)
    return Plan(
        settings=settings,
        instance=settings.instances[0],
        assigned=tuple(assigned),
        no_demos="" if assigned else missing,
        remarks=tuple(remarks),
        out=_folder(out),
    )


def _folder(out: Path | None) -> Path:
    """Make the output folder, or take an existing one of an earlier call.

    Raises:
        UsageError: It holds something else.
        StorageError: It cannot be made.
    """
    from b1k_eval.files import dated_folder, make_new_folder
    from b1k_eval.qualify.page import JSON_FILE
    from b1k_eval.records.store import storing

    if out is None:
        proposed = dated_folder("qualify")
        with storing(proposed):
            return make_new_folder(proposed)
    with storing(out):
        if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not _ours(out))):
            raise UsageError(
                f"--out {out} holds something else than results of qualify (no {JSON_FILE}): "
                "choose another folder"
            )
        out.mkdir(parents=True, exist_ok=True)
    return out


def _ours(out: Path) -> bool:
    """Whether a folder is from an earlier call, even one that ended before its first rung."""
    from b1k_eval.qualify.page import JSON_FILE
    from b1k_eval.run.pool import LOGS_FOLDER

    return (out / JSON_FILE).is_file() or {each.name for each in out.iterdir()} == {LOGS_FOLDER}


def _policy_rung(
    plan: Plan, given: dict[str, Any], scores: Sequence[PublishedScore], below: list[Rung]
) -> Rung:
    """Run rung 5: run the policy, and compare its score with the published one.

    Raises:
        UsageError: See `ReadyRun`.
        UnavailableError: See `ReadyRun`.
        StorageError: A result cannot be written.
    """
    from b1k_eval.cli.resolving import resolve_settings
    from b1k_eval.published.comparing import compare_with_published
    from b1k_eval.qualify.published import as_published, not_to_be_held, published_rung
    from b1k_eval.qualify.rungs import not_done
    from b1k_eval.records.loading import read_tasks
    from b1k_eval.records.run_files import RUN_FILE, read_run
    from b1k_eval.run.progress.displays import make_reporter
    from b1k_eval.run.session import ReadyRun, summarise
    from b1k_eval.run.simulators import missing_instances

    if not scores:
        return not_done(
            5,
            "no policy with a published score was given",
            "--policy gr00t://HOST:PORT; or any policy with --published NAME or SUCCESSES/TRIALS",
        )
    idle = not_to_be_held(scores, plan.settings.sim)
    if idle is not None:
        return idle
    wrong = next((rung for rung in below if rung.number <= 3 and rung.verdict == "fail"), None)
    if wrong is not None:
        return not_done(
            5,
            f"its score would say nothing while rung {wrong.number} ({wrong.name}) fails",
            f"put rung {wrong.number} right, then call qualify again with the same --out",
        )
    folder = plan.out / POLICY_FOLDER
    resume = (folder / RUN_FILE).exists()
    recorded = read_run(folder) if resume else None
    settings = resolve_settings({**given, **as_published(scores, plan.settings)}, recorded)
    if settings.split != given["split"] and (why := missing_instances(settings)):
        say_remark(f"the policy gets {given['split']}, not {settings.split} as published: {why}")
        settings = replace(settings, split=given["split"])
    session = ReadyRun([settings], Execution(), folder, argv=sys.argv, resume=resume)
    for remark in session.remarks:
        say_remark(remark)
    reporter = make_reporter(err_console())
    try:
        session.run(reporter)
    finally:
        reporter.close()
        session.close()
    counts = summarise(session.store.episodes)["counts"]
    here = [score for score in scores if score.sim == plan.settings.sim]
    held = compare_with_published(read_tasks(folder), here)
    return published_rung(held, counts, session.policy.name, str(folder))
