"""Findings: what is wrong or doubtful about a checkpoint under a contract, in words.

There are two kinds of evidence. Stated: the fields in force are compared with what the checkpoint's
files and its preset say. Measured: pictures, K, poses and state as sent under the contract in force
are compared with those of the reference contract, which is what `resolve` finds when nothing is
given by hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from b1k_envs.base import Float32Array, Observation
from b1k_envs.errors import UsageError
from b1k_policies.contract.consequences import shown
from b1k_policies.contract.contract import EvalContract
from b1k_policies.contract.fields import FIELDS, decode_value
from b1k_policies.contract.resolved import (
    ConflictRow,
    ContractConflictError,
    ResolvedContract,
    fields_of_figure,
)
from b1k_policies.inspection.geometry import SeenImage, Sighting, whose_pose
from b1k_policies.xvla.batch import extract_proprio, extrinsics, shown_proprio
from b1k_policies.xvla.images import image_tensor

Level = Literal["wrong", "doubt", "note"]
LEVELS: tuple[Level, ...] = ("wrong", "doubt", "note")
"""Worst first. `wrong`: contradicts the checkpoint, its card or public code. `doubt`: may be
intended, or contradicts a default that nothing proves. `note`: worth knowing."""

_IMAGE_FIELDS = (
    "image_size", "resize_filter", "resize_antialias", "colour_order", "image_mean", "image_std",
    "view_order",
)  # fmt: skip
_K_FIELDS = ("native_intrinsics", "scale_intrinsics", "image_size", "view_order", "posed")
_POSE_FIELDS = (
    "extrinsics_rows", "extrinsics_direction", "camera_axes", "view_order", "posed",
)  # fmt: skip
_PROPRIO_FIELDS = (
    "proprio_parts", "gripper_proprio", "base_qvel_frame", "proprio_normalisation", "proprio_mask",
)  # fmt: skip

_SAME_K = 1e-3
_SAME = 1e-5


@dataclass(frozen=True, kw_only=True)
class Notice:
    """One thing a person should know.

    Attributes:
        level: How bad it is; see `LEVELS`.
        field: The field of the contract, argument of the model, or other thing it is about.
        text: One sentence.
    """

    level: Level
    field: str
    text: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Sent:
    """The arrays that are sent for one observation under one contract.

    Attributes:
        images: float32 [V, 3, S, S], normalised.
        k: float32 [V, 3, 3] [px]; None where no poses are sent.
        poses: float32 [V, 4, 4]; None where no poses are sent.
        proprio: float32 [P].
    """

    images: Float32Array
    k: Float32Array | None
    poses: Float32Array | None
    proprio: Float32Array


def would_send(observation: Observation, contract: EvalContract) -> Sent:
    """Return what is sent for an observation under a contract.

    Raises:
        UsageError: The layout of the observation lacks a part of the contract's proprio.
    """
    posed = contract.posed
    return Sent(
        images=image_tensor([observation.images], contract)[0].numpy(),
        k=contract.intrinsics_matrices.astype(np.float32) if posed else None,
        poses=extrinsics(observation, contract) if posed else None,
        proprio=shown_proprio(extract_proprio(observation, contract), contract),
    )


# --- stated --------------------------------------------------------------------------------------


def contract_findings(found: ResolvedContract, reference: ResolvedContract | None) -> list[Notice]:
    """List the fields in which the contract in force departs from the checkpoint's own.

    Args:
        found: The contract in force.
        reference: The checkpoint's own contract; None if its files alone give none.
    """
    own = {row.name: row for row in found.forced if row.name in FIELDS}
    figures = [row for row in found.forced if row.name not in FIELDS]
    findings = []
    explained = set()
    for name, trained in _departures(found, reference, own).items():
        row = own.get(name) or next(
            (figure for figure in figures if name in fields_of_figure(figure.name)), None
        )
        if row is not None:
            origin = f"{row.where} says {shown(row.stated)}"
        else:
            assert reference is not None  # else every departure has its row
            source = reference.sources[name].source
            origin = f"{source} says {FIELDS[name].in_words(trained)}"
        what, follows = FIELDS[name].consequence(found.contract, trained)
        by = found.sources[name].source
        findings.append(
            Notice(
                level=_level([name], found, reference),
                field=name,
                text=f"{what} ({by}), {origin}: {follows}",
            )
        )
        explained.add(name)
    for figure in figures:
        if not explained & set(fields_of_figure(figure.name)):
            findings.append(Notice(level="wrong", field=figure.name, text=_of_figure(figure)))
    return findings


def _departures(
    found: ResolvedContract, reference: ResolvedContract | None, own: Mapping[str, ConflictRow]
) -> dict[str, Any]:
    """Return the trained value of every field in which the contract in force departs from it."""
    if reference is None:
        return {name: decode_value(name, row.stated) for name, row in own.items()}
    departures = {}
    for name, info in FIELDS.items():
        trained = getattr(reference.contract, name)
        if info.effect != "label" and getattr(found.contract, name) != trained:
            departures[name] = trained
    return departures


def _of_figure(row: ConflictRow) -> str:
    return (
        f"{row.where} says {shown(row.stated)}, but {shown(row.other)} follows from "
        f"{row.other_where}: contract and checkpoint are not of one piece"
    )


def _level(
    names: Sequence[str], found: ResolvedContract, reference: ResolvedContract | None
) -> Level:
    """Return how bad the departures in these fields are: the level of the worst."""
    levels: list[Level] = ["note"]
    for name in names:
        if reference is None:
            levels.append("wrong" if found.sources[name].forced else "note")
            continue
        if getattr(found.contract, name) == getattr(reference.contract, name):
            continue
        by_file = ".json:" in reference.sources[name].source or found.sources[name].forced
        if FIELDS[name].sure == "choice":
            levels.append("note")
        else:
            known = by_file or FIELDS[name].sure in ("card", "public")
            levels.append("wrong" if known else "doubt")
    return min(levels, key=LEVELS.index)


# --- measured ------------------------------------------------------------------------------------


def measured_findings(
    sent: Sent, observation: Observation, found: ResolvedContract, reference: ResolvedContract
) -> Iterator[Notice]:
    """Compare what is sent with what would be sent under the reference contract."""
    try:
        trained = would_send(observation, reference.contract)
    except UsageError as error:
        yield Notice(level="doubt", field="proprio", text=f"cannot be compared: {error}")
        return
    for field, fields, text in (
        ("image_input", _IMAGE_FIELDS, _images_differ(sent, trained, found, reference)),
        ("intrinsics", _K_FIELDS, _k_differs(sent, trained, found.contract)),
        ("extrinsics", _POSE_FIELDS, _poses_differ(sent, trained, observation, reference)),
        ("proprio", _PROPRIO_FIELDS, _proprio_differs(sent, trained)),
    ):
        if text is not None:
            yield Notice(level=_level(fields, found, reference), field=field, text=text)


def _images_differ(
    sent: Sent, trained: Sent, found: ResolvedContract, reference: ResolvedContract
) -> str | None:
    ours, theirs = sent.images.shape, trained.images.shape
    if ours != theirs:
        return (
            f"measured: {ours[0]} pictures of {ours[-1]} px are sent, the checkpoint's own "
            f"contract sends {theirs[0]} of {theirs[-1]} px"
        )
    std = np.asarray(reference.contract.image_std, np.float32)[:, None, None]
    levels = np.abs(sent.images - trained.images) * std * 255
    # Pictures are whole levels of 255 before they are normalised: less than half is rounding.
    if levels.max() < 0.5:
        return None
    worst = int(levels.reshape(len(levels), -1).max(axis=1).argmax())
    return (
        f"measured: the pictures differ from those of the checkpoint's own contract by up to "
        f"{levels.max():.0f} of 255 levels, {levels.mean():.1f} on average (most in "
        f"{found.contract.view_order[worst]})"
    )


def _k_differs(sent: Sent, trained: Sent, contract: EvalContract) -> str | None:
    if sent.k is None or trained.k is None or sent.k.shape != trained.k.shape:
        return None  # the finding about the field says it
    apart = np.abs(sent.k - trained.k).max(axis=(1, 2))
    if apart.max() < _SAME_K:
        return None
    worst = int(apart.argmax())
    ours, theirs = sent.k[worst], trained.k[worst]
    ratio = sent.images.shape[-1] / trained.images.shape[-1]
    fits = np.allclose(sent.k[:, :2], ratio * trained.k[:, :2], rtol=0, atol=_SAME_K)
    return (
        f"measured: K differs by up to {apart.max():.1f} px: {contract.view_order[worst]} is sent "
        f"fx {ours[0, 0]:.1f}, cx {ours[0, 2]:.1f}, the checkpoint's own contract sends "
        f"fx {theirs[0, 0]:.1f}, cx {theirs[0, 2]:.1f}"
        f"{' (it fits the pictures as sent)' if fits else ''}"
    )


def _poses_differ(
    sent: Sent, trained: Sent, observation: Observation, reference: ResolvedContract
) -> str | None:
    if sent.poses is None or trained.poses is None or sent.poses.shape != trained.poses.shape:
        return None
    reading = reference.contract
    rows = [
        f"row {row} is the pose of {whose_pose(ours, view, observation, reading)} instead of "
        f"{whose_pose(theirs, view, observation, reading)}"
        for row, (view, ours, theirs) in enumerate(
            zip(reading.view_order, sent.poses, trained.poses, strict=True)
        )
        if np.abs(ours - theirs).max() > _SAME
    ]
    return f"measured: {'; '.join(rows)}" if rows else None


def _proprio_differs(sent: Sent, trained: Sent) -> str | None:
    if sent.proprio.shape != trained.proprio.shape:
        return f"measured: {len(sent.proprio)} numbers are sent instead of {len(trained.proprio)}"
    apart = np.abs(sent.proprio - trained.proprio)
    columns = np.flatnonzero(apart > _SAME)
    if not columns.size:
        return None
    worst = int(apart.argmax())
    return (
        f"measured: {columns.size} of {len(apart)} numbers differ from those of the checkpoint's "
        f"own contract, most number {worst}: {sent.proprio[worst]:.3f} instead of "
        f"{trained.proprio[worst]:.3f}"
    )


# --- geometry ------------------------------------------------------------------------------------


def geometry_findings(
    images: Sequence[SeenImage], found: ResolvedContract, reference: ResolvedContract | None
) -> Iterator[Notice]:
    """Yield the pictures in which pose and K as sent do not put the grippers where they are.

    Args:
        images: As `see_images` returns them, read by the reference, or by `found` without one.
        found: The contract in force.
        reference: The checkpoint's own contract; None if its files alone give none.
    """
    as_trained = []
    for image in images:
        wrong = [sighting for sighting in image.sightings if not sighting.agrees]
        if not wrong:
            continue
        trained_so = reference is not None and image.as_read
        # v4 was trained with the poses of other views: right for it, so a note and not an error.
        if trained_so and image.pose_of != image.view:
            as_trained.append(image)
            continue
        level: Level = "doubt"
        if reference is not None and not trained_so:
            level = _level([*_K_FIELDS, *_POSE_FIELDS], found, reference)
        yield Notice(level=level, field="geometry", text=_off(image, max(wrong, key=_weight)))
    if as_trained:
        yield Notice(level="note", field="extrinsics_rows", text=_trained_so(as_trained, found))


def _weight(sighting: Sighting) -> tuple[bool, bool, float]:
    """Sort key of the most telling gripper: inside the picture, then in front of the camera."""
    return (sighting.inside, sighting.truly is not None, sighting.distance or 0.0)


def _off(image: SeenImage, sighting: Sighting) -> str:
    def place(pixel: tuple[float, float] | None) -> str:
        return "behind the camera" if pixel is None else f"at ({pixel[0]:.0f}, {pixel[1]:.0f})"

    apart = "" if sighting.distance is None else f": {sighting.distance:.0f} px off"
    outside = "" if sighting.inside or sighting.truly is None else ", outside the picture"
    text = (
        f"measured: image {image.view}: with the pose and K that are sent, the {sighting.arm} "
        f"gripper would be {place(sighting.as_sent)}, it is {place(sighting.truly)}{outside}"
        f"{apart}"
    )
    causes = []
    if image.pose_of != image.view:
        causes.append(f"the pose sent is that of {image.pose_of}")
    if image.sent is not None:
        ours, own = image.sent.k, image.own.k
        if np.abs(ours - own).max() > 0.5:
            causes.append(
                f"K has fx {ours[0, 0]:.1f}, cx {ours[0, 2]:.1f}, the camera of a picture of "
                f"{image.size} px has {own[0, 0]:.1f}, {own[0, 2]:.1f}"
            )
    return f"{text}; {'; '.join(causes)}" if causes else text


def _trained_so(images: Sequence[SeenImage], found: ResolvedContract) -> str:
    rows = ", ".join(
        f"row {image.index} (image {image.view}) has the pose of {image.pose_of}"
        for image in images
    )
    stated = any(statement.name == "extrinsics_rows" for statement in found.understood)
    setting = f"--set extrinsics_rows={','.join(found.contract.view_order)}"
    return (
        f"{rows}, as {found.contract.name} was trained; the corrected order, which the model has "
        f"not seen, is {setting}{' --force-contract' if stated else ''}"
    )


def no_reference(error: UsageError | ContractConflictError) -> Notice:
    """Return the finding that says why there is no reference contract."""
    said = " ".join(str(error).split())
    return Notice(
        level="doubt",
        field="contract",
        text=f"the checkpoint's files alone give no contract to compare with: {said}",
    )
