"""Environment variables and packages that change what a checkpoint's code computes.

Source: JackLiu0406/spatial-xvla-training, whose code reads variables that begin with `XVLA_`, and
depth-anything-3, which reads those that begin with `DA3_`.
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
    """Return the environment variables that such code reads, as set now."""
    return {name: os.environ[name] for name in sorted(os.environ) if name.startswith(_PREFIXES)}


def packages_of(modules: Iterable[ModuleType], own: str) -> dict[str, str]:
    """Return the versions of loaded distributions that some modules import.

    Args:
        modules: Modules of a checkpoint's code.
        own: Name of its package, which is left out.

    Returns:
        Version by distribution, sorted. An import inside a function that was not called is listed
        only if something else has loaded it.
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
    """Return distributions by what they install; cached, as it takes a second or more."""
    return importlib.metadata.packages_distributions()


def _imports(module: ModuleType) -> Iterator[str]:
    """Yield the top-level packages that a module's source imports."""
    try:
        tree = ast.parse(Path(module.__file__ or "").read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0]
