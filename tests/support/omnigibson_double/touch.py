"""Records what code under `b1k_envs.omnigibson` reads, calls, sets or imports of the double."""

from __future__ import annotations

import os
import sys
from types import FrameType, ModuleType
from typing import Any

_ADAPTER = f"{os.sep}b1k_envs{os.sep}omnigibson{os.sep}"
_read: set[tuple[str, str]] = set()
_set: set[tuple[str, str]] = set()


def touches() -> frozenset[tuple[str, str]]:
    """Everything touched so far: (owner, attribute).

    Owners are class names of the double, dotted module names (`omnigibson`), paths of macros
    (`macros.globals`), and `import` with the name of a module that was loaded for the adapter.
    """
    return frozenset(_read | _set)


def writes() -> frozenset[tuple[str, str]]:
    """Those of them that were assigned to."""
    return frozenset(_set)


def forget() -> None:
    """Start anew."""
    _read.clear()
    _set.clear()


def _by_adapter(depth: int) -> bool:
    return _ADAPTER in sys._getframe(depth + 1).f_code.co_filename


def note(owner: str, name: str, *, depth: int = 2, write: bool = False) -> None:
    """Record one touch if the frame `depth` levels up belongs to the adapter."""
    if _by_adapter(depth) and not name.startswith("__"):
        (_set if write else _read).add((owner, name))


class TouchedMeta(type):
    """For classes whose own attributes are read or set, such as `ENABLED` of a rule."""

    def __getattribute__(cls, name: str) -> Any:
        note(type.__getattribute__(cls, "__name__"), name)
        return type.__getattribute__(cls, name)

    def __setattr__(cls, name: str, value: Any) -> None:
        note(type.__getattribute__(cls, "__name__"), name, write=True)
        type.__setattr__(cls, name, value)


class Touched:
    """Base of everything the double hands out; `owner` is the class name in the record."""

    owner = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.owner:
            cls.owner = cls.__name__

    def __getattribute__(self, name: str) -> Any:
        # As `note` does, in half the time: a test reads a million attributes.
        if _ADAPTER in sys._getframe(1).f_code.co_filename and not name.startswith("__"):
            _read.add((type(self).owner, name))
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        note(type(self).owner, name, write=True)
        object.__setattr__(self, name, value)


class TouchedDict(dict[str, Any]):
    """A mapping whose keys are part of the interface."""

    owner = "dict"

    def __getitem__(self, key: str) -> Any:
        note(self.owner, f"[{key}]")
        return super().__getitem__(key)


class _TouchedModule(ModuleType):
    def __getattribute__(self, name: str) -> Any:
        note(ModuleType.__getattribute__(self, "__name__"), name)
        return ModuleType.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        note(ModuleType.__getattribute__(self, "__name__"), name, write=True)
        ModuleType.__setattr__(self, name, value)


def module(name: str) -> None:
    """Watch a module of the package; called as its last line."""
    sys.modules[name].__class__ = _TouchedModule
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if _ADAPTER in frame.f_code.co_filename:
            _read.add(("import", name))
            return
        frame = frame.f_back
