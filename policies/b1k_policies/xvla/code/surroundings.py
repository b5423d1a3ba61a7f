"""What outside its folder decides what a checkpoint's code computes: variables and packages.

Source: JackLiu0406/spatial-xvla-training, whose code reads variables that begin with `XVLA_`, and
depth-anything-3, whose begin with `DA3_`.
"""

from __future__ import annotations

import ast
import importlib.metadata
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType

_PREFIXES = ("XVLA_", "DA3_")


def switches() -> dict[str, str]:
    """The environment variables that such code reads, as they are set now."""
    return {name: os.environ[name] for name in sorted(os.environ) if name.startswith(_PREFIXES)}


def packages_of(modules: Iterable[ModuleType], own: str) -> dict[str, str]:
    """Versions of the distributions that some modules import and that are loaded.

    Args:
        modules: Of a checkpoint's code.
        own: Name of its package, which is none of them.

    Returns:
        Distribution to version, sorted. An import inside a function that was not called is there
        only if somebody else has loaded the same.
    """
    tops = {name for module in modules for name in _imports(module)}
    tops -= {own, *sys.stdlib_module_names}
    found: dict[str, str] = {}
    for top in sorted(top for top in tops if top in sys.modules):
        try:
            found[top] = importlib.metadata.version(top)
        except importlib.metadata.PackageNotFoundError:  # published under another name, as PIL is
            found |= {name: importlib.metadata.version(name) for name in _owners().get(top, ())}
    return dict(sorted(found.items()))


@cache
def _owners() -> Mapping[str, Sequence[str]]:
    """Distributions by what they install; a second and more where many are installed."""
    return importlib.metadata.packages_distributions()


def _imports(module: ModuleType) -> Iterator[str]:
    """First words of what a module's source imports."""
    try:
        tree = ast.parse(Path(module.__file__ or "").read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0]
