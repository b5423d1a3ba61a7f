"""`b1k-eval run`: one policy on a set of episodes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from b1k_envs.errors import UsageError
from b1k_eval.cli.checkpoints import options
from b1k_eval.cli.options import (
    err_console,
    out_console,
    print_json,
    say_remark,
    shell_word,
    stop_code,
    stop_word,
)
from b1k_eval.cli.running.requests import (
    against_folder,
    proposed_folder,
    resolve_execution,
    resolve_settings,
)
from b1k_eval.records.run_files import EPISODES_FOLDER, RUN_FILE, read_run
from b1k_eval.run.episode import RESULT_FILE, TRACE_FILE, VIDEO_FILE
from b1k_eval.run.pool import session_remarks
from b1k_eval.run.progress import OUTCOME_STYLES, duration, make_reporter
from b1k_eval.run.session import Session, summarise
from b1k_eval.run.settings import (
    CONSENTS,
    DEFAULT_ENSEMBLE_DECAY,
    DEFAULT_ENSEMBLE_EVERY,
    DEFAULT_HORIZON,
)


def run(
    task: Annotated[
        str | None, typer.Option(help="Task by index or name, e.g. 31 or clean_boxing_gloves.")
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help="expert, zero, hold, random, replay:FILE, ws://HOST:PORT or wss://HOST:PORT; or "
            "see --ckpt.",
            show_default="expert",
        ),
    ] = None,
    ckpt: Annotated[
        str | None,
        typer.Option(
            "--ckpt",
            metavar="PATH|HUB_ID",
            help="In place of --policy: a DA3-XVLA checkpoint, a folder or org/name[@revision].",
            show_default="none",
        ),
    ] = None,
    sim: Annotated[
        str | None, typer.Option(help="auto, mujoco or omnigibson.", show_default="auto")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="Challenge generation, 2025 or 2026.",
            show_default="2026, or OmniGibson's installed one",
        ),
    ] = None,
    track: Annotated[
        str | None,
        typer.Option(
            help="standard (hides from the policy what that track forbids) or privileged.",
            show_default="not set",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="train, public-test or hidden-test.", show_default="public-test"),
    ] = None,
    instances: Annotated[
        str | None, typer.Option(help="Initial states, e.g. 0-9,12,15.", show_default="0")
    ] = None,
    rollouts: Annotated[int | None, typer.Option(help="Tries each.", show_default="1")] = None,
    horizon: Annotated[
        int | None,
        typer.Option(
            help="Actions executed per chunk, 1 to its length.", show_default=str(DEFAULT_HORIZON)
        ),
    ] = None,
    chunking: Annotated[
        str | None, typer.Option(help="receding or ensemble.", show_default="receding")
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            help="sync: the world waits for the policy. realtime: it goes on, and the old chunk is "
            "executed until the new one arrives.",
            show_default="sync",
        ),
    ] = None,
    latency: Annotated[
        str | None,
        typer.Option(
            metavar="MS|measured",
            help="With --mode realtime: how long an inference takes.",
            show_default="measured",
        ),
    ] = None,
    ensemble_every: Annotated[
        int | None,
        typer.Option(help="Steps between inferences.", show_default=str(DEFAULT_ENSEMBLE_EVERY)),
    ] = None,
    ensemble_decay: Annotated[
        float | None,
        typer.Option(
            help="Prediction i, oldest first, weighs exp(-DECAY * i).",
            show_default=str(DEFAULT_ENSEMBLE_DECAY),
        ),
    ] = None,
    render: Annotated[
        str | None,
        typer.Option(
            help="on-demand, or every-step as the official evaluator does.",
            show_default="on-demand",
        ),
    ] = None,
    render_quality: Annotated[
        str | None, typer.Option(help="fast or high.", show_default="fast")
    ] = None,
    partial_scene: Annotated[
        bool,
        typer.Option(
            "--partial-scene",
            help="OmniGibson 2025: load the rooms of the task only, not the whole house.",
        ),
    ] = False,
    heavy_base: Annotated[
        bool,
        typer.Option(
            "--heavy-base",
            help="OmniGibson 2025: a base of 250 kg, as in 2026 and in data collection.",
        ),
    ] = False,
    max_steps: Annotated[
        int | None, typer.Option(help="Time limit in control steps.", show_default="the task's")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the run.", show_default="0")] = None,
    action_noise: Annotated[
        str | None,
        typer.Option(
            help="Disturb the executed actions: SIGMA[,CORRELATION_S[,KICK_RATE_HZ[,KICK]]].",
            show_default="none",
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes.", show_default="1")] = None,
    num_envs: Annotated[
        int | None,
        typer.Option(
            help="Episodes at once in each process; more than one with OmniGibson v3.9.3 only.",
            show_default="1",
        ),
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option(
            help="GPUs to share out among OmniGibson's processes, e.g. 0,1.", show_default="first"
        ),
    ] = None,
    official: Annotated[
        bool,
        typer.Option(
            "--official",
            help="As a submission needs it: OmniGibson, every step rendered and filmed, instances "
            "0-9, one rollout each, the task's own time limit, the standard track.",
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="The run folder.", show_default="results/<run-id>")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Do the missing episodes of the run in --out and retry its errors; settings not "
            "given are the run's own.",
        ),
    ] = False,
    video: Annotated[
        bool | None,
        typer.Option("--video/--no-video", help="Record each episode.", show_default="video"),
    ] = None,
    video_fps: Annotated[
        float | None,
        typer.Option(help="Pictures per simulated second, a divisor of 30.", show_default="15"),
    ] = None,
    human_stats: Annotated[
        Path | None,
        typer.Option(
            help="The evaluator's file with exact human means: metadata/episodes.jsonl (2025) or "
            "metadata/task.jsonl (2026).",
            show_default="published figures, or those of OmniGibson's data",
        ),
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
    fail_under: Annotated[
        float | None,
        typer.Option(help="Exit with 1 if the success rate is below this.", show_default="none"),
    ] = None,
    until_decided: Annotated[
        bool,
        typer.Option(
            "--until-decided",
            help="Take the instances of --against in random order until it is decided which run "
            "is better.",
        ),
    ] = False,
    against: Annotated[
        Path | None, typer.Option(metavar="RUN", help="The run to decide against.")
    ] = None,
    max_instances: Annotated[
        int | None,
        typer.Option(help="At most so many instances until decided.", show_default="all"),
    ] = None,
    contract: options.ContractOption = None,
    contract_set: options.SetOption = None,
    force_contract: options.ForceOption = None,
    code_dir: options.CodeDirOption = None,
    trust_code: options.TrustOption = None,
    allow_pickle: options.PickleOption = None,
    device: options.DeviceOption = None,
    autocast: options.AutocastOption = None,
    compile_model: options.CompileOption = None,
    skill_id: options.SkillIdOption = None,
    skill_progress: options.SkillProgressOption = None,
) -> None:
    """Run a policy in closed loop and score it."""
    given = {
        "official": official,
        "task": task,
        "policy": policy,
        "sim": sim,
        "protocol": protocol,
        "track": track,
        "split": split,
        "instances": instances,
        "rollouts": rollouts,
        "horizon": horizon,
        "chunking": chunking,
        "mode": mode,
        "latency": latency,
        "ensemble_every": ensemble_every,
        "ensemble_decay": ensemble_decay,
        "render": render,
        "render_quality": render_quality,
        "partial_scene": partial_scene or None,
        "heavy_base": heavy_base or None,
        "max_steps": max_steps,
        "seed": seed,
        "action_noise": action_noise,
        "human_stats": None if human_stats is None else str(human_stats),
        "against": against_folder(until_decided, against, max_instances),
        "max_instances": max_instances,
        "checkpoint": {
            "ckpt": ckpt,
            "contract": contract,
            "settings": contract_set,
            "force_contract": force_contract,
            "code_dir": code_dir,
            "trust_code": trust_code,
            "allow_pickle": allow_pickle,
            "device": device,
            "autocast": autocast,
            "compile": compile_model,
            "skill_id": skill_id,
            "skill_progress": skill_progress,
        },
    }
    how = {
        "official": official,
        "workers": workers,
        "num_envs": num_envs,
        "gpus": gpus,
        "video": video,
        "video_fps": video_fps,
    }
    if fail_under is not None and not 0 <= fail_under <= 1:
        raise UsageError(f"--fail-under {fail_under:g} must lie between 0 and 1")
    if resume and out is None:
        raise UsageError("--resume needs --out RUN, the folder of the run to go on with")
    recorded: Mapping[str, Any] = {}
    if resume and out is not None and (out / RUN_FILE).exists():
        recorded = read_run(out)
    settings = resolve_settings(given, recorded)
    execution = resolve_execution(how, recorded)
    folder = proposed_folder(settings) if out is None else out
    session = Session(settings, execution, folder, argv=sys.argv, resume=resume, beside=out is None)
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


def _conclude(session: Session, *, json_output: bool, stop: KeyboardInterrupt | None) -> None:
    """Say what came out: the table, or the document."""
    store, settings = session.store, session.settings
    summary = summarise(store.episodes)
    if stop is not None:
        err_console().print(
            f"{stop_word(stop)}; go on with: {_resuming(session)}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if json_output:
        standing = session.standing()
        print_json(
            {
                "run": str(store.path),
                "interrupted": stop is not None,
                "sim": settings.sim,
                "protocol": settings.protocol,
                "track": settings.track,
                "task": settings.task,
                "policy": session.policy.name,
                "checkpoint": None if settings.checkpoint is None else settings.checkpoint.ckpt,
                "remarks": [*session.remarks, *session_remarks(store)],
                "privileged": store.record["identity"]["privileged"],
                **summary,
                "decision": None if standing is None else asdict(standing),
                "episodes": [
                    {**line, "folder": str(store.path / EPISODES_FOLDER / key.folder)}
                    for key, line in store.episodes.items()
                ],
            }
        )
        return
    console = out_console()
    if store.episodes:
        console.print(_table(session))
    counts = summary["counts"]
    text = ", ".join(f"{counts[name]} {name}" for name in OUTCOME_STYLES)
    if summary["success_rate"] is not None:
        scored = counts["success"] + counts["failure"]
        text += (
            f"; success rate {summary['success_rate']:.0%}, mean q {summary['mean_q_score']:.2f} "
            f"over {scored} scored"
        )
    console.print(text, highlight=False)
    standing = session.standing()
    if standing is not None:
        console.print(standing.words(), markup=False, highlight=False, soft_wrap=True)
    if settings.sim == "mujoco":
        console.print("MuJoCo twin: not a benchmark score.", style="dim", highlight=False)
    for label, path in _places(session):
        console.print(f"{label:<8}{path}", markup=False, highlight=False, soft_wrap=True)


def _resuming(session: Session) -> str:
    """The command that goes on with a run; consent has to be given again."""
    words = ["b1k-eval run --resume --out", shell_word(session.store.path)]
    checkpoint = session.settings.checkpoint
    if checkpoint is not None:
        words += [options.option_of(name) for name in CONSENTS if getattr(checkpoint, name)]
    return " ".join(words)


def _table(session: Session) -> Table:
    identity = session.store.record["identity"]
    settings = session.settings
    track = "" if settings.track is None else f", {settings.track} track"
    marks = " (privileged)" if identity["privileged"] else ""
    table = Table(
        title=f"{settings.task}: {session.policy.name}{marks}, {settings.sim}, protocol "
        f"{settings.protocol}, {settings.split}{track}"
    )
    for name in ("instance", "rollout", "outcome", "q", "steps", "simulated", "wall", "why"):
        table.add_column(name, justify="left" if name in ("outcome", "why") else "right")
    for line in session.store.episodes.values():
        outcome, q_score = line["outcome"], line["q_score"]
        said = [line["failure_reason"], line["message"]]
        if outcome == "failure" and line["failure_reason"] is None:
            said[0] = "time limit"
        why = ": ".join(text for text in said if text)
        table.add_row(
            str(line["instance"]),
            str(line["rollout"]),
            Text(outcome, style=OUTCOME_STYLES[outcome]),
            "-" if q_score is None else f"{q_score:.2f}",
            str(line["steps"]),
            duration(line["simulated_s"]),
            duration(line["timing"]["wall_s"]),
            Text(why),
        )
    return table


def _places(session: Session) -> list[tuple[str, Path]]:
    """Where the results lie, and the first episode's files by name."""
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
