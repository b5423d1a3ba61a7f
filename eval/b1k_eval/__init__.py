"""Floor 3: runs, scores, shows."""

from __future__ import annotations

from importlib.metadata import version

__version__ = version("b1k-eval")
