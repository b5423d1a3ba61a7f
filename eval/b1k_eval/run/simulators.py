"""Choosing a simulator and building a run's envs. Simulators are imported where they are used."""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from b1k_envs.base import Env, EnvInfo, ProtocolYear, Sim, Split, Worlds, make_several
from b1k_envs.errors import UnavailableError, UsageError
from b1k_envs.r1pro import CONTROL_HZ
from b1k_envs.tasks.table import (
    TASKS,
    HumanStats,
    Task,
    check_protocol,
    get_task,
    human_stats,
    load_human_stats,
)
from b1k_envs.tracks import StandardTrackEnv
from b1k_eval.run.watchdog import CallLimits
from b1k_eval.settings import RunSettings

if TYPE_CHECKING:
    from b1k_envs.omnigibson.setup.data import TaskData

SimChoice = Literal["auto", "mujoco", "omnigibson"]

EXPERT = "expert"
"""The policy that reads the twin's state, so that it runs in the twin only."""

_MOST_TRAIN_INSTANCES = 1000
"""Training instances have numbers below this (`episode_index` has three digits for them)."""


def resolve_sim(
    choice: str,
    *,
    protocol: ProtocolYear | None = None,
    policy: str | None = None,
    render_quality: str | None = None,
) -> Sim:
    """Resolve `--sim`.

    `auto` means OmniGibson if a version that fits the protocol is installed, else the twin; and
    always the twin for a policy or a render quality that only the twin has.

    Args:
        choice: `auto`, `mujoco` or `omnigibson`.
        protocol: `--protocol`, if given.
        policy: `--policy`, if given.
        render_quality: `--render-quality`, if given.

    Raises:
        UsageError: Unknown choice.
        UnavailableError: OmniGibson was asked for and is not available.
    """
    if choice not in get_args(SimChoice):
        raise UsageError(
            f"--sim {choice!r} is unknown: choose one of {', '.join(get_args(SimChoice))}"
        )
    of_the_twin = policy == EXPERT or render_quality == "high"
    if choice == "mujoco" or (choice == "auto" and of_the_twin):
        return "mujoco"
    try:
        _installed(protocol)
    except UnavailableError as error:
        if choice == "auto":
            return "mujoco"
        raise UnavailableError(f"--sim omnigibson: {error}") from error
    return "omnigibson"


def default_protocol(sim: Sim) -> ProtocolYear:
    """Return the protocol of a run without `--protocol`.

    Raises:
        UnavailableError: OmniGibson is not installed.
    """
    return "2026" if sim == "mujoco" else _installed(None)


def default_instance(sim: Sim, task: Task, protocol: ProtocolYear, split: Split) -> int:
    """Return the first instance of a split.

    Raises:
        UsageError: The protocol does not have the task.
        UnavailableError: OmniGibson or its data are not there.
    """
    if sim == "mujoco":
        return 0
    data = _task_data(task, protocol, split)
    if data.generation.index_counts[split] is not None:
        return 0
    for index in range(_MOST_TRAIN_INSTANCES):  # here an index is the number in the file's name
        try:
            data.instance_file(index)
        except UnavailableError:
            continue
        return index
    data.instance_file(0)  # raises, and its message says what is missing
    return 0


def default_max_steps(sim: Sim, task: Task, protocol: ProtocolYear, split: Split) -> int:
    """Return the official time limit, in OmniGibson from the human mean of the installed data.

    Raises:
        UsageError: The protocol does not have the task.
        UnavailableError: OmniGibson or its data are not there.
    """
    if sim == "mujoco":
        return task.max_steps(protocol)
    return _task_data(task, protocol, split).default_max_steps()


def human_stats_of(settings: RunSettings) -> HumanStats:
    """Return the human figures that a run's normalised figures are relative to.

    Raises:
        UsageError: `--human-stats` cannot be used.
        UnavailableError: The installed data lack theirs.
    """
    task = settings.task_entry()
    if settings.human_stats is None and settings.sim == "omnigibson":
        return _task_data(task, settings.protocol, settings.split).human_stats
    path = settings.human_stats
    return human_stats(task) if path is None else load_human_stats(path, task, settings.protocol)


def has_twin_scene(task: Task) -> bool:
    """Return whether the MuJoCo twin has a room for the task."""
    from b1k_envs.tasks.described import TWIN_TASKS

    return task.name in TWIN_TASKS


def why_impossible(sim: Sim, task: Task, protocol: ProtocolYear, split: Split) -> str | None:
    """Say why a simulator cannot do a task, in words that do not name it; None if it can."""
    if protocol == "2025" and not task.in_2025:
        return "the 2025 challenge has tasks 0 to 49 only"
    if sim == "mujoco":
        from b1k_envs.tasks.described import TWIN_TASKS

        if task.name in TWIN_TASKS:
            return None
        return f"the MuJoCo twin only has scenes for {', '.join(TWIN_TASKS)} (--sim omnigibson)"
    try:
        _task_data(task, protocol, split)
    except (UsageError, UnavailableError) as error:
        return str(error)
    return None


def scene_of(settings: RunSettings) -> str:
    """Return the name of the scene that a run's task is done in; each twin task has its own.

    Raises:
        UsageError: The protocol does not have the task.
        UnavailableError: OmniGibson or its data are not there.
    """
    task = settings.task_entry()
    if settings.sim == "mujoco":
        return task.name
    return str(_task_data(task, settings.protocol, settings.split).entry.scene_model)


def check_world(settings: RunSettings, num_envs: int = 1) -> None:
    """Refuse what the simulator does not have, before anything is built or written.

    Raises:
        UsageError: The protocol or the twin lacks the task, an instance is out of range, the
            policy is for the twin only, or a process cannot have `num_envs` envs.
        UnavailableError: The simulator or its data are missing, its build gets several scenes
            wrong, or MUJOCO_GL names a missing backend.
    """
    task = settings.task_entry()
    check_protocol(task, settings.protocol)
    if num_envs > 1 and settings.sim == "omnigibson" and settings.protocol != "2026":
        raise UsageError(
            f"--num-envs {num_envs}: only OmniGibson v3.9.3 has several envs in one process "
            "(--protocol 2026); with this one take --workers"
        )
    if settings.sim == "omnigibson":
        if settings.policy == EXPERT:
            raise UsageError(
                "--policy expert reads the twin's state and cannot run in OmniGibson: "
                "choose another policy, or --sim mujoco"
            )
        data = _task_data(task, settings.protocol, settings.split)
        _require_scene_fixes(num_envs)
        for index in settings.instances:
            data.instance_id(index)
        return
    _before_twin_import()
    from b1k_envs.mujoco_twin.env import require_twin_scene
    from b1k_envs.mujoco_twin.instances import check_instance

    scene = require_twin_scene(task)
    for index in settings.instances:
        check_instance(scene, settings.split, index)


def prepare_pictures() -> None:
    """Make sure that the twin can render; call it before `make_env` if pictures are wanted.

    Raises:
        UnavailableError: No OpenGL; the message says how to get it.
    """
    from b1k_envs.mujoco_twin.rendering.gl import ensure_gl

    ensure_gl()


def limits(settings: RunSettings) -> CallLimits | None:
    """Return the simulator's time limits; None for one that needs no process of its own."""
    return CallLimits() if settings.sim == "omnigibson" else None


def make_env(settings: RunSettings, **options: Any) -> Env:  # noqa: ANN401
    """Build the only env of a process; `options` and errors are those of `make_worlds`."""
    if settings.sim == "omnigibson":
        return make_worlds(settings, **options).envs[0]
    env = _make_twin(settings, **options)
    return StandardTrackEnv(env) if settings.track == "standard" else env


def make_worlds(settings: RunSettings, count: int = 1, **options: Any) -> Worlds:  # noqa: ANN401
    """Build the envs of a process: those of one OmniGibson, or as many twins.

    Args:
        settings: What is run.
        count: How many.
        options: `depth`, whether observations have depth; `gpu`, the one for OmniGibson, None for
            its own choice.

    Raises:
        UsageError: See `check_world`.
        UnavailableError: The simulator is not available.
    """
    if settings.sim != "omnigibson":
        return make_several(partial(make_env, settings), count, **options)
    from b1k_envs.omnigibson.env import OmniGibsonWorlds

    worlds: Worlds = OmniGibsonWorlds(
        settings.task_entry(),
        count=count,
        protocol=settings.protocol,
        split=settings.split,
        max_steps=settings.max_steps,
        render=settings.render,
        partial_scene=settings.partial_scene,
        heavy_base=settings.heavy_base,
        **options,
    )
    if settings.track == "standard":
        worlds.envs = tuple(StandardTrackEnv(env) for env in worlds.envs)
    return worlds


def describe(settings: RunSettings, *, depth: bool = False) -> EnvInfo:
    """Describe a run's world without building it, by what must not change on resume.

    The info of a started world is recorded with the session. `depth` is whether observations have
    depth, as of `make_worlds`.

    Raises:
        UnavailableError: OmniGibson or its data are not there.
    """
    if settings.sim == "mujoco":
        from b1k_envs.mujoco_twin.env import twin_info

        return twin_info(
            settings.task_entry(),
            settings.protocol,
            settings.split,
            settings.max_steps,
            render_quality=settings.render_quality,
            depth=depth,
        )
    from b1k_envs.omnigibson.setup.data import assets_version
    from b1k_envs.omnigibson.setup.generation import installed_version

    task = settings.task_entry()
    data = _task_data(task, settings.protocol, settings.split)
    shown: dict[str, Any] = {
        "split": settings.split,
        "generation": data.generation.tag,
        "scene": data.entry.scene_model,
        "assets": {name: version["installed"] for name, version in assets_version().items()},
    }
    return EnvInfo(
        sim="omnigibson",
        sim_version=installed_version() or "unknown",
        protocol=settings.protocol,
        task=task.name,
        task_index=task.index,
        control_hz=CONTROL_HZ,
        max_steps=settings.max_steps,
        settings=shown,
    )


def instance_ids(settings: RunSettings) -> dict[int, int]:
    """Return the official number of each instance of an OmniGibson run, by index.

    Raises:
        UsageError: An index is out of range.
        UnavailableError: OmniGibson or its data are not there.
    """
    data = _task_data(settings.task_entry(), settings.protocol, settings.split)
    return {index: data.instance_id(index) for index in settings.instances}


def twin_number(split: Split, index: int) -> int:
    """Return a twin instance's number in recordings, as OmniGibson numbers them in 2026."""
    from b1k_envs.omnigibson.setup.data import FIRST_IDS

    return FIRST_IDS[split] + index


def instance_index(settings: RunSettings, number: int) -> int | None:
    """Return the index within the split of an instance's official number; None if it has none.

    Raises:
        UnavailableError: OmniGibson or its data are not there.
    """
    if settings.sim == "mujoco":
        from b1k_envs.mujoco_twin.scenes import load_scene

        index = number - twin_number(settings.split, 0)
        of_split = load_scene(settings.task_entry().name).counts[settings.split]
        return index if 0 <= index < of_split else None
    data = _task_data(settings.task_entry(), settings.protocol, settings.split)
    count = data.generation.index_counts[settings.split]
    for index in range(_MOST_TRAIN_INSTANCES if count is None else count):
        try:
            if data.instance_id(index) == number:
                data.instance_file(index)
                return index
        except (UsageError, UnavailableError):  # past the last id, or its file is missing
            return None
    return None


def missing_instances(settings: RunSettings) -> str:
    """Return why OmniGibson's files of a run's initial states are not there; empty if they are."""
    if settings.sim == "mujoco":
        return ""
    try:
        data = _task_data(settings.task_entry(), settings.protocol, settings.split)
        for index in settings.instances:
            data.instance_file(index)
    except (UsageError, UnavailableError) as error:
        return str(error)
    return ""


def _make_twin(settings: RunSettings, *, depth: bool = False) -> Env:
    _before_twin_import()
    from b1k_envs.mujoco_twin.env import TwinEnv
    from b1k_eval.disturbances.world import world_changes

    return TwinEnv(
        settings.task_entry(),
        protocol=settings.protocol,
        split=settings.split,
        max_steps=settings.max_steps,
        render_quality=settings.render_quality,
        depth=depth,
        changes=world_changes(settings.disturbances()),
    )


def _installed(protocol: ProtocolYear | None) -> ProtocolYear:
    from b1k_envs.omnigibson.setup.generation import installed_generation

    return installed_generation(protocol).protocol


def _require_scene_fixes(num_envs: int) -> None:
    from b1k_envs.omnigibson.setup.generation import require_scene_fixes

    require_scene_fixes(num_envs)


def _task_data(task: Task, protocol: ProtocolYear, split: Split) -> TaskData:
    from b1k_envs.omnigibson.setup.data import find_data_path

    return _read_task_data(task.name, protocol, split, find_data_path())


@lru_cache(maxsize=len(TASKS))
def _read_task_data(task: str, protocol: ProtocolYear, split: Split, _: Path | None) -> TaskData:
    """Cached: a start asks several times, and reading the tables takes a while."""
    from b1k_envs.omnigibson.setup.data import find_task_data
    from b1k_envs.omnigibson.setup.generation import installed_generation

    return find_task_data(installed_generation(protocol), get_task(task), split)


def _before_twin_import() -> None:
    """Check MUJOCO_GL first: a wrong value makes `import mujoco` fail with a traceback."""
    from b1k_envs.mujoco_twin.rendering.gl import before_mujoco_import

    before_mujoco_import()
