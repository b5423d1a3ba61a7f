"""Floor 3: runs, scores, shows. And the package's face to Python, see docs/python.md.

`evaluate`, `load_run`, `compare` and what they return are imported when they are first asked for,
so that the command line does not pay for them.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from b1k_eval.python.evaluating import evaluate
    from b1k_eval.python.runs import Comparison, Run, compare, load_run

__all__ = ["Comparison", "Run", "__version__", "compare", "evaluate", "load_run"]

__version__ = version("b1k-eval")

_HOMES = {"evaluate": "evaluating"} | dict.fromkeys(
    ("Comparison", "Run", "compare", "load_run"), "runs"
)


if not TYPE_CHECKING:  # with it, a slip would be of any type

    def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever is asked for
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = import_module(f"{__name__}.python.{_HOMES[name]}")
        found = globals()[name] = getattr(home, name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
