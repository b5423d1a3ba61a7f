"""Assisted grasping with OmniGibson's semantics.

For each arm, any command below fully open is "trying". Of the links that a finger touches and that
rays between the fingers' grasp points hit, the one hit nearest to the grip centre is the candidate,
if both fingers touch it. It must stay the candidate without a gap for the grasp window. Then a free
body is welded to the hand, and a link with a movable parent joint (door, drawer) is connected by a
ball joint, so that a handle pivots in the hand. During a grasp the fingers are frozen. Only the
fully open command releases, at once; the arm can grasp again one control step later. Load never
breaks a grasp. A closed fist holds nothing: with no gap between the fingers no ray hits.

The window: OmniGibson counts substeps of 1/120 s. 2025 takes them for control steps, so its nominal
0.75 s are 23 substeps, 0.19 s of simulated time. 2026 compares 0.3 s with the physics step, 36
substeps, since the pull requests 2072 and 2098. The twin counts control steps.

Source: BEHAVIOR-1K, under OmniGibson/omnigibson/robots/: manipulation_robot.py (2025), robot.py
(2026).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from b1k_envs import r1pro
from b1k_envs.base import Float32Array, Float64Array, ProtocolYear
from b1k_envs.mujoco_twin.engine import GROUP_OBJECT_COLLISION, mujoco
from b1k_envs.mujoco_twin.robot.body import EEF_OFFSET, PAD_HALF, PAD_INNER
from b1k_envs.mujoco_twin.robot.control import GRIPPER_COLUMN, Controller

GRASP_WINDOW_STEPS: Mapping[ProtocolYear, int] = MappingProxyType({"2025": 6, "2026": 9})
"""Control steps a candidate must persist: 23 and 36 substeps at four a step, rounded up."""

MASS_LIMIT = 10.0
"""Free bodies heavier than this are not grasped [kg]; links of fixed objects are exempt."""

_RAY_HEIGHTS = np.linspace(-0.8, 0.8, 5) * PAD_HALF[2]  # grasp points along a pad, its z [m]
_RAY_TOLERANCE = 0.004  # pads sink a little into what they hold [m]
_RAY_GROUPS = np.array([g == GROUP_OBJECT_COLLISION for g in range(6)], dtype=np.uint8)


def add_grasp_constraints(
    spec: mujoco.MjSpec, free_bodies: tuple[str, ...], jointed_links: tuple[str, ...]
) -> None:
    """Add one inactive constraint for each hand and graspable body; `AssistedGrasp` uses them.

    A compiled model cannot get constraints later, so all of them exist from the start.
    """
    for arm in r1pro.ARMS:
        for body in (*free_bodies, *jointed_links):
            # A weld, because friction alone does not hold a glove (0 of 20 in a prototype). A door
            # gets a ball joint, so that its handle can turn in the hand.
            weld = body in free_bodies
            anchors = np.zeros(mujoco.mjNEQDATA)
            if weld:
                anchors[6] = anchors[10] = 1.0  # relative quaternion w, torque scale
            spec.add_equality(
                name=_constraint(arm, body),
                type=mujoco.mjtEq.mjEQ_WELD if weld else mujoco.mjtEq.mjEQ_CONNECT,
                objtype=mujoco.mjtObj.mjOBJ_BODY,
                name1=f"{arm}_gripper_link",
                name2=body,
                active=False,
                solref=[0.02, 1.0],
                data=anchors,
            )


def _constraint(arm: str, body: str) -> str:
    return f"grasp_{arm}_{body}"


@dataclass
class _Hand:
    hand_body: int
    finger_bodies: tuple[int, int]
    constraints: dict[int, int]  # body id -> equality id
    candidate: int = -1
    persisted: int = 0
    held: int = -1


class AssistedGrasp:
    """The grasp state of both hands on one model."""

    def __init__(
        self, model: mujoco.MjModel, controller: Controller, protocol: ProtocolYear
    ) -> None:
        self._model = model
        self._controller = controller
        self._window = GRASP_WINDOW_STEPS[protocol]
        self._hands: dict[r1pro.Arm, _Hand] = {}
        for arm in r1pro.ARMS:
            constraints = {}
            for equality in range(model.neq):
                name = model.equality(equality).name
                if name.startswith(f"grasp_{arm}_"):
                    constraints[int(model.eq_obj2id[equality])] = equality
            self._hands[arm] = _Hand(
                hand_body=model.body(f"{arm}_gripper_link").id,
                finger_bodies=(
                    model.body(f"{arm}_gripper_finger_link1").id,
                    model.body(f"{arm}_gripper_finger_link2").id,
                ),
                constraints={b: e for b, e in constraints.items() if self._graspable(b)},
            )

    def _graspable(self, body: int) -> bool:
        free = self._model.body_parentid[body] == 0
        return not free or bool(self._model.body_subtreemass[body] <= MASS_LIMIT)

    def reset(self, data: mujoco.MjData) -> None:
        """Release everything and forget candidates."""
        for arm, hand in self._hands.items():
            for equality in hand.constraints.values():
                data.eq_active[equality] = 0
            hand.candidate = hand.held = -1
            hand.persisted = 0
            self._controller.free_fingers(arm)

    def held_body(self, arm: r1pro.Arm) -> int:
        """Return the body id that a hand holds, -1 if none."""
        return self._hands[arm].held

    def holds(self, body: int) -> bool:
        """Return whether either hand holds the body."""
        return any(hand.held == body for hand in self._hands.values())

    def before_step(self, action: Float32Array, data: mujoco.MjData) -> None:
        """Release on the fully open command, before the controller acts on it."""
        for arm, hand in self._hands.items():
            if hand.held >= 0 and action[GRIPPER_COLUMN[arm]] >= r1pro.GRIPPER_OPEN:
                data.eq_active[hand.constraints[hand.held]] = 0
                hand.held = -1
                self._controller.free_fingers(arm)

    def after_step(self, action: Float32Array, data: mujoco.MjData) -> None:
        """Follow the candidates on fresh contacts; attach when the window has passed."""
        touching: dict[int, set[int]] | None = None
        for arm, hand in self._hands.items():
            if hand.held >= 0:
                continue
            # Only the fully open command is no attempt; 0.99 still is one, as upstream.
            trying = action[GRIPPER_COLUMN[arm]] < r1pro.GRIPPER_OPEN
            if not trying:
                hand.candidate, hand.persisted = -1, 0
                continue
            if touching is None:  # computed once, and only if some hand is trying
                touching = _contacts_by_body(self._model, data)
            candidate = self._find_candidate(hand, touching, data)
            hand.persisted = hand.persisted + 1 if candidate == hand.candidate >= 0 else 1
            hand.candidate = candidate
            if candidate >= 0 and hand.persisted >= self._window:
                self._attach(arm, hand, data)

    def _find_candidate(
        self, hand: _Hand, touching: dict[int, set[int]], data: mujoco.MjData
    ) -> int:
        first, second = hand.finger_bodies
        of_first, of_second = touching.get(first, set()), touching.get(second, set())
        wanted = of_first & of_second & hand.constraints.keys()
        if not wanted:
            return -1
        either = of_first | of_second
        centre = grip_centre(data, hand.hand_body)
        best, best_distance = -1, np.inf
        hit = np.zeros(1, dtype=np.int32)
        start, end = _grasp_points(data, first, -1.0), _grasp_points(data, second, 1.0)
        for point, ray in zip(start, end - start, strict=True):
            gap = float(np.linalg.norm(ray))
            if gap < _RAY_TOLERANCE:  # a closed fist holds nothing
                continue
            direction = ray / gap
            reach = mujoco.mj_ray(
                self._model, data, point, direction, _RAY_GROUPS, True, hand.hand_body, hit
            )
            if hit[0] < 0 or reach > gap + _RAY_TOLERANCE:
                continue
            body = int(self._model.geom_bodyid[hit[0]])
            distance = float(np.linalg.norm(point + reach * direction - centre))
            if body in either and distance < best_distance:
                best, best_distance = body, distance
        return best if best in wanted else -1  # as upstream, the second nearest is not tried

    def _attach(self, arm: r1pro.Arm, hand: _Hand, data: mujoco.MjData) -> None:
        body, equality = hand.candidate, hand.constraints[hand.candidate]
        centre = grip_centre(data, hand.hand_body)
        in_hand = _to_local(data, hand.hand_body, centre)
        in_body = _to_local(data, body, centre)
        # MuJoCo's order of the anchors differs by kind: a weld has the second body's first.
        eq_data = self._model.eq_data[equality]
        if self._model.eq_type[equality] == mujoco.mjtEq.mjEQ_WELD:
            eq_data[0:3], eq_data[3:6] = in_body, in_hand
            inverse, relative = np.zeros(4), np.zeros(4)
            mujoco.mju_negQuat(inverse, data.xquat[hand.hand_body])
            mujoco.mju_mulQuat(relative, inverse, data.xquat[body])
            eq_data[6:10] = relative
        else:
            eq_data[0:3], eq_data[3:6] = in_hand, in_body
        data.eq_active[equality] = 1  # last: an active constraint must never see old anchors
        hand.held, hand.candidate, hand.persisted = body, -1, 0
        self._controller.freeze_fingers(arm, data)


def grip_centre(data: mujoco.MjData, hand_body: int) -> Float64Array:
    """Return the point between the finger pads, float64 [3], world frame [m]."""
    centre: Float64Array = data.xpos[hand_body] + data.xmat[hand_body].reshape(3, 3) @ EEF_OFFSET
    return centre


def _grasp_points(data: mujoco.MjData, finger_body: int, side: float) -> Float64Array:
    """Return points on the inner face of a pad, float64 [5, 3], world frame [m]."""
    local = np.zeros((len(_RAY_HEIGHTS), 3))
    local[:, 1] = side * PAD_INNER
    local[:, 2] = _RAY_HEIGHTS
    points: Float64Array = data.xpos[finger_body] + local @ data.xmat[finger_body].reshape(3, 3).T
    return points


def _to_local(data: mujoco.MjData, body: int, point: Float64Array) -> Float64Array:
    local: Float64Array = data.xmat[body].reshape(3, 3).T @ (point - data.xpos[body])
    return local


def _contacts_by_body(model: mujoco.MjModel, data: mujoco.MjData) -> dict[int, set[int]]:
    """Return for every body in contact the bodies it touches."""
    touching: dict[int, set[int]] = {}
    if data.ncon:
        pairs = model.geom_bodyid[data.contact.geom]
        for first, second in pairs.tolist():
            touching.setdefault(first, set()).add(second)
            touching.setdefault(second, set()).add(first)
    return touching
