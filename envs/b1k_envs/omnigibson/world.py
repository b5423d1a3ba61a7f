"""One running OmniGibson with one env or several.

Use it on the thread that built it: the application below OmniGibson is not thread-safe. Any
exception of OmniGibson becomes an EnvError that says what was being done. From then on the world
refuses every call, as its state is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np

from b1k_envs import r1pro
from b1k_envs.base import (
    VIEWS,
    AgentPositions,
    Checks,
    EnvInfo,
    Float32Array,
    Float64Array,
    GoalStatus,
    ProgressVariant,
    ProtocolYear,
    Split,
    UInt8Array,
    View,
)
from b1k_envs.errors import UsageError
from b1k_envs.omnigibson.dialects.dialect import RENDERS_UNTIL_CURRENT, Dialect, Stepped
from b1k_envs.omnigibson.dialects.dialect_2025 import Dialect2025
from b1k_envs.omnigibson.dialects.dialect_2026 import Dialect2026
from b1k_envs.omnigibson.goal_status import GoalRecord
from b1k_envs.omnigibson.guard import CallGuard
from b1k_envs.omnigibson.observations import (
    PoseHistory,
    depth_picture,
    frame_poses,
    in_base,
    picture,
    proprio_vector,
    recorded_poses,
)
from b1k_envs.omnigibson.setup.application import launch
from b1k_envs.omnigibson.setup.checks import check_startup
from b1k_envs.omnigibson.setup.config import build_config
from b1k_envs.omnigibson.setup.data import find_task_data
from b1k_envs.omnigibson.setup.generation import (
    installed_generation,
    installed_version,
    require_scene_fixes,
)
from b1k_envs.omnigibson.setup.loading import load_instances
from b1k_envs.omnigibson.setup.moving_checks import picture_age
from b1k_envs.omnigibson.setup.preparation import prepare_environment
from b1k_envs.omnigibson.states import NEAR_DISTANCE, SimulatorStates
from b1k_envs.tasks import subgoals, task_progress
from b1k_envs.tasks.table import Task

RenderMode = Literal["on-demand", "every-step"]
"""`every-step` renders once with every action, as the official evaluators do; `on-demand` only when
a picture is requested, and then often enough for a current one."""

_RENDER_PROTOCOLS: Mapping[RenderMode, str] = MappingProxyType(
    {
        "every-step": "official",
        "on-demand": "not official: no render with an action, three before a picture",
    }
)


SHUTDOWN_DEADLINE_S = 20.0
"""OmniGibson may hang while closing; after this time the process ends anyway [s]."""


class CameraPoses(NamedTuple):
    """Camera poses as in `Observation`; `recorded` is its `cam_rel_poses`."""

    camera_to_base: Mapping[View, Float32Array]
    recorded: Float32Array


class Seen(NamedTuple):
    """Pictures, depth and camera poses of one frame, as in `Observation`."""

    pictures: Mapping[View, UInt8Array]
    depth: Mapping[View, Float32Array] | None
    poses: CameraPoses


class OmniGibsonWorld:
    """See the module header. Envs are counted from 0.

    Attributes:
        info: Description for run.json.
        findings: Results of `check_startup`.
        num_envs: Number of envs.
        guard: Guards every call into OmniGibson.
        max_steps: Time limit of the task.
        with_depth: Whether `look` returns depth.
    """

    def __init__(
        self,
        task: Task,
        *,
        protocol: ProtocolYear,
        split: Split,
        max_steps: int,
        render: RenderMode = "on-demand",
        gpu: int | None = None,
        num_envs: int = 1,
        depth: bool = False,
        partial_scene: bool = False,
        heavy_base: bool = False,
    ) -> None:
        """Start the application and build the scene, which takes minutes.

        Args:
            task: Any task of the challenge.
            protocol: Challenge year; must be the installed one.
            split: Set that instances are taken from.
            max_steps: Time limit; an episode lasts one action more, as in the evaluator.
            render: When cameras are rendered.
            gpu: GPU, in CUDA's numbering; None for CUDA's first.
            num_envs: Number of envs; more than one with v3.9.3 only.
            depth: Whether `look` returns depth.
            partial_scene: Load only the rooms of the task; a choice in 2025, always so in 2026.
            heavy_base: Give the base 250 kg; likewise.

        Raises:
            UnavailableError: OmniGibson, its data or the right version is not installed.
            UsageError: An option that this generation does not have.
            EnvError: OmniGibson failed, or a check at the start found wrong numbers.
        """
        if render not in _RENDER_PROTOCOLS:
            raise UsageError(f"render {render!r}: choose one of {', '.join(_RENDER_PROTOCOLS)}")
        generation = installed_generation(protocol)
        if num_envs > 1 and not generation.vectorised:
            raise UsageError(
                f"{num_envs} envs in one process need OmniGibson v3.9.3 (--protocol 2026); "
                f"{generation.tag} has one"
            )
        require_scene_fixes(num_envs)
        if generation.protocol == "2026" and (partial_scene or heavy_base):
            raise UsageError(
                f"{generation.tag} always loads the rooms of the task only and gives the base "
                "250 kg: both are choices in 2025 alone"
            )
        data = find_task_data(generation, task, split)
        self.num_envs, self.max_steps = num_envs, max_steps
        self._protocol: ProtocolYear = protocol
        self.with_depth = depth
        self._render_mode: RenderMode = render
        self._data = data
        self._generation = generation
        self.guard = CallGuard()
        with self.guard.calling("starting and building the scene"):
            self._application = launch(generation, gpu=gpu)
            config = build_config(
                generation,
                task,
                data,
                num_envs=num_envs,
                max_steps=max_steps,
                partial_scene=partial_scene,
                depth=depth,
            )
            og = self._application.og
            self._env = og.Environment(configs=config)
            applied = prepare_environment(
                self._application, generation, self._env, heavy_base=heavy_base
            )
            dialect = Dialect2026 if generation.vectorised else Dialect2025
            self._dialect: Dialect = dialect(og, self._env, num_envs)
            if not generation.vectorised:
                self._switch_camera_poses_on()
            self.findings = check_startup(
                self._application, generation, self._env, heavy_base=heavy_base, depth=depth
            )
            self._age = picture_age(self.findings) if generation.vectorised else None
            if generation.vectorised and self._age is None:
                self._switch_camera_poses_on()
        self.options = self._dialect.options
        self._history = [PoseHistory() for _ in range(num_envs)]
        self._hold: list[Float32Array | None] = [None] * num_envs
        self._grippers = [(r1pro.GRIPPER_OPEN, r1pro.GRIPPER_OPEN)] * num_envs
        self._pictured = False
        self._observations: dict[int, Mapping[str, Any]] = {}
        self.info = EnvInfo(
            sim="omnigibson",
            sim_version=installed_version() or "unknown",
            protocol=protocol,
            task=task.name,
            task_index=task.index,
            control_hz=r1pro.CONTROL_HZ,
            max_steps=max_steps,
            settings={
                "split": split,
                "generation": generation.tag,
                "num_envs": num_envs,
                "render": render,
                "render_protocol": _RENDER_PROTOCOLS[render],
                "rooms": _rooms(config),
                "camera_poses_from": "renderer" if self._age is None else "prims",
                "applied": {**self._application.applied, **applied},
                "startup_checks": [asdict(finding) for finding in self.findings],
                "near_distance_m": NEAR_DISTANCE,
                **({"depth": True} if depth else {}),
            },
        )

    # --- moving ------------------------------------------------------------------------------

    def check_instance(self, instance: int) -> None:
        """Check that an instance can be loaded, without touching the world.

        Raises:
            UsageError: The split has no such index.
            UnavailableError: Its file is missing.
        """
        self.guard.check_sound()
        self._data.instance_file(instance)

    def load(self, instances: Mapping[int, int]) -> None:
        """Load instances, given by env index, all at once."""
        words = ", ".join(f"instance {i} in env {env}" for env, i in sorted(instances.items()))
        with self.guard.calling(f"loading {words}"):
            load_instances(
                self._application, self._generation, self._env, self._data, dict(instances)
            )
            for index in instances:
                self._history[index] = PoseHistory()  # no poses of the previous episode
                self._hold[index] = None
                self._grippers[index] = (r1pro.GRIPPER_OPEN, r1pro.GRIPPER_OPEN)
            self._moved()

    def advance(self, actions: Mapping[int, Float32Array]) -> dict[int, Stepped]:
        """Make one control step for all envs; those without an action hold still.

        Args:
            actions: By env index, float32 [23].

        Returns:
            The task's result for the same envs.
        """
        with self.guard.calling("a step"):
            rows = np.empty((self.num_envs, r1pro.ACTION_DIM), dtype=np.float32)
            for index in range(self.num_envs):
                action = actions.get(index)
                rows[index] = self._holding(index) if action is None else action
            for index, action in actions.items():
                self._hold[index] = None
                self._grippers[index] = (
                    float(action[r1pro.ACTION_SLICES["gripper_left"]][0]),
                    float(action[r1pro.ACTION_SLICES["gripper_right"]][0]),
                )
            if self._render_mode == "every-step":
                stepped, observations = self._dialect.step_rendered(rows)
                self._moved()
                self._observations = dict(enumerate(observations))
            else:
                stepped = self._dialect.step_unrendered(rows)
                self._moved()
            return {index: stepped[index] for index in actions}

    def _holding(self, index: int) -> Float32Array:
        """Return the action that keeps an env's robot where it was when first called.

        Columns that are not finite become 0, which the official evaluator sends to a finished env.
        """
        hold = self._hold[index]
        if hold is None:
            proprio = self.proprio(index)
            hold = r1pro.hold_action(proprio, self._protocol, *self._grippers[index])
            hold[~np.isfinite(hold)] = 0.0
            self._hold[index] = hold
        return hold

    def _moved(self) -> None:
        self._pictured = False
        self._observations = {}
        if self._render_mode == "every-step":
            self._remember()

    # --- reading -----------------------------------------------------------------------------

    def proprio(self, index: int) -> Float32Array:
        """Read proprioception, float32 [256] or [61], read-only."""
        with self.guard.calling("reading proprioception"):
            return proprio_vector(self._dialect.proprio(index), self._protocol)

    def agent(self, index: int) -> AgentPositions:
        """Read positions in the world frame."""
        with self.guard.calling("reading positions"):
            return AgentPositions(
                base=self._dialect.base_pose(index)[:3, 3].copy(),
                left_eef=self._dialect.eef_position(index, "left"),
                right_eef=self._dialect.eef_position(index, "right"),
            )

    def episode_steps(self, index: int) -> int:
        """Read the simulator's own count of an env's steps since it was loaded."""
        with self.guard.calling("reading the step counter"):
            return self._dialect.episode_steps(index)

    def start_goal(self, index: int) -> GoalRecord:
        """Return the goal record of an episode that starts now."""
        with self.guard.calling("evaluating the goal"):
            goal = GoalRecord(self.options)
            goal.start(self._dialect.literal_truths(index))
            return goal

    def goal_status(self, index: int, goal: GoalRecord, success: bool | None) -> GoalStatus:
        """Evaluate the goal; `success` as in `GoalRecord.status`."""
        with self.guard.calling("evaluating the goal"):
            return goal.status(self._dialect.literal_truths(index), success)

    def subgoals(self, index: int) -> dict[str, bool]:
        """Evaluate the sub-goals of the task."""
        with self.guard.calling("evaluating the sub-goals"):
            return subgoals.evaluate(self.info.task, SimulatorStates(self._dialect, index))

    def checks(self, index: int, variant: ProgressVariant) -> Checks:
        """Evaluate the checks of the task's progress."""
        with self.guard.calling("evaluating task progress"):
            reader = SimulatorStates(self._dialect, index)
            return task_progress.evaluate(self.info.task, reader, variant)

    # --- looking -----------------------------------------------------------------------------

    def look(self, index: int) -> Seen:
        """Return the pictures of an env and the camera poses at that time.

        With `on-demand`, the first call after a step renders all envs until their pictures show
        the present state.
        """
        with self.guard.calling("rendering"):
            if self._render_mode == "on-demand" and not self._pictured:
                self._remember()
                self._dialect.render(RENDERS_UNTIL_CURRENT)
                self._pictured = True
            observation = self._observations.get(index) or self._dialect.read(index)
            pictures = {view: picture(observation, view) for view in VIEWS}
            depth = None
            if self.with_depth:
                depth = MappingProxyType({view: depth_picture(observation, view) for view in VIEWS})
            dialect, base = self._dialect, self._dialect.base_pose(index)
            present = {view: dialect.camera_pose(index, view) for view in VIEWS}
            poses = self._frame_poses(index, present, base)
            recorded = {}
            for view in VIEWS:
                camera = dialect.recorded_camera_pose(index, view)
                recorded[view] = in_base(present[view] if camera is None else camera, base)
            return Seen(
                pictures=MappingProxyType(pictures),
                depth=depth,
                poses=CameraPoses(MappingProxyType(poses), recorded_poses(recorded)),
            )

    def _frame_poses(
        self, index: int, present: Mapping[View, Float64Array], base: Float64Array
    ) -> Mapping[View, Float32Array]:
        """Return camera-to-base poses at the time of the pictures."""
        # 2025 asks the renderer, as its evaluator does. v3.9.3 does not use `camera_parameters`,
        # whose annotators cost time at every render; there the age of pictures is measured at the
        # start, and the renderer is asked only if that measurement failed.
        if self._age is None:
            rendered = {view: self._dialect.rendered_camera_pose(index, view) for view in VIEWS}
            return frame_poses(rendered, present, base, self._history[index])
        if self._render_mode == "on-demand":
            return {view: in_base(present[view], base) for view in VIEWS}
        return self._history[index].ago(self._age)

    def camera_poses(self, index: int) -> CameraPoses:
        """Read the present camera poses, whatever the pictures show."""
        with self.guard.calling("reading camera poses"):
            base = self._dialect.base_pose(index)
            poses = {view: in_base(self._dialect.camera_pose(index, view), base) for view in VIEWS}
            return CameraPoses(MappingProxyType(poses), recorded_poses(poses))

    def _remember(self) -> None:
        """Note the poses of base and cameras, for pictures that lag behind."""
        for index, history in enumerate(self._history):
            cameras = {view: self._dialect.camera_pose(index, view) for view in VIEWS}
            history.add(self._dialect.base_pose(index), cameras)

    def _switch_camera_poses_on(self) -> None:
        """Ask the renderer for camera poses once: the first time renders four times a camera."""
        for index in range(self.num_envs):
            for view in VIEWS:
                self._dialect.rendered_camera_pose(index, view)

    # --- ending ------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the application within `SHUTDOWN_DEADLINE_S`; this may end the process."""
        if self.guard.close():
            self._application.shutdown(SHUTDOWN_DEADLINE_S)


def _rooms(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config's selection of rooms; None means all."""
    scene: Mapping[str, Any] = config["scene"]
    return {key: scene[key] for key in ("load_room_types", "load_room_instances") if key in scene}
