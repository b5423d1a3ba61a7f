"""Checking that a call would be accepted, and finding macros and dictionary keys.

Like `og_source`, this reads the text only.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from lib.og_source import (
    Absent,
    Answer,
    Class,
    Found,
    Missing,
    SourceTree,
    Unknown,
    assigned,
)


def refusal(
    tree: SourceTree, found: Found, cls: Class | None, arguments: Sequence[str]
) -> Missing | Unknown | None:
    """Say why a call with these arguments would fail or cannot be judged; None if it fits.

    A keyword that falls into `**kwargs` is looked for in the same method of the base classes,
    where such names usually end.

    Args:
        tree: The tree with the base classes.
        found: A function or a class.
        cls: The class whose method it is, if any.
        arguments: The arguments in order, `name` by position and `name=` by keyword.
    """
    if isinstance(found.node, ast.ClassDef):
        return Unknown("a class is called: its __init__ has a row of its own")
    if not isinstance(found.node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return Unknown("what is called is no function of this tree")
    function, parameters = found.node, found.node.args
    own = [each.arg for each in parameters.posonlyargs + parameters.args]
    if cls is not None and "staticmethod" not in map(ast.unparse, function.decorator_list):
        own = own[1:]
    keywords = {name[:-1] for name in arguments if name.endswith("=")}
    positional = len(arguments) - len(keywords)
    if positional > len(own) and parameters.vararg is None:
        return Missing(f"takes {len(own)} arguments by position, {positional} are passed")
    for name in sorted(keywords - {*own, *(each.arg for each in parameters.kwonlyargs)}):
        if parameters.kwarg is None:
            return Missing(f"{function.name}() has no parameter {name}")
        if not _base_takes(tree, cls, function.name, name):
            return Unknown(f"{name} goes into **{parameters.kwarg.arg} of {function.name}()")
    for name in _needed(parameters, own[positional:]):
        if name not in keywords:
            return Missing(f"{function.name}() needs {name}, which is not passed")
    return None


def _needed(parameters: ast.arguments, rest: list[str]) -> Iterator[str]:
    """Yield parameters without a default; `rest` are those that no positional argument fills."""
    all_positional = [each.arg for each in parameters.posonlyargs + parameters.args]
    optional = set(all_positional[len(all_positional) - len(parameters.defaults) :])
    yield from (name for name in rest if name not in optional)
    for each, default in zip(parameters.kwonlyargs, parameters.kw_defaults, strict=True):
        if default is None:
            yield each.arg


def _base_takes(tree: SourceTree, cls: Class | None, function: str, name: str) -> bool:
    for base in tree.lineage(cls)[0] if cls is not None else ():
        for node in base.node.body:
            if isinstance(node, ast.FunctionDef) and node.name == function:
                names = {each.arg for each in node.args.args + node.args.kwonlyargs}
                if name in names:
                    return True
    return False


def macro(tree: SourceTree, module_name: str, name: str) -> Answer:
    """Find a macro of a module: `gm.NAME = ...`, or `m.NAME` of `create_module_macros`."""
    module = tree.module(module_name)
    if module is None:
        return Absent(f"no file for {module_name}")
    holders = {"gm"} if module_name.endswith(".macros") else set()
    for node in module.statements:
        if isinstance(node, ast.Assign) and "create_module_macros(" in ast.unparse(node.value):
            holders |= set(assigned(node))
    for node in module.statements:
        for target in node.targets if isinstance(node, ast.Assign) else ():
            if (
                isinstance(target, ast.Attribute)
                and isinstance(target.value, ast.Name)
                and target.value.id in holders
                and target.attr == name
            ):
                return Found(f"{module.path}:{node.lineno}", node, "attribute", settable=True)
    return Missing(f"{module.path} declares no macro {name}")


def key(tree: SourceTree, owner: str, name: str) -> Answer:
    """Find a string constant in a module or class, such as a key of a dict that it fills."""
    module, name_there = tree.split(owner)
    if module is None:
        return Absent(f"no file for {owner.rpartition('.')[0]}")
    scopes: list[tuple[str, ast.AST]] = [(module.path, module.tree)]
    outside: list[str] = []
    if name_there:
        cls = tree.class_of(owner)
        if not isinstance(cls, Class):
            return cls
        classes, outside = tree.lineage(cls)
        scopes = [(each.module.path, each.node) for each in classes]
    for path, within in scopes:
        for node in ast.walk(within):
            if isinstance(node, ast.Constant) and node.value == name:
                return Found(f"{path}:{node.lineno}", node, "attribute")
            if isinstance(node, ast.keyword) and node.arg == name:  # a key of dict(name=...)
                return Found(f"{path}:{node.value.lineno}", node, "attribute")
    if outside:
        return Unknown(f"may stand in {', '.join(sorted(set(outside)))}, not in this tree")
    return Missing(f'{scopes[0][0]} has no constant "{name}"')
