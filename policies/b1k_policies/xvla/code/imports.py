"""Finding the packages that a checkpoint's code needs, from its sources, before it runs.

An import within a function counts if loading or inference can reach the function: names are
followed from the two entry classes through all files that are imported on the way. Imports under an
`if`, or in a `try` that catches ImportError, are not required, nor are those of training or the
code's own server. Modules of the package that are imported under an `if` (one of several encoders)
are read separately, as their imports may be needed. So a pass does not prove that nothing is
missing; what is still missing is reported when it fails (`required_packages.package_advice`).
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ENTRIES = {"configuration_xvla": "XVLAConfig", "modeling_xvla": "XVLA"}
"""Modules that are imported from a checkpoint's package (from its `models`, unless it is flat), and
the class that is used from each."""

_CALLED = ("forward", "generate_actions", "from_pretrained", "reload_pretrained_weights")
"""Methods that we call; Python and transformers' loading call others."""
_HOOKS = ("_init_weights", "post_init", "tie_weights", "_load_pretrained_model")
_GUARDS = ("ImportError", "ModuleNotFoundError", "Exception", "BaseException")

_READ_EARLY = ("_supports_sdpa",)
"""Attributes that transformers reads from 4.54 on while it builds a model."""


@dataclass(frozen=True, kw_only=True)
class CodeImport:
    """One import of a package that is not the checkpoint's own.

    Attributes:
        module: Dotted name, as in `transformers.modeling_utils`.
        name: The imported name; None for the module itself.
        place: `FILE:LINE`, relative to the package.
    """

    module: str
    name: str | None
    place: str

    @property
    def top(self) -> str:
        """The package that is imported."""
        return self.module.partition(".")[0]


@dataclass(frozen=True, kw_only=True)
class CodeReading:
    """Findings in the sources.

    Attributes:
        imports: Imports of other packages that loading or inference reaches.
        perhaps: Those reached only under a condition.
        properties: `FILE:LINE` of attributes that transformers reads while it builds the model and
            that are properties which ask a part of the model.
    """

    imports: tuple[CodeImport, ...]
    perhaps: tuple[CodeImport, ...]
    properties: dict[str, str]


@dataclass
class _Context:
    """Code that runs together: a module's top level, a function, or the body of a class.

    Attributes:
        mentions: Names that occur in it.
        imports: Unconditional imports of other packages.
        own: Modules of the package that it imports, as dotted names below it.
        own_perhaps: Those that it imports under a condition.
    """

    mentions: set[str] = field(default_factory=set)
    imports: list[CodeImport] = field(default_factory=list)
    own: set[str] = field(default_factory=set)
    own_perhaps: set[str] = field(default_factory=set)


class _Module(ast.NodeVisitor):
    """One file: the contexts of its top level, its classes and its functions."""

    def __init__(self, path: Path, name: str, package: str, shown: str) -> None:
        self.top = _Context()
        self.functions: dict[tuple[str | None, str], _Context] = defaultdict(_Context)
        self.classes: dict[str, _Context] = {}
        self.properties: dict[str, str] = {}
        self._package, self._shown = package, shown
        is_package = path.name == "__init__.py"
        parts = name.split(".") if name else []
        self._parents = parts if is_package else parts[:-1]
        self._here, self._class = self.top, ""
        self._in_function = self._maybe = False
        try:
            tree = ast.parse(path.read_text("utf-8"), str(path))
        except (OSError, SyntaxError, ValueError):
            return  # its import will report it
        self.visit(tree)

    # --- where the code is

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if self._in_function or self._class:
            self.generic_visit(node)
            return
        here = self._here
        self._here, self._class = self.classes.setdefault(node.name, _Context()), node.name
        self.generic_visit(node)
        self._here, self._class = here, ""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if self._in_function:
            self.generic_visit(node)
            return
        if _is_property(node) and _reads_a_part(node):
            self.properties[node.name] = f"{self._shown}:{node.lineno}"
        here, maybe = self._here, self._maybe
        self._here = self.functions[self._class or None, node.name]
        self._in_function, self._maybe = True, False
        self.generic_visit(node)
        self._here, self._in_function, self._maybe = here, False, maybe

    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)
        named = {part.id for part in ast.walk(node.test) if isinstance(part, ast.Name)}
        named |= {part.attr for part in ast.walk(node.test) if isinstance(part, ast.Attribute)}
        if "TYPE_CHECKING" in named:
            self._each(node.orelse)
            return
        self._each([*node.body, *node.orelse], maybe=True)

    def visit_Try(self, node: ast.Try) -> None:
        expected = any(_catches_import_errors(handler) for handler in node.handlers)
        self._each(node.body, maybe=expected)
        self._each([*node.handlers], maybe=True)
        self._each([*node.orelse, *node.finalbody])

    def _each(self, nodes: Iterable[ast.AST], *, maybe: bool = False) -> None:
        before = self._maybe
        self._maybe = before or maybe
        for node in nodes:
            self.visit(node)
        self._maybe = before

    # --- what it does

    def visit_Name(self, node: ast.Name) -> None:
        self._here.mentions.add(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._here.mentions.add(node.attr)
        self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._import(alias.name, None, node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            above = self._parents[: len(self._parents) - node.level + 1]
            base = ".".join([self._package, *above, *([base] if base else [])])
        for alias in node.names:
            self._import(base, alias.name, node.lineno)

    def _import(self, module: str, name: str | None, line: int) -> None:
        here = self.top if not self._in_function else self._here
        top = module.partition(".")[0]
        if top == self._package:
            below = module.partition(".")[2]
            own = here.own_perhaps if self._maybe else here.own
            own |= {below, f"{below}.{name}".strip(".")} if name else {below}
        elif top not in sys.stdlib_module_names and not self._maybe:
            place = f"{self._shown}:{line}"
            here.imports.append(CodeImport(module=module, name=name, place=place))


def _is_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(isinstance(d, ast.Name) and d.id == "property" for d in node.decorator_list)


def _reads_a_part(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether a method reads `self.PART.ATTRIBUTE`."""
    return any(
        isinstance(part, ast.Attribute)
        and isinstance(part.value, ast.Attribute)
        and isinstance(part.value.value, ast.Name)
        and part.value.value.id == "self"
        for part in ast.walk(node)
    )


def _catches_import_errors(handler: ast.ExceptHandler) -> bool:
    """Return whether the code goes on after an ImportError, and does not raise another error."""
    if isinstance(handler.body[-1], ast.Raise):
        return False
    if handler.type is None:
        return True
    kinds = {part.id for part in ast.walk(handler.type) if isinstance(part, ast.Name)}
    return bool(kinds & set(_GUARDS))


class _Walk:
    """Follows names from `ENTRIES` until nothing new is reached."""

    def __init__(self, root: Path, package: str, *, perhaps: bool) -> None:
        self._root, self._package, self._perhaps = root, package, perhaps
        self._modules: dict[str, _Module] = {}
        self._names: set[str] = set(ENTRIES.values())
        self.imports: dict[tuple[str, str | None], CodeImport] = {}
        self.properties: dict[str, str] = {}
        for entry in ENTRIES:
            self._open(f"models.{entry}")
            self._open(entry)
        while self._step():
            pass

    def _open(self, name: str) -> None:
        """Read a module and the packages above it."""
        parts = name.split(".") if name else []
        for end in range(len(parts) + 1):
            dotted, place = ".".join(parts[:end]), self._root.joinpath(*parts[:end])
            files = (place / "__init__.py", place.with_name(f"{place.name}.py"))
            for path in files if dotted else files[:1]:
                if dotted not in self._modules and path.is_file():
                    shown = path.relative_to(self._root).as_posix()
                    self._modules[dotted] = _Module(path, dotted, self._package, shown)

    def _step(self) -> bool:
        before = (len(self._modules), len(self._names), len(self.imports))
        for module in list(self._modules.values()):
            for context in self._alive(module):
                self._names |= context.mentions
                for found in context.imports:
                    self.imports.setdefault((found.module, found.name), found)
                for name in context.own | (context.own_perhaps if self._perhaps else set()):
                    self._open(name)
        return before != (len(self._modules), len(self._names), len(self.imports))

    def _alive(self, module: _Module) -> Iterator[_Context]:
        yield module.top
        classes = {name for name in module.classes if name in self._names}
        for name in classes:
            yield module.classes[name]
            self.properties |= module.properties
        for (owner, name), context in module.functions.items():
            called = name in self._names
            if owner is not None:
                by_python = name.startswith("__") or name in (*_CALLED, *_HOOKS)
                called = owner in classes and (called or by_python)
            if called:
                yield context


def read_code(root: Path, package: str) -> CodeReading:
    """Find what the package in a folder imports for loading and inference.

    Args:
        root: The folder of the package itself.
        package: The name it imports itself under.
    """
    walk, wider = (_Walk(root, package, perhaps=perhaps) for perhaps in (False, True))
    early = {name: place for name, place in walk.properties.items() if name in _READ_EARLY}

    def in_order(imports: Iterable[CodeImport]) -> tuple[CodeImport, ...]:
        return tuple(sorted(imports, key=lambda one: (one.top, one.module, one.place)))

    return CodeReading(
        imports=in_order(walk.imports.values()),
        perhaps=in_order(one for key, one in wider.imports.items() if key not in walk.imports),
        properties=early,
    )
