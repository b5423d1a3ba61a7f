"""The files that a user's policy consists of, and their hashes; nothing is imported."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

_OURS = ("b1k_envs", "b1k_policies", "b1k_eval")


def file_hashes(file: Path, module: str | None) -> dict[str, str]:
    """Hash a file and what it imports: of its folder, or of the package of its module."""
    root, own = file.parent, None
    if module is not None:
        own = module.partition(".")[0]
        depth = module.count(".") + (file.name == "__init__.py")
        root = file.parents[depth]
    found: dict[Path, None] = {}
    # Importing a.b.c imports a and a.b.
    above = [] if module is None else [folder / "__init__.py" for folder in file.parents]
    waiting = [file, *(each for each in above if root in each.parents[1:] and each.is_file())]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found[each] = None
            if own not in _OURS:  # their version is compared
                waiting += _imported(each, root, own)
    return {
        each.relative_to(root).as_posix(): hashlib.sha256(each.read_bytes()).hexdigest()
        for each in sorted(found)
    }


def _imported(file: Path, root: Path, own: str | None) -> Iterator[Path]:
    """Yield the files below a root that a file imports; of one package only, if `own` is given."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # of a module that is imported later, or never
        return
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            folder = file.parents[node.level - 1] if node.level else root
            if root not in (folder, *folder.parents):
                continue
            base = ".".join([*folder.relative_to(root).parts, *filter(None, [node.module])])
            names = [base, *(f"{base}.{each.name}" for each in node.names)]
        for name in names:
            parts = [part for part in name.split(".") if part]
            if own is None or parts[:1] == [own]:
                # Importing a.b.c imports a and a.b as well.
                for count in range(1, len(parts) + 1):
                    place = root.joinpath(*parts[:count])
                    tried = (place / "__init__.py", place.with_suffix(".py"))
                    yield from (each for each in tried if each.is_file())
