"""The two generations of the official evaluator as data, and which of them is installed here.

Everything that differs between v3.7.2 (2025 challenge) and v3.9.3 (2026) and is not a call is
in a `Generation`. Sources, repository StanfordVL/BEHAVIOR-1K, under `OmniGibson/omnigibson/`: 2025
`learning/eval.py`@4c1184a6 and of the tag v3.7.2, whose line 53 switches the flat cache on (another
path through physics and particles, which the newer simulator does not have),
`learning/utils/eval_utils.py`@031729c4; 2026 `eval/evaluator.py` of the v3.9.3 era,
`eval/r1pro.yaml`@c71025ad, `eval/utils/eval_utils.py`, `utils/asset_utils.py`
@01e1c036; `load_available_tasks` from `joylo/gello/.../og_teleop_utils.py` of either year.

Nothing here imports omnigibson, which takes minutes and starts a GPU: the version is read from
the text of the package. Its metadata is only the second choice, because it is wrong in practice:
`OmniGibson/setup.py` said 3.8.0 when `omnigibson/__init__.py` said 3.9.2, and an editable install
keeps the metadata of the day it was made.

What a pass does not prove: that the installed files are those of the tag.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from b1k_envs.base import ProtocolYear, Split
from b1k_envs.errors import UnavailableError

ACTION_HZ = 30
RENDERING_HZ = 30
PHYSICS_HZ = 120

GraspClock = Literal["get_sim_step_dt", "get_physics_dt"]
"""Methods of the simulator that return a time step: of one action, and of one physics substep."""

ROBOT_NAME = "robot_r1"
"""Name of the robot in scene, observation keys and sensor names, in both generations."""


@dataclass(frozen=True, kw_only=True)
class GraspWindow:
    """The time that fingers must close on an object before it is held, a macro of a robot module.

    The handler runs in every physics substep and multiplies its count by a time step. In 2025
    that is the simulator's step, four substeps long, so the effective time is a quarter of the
    value. 2026 began with the same formula and 3.0 s; BEHAVIOR-1K's pull request 2072 made it the
    physics step and 0.7 s, 2098 made it 0.3 s. PR 1919 says that 2025 should stay as it was.

    Attributes:
        path: Keys below `omnigibson.macros.macros`; the module of the same name defines it.
        value: Its value in an official run [s].
        clock: The time step that the handler counts with in an official run.
        set_by_evaluator: Whether the evaluator sets it; otherwise the default stays.
    """

    path: tuple[str, ...]
    value: float
    clock: GraspClock
    set_by_evaluator: bool

    @property
    def module(self) -> str:
        """The module that has the handler and writes the default when it is imported."""
        return ".".join(("omnigibson", *self.path[:-1]))


def grasp_steps(value: float, clock: GraspClock) -> tuple[int, int]:
    """Return the length of a grasp window in physics substeps, and in control steps, rounded up.

    Args:
        value: The macro [s].
        clock: The time step that the handler counts with.
    """
    rate = PHYSICS_HZ if clock == "get_physics_dt" else ACTION_HZ
    substeps = math.ceil(value * rate - 1e-6)  # 0.3 s are 36 of them, not 37
    return substeps, math.ceil(substeps * ACTION_HZ / PHYSICS_HZ)


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One generation of the evaluator.

    Attributes:
        protocol: Challenge year.
        tag: Git tag whose semantics these are.
        release: The version number accepted as that tag; any post release of it is accepted too.
        vectorised: Whether `og.Environment` holds several scenes: `env.scenes[i]`,
            `env.robots[i][0]`, `task.object_scopes[i]`, results as lists.
        robot: The key that names the robot in its config.
        pose_keys: Keys of `robot_poses` in an instance file, best first.
        lower_pose_keys: Whether the file's keys are lower-cased before they are looked up.
        pose_frame: Frame of those poses.
        grasp_window: The macro, see `GraspWindow`.
        macros: Global macros that its evaluator sets before launch beside those of both years;
            all others are left alone.
        instances: Folder of the challenge's instances below the data path.
        instance_files: Per split, path of an instance file below the data path, with `{scene}`,
            `{task}` and `{name}`.
        table_files: Candidates for `available_tasks.yaml`, in order: (root, path), root `data`
            or `joylo`.
        index_counts: Number of indices in each split; None where the files decide.
        human_stats: File with the figures of the human demonstrations, below the data path.
        download: The function of `omnigibson.utils.asset_utils` that downloads the instances.
    """

    protocol: ProtocolYear
    tag: str
    release: tuple[int, int, int]
    vectorised: bool
    robot: Mapping[str, str]
    pose_keys: tuple[str, ...]
    lower_pose_keys: bool
    pose_frame: Literal["world", "scene"]
    grasp_window: GraspWindow
    macros: Mapping[str, bool]
    instances: str
    instance_files: Mapping[Split, str]
    table_files: tuple[tuple[Literal["data", "joylo"], str], ...]
    index_counts: Mapping[Split, int | None]
    human_stats: str
    download: str


_IN_SCENE = "{scene}/json/{scene}_task_{task}_instances/{name}-tro_state.json"
_JOYLO_TABLE = "sampled_task/available_tasks.yaml"
_TABLE = "metadata/available_tasks.yaml"
_DATA_2025 = "2025-challenge-task-instances"
_DATA_2026 = "2026-challenge-task-instances"

GENERATIONS: Mapping[ProtocolYear, Generation] = MappingProxyType(
    {
        "2025": Generation(
            protocol="2025",
            tag="v3.7.2",
            release=(3, 7, 2),
            vectorised=False,
            robot=MappingProxyType({"type": "R1Pro"}),
            pose_keys=("R1Pro",),
            lower_pose_keys=False,
            pose_frame="world",
            grasp_window=GraspWindow(
                path=("robots", "manipulation_robot", "GRASP_WINDOW"),
                value=0.75,
                clock="get_sim_step_dt",
                set_by_evaluator=True,
            ),
            macros=MappingProxyType({"ENABLE_FLATCACHE": True}),
            instances=_DATA_2025,
            instance_files=MappingProxyType(
                {
                    "train": f"{_DATA_2025}/scenes/{_IN_SCENE}",
                    "public-test": f"{_DATA_2025}/scenes/{_IN_SCENE}",
                    "hidden-test": "2025-challenge-test-instances/{task}/{name}-tro_state.json",
                }
            ),
            table_files=(("joylo", _JOYLO_TABLE), ("data", f"{_DATA_2025}/{_TABLE}")),
            index_counts=MappingProxyType({"train": 200, "public-test": 10, "hidden-test": 10}),
            human_stats=f"{_DATA_2025}/metadata/episodes.jsonl",
            download="download_2025_challenge_task_instances",
        ),
        "2026": Generation(
            protocol="2026",
            tag="v3.9.3",
            release=(3, 9, 3),
            vectorised=True,
            robot=MappingProxyType({"model": "r1pro"}),
            pose_keys=("robot", "r1pro"),
            lower_pose_keys=True,
            pose_frame="scene",
            grasp_window=GraspWindow(
                path=("robots", "robot", "GRASP_WINDOW"),
                value=0.3,
                clock="get_physics_dt",
                set_by_evaluator=False,
            ),
            macros=MappingProxyType({}),
            instances=_DATA_2026,
            instance_files=MappingProxyType(
                {
                    "train": f"{_DATA_2026}/scenes/{_IN_SCENE}",
                    "public-test": f"{_DATA_2026}/scene_test/public/{_IN_SCENE}",
                    "hidden-test": f"{_DATA_2026}/scene_test/private/{_IN_SCENE}",
                }
            ),
            table_files=(("data", f"{_DATA_2026}/{_TABLE}"), ("joylo", _JOYLO_TABLE)),
            index_counts=MappingProxyType({"train": None, "public-test": 20, "hidden-test": 20}),
            human_stats=f"{_DATA_2026}/metadata/task.jsonl",
            download="download_2026_challenge_task_instances",
        ),
    }
)

_FITTING = "v3.7.2 (--protocol 2025), or v3.9.3 with its post releases (--protocol 2026)"
_NEAR = 300  # characters before a use of the macro in which the time step's name is searched
_NUMBER = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?:[.-]?post\d+)?(?:\+.*)?")
_VERSION_LINE = re.compile(r"""^__version__\s*=\s*["']([^"']+)["']""", re.MULTILINE)


def package_folder() -> Path | None:
    """Find the folder of the package omnigibson without importing it; None if not installed."""
    try:
        spec = importlib.util.find_spec("omnigibson")
    except ValueError:  # a module of that name is loaded and does not say where it came from
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def installed_version() -> str | None:
    """Read the version of the installed omnigibson; None if it is not installed.

    It is the `__version__` in the text of the package, which the evaluator reports too; without
    one, the number in the package's metadata.
    """
    folder = package_folder()
    if folder is None:
        return None
    init = folder / "__init__.py"
    found = _VERSION_LINE.search(init.read_text("utf-8")) if init.is_file() else None
    return found.group(1) if found else metadata_version()


def metadata_version() -> str | None:
    """Read the version that the installer recorded; the module header says why it may be wrong."""
    try:
        return importlib.metadata.version("omnigibson")
    except importlib.metadata.PackageNotFoundError:
        return None


def has_vectorised_api() -> bool | None:
    """Return whether the installed `envs/env_base.py` has `num_envs`; None if it is not there."""
    folder = package_folder()
    file = folder / "envs" / "env_base.py" if folder else None
    return "num_envs" in file.read_text("utf-8") if file and file.is_file() else None


def grasp_clock(window: GraspWindow) -> GraspClock | None:
    """Read which time step the installed grasp handler counts with, from its text.

    Returns:
        The one that is named before each use of the macro; None if there is not exactly one.
    """
    folder = package_folder()
    file = folder.joinpath(*window.path[:-1]).with_suffix(".py") if folder else None
    if file is None or not file.is_file():
        return None
    text, found = file.read_text("utf-8"), set[str]()
    # Every use but the assignment of the default; the last time step named before it counts.
    for use in re.finditer(rf"\b{window.path[-1]}\b(?!\s*=[^=])", text):
        around = text[max(0, use.start() - _NEAR) : use.start()]
        found.update(re.findall(r"get_sim_step_dt|get_physics_dt", around)[-1:])
    if found == {"get_sim_step_dt"}:
        return "get_sim_step_dt"
    return "get_physics_dt" if found == {"get_physics_dt"} else None


def has_scene_fixes() -> bool | None:
    """Return whether the installed package has PR 2327, which fixed four faults of several scenes.

    The sign is the first of its four fixes: `OnFire` in `object_states/on_fire.py` loads its state
    by a `_load_state` of its own, which does nothing. The inherited one sets "not on fire" by
    heating the object to a degree below its ignition, at every reset and in every scene. That file
    was read before and after the PR. The other three fixes could not be read, so this one stands
    for them; all were merged together.

    Returns:
        None where there is no such class, so that it cannot be known.
    """
    folder = package_folder()
    file = folder / "object_states" / "on_fire.py" if folder else None
    if file is None or not file.is_file():
        return None
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == "OnFire":
            methods = [each.name for each in node.body if isinstance(each, ast.FunctionDef)]
            return "_load_state" in methods
    return None


def require_scene_fixes(num_envs: int) -> None:
    """Refuse several scenes in a build that is not known to get them right.

    Raises:
        UnavailableError: The build lacks PR 2327, or that cannot be known.
    """
    found = has_scene_fixes() if num_envs > 1 else True
    if found:
        return
    seen = "has no class OnFire to tell by" if found is None else "has no OnFire._load_state"
    raise UnavailableError(
        f"{num_envs} scenes in one process give wrong numbers without PR 2327 of BEHAVIOR-1K "
        "(2026-08), which fixed four faults of that: object_states/on_fire.py of the installed "
        f"omnigibson {installed_version()} {seen}, and the PR added that. Install a later post "
        "release of v3.9.3, or take --num-envs 1 with --workers"
    )


def installed_generation(protocol: ProtocolYear | None = None) -> Generation:
    """Return the generation that is installed, without importing it.

    A state between the tags v3.9.2 and v3.9.3 calls itself 3.9.2 and has the vectorised API; it
    counts as v3.9.3.

    Args:
        protocol: The wanted generation; None accepts either.

    Raises:
        UnavailableError: None is installed, or not the wanted one, or a version that is neither.
    """
    number = installed_version()
    if number is None:
        raise UnavailableError(
            "the package omnigibson is not installed in this Python: install BEHAVIOR-1K "
            f"{_FITTING} with its setup.sh, or take --sim mujoco"
        )
    generation = _generation_of(number)
    if protocol is not None and protocol != generation.protocol:
        raise UnavailableError(
            f"--protocol {protocol} needs BEHAVIOR-1K {GENERATIONS[protocol].tag}, and omnigibson "
            f"{number} is installed here, which runs --protocol {generation.protocol}: ask for "
            "that, or use the Python environment of the other version"
        )
    return generation


def _generation_of(number: str) -> Generation:
    release = _release(number)
    vectorised = has_vectorised_api()
    # Between the two tags the number was still 3.9.2, so the interface decides.
    if release == (3, 9, 2) and vectorised:
        return GENERATIONS["2026"]
    for generation in GENERATIONS.values():
        if release == generation.release:
            if generation.vectorised and vectorised is False:
                raise UnavailableError(
                    f"omnigibson {number} is installed, but its envs/env_base.py has no num_envs, "
                    f"which {generation.tag} has: check out the tag {generation.tag} anew"
                )
            return generation
    if release is not None and (3, 9, 0) <= release <= (3, 9, 2):
        reason = "is the single-env 2026 evaluator that v3.9.3 replaced"
    elif release is not None and release[:2] == (3, 7):
        reason = "scores with another denominator than v3.7.2"
    else:
        reason = "is not a version this adapter was written for"
    raise UnavailableError(
        f"omnigibson {number} {reason}; versions that fit: {_FITTING}. Check one of the two tags "
        "out and run its setup.sh, or take --sim mujoco"
    )


def _release(number: str) -> tuple[int, int, int] | None:
    """Return the three numbers of a release or post release; None for anything else."""
    found = _NUMBER.fullmatch(number.strip())
    if found is None:
        return None
    major, minor, patch = map(int, found.groups())
    return major, minor, patch
