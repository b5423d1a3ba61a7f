"""Colours of runs and figures, and figures as SVG that follow the page from light to dark."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from b1k_envs.errors import UnavailableError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RUN_COLOURS: tuple[str, ...] = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#8a6d00",
    "#4aa3df",
    "#7a4fbf",
    "#555555",
)
"""Told apart by colour-blind people, too: M. Okabe and K. Ito, "Color universal design" (2008),
their yellow and black, which vanish on a white or a dark page, replaced."""

MARKERS = "osD^vP*X"
"""One per run as well: print is often grey."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a figure is drawn with.

    Attributes:
        ink: Colour of text and axes.
        muted: Colour of what is secondary.
        grid: Colour of lines to read values off.
        runs: Colours of the runs, in their order.
        legend: Whether the figure names the runs itself.
    """

    ink: str
    muted: str
    grid: str
    runs: tuple[str, ...]
    legend: bool

    def run(self, index: int) -> str:
        """Colour of a run; from the ninth on they come again."""
        return self.runs[index % len(self.runs)]


ON_PAPER = Look(ink="#1b1f24", muted="#5c6570", grid="#d8dde3", runs=RUN_COLOURS, legend=True)
"""For files."""

_PLACEHOLDERS = {
    "#010001": "var(--ink)",
    "#010002": "var(--muted)",
    "#010003": "var(--line)",
    **{f"#01000{i + 4:x}": f"var(--run-{i})" for i in range(len(RUN_COLOURS))},
}
# Colours no figure has otherwise: in the page's SVG they become the page's own, light or dark.

ON_PAGE = Look(
    ink="#010001",
    muted="#010002",
    grid="#010003",
    runs=tuple(_PLACEHOLDERS)[3:],
    legend=False,
)


@contextmanager
def drawing(look: Look, *, salt: str = "") -> Iterator[None]:
    """Settings of matplotlib for our figures, and only for them.

    Args:
        look: Colours.
        salt: Another one for every figure of a page: their parts must not share names.

    Raises:
        UnavailableError: matplotlib does not import here.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise missing("matplotlib", error) from error
    settings: dict[Any, Any] = {  # its keys are a type of their own from matplotlib 3.11 on
        "font.family": "sans-serif",
        "font.size": 10,
        "text.color": look.ink,
        "text.parse_math": False,  # a policy's name may have dollar signs
        "axes.edgecolor": look.muted,
        "axes.labelcolor": look.muted,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "grid.color": look.grid,
        "grid.linewidth": 0.8,
        "xtick.color": look.muted,
        "ytick.color": look.muted,
        "xtick.labelcolor": look.muted,
        "ytick.labelcolor": look.ink,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "savefig.transparent": True,
    }
    with mpl.rc_context(settings):
        yield


def as_svg(figure: Figure) -> bytes:
    """A figure as SVG, the same bytes every time."""
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def as_page_svg(figure: Figure, description: str) -> str:
    """A figure that was drawn with `ON_PAGE`, for the page's HTML: its colours and its font.

    Args:
        figure: The figure.
        description: What it shows, for those who do not see it; plain text.
    """
    text = as_svg(figure).decode("utf-8")
    text = text[text.index("<svg") :]
    for placeholder, variable in _PLACEHOLDERS.items():
        text = text.replace(placeholder, variable)
    text = re.sub(r"(font: (?:[a-z0-9]+ )*[0-9.]+px) [^;\"]*", r"\1 var(--font)", text)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # the same in every figure, and never referred to
    head, body = text.split(">", 1)
    head = re.sub(r' (?:width|height)="[^"]*"', "", head)
    return f'{head} role="img" aria-label="{escape(description)}">{body}'


def missing(package: str, error: ImportError) -> UnavailableError:
    """One line for a package of the extra that is not there."""
    return UnavailableError(
        f"the report needs {package}, which does not import here ({error}); install it with: "
        "pip install 'b1k-eval[report]'"
    )
