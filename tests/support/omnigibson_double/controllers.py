"""From the 23 numbers of an action to the twin's, through the limits that the config gave."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from b1k_envs import r1pro
from omnigibson_double.faults import faults
from omnigibson_double.touch import Touched

Limits = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]

_JOINTS = {
    "trunk": r1pro.TRUNK_JOINTS,
    "arm_left": r1pro.ARM_JOINTS["left"],
    "arm_right": r1pro.ARM_JOINTS["right"],
}
_CLASSES = {
    "base": "HolonomicBaseJointController",
    "trunk": "JointController",
    "arm_left": "JointController",
    "gripper_left": "MultiFingerGripperController",
    "arm_right": "JointController",
    "gripper_right": "MultiFingerGripperController",
    "camera": "NullJointController",
}
DOCUMENTED_BASE_LIMITS = ([-0.75, -0.75, -1.0], [1.0, 1.0, 1.0])
"""What the 2025 documentation prints, in contradiction to the code."""


class Controller(Touched):
    """One controller of a running robot."""

    def __init__(self, part: str, config: Mapping[str, Any]) -> None:
        if config.get("name") != _CLASSES[part]:
            raise ValueError(f"the double's {part} is a {_CLASSES[part]}, got {config.get('name')}")
        if part.startswith("gripper") and config.get("mode") != "smooth":
            raise ValueError("the double's grippers have the mode smooth")
        if config.get("use_delta_commands") or config.get("use_impedances"):
            raise ValueError("the double has no delta commands and no impedances")
        wanted = "velocity" if part == "base" else "position"
        if part in ("base", *_JOINTS) and config.get("motor_type") != wanted:
            raise ValueError(f"the double's {part} takes {wanted} commands")
        self.part = part
        self.config = dict(config)
        self.command_dim = r1pro.ACTION_SLICES[part].stop - r1pro.ACTION_SLICES[part].start
        self._command_input_limits = self._limits("command_input_limits", -1.0, 1.0)
        low, high = self._natural()
        self._command_output_limits = self._limits("command_output_limits", low, high)
        if part == "base" and faults.asymmetric_base_limits:
            low, high = np.asarray(DOCUMENTED_BASE_LIMITS, dtype=np.float32)
            self._command_output_limits = (low, high)

    @property
    def command_input_limits(self) -> Limits | None:
        return self._command_input_limits

    @property
    def command_output_limits(self) -> Limits | None:
        return self._command_output_limits

    def fingerprint(self) -> str:
        """Equal for equal configs, as the keys of controller groups are."""
        return hashlib.sha256(repr(sorted(self.config.items())).encode()).hexdigest()

    def _natural(self) -> tuple[Any, Any]:
        if self.part in _JOINTS:
            limits = r1pro.joint_limits(_JOINTS[self.part])
            return limits[:, 0], limits[:, 1]
        return (0.0, r1pro.FINGER_TRAVEL) if self.part.startswith("gripper") else (-1.0, 1.0)

    def _limits(self, key: str, low: Any, high: Any) -> Limits | None:
        given = self.config.get(key, "default")  # absent means default, not none
        if given is None:
            return None
        if not isinstance(given, str):
            low, high = given
        shape = (self.command_dim,)
        return (
            np.broadcast_to(np.asarray(low, dtype=np.float32), shape).copy(),
            np.broadcast_to(np.asarray(high, dtype=np.float32), shape).copy(),
        )

    def to_twin(self, command: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The numbers that make the twin do what this controller would."""
        if self.part.startswith("gripper"):
            return command
        inputs, outputs = self._command_input_limits, self._command_output_limits
        if inputs is None or outputs is None:
            return command
        natural = r1pro.BASE_VELOCITY_LIMIT.astype(np.float32)
        if self.part == "base" and all(
            np.array_equal(limit, side)
            for limit, side in zip((*inputs, *outputs), (-1, 1, -natural, natural), strict=True)
            for side in [np.broadcast_to(np.float32(side), limit.shape)]
        ):
            return command  # the twin's own limits, and its own arithmetic
        share = (np.clip(command, *inputs) - inputs[0]) / (inputs[1] - inputs[0])
        target = outputs[0] + share * (outputs[1] - outputs[0])
        return target / natural if self.part == "base" else target


def make_controllers(config: Mapping[str, Mapping[str, Any]]) -> dict[str, Controller]:
    """By part, in the order of the action's columns."""
    missing = set(_CLASSES) - set(config)
    if missing:
        raise ValueError(f"the double has no default controllers; missing: {sorted(missing)}")
    return {part: Controller(part, config[part]) for part in r1pro.ACTION_SLICES}
