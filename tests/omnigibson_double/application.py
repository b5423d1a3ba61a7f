"""Start and end of the application, as `omnigibson/__init__.py` and Isaac do it."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import threading
from typing import Any

from omnigibson_double.faults import faults
from omnigibson_double.simulator import Simulator

_MUST_BE_UNSET = ("EXP_PATH", "CARB_APP_PATH", "ISAAC_PATH")
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
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
    else:
        raise ValueError("signal only works in main thread of the main interpreter")


def launch(*, needs_handles: bool, **settings: Any) -> Simulator:
    """Start the application: the environment and the macros are read here, and locked."""
    faults.strike("launch")
    wrong = [name for name in _MUST_BE_UNSET if name in os.environ]
    if wrong:
        raise RuntimeError(f"Please unset {', '.join(wrong)} before launching OmniGibson")
    og = importlib.import_module("omnigibson")
    gm = importlib.import_module("omnigibson.macros").gm
    og.app = App({name: getattr(gm, name) for name in _READ_AT_LAUNCH})
    gc.disable()  # as Isaac does
    og.sim = Simulator(needs_handles=needs_handles, **settings)
    return og.sim


def shutdown() -> None:
    """May never come back."""
    faults.strike("shutdown")
    og = importlib.import_module("omnigibson")
    if og.app is None:
        raise SystemExit(0)
    og.app.close()
