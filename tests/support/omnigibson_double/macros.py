"""OmniGibson's macros: nested settings that lock after their first read.

Reading a name that does not exist gives a new, empty group, as `addict` does: a misspelt macro is
not an error, and what is written to it changes nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omnigibson_double.touch import note


class MacroDict:
    """One group of macros."""

    def __init__(self, path: str) -> None:
        object.__setattr__(self, "_path", path)
        object.__setattr__(self, "_values", {})
        object.__setattr__(self, "_read", set())
        object.__setattr__(self, "_locked", True)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        note(self._path, name)
        self._read.add(name)
        if name not in self._values:
            self._values[name] = MacroDict(f"{self._path}.{name}")
        return self._values[name]

    def __setattr__(self, name: str, value: Any) -> None:
        note(self._path, name, write=True)
        if name in self._read and self._locked:
            raise AttributeError(
                f"Cannot set attribute {name} in MacroDict, it has already been used."
            )
        self._values[name] = value

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __bool__(self) -> bool:
        return True  # its list of what was read counts as content

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MacroDict) and self._values == other._values

    __hash__ = None  # type: ignore[assignment]

    @contextlib.contextmanager
    def unlocked(self) -> Iterator[None]:
        """Writes go through; after an exception inside it stays unlocked."""
        self._lock(False)
        yield
        self._lock(True)

    def _lock(self, locked: bool) -> None:
        object.__setattr__(self, "_locked", locked)
        for value in self._values.values():
            if isinstance(value, MacroDict):
                value._lock(locked)


def make_macros(package_file: str) -> MacroDict:
    """The macros of a freshly imported package; asserts that the data folder exists."""
    macros = MacroDict("macros")
    gm = macros.globals
    path = Path(
        os.environ.get("OMNIGIBSON_DATA_PATH") or Path(package_file).parents[2] / "datasets"
    )
    assert path.exists(), f"Data path {path} does not exist!"
    defaults = {
        "DATA_PATH": str(path),
        "APPDATA_PATH": os.environ.get("OMNIGIBSON_APPDATA_PATH", "/tmp/omnigibson"),
        "GPU_ID": os.environ.get("OMNIGIBSON_GPU_ID"),
        "HEADLESS": os.environ.get("OMNIGIBSON_HEADLESS", "False").lower() in ("true", "1", "t"),
        "DEBUG": False,
        "NO_OMNI_LOGS": False,
        "REMOTE_STREAMING": None,
        "USE_NUMPY_CONTROLLER_BACKEND": True,
        "GUI_VIEWPORT_ONLY": False,
        "RENDER_VIEWER_CAMERA": False,
        "USE_GPU_DYNAMICS": False,
        "ENABLE_HQ_RENDERING": False,
        "ENABLE_FLATCACHE": False,
        "ENABLE_CCD": False,
        "ENABLE_OBJECT_STATES": True,
        "ENABLE_TRANSITION_RULES": True,
        "DEFAULT_VIEWER_WIDTH": 1280,
        "DEFAULT_VIEWER_HEIGHT": 720,
        "DEFAULT_SIM_STEP_FREQ": 30,
        "DEFAULT_RENDERING_FREQ": 30,
        "DEFAULT_PHYSICS_FREQ": 120,
    }
    for name, value in defaults.items():
        setattr(gm, name, value)
    return macros
