"""What a wrong field of a contract does to the robot, where one sentence cannot say it.

Each function says what the contract in force does in one field, and what follows for a model that
was trained otherwise. The rows of `fields` name these functions.
"""
# ruff: noqa: D103 - the header says what each function does; its name says of which field

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from b1k_envs.r1pro import ACTION_SLICES, CONTROL_HZ
from b1k_policies.contract.codecs import as_text

if TYPE_CHECKING:
    from b1k_policies.contract.contract import EvalContract
    from b1k_policies.contract.normalisation import Normalisation

Words = tuple[str, str]
"""(what is done, what that does to the model or the robot)."""
Wrong = Words | Mapping[Any, Words] | Callable[["EvalContract", Any], Words]
"""Texts with {ours} (in capitals: {OURS}) and {trained} to fill in, one for every value or by the
value in training; or a function that makes them from the contract in force and that value."""

SENT: Words = ("{ours} is sent", "the model is shown something else than it was trained on")
USED: Words = ("{ours} is used", "the model's numbers are read as something that they do not mean")
"""What is said of a field without words of its own."""


def shown(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return a JSON value as it stands in a sentence, with figures rounded to 0.001."""
    if isinstance(value, list) and all(isinstance(entry, float) for entry in value):
        value = [round(entry, 3) for entry in value]
    return "null" if value is None else as_text(value)


def column_name(column: int) -> str:
    """Return the name of a column of the robot's action, such as `arm_left joint 4`.

    Raises:
        ValueError: The action has no such column.
    """
    for part, columns in ACTION_SLICES.items():
        if columns.start <= column < columns.stop:
            if part == "base":
                return ("base vx", "base vy", "base yaw rate")[column]
            joint = f" joint {column - columns.start + 1}"
            return part + (joint if columns.stop - columns.start > 1 else "")
    raise ValueError(f"the action has no column {column}")


# --- pictures and cameras ------------------------------------------------------------------------


def view_order(sent: EvalContract, trained: tuple[str, ...]) -> Words:
    swapped = ", ".join(
        f"the {ours} picture where it learnt {theirs}"
        for ours, theirs in zip(sent.view_order, trained, strict=False)
        if ours != theirs
    )
    return f"{', '.join(sent.view_order)} is sent", f"the model sees {swapped or 'other views'}"


def scale_intrinsics(sent: EvalContract, trained: bool) -> Words:
    view, size = sent.view_order[0], sent.image_size
    k = sent.intrinsics(view)
    native = next(camera.size for camera in sent.native_intrinsics if camera.view == view)
    figures = f"{view}: fx {k[0, 0]:.1f}, cx {k[0, 2]:.1f} for a picture of {size} px"
    if sent.scale_intrinsics:
        return f"K is sent scaled to the picture ({figures})", "the model learnt the native K"
    return (
        f"K is sent unscaled ({figures})",
        f"the model takes the {view} camera's focal length to be {native / size:.1f} times what "
        f"it is, and its optical axis to be at pixel {k[0, 2]:.0f} of {size}",
    )


def extrinsics_rows(sent: EvalContract, trained: tuple[str, ...]) -> Words:
    moved = ", ".join(
        f"image {view} gets the pose of {ours}, in training it had that of {theirs}"
        for view, ours, theirs in zip(sent.view_order, sent.extrinsics_rows, trained, strict=False)
        if ours != theirs
    )
    return (
        f"the poses of {', '.join(sent.extrinsics_rows)} are sent",
        f"the model places pictures in space where it did not learn them: {moved}",
    )


# --- the robot's state ---------------------------------------------------------------------------


def proprio_parts(sent: EvalContract, trained: tuple[str, ...]) -> Words:
    first = next(
        (f"{ours} where it learnt {theirs}"
         for ours, theirs in zip(sent.proprio_parts, trained, strict=False) if ours != theirs),
        "other parts",
    )  # fmt: skip
    return (
        f"the state is sent as {', '.join(sent.proprio_parts)}",
        f"the model reads {first}, and offsets are added to another joint's position",
    )


def gripper_proprio(sent: EvalContract, trained: str) -> Words:
    ends = {"signed": ("-1", "+1"), "fraction": ("0", "1"), "sum": ("0", "0.1")}
    (closed, opened), (learnt_closed, learnt_open) = ends[sent.gripper_proprio], ends[trained]
    return (
        f"{sent.gripper_proprio} is sent",
        f"a closed gripper reads {closed} and an open one {opened}, the model learnt "
        f"{learnt_closed} and {learnt_open}",
    )


def base_qvel_frame(sent: EvalContract, trained: str) -> Words:
    frames = {"world": "in world-fixed axes", "robot": "in the robot's frame",
              "as_recorded": "as the protocol records it"}  # fmt: skip
    return (
        f"base_qvel is sent {frames[sent.base_qvel_frame]}",
        "once the robot has turned, the model reads other speeds than in training, which had it "
        f"{frames[trained]}",
    )


def normalised_state(sent: EvalContract, trained: Normalisation | None) -> Words:
    return (
        f"the state is sent {_normalised(sent.proprio_normalisation)}",
        f"the model learnt it {_normalised(trained)}",
    )


def _normalised(value: Normalisation | None) -> str:
    return "as it is" if value is None else f"normalised by {value.kind.replace('_', ' and ')}"


def skill_progress(sent: EvalContract, trained: float | str | None) -> Words:
    told: dict[float | str | None, str] = {
        None: "no progress",
        "previous": "its own last progress",
    }
    ours, theirs = (
        told.get(value, f"a progress of {value}") for value in (sent.skill_progress, trained)
    )
    return f"the model is told {ours}", f"it learnt to be told {theirs}, and may lose its place"


# --- what comes back -----------------------------------------------------------------------------


def normalised_actions(sent: EvalContract, trained: Normalisation | None) -> Words:
    return (
        f"actions are read {_normalised(sent.action_normalisation)}",
        f"the model gives them {_normalised(trained)}",
    )


def delta_spec(sent: EvalContract, trained: tuple[int, ...]) -> Words:
    learnt = np.concatenate([np.full(abs(run), run > 0) for run in trained])
    robots = np.argsort(sent.robot_columns)  # inverse permutation: model's column to robot's

    def columns(chosen: Any) -> str:  # noqa: ANN401 - an array of bool
        names = [column_name(int(column)) for column in robots[np.flatnonzero(chosen)]]
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

    added, left = columns(sent.delta_mask & ~learnt), columns(~sent.delta_mask & learnt)
    texts = []
    if added:
        texts.append(f"the commands of {added} are taken for offsets and get the position added")
    if left:
        texts.append(f"the offsets of {left} are executed as positions: the joints go towards 0")
    spec = ", ".join(map(str, sent.delta_spec))
    return f"offsets are read by ({spec})", "; ".join(texts)


def first_action(sent: EvalContract, trained: int) -> Words:
    ahead = sent.first_action - trained
    steps = f"{abs(ahead)} control step{'s' if abs(ahead) > 1 else ''}"
    came = f"and everything after it comes {steps} ({abs(ahead) / CONTROL_HZ:.3f} s)"
    first = f"execution starts at row {sent.first_action} of each chunk"
    if ahead > 0:
        return first, f"the next action is thrown away, {came} too early"
    return first, f"an action that was already commanded is commanded again, {came} too late"


def steps_per_row(sent: EvalContract, trained: int) -> Words:
    return (
        f"each row is commanded for {sent.steps_per_row / CONTROL_HZ:.3f} s",
        f"in training it stood for {trained / CONTROL_HZ:.3f} s: the robot moves "
        f"{trained / sent.steps_per_row:.3g} times as fast as it learnt",
    )


def gripper_threshold(sent: EvalContract, trained: float | None) -> Words:
    ours = sent.gripper_threshold
    done = (
        "gripper commands are executed as they are"
        if ours is None
        else f"gripper commands from {ours:g} up open, others close"
    )
    if trained is None:
        return done, "the model's commands between open and closed are lost"
    return done, f"the model's are meant to open from {trained:g} up"


def progress_output(sent: EvalContract, trained: str) -> Words:
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
