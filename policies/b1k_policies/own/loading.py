"""Finding the class that `--policy` names: in a file, in a module, or by an installed name.

A file is imported under a name of its own, made from its content and that of what it imports beside
it, and registered in `sys.modules`: its dataclasses and pickles work, and edited code is imported
anew. Its folder is appended
to `sys.path`: modules beside it can be imported, and cannot take the place of installed ones.
"""

from __future__ import annotations

import difflib
import hashlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from b1k_envs.errors import B1kEvalError, UnavailableError, UsageError
from b1k_policies.base import Policy
from b1k_policies.options import at_home
from b1k_policies.own.hashes import file_hashes
from b1k_policies.own.installed import of_name

T = TypeVar("T")

MEMBERS = ("reset", "infer")
"""What a policy's class must define."""
ATTRIBUTES = ("name", "chunk_length")
"""What a policy must have once it is made."""

_PREFIX = "b1k_own_"
_CALLERS = (
    "b1k_policies/base.py",
    "b1k_policies/registry.py",
    "b1k_policies/own/loading.py",
    "b1k_policies/inspection/conformance.py",
    "b1k_policies/inspection/examined.py",
    "importlib/__init__.py",
    "<frozen importlib._bootstrap>",
    "<frozen importlib._bootstrap_external>",
)
"""Files that only call a user's code; their lines would say nothing."""


@dataclass(frozen=True, kw_only=True)
class Named:
    """A class as `--policy` names it.

    Attributes:
        spec: The whole text.
        place: The file, absolute, or the module.
        name: The class.
        package: Distribution that offers it by an entry point, as `name version`, or None.
    """

    spec: str
    place: Path | str
    name: str
    package: str | None = None


def parse_own(spec: str) -> Named | None:
    """Read `FILE.py:CLASS`, `PACKAGE.MODULE:CLASS` or an installed name; None for another kind.

    Raises:
        UsageError: A file without a class, or a name that two packages have.
    """
    place, colon, name = spec.rpartition(":")
    if not colon and spec.endswith(".py"):
        raise UsageError(
            f"--policy {spec}: name its class as well, --policy {spec}:{_first(Path(spec))}"
        )
    if not colon:
        point = of_name(spec)
        if point is None:
            return None
        package = None if point.dist is None else f"{point.dist.name} {point.dist.version}"
        return Named(spec=spec, place=point.module, name=point.attr, package=package)
    if place.endswith(".py") and name.isidentifier():
        return Named(spec=spec, place=Path(place).absolute(), name=name)
    dotted = all(part.isidentifier() for part in place.split("."))
    return Named(spec=spec, place=place, name=name) if dotted and name.isidentifier() else None


def absolute_spec(spec: str) -> str:
    """Return a spec with its file made absolute; any other as it is."""
    named = parse_own(at_home(spec)) if ".py" in spec else None
    if named is None or not isinstance(named.place, Path):
        return spec
    return f"{named.place.resolve()}:{named.name}"


def load_class(named: Named) -> type[Policy]:
    """Import the module and return the class.

    Raises:
        UsageError: There is no such file, module or class, or it is no policy.
        UnavailableError: The import raises, or a package that it needs is missing.
    """
    module = _file(named, named.place) if isinstance(named.place, Path) else _module(named)
    found = getattr(module, named.name, None)
    if found is None:
        classes = [name for name, _ in _classes(module)]
        near = difflib.get_close_matches(named.name, classes, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"it has {_listed(classes)}"
        raise UsageError(f"--policy {named.spec}: {named.place} has no class {named.name}; {hint}")
    if not inspect.isclass(found) or not issubclass(found, Policy):
        lacking = [each for each in MEMBERS if not callable(getattr(found, each, None))]
        what = f"it lacks {' and '.join(lacking)}" if lacking else "it does not derive from it"
        raise UsageError(
            f"--policy {named.spec} is no policy: {what}; make it a subclass of "
            "b1k_policies.base.Policy"
        )
    if missing := sorted(found.__abstractmethods__):
        raise UsageError(f"--policy {named.spec} is no whole policy: it lacks {_listed(missing)}")
    return found


def module_file(cls: type[Policy]) -> Path | None:
    """Return the file that a class is defined in; None for one without a file."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return None if file is None else Path(file)


def guarded(named: Named, what: str, call: Callable[[], T]) -> T:
    """Call the user's code, and turn what it raises into one line that says where.

    Raises:
        B1kEvalError: As raised by the call.
        UnavailableError: It raised anything else; the text has file, line and the last calls.
    """
    try:
        with redirect_stdout(sys.stderr):  # standard output may be one JSON document
            return call()
    except B1kEvalError:
        raise
    except Exception as error:
        raise UnavailableError(f"--policy {named.spec}: {what}: {where_raised(error)}") from error
    except SystemExit as error:
        raise UnavailableError(
            f"--policy {named.spec}: {what}: it ended the process, SystemExit {error.code}"
        ) from error


def where_raised(error: Exception) -> str:
    """Return an error with the last two calls of its traceback, ours left out, on one line."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    last = "".join(traceback.format_exception_only(error)).strip()
    trace = traceback.extract_tb(error.__traceback__)
    calls = [each for each in trace if not each.filename.endswith(_CALLERS)]
    places = [f"{each.filename}, line {each.lineno}, in {each.name}: {each.line}" for each in calls]
    return "; ".join([*places[-2:], last])


def _file(named: Named, file: Path) -> ModuleType:
    try:
        content = file.read_bytes()
    except OSError as error:
        near = difflib.get_close_matches(file.name, _names(file.parent), n=1)
        hint = f"; did you mean {file.with_name(near[0])}?" if near else ""
        raise UsageError(
            f"--policy {named.spec}: there is no file {file} ({error.strerror}){hint}"
        ) from error
    hashes = file_hashes(file, None)
    digest = hashlib.sha256(repr((str(file), hashes)).encode()).hexdigest()
    name = f"{_PREFIX}{file.stem}_{digest[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(file)
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    _forget(file, {str(file.parent / each) for each in hashes})
    sys.modules[name] = module
    try:
        # Not by importlib, whose cache takes a file edited within a second for the old one.
        guarded(
            named,
            "importing it failed",
            lambda: exec(compile(content, str(file), "exec"), module.__dict__),
        )
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _forget(file: Path, files: set[str]) -> None:
    """Forget the modules beside a file that has been imported before, since one was edited."""
    known = {name: getattr(each, "__file__", None) for name, each in sys.modules.items()}
    if any(name.startswith(_PREFIX) and place == str(file) for name, place in known.items()):
        for name, place in known.items():
            if place in files and not name.startswith(_PREFIX):
                del sys.modules[name]


def _module(named: Named) -> ModuleType:
    name = str(named.place)
    try:
        return guarded(named, "importing it failed", lambda: import_module(name))
    except UnavailableError as error:
        cause = error.__cause__
        lacking = cause.name if isinstance(cause, ModuleNotFoundError) else None
        if lacking is None or not f"{name}.".startswith(f"{lacking}."):
            raise  # it is there, and something that it imports is not
    file = Path(*name.split(".")).with_suffix(".py")
    hint = (
        f"for the file in this folder give --policy {file}:{named.name}"
        if file.is_file()
        else "install its package, or give the file, --policy path/to/file.py:CLASS"
    )
    raise UsageError(f"--policy {named.spec}: there is no module {name}; {hint}")


def _names(folder: Path) -> list[str]:
    return [each.name for each in folder.glob("*.py")] if folder.is_dir() else []


def _first(file: Path) -> str:
    """Return the class that is likely meant, without importing the file."""
    import ast

    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return "CLASS"
    names = [each.name for each in tree.body if isinstance(each, ast.ClassDef)]
    return next((name for name in names if name.endswith("Policy")), (names or ["CLASS"])[-1])


def _classes(module: ModuleType) -> list[tuple[str, Any]]:
    return [
        (name, each)
        for name, each in inspect.getmembers(module, inspect.isclass)
        if each.__module__ == module.__name__
    ]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "no class"
