"""`model_sees.png` and `chunk.png`: what a checkpoint is sent, and what it answers.

The pictures are those that the model reads, with two projections on top: green is where things are,
magenta is where the sent pose and K put them. If all is well, magenta covers green. The floor is
drawn as a grid of 0.5 m, so that a picture without a gripper shows as much.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from types import ModuleType

import numpy as np

from b1k_envs.base import Float64Array, UInt8Array
from b1k_envs.errors import UnavailableError
from b1k_envs.r1pro import ACTION_SLICES, CONTROL_HZ
from b1k_eval.video.layout import BACKGROUND, GREEN, RED
from b1k_eval.video.text import Colour, draw_text, import_cv2, text_width, truncate
from b1k_policies.inspection.chunk import ChunkFacts
from b1k_policies.inspection.geometry import Pinhole, Pixel, SeenImage
from b1k_policies.inspection.inspection import Inspection

PANEL = 448
_GAP, _MARGIN = 12, 16
_HEADER, _CAPTION, _LINE = 44, 62, 20

_MAGENTA: Colour = (255, 70, 220)
_TEXT: Colour = (229, 233, 240)
_AMBER: Colour = (235, 170, 60)
_MUTED: Colour = (146, 155, 170)
_AXES: tuple[Colour, Colour, Colour] = ((240, 70, 60), (60, 200, 80), (70, 130, 255))
_SMALL, _NORMAL, _LARGE = 0.40, 0.44, 0.52

_FLOOR_X, _FLOOR_Y, _FLOOR_STEP = (-1.0, 2.0), (-1.5, 1.5), 0.5
"""The drawn part of the floor, in the base frame [m]; z is 0."""
_AHEAD = (1.0, 0.0, 0.0)
"""Place of the base frame's axes on the floor, where the head camera sees them [m]."""
_AXES_LENGTH = 0.3
_NEAR = 0.03
"""Lines are clipped at this distance from a camera's plane [m]."""
_FINDINGS = 6
"""Most findings written below the pictures."""
_SHIFT = 3
"""Fraction bits of the coordinates for OpenCV."""
_NEAR_LIMIT = 0.1
"""A joint's limit is drawn if the joint comes nearer than this [rad]."""


def draw_seen(inspection: Inspection, title: str) -> UInt8Array:
    """Draw the pictures of a batch side by side, with both projections, uint8 [H, W, 3] RGB."""
    wrong = [f"{f.field}: {f.text}" for f in inspection.findings if f.level == "wrong"]
    if len(wrong) > _FINDINGS:
        wrong[_FINDINGS - 1 :] = [f"and {len(wrong) - _FINDINGS + 1} more"]
    count = len(inspection.images)
    width = 2 * _MARGIN + count * PANEL + (count - 1) * _GAP
    height = _HEADER + PANEL + _CAPTION + _LINE * (2 + len(wrong)) + _MARGIN // 2
    sheet = np.empty((height, width, 3), np.uint8)
    sheet[:] = BACKGROUND
    draw_text(sheet, truncate(title, width - 2 * _MARGIN, _LARGE, bold=True), _MARGIN, 28, _LARGE,
              _TEXT, bold=True)  # fmt: skip
    for number, image in enumerate(inspection.images):
        left = _MARGIN + number * (PANEL + _GAP)
        panel = _panel(inspection.pictures[number], image)
        sheet[_HEADER : _HEADER + PANEL, left : left + PANEL] = panel
        _caption(
            sheet,
            image,
            left,
            _HEADER + PANEL + 18,
            trained_so=inspection.has_reference and image.as_read,
        )
    y = _HEADER + PANEL + _CAPTION + _LINE
    _legend(sheet, _MARGIN, y)
    for row, text in enumerate(wrong, start=1):
        text = truncate(text, width - 2 * _MARGIN, _SMALL)
        draw_text(sheet, text, _MARGIN, y + 4 + row * _LINE, _SMALL, RED)
    return sheet


def encode_png(picture: UInt8Array) -> bytes:
    """Encode a picture [H, W, 3] RGB as PNG."""
    cv2 = import_cv2()
    _, data = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))
    return bytes(data)


# --- one picture ---------------------------------------------------------------------------------


def _panel(picture: UInt8Array, image: SeenImage) -> UInt8Array:
    cv2 = import_cv2()
    size = picture.shape[0]
    how = cv2.INTER_NEAREST if size <= PANEL else cv2.INTER_AREA
    panel: UInt8Array = cv2.resize(picture, (PANEL, PANEL), interpolation=how)
    scale = PANEL / size
    _floor(cv2, panel, image.own, scale, GREEN, 3)
    if image.sent is None:
        return panel
    _floor(cv2, panel, image.sent, scale, _MAGENTA, 1)
    _axes(cv2, panel, image.sent, scale, np.array(_AHEAD), _AXES_LENGTH)
    behind = []
    for sighting in image.sightings:
        label = sighting.arm[0].upper()
        truly = _scaled(sighting.truly, scale)
        as_sent = _scaled(sighting.as_sent, scale)
        if truly is not None and as_sent is not None:
            _line(cv2, panel, truly, as_sent, _MAGENTA, 1)
        if truly is not None:
            _mark(cv2, panel, truly, label, GREEN, cross=False)
        if as_sent is not None:
            _mark(cv2, panel, as_sent, label, _MAGENTA, cross=True)
        elif truly is not None:
            behind.append(label)
    if behind:
        text = f"as sent, {' and '.join(behind)} would be behind the camera"
        chip = panel[8:32, 8 : 24 + text_width(text, _NORMAL, bold=True)]
        np.multiply(chip, 0.35, out=chip, casting="unsafe")
        draw_text(panel, text, 16, 25, _NORMAL, _MAGENTA, bold=True)
    return panel


def _scaled(pixel: Pixel | None, scale: float) -> Pixel | None:
    return None if pixel is None else (pixel[0] * scale, pixel[1] * scale)


def _floor(
    cv2: ModuleType, panel: UInt8Array, camera: Pinhole, scale: float, colour: Colour, width: int
) -> None:
    (x0, x1), (y0, y1), step = _FLOOR_X, _FLOOR_Y, _FLOOR_STEP
    ends = [((x, y0, 0.0), (x, y1, 0.0)) for x in np.arange(x0, x1 + step / 2, step)]
    ends += [((x0, y, 0.0), (x1, y, 0.0)) for y in np.arange(y0, y1 + step / 2, step)]
    layer = panel.copy()
    for start, end in ends:
        _segment(cv2, layer, camera, scale, np.array([start, end]), colour, width)
    cv2.addWeighted(layer, 0.6, panel, 0.4, 0.0, dst=panel)


def _axes(
    cv2: ModuleType,
    panel: UInt8Array,
    camera: Pinhole,
    scale: float,
    origin: Float64Array,
    length: float,
) -> None:
    for axis, colour in zip(np.eye(3), _AXES, strict=True):
        _segment(cv2, panel, camera, scale, np.stack([origin, origin + length * axis]), colour, 3)


def _segment(
    cv2: ModuleType,
    panel: UInt8Array,
    camera: Pinhole,
    scale: float,
    ends: Float64Array,
    colour: Colour,
    width: int,
) -> None:
    """Draw a line [2, 3] of the base frame, as far as it is in front of the camera."""
    start, end = camera.to_camera(ends)
    if start[2] < _NEAR and end[2] < _NEAR:
        return
    if start[2] < _NEAR or end[2] < _NEAR:
        cut = start + (end - start) * (_NEAR - start[2]) / (end[2] - start[2])
        start, end = (cut, end) if start[2] < _NEAR else (start, cut)
    k = camera.k
    pixels = [
        ((k[0, 0] * x / z + k[0, 2]) * scale, (k[1, 1] * y / z + k[1, 2]) * scale)
        for x, y, z in (start, end)
    ]
    _line(cv2, panel, pixels[0], pixels[1], colour, width)


def _line(
    cv2: ModuleType, panel: UInt8Array, start: Pixel, end: Pixel, colour: Colour, width: int
) -> None:
    # OpenCV clips in integers, which far ends would overflow with the fraction bits.
    whole = [tuple(int(np.clip(value, -1e8, 1e8)) for value in point) for point in (start, end)]
    size = panel.shape[0]
    seen, first, last = cv2.clipLine((-size, -size, 3 * size, 3 * size), *whole)
    if not seen:
        return
    if max(map(abs, (*start, *end))) < 4 * size:  # near enough to keep the fractions
        first, last = ([round(v * 2**_SHIFT) for v in point] for point in (start, end))
        cv2.line(panel, first, last, colour, width, cv2.LINE_AA, shift=_SHIFT)
    else:
        cv2.line(panel, first, last, colour, width, cv2.LINE_AA)


def _mark(
    cv2: ModuleType, panel: UInt8Array, at: Pixel, label: str, colour: Colour, *, cross: bool
) -> None:
    """Draw a circle or a cross; outside the picture, an arrow at the border towards it."""
    size = panel.shape[0]
    if not all(0 <= value < size for value in at):
        _arrow(cv2, panel, at, label, colour, inset=26 if cross else 12)
        return
    x, y = round(at[0]), round(at[1])
    if cross:
        cv2.drawMarker(panel, (x, y), colour, cv2.MARKER_TILTED_CROSS, 14, 2, cv2.LINE_AA)
        draw_text(
            panel, label, min(x + 12, size - 14), min(y + 16, size - 4), _NORMAL, colour, True
        )
    else:
        cv2.circle(panel, (x, y), 10, (0, 0, 0), 4, cv2.LINE_AA)
        cv2.circle(panel, (x, y), 10, colour, 2, cv2.LINE_AA)
        draw_text(panel, label, min(x + 12, size - 14), max(y - 6, 14), _NORMAL, colour, True)


def _arrow(
    cv2: ModuleType, panel: UInt8Array, at: Pixel, label: str, colour: Colour, *, inset: int
) -> None:
    size = panel.shape[0]
    centre = np.full(2, size / 2)
    way = np.asarray(at) - centre
    way /= np.abs(way).max()
    tip = centre + way * (size / 2 - inset)
    tail = tip - 22 * way / np.hypot(*way)
    ends = [tuple(round(value) for value in point) for point in (tail, tip)]
    for shade, width in (((0, 0, 0), 5), (colour, 2)):
        cv2.arrowedLine(panel, *ends, shade, width, cv2.LINE_AA, tipLength=0.45)
    x, y = ends[0]
    draw_text(panel, label, min(max(x - 5, 2), size - 12), min(max(y - 8, 14), size - 4), _NORMAL,
              colour, True)  # fmt: skip


def _caption(sheet: UInt8Array, image: SeenImage, x: int, y: int, *, trained_so: bool) -> None:
    draw_text(sheet, f"image {image.index}: {image.view}", x, y, _NORMAL, _TEXT, bold=True)
    size = f"{image.size} x {image.size} px"
    draw_text(sheet, size, x + PANEL - text_width(size, _NORMAL), y, _NORMAL, _MUTED)
    if image.pose_of is None:
        draw_text(sheet, "no pose and no K are sent", x, y + 18, _SMALL, _MUTED)
        return
    bad = _AMBER if trained_so else RED
    colour, pose = GREEN, f"pose sent: {image.pose_of}"
    if image.pose_of != image.view:
        pose, colour = pose + (", as in training" if trained_so else ""), bad
    draw_text(sheet, truncate(pose, PANEL, _SMALL), x, y + 18, _SMALL, colour)
    if image.sent is not None:
        k = image.sent.k
        text = f"K sent: fx {k[0, 0]:.1f}, cx {k[0, 2]:.1f}"
        fits = abs(k[0, 0] - image.own.k[0, 0]) < 0.5 and abs(k[0, 2] - image.own.k[0, 2]) < 0.5
        draw_text(sheet, text, x, y + 36, _SMALL, GREEN if fits else bad)
    apart = ", ".join(
        f"{s.arm[0].upper()} {s.distance:.0f} px off" if s.distance is not None
        else f"{s.arm[0].upper()} behind"
        for s in image.sightings
    )  # fmt: skip
    at = x + PANEL - text_width(apart, _SMALL)
    draw_text(sheet, apart, at, y + 36, _SMALL,
              GREEN if all(s.agrees for s in image.sightings) else bad)  # fmt: skip


def _legend(sheet: UInt8Array, x: int, y: int) -> None:
    for text, colour in (
        ("green: where the floor grid (0.5 m) and the grippers L, R are", GREEN),
        ("magenta: where the pose and K that are sent put them", _MAGENTA),
        ("arrows: outside the picture", _MUTED),
        ("axes of the base as sent: x", _AXES[0]),
        ("y", _AXES[1]),
        ("z", _AXES[2]),
    ):
        draw_text(sheet, text, x, y, _SMALL, colour)
        x += text_width(text, _SMALL) + (8 if len(text) == 1 or text.endswith(": x") else 20)


# --- the answer ----------------------------------------------------------------------------------


def draw_chunk(chunk: ChunkFacts, title: str) -> bytes:
    """Draw the decoded first chunk as small multiples, PNG.

    Raises:
        UnavailableError: matplotlib is not installed.
    """
    try:
        from matplotlib import figure as figures
        from matplotlib.backends import backend_agg
    except ImportError as error:
        raise UnavailableError(
            f"chunk.png needs {error.name}: pip install '.[report]' in the checkout draws it"
        ) from error
    panels = [
        ("base velocity [part of the limit]", _columns("base"), ["vx", "vy", "yaw"]),
        ("trunk [rad]", _columns("trunk"), None),
        ("left arm [rad]", _columns("arm_left"), None),
        ("right arm [rad]", _columns("arm_right"), None),
        ("grippers [-1 closed, +1 open]",
         [*_columns("gripper_left"), *_columns("gripper_right")], ["left", "right"]),
    ]  # fmt: skip
    figure = figures.Figure(figsize=(13, 7), layout="constrained")
    backend_agg.FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3)
    for axis, (name, columns, labels) in zip(axes.flat, panels, strict=False):
        _plot(axis, chunk, name, columns, labels)
    axes.flat[5].axis("off")
    axes.flat[5].text(0.0, 0.95, _explained(chunk), va="top", fontsize=9, linespacing=1.6)
    figure.suptitle(title, fontsize=11)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def _columns(part: str) -> list[int]:
    return list(range(ACTION_SLICES[part].start, ACTION_SLICES[part].stop))


def _plot(
    axis: ModuleType, chunk: ChunkFacts, name: str, columns: list[int], labels: Sequence[str] | None
) -> None:
    rows = np.arange(len(chunk.actions)) - chunk.skipped
    near = _NEAR_LIMIT if name.endswith("[rad]") else 0.0
    for number, column in enumerate(columns):
        colour = f"C{number}"
        label = labels[number] if labels is not None else f"joint {number + 1}"
        axis.plot(rows, chunk.actions[:, column], color=colour, lw=1.4, label=label)
        if np.isfinite(chunk.state[column]):
            axis.axhline(chunk.state[column], color=colour, lw=0.8, ls="--", alpha=0.7)
    low, high = axis.get_ylim()
    for number, column in enumerate(columns):
        (below, above), values = chunk.limits[column], chunk.actions[:, column]
        if values.min() < below + near:
            axis.axhspan(min(low, below), below, color=f"C{number}", alpha=0.12)
        if values.max() > above - near:
            axis.axhspan(above, max(high, above), color=f"C{number}", alpha=0.12)
    if chunk.skipped:
        axis.axvspan(rows[0] - 0.5, -0.5, color="0.6", alpha=0.45)
    axis.set_xlim(rows[0] - 0.5, rows[-1] + 0.5)
    axis.set_title(name, fontsize=10)
    axis.set_xlabel(f"control step from now (1/{CONTROL_HZ:.0f} s)", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=7, ncol=2, loc="best")
    axis.grid(alpha=0.25)


def _explained(chunk: ChunkFacts) -> str:
    lines = [
        f"{len(chunk.actions)} rows, absolute, as the robot is commanded.",
        "Dashed: the present state, where the observation tells it.",
        "Tinted: beyond a limit that is near, in the joint's colour.",
    ]
    if chunk.skipped:
        lines.append(f"Grey: the first {chunk.skipped} row(s), predicted but not executed.")
    return "\n".join(lines)
