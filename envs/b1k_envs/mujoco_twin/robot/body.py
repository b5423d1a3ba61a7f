"""The R1Pro as a MuJoCo body tree, built from its published kinematics.

Joint names, origins, axes, limits, masses and inertias are the URDF's (`r1pro.kinematics`). As in
OmniGibson the base is holonomic: virtual joints x, y, rz in the world-fixed frame (z, rx, ry are
not modelled and read 0) and a base mass of 250 kg in both protocols; steering and wheels are
rigid. Collision shapes are primitives of our own; `looks` adds the visible geoms.

The mass matters although the base takes velocities, because its servos are limited in force: a base
of 47.63 kg (the URDF's, which OmniGibson 2025 keeps where it is not asked for 250) is up to 33 mm
further along after a start from rest, and stays so over 0.8 m.

Gains, armatures and force limits were chosen by measuring stability with implicitfast at 1/240 s
(Euler loses tracking silently, smaller armatures need a smaller step); OmniGibson's are not
published.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from b1k_envs import r1pro
from b1k_envs.base import VIEWS, Float64Array
from b1k_envs.mujoco_twin.engine import GROUP_ROBOT_COLLISION, mujoco

BASE_BODY = "base_link"
MODELLED_BASE_JOINTS = (
    "base_footprint_x_joint",
    "base_footprint_y_joint",
    "base_footprint_rz_joint",
)

EEF_SITE = {arm: f"{arm}_eef" for arm in r1pro.ARMS}
EEF_OFFSET = (0.0, 0.0, -0.05)
"""Tool centre in the gripper link's frame [m]: between the finger pads. The hand approaches along
the gripper link's -z. OmniGibson's own end-effector frame is not published."""

# zed_link is an optical frame (z forward, y down), and a MuJoCo camera looks along -z with y up:
# half a turn about x leads from one to the other.
_IMAGE_UP_HEAD = (0.0, 1.0, 0.0, 0.0)


@dataclass(frozen=True)
class Servo:
    """A joint servo: kp [N/m or N m/rad], kv, armature [kg or kg m^2], force limit [N or N m]."""

    kp: float
    kv: float
    armature: float
    force: float


# In a prototype 10 of 10 episodes succeeded with these at steps of 1/60 to 1/480 s, and with kp / 5
# or kp * 5; with armatures of 0.01 at 1/120 s none did.
_TORSO = Servo(8000, 800, 1.0, 2000)
_ARM = (
    Servo(1500, 120, 0.3, 150),
    Servo(1500, 120, 0.3, 150),
    Servo(1000, 80, 0.2, 100),
    Servo(1000, 80, 0.2, 100),
    Servo(500, 30, 0.1, 60),
    Servo(500, 30, 0.1, 60),
    Servo(300, 20, 0.1, 60),
)
_FINGER = Servo(1500, 60, 0.05, 60)
_BASE = {  # velocity servos: kp is unused
    "base_footprint_x_joint": Servo(0, 3000, 5, 2000),
    "base_footprint_y_joint": Servo(0, 3000, 5, 2000),
    "base_footprint_rz_joint": Servo(0, 1500, 2, 1000),
}


def servo_of(joint: str) -> Servo:
    """Return the servo of a modelled joint."""
    if joint in _BASE:
        return _BASE[joint]
    if joint.startswith("torso"):
        return _TORSO
    return _FINGER if "finger" in joint else _ARM[int(joint[-1]) - 1]


def _capsule(start: tuple[float, ...], end: tuple[float, ...], radius: float) -> dict[str, Any]:
    return {
        "type": mujoco.mjtGeom.mjGEOM_CAPSULE,
        "fromto": [*start, *end],
        "size": [radius, 0, 0],
    }


def _box(centre: tuple[float, ...], half: tuple[float, ...]) -> dict[str, Any]:
    return {"type": mujoco.mjtGeom.mjGEOM_BOX, "pos": list(centre), "size": list(half)}


PAD_INNER = 0.0134  # |y| of the finger joint's origin: pads meet when both joints are at 0
PAD_HALF = (0.011, 0.006, 0.036)


def _collision_shapes(link: str) -> list[dict[str, Any]]:
    """Return the primitives of a link in its own frame [m]; the rigid wheels have none."""
    side = 1.0 if link.startswith("left") else -1.0
    shapes: dict[str, list[dict[str, Any]]] = {
        "base_link": [
            _box((-0.095, 0.0, 0.19), (0.335, 0.30, 0.10)),
            _capsule((-0.079, 0.0, 0.28), (-0.079, 0.0, 0.34), 0.09),
        ],
        "torso_link1": [_capsule((0, 0, 0.03), (0, 0, 0.37), 0.075)],
        "torso_link2": [_capsule((0, 0, 0.02), (0, 0, 0.28), 0.065)],
        "torso_link3": [_capsule((0, 0, 0.02), (0, 0, 0.06), 0.065)],
        "torso_link4": [
            _box((0.0, 0.0, 0.22), (0.085, 0.10, 0.15)),
            _capsule((0.0, -0.05, 0.47), (0.0, 0.05, 0.47), 0.055),
        ],
        "arm_link1": [_capsule((0, 0, 0), (0.025, side * 0.081, 0), 0.05)],
        "arm_link2": [_capsule((0, 0, 0), (-0.025, 0, -0.1155), 0.05)],
        "arm_link3": [_capsule((0, 0, -0.03), (0, 0.035, -0.1945), 0.045)],
        "arm_link4": [_capsule((0, 0, 0), (0, -0.035, -0.08), 0.042)],
        "arm_link5": [_capsule((0, 0, -0.02), (0, side * -0.028, -0.150), 0.040)],
        "arm_link6": [_capsule((0, 0, 0), (0.0295, side * 0.028, 0), 0.036)],
        "arm_link7": [_capsule((-0.0295, 0, -0.03), (-0.0295, 0, -0.09), 0.034)],
        "gripper_link": [_box((0.0, 0.0, 0.028), (0.028, 0.062, 0.030))],
        "gripper_finger_link1": [_box((0.0, -PAD_INNER + PAD_HALF[1], 0.0), PAD_HALF)],
        "gripper_finger_link2": [_box((0.0, PAD_INNER - PAD_HALF[1], 0.0), PAD_HALF)],
        "realsense_link": [_box((0.0, -0.022, -0.014), (0.013, 0.045, 0.013))],
    }
    return shapes.get(link.removeprefix("left_").removeprefix("right_"), [])


# MuJoCo lets only parent and child overlap; these pairs are one link further apart and overlap
# around a short link between them.
_EXCLUDED_PAIRS = (
    *((f"{arm}_arm_link{i}", f"{arm}_arm_link{i + 2}") for arm in r1pro.ARMS for i in range(1, 6)),
    *((f"{arm}_arm_link6", f"{arm}_gripper_link") for arm in r1pro.ARMS),
    *((f"{arm}_arm_link5", f"{arm}_gripper_link") for arm in r1pro.ARMS),
    *((f"{arm}_arm_link2", "torso_link4") for arm in r1pro.ARMS),
    ("torso_link1", "torso_link3"),
    ("torso_link2", "torso_link4"),
    ("base_link", "torso_link2"),
)


def rpy_quat(rpy: list[float]) -> Float64Array:
    """Return the quaternion w, x, y, z of URDF fixed-axis roll, pitch, yaw [rad]."""
    quat = np.zeros(4)
    mujoco.mju_euler2Quat(quat, np.asarray(rpy, dtype=np.float64), "XYZ")
    return quat


def add_robot(spec: mujoco.MjSpec) -> None:
    """Add body tree, joints, collision shapes, cameras, sites and servos of the R1Pro.

    Bodies have the URDF's link names, joints and actuators its joint names, the three cameras the
    names of their views. The sites `left_eef` and `right_eef` mark the tool centres.
    """
    bodies = _add_tree(spec, lambda _joint: True)
    _add_cameras(bodies)
    _add_servos(spec)


def add_movable_chain(spec: mujoco.MjSpec, joints: Collection[str]) -> None:
    """Add the same body tree with only these joints movable, for kinematics.

    The other joints are rigid at 0; there are no cameras and no servos.
    """
    _add_tree(spec, lambda joint: joint in joints)


def _add_tree(spec: mujoco.MjSpec, movable: Callable[[str], bool]) -> dict[str, Any]:
    kin = r1pro.kinematics()
    base = spec.worldbody.add_body(name=BASE_BODY)
    for name in filter(movable, MODELLED_BASE_JOINTS):
        rotary = name.endswith("rz_joint")
        kind = mujoco.mjtJoint.mjJNT_HINGE if rotary else mujoco.mjtJoint.mjJNT_SLIDE
        axis = [0, 0, 1] if rotary else [float("_x_" in name), float("_y_" in name), 0]
        base.add_joint(name=name, type=kind, axis=axis, armature=servo_of(name).armature)
    _fill_link(base, BASE_BODY, kin["links"][BASE_BODY])
    bodies = {BASE_BODY: base}
    for joint in kin["joints"]:
        body = bodies[joint["parent"]].add_body(
            name=joint["child"], pos=joint["xyz"], quat=rpy_quat(joint["rpy"])
        )
        bodies[joint["child"]] = body
        _fill_link(body, joint["child"], kin["links"][joint["child"]])
        modelled = "lower" in joint and not joint["name"].startswith("steer")
        if modelled and movable(joint["name"]):
            prismatic = joint["type"] == "prismatic"
            body.add_joint(
                name=joint["name"],
                type=mujoco.mjtJoint.mjJNT_SLIDE if prismatic else mujoco.mjtJoint.mjJNT_HINGE,
                axis=joint["axis"],
                limited=mujoco.mjtLimited.mjLIMITED_TRUE,
                range=[joint["lower"], joint["upper"]],
                armature=servo_of(joint["name"]).armature,
            )
    for first, second in _EXCLUDED_PAIRS:
        spec.add_exclude(bodyname1=first, bodyname2=second)
    for arm in r1pro.ARMS:
        bodies[f"{arm}_gripper_link"].add_site(name=EEF_SITE[arm], pos=EEF_OFFSET, group=5)
    return bodies


def _fill_link(body: Any, link: str, figures: dict[str, Any]) -> None:  # noqa: ANN401 - MjsBody
    # With gravity compensated the servos need no integral term to hold a posture.
    body.gravcomp = 1.0
    body.explicitinertial = True
    # 250 kg in both years, see the module header; the inertia stays the URDF's.
    body.mass = r1pro.BASE_MASS if link == BASE_BODY else figures["mass"]
    body.ipos = figures["com"]
    xx, xy, xz, yy, yz, zz = figures["inertia_xx_xy_xz_yy_yz_zz"]
    body.fullinertia = [xx, yy, zz, xy, xz, yz]
    finger = "finger" in link
    for index, shape in enumerate(_collision_shapes(link)):
        body.add_geom(
            name=f"{link}_collision{index}",
            group=GROUP_ROBOT_COLLISION,
            mass=0.0,  # mass and inertia are the link's, from the URDF
            friction=[1.5 if finger else 0.4, 0.02, 0.001],
            condim=4 if finger else 3,
            rgba=[0.3, 0.3, 0.9, 0.4],
            **shape,
        )


def _add_cameras(bodies: dict[str, Any]) -> None:
    for view in VIEWS:
        camera = r1pro.CAMERAS[view]
        quat = _IMAGE_UP_HEAD if view == "head" else _wrist_camera_quat(camera.link)
        bodies[camera.link].add_camera(
            name=view,
            quat=quat,
            fovy=float(np.degrees(2 * np.arctan(camera.size / 2 / camera.focal))),
            resolution=[camera.size, camera.size],
        )


def _wrist_camera_quat(link: str) -> Float64Array:
    """Return the quaternion that looks along the link's +z, image-up near the gripper's +x.

    The link's own axes would roll the picture by 90 degrees. With the gripper's +x up, the picture
    is upright with respect to the gripper, and the fingers come in from its bottom edge.
    """
    joint = next(j for j in r1pro.kinematics()["joints"] if j["child"] == link)
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, rpy_quat(joint["rpy"]))
    gripper_x = rotation.reshape(3, 3).T @ np.array([1.0, 0.0, 0.0])  # in the link's frame
    back = np.array([0.0, 0.0, -1.0])  # a MuJoCo camera looks along its -z
    up = gripper_x - (gripper_x @ back) * back
    up /= np.linalg.norm(up)
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, np.column_stack([np.cross(up, back), up, back]).ravel())
    return quat


def _add_servos(spec: mujoco.MjSpec) -> None:
    joints = (
        *r1pro.TRUNK_JOINTS,
        *r1pro.ARM_JOINTS["left"],
        *r1pro.ARM_JOINTS["right"],
        *r1pro.FINGER_JOINTS["left"],
        *r1pro.FINGER_JOINTS["right"],
    )
    for name in (*MODELLED_BASE_JOINTS, *joints):
        servo = servo_of(name)
        actuator = spec.add_actuator(
            name=name,
            target=name,
            trntype=mujoco.mjtTrn.mjTRN_JOINT,
            gaintype=mujoco.mjtGain.mjGAIN_FIXED,
            biastype=mujoco.mjtBias.mjBIAS_AFFINE,
            forcelimited=mujoco.mjtLimited.mjLIMITED_TRUE,
            forcerange=[-servo.force, servo.force],
        )
        # force = gain * ctrl - kp * position - kv * velocity; without kp, ctrl is a velocity.
        actuator.gainprm[0] = servo.kp if servo.kp else servo.kv
        actuator.biasprm[1] = -servo.kp
        actuator.biasprm[2] = -servo.kv
