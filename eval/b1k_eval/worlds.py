"""Which simulators there are, and how a run gets its env. Simulators are imported at use."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal, get_args

from b1k_envs.base import Env, Sim
from b1k_envs.errors import UnavailableError, UsageError
from b1k_envs.tasks import Task, check_protocol
from b1k_eval.settings import RunSettings

SimChoice = Literal["auto", "mujoco", "omnigibson"]


def has_omnigibson_adapter() -> bool:
    """Whether this version of b1k-eval can drive OmniGibson, where that is installed."""
    return find_spec("b1k_envs.omnigibson") is not None


def resolve_sim(choice: str) -> Sim:
    """Which simulator a word means here; `auto` is OmniGibson where it can be had, else the twin.

    Raises:
        UsageError: Unknown word.
        UnavailableError: OmniGibson was asked for and cannot be had.
    """
    if choice not in get_args(SimChoice):
        raise UsageError(
            f"--sim {choice!r} is unknown: choose one of {', '.join(get_args(SimChoice))}"
        )
    has_adapter = has_omnigibson_adapter()
    if choice == "omnigibson" and not has_adapter:
        raise UnavailableError(
            "--sim omnigibson: this version has no OmniGibson adapter; --sim mujoco runs the "
            "embedded twin"
        )
    if choice == "omnigibson" and find_spec("omnigibson") is None:
        raise UnavailableError(
            "--sim omnigibson: the package omnigibson is not installed here; `b1k-eval doctor` "
            "says what it needs, and --sim mujoco runs the embedded twin"
        )
    if choice == "auto":
        return "omnigibson" if has_adapter and find_spec("omnigibson") else "mujoco"
    return "omnigibson" if choice == "omnigibson" else "mujoco"


def has_twin_scene(task: Task) -> bool:
    """Whether the MuJoCo twin has a room for the task."""
    from b1k_envs.mujoco_twin.instances import TWIN_TASKS

    return task.name in TWIN_TASKS


def check_world(settings: RunSettings) -> None:
    """Refuse what the simulator does not have, before anything is built or written.

    Raises:
        UsageError: No such task in the protocol or the twin, or an instance out of range.
        UnavailableError: MUJOCO_GL names a backend that is not here.
    """
    task = settings.task_entry()
    check_protocol(task, settings.protocol)
    _before_twin_import()
    from b1k_envs.mujoco_twin.env import require_twin_scene
    from b1k_envs.mujoco_twin.instances import check_instance

    require_twin_scene(task)
    for index in settings.instances:
        check_instance(settings.split, index)


def prepare_pictures() -> None:
    """Make sure that the twin can render; call it before `make_env` where pictures are wanted.

    Raises:
        UnavailableError: No OpenGL; says how to get it.
    """
    from b1k_envs.mujoco_twin.gl import ensure_gl

    ensure_gl()


def make_env(settings: RunSettings) -> Env:
    """The env of a run.

    Raises:
        UsageError: See `check_world`.
        UnavailableError: The simulator cannot be had.
    """
    _before_twin_import()
    from b1k_envs.mujoco_twin.env import TwinEnv

    return TwinEnv(
        settings.task_entry(),
        protocol=settings.protocol,
        split=settings.split,
        max_steps=settings.max_steps,
        render_quality=settings.render_quality,
    )


def _before_twin_import() -> None:
    """Say in a sentence what a wrong MUJOCO_GL would make of `import mujoco`."""
    from b1k_envs.mujoco_twin.gl import before_mujoco_import

    before_mujoco_import()
