"""Finding modules, classes and members in a Python source tree, without importing it.

The text is read with `ast`: names that a package re-exports, members of base classes, attributes
that a method sets on `self`. What is decided only at run time (a base class from another package,
`__getattr__`) is answered as `Unknown`, never as found.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Found:
    """The answer for something that is there.

    Attributes:
        place: File below the tree and line, `path:line`.
        node: The syntax node that defines it.
        kind: `module`, `class`, `function`, `property` or `attribute`.
        settable: Whether it can be assigned: a plain attribute, or a property with a setter.
    """

    place: str
    node: ast.AST | None
    kind: str
    settable: bool = False


@dataclass(frozen=True)
class Missing:
    """The answer for something that is not in the file that was read."""

    reason: str


@dataclass(frozen=True)
class Absent:
    """The answer for something whose file is not in the tree."""

    reason: str


@dataclass(frozen=True)
class Unknown:
    """The answer for something that the text alone does not decide."""

    reason: str


Answer = Found | Missing | Absent | Unknown


@dataclass(frozen=True)
class Module:
    """A parsed file.

    Attributes:
        name: Its dotted name.
        path: Its path below the tree, with forward slashes.
        is_package: Whether it is an `__init__.py`.
        tree: Its syntax tree.
    """

    name: str
    path: str
    is_package: bool
    tree: ast.Module

    @cached_property
    def statements(self) -> list[ast.stmt]:
        """List top-level statements, including those below `if`, `try` and `with`."""
        return list(_flat(self.tree.body))


@dataclass(frozen=True)
class Class:
    """A class and its module."""

    module: Module
    node: ast.ClassDef


class SourceTree:
    """A checkout of BEHAVIOR-1K, or one of the folders in it that hold packages."""

    def __init__(self, root: Path) -> None:
        # If the folder OmniGibson is given, its neighbours bddl3 and joylo belong to the tree, too.
        self.root = root = root.resolve().parent if root.resolve().name == "OmniGibson" else root
        self._folders = [
            folder
            for folder in (root, root / "OmniGibson", root / "joylo", root / "bddl3", root / "bddl")
            if folder.is_dir()
        ]
        self._modules: dict[str, Module | None] = {}

    def has(self, name: str) -> bool:
        """Whether the tree has a module or a package folder of this dotted name."""
        relative = Path(*name.split("."))
        return any(
            (folder / relative).is_dir() or (folder / relative.with_suffix(".py")).is_file()
            for folder in self._folders
        )

    def module(self, name: str) -> Module | None:
        """Read a module by its dotted name; None if the tree has no such file."""
        if name not in self._modules:
            self._modules[name] = self._read(name)
        return self._modules[name]

    def _read(self, name: str) -> Module | None:
        relative = Path(*name.split("."))
        for folder in self._folders:
            for path in (folder / relative.with_suffix(".py"), folder / relative / "__init__.py"):
                if path.is_file():
                    return Module(
                        name=name,
                        path=path.relative_to(self.root).as_posix(),
                        is_package=path.name == "__init__.py",
                        tree=ast.parse(path.read_text(encoding="utf-8"), filename=str(path)),
                    )
        return None

    # --- names ------------------------------------------------------------------------------------

    def find(self, dotted: str) -> Answer:
        """Find a module, or what a module defines or re-exports, by its dotted name."""
        module, name = self.split(dotted)
        if module is None:
            return Absent(f"no file for {dotted.rpartition('.')[0] or dotted}")
        return self._in_module(module, name) if name else Found(f"{module.path}:1", None, "module")

    def class_of(self, dotted: str) -> Class | Missing | Absent:
        """Find a class by its dotted name; one inside a function counts, as `Simulator` is."""
        module, name = self.split(dotted)
        if module is None or not name:
            return Absent(f"no file for {dotted.rpartition('.')[0]}")
        found = self.class_in(module, name)
        if found is not None:
            return found
        for target in self._imports(module).get(name, ()):
            if self.split(target)[0] is None:
                return Absent(f"{module.path} takes {name} from {target}, which has no file here")
        return Missing(f"{module.path} has no class {name}")

    def split(self, dotted: str) -> tuple[Module | None, str]:
        """Split a dotted name into its module and the name there, which is empty for a module."""
        module = self.module(dotted)
        if module is not None:
            return module, ""
        parent, _, name = dotted.rpartition(".")
        return (self.module(parent) if parent else None), name

    def _in_module(self, module: Module, name: str) -> Answer:
        for node in module.statements:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name:
                return Found(f"{module.path}:{node.lineno}", node, "function")
            if isinstance(node, ast.ClassDef) and node.name == name:
                return Found(f"{module.path}:{node.lineno}", node, "class")
            if name in assigned(node):
                return Found(f"{module.path}:{node.lineno}", node, "attribute", settable=True)
        for target in self._imports(module).get(name, ()):
            return self.find(target)
        inner = self.class_in(module, name)
        if inner is not None:
            return Found(f"{inner.module.path}:{inner.node.lineno}", inner.node, "class")
        if any(getattr(node, "name", None) == "__getattr__" for node in module.tree.body):
            return Unknown(f"{module.path} answers names with __getattr__")
        return Missing(f"{module.path} does not define or import {name}")

    def _imports(self, module: Module) -> dict[str, list[str]]:
        """Return the dotted names that each local name may stand for; star imports are followed."""
        names: dict[str, list[str]] = {}
        for node in module.statements:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    local = alias.asname or alias.name.partition(".")[0]
                    names.setdefault(local, []).append(
                        alias.name if alias.asname else alias.name.partition(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom):
                source = _source_of(module, node)
                for alias in node.names:
                    if alias.name == "*":
                        for public in self._public(source):
                            names.setdefault(public, []).append(f"{source}.{public}")
                    else:
                        local = alias.asname or alias.name
                        names.setdefault(local, []).append(f"{source}.{alias.name}")
        return names

    def _public(self, name: str) -> list[str]:
        module = self.module(name)
        if module is None:
            return []
        defined = [
            node.name
            for node in module.statements
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
        ]
        names = [name for node in module.statements for name in assigned(node)]
        return defined + [name for name in names if not name.startswith("_")]

    # --- classes ----------------------------------------------------------------------------------

    def class_in(self, module: Module, name: str, seen: set[str] | None = None) -> Class | None:
        """Find a class that a module defines, even within a function, or imports."""
        # Modules that import each other would be followed without end.
        seen = set() if seen is None else seen
        if f"{module.name}.{name}" in seen:
            return None
        seen.add(f"{module.name}.{name}")
        for node in module.statements:
            if isinstance(node, ast.ClassDef) and node.name == name:
                return Class(module, node)
        for target in self._imports(module).get(name, ()):
            source, inner_name = self.split(target)
            if source is not None and inner_name:
                found = self.class_in(source, inner_name, seen)
                if found is not None:
                    return found
        for inner in ast.walk(module.tree):
            if isinstance(inner, ast.ClassDef) and inner.name == name:
                return Class(module, inner)
        return None

    def lineage(self, cls: Class) -> tuple[list[Class], list[str]]:
        """Return the class and its bases, nearest first, and the bases that are not in the tree."""
        classes, outside, waiting, seen = [], [], [cls], set()
        while waiting:
            current = waiting.pop(0)
            key = f"{current.module.name}.{current.node.name}"
            if key in seen:
                continue
            seen.add(key)
            classes.append(current)
            for base in current.node.bases:
                found = self._base(current, base)
                if isinstance(found, Class):
                    waiting.append(found)
                elif found not in ("object", "ABC", "abc.ABC", "Generic", "Protocol"):
                    outside.append(found)
        return classes, outside

    def _base(self, cls: Class, base: ast.expr) -> Class | str:
        text = ast.unparse(base)
        if isinstance(base, ast.Subscript):
            base = base.value
        if isinstance(base, ast.Name):
            return self.class_in(cls.module, base.id) or text
        if isinstance(base, ast.Attribute) and isinstance(base.value, ast.Name):
            for target in self._imports(cls.module).get(base.value.id, ()):
                module = self.module(target)
                found = self.class_in(module, base.attr) if module else None
                if found is not None:
                    return found
        return text

    def member(self, cls: Class, name: str) -> Answer:
        """Find a method, property or attribute of a class, its own or inherited."""
        classes, outside = self.lineage(cls)
        for current in classes:
            found = _own_member(current, name)
            if found is not None:
                return found
        for current in classes:
            for node in current.node.body:
                if isinstance(node, ast.FunctionDef) and node.name == "__getattr__":
                    place = f"{current.module.path}:{node.lineno}"
                    return Unknown(f"answered by {current.node.name}.__getattr__ ({place})")
            if (line := _sets_by_name(current.node)) is not None:
                return Unknown(f"{current.module.path}:{line} sets attributes by computed names")
        if outside:
            bases = ", ".join(sorted(set(outside)))
            return Unknown(f"may come from {bases}, which is not in this tree")
        return Missing(f"{cls.module.path}: {cls.node.name} and its bases have no {name}")


def _flat(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if isinstance(node, (ast.If, ast.With)):
            yield from _flat(node.body)
            yield from _flat(getattr(node, "orelse", []))
        elif isinstance(node, ast.Try):
            for part in (node.body, node.orelse, node.finalbody, *(h.body for h in node.handlers)):
                yield from _flat(part)


def assigned(node: ast.AST) -> list[str]:
    """List the names that a statement assigns."""
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = list(node.targets)
    elif isinstance(node, (ast.AnnAssign, ast.AugAssign)):
        targets = [node.target]
    names = []
    for target in targets:
        parts = target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
        names += [part.id for part in parts if isinstance(part, ast.Name)]
    return names


def _source_of(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    up = node.level - 1 if module.is_package else node.level
    base = module.name.split(".")[: len(module.name.split(".")) - up]
    return ".".join([*base, node.module] if node.module else base)


def _own_member(cls: Class, name: str) -> Found | None:
    place = f"{cls.module.path}:"
    methods = [n for n in cls.node.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    same = [m for m in methods if m.name == name]
    if same:
        first = same[0]
        decorators = {ast.unparse(d) for d in first.decorator_list}
        if any(d.rpartition(".")[2].startswith(_PROPERTIES) for d in decorators):
            settable = any(f"{name}.setter" in map(ast.unparse, m.decorator_list) for m in same)
            return Found(f"{place}{first.lineno}", first, "property", settable)
        return Found(f"{place}{first.lineno}", first, "function")
    for node in _flat(cls.node.body):
        if name in assigned(node):
            return Found(f"{place}{node.lineno}", node, "attribute", settable=True)
    for method in methods:
        if not method.args.args:
            continue
        me = method.args.args[0].arg
        for inner in ast.walk(method):
            for target in _attribute_targets(inner):
                mine = isinstance(target.value, ast.Name) and target.value.id == me
                if mine and target.attr == name:
                    return Found(f"{place}{target.lineno}", inner, "attribute", settable=True)
    return None


_PROPERTIES = ("property", "cached_property", "classproperty")


def _attribute_targets(node: ast.AST) -> Iterator[ast.Attribute]:
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = list(node.targets)
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    for target in targets:
        parts = target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
        yield from (part for part in parts if isinstance(part, ast.Attribute))


def _sets_by_name(cls: ast.ClassDef) -> int | None:
    """Return the line of a `setattr(self, NAME, ...)` whose NAME is not a constant, or None."""
    for node in ast.walk(cls):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "setattr"
            and len(node.args) == 3
            and isinstance(node.args[0], ast.Name)
            and node.args[0].id in ("self", "cls")
            and not isinstance(node.args[1], ast.Constant)
        ):
            return node.lineno
    return None
