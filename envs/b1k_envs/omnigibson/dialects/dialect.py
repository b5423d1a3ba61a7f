"""Every call into a running `omnigibson.Environment`, by env index, one class per generation.

Nothing here keeps state or makes decisions; `world` does that. Sources:
OmniGibson/omnigibson/{envs/env_base.py, simulator.py, tasks/behavior_task.py,
sensors/vision_sensor.py} of StanfordVL/BEHAVIOR-1K.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from b1k_envs.base import Float32Array, Float64Array, View
from b1k_envs.errors import EnvError
from b1k_envs.omnigibson.observations import (
    pose_matrix,
    rendered_camera_pose,
    sensor_name,
    to_numpy,
)
from b1k_envs.r1pro import Arm

if TYPE_CHECKING:
    import torch

RENDERS_UNTIL_CURRENT = 3
"""Camera output is asynchronous: only after this many renders does it show the present state. The
evaluators' reset renders as often."""


class Stepped(NamedTuple):
    """The termination conditions of one env after a step; both can be true.

    Attributes:
        success: Termination condition `predicate`: the goal holds.
        timed_out: Termination condition `timeout`.
    """

    success: bool
    timed_out: bool


class Dialect(ABC):
    """One environment of `num_envs` envs. It may be used only on the thread that built it.

    Attributes:
        num_envs: Number of envs.
        options: The ground goal options, each the names of its literals, as bddl prints their
            terms. Some tasks have hundreds of thousands of options of a few dozen literals, so
            each distinct name is stored once.
    """

    def __init__(self, og: ModuleType, env: Any, num_envs: int) -> None:  # noqa: ANN401
        """Bind to a running environment.

        Args:
            og: The module `omnigibson`.
            env: An `omnigibson.Environment`, not a wrapper of one.
            num_envs: How many envs it has.
        """
        self._og, self._env, self.num_envs = og, env, num_envs
        self.options = tuple(
            tuple(map(_literal_name, option)) for option in env.task.ground_goal_state_options
        )
        self._literal_count = sum(map(len, self.options))
        self._heads = self._first_heads()

    # --- where the generations differ --------------------------------------------------------

    @abstractmethod
    def robot(self, index: int) -> Any:  # noqa: ANN401 - an object of OmniGibson
        """Return the robot of an env."""

    @abstractmethod
    def step_rendered(self, actions: Float32Array) -> tuple[list[Stepped], list[Mapping[str, Any]]]:
        """Step as the official evaluator does, with one render.

        Args:
            actions: float32 [num_envs, 23].

        Returns:
            The termination conditions and the nested observation of each env.
        """

    @abstractmethod
    def step_unrendered(self, actions: Float32Array) -> list[Stepped]:
        """Do the same step without rendering and observing; the step counter advances too."""

    @abstractmethod
    def read(self, index: int) -> Mapping[str, Any]:
        """Return the nested observation with the cameras' last pictures, without rendering."""

    @abstractmethod
    def episode_steps(self, index: int) -> int:
        """Return the simulator's own count of steps since the reset."""

    @abstractmethod
    def literal_truths(self, index: int) -> dict[str, bool]:
        """Return by name whether each literal of the ground goal options holds now."""

    @abstractmethod
    def scope(self, index: int) -> Mapping[str, Any]:
        """Return the object or system of every BDDL instance; None where it has none now."""

    @abstractmethod
    def entity(self, index: int, instance: str) -> Any:  # noqa: ANN401 - an object of OmniGibson
        """Return the object or system of a BDDL instance.

        Raises:
            EnvError: The instance has none now, or is unknown.
        """

    @abstractmethod
    def recorded_camera_pose(self, index: int, view: View) -> Float64Array | None:
        """Return the camera pose that this generation's evaluator puts into `cam_rel_poses`.

        Returns:
            Camera to world, float64 [4, 4]; None if it is that of the rendered frame and no frame
            has been rendered yet.
        """

    # --- what they have in common ------------------------------------------------------------

    def instances(self, index: int) -> list[str]:
        """Return the BDDL instances that have an object or a system now."""
        return [name for name, entity in self.scope(index).items() if entity is not None]

    def scene_object(self, index: int, name: str) -> Any:  # noqa: ANN401 - an object of OmniGibson
        """Return the object of a name in the scene, whether BDDL knows it or not; None if none."""
        return self.robot(index).scene.object_registry("name", name, None)

    def scene_names(self, index: int, category: str) -> list[str]:
        """Return the names in the scene of all objects of OmniGibson's category, sorted."""
        found = self.robot(index).scene.object_registry("category", category, ())
        return sorted(str(each.name) for each in found)

    def render(self, times: int) -> None:
        """Render all cameras of all envs; no physics."""
        for _ in range(times):
            self._og.sim.render()

    @contextmanager
    def without_rendering(self) -> Iterator[None]:
        """Keep `og.sim.step` from rendering inside this block.

        The simulator's own context manager does not restore its switch after an exception, and a
        world that silently stopped rendering would be worse than one that failed.
        """
        sim = self._og.sim
        before = sim._render_on_step
        try:
            with sim.render_on_step(False):
                yield
        finally:
            sim._render_on_step = before

    def proprio(self, index: int) -> Any:  # noqa: ANN401 - a tensor
        """Return the proprioception now, without pictures."""
        return self.robot(index).get_proprioception()[0]

    def base_pose(self, index: int) -> Float64Array:
        """Return base to world, float64 [4, 4]."""
        return pose_matrix(*self.robot(index).get_position_orientation())

    def eef_position(self, index: int, arm: Arm) -> Float64Array:
        """Return the position of an end effector, world frame, float64 [3] [m]."""
        return to_numpy(self.robot(index).get_eef_position(arm)).astype("float64")

    def is_grasping(self, index: int, arm: Arm, entity: Any) -> bool:  # noqa: ANN401
        """Return whether an arm holds an object."""
        # The answer is an enumeration whose FALSE is -1, which is truthy.
        return bool(self.robot(index).is_grasping(arm, entity) > 0)

    def camera_pose(self, index: int, view: View) -> Float64Array:
        """Return camera to world now, whatever the picture shows, float64 [4, 4]."""
        return pose_matrix(*self._camera(index, view).get_position_orientation())

    def rendered_camera_pose(self, index: int, view: View) -> Float64Array | None:
        """Return camera to world in the last rendered frame, float64 [4, 4]; None before the first.

        The first access switches an annotator on, which renders four times.
        """
        parameters = self._camera(index, view).camera_parameters
        return rendered_camera_pose(parameters["cameraViewTransform"])

    def _camera(self, index: int, view: View) -> Any:  # noqa: ANN401 - an object of OmniGibson
        sensors = self.robot(index).sensors
        name = sensor_name(view)
        if name not in sensors:
            raise EnvError(f"the robot has no sensor {name}; it has {', '.join(sensors)}")
        return sensors[name]

    def _first_heads(self) -> dict[str, Any]:
        """Return by name the first literal of that name; literals of one name mean the same."""
        heads: dict[str, Any] = {}
        task = self._env.task
        for names, option in zip(self.options, task.ground_goal_state_options, strict=True):
            for name, literal in zip(names, option, strict=True):
                heads.setdefault(name, literal)
        return heads

    @staticmethod
    def _tensor(values: Float32Array) -> torch.Tensor:
        import torch

        return torch.as_tensor(values, dtype=torch.float32)


def _literal_name(literal: Any) -> str:  # noqa: ANN401 - a `HEAD` of bddl
    return sys.intern(" ".join(map(str, literal.terms)))


def outcome(done: Mapping[str, Any]) -> Stepped:
    """Read `info["done"]` of one env.

    Raises:
        EnvError: The termination conditions are not the two of the challenge.
    """
    conditions: Mapping[str, Mapping[str, bool]] = done["termination_conditions"]
    if set(conditions) != {"timeout", "predicate"}:
        raise EnvError(
            f"the task has the termination conditions {', '.join(conditions)}, expected timeout "
            "and predicate"
        )
    return Stepped(
        success=bool(conditions["predicate"]["done"]),
        timed_out=bool(conditions["timeout"]["done"]),
    )
