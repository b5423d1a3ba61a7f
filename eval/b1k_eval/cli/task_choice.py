"""The tasks of a run: which, whether the simulator has them, and the settings of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from b1k_envs.errors import B1kEvalError, UnavailableError, UsageError
from b1k_envs.tasks.selection import select_tasks
from b1k_envs.tasks.table import get_task
from b1k_eval.cli.resolving import resolve_settings
from b1k_eval.records.identity import of_each_task
from b1k_eval.run import simulators
from b1k_eval.settings import RunSettings


def resolve_tasks(
    typed: Mapping[str, Any],
    recorded: Mapping[str, Any] | None = None,
    *,
    official: bool = False,
    most: int | None = None,
    skip_impossible: bool = False,
) -> tuple[tuple[RunSettings, ...], tuple[str, ...]]:
    """Complete the typed settings for each of the tasks; see `resolve_settings`.

    Args:
        typed: As there; `task` may name several.
        recorded: As there.
        official: As there.
        most: As there.
        skip_impossible: Leave out the tasks that the simulator does not have.

    Returns:
        The settings by task, those of one scene together, and remarks on what was left out.

    Raises:
        UsageError: As there; or tasks are impossible, and the text names all of them.
        UnavailableError: As there.
    """
    before = {} if recorded is None else _by_task(recorded)
    words = typed.get("task")
    names = list(before) if words is None else [task.name for task in select_tasks(words)]

    def settings_of(name: str) -> RunSettings:
        # A task that the run does not have is refused later, as a difference to the run.
        known = before.get(name, next(iter(before.values()), None))
        return resolve_settings({**typed, "task": name}, known, official=official, most=most)

    if not names:
        return (resolve_settings(typed, recorded, official=official, most=most),), ()
    if len(names) == 1 and not skip_impossible:
        return (settings_of(names[0]),), ()
    if len(names) > 1 and typed.get("against") is not None:
        raise UsageError("--until-decided compares runs of one task: give one --task")
    left_out = _impossible(names, settings_of)
    if left_out and (not skip_impossible or len(left_out) == len(names)):
        more = "; --skip-impossible leaves them out" if len(left_out) < len(names) else ""
        raise UsageError(f"{_words(left_out, len(names))}{more}")
    found = [settings_of(name) for name in names if name not in left_out]
    found.sort(key=lambda each: (simulators.scene_of(each), each.task_entry().index))
    return tuple(found), (f"left out: {_words(left_out, len(names))}",) if left_out else ()


def _by_task(recorded: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return run.json by task, each as of a run of that task alone."""
    found = {}
    for identity in of_each_task(recorded["identity"]):
        settings = identity.get("settings")
        # A record without settings is refused by `resolve_settings`.
        task = str(settings["task"]) if isinstance(settings, dict) and "task" in settings else ""
        found[task] = {**recorded, "identity": identity}
    return found


def _impossible(names: Sequence[str], settings_of: Callable[[str], RunSettings]) -> dict[str, str]:
    """Return the tasks that the simulator does not have, and why.

    Raises:
        B1kEvalError: The settings are wrong for every task.
    """
    refusal: B1kEvalError | None = None
    for name in names:
        try:
            world = settings_of(name)
        except (UsageError, UnavailableError) as error:
            refusal = refusal or error
            continue
        whys = {
            name: simulators.why_impossible(world.sim, get_task(name), world.protocol, world.split)
            for name in names
        }
        return {name: why for name, why in whys.items() if why is not None}
    assert refusal is not None
    raise refusal


def _words(left_out: Mapping[str, str], count: int) -> str:
    """Name the impossible tasks, by reason."""
    by_reason: dict[str, list[str]] = {}
    for name, why in left_out.items():
        by_reason.setdefault(why, []).append(f"{get_task(name).index} {name}")
    listed = "; ".join(f"{', '.join(names)}: {why}" for why, names in by_reason.items())
    return f"{len(left_out)} of {count} tasks cannot be done here ({listed})"
