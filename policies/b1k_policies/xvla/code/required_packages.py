"""Checking that the packages which a checkpoint's code needs are installed and fit.

The public code of the X-VLA family was run with transformers 4.46.3 to 4.53.3. From 4.54 on a
property `_supports_sdpa` is read before the model can answer, and 5 has no
`modeling_attn_mask_utils`. depth-anything-3 0.1.1 imports addict without requiring it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Collection, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

from b1k_envs.errors import UnavailableError
from b1k_policies.xvla.code.imports import CodeImport, CodeReading, read_code

FAMILY_TRANSFORMERS = "transformers>=4.46,<4.54"
"""Versions with which the code of the X-VLA family ran."""
_FIRST_UNFIT = (4, 54)

_PUBLISHED_AS = {
    "PIL": "pillow",
    "cv2": "opencv-python",
    "yaml": "pyyaml",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "google": "protobuf",
    "bs4": "beautifulsoup4",
    "dateutil": "python-dateutil",
    "attr": "attrs",
}
"""Names on PyPI that differ from the module's with hyphens."""
_NOT_SAID = {"depth_anything_3": ("addict",)}
"""Modules that a package imports without requiring them."""


def published_as(module: str) -> str:
    """Return the name on PyPI of the package that a top-level module comes from."""
    return _PUBLISHED_AS.get(module, module.replace("_", "-"))


def check_packages(root: Path, package: str, used: Collection[str] = ()) -> None:
    """Import what the code in a folder needs, and report what fails.

    Args:
        root: The folder of the package itself.
        package: The name it imports itself under.
        used: Top-level modules that are needed if the code imports them at all, even under a
            condition.

    Raises:
        UnavailableError: Packages are missing, cannot be imported or have an unfit version; the
            message names all of them, and one command.
    """
    reading = read_code(root, package)
    wanted: dict[str, list[CodeImport]] = {}
    for one in (*reading.imports, *(one for one in reading.perhaps if one.top in used)):
        wanted.setdefault(one.top, []).append(one)
    found = _Found({}, {}, {})
    for top, imports in wanted.items():
        if beside(root, top) is not None:
            continue  # its own module is meant: another mistake, which the import will report
        if not is_here(top):
            found.missing[top] = f"{published_as(top)} ({top}, {imports[0].place})"
            for other in _NOT_SAID.get(top, ()):
                if not is_here(other):
                    found.missing[other] = f"{published_as(other)} (imported by {top})"
            continue
        for one in imports:
            _try(one, found)
    early = _early_properties(reading)
    if early is not None:
        found.unfit.setdefault("transformers", early)
    if any(found):
        perhaps = {
            one.top: f"{published_as(one.top)} ({one.top}, {one.place})"
            for one in reading.perhaps
            if one.top not in wanted and beside(root, one.top) is None and not is_here(one.top)
        }
        also = f"; perhaps also {', '.join(perhaps.values())}" if perhaps else ""
        raise UnavailableError(_said(root, found) + also)


def is_here(top: str) -> bool:
    """Return whether a module exists; it is not imported, but its parents are."""
    try:
        return top in sys.modules or importlib.util.find_spec(top) is not None
    except ValueError:  # it is loaded and has no spec
        return True
    except ModuleNotFoundError:  # its parent is missing
        return False


def beside(root: Path, top: str) -> Path | None:
    """Return a module of that name in or beside the package, where it cannot be imported from."""
    places = (folder / top for folder in (root.parent, root))
    return next((p for p in places if p.is_dir() or p.with_name(f"{top}.py").is_file()), None)


class _Found(NamedTuple):
    """Problems with packages, in words, by module name.

    Attributes:
        missing: Not installed.
        unfit: Installed, but lacking something that the code imports.
        broken: Installed, but their own import fails.
    """

    missing: dict[str, str]
    unfit: dict[str, str]
    broken: dict[str, str]


def _try(one: CodeImport, found: _Found) -> None:
    """Import what one line of the code imports, and note what is wrong with it."""
    try:
        with redirect_stdout(sys.stderr):
            module = importlib.import_module(one.module)
            if one.name is None or one.name == "*" or hasattr(module, one.name):
                return
            importlib.import_module(f"{one.module}.{one.name}")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - code of others can raise anything
        lacking = failed_import(error) if isinstance(root_cause(error), ImportError) else None
        if lacking is not None and lacking.partition(".")[0] != one.top:
            other = lacking.partition(".")[0]
            if is_here(other):
                text = f"{_installed(other)} has no {lacking} ({one.module})"
                found.unfit.setdefault(other, text)
                return
            found.missing.setdefault(other, f"{published_as(other)} (imported by {one.top})")
            for name in _unmet(one.top):
                text = f"{name} (required by {published_as(one.top)})"
                found.missing.setdefault(name, text)
            return
        if lacking is not None and not is_here(lacking):
            text = f"{_installed(one.top)} has no {lacking} ({one.place})"
            found.unfit.setdefault(one.top, text)
        else:
            text = f"{_installed(one.top)} ({one.place}): {words(error)}"
            found.broken.setdefault(one.top, text)


def _unmet(top: str) -> Iterator[str]:
    """Yield the requirements of a module's package that are not installed, by its metadata."""
    from packaging.requirements import Requirement  # transformers needs it

    try:
        stated = importlib.metadata.requires(published_as(top)) or []
    except importlib.metadata.PackageNotFoundError:
        return
    for text in stated:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield requirement.name


def _early_properties(reading: CodeReading) -> str | None:
    """Say what is wrong with a transformers that reads a property while it builds the model."""
    version = _version("transformers")
    if not reading.properties or version is None or version < _FIRST_UNFIT:
        return None
    name, place = next(iter(reading.properties.items()))
    return f"{_installed('transformers')} reads {name} ({place}) before the model is there"


def _said(root: Path, found: _Found) -> str:
    parts = []
    if found.missing:
        parts.append(f"needs what is not installed: {', '.join(found.missing.values())}")
    if found.unfit:
        parts.append(f"does not fit what is installed: {'; '.join(found.unfit.values())}")
    if found.broken:
        parts.append(f"imports what cannot be imported here: {'; '.join(found.broken.values())}")
    named = [published_as(top) for top in found.missing]
    named += [_requirement(top) for top in found.unfit if top not in found.missing]
    advice = [_command(named)] if named else []
    if found.broken:
        names = ", ".join(map(published_as, found.broken))
        advice.append(f"mend {names}, whose own words these are, or install another version of it")
    return f"the checkpoint's code ({root}) {', and '.join(parts)}; {'; '.join(advice)}"


def _requirement(top: str) -> str:
    return f"'{FAMILY_TRANSFORMERS}'" if top == "transformers" else f"--upgrade {published_as(top)}"


def _command(named: list[str]) -> str:
    """Return one pip command, options first."""
    upgrades = [name for name in named if name.startswith("--upgrade ")]
    others = [name for name in named if name not in upgrades]
    plain = [*others, *(name.removeprefix("--upgrade ") for name in upgrades)]
    option = "--upgrade " if upgrades else ""
    return f"pip install {option}{' '.join(dict.fromkeys(plain))}"


# --- what turns out only later ---------------------------------------------------------------


def package_advice(error: BaseException) -> str | None:
    """Return what to install, if an error comes from a missing or unfit package; else None."""
    name = failed_import(error)
    if name is None:
        return None
    top = name.partition(".")[0]
    if not is_here(top):
        return f"pip install {published_as(top)}"
    upgrade = _command([_requirement(top)])
    return f"{_installed(top)} lacks it: the code needs another version; {upgrade}"


def failed_import(error: BaseException) -> str | None:
    """Return the module whose import caused an error; None for another cause."""
    found = [link.name for link in chain(error) if isinstance(link, ImportError)]
    return next((name for name in reversed(found) if name is not None), None)


def root_cause(error: BaseException) -> BaseException:
    """Return the first error of a chain."""
    return list(chain(error))[-1]


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes, the newest first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def words(error: BaseException) -> str:
    """Return type and text of the root cause, in one line."""
    first = root_cause(error)
    return " ".join(f"{type(first).__name__}: {first}".split())[:300]


def _installed(top: str) -> str:
    number = _number(top)
    return f"the installed {published_as(top)}{'' if number is None else f' {number}'}"


def _number(top: str) -> str | None:
    try:
        return importlib.metadata.version(published_as(top))
    except importlib.metadata.PackageNotFoundError:
        return None


def _version(top: str) -> tuple[int, ...] | None:
    number = _number(top)
    if number is None:
        return None
    parts = number.split("+")[0].split(".")[:2]
    return tuple(int(part) for part in parts if part.isdigit())
