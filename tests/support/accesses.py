"""Which names a source text reads of values that come from OmniGibson, told from the text alone.

A value comes from OmniGibson when it is a parameter or attribute annotated `Any`, `list[Any]` or
`ModuleType`, what such a function returns, an imported module of `omnigibson` or `bddl`, or
anything got out of such a value by attribute, index, call, loop or assignment. That is more than
what really does, which is the safe side: a name too many has to be accounted for, none is lost.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

FOREIGN_TYPES = {"Any", "list[Any]", "ModuleType", "Sequence[Sequence[Any]]"}
FOREIGN_TYPES |= {"Mapping[str, Any]", "dict[str, Any]"}
FOREIGN_MODULES = ("omnigibson", "bddl")
PASSING_ON = {"next", "iter", "list", "tuple", "sorted", "zip", "enumerate", "map", "getattr"}
"""Builtins that hand out what they were given."""


class Access(NamedTuple):
    """A name of a foreign value.

    Attributes:
        name: The attribute, or the key in an index.
        line: Where.
        key: Whether it is a key.
    """

    name: str
    line: int
    key: bool


@dataclass
class Package:
    """What is foreign across the modules of a package.

    Attributes:
        returning: Functions and methods that return foreign values.
        attributes: Attributes that hold foreign values.
    """

    returning: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)


def foreign_names(modules: Iterable[ast.Module]) -> Package:
    """Collect, over a whole package, which functions and attributes give foreign values."""
    package = Package()
    modules = list(modules)
    for tree in modules:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and _is_foreign(node.returns):
                package.returning.add(node.name)
            if isinstance(node, ast.ClassDef):
                for field_ in node.body:
                    if isinstance(field_, ast.AnnAssign) and _is_foreign(field_.annotation):
                        package.attributes.add(ast.unparse(field_.target))
    size = -1
    while size != len(package.attributes):  # an attribute may be assigned from another one
        size = len(package.attributes)
        for tree in modules:
            for function in _functions(tree):
                taint = _Taint(function, package)
                for target, value in _assignments(function):
                    if isinstance(target, ast.Attribute) and taint.holds(value):
                        package.attributes.add(target.attr)
    return package


def accesses(tree: ast.Module, package: Package) -> Iterator[Access]:
    """Every attribute and constant key of a foreign value in a module."""
    for function in _functions(tree):
        taint = _Taint(function, package)
        for node in _own_nodes(function):
            for value, name, key in _named(node):
                if taint.holds(value):
                    yield Access(name, node.lineno, key)  # type: ignore[attr-defined]


def _named(node: ast.AST) -> Iterator[tuple[ast.expr, str, bool]]:
    """(value, name, whether it is a key) where a node asks a value for a constant name."""
    if isinstance(node, ast.Attribute):
        yield node.value, node.attr, False
    elif isinstance(node, ast.Subscript):
        if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
            yield node.value, node.slice.value, True
    elif isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.In, ast.NotIn)):
        if isinstance(node.left, ast.Constant) and isinstance(node.left.value, str):
            yield node.comparators[0], node.left.value, True
    elif isinstance(node, ast.Call):
        constants = [a.value for a in node.args if isinstance(a, ast.Constant)]
        names = [value for value in constants if isinstance(value, str)]
        if isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            yield from ((node.func.value, name, True) for name in names[:1])
        elif isinstance(node.func, ast.Name) and node.func.id in ("getattr", "setattr", "hasattr"):
            yield from ((node.args[0], name, False) for name in names[:1])


class _Taint:
    """The foreign names of one function, and of those it stands in."""

    def __init__(self, function: ast.FunctionDef | ast.Lambda, package: Package) -> None:
        self.package = package
        self.names: set[str] = set()
        for outer in getattr(function, "outer", ()):
            self.names |= _parameters(outer)
        self.names |= _parameters(function)
        size = -1
        while size != len(self.names):
            size = len(self.names)
            for target, value in _assignments(function):
                if self.holds(value):
                    self.names |= set(_plain_names(target))

    def holds(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Name):
            return node.id in self.names
        if isinstance(node, ast.Attribute):
            return node.attr in self.package.attributes or self.holds(node.value)
        if isinstance(node, (ast.Subscript, ast.Starred)):
            return self.holds(node.value)
        if isinstance(node, (ast.ListComp, ast.GeneratorExp)):
            return self.holds(node.elt)
        if isinstance(node, ast.IfExp):
            return self.holds(node.body) or self.holds(node.orelse)
        if isinstance(node, (ast.Tuple, ast.List)):
            return any(map(self.holds, node.elts))
        if isinstance(node, ast.Call):
            return self._calls(node)
        return False

    def _calls(self, node: ast.Call) -> bool:
        if isinstance(node.func, ast.Name):
            name = node.func.id
            passes = name in PASSING_ON and any(map(self.holds, node.args))
            mapped = name == "map" and ast.unparse(node.args[0]).rpartition(".")[2]
            return passes or name in self.package.returning or mapped in self.package.returning
        if isinstance(node.func, ast.Attribute):
            imported = node.func.attr == "import_module" and node.args
            if imported and isinstance(node.args[0], ast.Constant):
                return str(node.args[0].value).startswith(FOREIGN_MODULES)
            return node.func.attr in self.package.returning or self.holds(node.func.value)
        return False


def _is_foreign(annotation: ast.expr | None) -> bool:
    return annotation is not None and ast.unparse(annotation) in FOREIGN_TYPES


def _parameters(function: ast.FunctionDef | ast.Lambda) -> set[str]:
    arguments = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
    return {each.arg for each in arguments if _is_foreign(each.annotation)}


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """Functions at any depth, each knowing those it stands in."""
    waiting: list[tuple[ast.AST, tuple[ast.FunctionDef, ...]]] = [(tree, ())]
    while waiting:
        node, outer = waiting.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef):
                child.outer = outer  # type: ignore[attr-defined]
                yield child
                waiting.append((child, (*outer, child)))
            else:
                waiting.append((child, outer))


def _own_nodes(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """The nodes of a function without those of functions in it."""
    waiting: list[ast.AST] = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef):
            waiting.extend(ast.iter_child_nodes(node))


def _assignments(function: ast.FunctionDef | ast.Lambda) -> Iterator[tuple[ast.expr, ast.expr]]:
    """(target, value) of everything that gives a name a value, tuples taken apart."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from _pairs(target, node.value)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            yield node.target, node.value
            if _is_foreign(node.annotation):
                yield node.target, ast.Call(ast.Name("next"), [node.target], [])
        elif isinstance(node, (ast.For, ast.comprehension)):
            yield node.target, node.iter
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            yield node.optional_vars, node.context_expr
        elif isinstance(node, ast.NamedExpr):
            yield node.target, node.value


def _plain_names(target: ast.expr) -> Iterator[str]:
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, ast.Starred):
        yield from _plain_names(target.value)
    elif isinstance(target, (ast.Tuple, ast.List)):
        for part in target.elts:
            yield from _plain_names(part)


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    both = isinstance(target, (ast.Tuple, ast.List)) and isinstance(value, (ast.Tuple, ast.List))
    if both and len(target.elts) == len(value.elts):  # type: ignore[attr-defined]
        for part, of in zip(target.elts, value.elts, strict=True):  # type: ignore[attr-defined]
            yield from _pairs(part, of)
    else:
        yield target, value
