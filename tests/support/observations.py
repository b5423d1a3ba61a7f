"""What a batch and a decoded chunk have to be, by accounts of their own, and what to try them on.

Every `*_faults` function holds what the modules made to the model cards as typed off below, to PIL,
and to whatever in the same Observation says the same thing another way. It returns one line per
disagreement, none when all is well. Nothing here reads an `EvalContract`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from b1k_envs.base import Env, Observation, ProtocolYear, View

Faults = list[str]
Pictures = Mapping[View, np.ndarray]

# --- The cards -------------------------------------------------------------------------------

VIEWS: tuple[View, ...] = ("head", "left_wrist", "right_wrist")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OFFSETS = (3, 4, 5, *range(7, 14), *range(15, 22))
"""make_bool_mask(-3, 3, -1, 7, -1, 7, -1): the columns that are offsets."""
DTYPES = {
    "input_ids": "int64",
    "image_input": "float32",
    "image_mask": "bool",
    "proprio": "float32",
    "domain_id": "int64",
    "extrinsics": "float32",
    "intrinsics": "float32",
}


@dataclass(frozen=True)
class Card:
    """What one model card says.

    Attributes:
        size: Pictures as sent [px].
        head_k: fx = fy and cx = cy of the head as sent [px]; `wrist_k` likewise.
        blocks: Which block of `cam_rel_poses` is in each row of the extrinsics.
        first_action: First row to execute.
    """

    size: int
    head_k: tuple[float, float]
    wrist_k: tuple[float, float]
    blocks: tuple[int, int, int]
    first_action: int

    @property
    def own_rows(self) -> tuple[int, ...]:
        """Row of the extrinsics with the pose of each image's own camera."""
        return tuple(self.blocks.index(block) for block in (2, 0, 1))


CARDS = {
    # image_size 504; blocks left, right, head sent as recorded; row 0 is already commanded
    "v4": Card(504, (214.2, 252), (408.1, 252), (0, 1, 2), 1),
    # 224; PARQUET_TO_VIEW = [1, 2, 0]; row 0 is the next action
    "v17": Card(224, (95.2, 112), (181.4, 112), (2, 0, 1), 0),
}

# The 23 numbers by index into the evaluator's vector; a pair is a gripper's two fingers.
PROPRIO_INDICES: Mapping[ProtocolYear, Sequence[int | tuple[int, int]]] = {
    "2025": [
        *(253, 254, 255),
        *(236, 237, 238, 239),
        *(158, 159, 160, 161, 162, 163, 164),
        (193, 194),
        *(197, 198, 199, 200, 201, 202, 203),
        (232, 233),
    ],
    "2026": [
        *(0, 1, 2),
        *(53, 54, 55, 56),
        *(3, 4, 5, 6, 7, 8, 9),
        (24, 25),
        *(28, 29, 30, 31, 32, 33, 34),
        (49, 50),
    ],
}

# --- Observations to try -----------------------------------------------------------------------

_DOCS = Path(__file__).parents[2] / "docs"


@cache
def natural_picture(name: str, top: int, left: int, size: int) -> np.ndarray:
    """A square crop of a picture of docs/, uint8 [size, size, 3] RGB, read-only."""
    whole = cv2.cvtColor(cv2.imread(str(_DOCS / name)), cv2.COLOR_BGR2RGB)
    crop = np.ascontiguousarray(whole[top : top + size, left : left + size])
    assert crop.shape == (size, size, 3)
    crop.setflags(write=False)
    return crop


def natural_pictures() -> dict[View, np.ndarray]:
    """One per view at the native sizes, all different."""
    return {
        "head": natural_picture("episode.jpg", 132, 1280, 720),
        "left_wrist": natural_picture("episode.jpg", 252, 0, 480),
        "right_wrist": natural_picture("episode.jpg", 504, 760, 480),
    }


def made_observation(
    seed: int = 0, protocol: ProtocolYear = "2025", pictures: Pictures | None = None
) -> Observation:
    """No number twice: random poses and proprio, fingers within their travel, natural pictures."""
    random = np.random.default_rng(seed)
    blocks, poses = [], {}
    for view in ("left_wrist", "right_wrist", "head"):
        position, quaternion = random.uniform(-1.5, 1.5, 3), random.standard_normal(4)
        quaternion /= np.linalg.norm(quaternion)
        blocks += [position, quaternion]
        poses[view] = np.eye(4, dtype=np.float32)
        poses[view][:3] = np.column_stack([turned(quaternion), position])
        poses[view].setflags(write=False)
    proprio = random.uniform(-2, 2, {"2025": 256, "2026": 61}[protocol])
    for pair in PROPRIO_INDICES[protocol]:
        if isinstance(pair, tuple):
            proprio[list(pair)] = random.uniform(0, 0.05, 2)
    observation = Observation(
        images=natural_pictures() if pictures is None else pictures,
        camera_to_base={view: poses[view] for view in VIEWS},
        cam_rel_poses=np.concatenate(blocks).astype(np.float32),
        proprio=proprio.astype(np.float32),
        protocol=protocol,
        task_index=31,
        step=0,
        time=0.0,
    )
    observation.cam_rel_poses.setflags(write=False)
    observation.proprio.setflags(write=False)
    return observation


@dataclass(frozen=True)
class Sight:
    """The twin before and after one gripper closed, and nothing else moved."""

    arm: str
    before: Observation
    after: Observation


def gripper_sights(env: Env) -> tuple[Sight, Sight]:
    """Hands up before the head's eyes; then the left gripper closes, then the right one.

    Args:
        env: A twin that was reset, with the 256 numbers of 2025.
    """
    action = np.zeros(23, np.float32)
    action[3:7] = 1.025, -1.45, -0.47, 0.0
    action[[7, 15]], action[[10, 18]], action[[14, 22]] = -1.2, -1.0, 1.0
    seen = [_after(env, action)]
    for column in (14, 22):
        action[column] = -1.0
        seen.append(_after(env, action))
    return Sight("left", *seen[:2]), Sight("right", *seen[1:])


def _after(env: Env, action: np.ndarray) -> Observation:
    for _ in range(60):
        env.step(action)
    return env.observe()


def tokens(count: int, length: int = 50):
    """As a tokenizer would give, int64 [count, length]."""
    import torch

    return torch.arange(count * length).reshape(count, length)


# --- Independent accounts ----------------------------------------------------------------------


def turned(quaternion: np.ndarray) -> np.ndarray:
    """Rotation of a unit quaternion x, y, z, w, float64 [3, 3]: the axes it turns, one by one."""
    axis, w = quaternion[:3].astype(np.float64), float(quaternion[3])
    columns = []
    for unit in np.eye(3):
        across = 2 * np.cross(axis, unit)
        columns.append(unit + w * across + np.cross(axis, across))
    return np.column_stack(columns)


def expected_pose(block: np.ndarray, *, direction: str, axes: str) -> np.ndarray:
    """The 4x4 of one block of `cam_rel_poses` (position, quaternion xyzw), float64."""
    right, up, back = turned(block[3:]).T
    x, y, z = (right, up, back) if axes == "usd" else (right, -up, -back)
    matrix = np.array([[*x, 0], [*y, 0], [*z, 0], [*block[:3], 1]], dtype=np.float64).T
    return matrix if direction == "camera_to_base" else np.linalg.inv(matrix)


def expected_proprio(observation: Observation) -> np.ndarray:
    """The 23 numbers, grippers from -1 (0 m) to +1 (0.05 m a finger), float64."""
    raw = observation.proprio.astype(np.float64)
    return np.array(
        [
            2 * (raw[index[0]] + raw[index[1]]) / 0.10 - 1 if isinstance(index, tuple)
            else raw[index]
            for index in PROPRIO_INDICES[observation.protocol]
        ]
    )  # fmt: skip


def normalised(levels: np.ndarray) -> np.ndarray:
    """Step by step in float32, as torchvision's ToTensor and Normalize; levels [..., 3, S, S]."""
    mean, std = (np.array(each, np.float32).reshape(3, 1, 1) for each in (MEAN, STD))
    scaled = levels.astype(np.float32) / np.float32(255)
    return (scaled - mean) / std


def levels_of(planes: np.ndarray) -> np.ndarray:
    """Back from normalised planes [..., 3, S, S] to 0..255, int64; what lies outside stays."""
    mean, std = (np.array(each).reshape(3, 1, 1) for each in (MEAN, STD))
    return np.rint((planes.astype(np.float64) * std + mean) * 255).astype(np.int64)


def pil_resized(picture: np.ndarray, size: int, filter_: int = Image.Resampling.BICUBIC):
    """Planes of the resized picture, int64 [3, size, size]."""
    resized = Image.fromarray(picture).resize((size, size), filter_)
    return np.asarray(resized).astype(np.int64).transpose(2, 0, 1)


def picture_fault(planes: np.ndarray, picture: np.ndarray, size: int, *, beyond_one=1e-4) -> str:
    """What disagrees between normalised planes [3, S, S] and a native picture; '' if nothing.

    The levels may be one off PIL's, in `beyond_one` of them two: torch rounds its weights.
    """
    if planes.shape != (3, size, size):
        return f"shape {list(planes.shape)}"
    levels = levels_of(planes)
    if not np.array_equal(normalised(levels), planes):
        return "not normalised as torchvision does"
    off = np.abs(levels - pil_resized(picture, size))
    share = float((off > 1).mean())
    if off.max() > 2 or share > beyond_one:
        return f"up to {off.max()} levels off PIL's, more than one in {share:.2e}"
    return ""


def project(point: np.ndarray, pose: np.ndarray, k: np.ndarray) -> tuple[float, float] | None:
    """Where a point of the base frame is in the picture (column, row) [px]; None behind it."""
    x, y, z, _ = np.linalg.inv(pose.astype(np.float64)) @ (*point.astype(np.float64), 1.0)
    if z >= 0:  # a USD camera looks along -z
        return None
    column, row, depth = k.astype(np.float64) @ (x, -y, -z)
    return float(column / depth), float(row / depth)


# --- What disagrees ------------------------------------------------------------------------------


def batch_faults(batch, card: Card, count: int) -> Faults:
    """Keys, dtypes and shapes of the card's table, and the two constants."""
    shapes = {
        "input_ids": (count, 50),
        "image_input": (count, 3, 3, card.size, card.size),
        "image_mask": (count, 3),
        "proprio": (count, 23),
        "domain_id": (count,),
        "extrinsics": (count, 3, 4, 4),
        "intrinsics": (count, 3, 3, 3),
    }
    if set(batch) != set(shapes):
        return [f"keys {sorted(batch)}"]
    faults = []
    for key, shape in shapes.items():
        found, dtype = tuple(batch[key].shape), str(batch[key].dtype).removeprefix("torch.")
        if (found, dtype) != (shape, DTYPES[key]):
            faults.append(f"{key} {dtype} {list(found)}")
        if not batch[key].is_contiguous() or batch[key].device.type != "cpu":
            faults.append(f"{key} is not contiguous memory of the CPU")
    if batch["domain_id"].tolist() != [19] * count:
        faults.append(f"domain_id {batch['domain_id'].tolist()}")
    if not batch["image_mask"].all():
        faults.append("image_mask hides a view")
    return faults


def image_faults(batch, observations: Sequence[Observation], card: Card, **tolerance) -> Faults:
    """Every view of every observation against PIL's bicubic and numpy's arithmetic."""
    sent = batch["image_input"].numpy()
    faults = []
    for row, observation in enumerate(observations):
        for column, view in enumerate(VIEWS):
            picture = observation.images[view]
            fault = picture_fault(sent[row, column], picture, card.size, **tolerance)
            faults += [f"{view} of {row}: {fault}"] if fault else []
    return faults


def extrinsics_faults(batch, observations: Sequence[Observation], card: Card) -> Faults:
    """Rows against the evaluator's own record of the poses, camera to base, USD axes."""
    if "extrinsics" not in batch:
        return ["not sent"]
    faults = []
    for row, observation in enumerate(observations):
        blocks = observation.cam_rel_poses.reshape(3, 7)
        for place, block in enumerate(card.blocks):
            want = expected_pose(blocks[block], direction="camera_to_base", axes="usd")
            found = batch["extrinsics"][row, place].numpy()
            if not np.allclose(found, want, atol=2e-6, rtol=0):
                faults.append(f"row {place} of {row}")
    return faults


def intrinsics_faults(batch, card: Card) -> Faults:
    """Figures of the card to a tenth of a pixel, nothing else in the matrix."""
    if "intrinsics" not in batch:
        return ["not sent"]
    faults = []
    for matrices in batch["intrinsics"].numpy():
        figures = (card.head_k, card.wrist_k, card.wrist_k)
        for view, k, (focal, centre) in zip(VIEWS, matrices, figures, strict=True):
            want = np.array([[focal, 0, centre], [0, focal, centre], [0, 0, 1]])
            if not np.allclose(k, want, atol=0.1, rtol=0) or not np.array_equal(k == 0, want == 0):
                faults.append(f"{view}: {k.round(1).tolist()}")
    return faults


def proprio_faults(batch, observations: Sequence[Observation]) -> Faults:
    """The 23 numbers against the indices written out above."""
    want = np.stack([expected_proprio(observation) for observation in observations])
    found = batch["proprio"].numpy()
    if found.shape != want.shape:
        return [f"shape {list(found.shape)}"]
    wrong = np.argwhere(~np.isclose(found, want, atol=1e-6, rtol=1e-6))
    return [f"column {column} of {row}" for row, column in wrong]


def sight_faults(
    build: Callable[[Sequence[Observation]], Mapping], sights: Sequence[Sight], rows: Sequence[int]
) -> Faults:
    """A closing gripper changes the picture where the batch's own pose and K put the hand.

    Args:
        build: Makes a batch of observations.
        sights: Both hands.
        rows: Which row of the extrinsics to use with each image.
    """
    faults = []
    for sight in sights:
        batch = build([sight.before, sight.after])
        if "extrinsics" not in batch:
            return ["no pose sent"]
        before, after = batch["image_input"].numpy()
        start = {"left": 186, "right": 225}[sight.arm]  # eef_..._pos, base frame
        hand = sight.after.proprio[start : start + 3]
        for image in (0, {"left": 1, "right": 2}[sight.arm]):
            change = np.abs(after[image] - before[image]).max(axis=0)
            changed = np.argwhere(change > 0.2 * change.max())[:, ::-1] + 0.5  # (column, row)
            pose, k = batch["extrinsics"][1, rows[image]], batch["intrinsics"][1, image]
            place = project(hand, pose.numpy(), k.numpy())
            if not len(changed) or place is None or not _around(changed, place, len(change)):
                faults.append(f"{sight.arm} hand in the {VIEWS[image]} picture")
    return faults


def _around(changed: np.ndarray, place: tuple[float, float], size: int) -> bool:
    """Whether changed pixels lie on all sides of a place and within 3 % of the picture.

    Measured: at most 1 %, since the head sees the gap between the pads from above. A wrong row is
    off by a sixth of the picture and more.
    """
    inside = (changed.min(axis=0) <= place).all() and (place <= changed.max(axis=0)).all()
    nearest = np.linalg.norm(changed - place, axis=1).min()
    return bool(inside and nearest <= 0.03 * size)


def random_chunk(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A prediction float32 [2, 30, 23] and the proprio float32 [2, 23] that goes with it."""
    random = np.random.default_rng(seed)
    return (
        random.uniform(-2, 2, (2, 30, 23)).astype(np.float32),
        random.uniform(-2, 2, (2, 23)).astype(np.float32),
    )


def expected_actions(predicted: np.ndarray, proprio: np.ndarray) -> np.ndarray:
    """The card's decode, one number at a time: offsets from one and the same proprio."""
    absolute = np.zeros_like(predicted)
    for b, row, column in np.ndindex(*predicted.shape):
        reference = proprio[b, column] if column in OFFSETS else np.float32(0)
        absolute[b, row, column] = predicted[b, row, column] + reference
    return absolute


def decode_faults(decode: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Faults:
    """Columns in which a decode of chunks [2, 30, 23] is not the card's."""
    predicted, proprio = random_chunk()
    wrong = decode(predicted, proprio) != expected_actions(predicted, proprio)
    return [f"column {column}" for column in np.flatnonzero(wrong.any(axis=(0, 1)))]


def executable_faults(executable: Callable[[np.ndarray], np.ndarray], card: Card) -> Faults:
    """Which rows of a chunk are left to command."""
    chunk, _ = random_chunk()
    want = np.stack([chunk[:, row] for row in range(card.first_action, 30)], axis=1)
    found = executable(chunk)
    return [] if np.array_equal(found, want) else [f"{found.shape[1]} rows"]
