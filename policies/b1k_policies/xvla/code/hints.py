"""Hints in a checkpoint's source code on fields that no file states.

The public X-VLA code hides columns of the proprio in the handlers of some data sets, by a list in
the code (`idx_for_mask_proprio`) that no configuration has. Whether that handler made the training
batches is unknown, so the list is reported and nothing is masked.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from b1k_policies.contract.resolved import ResolvedContract

_MASK = "idx_for_mask_proprio"


def mask_doubt(code_root: Path, found: ResolvedContract) -> str | None:
    """Return a remark on a mask in the code; None if the contract states it, or there is none.

    Args:
        code_root: The folder of the checkpoint's package.
        found: The contract in force.
    """
    if not found.sources["proprio_mask"].by_default:
        return None
    places = [
        f"{path.relative_to(code_root).as_posix()}:{line} has {values}"
        for path in sorted(code_root.rglob("*.py"))
        for line, values in _lists(path)
        if values not in ("[]", str([*found.contract.proprio_mask]))
    ]
    if not places:
        return None
    return (
        f"the checkpoint's code names columns of the proprio that are hidden from the model "
        f"({_MASK}: {'; '.join(places[:3])}), and no file says whether it was trained so: all "
        "columns are sent; --set proprio_mask=... hides some"
    )


def _lists(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, value) where a file sets that name, as a key, a variable or an argument."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        values: list[ast.expr | None] = []
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            values = [v for k, v in pairs if isinstance(k, ast.Constant) and k.value == _MASK]
        elif isinstance(node, ast.Assign):
            named = any(isinstance(t, ast.Name) and t.id == _MASK for t in node.targets)
            values = [node.value] if named else []
        elif isinstance(node, ast.AnnAssign):
            named = isinstance(node.target, ast.Name) and node.target.id == _MASK
            values = [node.value] if named else []
        elif isinstance(node, ast.keyword) and node.arg == _MASK:
            values = [node.value]
        for value in values:
            if isinstance(value, (ast.List, ast.Tuple)):
                yield value.lineno, ast.unparse(value)
