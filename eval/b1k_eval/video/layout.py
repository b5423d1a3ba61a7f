"""Composing one picture of the rollout video: three views, and below them what the policy says.

    +--------------------+----------+
    |                    |left wrist|      448 x 448 and twice 224 x 224
    |        head        +----------+
    |                    |  right   |
    +--------------------+----------+
    | title           step, outcome |      672 x 232
    | skill, progress       q-score |
    | goal     | sub-goals          |
    +--------------------+----------+

Pictures are uint8 [H, W, 3] RGB throughout. OpenCV is used for the video only: what a model sees
never passes through it. Only the parts of the panel that changed are drawn again.

A picture costs about a millisecond of CPU. On a machine that renders on the CPU, that time is taken
from the loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from b1k_envs.base import VIEWS, UInt8Array, View
from b1k_envs.errors import EnvError
from b1k_eval.video.text import Colour, draw_text, import_cv2, readable, text_width, truncate

HEAD_SIZE = 448
WRIST_SIZE = 224
WIDTH = HEAD_SIZE + WRIST_SIZE
PANEL_HEIGHT = 232
HEIGHT = HEAD_SIZE + PANEL_HEIGHT
"""Width and height must be even: H.264 with 4:2:0 colour has no odd sizes."""

VIEW_BOXES: Mapping[View, tuple[int, int, int, int]] = MappingProxyType(
    {
        "head": (0, 0, HEAD_SIZE, HEAD_SIZE),
        "left_wrist": (HEAD_SIZE, 0, WRIST_SIZE, WRIST_SIZE),
        "right_wrist": (HEAD_SIZE, WRIST_SIZE, WRIST_SIZE, WRIST_SIZE),
    }
)
"""Box of each view: x, y of its upper left corner, width, height [px]."""

BACKGROUND: Colour = (21, 24, 30)
_LINE: Colour = (44, 49, 58)
_TRACK: Colour = (52, 58, 69)
_TEXT: Colour = (229, 233, 240)
_MUTED: Colour = (146, 155, 170)
_BLUE: Colour = (88, 166, 255)
GREEN: Colour = (70, 200, 110)
RED: Colour = (240, 90, 85)
_AMBER: Colour = (235, 170, 60)
_OUTCOMES: Mapping[str, Colour] = MappingProxyType(
    {"success": GREEN, "failure": RED, "error": _AMBER}
)

_MARGIN = 16
_SMALL, _NORMAL, _LARGE = 0.40, 0.44, 0.52  # OpenCV's font scale: 11, 13 and 15 px
_ROW = 18
_ROWS = 6
_LIST_TOP = 112
_SUBGOAL_X, _SUBGOAL_WIDTH = 300, 182
_LEFT_WIDTH = _SUBGOAL_X - _MARGIN - 20


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """What is written below the views of one control step.

    Attributes:
        title: What is running, e.g. `clean_boxing_gloves  public-test 3`.
        step: Actions applied since reset.
        time_s: Simulated time since reset [s].
        outcome: `running`, `success`, `failure`, `error`, or any other word, shown as it is.
        skill: The skill that the policy reports; None if it reports none.
        skill_probability: The policy's own probability of that skill in [0, 1].
        progress: The policy's own estimate of task progress in [0, 1]; None when it has none.
        q_score: Official partial score in [0, 1].
        predicates: Goal literals, true when satisfied. Copied.
        subgoals: Sub-goals of the task, in order, true when held. Copied.
        reached: Those of them that held now or before.
    """

    title: str
    step: int
    time_s: float
    outcome: str
    q_score: float
    skill: str | None = None
    skill_probability: float | None = None
    progress: float | None = None
    predicates: Mapping[str, bool]
    subgoals: Mapping[str, bool]
    reached: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "predicates", MappingProxyType(dict(self.predicates)))
        object.__setattr__(self, "subgoals", MappingProxyType(dict(self.subgoals)))
        held = {name for name, holds in self.subgoals.items() if holds}
        object.__setattr__(self, "reached", frozenset(self.reached | held))


class Painter:
    """Composes pictures, and keeps the parts that seldom change. For use on one thread."""

    def __init__(self) -> None:
        self._cv2 = import_cv2()
        self._panel: UInt8Array | None = None
        self._panel_key: object = None

    def compose(self, views: Mapping[View, UInt8Array], overlay: Overlay) -> UInt8Array:
        """Compose one video picture.

        Args:
            views: uint8 [H, W, 3] RGB by view, of any size; scaled without stretching.
            overlay: What to write below.

        Returns:
            uint8 [680, 672, 3] RGB, C-contiguous, new.

        Raises:
            EnvError: A view is missing or has another dtype or shape.
        """
        picture = np.empty((HEIGHT, WIDTH, 3), np.uint8)  # every pixel is written below
        for view in VIEWS:
            x, y, width, height = VIEW_BOXES[view]
            self._place(picture[y : y + height, x : x + width], _checked(views, view))
            self._label(picture, readable(view), x + 8, y + 8)
        self._draw_panel(picture[HEAD_SIZE:], overlay)
        return picture

    def to_yuv420(self, picture: UInt8Array) -> UInt8Array:
        """Convert a picture to H.264's colours, at a tenth of the cost of ffmpeg's conversion.

        Args:
            picture: uint8 [680, 672, 3] RGB.

        Returns:
            uint8 [1020, 672], planes Y, U, V one after the other (I420), BT.601 at video range,
            which is also what players assume of this size when they ignore the tags.
        """
        cv2 = self._cv2
        planes: UInt8Array = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420)
        # OpenCV takes the chroma of one pixel in four, which frays small coloured marks, so take
        # the mean of the four instead. This conversion gives full range, hence the scale.
        half = cv2.resize(picture, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA)
        chroma = cv2.cvtColor(half, cv2.COLOR_RGB2YCrCb)
        chroma = cv2.convertScaleAbs(chroma, alpha=224 / 255, beta=128 * (1 - 224 / 255))
        u_and_v = planes[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)
        u_and_v[0] = chroma[:, :, 2]
        u_and_v[1] = chroma[:, :, 1]
        return planes

    def _place(self, box: UInt8Array, image: UInt8Array) -> None:
        """Fit an image into its box, centred, with its aspect ratio kept."""
        height, width = image.shape[:2]
        scale = min(box.shape[0] / height, box.shape[1] / width)
        new_h = min(box.shape[0], max(1, round(height * scale)))
        new_w = min(box.shape[1], max(1, round(width * scale)))
        if (new_h, new_w) != (height, width):
            # Down to about half size, interpolating four neighbours uses every pixel; the mean over
            # all pixels costs ten times as much and looks the same.
            how = self._cv2.INTER_AREA if scale < 0.45 else self._cv2.INTER_LINEAR
            image = self._cv2.resize(image, (new_w, new_h), interpolation=how)
        if image.shape != box.shape:
            box[:] = BACKGROUND
        top, left = (box.shape[0] - new_h) // 2, (box.shape[1] - new_w) // 2
        box[top : top + new_h, left : left + new_w] = image

    def _label(self, picture: UInt8Array, text: str, x: int, y: int) -> None:
        """Write a view's name on a darkened patch, so that it is readable on any picture."""
        width = text_width(text, _SMALL)
        chip = picture[y : y + 18, x : x + width + 12]
        np.multiply(chip, 0.4, out=chip, casting="unsafe")
        draw_text(picture, text, x + 6, y + 13, _SMALL, _TEXT)

    def _draw_panel(self, panel: UInt8Array, overlay: Overlay) -> None:
        """Draw the panel below the views: what seldom changes from a copy, the rest anew."""
        outcome = truncate(overlay.outcome.upper(), 120, _SMALL)
        pill_x = WIDTH - _MARGIN - text_width(outcome, _SMALL, bold=True) - 16
        clock = f"step {overlay.step}    {overlay.time_s:.1f} s"
        clock_x = pill_x - text_width(clock, _NORMAL) - 14
        title = truncate(overlay.title, clock_x - _MARGIN - 12, _LARGE, bold=True)
        probability = overlay.skill_probability
        shown = "" if probability is None or overlay.skill is None else f"p {probability:.2f}"
        shown_x = _MARGIN + _LEFT_WIDTH - text_width(shown, _NORMAL)
        skill = "no skill reported" if overlay.skill is None else readable(overlay.skill)
        skill = truncate(skill, shown_x - _MARGIN - 12, _NORMAL)
        skill_colour = _MUTED if overlay.skill is None else _TEXT

        # Clock, probability and bars change with every step; the rest is drawn when it changes.
        lists = tuple(overlay.predicates.items()), tuple(overlay.subgoals.items()), overlay.reached
        key = (title, overlay.outcome, skill, skill_colour, lists)
        if self._panel is None or key != self._panel_key:
            kept = np.empty((PANEL_HEIGHT, WIDTH, 3), np.uint8)
            kept[:] = BACKGROUND
            colour = _OUTCOMES.get(overlay.outcome, _BLUE)
            kept[12:32, pill_x : WIDTH - _MARGIN] = [channel // 4 + 12 for channel in colour]
            draw_text(kept, outcome, pill_x + 8, 26, _SMALL, colour, bold=True)
            draw_text(kept, title, _MARGIN, 28, _LARGE, _TEXT, bold=True)
            captions = ("SKILL", _MARGIN), _PROGRESS[:2], _Q_SCORE[:2]
            for caption, x in captions:
                draw_text(kept, caption, x, 56, _SMALL, _MUTED, bold=True)
            draw_text(kept, skill, _MARGIN, 78, _NORMAL, skill_colour)
            self._draw_lists(kept, overlay)
            self._panel, self._panel_key = kept, key
        panel[:] = self._panel

        draw_text(panel, clock, clock_x, 27, _NORMAL, _MUTED)
        draw_text(panel, shown, shown_x, 78, _NORMAL, _MUTED)
        progress = "-" if overlay.progress is None else f"{100 * overlay.progress:.0f} %"
        _draw_gauge(panel, _PROGRESS, overlay.progress, progress)
        _draw_gauge(panel, _Q_SCORE, overlay.q_score, f"{overlay.q_score:.2f}")

    def _draw_lists(self, panel: UInt8Array, overlay: Overlay) -> None:
        panel[88, _MARGIN : WIDTH - _MARGIN] = _LINE
        held = sum(overlay.predicates.values())
        self._draw_list(
            panel,
            f"GOAL  {held} / {len(overlay.predicates)}",
            overlay.predicates,
            x=_MARGIN,
            width=_LEFT_WIDTH,
            columns=1,
        )
        now, reached = sum(overlay.subgoals.values()), len(overlay.reached)
        self._draw_list(
            panel,
            f"SUB-GOALS  {reached} of {len(overlay.subgoals)} reached, {now} hold now",
            overlay.subgoals,
            x=_SUBGOAL_X,
            width=_SUBGOAL_WIDTH,
            columns=2,
            failed=_MUTED,
            reached=overlay.reached,
        )

    def _draw_list(
        self,
        panel: UInt8Array,
        heading: str,
        items: Mapping[str, bool],
        *,
        x: int,
        width: int,
        columns: int,
        failed: Colour = RED,
        reached: frozenset[str] = frozenset(),
    ) -> None:
        """Draw a checklist column by column, with the number of items that it leaves out."""
        draw_text(panel, heading, x, _LIST_TOP - 8, _SMALL, _MUTED, bold=True)
        room = _ROWS * columns
        shown = list(items.items())
        left_out = len(shown) - room + 1 if len(shown) > room else 0
        if left_out:
            shown = shown[: room - 1]
        for number, (name, holds) in enumerate(shown):
            column, row = divmod(number, _ROWS)
            at_x, at_y = x + column * width, _LIST_TOP + row * _ROW
            self._mark(panel, at_x + 6, at_y + 8, holds, failed, lost=name in reached)
            text = truncate(readable(name), width - 26, _SMALL)
            draw_text(panel, text, at_x + 18, at_y + 12, _SMALL, _TEXT if holds else _MUTED)
        if left_out:
            at_x, at_y = x + (columns - 1) * width, _LIST_TOP + (_ROWS - 1) * _ROW
            draw_text(panel, f"+ {left_out} more", at_x + 18, at_y + 12, _SMALL, _MUTED)

    def _mark(
        self, panel: UInt8Array, x: int, y: int, holds: bool, failed: Colour, *, lost: bool = False
    ) -> None:
        """Draw a green tick, or a cross (goal) or ring (sub-goal): shape and colour both differ.

        What was reached and `lost` has a grey tick.
        """
        # Coordinates with 3 fractional bits keep the strokes even at this small size.
        if holds or lost:
            points = np.array([(x - 4, y), (x - 1, y + 3), (x + 4, y - 4)], np.int32) * 8
            colour = GREEN if holds else _MUTED
            self._cv2.polylines(panel, [points], False, colour, 2, self._cv2.LINE_AA, shift=3)
        elif failed == RED:
            for dx in (-3, 3):
                self._cv2.line(panel, (x - dx, y - 3), (x + dx, y + 3), RED, 2, self._cv2.LINE_AA)
        else:
            self._cv2.circle(panel, (x, y), 4, failed, 1, self._cv2.LINE_AA)


class _Gauge(NamedTuple):
    """A number with a bar: its caption, and the place, width and colour of the bar."""

    caption: str
    x: int
    width: int
    colour: Colour


_PROGRESS = _Gauge("PROGRESS (reported)", _SUBGOAL_X, 190, _BLUE)
_Q_SCORE = _Gauge("Q-SCORE", 514, 142, GREEN)


def _draw_gauge(panel: UInt8Array, gauge: _Gauge, value: float | None, number: str) -> None:
    """Draw a number and its bar; for an unknown value the bar is empty."""
    end = gauge.x + gauge.width
    number_x = end - text_width(number, _NORMAL, bold=True)
    draw_text(panel, number, number_x, 57, _NORMAL, _TEXT, bold=True)
    panel[67:77, gauge.x : end] = _TRACK
    if value is not None:
        filled = round(gauge.width * min(max(value, 0.0), 1.0))
        panel[67:77, gauge.x : gauge.x + filled] = gauge.colour


def _checked(views: Mapping[View, UInt8Array], view: View) -> UInt8Array:
    if view not in views:
        raise EnvError(f"a video frame lacks the view {view!r}; it has {sorted(views)}")
    image = views[view]
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise EnvError(
            f"the {view} view of a video frame must be uint8 [H, W, 3], "
            f"got {image.dtype} {list(image.shape)}"
        )
    return image
