"""`og.sim`: steps, renders, and the pipeline that makes pictures late."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from omnigibson_double.faults import faults
from omnigibson_double.frames import Moment, moment_of
from omnigibson_double.touch import Touched

if TYPE_CHECKING:
    from omnigibson_double.scene import Scene

RENDERS_UNTIL_CURRENT = 3
"""After this many renders of an unchanged state a camera shows it."""


class Simulator(Touched):
    """The one simulator of a process."""

    def __init__(
        self,
        *,
        needs_handles: bool,
        physics_dt: float,
        rendering_dt: float,
        sim_step_dt: float,
        device: str,
        viewer_width: int,
        viewer_height: int,
    ) -> None:
        self.initial_physics_dt, self.initial_rendering_dt = physics_dt, rendering_dt
        self._sim_step_dt = sim_step_dt
        self.device = device
        self.viewer_width, self.viewer_height = viewer_width, viewer_height
        self.scenes: list[Scene] = []
        self._render_on_step = True
        self._needs_handles = needs_handles
        self._handles = True
        self._playing = False
        self._thread = threading.get_ident()
        self._frames: deque[list[Moment]] = deque(maxlen=RENDERS_UNTIL_CURRENT)
        self.renders = 0
        self.steps = 0

    # --- state ------------------------------------------------------------------------------

    def play(self) -> None:
        self.require_own_thread()
        if self._playing:
            return
        self._playing = True
        self.render()

    def stop(self) -> None:
        self.require_own_thread()
        self._playing = False
        self._handles = not self._needs_handles

    def is_playing(self) -> bool:
        return self._playing

    def is_stopped(self) -> bool:
        return not self._playing

    def update_handles(self) -> None:
        self.require_own_thread()
        self._handles = True

    def require_handles(self, what: str) -> None:
        """After stop and play, 2026 has no view of the physics until `update_handles`."""
        if not self._handles:
            raise AttributeError(
                f"{what}: 'NoneType' object has no attribute 'get_dof_positions' (physics view "
                "is gone since the simulator was stopped)"
            )

    def get_physics_dt(self) -> float:
        return self.initial_physics_dt

    def get_rendering_dt(self) -> float:
        return self.initial_rendering_dt

    def get_sim_step_dt(self) -> float:
        return self._sim_step_dt

    # --- time -------------------------------------------------------------------------------

    def step(self) -> None:
        """One action's worth of time for every scene, then one render unless switched off."""
        self.require_own_thread()
        assert self._playing, "the simulator is stopped"
        faults.strike("step")
        rules = importlib.import_module("omnigibson.transition_rules")
        gm = importlib.import_module("omnigibson.macros").gm
        for scene in self.scenes:
            for robot in scene.robots:
                robot.before_step()
            scene.physics.washer_rule_enabled = bool(
                gm.ENABLE_TRANSITION_RULES and rules.WasherRule.ENABLED
            )
            scene.physics.control_step()
            scene.forget_facts()
        self.steps += 1
        if self._render_on_step:
            self.render()

    def step_physics(self) -> None:
        """1/120 s of physics, and nothing else."""
        self.require_own_thread()
        assert self._playing, "the simulator is stopped"
        for scene in self.scenes:
            scene.remember_facts()
            scene.physics.physics_step()

    def render(self) -> None:
        """Renders, switch or no switch."""
        self.require_own_thread()
        faults.strike("render")
        self._frames.append([moment_of(scene.physics) for scene in self.scenes])
        self.renders += 1

    @contextlib.contextmanager
    def render_on_step(self, value: bool) -> Iterator[None]:
        """An exception inside leaves the switch where it was put."""
        before = self._render_on_step
        self._render_on_step = value
        yield
        self._render_on_step = before

    def in_the_picture(self, scene_index: int) -> Moment | None:
        """The moment that the cameras of a scene show: that of two renders ago."""
        if not self._frames or len(self._frames[0]) <= scene_index:
            return None
        return self._frames[0][scene_index]

    @contextlib.contextmanager
    def editing_usd(self) -> Iterator[None]:
        yield

    def import_scene(self, scenes: Any) -> None:
        self.scenes = list(scenes)
        self._frames.clear()

    def require_own_thread(self) -> None:
        if threading.get_ident() != self._thread:
            raise RuntimeError("the simulator was called from a thread that does not own it")
