"""What a wrong field of a contract does to the robot, in a sentence for whoever has to find it.

A function per field says what is done and what follows; `consequence` puts in a general sentence
for the fields that have none of their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from b1k_envs.r1pro import ACTION_SLICES, CONTROL_HZ
from b1k_policies.contract.contract import EvalContract
from b1k_policies.contract.fields import FIELDS
from b1k_policies.contract.normalisation import Normalisation
from b1k_policies.contract.resolved import json_value

_Words = tuple[str, str]


def consequence(name: str, sent: EvalContract, trained: Any) -> _Words:  # noqa: ANN401 - any field's value
    """What is done in a field, and what that does to the model or the robot.

    Args:
        name: Field that departs from the training.
        sent: The contract in force.
        trained: Value of the field in training.

    Returns:
        (`504 px are sent`, `the model sees pictures of another size than it was trained on`).
    """
    words = _WORDS.get(name)
    if words is not None:
        return words(sent, trained)
    value = in_words(name, getattr(sent, name))
    if FIELDS[name].effect == "bytes":
        return f"{value} is sent", "the model is shown something else than it was trained on"
    return f"{value} is used", "the model's numbers are read as something that they do not mean"


def in_words(name: str, value: Any) -> str:  # noqa: ANN401 - any field's value
    """A field's value as people write it."""
    return shown(json_value(name, value))


def shown(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """A JSON value as people write it; figures to 0.001."""
    if isinstance(value, list) and all(isinstance(entry, float) for entry in value):
        value = [round(entry, 3) for entry in value]
    if isinstance(value, list) and all(isinstance(entry, (str, int, float)) for entry in value):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def column_name(column: int) -> str:
    """A column of the robot's action, e.g. `arm_left joint 4`."""
    for part, columns in ACTION_SLICES.items():
        if columns.start <= column < columns.stop:
            if part == "base":
                return ("base vx", "base vy", "base yaw rate")[column]
            joint = f" joint {column - columns.start + 1}"
            return part + (joint if columns.stop - columns.start > 1 else "")
    raise ValueError(f"the action has no column {column}")


# --- pictures ------------------------------------------------------------------------------------


def _image_size(sent: EvalContract, trained: int) -> _Words:
    return (
        f"{sent.image_size} px are sent",
        "the model sees pictures of another size than it was trained on",
    )


def _resize_filter(sent: EvalContract, trained: str) -> _Words:
    return (
        f"pictures are shrunk by {sent.resize_filter}",
        f"edges and fine structure are softer or harsher than the {trained} ones of the training",
    )


def _resize_antialias(sent: EvalContract, trained: bool) -> _Words:
    if trained:
        return (
            "pictures are shrunk without antialiasing, as OpenCV's INTER_CUBIC does",
            "fine structure turns into jagged edges and stripes that the model never learnt",
        )
    return (
        "pictures are shrunk with antialiasing, as PIL does",
        "they are smoother than those of the training, which were shrunk as OpenCV does",
    )


def _colour_order(sent: EvalContract, trained: str) -> _Words:
    return (
        f"{sent.colour_order.upper()} is sent",
        "red and blue are swapped: the model takes an orange thing for a blue one",
    )


def _view_order(sent: EvalContract, trained: tuple[str, ...]) -> _Words:
    swapped = ", ".join(
        f"the {ours} picture where it learnt {theirs}"
        for ours, theirs in zip(sent.view_order, trained, strict=False)
        if ours != theirs
    )
    return f"{', '.join(sent.view_order)} is sent", f"the model sees {swapped or 'other views'}"


# --- where the cameras are -----------------------------------------------------------------------


def _scale_intrinsics(sent: EvalContract, trained: bool) -> _Words:
    view, size = sent.view_order[0], sent.image_size
    k = sent.intrinsics(view)
    native = next(camera.size for camera in sent.native_intrinsics if camera.view == view)
    figures = f"{view}: fx {k[0, 0]:.1f}, cx {k[0, 2]:.1f} for a picture of {size} px"
    if sent.scale_intrinsics:
        return f"K is sent scaled to the picture ({figures})", "the model learnt the native K"
    factor = native / size
    return (
        f"K is sent unscaled ({figures})",
        f"the model takes the {view} camera's focal length to be {factor:.1f} times what it is, "
        f"and its optical axis to be at pixel {k[0, 2]:.0f} of {size}",
    )


def _extrinsics_rows(sent: EvalContract, trained: tuple[str, ...]) -> _Words:
    moved = ", ".join(
        f"image {view} gets the pose of {ours}, in training it had that of {theirs}"
        for view, ours, theirs in zip(sent.view_order, sent.extrinsics_rows, trained, strict=False)
        if ours != theirs
    )
    return (
        f"the poses of {', '.join(sent.extrinsics_rows)} are sent",
        f"the model places pictures in space where it did not learn them: {moved}",
    )


def _extrinsics_direction(sent: EvalContract, trained: str) -> _Words:
    return (
        f"{sent.extrinsics_direction} is sent",
        "every pose is the inverse of what the model takes it for: cameras and robot base change "
        "places",
    )


def _camera_axes(sent: EvalContract, trained: str) -> _Words:
    return (
        f"poses with {sent.camera_axes} axes are sent",
        "y and z of every camera point the other way: to the model each camera looks backwards "
        "and is upside down",
    )


def _posed(sent: EvalContract, trained: bool) -> _Words:
    if trained:
        return "no poses and no K are sent", "the model learnt with them and now works without"
    return "poses and K are sent", "the model learnt without them"


# --- the robot's state ---------------------------------------------------------------------------


def _proprio_parts(sent: EvalContract, trained: tuple[str, ...]) -> _Words:
    first = next(
        (f"{ours} where it learnt {theirs}"
         for ours, theirs in zip(sent.proprio_parts, trained, strict=False) if ours != theirs),
        "other parts",
    )  # fmt: skip
    return (
        f"the state is sent as {', '.join(sent.proprio_parts)}",
        f"the model reads {first}, and offsets are added to another joint's position",
    )


def _gripper_proprio(sent: EvalContract, trained: str) -> _Words:
    open_as = {"signed": "+1", "fraction": "1", "sum": "0.1"}
    closed_as = {"signed": "-1", "fraction": "0", "sum": "0"}
    ours = sent.gripper_proprio
    return (
        f"{ours} is sent",
        f"a closed gripper reads {closed_as[ours]} and an open one {open_as[ours]}, the model "
        f"learnt {closed_as[trained]} and {open_as[trained]}",
    )


def _base_qvel_frame(sent: EvalContract, trained: str) -> _Words:
    return (
        f"base_qvel is sent {_of_frame(sent.base_qvel_frame)}",
        "once the robot has turned, the model reads other speeds than in training, which had it "
        f"{_of_frame(trained)}",
    )


def _of_frame(frame: str) -> str:
    return {"world": "in world-fixed axes", "robot": "in the robot's frame"}.get(
        frame, "as the protocol records it"
    )


def _proprio_normalisation(sent: EvalContract, trained: Normalisation | None) -> _Words:
    return (
        f"the state is sent {_normalised(sent.proprio_normalisation)}",
        f"the model learnt it {_normalised(trained)}",
    )


def _normalised(value: Normalisation | None) -> str:
    return "as it is" if value is None else f"normalised by {value.kind.replace('_', ' and ')}"


# --- what comes back -----------------------------------------------------------------------------


def _delta_spec(sent: EvalContract, trained: tuple[int, ...]) -> _Words:
    learnt = np.concatenate([np.full(abs(run), run > 0) for run in trained])
    ours = sent.delta_mask
    robots = np.argsort(sent.robot_columns)  # model's column to robot's
    added = _columns(robots[np.flatnonzero(ours & ~learnt)])
    left = _columns(robots[np.flatnonzero(~ours & learnt)])
    texts = []
    if added:
        texts.append(f"the commands of {added} are taken for offsets and get the position added")
    if left:
        texts.append(f"the offsets of {left} are executed as positions: the joints go towards 0")
    spec = ", ".join(map(str, sent.delta_spec))
    return f"offsets are read by ({spec})", "; ".join(texts)


def _columns(columns: Any) -> str:  # noqa: ANN401 - an array of indices
    names = [column_name(int(column)) for column in columns]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _action_normalisation(sent: EvalContract, trained: Normalisation | None) -> _Words:
    return (
        f"actions are read {_normalised(sent.action_normalisation)}",
        f"the model gives them {_normalised(trained)}",
    )


def _steps_per_row(sent: EvalContract, trained: int) -> _Words:
    return (
        f"each row is commanded for {sent.steps_per_row / CONTROL_HZ:.3f} s",
        f"in training it stood for {trained / CONTROL_HZ:.3f} s: the robot moves "
        f"{trained / sent.steps_per_row:.3g} times as fast as it learnt",
    )


def _gripper_threshold(sent: EvalContract, trained: float | None) -> _Words:
    ours = sent.gripper_threshold
    done = (
        "gripper commands are executed as they are"
        if ours is None
        else f"gripper commands from {ours:g} up open, others close"
    )
    if trained is None:
        return done, "the model's commands between open and closed are lost"
    return done, f"the model's are meant to open from {trained:g} up"


def _geometry_size(sent: EvalContract, trained: int | None) -> _Words:
    return (
        f"{sent.geometry_size} px are taken for the size inside the geometry encoder",
        "the contract is of another model",
    )


def _first_action(sent: EvalContract, trained: int) -> _Words:
    ahead = sent.first_action - trained
    steps = f"{abs(ahead)} control step{'s' if abs(ahead) > 1 else ''}"
    seconds = f"{abs(ahead) / CONTROL_HZ:.3f} s"
    first = f"execution starts at row {sent.first_action} of each chunk"
    if ahead > 0:
        return first, (
            f"the next action is thrown away, and everything after it comes {steps} ({seconds}) "
            "too early"
        )
    return first, (
        f"an action that was already commanded is commanded again, and everything after it comes "
        f"{steps} ({seconds}) too late"
    )


def _progress_output(sent: EvalContract, trained: str) -> _Words:
    ours = sent.progress_output
    if ours == "none":
        return "the progress head is not read", "the progress column stays empty"
    if trained == "none":
        return f"progress is read as a {ours}", "the model has no progress head that means anything"
    if ours == "logit":
        return (
            "a sigmoid is applied to what the progress head gives",
            "that is a probability already: the double sigmoid squeezes it into [0.5, 0.73]",
        )
    return (
        "what the progress head gives is taken for a probability",
        "it is a logit and the sigmoid is missing: 0 means half done, and what lies outside "
        "[0, 1] cannot be shown",
    )


_WORDS: Mapping[str, Callable[[EvalContract, Any], _Words]] = MappingProxyType(
    {
        "image_size": _image_size,
        "geometry_size": _geometry_size,
        "resize_filter": _resize_filter,
        "resize_antialias": _resize_antialias,
        "colour_order": _colour_order,
        "view_order": _view_order,
        "scale_intrinsics": _scale_intrinsics,
        "extrinsics_rows": _extrinsics_rows,
        "extrinsics_direction": _extrinsics_direction,
        "camera_axes": _camera_axes,
        "posed": _posed,
        "proprio_parts": _proprio_parts,
        "gripper_proprio": _gripper_proprio,
        "base_qvel_frame": _base_qvel_frame,
        "proprio_normalisation": _proprio_normalisation,
        "action_normalisation": _action_normalisation,
        "delta_spec": _delta_spec,
        "first_action": _first_action,
        "steps_per_row": _steps_per_row,
        "gripper_threshold": _gripper_threshold,
        "progress_output": _progress_output,
    }
)
