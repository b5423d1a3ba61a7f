"""The identity of a run: what decides its results, for one task or several.

With several tasks, `identity.tasks` has what is of one task: `env`, `human`, `instance_ids` and
the settings `task`, `instances` and `max_steps`. All else is the same for all of them.

A resumed run must have the settings it was started with. `identity` in run.json holds everything
that decides a result, and texts that explain it, such as remarks and the source of a contract's
fields. Only what decides is compared, so that a version with other texts can resume the run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from b1k_envs.errors import UsageError
from b1k_eval.files import to_json
from b1k_eval.settings import settled
from b1k_policies.contract.fields import completed

_WORDS = ("remarks",)
"""Keys of a policy's description that only explain."""
_NEWER = ("variables", "packages")
"""Keys that the first runs did not record; not compared with those runs."""
_OF_A_TASK = ("env", "human", "instance_ids")
"""Keys of an identity that differ by task."""
_SETTINGS_OF_A_TASK = ("task", "instances", "max_steps")
"""The same in `settings`."""


def joined(identities: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the identity of a run of several tasks, from those of its tasks."""
    if len(identities) == 1:
        return dict(identities[0])
    tasks = {}
    for each in identities:
        own = {name: each[name] for name in _OF_A_TASK if name in each}
        own["settings"] = {name: each["settings"][name] for name in _SETTINGS_OF_A_TASK}
        tasks[each["settings"]["task"]] = own
    shared = {name: value for name, value in identities[0].items() if name not in _OF_A_TASK}
    shared["settings"] = {
        name: value for name, value in shared["settings"].items() if name not in _SETTINGS_OF_A_TASK
    }
    return {**shared, "tasks": tasks}


def of_each_task(identity: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the identity of each task of a run, as a run of that task alone would have it.

    Raises:
        UsageError: `identity.tasks` is damaged.
    """
    if "tasks" not in identity:
        return [dict(identity)]
    shared = {name: value for name, value in identity.items() if name != "tasks"}
    try:
        found = [
            {**shared, **own, "settings": {**shared["settings"], **own["settings"]}}
            for own in identity["tasks"].values()
        ]
    except (AttributeError, KeyError, TypeError) as error:
        raise UsageError(
            f"run.json is damaged (in identity.tasks: {type(error).__name__} {error}): restore "
            "the file, or start the run again under another --out"
        ) from error
    if not found:
        raise UsageError("run.json is damaged (identity.tasks is empty): restore the file")
    return found


def check_identity(
    path: Path, known: Mapping[str, Any], asked: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Compare a run that is to be resumed with this session, which may take more episodes.

    Args:
        path: The run folder, for the message.
        known: Its run.json.
        asked: The record of this session.

    Returns:
        The run's identity from now on: the one that it has, or with more instances or rollouts.

    Raises:
        UsageError: They differ; the message names every difference.
    """
    differences = identity_differences(known, asked)
    if differences and not identity_differences(known, asked, growing=True):
        found: Mapping[str, Any] = asked["identity"]
        return found
    if differences:
        raise UsageError(
            f"{path} was made with other settings and cannot be resumed with these: "
            f"{'; '.join(differences)}. Repeat the old ones, or choose another --out"
        )
    unchanged: Mapping[str, Any] = known["identity"]
    return unchanged


def identity_differences(
    known: Mapping[str, Any], asked: Mapping[str, Any], *, growing: bool = False
) -> list[str]:
    """List what differs in the identities of two run.json, as `name old -> new`.

    With `growing` the second may have more instances or rollouts.
    """
    now = of_each_task(json.loads(to_json(asked["identity"])))  # tuples become lists, as on disk
    then = of_each_task(known["identity"])
    # Ordered and each once: what all tasks share would be listed for each of them.
    differences = dict.fromkeys(
        difference
        for one, other in zip(then, now, strict=False)
        for difference in _differences_of_a_task(_as_large(one, other) if growing else one, other)
    )
    if len(then) != len(now):
        names = [", ".join(each["settings"]["task"] for each in side) for side in (then, now)]
        differences = {("task", names[0], names[1]): None}
    return [f"{name} {old} -> {new}" for name, old, new in differences]


def _as_large(then: dict[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return the identity of a task with the instances and rollouts of another that has more.

    Not where the episodes of the run depend on their number: a shard's, or those in drawn order.
    """
    old, new = (side.get("settings") or {} for side in (then, now))
    if any(side.get(name) is not None for side in (old, new) for name in ("shard", "against")):
        return then
    grown = {**then, "settings": dict(old)}
    if {*old.get("instances", ())} <= {*new.get("instances", ())}:
        grown["settings"]["instances"] = new.get("instances")
        ids, more = (side.get("instance_ids") or {} for side in (then, now))
        if "instance_ids" in then and ids.items() <= more.items():
            grown["instance_ids"] = more
    if old.get("rollouts", 1) <= new.get("rollouts", 1):
        grown["settings"]["rollouts"] = new.get("rollouts", 1)
    return grown


def _differences_of_a_task(
    then: dict[str, Any], now: dict[str, Any]
) -> Iterator[tuple[str, str, str]]:
    """Yield name and both values of what decides the results of a task."""
    for side in (then, now):
        if isinstance(side.get("settings"), dict):
            side["settings"] = settled(side["settings"])
    if isinstance(then.get("policy"), dict) and isinstance(now.get("policy"), dict):
        unknown = [name for name in _NEWER if name not in then["policy"]]
        then["policy"] = _deciding(then["policy"], unknown)
        now["policy"] = _deciding(now["policy"], unknown)
    yield from _differences("", then, now)


def _deciding(policy: Mapping[str, Any], unknown: list[str]) -> dict[str, Any]:
    """Return a policy's description without texts and without keys unknown to the other side."""
    left_out = (*_WORDS, *unknown)
    deciding = {name: value for name, value in policy.items() if name not in left_out}
    found = deciding.get("contract")
    if isinstance(found, dict) and isinstance(found.get("contract"), dict):
        deciding["contract"] = completed(found["contract"])
    return deciding


def _differences(
    prefix: str,
    old: Any,  # noqa: ANN401 - JSON values
    new: Any,  # noqa: ANN401 - JSON values
) -> Iterator[tuple[str, str, str]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in {**old, **new}:  # what only one side has is compared with null
            inner = f"{prefix}.{name}" if prefix else name
            yield from _differences(inner, old.get(name), new.get(name))
    elif old != new:
        yield prefix, json.dumps(old), json.dumps(new)
