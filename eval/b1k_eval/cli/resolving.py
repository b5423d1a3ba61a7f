"""Completing the typed settings with those recorded by a run to resume, and with defaults.

Typed values win over recorded ones, and recorded ones over defaults.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any, get_args

from b1k_envs.base import Split
from b1k_envs.errors import UsageError
from b1k_envs.tasks.table import Task, check_protocol, get_task
from b1k_eval.execution import OFF, Execution, recorded_execution
from b1k_eval.files import time_stamp
from b1k_eval.loop.strategy import (
    DEFAULT_ENSEMBLE_DECAY,
    DEFAULT_ENSEMBLE_EVERY,
    DEFAULT_HORIZON,
)
from b1k_eval.run.simulators import (
    default_instance,
    default_max_steps,
    default_protocol,
    resolve_sim,
)
from b1k_eval.settings import (
    MEASURED,
    RunSettings,
    recorded_settings,
)
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.contract.presets import PRESETS
from b1k_policies.options import at_home, declared, flag, parsed
from b1k_policies.own.loading import absolute_spec
from b1k_policies.registry import CHECKPOINT, OBJECT, REPLAY, own_class
from b1k_policies.remote.gr00t.robot import HORIZON as GR00T_HORIZON
from b1k_policies.remote.wire.address import GR00T, is_address
from b1k_policies.xvla.files.checkpoint import CODE_FOLDER, package_in


def resolve_settings(
    typed: Mapping[str, Any],
    recorded: Mapping[str, Any] | None = None,
    *,
    official: bool = False,
    most: int | None = None,
) -> RunSettings:
    """Complete the typed settings: by the run to resume, else by the defaults.

    Args:
        typed: Typed values by field of `RunSettings` and `CheckpointRequest`; None for not typed.
        recorded: run.json of the run to resume; None for a new run.
        official: Whether the run is for a submission.
        most: The greatest number of instances; only with `against`.

    Raises:
        UsageError: Values are unknown or contradict each other.
        UnavailableError: The simulator is not available.
    """
    given = parsed(RunSettings, typed)
    values: dict[str, Any] = {
        name: None if each.default is MISSING else each.default
        for name, each in declared(RunSettings).items()
    }
    values["sim"] = "auto"
    if official:
        from b1k_eval.challenge import official_run

        values.update(official_run.SETTINGS)
    if recorded:
        if recorded["identity"].get("imported_from") is not None:
            raise UsageError("imported results cannot be resumed: nothing of them was run here")
        values = recorded_settings(recorded["identity"])
        if given.get("mode", values["mode"]) != values["mode"]:
            values["latency"] = None  # a latency of the other mode, as with the chunking below
        if given.get("chunking", values["chunking"]) != values["chunking"]:
            # The recorded figures are of the other strategy; kept, they would be refused as
            # contradicting it, instead of the change being reported as a difference to the run.
            values.update(horizon=None, ensemble_every=None, ensemble_decay=None)
    _locate(given, values if recorded else {})
    values["checkpoint"] = resolve_checkpoint(typed, values["checkpoint"], given.get("policy"))
    values.update(given)
    if values["checkpoint"] is not None:
        values["policy"] = CHECKPOINT
    if values["task"] is None:
        raise UsageError("--task is missing: give an index or a name; `b1k-eval tasks` lists them")
    task = get_task(values["task"])
    values["task"] = task.name
    if values["protocol"] is not None:
        check_protocol(task, values["protocol"])
    if official:
        if values["sim"] == "auto":
            values["sim"] = official_run.SETTINGS["sim"]
        official_run.hold_settings(values)
    if not recorded or "sim" in given:
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
    if "against" in given:
        from b1k_eval.comparison.until_decided import drawn_instances

        asked = given.get("instances")
        values["instances"] = drawn_instances(
            values["against"], asked, most, values["seed"], task.name
        )
    _fill_strategy(values)
    return RunSettings(**values)


def _locate(given: dict[str, Any], recorded: Mapping[str, Any]) -> None:
    """Make typed files absolute, since a run may be resumed from another folder.

    Older runs recorded them as they were typed. If the same file is typed again from that folder it
    keeps its old spelling, so that the setting counts as unchanged.

    Raises:
        UsageError: The run to resume has recorded a file relative to another folder.
    """
    for name, prefix in (("policy", REPLAY), ("human_stats", "")):
        old, new = (_file(values.get(name), prefix) for values in (recorded, given))
        if new is not None:
            same = old is not None and old.resolve() == new.resolve()
            given[name] = f"{prefix}{old if same else new.resolve()}"
        elif name == "policy" and given.get(name):
            given[name] = absolute_spec(given[name])
        elif name not in given and old and not old.is_absolute() and not old.exists():
            raise UsageError(
                f"{flag(RunSettings, name)} {prefix}{old} is what this run has recorded, relative "
                "to the folder it was started in, and is not in this one: resume it from there"
            )


def _file(word: str | None, prefix: str) -> Path | None:
    """Return the file that a word names after a prefix, or None."""
    if not word or not word.startswith(prefix) or word == prefix:
        return None
    return Path(at_home(word.removeprefix(prefix)))


def _fill_official(values: dict[str, Any], task: Task) -> None:
    """Fill in protocol, instances and time limit by the simulator, if they were not given.

    Raises:
        UsageError: The protocol does not have the task, or there is no such split.
        UnavailableError: The simulator's data are missing.
    """
    if values["protocol"] is None:
        values["protocol"] = default_protocol(values["sim"])
    # Checked here already, because the defaults below depend on it.
    if values["split"] not in get_args(Split):
        raise UsageError(
            f"--split {values['split']!r} is unknown: choose one of {', '.join(get_args(Split))}"
        )
    world = values["sim"], task, values["protocol"], values["split"]
    if values["instances"] is None:
        values["instances"] = (default_instance(*world),)
    if values["max_steps"] is None:
        values["max_steps"] = default_max_steps(*world)


def _fill_strategy(values: dict[str, Any]) -> None:
    """Fill in the options that only some strategies have, if they were not given.

    Raises:
        UsageError: An option of another strategy was given.
    """
    policy = values["policy"]
    foreign = is_address(policy) or policy.startswith(OBJECT) or own_class(policy) is not None
    # No default for a server or a user's policy: their chunks may be shorter than any default. But
    # GR00T's servers have 32 rows, of which their evaluator executes 8.
    horizon = None if foreign else DEFAULT_HORIZON
    if policy.startswith(f"{GR00T}://"):
        horizon = GR00T_HORIZON
    now = "ensemble" if values["chunking"] == "ensemble" else "receding"
    for name, strategy, default in (
        ("horizon", "receding", horizon),
        ("ensemble_every", "ensemble", DEFAULT_ENSEMBLE_EVERY),
        ("ensemble_decay", "ensemble", DEFAULT_ENSEMBLE_DECAY),
    ):
        if strategy == now:
            values[name] = default if values[name] is None else values[name]
        elif values[name] is not None:
            raise UsageError(
                f"{flag(RunSettings, name)} only means something with --chunking {strategy}"
            )
    if values["mode"] == "realtime" and values["latency"] is None:
        values["latency"] = MEASURED


def against_folder(until_decided: bool, against: Path | None, most: int | None) -> str | None:
    """Return the absolute folder of `--against`; None for a run of all its episodes.

    Raises:
        UsageError: Only some of the options that go together were given.
    """
    if (until_decided and against is None) or (
        not until_decided and (against is not None or most is not None)
    ):
        raise UsageError(
            "--until-decided and --against RUN go together, and --max-instances needs both"
        )
    return None if against is None else str(against.resolve())


def resolve_execution(
    typed: Mapping[str, Any], recorded: Mapping[str, Any] | None = None, *, official: bool = False
) -> Execution:
    """Complete how a run is carried out; a resume may change it freely unless `official`.

    Raises:
        UsageError: A value is out of range, or run.json is damaged.
    """
    given = parsed(Execution, typed)
    if official:
        from b1k_eval.challenge import official_run

        given = official_run.execution(given, recorded["sessions"] if recorded else ())
    before = recorded_execution(recorded["sessions"]) if recorded else {}
    values = {**before, **given}
    if values.get("ray") == OFF:
        values.update(ray=None, gpus_per_worker=given.get("gpus_per_worker"))
        values["workers"] = values.get("workers") or 1
    elif "ray" in given and "workers" not in given:
        values["workers"] = 0
    if values.get("record") == OFF:
        values.update(record=None, record_only=given.get("record_only", "all"))
    return Execution(**values)


def resolve_checkpoint(
    typed: Mapping[str, Any], recorded: Mapping[str, Any] | None, policy: str | None
) -> CheckpointRequest | None:
    """Complete the requested checkpoint by that of the run to resume.

    Consent is never completed, because a file from elsewhere must not give it. The checkpoint's
    folder and a contract's file become absolute, since a run may be resumed from another folder.

    Args:
        typed: Typed values by field of `CheckpointRequest`; other fields are ignored.
        recorded: `checkpoint` of the run's recorded settings; None for none.
        policy: The typed --policy, or None.

    Returns:
        The request, or None for no checkpoint.

    Raises:
        UsageError: Both a policy and a checkpoint were given, or options of a checkpoint without
            one; or a value is not valid.
    """
    given = parsed(CheckpointRequest, typed)
    if recorded is None and "ckpt" not in given:
        if given:
            names = ", ".join(flag(CheckpointRequest, name) for name in given)
            raise UsageError(f"{names} only mean something with --ckpt")
        return None
    if policy is not None:
        raise UsageError("--policy and --ckpt both name a policy: give one of them")
    ckpt, contract = given.get("ckpt"), given.get("contract")
    if ckpt and Path(ckpt).is_dir():
        given["ckpt"] = str(Path(ckpt).resolve())
    if contract and contract not in PRESETS and Path(contract).is_file():
        given["contract"] = str(Path(contract).resolve())
    values = {**(recorded or {}), **given}
    if given.get("code_dir"):
        values["code_dir"] = _code_dir(given["code_dir"], values["ckpt"])
    return CheckpointRequest(**values)


def _code_dir(word: str, ckpt: str) -> str:
    """Return `--code-dir`, made absolute if it fits only one folder.

    Otherwise it stays as typed, and `locate` says what is wrong. It also stays if it is the card's
    place of the code and the checkpoint's files are still on the hub.
    """
    places = [Path(word), Path(ckpt) / word]
    if not Path(ckpt).is_dir() and Path(word).parts[:1] == Path(CODE_FOLDER).parts[:1]:
        return word
    holding = {place.resolve() for place in places if package_in(place) is not None}
    return str(holding.pop()) if len(holding) == 1 else word


def proposed_folder(tasks: Sequence[RunSettings]) -> Path:
    """Return a folder under ./results, named by time, task and policy; it may exist already."""
    settings = tasks[0]
    now = time_stamp()
    own = own_class(settings.policy)
    policy = settings.policy.partition(":")[0] if own is None else own.name
    if settings.policy.startswith(OBJECT):
        policy = settings.policy.rpartition(".")[2]
    if settings.checkpoint is not None:
        policy = re.sub(r"[^\w.-]+", "-", Path(settings.checkpoint.ckpt).name)
    task = settings.task if len(tasks) == 1 else f"{len(tasks)}-tasks"
    share = "" if settings.shard is None else f"-shard-{settings.shard.replace('/', '-of-')}"
    return Path("results") / f"{now}-{task}-{policy}{share}"
