"""Demonstrations: episodes of the expert whose execution is disturbed, as one file each.

The expert plans anew every few steps; what it commands is the label, and what is executed is that
plus noise, plus shoves of the base while it works at something, so that the file shows how one gets
back from 2 to 5 cm off. Instead of noise a policy may drive for a while (`drive`), and the expert
takes over: its labels are then what it did from where the policy had led.

A file is `<split>-<instance>-<seed>.npz`, with N control steps of one successful episode:

    qpos float64 [N, nq]            joint positions before the action; with `look` all of a picture
    look uint8 [N]                  switches of the scene that are on, bits in the order of `LOOKS`
    proprio float32 [N, 23]         as the v17 batch has it, neither normalised nor masked
    cameras float32 [N, 3, 3, 4]    camera to base, head, left wrist, right wrist; USD axes [m]
    command float32 [N, 23]         what the expert wanted: the label
    executed float32 [N, 23]        what was done
    by_expert bool [N]              whether the expert drove
    leg, steps, skill int16 [N]     where the expert was, see `legs`
    task_progress float32 [N]       the share of the task that is done
    held int8 [N]                   what the left hand held: -1 nothing, else an index in `WATCHED`
    base float64 [N, 3]             x, y, yaw in the world: for the labels of training only
    places float32 [N, 6, 3, 4]     pose of `WATCHED` in the base frame: likewise
    door float32 [N]                opening of the washer's door [rad]: likewise
    plan_steps int32 [Q], plans float32 [Q, 30, 23], said float32 [Q]
                                    where a policy drove and was asked: what the expert planned
                                    there, and the progress that the policy had been told
    found float32 [Q, 11, 4]        there, the places that its eyes found and their scales; NaN if
                                    it was told the true ones
    imagined_*                      M states with the base put elsewhere (proprio, cameras, places,
                                    leg, steps, skill as above), and what the expert planned (plans)
    picture_steps int32 [P], pictures uint8 [...], picture_sizes int32 [P, 3]
                                    only where asked for: three JPEGs of 224 px at each of these
    about str                       JSON: instance, split, seed, protocol, noise, replanned every
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from b1k_envs.base import VIEWS, Observation, ProtocolYear, Split
from b1k_envs.mujoco_twin.env import TwinEnv
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.scene import SCENE
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.states import GloveTruth
from b1k_envs.tasks.table import get_task
from b1k_eval.disturbances.noise import ActionNoise, NoiseSpec
from b1k_policies.base import EpisodeInfo
from b1k_policies.contract.presets import PRESETS
from b1k_policies.expert import ExpertPolicy
from b1k_policies.xvla.batch import extract_proprio
from twin_policy.legs import CLOCKED, FIRST_LEG, LEGS, leg_of
from twin_policy.pictures import encode_views
from twin_policy.points import POINTS

LOOKS = tuple(SCENE.switches)
WATCHED = SCENE.watched
CONTRACT = PRESETS["v17"]
TASK = get_task("clean_boxing_gloves")
_GLOVE_ONE, _GLOVE_TWO = layout.GLOVES
_FINE = frozenset(
    FIRST_LEG[key] + leg
    for key, legs in {
        ("open",): (2, 3),
        ("fetch", _GLOVE_ONE): (2, 3),
        ("fetch", _GLOVE_TWO): (2, 3),
        ("place", _GLOVE_ONE): (4, 5),
        ("place", _GLOVE_TWO): (4, 5),
        ("close",): (1, 2, 3),
        ("press",): (1, 2),
    }.items()
    for leg in legs
)
"""Legs of fine work, during which small shoves show how to get back on the way."""
_STILL = CLOCKED | {LEGS - 1}
"""Legs in which nothing is shoved: a hand closes or lets go."""


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """How demonstrations are made.

    Attributes:
        split: Instances are taken from it.
        protocol: Challenge generation: the grasp window, and the frame of the base's velocity.
        noise: As `--action-noise`.
        shove_every_s: Mean time between shoves in legs of fine work [s]; 0 is none.
        every: Control steps after which the expert plans anew.
        imagine_every: Control steps between imagined states; 0 is none.
        pictures_every: Control steps between pictures; 0 is none.
        max_steps: An episode that takes longer is dropped.
    """

    split: Split = "train"
    protocol: ProtocolYear = "2026"
    noise: str = "0.01,0.3,0.1"
    shove_every_s: float = 2.5
    every: int = 5
    imagine_every: int = 4
    pictures_every: int = 0
    max_steps: int = 2200


class Driver(Protocol):
    """Who may drive instead of the expert.

    Attributes:
        asked: Where a policy was asked at this step, the progress it was told; else None.
        found: There, float32 [11, 4]: the places that its eyes found, and their scales.
    """

    asked: float | None
    found: np.ndarray

    def __call__(self, env: TwinEnv, step: int, leg: int, steps: int) -> np.ndarray | None:
        """Give an action, float32 [23], or leave it to the expert, which is in this leg."""


class Shoves:
    """Pushes of the base: short ones in fine work, and wide ones that turn it on the way there.

    In undisturbed demonstrations a robot that stands near the counter faces the glove, so a policy
    takes the one for the other, and does not turn where its own errors have left it askew.
    """

    def __init__(self, every_s: float, rng: np.random.Generator) -> None:
        self._probability = 0.0 if every_s == 0 else 1.0 / (30.0 * every_s)
        self._rng = rng
        self._left = 0
        self._push = np.zeros(3)

    def __call__(self, leg: int) -> np.ndarray:
        """The push of this control step, float64 [3], in units of the base's command."""
        rng = self._rng
        if self._left and leg not in _STILL:
            self._left -= 1
            return self._push
        self._left = 0
        fine = leg in _FINE
        if leg not in _STILL and rng.random() < self._probability * (1.0 if fine else 0.7):
            self._left = int(rng.integers(4, 10) if fine else rng.integers(6, 20))
            size, turn = rng.uniform(0.1, 0.5), rng.uniform(-0.35, 0.35)
            if not fine or rng.random() < 0.1:
                size, turn = rng.uniform(0.1, 0.9), rng.uniform(-1.0, 1.0)
            angle = rng.uniform(0, 2 * math.pi)
            self._push = np.array([size * math.cos(angle), size * math.sin(angle), turn])
            return self._push
        return np.zeros(3)


_ASIDE_M, _ASKEW_RAD = (0.015, 0.05, 0.15, 0.4), (0.02, 0.08, 0.25, 0.6)
"""Standard deviations by which an imagined base is put elsewhere."""
_GOING_FOR = {FIRST_LEG["fetch", glove] + leg: glove for glove in layout.GLOVES for leg in range(4)}
"""Legs in which a glove is gone for and not yet taken."""


def relaid(
    truth: GloveTruth, glove: str, rng: np.random.Generator, *, along: bool = False
) -> GloveTruth:
    """The same state with a glove lying elsewhere on the counter, as some instance would have it.

    About one glove in twenty lies so deep and so askew that it has to be taken in another posture.
    Half of the draws are from where those are. With `along` the robot stays where it is to the
    glove, as one that has come there in the wrong posture: only the room says that it is wrong.
    """
    thing = SCENE.things[glove]
    shift = truth.positions[thing.on][:2] - np.array(layout.COUNTER_POS)
    low = np.array([-1.0, 0.3, 0.6]) if rng.random() < 0.5 else np.full(3, -1.0)
    x, y, yaw = np.array(thing.pose) + rng.uniform(low, 1.0) * np.array(thing.jitter)
    forward = truth.rotations[glove][:, 0]
    turn = yaw - math.atan2(forward[1], forward[0])
    cos, sin = math.cos(turn), math.sin(turn)
    turned = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    before = truth.positions[glove]
    place = np.array([*(shift + (x, y)), before[2]])
    base = truth.base
    if along:
        offset = turned[:2, :2] @ (base[:2] - before[:2])
        base = np.array([*(place[:2] + offset), base[2] + turn])
    return replace(
        truth,
        base=base,
        positions={**truth.positions, glove: place},
        rotations={**truth.rotations, glove: turned @ truth.rotations[glove]},
    )


def imagined(truth: GloveTruth, rng: np.random.Generator) -> GloveTruth:
    """The same state with the base elsewhere, and what the hands hold with it.

    Nothing is simulated: a plan needs the truth alone. So the expert says what is to be done in
    places that its own episodes never come to, and that a policy's errors lead to.
    """
    shift = rng.normal(0.0, rng.choice(_ASIDE_M), 2)
    base = truth.base + np.array([*shift, rng.normal(0.0, rng.choice(_ASKEW_RAD))])
    angle = base[2] - truth.base[2]
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    before, after = np.array([*truth.base[:2], 0.0]), np.array([*base[:2], 0.0])
    positions, rotations = dict(truth.positions), dict(truth.rotations)
    for name in {body for body in truth.held.values() if body in layout.GLOVES}:
        positions[name] = turn @ (positions[name] - before) + after
        rotations[name] = turn @ rotations[name]
    return replace(truth, base=base, positions=positions, rotations=rotations)


class Imagination:
    """Collects imagined states and the expert's plans there."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._rows: dict[str, list[Any]] = {}

    def __call__(
        self, expert: ExpertPolicy, observation: Observation, truth: GloveTruth, leg: int
    ) -> None:
        """Ask the expert what it would do elsewhere; its own memory stays as it is."""
        if truth.held["left"] == layout.WASHER_DOOR:
            return  # the hand is tied to the door, so the base cannot be elsewhere
        asked = copy(expert)
        chance = self._rng.random()
        there, moved = truth, leg in _GOING_FOR and chance < 0.8
        if moved:
            # A hand that is about to close has to stay with its glove.
            along = chance < 0.4 or leg + 1 not in _GOING_FOR
            there = relaid(truth, _GOING_FOR[leg], self._rng, along=along)
        there = imagined(there, self._rng)
        asked.bind(lambda: there)
        if moved:
            asked.reconsider()
        asked.chunk_length = CONTRACT.chunk_length
        chunk = asked.infer(observation)
        leg, steps, skill = leg_of(asked.plan[0])
        row = {
            "proprio": extract_proprio(observation, CONTRACT),
            "cameras": np.stack([observation.camera_to_base[view][:3] for view in VIEWS]),
            "places": privileged(there)["places"],
            "leg": leg,
            "steps": steps,
            "skill": skill,
        }
        for name, value in row.items():
            self._rows.setdefault(name, []).append(np.asarray(value, dtype=_TYPES[name]))
        self._rows.setdefault("plans", []).append(chunk.actions)

    def arrays(self) -> dict[str, np.ndarray]:
        """What a file holds of it."""
        return {f"imagined_{name}": np.stack(values) for name, values in self._rows.items()}


def record(
    env: TwinEnv,
    instance: int,
    seed: int,
    settings: DemoSettings,
    drive: Driver | None = None,
) -> dict[str, Any] | None:
    """One episode as the arrays of a file; None if it did not succeed in time.

    Args:
        env: The twin, of the settings' split and protocol.
        instance: Index in the split.
        seed: Decides noise and shoves.
        settings: How.
        drive: Asked at every step; what it gives is executed instead of the expert's command.
    """
    rng = np.random.default_rng([seed, instance, 7])
    noise = ActionNoise(NoiseSpec.parse(settings.noise)) if settings.noise else None
    if noise is not None:
        noise.reset(int(rng.integers(2**31)))
    shoves = Shoves(settings.shove_every_s, rng)
    imagine = Imagination(np.random.default_rng([seed, instance, 11]))
    expert = ExpertPolicy(chunk_length=settings.every if drive is None else 30)
    expert.bind(env.privileged_state)
    env.reset(instance, 0, seed)
    expert.reset(episode_of(instance, seed, settings))
    rows: dict[str, list[Any]] = {}
    pictures: list[bytes] = []
    sizes: list[tuple[int, ...]] = []
    picture_steps: list[int] = []
    plans: list[np.ndarray] = []
    plan_steps: list[int] = []
    said: list[float] = []
    found: list[np.ndarray] = []
    leg = steps = 0
    chunk_at = -settings.every
    terminated = False
    for step in range(settings.max_steps):
        shoot = settings.pictures_every > 0 and step % settings.pictures_every == 0
        observation = env.observe(images=shoot)
        driven = None if drive is None else drive(env, step, leg, steps)
        asked = None if drive is None else drive.asked
        if step - chunk_at >= settings.every or (asked is not None and chunk_at < step):
            chunk, chunk_at = expert.infer(observation), step
            plan = expert.plan
        truth, shown = env.privileged_state(), env.shown()
        assert isinstance(truth, GloveTruth)
        often = 2 if leg in _GOING_FOR else 1
        if settings.imagine_every and step * often % settings.imagine_every < often:
            imagine(expert, observation, truth, leg)
        command = chunk.actions[step - chunk_at]
        leg, steps, skill = leg_of(plan[step - chunk_at])
        if asked is not None:
            plans.append(chunk.actions)
            plan_steps.append(step)
            said.append(asked)
            assert drive is not None
            found.append(drive.found)
        if driven is not None:
            executed = driven
        else:
            executed = command if noise is None else noise.apply(command)
            executed = executed + np.pad(shoves(leg), (0, 20)).astype(np.float32)
        row = {
            "qpos": shown.qpos,
            "look": sum(1 << i for i, name in enumerate(LOOKS) if name in shown.look),
            "proprio": extract_proprio(observation, CONTRACT),
            "cameras": np.stack([observation.camera_to_base[view][:3] for view in VIEWS]),
            "command": command,
            "executed": executed,
            "by_expert": driven is None,
            "leg": leg,
            "steps": steps,
            "skill": skill,
            "task_progress": chunk.progress,
            **privileged(truth),
        }
        for name, value in row.items():
            rows.setdefault(name, []).append(value)
        if shoot:
            three = encode_views(observation.images)
            pictures += three
            sizes.append(tuple(map(len, three)))
            picture_steps.append(step)
        result = env.step(executed)
        if result.terminated:
            terminated = True
            break
    if not terminated and drive is None:
        return None  # where a policy drove, what the expert wanted is worth having all the same
    about = {
        "instance": instance, "split": settings.split, "seed": seed,
        "protocol": settings.protocol, "noise": settings.noise,
        "shove_every_s": settings.shove_every_s, "every": settings.every,
        "driven": drive is not None,
    }  # fmt: skip
    return {
        **{name: np.asarray(values, dtype=_TYPES[name]) for name, values in rows.items()},
        "plan_steps": np.asarray(plan_steps, np.int32),
        "plans": np.asarray(plans, np.float32).reshape(-1, 30, 23),
        "said": np.asarray(said, np.float32),
        "found": np.asarray(found, np.float32).reshape(-1, POINTS, 4),
        **imagine.arrays(),
        "picture_steps": np.asarray(picture_steps, np.int32),
        "picture_sizes": np.asarray(sizes, np.int32).reshape(-1, 3),
        "pictures": np.frombuffer(b"".join(pictures), np.uint8),
        "about": json.dumps(about),
    }


_TYPES: Mapping[str, Any] = {
    "qpos": np.float64, "look": np.uint8, "proprio": np.float32, "cameras": np.float32,
    "command": np.float32, "executed": np.float32, "by_expert": np.bool_, "leg": np.int16,
    "steps": np.int16, "skill": np.int16, "task_progress": np.float32, "held": np.int8,
    "base": np.float64, "places": np.float32, "door": np.float32,
}  # fmt: skip


def privileged(truth: GloveTruth) -> dict[str, Any]:
    """What only training may see of a state: `held`, `base`, `places`, `door`."""
    cos, sin = math.cos(truth.base[2]), math.sin(truth.base[2])
    to_base = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    origin = np.array([*truth.base[:2], 0.0])
    places = np.empty((len(WATCHED), 3, 4))
    for i, name in enumerate(WATCHED):
        places[i, :, :3] = to_base @ truth.rotations[name]
        places[i, :, 3] = to_base @ (truth.positions[name] - origin)
    held = truth.held["left"]
    return {
        "held": WATCHED.index(held) if held in WATCHED else -1,
        "base": truth.base,
        "places": places,
        "door": truth.door_angle,
    }


def make_env(settings: DemoSettings) -> TwinEnv:
    """The twin for these settings."""
    return TwinEnv(
        TASK, protocol=settings.protocol, split=settings.split, max_steps=settings.max_steps + 1
    )


def name_of(settings: DemoSettings, instance: int, seed: int) -> str:
    """The file name of an episode."""
    return f"{settings.split}-{instance:03d}-{seed}.npz"


def write(folder: Path, name: str, arrays: dict[str, Any] | None) -> None:
    """Write an episode, or an empty note that it failed, in one move."""
    partial = folder / f".{os.getpid()}.part"
    if arrays is None:
        (folder / name).with_suffix(".failed").touch()
        return
    with partial.open("wb") as file:
        np.savez_compressed(file, **arrays)
    partial.rename(folder / name)


def episode_of(instance: int, seed: int, settings: DemoSettings) -> EpisodeInfo:
    """What a policy is told of an episode."""
    return EpisodeInfo(
        task=TASK.name,
        task_index=TASK.index,
        instruction=TASK.instruction,
        instance=instance,
        rollout=0,
        seed=seed,
        protocol=settings.protocol,
    )
