"""Perturbed snapshots: states near those of demonstrations, moved a little and rendered.

Demonstrations never show a cuff off the hand's axis, and a policy that learnt from them alone does
not see its own errors. Here base, joints, gloves and door are moved in a copy of the positions, a
held thing with its hand; nothing is simulated. A file has up to `PER_FILE` snapshots:

    head, wrist     JPEGs of 224 px one behind the other, uint8; sizes in head_sizes, wrist_sizes
    places, cameras, proprio, leg, steps, skill, held, door    as in `demos`
    moved float32 [n]   how far the base was moved [m]
    source str          JSON: for each its demonstration's file and step
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from b1k_envs import r1pro
from b1k_envs.base import VIEWS
from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.instances import make_instance
from b1k_envs.mujoco_twin.rendering.studio import Shown, Studio
from b1k_envs.mujoco_twin.robot.body import BASE_BODY, MODELLED_BASE_JOINTS
from b1k_envs.mujoco_twin.robot.proprio import ProprioReader
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.scene import SCENE
from b1k_envs.r1pro import PROPRIO_LAYOUTS
from twin_policy.demos import CONTRACT, LOOKS, WATCHED
from twin_policy.legs import FIRST_LEG, LEGS
from twin_policy.pictures import RENDERED, encode

PER_FILE = 250
_FETCH = [FIRST_LEG["fetch", glove] for glove in layout.GLOVES]
_PLACE = [FIRST_LEG["place", glove] for glove in layout.GLOVES]


def leg_weights() -> np.ndarray:
    """How often each leg is taken, float64 [LEGS]; most where the gloves' place decides."""
    weights = np.ones(LEGS)
    for first in _FETCH:
        weights[first : first + 5] = (1.0, 3.0, 5.0, 6.0, 3.0)
    for first in _PLACE:
        weights[first : first + 8] = (1.0, 0.7, 1.0, 1.0, 1.5, 1.5, 0.7, 0.7)
    weights[FIRST_LEG["open",] + 2 : FIRST_LEG["open",] + 5] = (2.0, 2.0, 1.5)
    weights[FIRST_LEG["press",] + 1 : FIRST_LEG["press",] + 3] = (2.0, 2.0)
    weights[-1] = 0.0
    return weights


class Photographer:
    """Draws states from demonstrations, moves them and takes their pictures."""

    def __init__(self, demos: Sequence[Path], seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._studio = Studio(SCENE.task)
        model = self._studio.model
        self._proprio = ProprioReader(model, "2026")
        self._base_body = model.body(BASE_BODY).id
        self._hand_body = model.body("left_gripper_link").id
        self._base = [model.joint(name).qposadr[0] for name in MODELLED_BASE_JOINTS]
        self._trunk = [model.joint(name).qposadr[0] for name in r1pro.TRUNK_JOINTS]
        self._arm = [model.joint(name).qposadr[0] for name in r1pro.ARM_JOINTS["left"]]
        self._fingers = [model.joint(name).qposadr[0] for name in r1pro.FINGER_JOINTS["left"]]
        self._door = model.joint(layout.DOOR_JOINT).qposadr[0]
        self._gloves = [model.joint(f"{g}_joint").qposadr[0] for g in layout.GLOVES]
        self._bodies = [model.body(name).id for name in WATCHED]
        self._demos = []
        for path in demos:
            with np.load(path) as file:
                kept = {k: file[k] for k in ("qpos", "look", "leg", "steps", "skill", "held")}
                about = json.loads(str(file["about"]))
            kept["instance"] = make_instance(SCENE, about["split"], about["instance"])
            kept["name"] = path.name
            self._demos.append(kept)
        self._weights = leg_weights()

    def shoot(self) -> dict[str, Any]:
        """One snapshot, as the entries of a file."""
        rng = self._rng
        demo = self._demos[rng.integers(len(self._demos))]
        weights = self._weights[demo["leg"]]
        # Each leg counts by its weight, not by the time it takes.
        counts = np.bincount(demo["leg"], minlength=LEGS)[demo["leg"]]
        chances = weights / counts**0.7
        step = int(rng.choice(len(chances), p=chances / chances.sum()))
        qpos, moved = self._moved(demo["qpos"][step], int(demo["held"][step]))
        look = frozenset(n for i, n in enumerate(LOOKS) if demo["look"][step] >> i & 1)
        other = make_instance(SCENE, "train", int(rng.integers(SCENE.counts["train"])))
        instance = replace(demo["instance"], light=other.light, tints=other.tints)
        studio = self._studio
        studio.pose(Shown(instance, look, qpos))
        pictures = studio.render({view: RENDERED[view] for view in VIEWS[:2]})
        return {
            "head": encode(pictures["head"]),
            "wrist": encode(pictures["left_wrist"]),
            "places": self._places(),
            "cameras": np.stack([studio.camera_to_base(view)[:3] for view in VIEWS]),
            "proprio": self._state(),
            "leg": demo["leg"][step],
            "steps": demo["steps"][step],
            "skill": demo["skill"][step],
            "held": demo["held"][step],
            "door": qpos[self._door],
            "moved": moved,
            "source": (demo["name"], step),
        }

    def close(self) -> None:
        """Free the GL context."""
        self._studio.close()

    def _moved(self, qpos: np.ndarray, held: int) -> tuple[np.ndarray, float]:
        rng, model, data = self._rng, self._studio.model, self._studio.data
        qpos = qpos.copy()
        if rng.random() < 0.12:
            return qpos, 0.0
        grip = None
        if held in (0, 1):
            data.qpos[:] = qpos
            mujoco.mj_kinematics(model, data)
            hand = data.xmat[self._hand_body].reshape(3, 3)
            glove = self._bodies[held]
            turn = hand.T @ data.xmat[glove].reshape(3, 3)
            grip = hand.T @ (data.xpos[glove] - data.xpos[self._hand_body]), turn
        size = rng.choice([0.015, 0.04, 0.12], p=[0.4, 0.4, 0.2])
        shift = rng.normal(0.0, size, 2)
        qpos[self._base[:2]] += shift
        qpos[self._base[2]] += rng.normal(0.0, min(2.0 * size, 0.15))
        qpos[self._trunk] += rng.normal(0.0, rng.choice([0.004, 0.02]), 4) * (1, 1, 1, 2)
        qpos[self._arm] += rng.normal(0.0, rng.choice([0.01, 0.04]), 7)
        if held < 0 and rng.random() < 0.15:
            opening = rng.uniform(0.0, r1pro.FINGER_TRAVEL)
            qpos[self._fingers] = np.array(r1pro.FINGER_SIGNS) * opening
        if held != WATCHED.index(layout.WASHER_DOOR) and rng.random() < 0.5:
            angle = qpos[self._door] + rng.normal(0.0, 0.12)
            qpos[self._door] = np.clip(angle, 0.0, layout.DOOR_RANGE)
        for glove, address in enumerate(self._gloves):
            if glove == held:
                continue
            on_counter = qpos[address + 2] > 0.85
            far = 0.04 if on_counter else 0.015
            qpos[address : address + 2] += rng.normal(0.0, far, 2)
            if on_counter:
                half = rng.normal(0.0, 0.25) / 2
                turned = np.zeros(4)
                about_z = np.array([math.cos(half), 0.0, 0.0, math.sin(half)])
                mujoco.mju_mulQuat(turned, about_z, qpos[address + 3 : address + 7].copy())
                qpos[address + 3 : address + 7] = turned
        if grip is not None:
            data.qpos[:] = qpos
            mujoco.mj_kinematics(model, data)
            hand = data.xmat[self._hand_body].reshape(3, 3)
            address = self._gloves[held]
            qpos[address : address + 3] = data.xpos[self._hand_body] + hand @ grip[0]
            quat = np.zeros(4)
            mujoco.mju_mat2Quat(quat, (hand @ grip[1]).ravel())
            qpos[address + 3 : address + 7] = quat
        return qpos, float(np.hypot(*shift))

    def _places(self) -> np.ndarray:
        data = self._studio.data
        turn, origin = data.xmat[self._base_body].reshape(3, 3), data.xpos[self._base_body]
        places = np.empty((len(self._bodies), 3, 4), np.float32)
        for i, body in enumerate(self._bodies):
            places[i, :, :3] = turn.T @ data.xmat[body].reshape(3, 3)
            places[i, :, 3] = turn.T @ (data.xpos[body] - [*origin[:2], 0.0])
        return places

    def _state(self) -> np.ndarray:
        """The 23 numbers of the contract, the base at rest."""
        raw = self._proprio.read(self._studio.data)
        where = PROPRIO_LAYOUTS["2026"]
        slope, offset = CONTRACT.gripper_scaling
        parts = []
        for part in CONTRACT.proprio_parts:
            values = raw[where[part]]
            if part.startswith("gripper_"):
                values = slope * values.sum(keepdims=True) + offset
            parts.append(np.zeros(3) if part == "base_qvel" else values)
        return np.concatenate(parts).astype(np.float32)


def write(path: Path, shots: Sequence[dict[str, Any]]) -> None:
    """Write snapshots as one file, in one move."""
    arrays: dict[str, Any] = {}
    for view in ("head", "wrist"):
        coded = [shot[view] for shot in shots]
        arrays[view] = np.frombuffer(b"".join(coded), np.uint8)
        arrays[f"{view}_sizes"] = np.array([len(c) for c in coded], np.int32)
    for name in ("places", "cameras", "proprio", "leg", "steps", "skill", "held", "door", "moved"):
        arrays[name] = np.stack([np.asarray(shot[name]) for shot in shots])
    arrays["source"] = json.dumps([shot["source"] for shot in shots])
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        np.savez(file, **arrays)
    partial.rename(path)
