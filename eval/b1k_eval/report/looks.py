"""Colours of runs and figures, and figures as SVG for a light or dark page."""

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
"""Distinguishable with colour blindness: M. Okabe and K. Ito, "Color universal design" (2008), with
yellow and black, which vanish on a white or a dark page, replaced."""

MARKERS = "osD^vP*X"
"""A marker per run as well, for grey print."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """The style of a figure.

    Attributes:
        ink: Colour of text and axes.
        muted: Colour of secondary elements.
        grid: Colour of grid lines.
        runs: Colours of the runs, in order.
        legend: Whether the figure names the runs itself.
    """

    ink: str
    muted: str
    grid: str
    runs: tuple[str, ...]
    legend: bool

    def run(self, index: int) -> str:
        """Return the colour of a run; they repeat from the ninth on."""
        return self.runs[index % len(self.runs)]


ON_PAPER = Look(ink="#1b1f24", muted="#5c6570", grid="#d8dde3", runs=RUN_COLOURS, legend=True)
"""For files."""

_PLACEHOLDERS = {
    "#010001": "var(--ink)",
    "#010002": "var(--muted)",
    "#010003": "var(--line)",
    **{f"#01000{i + 4:x}": f"var(--run-{i})" for i in range(len(RUN_COLOURS))},
}
# Colours that no figure uses otherwise: in the SVG they are replaced by the page's own.

ON_PAGE = Look(
    ink="#010001",
    muted="#010002",
    grid="#010003",
    runs=tuple(_PLACEHOLDERS)[3:],
    legend=False,
)


@contextmanager
def drawing(look: Look, *, salt: str = "") -> Iterator[None]:
    """Apply our settings of matplotlib within this context.

    Args:
        look: Colours.
        salt: Different for every figure of a page, so that their elements have different names.

    Raises:
        UnavailableError: matplotlib cannot be imported.
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
    """Return a figure as SVG, the same bytes every time."""
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def as_page_svg(figure: Figure, description: str) -> str:
    """Return a figure drawn with `ON_PAGE` as SVG with the page's colours and font.

    Args:
        figure: The figure.
        description: What it shows, for screen readers; plain text.
    """
    text = as_svg(figure).decode("utf-8")
    text = text[text.index("<svg") :]
    for placeholder, variable in _PLACEHOLDERS.items():
        text = text.replace(placeholder, variable)
    text = re.sub(r"(font: (?:[a-z0-9]+ )*[0-9.]+px) [^;\"]*", r"\1 var(--font)", text)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # unused, and the same in every figure
    head, body = text.split(">", 1)
    head = re.sub(r' (?:width|height)="[^"]*"', "", head)
    return f'{head} role="img" aria-label="{escape(description)}">{body}'


def missing(package: str, error: ImportError) -> UnavailableError:
    """Return the error for a missing package of the extra."""
    return UnavailableError(
        f"the report needs {package}, which does not import here ({error}); install it with: "
        "pip install '.[report]' in the checkout"
    )
