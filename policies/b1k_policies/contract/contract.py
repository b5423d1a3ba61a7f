"""The evaluation contract: what decides which bytes a model sees and what its numbers mean.

A checkpoint that runs under another's contract fails without an error: wrong size, wrong
intrinsics, poses of the wrong camera, actions off by one row. So all of this is one value that is
checked when built, printed, compared field by field and recorded with the run. `fields` says what
each field is, `presets` has the known contracts; this module has what follows from the fields.

Source: action columns and proprio slices of BEHAVIOR-1K (`b1k_envs.r1pro`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from b1k_envs.base import Float64Array, View
from b1k_envs.r1pro import (
    ACTION_DIM,
    ACTION_SLICES,
    CONTROL_HZ,
    FINGER_TRAVEL,
    PROPRIO_2025,
)
from b1k_policies.contract.codecs import ContractValueError
from b1k_policies.contract.fields import (
    FIELDS,
    FORMAT,
    ContractFields,
    Effect,
    Sure,
    check_keys,
    completed,
    decode_value,
)

PARTS: tuple[str, ...] = tuple(ACTION_SLICES)
_GRIPPER_PARTS = ("gripper_left_qpos", "gripper_right_qpos")
_ACTION_OF_PROPRIO: Mapping[str, str] = MappingProxyType(
    {"base_qvel": "base", **{f"{part}_qpos": part for part in PARTS if part != "base"}}
)
_GRIPPER_TRAVEL = 2 * FINGER_TRAVEL
# (slope [1/m], offset) applied to the sum of a gripper's two finger openings, 0 to 0.10 m.
_GRIPPER_SCALING: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"signed": (2 / _GRIPPER_TRAVEL, -1.0), "fraction": (1 / _GRIPPER_TRAVEL, 0.0),
     "sum": (1.0, 0.0)}
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class EvalContract(ContractFields):
    """The evaluation contract of one checkpoint. Hashable, picklable, compared by value.

    The meaning of every field is in `FIELDS` (and in docs/contract.md). Lists given to the
    constructor become tuples.

    Raises:
        ContractValueError: A value is of the wrong kind, or two fields cannot both hold.
    """

    def __post_init__(self) -> None:
        # The dataclass is frozen, so canonical values go in past its own setattr.
        for info in FIELDS.values():
            value = decode_value(info.name, getattr(self, info.name))
            object.__setattr__(self, info.name, value)
        self._check_together()

    def _check_together(self) -> None:
        views = self.view_order
        cameras = {camera.view for camera in self.native_intrinsics}
        problems = (
            (set(self.extrinsics_rows) != set(views),
             f"extrinsics_rows names {', '.join(self.extrinsics_rows)}, "
             f"view_order {', '.join(views)}: they must be the same views"),
            (not set(views) <= cameras,
             f"native_intrinsics lacks {', '.join(v for v in views if v not in cameras)}"),
            (sum(map(abs, self.delta_spec)) != ACTION_DIM,
             f"delta_spec covers {sum(map(abs, self.delta_spec))} columns, "
             f"the action has {ACTION_DIM}"),
            (any(run > 0 for run in self.delta_spec) and self.proprio_dim != ACTION_DIM,
             f"proprio_parts give {self.proprio_dim} numbers, but offsets are added to them "
             f"column by column: they must be {ACTION_DIM}"),
            (max(self.proprio_mask, default=-1) >= self.proprio_dim,
             f"proprio_mask names column {max(self.proprio_mask, default=-1)}, but the proprio's "
             f"last is {self.proprio_dim - 1}"),
            (bool(self.proprio_mask) and self.proprio_normalisation is not None,
             "proprio_mask and proprio_normalisation are both given, and which comes first is "
             "nowhere said: leave one out"),
            *(
                (stated is not None and len(stated.first) != width,
                 f"{name} has {len(stated.first) if stated else 0} columns, {what} has {width}")
                for name, stated, what, width in (
                    ("proprio_normalisation", self.proprio_normalisation, "the proprio",
                     self.proprio_dim),
                    ("action_normalisation", self.action_normalisation, "the action", ACTION_DIM),
                )
            ),
            (self.skill_progress == "previous" and self.progress_output == "none",
             "skill_progress is previous, but progress_output none: there is no progress to send"),
            (self.first_action >= self.chunk_length,
             f"first_action is {self.first_action}, but a chunk ends at row "
             f"{self.chunk_length - 1}"),
            (self.skill_names is not None and len(self.skill_names) != self.skill_count,
             f"skill_names gives {len(self.skill_names or ())} names, "
             f"skill_count says {self.skill_count}"),
        )  # fmt: skip
        for wrong, text in problems:
            if wrong:
                raise ContractValueError(f"contract {self.name!r}: {text}")

    # --- what follows from the fields -------------------------------------------------------

    def intrinsics(self, view: View) -> Float64Array:
        """Return K as sent for a view, float64 [3, 3] [px], OpenCV axes; see `scale_intrinsics`."""
        camera = next(c for c in self.native_intrinsics if c.view == view)
        scale = self.image_size / camera.size if self.scale_intrinsics else 1.0
        focal, centre = camera.focal * scale, camera.size / 2 * scale
        return np.array([[focal, 0.0, centre], [0.0, focal, centre], [0.0, 0.0, 1.0]])

    @property
    def intrinsics_matrices(self) -> Float64Array:
        """K of every view as sent, float64 [V, 3, 3] [px], in view_order."""
        return np.stack([self.intrinsics(view) for view in self.view_order])

    @property
    def proprio_slices(self) -> dict[str, slice]:
        """Columns of the proprio by part, names as in `PROPRIO_2025`."""
        slices: dict[str, slice] = {}
        start = 0
        for part in self.proprio_parts:
            found = PROPRIO_2025[part]
            # The model gets one number a gripper: the sum of its two finger joints, scaled.
            width = 1 if part in _GRIPPER_PARTS else found.stop - found.start
            slices[part] = slice(start, start + width)
            start += width
        return slices

    @property
    def proprio_dim(self) -> int:
        """Number of columns of the extracted proprio."""
        return int(self.proprio_slices[self.proprio_parts[-1]].stop)

    @property
    def executed_steps(self) -> int:
        """Number of control steps for which the executed rows of one chunk last."""
        return (self.chunk_length - self.first_action) * self.steps_per_row

    @property
    def gripper_scaling(self) -> tuple[float, float]:
        """(slope [1/m], offset): a gripper's proprio is slope * (q1 + q2) + offset."""
        return _GRIPPER_SCALING[self.gripper_proprio]

    @property
    def action_slices(self) -> dict[str, slice]:
        """Columns of the model's action by part of the robot, names as in `ACTION_SLICES`."""
        slices: dict[str, slice] = {}
        start = 0
        for part in self.action_parts:
            width = ACTION_SLICES[part].stop - ACTION_SLICES[part].start
            slices[part] = slice(start, start + width)
            start += width
        return slices

    @property
    def robot_columns(self) -> npt.NDArray[np.intp]:
        """Indices, intp [23]: `model_action[..., robot_columns]` is in the robot's order."""
        columns = np.arange(ACTION_DIM)
        return np.concatenate([columns[self.action_slices[part]] for part in PARTS])

    @property
    def delta_mask(self) -> npt.NDArray[np.bool_]:
        """Which model columns are offsets, bool [23], read-only; like openpi's `make_bool_mask`."""
        runs = [np.full(abs(run), run > 0) for run in self.delta_spec]
        mask = np.concatenate(runs)
        mask.setflags(write=False)
        return mask

    @property
    def misaligned_deltas(self) -> tuple[int, ...]:
        """Offset columns whose proprio column is another joint: decodable, but hardly intended."""
        action = [name for name, s in self.action_slices.items() for _ in range(s.start, s.stop)]
        proprio = [
            _ACTION_OF_PROPRIO.get(part, part)
            for part, s in self.proprio_slices.items()
            for _ in range(s.start, s.stop)
        ]
        return tuple(
            int(column)
            for column in np.flatnonzero(self.delta_mask)
            if action[column] != proprio[column]
            or action.index(action[column]) != proprio.index(proprio[column])
        )

    def derived(self) -> dict[str, Any]:
        """Return the figures that follow from the fields and that people look for, as JSON values.

        Keys `intrinsics.VIEW` hold [fx, fy, cx, cy] as sent [px], rounded to 0.001.
        """
        return {
            **{f"intrinsics.{view}": self._k_in_short(view) for view in self.view_order},
            "view_count": len(self.view_order),
            "proprio_dim": self.proprio_dim,
            "action_dim": ACTION_DIM,
            "delta_columns": [int(c) for c in np.flatnonzero(self.delta_mask)],
            "progress_head": self.progress_output != "none",
            "row_seconds": round(self.steps_per_row / CONTROL_HZ, 3),
            "chunk_seconds": round(self.chunk_length * self.steps_per_row / CONTROL_HZ, 3),
            "gripper_binarised": self.gripper_threshold is not None,
        }

    def _k_in_short(self, view: View) -> list[float]:
        k = self.intrinsics(view)
        return [round(float(k[i, j]), 3) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2))]

    # --- JSON -------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: `format`, then the fields in order; `from_dict` is the inverse."""
        return {
            "format": FORMAT,
            **{n: FIELDS[n].codec.encode(getattr(self, n)) for n in FIELDS},
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> EvalContract:
        """Read what `to_dict` wrote, of this version or an earlier one.

        Raises:
            ContractValueError: A key is unknown (the text has near misses) or missing, or its
                value is not valid.
        """
        check_keys(document)
        document = completed(document)
        missing = [name for name in FIELDS if name not in document]
        if missing:
            raise ContractValueError(f"the contract lacks {', '.join(missing)}")
        return cls(**{name: document[name] for name in FIELDS})


@dataclass(frozen=True, kw_only=True)
class Change:
    """A field, or a figure that follows from fields, in which two contracts differ.

    Attributes:
        name: Field, or key of `EvalContract.derived`.
        first: Its JSON value in the first contract.
        second: Its JSON value in the second contract.
        effect: What a mix-up spoils; None for a figure that follows from fields.
        sure: How sure the presets are of the field; None for a figure.
    """

    name: str
    first: Any
    second: Any
    effect: Effect | None = None
    sure: Sure | None = None


def diff(first: EvalContract, second: EvalContract) -> tuple[Change, ...]:
    """List where two contracts differ: fields in order, without the name, then figures."""
    a, b = first.to_dict(), second.to_dict()
    changes = [
        Change(name=name, first=a[name], second=b[name], effect=info.effect, sure=info.sure)
        for name, info in FIELDS.items()
        if info.effect != "label" and a[name] != b[name]
    ]
    a, b = first.derived(), second.derived()
    for name in {**a, **b}:
        if a.get(name) != b.get(name):
            changes.append(Change(name=name, first=a.get(name), second=b.get(name)))
    return tuple(changes)
