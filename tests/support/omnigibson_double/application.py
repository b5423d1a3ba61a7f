"""Start and end of the application, as `omnigibson/__init__.py` and Isaac do it."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import signal
import sys
from types import FrameType
from typing import Any

from omnigibson_double.faults import faults
from omnigibson_double.simulator import Simulator

_MUST_BE_UNSET = ("EXP_PATH", "CARB_APP_PATH", "ISAAC_PATH")
SET_BY_ISAAC = {name: "/isaac-sim" for name in _MUST_BE_UNSET}
"""Variables that the import of Isaac Sim, at launch, leaves behind in the process."""

_READ_AT_LAUNCH = (
    "APPDATA_PATH",
    "GPU_ID",
    "HEADLESS",
    "USE_GPU_DYNAMICS",
    "ENABLE_FLATCACHE",
    "ENABLE_CCD",
    "ENABLE_HQ_RENDERING",
    "ENABLE_OBJECT_STATES",
    "ENABLE_TRANSITION_RULES",
    "RENDER_VIEWER_CAMERA",
    "USE_NUMPY_CONTROLLER_BACKEND",
)


class App:
    """Stands for Kit: knows what it was started with."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.closed = False

    def close(self) -> None:
        self.closed = True


def import_time() -> None:
    """What importing the package does to the process."""
    faults.load_from_environment()
    _take_over_interrupts()


def _take_over_interrupts() -> None:
    """At import and again at launch; off the main thread Python itself refuses it."""
    signal.signal(signal.SIGINT, _shutdown_handler)


def _shutdown_handler(number: int, frame: FrameType | None) -> None:
    og = importlib.import_module("omnigibson")
    if og.app is not None:
        shutdown()
    signal.default_int_handler(number, frame)


def launch(*, needs_handles: bool, **settings: Any) -> Simulator:
    """Start the application: the environment and the macros are read here, and locked."""
    faults.strike("launch")
    wrong = [name for name in _MUST_BE_UNSET if name in os.environ]
    if wrong:
        raise RuntimeError(f"Please unset {', '.join(wrong)} before launching OmniGibson")
    og = importlib.import_module("omnigibson")
    gm = importlib.import_module("omnigibson.macros").gm
    os.environ.update(SET_BY_ISAAC)
    sys.argv = ["--portable-root", str(gm.APPDATA_PATH)]  # Isaac reads them
    og.app = App({name: getattr(gm, name) for name in _READ_AT_LAUNCH})
    gc.disable()  # as Isaac does
    logging.getLogger().setLevel(logging.WARNING)
    _take_over_interrupts()
    og.sim = Simulator(needs_handles=needs_handles, **settings)
    return og.sim


def shutdown() -> None:
    """May never come back."""
    faults.strike("shutdown")
    og = importlib.import_module("omnigibson")
    if og.app is None:
        raise SystemExit(0)
    og.app.close()
