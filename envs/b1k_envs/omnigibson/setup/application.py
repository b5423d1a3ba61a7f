"""The start of OmniGibson, once in a process, with every setting that is read only once.

The order matters and is that of the official evaluators: environment variables before the import,
global macros before the application starts, the grasp window after the module that writes its
default, transition rules before an environment is made. Sources, repository
StanfordVL/BEHAVIOR-1K, under `OmniGibson/omnigibson/`: `macros.py`@00be39f7 (a macro locks when it
is first read; writing it later raises outside `macros.unlocked()`), `learning/eval.py`@4c1184a6,
`eval/{eval,evaluator}.py` of the v3.9.3 era, `simulator.py`@009293a2, and
`DISABLED_TRANSITION_RULES` in joylo's `og_teleop_cfg.py`.

Generators are seeded as `seed_everything` in `eval/utils/eval_utils.py`@24b15b7c does: Python,
NumPy, torch and warp, with cuDNN deterministic and its search for algorithms off. The last two
concern only a policy in this process: it repeats itself from run to run, and may be slower. The
2025 evaluator seeds nothing; here Python, NumPy and torch are seeded in 2025 too, and cuDNN is not
changed.

Beyond the evaluators, this module chooses one GPU, uses a folder of its own for caches and logs,
and switches Python's garbage collector on again, which Isaac Sim switches off (RLinf,
`rlinf/envs/behavior/behavior_env.py`).

What a pass does not prove: that the driver renders correctly on this GPU.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import logging
import os
import random
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from b1k_envs.claims import Claim, ClaimedError, claim
from b1k_envs.errors import EnvError, UnavailableError
from b1k_envs.omnigibson.setup.data import describe_installation, require_data
from b1k_envs.omnigibson.setup.generation import (
    ACTION_HZ,
    PHYSICS_HZ,
    RENDERING_HZ,
    Generation,
    GraspWindow,
)

FOREIGN_VARIABLES = ("EXP_PATH", "CARB_APP_PATH", "ISAAC_PATH")
"""Variables that must be unset: they point the pip-installed Isaac Sim at another one."""

DISABLED_RULES = ("ToggleableMachineRule", "MixingToolRule", "CookingSystemRule")
"""Transition rules that both evaluators switch off; the washer's stays on."""

SEED = 0
"""Seed of all generators, `DEFAULT_EVAL_SEED` of the v3.9.3 evaluator."""

VIEWER_SIZE = (1280, 720)
"""Width and height of the viewer, OmniGibson's default [px]; a later env must have the same."""

MOST_APPDATA = 256
"""Number of folders for caches and logs that are tried; far fewer processes fit on a machine."""

_log = logging.getLogger(__name__)

_STDERR = 2  # its file descriptor


@dataclass(frozen=True, kw_only=True, eq=False)
class Application:
    """The running application; it may be used only on the thread that launched it.

    Attributes:
        og: The module `omnigibson`.
        applied: The settings that were made, JSON values, for run.json.
        appdata: The claimed file that keeps other processes out of its folder.
        seeded: Names of the generators that were seeded.
    """

    og: ModuleType
    applied: Mapping[str, Any]
    appdata: Claim
    seeded: tuple[str, ...] = ()

    def shutdown(self, deadline_s: float = 30.0, exit_code: int = 0) -> None:
        """Close the application; whatever must survive has to be on disk before.

        Closing may end the process, and it may hang for minutes. If it has not returned by the
        deadline, a thread ends the process; if the hanging call does not let other threads run,
        the fault handler does so a second later (exit code 1).

        Args:
            deadline_s: Time that closing may take [s].
            exit_code: Exit code of the process when the deadline ends it.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        closed = threading.Event()

        def end() -> None:
            if not closed.wait(deadline_s):
                os._exit(exit_code)

        threading.Thread(target=end, name="omnigibson-shutdown", daemon=True).start()
        faulthandler.dump_traceback_later(deadline_s + 1.0, exit=True, file=_STDERR)
        try:
            self.og.shutdown()
        except SystemExit:  # raised when there is no application left to close
            pass
        except Exception:  # noqa: BLE001 - the run is over, so a failure here is only logged
            _log.exception("closing OmniGibson failed")
        finally:
            closed.set()
            faulthandler.cancel_dump_traceback_later()
            self.appdata.close()


def launch(generation: Generation, *, gpu: int | None = None, headless: bool = True) -> Application:
    """Import OmniGibson, set it up as the evaluator does, and start its application (a minute).

    Args:
        generation: The installed generation.
        gpu: Number of the GPU as the driver counts; None takes `OMNIGIBSON_GPU_ID`, else the one
            in `CUDA_VISIBLE_DEVICES` if it names one, else 0.
        headless: Whether to run without a window.

    Raises:
        UnavailableError: Data are missing, omnigibson cannot be imported, or the environment
            variables of another Isaac Sim are set.
        EnvError: omnigibson has been imported before, or a macro has been read too early.
    """
    if "omnigibson" in sys.modules:
        raise EnvError(
            "omnigibson is imported already: a process can start it once, and its macros must be "
            "set first; run each simulator in a process of its own"
        )
    foreign = [name for name in FOREIGN_VARIABLES if name in os.environ]
    if foreign:
        raise UnavailableError(
            f"{', '.join(foreign)} must not be set: unset them, or leave the shell of the other "
            "Isaac Sim, because OmniGibson would start that one"
        )
    # Checks that need no import come first, because the first import takes up to 5 minutes.
    data_path = require_data(generation)
    installation = describe_installation()
    appdata = _claim_appdata()
    variables = {
        "OMNIGIBSON_APPDATA_PATH": str(Path(appdata.name).parent),
        "OMNIGIBSON_GPU_ID": str(_choose_gpu(gpu)),
    }
    level = logging.getLogger().level
    with _variables(variables), _own_signals(), _own_arguments():
        og = _import("omnigibson")
        macros = _set_macros(generation, headless=headless)
        _disable_rules()
        seeded, cudnn = _seed(generation)
        og.launch(
            physics_dt=1.0 / PHYSICS_HZ,
            rendering_dt=1.0 / RENDERING_HZ,
            sim_step_dt=1.0 / ACTION_HZ,
            device="cpu",  # what the default of OmniGibson's environments means
            viewer_width=VIEWER_SIZE[0],
            viewer_height=VIEWER_SIZE[1],
        )
    gc.enable()
    logging.getLogger().setLevel(level)
    applied = {
        "generation": generation.tag,
        "installation": installation,
        "data_path": str(data_path),
        "environment": variables | {"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES")},
        "macros": macros,
        "disabled_transition_rules": list(DISABLED_RULES),
        "seed": SEED,
        "seeded": list(seeded),
        "cudnn": cudnn,
        "gc_enabled": gc.isenabled(),
    }
    return Application(og=og, applied=applied, appdata=appdata, seeded=seeded)


def grasp_window(macros: Any, window: GraspWindow) -> float:  # noqa: ANN401 - a MacroDict
    """Read the grasp window [s]; reading locks it.

    Args:
        macros: `omnigibson.macros.macros`.
        window: The place of the macro.

    Raises:
        EnvError: There is no such macro; reading an absent one would create an empty one.
    """
    return float(getattr(_holder(macros, window), window.path[-1]))


def _holder(macros: Any, window: GraspWindow) -> Any:  # noqa: ANN401 - a MacroDict
    """Return the group of macros that the grasp window is in."""
    node = macros
    for depth, key in enumerate(window.path):
        if key not in node:
            raise EnvError(
                f"this OmniGibson has no macro {'.'.join(window.path)}: how long a grasp takes "
                "cannot be told, so it is not the version it calls itself"
            )
        if depth < len(window.path) - 1:
            node = getattr(node, key)
    return node


def _set_macros(generation: Generation, *, headless: bool) -> dict[str, Any]:
    """Set the macros that the evaluator sets; return the values in force."""
    module = _import("omnigibson.macros")
    gm, macros, window = module.gm, module.macros, generation.grasp_window
    wanted = {
        "HEADLESS": headless,
        "USE_GPU_DYNAMICS": False,
        "ENABLE_TRANSITION_RULES": True,
        **generation.macros,
    }
    if headless:
        wanted["RENDER_VIEWER_CAMERA"] = False
    for name, value in wanted.items():
        try:
            setattr(gm, name, value)
        except AttributeError as error:
            raise EnvError(f"the macro {name} was read before it could be set: {error}") from error
    _import(window.module)  # importing it writes the default over anything set earlier
    if window.set_by_evaluator:
        with macros.unlocked():
            setattr(_holder(macros, window), window.path[-1], window.value)
    return wanted | {".".join(window.path): grasp_window(macros, window)}


def _disable_rules() -> None:
    rules = _import("omnigibson.transition_rules")
    for name in DISABLED_RULES:
        getattr(rules, name).ENABLED = False


def _seed(generation: Generation) -> tuple[tuple[str, ...], dict[str, bool] | None]:
    """Seed the generators; return their names and the cuDNN settings, None if unchanged."""
    random.seed(SEED)
    np.random.seed(SEED)
    torch = importlib.import_module("torch")
    torch.manual_seed(SEED)  # seeds every CUDA generator too
    seeded, cudnn = ["python", "numpy", "torch"], None
    if generation.protocol == "2026":
        with contextlib.suppress(ImportError):  # as the evaluator; a startup check reports it
            importlib.import_module("warp").rand_init(SEED)
            seeded.append("warp")
        cudnn = {"benchmark": False, "deterministic": True}
        for name, value in cudnn.items():
            setattr(torch.backends.cudnn, name, value)
    return tuple(seeded), cudnn


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UnavailableError(
            f"{name} cannot be imported ({type(error).__name__}: {error}): `b1k-eval doctor` says "
            "what is installed, and setup.sh of BEHAVIOR-1K installs what is missing"
        ) from error


def _choose_gpu(gpu: int | None) -> int:
    if gpu is not None:
        return gpu
    for name in ("OMNIGIBSON_GPU_ID", "CUDA_VISIBLE_DEVICES"):
        value = os.environ.get(name, "").strip()
        if value.isdecimal():
            return int(value)
    return 0


def _claim_appdata() -> Claim:
    """Claim a folder for caches and logs that no running process uses; return the claimed file.

    The folders are numbered and used again, because compiling shaders into one takes minutes.

    Raises:
        UnavailableError: No folder can be claimed there.
    """
    given = os.environ.get("OMNIGIBSON_APPDATA_PATH")
    fallback = Path(tempfile.gettempdir()) / f"b1k-eval-omnigibson-{os.getuid()}"
    base = Path(given).expanduser() if given else fallback
    refused: OSError | None = None
    try:
        base.mkdir(parents=True, exist_ok=True)
        for number in range(MOST_APPDATA):
            folder = base / f"process-{number}"
            try:
                folder.mkdir(exist_ok=True)
                claimed = claim(folder / "in-use")
            except ClaimedError:
                continue
            except PermissionError as error:  # the folder is another user's
                refused = error
                continue
            if claimed.remark is not None:
                _log.warning("%s", claimed.remark)
            return claimed
    except OSError as error:
        refused = error
    why = "all are in use" if refused is None else str(refused.strerror or refused)
    raise UnavailableError(
        f"no folder for OmniGibson's caches and logs can be had below {base} ({why}): set "
        "OMNIGIBSON_APPDATA_PATH to a folder that can be written"
    ) from refused


@contextlib.contextmanager
def _variables(wanted: Mapping[str, str]) -> Iterator[None]:
    """Set variables that are read at import, for this block only: children choose their own."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _own_arguments() -> Iterator[None]:
    """Restore `sys.argv`, which OmniGibson replaces by arguments for Isaac Sim."""
    before = list(sys.argv)
    try:
        yield
    finally:
        sys.argv = before


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handlers of SIGINT and SIGTERM, which OmniGibson replaces twice.

    Its handler closes the application, which may hang. Off the main thread Python forbids setting
    a handler, so there the attempts are made to do nothing.
    """
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                if handler is not None:  # None was not set from Python and cannot be set back
                    signal.signal(number, handler)
        return
    real = signal.signal
    signal.signal = lambda number, handler: None  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.signal = real
