"""Demonstrations and snapshots as tensors, and the batches that training draws from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.layout import GLOVES
from b1k_envs.r1pro import CAMERAS
from b1k_policies.xvla.actions import encode
from twin_policy.da3_xvla.models.control import ASIDE, Situation
from twin_policy.demos import CONTRACT
from twin_policy.legs import CLOCKED, FIRST_LEG, LEGS, SECOND_GLOVE_FROM, progress_of
from twin_policy.pictures import decode
from twin_policy.points import POINTS, in_view, points_of
from twin_policy.recipe import V17, Recipe, beside_pictures, mistaken

ROWS = CONTRACT.chunk_length
FOCAL = tuple(CAMERAS[view].focal / CAMERAS[view].size for view in ("head", "left_wrist"))


@dataclass(eq=False)
class Demos:
    """Every step of every demonstration that may be learnt from, one behind the other.

    Attributes:
        points: float32 [T, 2, 11, 3], with the first and with the second glove as the active one.
        seen: bool [T, 2, 11], whether a point lies within any picture.
        hand: float32 [T, 3].
        proprio: float32 [T, 23].
        command: float32 [T, 23], absolute.
        last: int64 [T], the last step whose command is the expert's in this stretch.
        first: int64 [T], the first step of the episode.
        progress: float32 [T].
        leg, steps, skill: int64 [T].
        usable: int64 [U], steps that may be learnt from: those at which the expert drove, and
            those at which a policy drove and was asked.
        plan: int64 [T], where a policy was asked, the index of the expert's plan; else -1.
        plans: float32 [Q, 30, 23].
        said: float32 [Q], the progress that the policy had been told.
        found: float32 [Q, 11, 4], places and scales that the policy's eyes had found, or NaN.
        recipe: What is wrong with them on purpose.
    """

    points: np.ndarray
    seen: np.ndarray
    hand: np.ndarray
    proprio: np.ndarray
    command: np.ndarray
    last: np.ndarray
    ends: np.ndarray
    first: np.ndarray
    progress: np.ndarray
    leg: np.ndarray
    skill: np.ndarray
    usable: np.ndarray
    plan: np.ndarray
    plans: np.ndarray
    said: np.ndarray
    found: np.ndarray
    recipe: Recipe = V17


def load_demos(files: Sequence[Path], hand_in_camera: np.ndarray, recipe: Recipe = V17) -> Demos:
    """Read demonstrations."""
    columns: dict[str, list[np.ndarray]] = {}
    start = planned = 0
    for path in files:
        with np.load(path) as file:
            leg, steps = file["leg"], file["steps"]
            places, cameras, expert = file["places"], file["cameras"], file["by_expert"]
            proprio, command, skill = file["proprio"], file["command"], file["skill"]
            kept = {n: file[n] for n in file.files if n.startswith("imagined_")}
            plan = np.full(len(leg), -1)
            plans, said = np.empty((0, ROWS, 23), np.float32), np.empty(0, np.float32)
            if "plans" in file:
                plans, said = file["plans"], file["said"]
                plan[file["plan_steps"]] = planned + np.arange(len(said))
                # Only some legs have a clock, whatever the policy of that day had.
                at = np.minimum((said * LEGS).astype(int), LEGS - 1)
                said = np.where(np.isin(at, [*CLOCKED]), said, progress_of(at, 0 * at))
            found = np.full((len(said), POINTS, 4), np.nan, np.float32)
            if "found" in file and "pose-order" not in recipe:
                found = file["found"]
        planned += len(said)
        count = len(leg)
        # Where the expert no longer drives, what it commanded is no more what followed.
        breaks = np.flatnonzero(~expert)
        upcoming = np.searchsorted(breaks, np.arange(count))
        last = np.append(breaks, count)[upcoming] - 1
        row = {
            **_geometry(places, cameras, hand_in_camera, recipe),
            "proprio": proprio,
            "command": command,
            "last": start + last,
            "ends": np.full(count, start + count - 1),
            "first": np.full(count, start),
            "progress": progress_of(leg, steps),
            "leg": leg.astype(np.int64),
            "skill": skill.astype(np.int64),
            "usable": start + np.flatnonzero((expert | (plan >= 0)) & ~_impatient(leg)),
            "plan": plan,
            "plans": plans,
            "said": said,
            "found": found,
        }
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
        start += count
        if "imagined_leg" in kept:
            extra = _imagined(kept, hand_in_camera, start, planned, recipe)
            for name, value in extra.items():
                columns[name].append(value)
            start += len(extra["leg"])
            planned += len(extra["leg"])
    whole = {name: np.concatenate(values) for name, values in columns.items()}
    return Demos(**whole, recipe=recipe)


def _geometry(
    places: np.ndarray, cameras: np.ndarray, hand_in_camera: np.ndarray, recipe: Recipe
) -> dict[str, np.ndarray]:
    """`points`, `seen` and `hand` of `Demos`, from the poses of bodies and cameras."""
    both = [points_of(places, np.full(len(places), leg)) for leg in (0, LEGS - 1)]
    wrist = beside_pictures(cameras, recipe)[:, 1]
    return {
        "points": np.stack([taken_for(p, cameras, recipe) for p in both], axis=1),
        "seen": np.stack([in_view(p, cameras[:, :2], FOCAL).any(axis=1) for p in both], axis=1),
        "hand": wrist[..., :3] @ hand_in_camera + wrist[..., 3],
    }


def taken_for(points: np.ndarray, cameras: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Where exact eyes would find points, float32 [N, P, 3]: where they are, but for a recipe."""
    if "pose-order" not in recipe:
        return points
    return mistaken(points, cameras, in_view(points, cameras[:, :2], FOCAL)[:, 1])


def _impatient(leg: np.ndarray) -> np.ndarray:
    """Steps at which the expert begins to fetch anew, bool [N], though nothing was missed.

    It is out of patience after 240 steps in a leg, and while a policy drives it counts on. Learnt
    from, that is a robot that leaves the counter when it is about to arrive.
    """
    steps = np.arange(len(leg))
    before = np.stack([leg[np.maximum(steps - gap, 0)] for gap in (5, 10, 20, 30, 60, 90)])
    anew = np.zeros(len(leg), bool)
    for glove in GLOVES:
        first = FIRST_LEG["fetch", glove]
        driven = (before > first) & (before < first + 4)
        grasped = before == first + 4
        anew |= (leg >= first) & (leg < first + 2) & driven.any(axis=0) & ~grasped.any(axis=0)
    return anew


def _imagined(
    file: Mapping[str, np.ndarray],
    hand_in_camera: np.ndarray,
    start: int,
    planned: int,
    recipe: Recipe,
) -> dict[str, np.ndarray]:
    """The imagined states of a demonstration as steps of their own, each with the expert's plan."""
    leg, steps = file["imagined_leg"].astype(np.int64), file["imagined_steps"]
    count, alone = len(leg), start + np.arange(len(leg))
    progress = progress_of(leg, steps)
    return {
        **_geometry(file["imagined_places"], file["imagined_cameras"], hand_in_camera, recipe),
        "proprio": file["imagined_proprio"],
        "command": file["imagined_plans"][:, 0],
        "last": alone,
        "ends": alone,
        "first": alone,
        "progress": progress,
        "leg": leg,
        "skill": file["imagined_skill"].astype(np.int64),
        "usable": alone,
        "plan": planned + np.arange(count),
        "plans": file["imagined_plans"],
        "said": progress,
        "found": np.full((count, POINTS, 4), np.nan, np.float32),
    }


@dataclass(eq=False)
class ControlBatch:
    """One batch for the control network: what it goes by, and what it should say."""

    situation: Situation
    chunk: torch.Tensor
    weight: torch.Tensor
    leg: torch.Tensor
    clock: torch.Tensor
    skill: torch.Tensor


def chunk_labels(demos: Demos, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Model's columns of the commands that followed, [B, 30, 23], and each row's weight [B, 30]."""
    # With a padded action the first row is the one that was commanded last.
    shift = np.arange(ROWS) - ("padded-action" in demos.recipe)
    wanted = np.maximum(at[:, None] + shift, demos.first[at][:, None])
    rows = np.minimum(wanted, demos.ends[at][:, None])  # after the end the last one is repeated
    chunk = encode(demos.command[rows], demos.proprio[at], CONTRACT)
    by_expert = (rows <= demos.last[at][:, None]) | (demos.last[at] == demos.ends[at])[:, None]
    # What is executed at any horizon counts most.
    later = np.select([np.arange(ROWS) < 10, np.arange(ROWS) < 20], [1.0, 0.8], 0.6)
    weight = later * by_expert
    planned = np.flatnonzero(demos.plan[at] >= 0)
    if len(planned):
        plans = demos.plans[demos.plan[at[planned]]][:, np.maximum(shift, 0)]
        chunk[planned] = encode(plans, demos.proprio[at[planned]], CONTRACT)
        weight[planned] = later
    return chunk, weight.astype(np.float32)


def previous_progress(demos: Demos, at: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What the last inference may have said: some steps ago, and not exactly, float32 [B]."""
    count = len(at)
    usual = rng.choice([10, 30], count, p=[0.6, 0.4])  # horizons; 10 is what runs have unasked
    gap = np.where(rng.random(count) < 0.8, usual, rng.integers(1, 31, count))
    before = at - gap
    known = before >= demos.first[at]
    said = demos.progress[np.maximum(before, demos.first[at])] * LEGS
    kind = rng.random(count)
    size = np.select([kind < 0.6, kind < 0.92], [0.05, 0.25], 1.5)
    said = said + rng.normal(0.0, size)
    # Now and then anything: what the pictures say has to win against a memory gone astray.
    lost = rng.random(count) < 0.02
    said[lost] = rng.uniform(0.0, LEGS, lost.sum())
    known |= lost
    alone = demos.first[at] == demos.ends[at]
    planned = (demos.plan[at] >= 0) & (alone | (rng.random(count) < 0.8))
    said[planned] = demos.said[demos.plan[at[planned]]] * LEGS
    said[alone] += rng.normal(0.0, 0.15, alone.sum())
    # One that has come to the wrong place thinks that it has arrived.
    said[alone & (rng.random(count) < 0.2)] += 1.0
    known |= planned
    return np.where(known, np.clip(said / LEGS, 0.0, 1.0), 0.0).astype(np.float32)


@dataclass(eq=False)
class ErrorBank:
    """Errors of the eyes on snapshots: float32 [N, 11, 3] [m], the scale said, and the leg."""

    error: np.ndarray
    scale: np.ndarray
    leg: np.ndarray

    def __post_init__(self) -> None:
        self._of = [np.flatnonzero(self.leg == leg) for leg in range(LEGS)]

    def draw(self, leg: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Errors and scales of snapshots of the same legs."""
        chosen = np.empty(len(leg), np.int64)
        for number in np.unique(leg):
            rows, pool = leg == number, self._of[number]
            pool = pool if len(pool) else np.arange(len(self.leg))
            chosen[rows] = rng.choice(pool, rows.sum())
        return self.error[chosen], self.scale[chosen]


def draw_control(
    demos: Demos, at: np.ndarray, rng: np.random.Generator, bank: ErrorBank | None = None
) -> ControlBatch:
    """A batch from the true places, with errors as made up here, or most of them as the eyes'."""
    count = len(at)
    progress = previous_progress(demos, at, rng)
    second = (progress * LEGS >= SECOND_GLOVE_FROM).astype(np.int64)
    points, seen = demos.points[at, second], demos.seen[at, second]
    far = np.linalg.norm(points - demos.hand[at][:, None], axis=-1)
    # From a third of a millimetre to 1.5 cm near the hand, and more far away.
    size = np.exp(rng.uniform(np.log(0.0003), np.log(0.015), (count, 1)))
    size = size * np.exp(rng.normal(0.0, 0.4, far.shape)) * (1.0 + far)
    lost = ~seen & (rng.random(far.shape) < 0.7)
    lost |= rng.random(far.shape) < 0.01
    scale = np.where(lost, rng.uniform(0.3, 1.4, far.shape), size + 0.001)
    noise = rng.normal(0.0, 1.0, points.shape) * np.where(lost, scale, size)[..., None]
    if bank is not None:
        error, said = bank.draw(demos.leg[at], rng)
        real = rng.random(count) < 0.8
        # A little of an error's size and sign is not the picture's but the network's of that day.
        error = error * rng.uniform(0.6, 1.3, (count, 1, 1))
        noise[real], scale[real] = error[real], said[real]
    points = points + noise
    # Where a policy was asked, what its eyes had found is there to be learnt from.
    asked = np.flatnonzero((demos.plan[at] >= 0) & (rng.random(count) < 0.8))
    seen = demos.found[demos.plan[at[asked]]]
    asked, seen = asked[~np.isnan(seen[:, 0, 0])], seen[~np.isnan(seen[:, 0, 0])]
    points[asked], scale[asked] = seen[..., :3], seen[..., 3]
    progress[asked] = demos.said[demos.plan[at[asked]]]
    chunk, weight = chunk_labels(demos, at)
    situation = Situation(
        points=_tensor(points),
        scale=_tensor(scale),
        hand=_tensor(demos.hand[at]),
        proprio=_tensor(demos.proprio[at] + rng.normal(0.0, 0.001, (count, 23))),
        progress=_tensor(progress),
        words=torch.zeros(0),
        aside=0.1 * torch.tanh(torch.randn(count, ASIDE)),
    )
    leg = demos.leg[at]
    return ControlBatch(
        situation=situation,
        chunk=_tensor(chunk),
        weight=_tensor(weight),
        leg=torch.from_numpy(leg),
        clock=_tensor(demos.progress[at] * LEGS - leg),
        skill=torch.from_numpy(demos.skill[at]),
    )


@dataclass(eq=False)
class Snapshots:
    """Snapshots in memory, pictures still coded.

    Attributes:
        pictures: For each its head's and its wrist's JPEG.
        places, cameras, proprio, leg: as in `snapshots`.
    """

    pictures: list[tuple[bytes, bytes]]
    places: np.ndarray
    cameras: np.ndarray
    proprio: np.ndarray
    leg: np.ndarray
    steps: np.ndarray


def load_snapshots(files: Sequence[Path]) -> Snapshots:
    """Read files of snapshots."""
    pictures: list[tuple[bytes, bytes]] = []
    columns: dict[str, list[np.ndarray]] = {
        n: [] for n in ("places", "cameras", "proprio", "leg", "steps")
    }
    for path in files:
        with np.load(path) as file:
            coded = [
                np.split(file[view], np.cumsum(file[f"{view}_sizes"])[:-1])
                for view in ("head", "wrist")
            ]
            pictures += [(h.tobytes(), w.tobytes()) for h, w in zip(*coded, strict=True)]
            for name, values in columns.items():
                values.append(file[name])
    return Snapshots(pictures, **{name: np.concatenate(v) for name, v in columns.items()})


@dataclass(eq=False)
class SightBatch:
    """One batch for the eyes, of one view or both.

    Attributes:
        pictures: float32 [B, V, 3, S, S], normalised.
        poses: float32 [B, 3, 4, 4], of all three cameras.
        told: The same as they stand beside the pictures, which a recipe may get wrong.
        proprio: float32 [B, 23].
        second: float32 [B], 1 where the second glove is the active one.
        points: float32 [B, 11, 3] [m], base frame.
        seen: bool [B, 2, 11], whether a point lies in the picture of each eye.
    """

    pictures: torch.Tensor
    poses: torch.Tensor
    told: torch.Tensor
    proprio: torch.Tensor
    second: torch.Tensor
    points: torch.Tensor
    seen: torch.Tensor


_MEAN = np.array(CONTRACT.image_mean, np.float32)
_STD = np.array(CONTRACT.image_std, np.float32)


def draw_sights(
    snapshots: Snapshots,
    at: np.ndarray,
    rng: np.random.Generator | None,
    views: tuple[int, ...] = (0, 1),
    recipe: Recipe = V17,
) -> SightBatch:
    """A batch of pictures with the places in them; with an `rng` the light varies."""
    pictures = np.stack([decode([snapshots.pictures[i][v] for v in views]) for i in at])
    second = snapshots.leg[at] >= SECOND_GLOVE_FROM
    proprio = snapshots.proprio[at]
    gain, shift = np.ones((len(at), len(views), 1, 1, 3)), np.zeros((len(at), len(views), 1, 1, 3))
    if rng is not None:
        second = second ^ (rng.random(len(at)) < 0.03)
        gain = rng.normal(1.0, 0.05, gain.shape)
        shift = rng.normal(0.0, 0.08, gain.shape)
        proprio = proprio + rng.normal(0.0, 0.002, proprio.shape).astype(np.float32)
    # One factor and one summand a channel: normalisation and light in one pass.
    tensor = torch.from_numpy(pictures).float()
    tensor.mul_(_tensor(gain / (255 * _STD))).add_(_tensor(shift - gain * _MEAN / _STD))
    points = points_of(snapshots.places[at], np.where(second, LEGS - 1, 0))
    cameras = snapshots.cameras[at]
    poses = np.zeros((len(at), 3, 4, 4), np.float32)
    poses[:, :, :3], poses[:, :, 3, 3] = cameras, 1.0
    return SightBatch(
        pictures=tensor.movedim(-1, -3),
        poses=torch.from_numpy(poses),
        told=torch.from_numpy(beside_pictures(poses, recipe)),
        proprio=_tensor(proprio),
        second=_tensor(second),
        points=torch.from_numpy(points),
        seen=torch.from_numpy(in_view(points, cameras[:, :2], FOCAL)),
    )


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32))
