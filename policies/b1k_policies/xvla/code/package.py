"""Importing a checkpoint's own `da3_xvla` so that neither it nor its neighbours shadow anything.

Two checkpoints bring two packages of one name, next to folders called `datasets` or `eval`. So the
search path is not changed, a finder finds one package only, and the package is in `sys.modules`
only while it is in use. It always runs from its sources: no .pyc is written into the checkpoint,
and none there is run in place of the source that was hashed and read.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.abc import MetaPathFinder
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import ClassVar

from b1k_policies.xvla.code.required_packages import beside, failed_import, package_advice, words
from b1k_policies.xvla.files.checkpoint import PACKAGE, PACKAGE_MARK, CheckpointError


class _SourceLoader(SourceFileLoader):
    """Always compiles the source, and ignores .pyc files."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


class _Finder(MetaPathFinder):
    """Finds one package and its submodules, and nothing else."""

    def __init__(self, name: str, root: Path) -> None:
        self._name = name
        self._root = root

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == self._name:
            return self._package()
        if not fullname.startswith(f"{self._name}."):
            return None
        for entry in path or ():
            spec = FileFinder(entry, (_SourceLoader, SOURCE_SUFFIXES)).find_spec(fullname)
            if spec is not None:
                return spec
        # Not None: the finders after this one would use a .pyc.
        raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)

    def _package(self) -> ModuleSpec | None:
        init = self._root / "__init__.py"
        folders = [str(self._root)]
        if init.is_file():
            return importlib.util.spec_from_file_location(
                self._name,
                init,
                loader=_SourceLoader(self._name, str(init)),
                submodule_search_locations=folders,
            )
        spec = ModuleSpec(self._name, None, is_package=True)
        spec.submodule_search_locations = folders
        return spec


class CodePackage:
    """A package in any folder, importable under its own name on demand.

    Several may have the same name; each keeps its modules, so a class stays one class. Threads
    share `sys.modules`: use packages of one name from one thread at a time.

    Attributes:
        root: The folder of the package itself.
        name: The name it imports itself under.
    """

    _in_use: ClassVar[dict[str, CodePackage]] = {}
    _outside: ClassVar[dict[str, dict[str, ModuleType]]] = {}

    def __init__(self, root: Path, name: str = PACKAGE) -> None:
        self.root = root.absolute()
        self.name = name
        self._modules: dict[str, ModuleType] = {}
        self._count = 0
        self._finder = _Finder(name, self.root)

    def module_of(self, name: str) -> str:
        """Return the submodule `models.NAME`, or `NAME` in a package without a folder `models`."""
        return f"models.{name}" if (self.root / PACKAGE_MARK).is_file() else name

    def load(self, submodule: str) -> ModuleType:
        """Import a submodule, as in `load("models.modeling_xvla")`; its output goes to stderr.

        Raises:
            CheckpointError: Its import raised anything; the message has the place in its code.
        """
        try:
            with self.active(), redirect_stdout(sys.stderr):
                return importlib.import_module(f"{self.name}.{submodule}")
        except (Exception, SystemExit) as error:  # code of others can raise anything
            raise CheckpointError(self._explained(error)) from error

    def modules(self) -> list[ModuleType]:
        """Return the loaded modules of the package."""
        with self.active():
            names = (self.name, f"{self.name}.")
            return [m for n, m in sys.modules.items() if n == names[0] or n.startswith(names[1])]

    @contextmanager
    def active(self) -> Iterator[None]:
        """Within this context, imports under the package's name give this package's modules.

        Other modules of that name are restored afterwards. Contexts may be nested, also of
        different packages of one name: the innermost counts.
        """
        before = self._in_use.get(self.name)
        if before is self:
            yield
            return
        self._switch(before, self)
        try:
            yield
        finally:
            self._switch(self, before)

    def _switch(self, old: CodePackage | None, new: CodePackage | None) -> None:
        """Replace `old`'s modules in `sys.modules` by `new`'s; None is the process's own."""
        modules = {name: sys.modules.pop(name) for name in self._loaded(old)}
        if old is None:
            self._outside[self.name] = modules
        else:
            old._modules = modules
            sys.meta_path.remove(old._finder)
        if new is None:
            sys.modules.update(self._outside.pop(self.name))
            del self._in_use[self.name]
        else:
            sys.modules.update(new._modules)
            new._count = len(sys.modules)
            sys.meta_path.insert(0, new._finder)
            self._in_use[self.name] = new

    def _loaded(self, active: CodePackage | None) -> list[str]:
        """Return the names of loaded modules of such a package."""
        # Going through all modules takes a millisecond and this is done twice per inference, so
        # only if something may have been imported since.
        if self.name not in sys.modules:
            return []
        if active is not None and active._count == len(sys.modules):
            return [name for name in active._modules if name in sys.modules]
        return [n for n in sys.modules if n == self.name or n.startswith(f"{self.name}.")]

    # --- what is said when it fails -----------------------------------------------------------

    def _explained(self, error: BaseException) -> str:
        return (
            f"the checkpoint's code ({self.root}) failed at import: {words(error)}"
            f"{self._place(error)}{self._advice(error)}"
        )

    def _place(self, error: BaseException) -> str:
        """Return ` (FILE:LINE)` of the last line of the package itself that ran."""
        own = [
            (frame.filename, frame.lineno)
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename).is_relative_to(self.root)
        ]
        if isinstance(error, SyntaxError) and error.filename is not None:
            own.append((error.filename, error.lineno))
        return f" ({own[-1][0]}:{own[-1][1]})" if own else ""

    def _advice(self, error: BaseException) -> str:
        top = (failed_import(error) or "").partition(".")[0]
        near = beside(self.root, top) if top and top != self.name else None
        if near is not None:
            return (
                f"; {near} is there, but only the package {self.name} is imported, so an import of "
                f"what lies in it must be relative (or begin with {self.name}), and what lies "
                "beside it cannot be imported"
            )
        advice = None if top == self.name else package_advice(error)
        return "" if advice is None else f"; {advice}"
