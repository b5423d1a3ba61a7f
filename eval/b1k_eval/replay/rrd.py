"""Writing a replayed episode as a file for the Rerun viewer (.rrd).

Two timelines: `step`, 0 before the first action, and `time`, simulated [s]. Entities:

- `world`, z up; `world/base`, the robot's base; below it `cameras/VIEW` with pose and K, the
  picture in `cameras/VIEW/picture`, and `left_eef`, `right_eef`, all in the base frame;
- `joints/PART` [rad, m], `action/PART` and, with action noise, `command/PART`: units as in
  `b1k_envs.r1pro`;
- `goal/q_score`, `goal/predicates`, `goal/subgoals` of the replay, 1 for true;
- `policy/skill`, `skill_index`, `skill_probability`, `progress`, `latency` [s], as recorded, if the
  trace has them; the skill's name only where it changes;
- `events`: sub-goals reached, and the first difference from the trace;
- `episode`: a description, and whether the replay equals the trace.

Actions, commands and reports are at the state that they led to, as in the trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from b1k_envs.base import VIEWS, Env, Float32Array, Float64Array, UInt8Array
from b1k_envs.errors import EnvError, UsageError
from b1k_envs.r1pro import (
    ACTION_SLICES,
    ARMS,
    CAM_REL_POSES_ORDER,
    CAMERAS,
    CONTROL_HZ,
    PROPRIO_LAYOUTS,
)
from b1k_eval.files import TEMP_PREFIX
from b1k_eval.records.columns import COLUMNS, SUBGOAL_PREFIX, TRUTHS
from b1k_eval.records.store import StorageError
from b1k_eval.replay.recorded import Recorded
from b1k_eval.replay.retrace import ReplayComparison, Replayed
from b1k_eval.replay.rrd_layout import (
    ACTION_NAMES,
    BASE,
    JOINT_NAMES,
    blueprint,
    camera,
    import_rerun,
)
from b1k_eval.video.text import import_cv2

if TYPE_CHECKING:
    from b1k_envs.mujoco_twin.truth import TwinTruth

DEFAULT_EVERY = 3
"""Control steps from one picture to the next: ten pictures per simulated second."""

_FLUSH_S = 60.0  # for what is left to write at the end, some hundred kilobytes
_JPEG_QUALITY = 85
_FRUSTUM_DEPTH_M = 0.15
_HAND_RADIUS_M = 0.02
_HAND_COLOURS = {"left": (70, 130, 255), "right": (235, 170, 60)}


def check_target(path: Path) -> None:
    """Check the path before anything is executed, and make its folder.

    Raises:
        UsageError: The name does not end in .rrd, or the folder cannot be made.
        UnavailableError: rerun-sdk cannot be imported or is too old.
    """
    if path.suffix != ".rrd":
        raise UsageError(f"--rerun {path} must end in .rrd")
    import_rerun()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--rerun {path}: its folder cannot be made ({error.strerror})") from error


class RrdWriter:
    """Writes one replay: call `watch` during it, `finish` after it, `close` in any case."""

    def __init__(
        self, path: Path, env: Env, recorded: Recorded, *, title: str, every: int = DEFAULT_EVERY
    ) -> None:
        """Open the file under a temporary name.

        Args:
            path: Final path; `check_target` has passed.
            env: The twin that the episode is executed in.
            recorded: The episode.
            title: Names run and policy.
            every: Control steps from one picture to the next.

        Raises:
            UnavailableError: rerun-sdk or OpenCV cannot be imported.
            StorageError: The file cannot be opened.
        """
        self.path = path
        self._env = env
        self._recorded = recorded
        self._title = title
        self._every = every
        self._proprio: list[Float32Array] = []
        self._cameras: list[Float32Array] = []  # `Observation.cam_rel_poses`
        self._bases: list[Float64Array] = []  # x, y [m], yaw [rad], world frame
        self._cv2 = import_cv2()
        self._rr = import_rerun()
        self._temp = path.with_name(f"{TEMP_PREFIX}{path.name}")
        self._recording = self._rr.RecordingStream("b1k-eval")
        try:
            self._recording.save(str(self._temp))
        except (OSError, RuntimeError) as error:
            self.close()
            raise self._unwritable(error) from error
        self._recording.send_blueprint(blueprint(with_commands=recorded.commands is not None))
        self._send_fixed()

    def watch(self, step: int) -> None:
        """Keep the state after a step; pictures, which would fill the memory, are written at once.

        Raises:
            EnvError: A picture cannot be compressed.
        """
        due = step % self._every == 0 or step == len(self._recorded.actions)
        observation = self._env.observe(images=due)
        truth: TwinTruth = self._env.privileged_state()
        self._proprio.append(observation.proprio)
        self._cameras.append(observation.cam_rel_poses)
        self._bases.append(truth.base)
        for view, picture in observation.images.items():
            columns = self._rr.EncodedImage.columns(
                blob=[self._jpeg(picture)], media_type=["image/jpeg"]
            )
            self._send(f"{camera(view)}/picture", [step], columns)

    def finish(self, replayed: Replayed, comparison: ReplayComparison) -> None:
        """Write everything but the pictures, and give the file its name.

        Raises:
            StorageError: The disk is full or cannot be written.
        """
        self._send_robot()
        self._send_actions("action", self._recorded.actions)
        if self._recorded.commands is not None:
            self._send_actions("command", self._recorded.commands)
        self._send_goal(replayed)
        self._send_words()
        self._send_events(replayed, comparison)
        text = self._rr.TextDocument(
            self._document(comparison), media_type=self._rr.MediaType.MARKDOWN
        )
        self._fix("episode", text)
        try:
            # A full disk is reported here or not at all; see `rrd_layout.MIN_VERSION`. On one the
            # library has been seen to wait for its own thread for ever.
            self._recording.flush(timeout_sec=_FLUSH_S)
            self._recording.disconnect()
            self._temp.replace(self.path)
        except (OSError, RuntimeError) as error:
            raise self._unwritable(error) from error

    def close(self) -> None:
        """Close the file, and remove it if it is not finished; safe to call twice."""
        self._recording.disconnect()
        self._temp.unlink(missing_ok=True)

    # --- what is sent -----------------------------------------------------------------------

    def _send_fixed(self) -> None:
        """Send what does not change: axes, camera intrinsics, markers of the hands."""
        rr = self._rr
        self._fix("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP)
        for view in VIEWS:
            lens = CAMERAS[view]
            pinhole = rr.Pinhole(
                image_from_camera=lens.intrinsics,
                resolution=[lens.size, lens.size],
                camera_xyz=rr.ViewCoordinates.RUB,  # the USD axes of `Observation`
                image_plane_distance=_FRUSTUM_DEPTH_M,
            )
            self._fix(camera(view), pinhole)
        for arm in ARMS:
            mark = rr.Points3D([[0, 0, 0]], radii=_HAND_RADIUS_M, colors=[_HAND_COLOURS[arm]])
            self._fix(f"{BASE}/{arm}_eef", mark)

    def _send_robot(self) -> None:
        """Send poses and joints, from step 0 on."""
        steps = range(len(self._bases))
        bases, proprio = np.array(self._bases), np.array(self._proprio)
        x, y, yaw = bases.T
        zeros = np.zeros_like(yaw)
        # The twin's base moves in the plane of the floor, z = 0, and turns about z only.
        quaternions = np.stack((zeros, zeros, np.sin(yaw / 2), np.cos(yaw / 2)), axis=1)
        self._send_poses(BASE, np.stack((x, y, zeros), axis=1), quaternions)
        blocks = np.array(self._cameras).reshape(len(steps), len(CAM_REL_POSES_ORDER), 7)
        for block, view in enumerate(CAM_REL_POSES_ORDER):
            self._send_poses(camera(view), blocks[:, block, :3], blocks[:, block, 3:])
        layout = PROPRIO_LAYOUTS[self._env.info.protocol]
        for arm in ARMS:
            position, quat = (proprio[:, layout[f"eef_{arm}_{what}"]] for what in ("pos", "quat"))
            self._send_poses(f"{BASE}/{arm}_eef", position, quat)
        for part, names in JOINT_NAMES.items():
            self._send_curves(f"joints/{part}", steps, proprio[:, layout[f"{part}_qpos"]], names)

    def _send_actions(self, kind: str, rows: Float32Array) -> None:
        """Send actions or commands, float32 [N, 23]."""
        for part, columns in ACTION_SLICES.items():
            values = rows[:, columns]
            self._send_curves(f"{kind}/{part}", range(1, len(rows) + 1), values, ACTION_NAMES[part])

    def _send_goal(self, replayed: Replayed) -> None:
        states = replayed.states
        q_score = states.numbers["q_score"][:, None]
        self._send_curves("goal/q_score", range(1, states.steps + 1), q_score, ("q-score",))
        for column in TRUTHS:
            prefix = column.name
            found = {n[len(prefix) :]: v for n, v in states.truths.items() if n.startswith(prefix)}
            if found:  # a task may have no sub-goals
                values = np.stack(list(found.values()), axis=1).astype(np.float64)
                entity = f"goal/{prefix[:-1]}s"
                self._send_curves(entity, range(len(values)), values, tuple(found))

    def _send_words(self) -> None:
        words = self._recorded.words
        steps = np.arange(1, len(self._recorded.actions) + 1)
        for column in COLUMNS:
            if column.rerun is None:
                continue
            entity, values = column.rerun[0], words[column.name].astype(np.float64)
            if column.kind.startswith("int"):
                values[values < 0] = np.nan  # null in the trace
            said = ~np.isnan(values)
            if said.any():
                self._send_curves(
                    f"policy/{entity}", steps[said].tolist(), values[said][:, None], (entity,)
                )
        skills = words["skill"].tolist()
        changes = [
            (step, skill)
            for step, skill, before in zip(steps.tolist(), skills, [None, *skills], strict=False)
            if skill is not None and skill != before
        ]
        self._send_log("policy/skill", [(step, skill, "INFO") for step, skill in changes])

    def _send_events(self, replayed: Replayed, comparison: ReplayComparison) -> None:
        events = [
            (int(np.argmax(holds)), f"{name[len(SUBGOAL_PREFIX) :]} reached", "INFO")
            for name, holds in replayed.states.truths.items()
            if name.startswith(SUBGOAL_PREFIX) and holds.any()
        ]
        if comparison.first_step is not None:
            what = ", ".join(difference.what for difference in comparison.first)
            events.append((comparison.first_step, f"not as recorded: {what}", "ERROR"))
        self._send_log("events", sorted(events))

    def _document(self, comparison: ReplayComparison) -> str:
        episode = self._recorded.episode
        verdict = "the replay equals its trace"
        if comparison.first_step is not None:
            verdict = f"**the replay is not as recorded from step {comparison.first_step} on**"
        q_score = "none" if episode.q_score is None else f"{episode.q_score:.2f}"
        rows = (
            ("run", self._title),
            ("outcome", episode.outcome + (f" ({episode.message})" if episode.message else "")),
            ("q-score", q_score),
            ("steps", f"{episode.steps}"),
            ("seed", f"{episode.seed}"),
            ("check", verdict),
        )
        return "\n".join([f"# {episode.name}", "", *(f"- {name}: {text}" for name, text in rows)])

    # --- how it is sent ---------------------------------------------------------------------

    def _send_poses(self, entity: str, positions: Any, quaternions: Any) -> None:  # noqa: ANN401
        """Send poses in the parent's frame from step 0 on: [M, 3] [m] and [M, 4] x, y, z, w."""
        columns = self._rr.Transform3D.columns(translation=positions, quaternion=quaternions)
        self._send(entity, range(len(positions)), columns)

    def _send_curves(
        self,
        entity: str,
        steps: Sequence[int],
        values: Any,  # noqa: ANN401 - float [M, K]
        names: Sequence[str],
    ) -> None:
        """Send K curves under one entity."""
        self._fix(entity, self._rr.SeriesLines(names=list(names)))
        self._send(entity, steps, self._rr.Scalars.columns(scalars=np.ascontiguousarray(values)))

    def _send_log(self, entity: str, lines: Sequence[tuple[int, str, str]]) -> None:
        """Send lines of (step, text, level)."""
        if lines:
            steps, texts, levels = zip(*lines, strict=True)
            columns = self._rr.TextLog.columns(text=texts, level=levels)
            self._send(entity, steps, columns)

    def _send(self, entity: str, steps: Sequence[int], columns: Any) -> None:  # noqa: ANN401
        """Send rows on both timelines; `strict`, as rerun would only warn of a mistake."""
        if not len(steps):  # the world failed in the first step
            return
        numbers = np.asarray(steps, dtype=np.int64)
        indexes = [
            self._rr.TimeColumn("step", sequence=numbers),
            self._rr.TimeColumn("time", duration=numbers / CONTROL_HZ),
        ]
        self._recording.send_columns(entity, indexes, columns, strict=True)

    def _fix(self, entity: str, what: Any) -> None:  # noqa: ANN401 - any archetype
        """Send something that holds at all times."""
        self._recording.log(entity, what, static=True, strict=True)

    def _jpeg(self, picture: UInt8Array) -> bytes:
        quality = [self._cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        done, data = self._cv2.imencode(".jpg", picture[:, :, ::-1], quality)  # OpenCV wants BGR
        if not done:
            raise EnvError(f"a picture of {list(picture.shape)} cannot be compressed to JPEG")
        return bytes(data)

    def _unwritable(self, error: Exception) -> StorageError:
        return StorageError(
            f"--rerun {self.path} cannot be written ({error}): free some space, or choose another "
            "folder"
        )
