"""From what was typed, and what a run to resume has recorded, to a complete request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, get_args

from b1k_envs.base import Split
from b1k_envs.errors import UsageError
from b1k_envs.tasks.table import Task, check_protocol, get_task
from b1k_eval.cli.checkpoints import options
from b1k_eval.cli.options import at_home
from b1k_eval.run.execution import Execution, parse_gpus
from b1k_eval.run.settings import (
    DEFAULT_ENSEMBLE_DECAY,
    DEFAULT_ENSEMBLE_EVERY,
    DEFAULT_HORIZON,
    MEASURED,
    RunSettings,
    given_settings,
    option_name,
    parse_instances,
    recorded_fields,
)
from b1k_eval.run.simulators import (
    default_instance,
    default_max_steps,
    default_protocol,
    resolve_sim,
)
from b1k_policies.registry import CHECKPOINT, REPLAY
from b1k_policies.remote.wire.address import is_address

_DEFAULTS: Mapping[str, Any] = {
    "policy": "expert",
    "sim": "auto",
    "split": "public-test",
    "rollouts": 1,
    "chunking": "receding",
    "mode": "sync",
    "render": "on-demand",
    "render_quality": "fast",
    "seed": 0,
    "partial_scene": False,
    "heavy_base": False,
}


def resolve_settings(given: Mapping[str, Any], recorded: Mapping[str, Any]) -> RunSettings:
    """Complete what was typed: by the run that is resumed, else by the defaults.

    Args:
        given: By field of `RunSettings`, as typed; None where it was not. `checkpoint` is by
            field of `CheckpointRequest` again; `official` is whether a submission is wanted.
        recorded: run.json of the run to resume; empty for a new run.

    Raises:
        UsageError: Unknown or contradicting values.
        UnavailableError: The simulator cannot be had.
    """
    apart = ("checkpoint", "official")
    official = bool(given.get("official"))
    typed = {
        name: value for name, value in given.items() if value is not None and name not in apart
    }
    base = {**dict.fromkeys(field.name for field in fields(RunSettings)), **_DEFAULTS}
    if official:
        from b1k_eval.challenge import official_run

        base.update(official_run.SETTINGS)
    if recorded:
        if recorded["identity"].get("imported_from") is not None:
            raise UsageError("imported results cannot be resumed: nothing of them was run here")
        base = given_settings(recorded["identity"].get("settings"))
        if typed.get("mode", base["mode"]) != base["mode"]:
            base["latency"] = None  # for the same reason as below
        if "chunking" in typed and typed["chunking"] != base["chunking"]:
            # Reported below as a difference, not as a contradiction of typed and recorded.
            base.update(horizon=None, ensemble_every=None, ensemble_decay=None)
    _locate(typed, base if recorded else {})
    values = {**base, **typed}
    values["checkpoint"] = options.complete_checkpoint(
        options.typed_only(given.get("checkpoint", {})), base["checkpoint"], typed.get("policy")
    )
    if values["checkpoint"] is not None:
        values["policy"] = CHECKPOINT
    if values["task"] is None:
        raise UsageError("--task is missing: give an index or a name; `b1k-eval tasks` lists them")
    task = get_task(values["task"])
    values["task"] = task.name
    if values["protocol"] is not None:
        check_protocol(task, values["protocol"])
    if isinstance(values["instances"], str):
        values["instances"] = parse_instances(values["instances"])
    if official:
        if values["sim"] == "auto":
            values["sim"] = official_run.SETTINGS["sim"]
        official_run.hold_settings(values)
    if not recorded or "sim" in typed:
        values["sim"] = resolve_sim(
            values["sim"],
            protocol=values["protocol"],
            policy=values["policy"],
            render_quality=values["render_quality"],
        )
    if not recorded:
        _fill_official(values, task)
    if official:
        world = values["sim"], task, values["protocol"], values["split"]
        official_run.hold_limit(values["max_steps"], default_max_steps(*world))
    values["instances"] = tuple(values["instances"])
    if "against" in typed:
        from b1k_eval.run.until_decided import drawn_instances

        asked = values["instances"] if "instances" in typed else None
        values["instances"] = drawn_instances(
            values["against"], asked, given.get("max_instances"), values["seed"]
        )
    ensemble = values["chunking"] == "ensemble"
    for name, only in (
        ("horizon", "receding"),
        ("ensemble_every", "ensemble"),
        ("ensemble_decay", "ensemble"),
    ):
        if values[name] is not None and ensemble != (only == "ensemble"):
            raise UsageError(f"{option_name(name)} only means something with --chunking {only}")
    if ensemble:
        _fill(values, ensemble_every=DEFAULT_ENSEMBLE_EVERY, ensemble_decay=DEFAULT_ENSEMBLE_DECAY)
    elif not is_address(values["policy"]):
        _fill(values, horizon=DEFAULT_HORIZON)  # else as the server's chunks allow
    if values.get("mode") == "realtime" and values.get("latency") is None:
        values["latency"] = MEASURED
    return RunSettings(**values)


def _locate(typed: dict[str, Any], recorded: Mapping[str, Any]) -> None:
    """Make files that were typed absolute: a run may be resumed from elsewhere.

    Runs of before recorded them as they were typed. Typed again from the folder of then, the same
    file keeps its old spelling, and is the same setting.

    Raises:
        UsageError: The run to resume has recorded a file that is relative to another folder.
    """
    for name in ("policy", "human_stats"):
        prefix = REPLAY if name == "policy" else ""
        old = _file(recorded.get(name), prefix)
        if name in typed:
            new = _file(typed[name], prefix)
            if new is not None:
                same = old is not None and old.resolve() == new.resolve()
                typed[name] = f"{prefix}{old if same else new.resolve()}"
        elif old is not None and not old.is_absolute() and not old.exists():
            raise UsageError(
                f"{option_name(name)} {prefix}{old} is what this run has recorded, relative to the "
                "folder it was started in, and is not in this one: resume it from there"
            )


def _file(word: str | None, prefix: str) -> Path | None:
    """The file that a word names after a prefix; None where it names none."""
    if not word or not word.startswith(prefix) or word == prefix:
        return None
    return Path(at_home(word.removeprefix(prefix)))


def against_folder(until_decided: bool, against: Path | None, most: int | None) -> str | None:
    """The absolute folder of `--against`; None for a run that does all its episodes.

    Raises:
        UsageError: Only some of the options that go together are there.
    """
    if (until_decided and against is None) or (
        not until_decided and (against is not None or most is not None)
    ):
        raise UsageError("--until-decided and --against RUN go together (--max-instances beside)")
    return None if against is None else str(against.resolve())


def _fill_official(values: dict[str, Any], task: Task) -> None:
    """Protocol, instances and time limit as the simulator has them, where they were not given.

    Raises:
        UsageError: The protocol does not have the task, or there is no such split.
        UnavailableError: The simulator's data are not there.
    """
    if values["protocol"] is None:
        values["protocol"] = default_protocol(values["sim"])
    if values["split"] not in get_args(Split):
        raise UsageError(
            f"--split {values['split']!r} is unknown: choose one of {', '.join(get_args(Split))}"
        )
    world = values["sim"], task, values["protocol"], values["split"]
    if values["instances"] is None:
        values["instances"] = (default_instance(*world),)
    if values["max_steps"] is None:
        values["max_steps"] = default_max_steps(*world)


def _fill(values: dict[str, Any], **defaults: object) -> None:
    values.update({name: value for name, value in defaults.items() if values[name] is None})


def resolve_execution(how: Mapping[str, Any], recorded: Mapping[str, Any]) -> Execution:
    """The same for how a run is carried out; a resume may differ freely, if it is not `official`.

    Raises:
        UsageError: A value out of range, or damage in run.json.
    """
    typed = {name: value for name, value in how.items() if value is not None}
    if typed.pop("official", False):
        from b1k_eval.challenge import official_run

        typed = official_run.execution(typed, recorded["sessions"] if recorded else ())
    if isinstance(typed.get("gpus"), str):
        typed["gpus"] = parse_gpus(typed["gpus"])
    before: dict[str, Any] = {}
    if recorded:
        where = f"sessions[{len(recorded['sessions']) - 1}].execution"
        last = recorded["sessions"][-1].get("execution")
        before = recorded_fields(Execution, last, where, others=False)
        before["gpus"] = tuple(before.get("gpus", ()))
    return Execution(**{**before, **typed})


def proposed_folder(settings: RunSettings) -> Path:
    """A folder under ./results, named by time, task and policy; it may be there already."""
    now = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S")
    policy = settings.policy.partition(":")[0]
    if settings.checkpoint is not None:
        policy = re.sub(r"[^\w.-]+", "-", Path(settings.checkpoint.ckpt).name)
    return Path("results") / f"{now}-{settings.task}-{policy}"
