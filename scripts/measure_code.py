"""Measure how the code is spread, package by package, before and after a change of its layout.

    python scripts/measure_code.py [ROOT] [--json]

ROOT is a checkout, this one by default. Lines are those of the files, blank ones and docstrings
included; comments are lines that hold nothing else. A folder's width counts its modules, not
`__init__.py` and not its folders. Cycles are groups of modules that import one another, imports
inside functions counted, those for type checkers alone not.
"""

from __future__ import annotations

import ast
import json
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

PACKAGES = {"envs": "b1k_envs", "policies": "b1k_policies", "eval": "b1k_eval"}
PLACES = (*(f"{floor}/{package}" for floor, package in PACKAGES.items()), "scripts", "tests")


def measure(files: list[Path], root: Path) -> dict[str, Any]:
    """Measure some files below a root."""
    texts = {file: file.read_text(encoding="utf-8") for file in files}
    lines = {file: len(text.splitlines()) for file, text in texts.items()}
    functions = sorted(_function_lengths(map(ast.parse, texts.values())))
    comments = sum(
        line.lstrip().startswith("#") for text in texts.values() for line in text.splitlines()
    )
    modules = [file for file in files if file.name != "__init__.py"]
    widths = Counter(file.parent for file in modules)
    sizes = sorted(lines[file] for file in modules)
    longest = max(modules, key=lambda file: lines[file])
    widest, width = max(widths.items(), key=lambda item: item[1])
    total = sum(lines.values())
    return {
        "lines": total,
        "modules": len(modules),
        "median": statistics.median(sizes),
        "p90": _quantile(sizes, 0.9),
        "longest": f"{lines[longest]} {longest.relative_to(root)}",
        "above 400": sum(size > 400 for size in sizes),
        "p95 function": _quantile(functions, 0.95),
        "widest folder": f"{width} {widest.relative_to(root)}",
        "comments": f"{100 * comments / total:.1f} %",
    }


def _function_lengths(trees: Iterable[ast.Module]) -> Iterator[int]:
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield (node.end_lineno or node.lineno) - node.lineno + 1


def _quantile(ordered: list[int], share: float) -> int:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0


def cycles(root: Path) -> list[list[str]]:
    """Find groups of modules that import one another, over all packages."""
    found = {
        ".".join(file.relative_to(root / floor).with_suffix("").parts): file
        for floor, package in PACKAGES.items()
        for file in (root / floor / package).rglob("*.py")
    }
    graph = {name: set(_imports(file, found)) - {name} for name, file in found.items()}
    reach = {name: _reachable(name, graph) for name in graph}
    groups = {
        tuple(sorted(other for other in reach[name] if name in reach[other]))
        for name in graph
        if name in reach[name]
    }
    return sorted(map(list, groups))


def _imports(file: Path, known: dict[str, Path]) -> Iterator[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in for_types:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield from (name for name in (whole, node.module) if name in known)


def _reachable(start: str, graph: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    ahead = list(graph[start])
    while ahead:
        name = ahead.pop()
        if name not in seen:
            seen.add(name)
            ahead += graph[name]
    return seen


def main(
    root: Annotated[Path, typer.Argument(help="A checkout.")] = Path(__file__).parents[1],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Print the table."""
    files = {place: sorted((root / place).rglob("*.py")) for place in PLACES}
    packages = [file for place in PLACES[: len(PACKAGES)] for file in files[place]]
    rows = {"the three packages": measure(packages, root)}
    rows |= {place: measure(found, root) for place, found in files.items() if found}
    circles = cycles(root)
    if as_json:
        print(json.dumps({"places": rows, "cycles": circles}, indent=2))
        return
    table = Table("", *next(iter(rows.values())))
    for place, row in rows.items():
        table.add_row(place, *map(str, row.values()))
    console = Console(width=200)
    console.print(table)
    console.print(f"import cycles: {len(circles)}", *map(", ".join, circles), sep="\n")


if __name__ == "__main__":
    typer.run(main)
