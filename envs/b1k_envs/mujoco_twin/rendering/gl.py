"""Choice of an off-screen OpenGL backend for MuJoCo, made once, at first use.

MuJoCo picks its context class during `import mujoco`, from `MUJOCO_GL`. With the variable unset it
takes GLFW, which needs a display. With it set to `egl` or `osmesa` and the library absent, the
import itself fails with an `AttributeError` inside PyOpenGL (mujoco 4.0.0, `mujoco/rendering/
classic/gl_context.py`; PyOpenGL 3.1.10, `OpenGL/raw/EGL/_types.py`). `ensure_gl` therefore looks
for the shared library first, then makes a context, and works before and after `import mujoco`.
`before_mujoco_import` turns a `MUJOCO_GL` that cannot work into an error in plain words.

Importing this module touches neither OpenGL nor the environment. `ensure_gl` sets `MUJOCO_GL`, so
that child processes need not search again; MuJoCo sets PyOpenGL's `PYOPENGL_PLATFORM`.

Some native libraries crash a process when they are loaded after a context exists, but not when they
are loaded before. Where they are installed, they are loaded here first, because every context of
a process comes from here and it is not known yet whether a policy will need them. Measured: triton
3.8.0 beside Mesa 22.3.6 with LLVM 15 ends with SIGSEGV, whether or not torch was loaded before;
3.3, 3.4 and 3.6 do not. Loading it takes about a second and imports no torch.

A context belongs to the thread that made it. Several threads may each make their own; a process
that was forked after `ensure_gl` may not use EGL: start workers with `spawn`.

What a pass does not prove: that large pictures fit, or that rendering is fast (llvmpipe is a CPU).
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from b1k_envs.errors import UnavailableError

APT_PACKAGES = ("libegl1", "libgl1-mesa-dri", "libgl1", "libglib2.0-0")
"""Packages that scripts/run installs: EGL with Mesa's software driver, libGL, OpenCV's GLib."""

INSTALL = (
    "install with: apt-get install libegl1 libgl1-mesa-dri libgl1 (EGL) or libosmesa6 (OSMesa), "
    "or set MUJOCO_GL"
)

_BEFORE_CONTEXT = ("triton",)
"""Packages whose native libraries crash when they are loaded after a context exists."""

_AUTOMATIC = ("egl", "osmesa")
# The spellings mujoco accepts on Linux, and the context module that each one means.
_CHOICES = {"egl": "egl", "osmesa": "osmesa"} | dict.fromkeys(
    ("glfw", "glx", "enable", "enabled", "on", "true", "1"), "glfw"
)
_DISABLED = ("disable", "disabled", "off", "false", "0")

# Each backend needs one library of every group. PyOpenGL takes any number behind `.so`, and both
# libOpenGL and libGL serve EGL; libegl1 alone brings neither.
_LIBRARIES: dict[str, tuple[tuple[str, ...], ...]] = {
    "egl": (
        ("libEGL.so.1", "libEGL.so"),
        ("libOpenGL.so.0", "libGL.so.1", "libOpenGL.so", "libGL.so"),
    ),
    "osmesa": (("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"),),
    "glfw": (("libGL.so.1", "libGL.so"),),
}


@dataclass(frozen=True, kw_only=True)
class GlInfo:
    """The OpenGL in use, in the driver's own words.

    Attributes:
        backend: `egl`, `osmesa` or `glfw`.
        vendor: GL_VENDOR, e.g. `Mesa`.
        renderer: GL_RENDERER, e.g. `llvmpipe (LLVM 15.0.6, 256 bits)`.
        version: GL_VERSION.
    """

    backend: str
    vendor: str
    renderer: str
    version: str

    @property
    def software(self) -> bool:
        """Whether the driver is a known CPU rasteriser."""
        return any(name in self.renderer.lower() for name in ("llvmpipe", "softpipe", "swrast"))


class _BackendError(Exception):
    """One backend does not work; the text is one clause of the final message."""


_lock = threading.Lock()
_current: GlInfo | None = None


def ensure_gl() -> str:
    """Make MuJoCo render off screen; cheap from the second call on.

    If `MUJOCO_GL` is set, only that backend is tried; otherwise EGL, then OSMesa. The first call
    makes a small context on the calling thread, so a context that is current there has to be made
    current again.

    Returns:
        The backend in use: `egl`, `osmesa` or `glfw`.

    Raises:
        UnavailableError: No backend works; names each one tried with its reason, and the packages.
    """
    return gl_info().backend


def gl_info() -> GlInfo:
    """Do what `ensure_gl` does, and return what the driver says about itself.

    Raises:
        UnavailableError: As `ensure_gl`.
    """
    global _current
    with _lock:
        if _current is None:
            _load_what_must_come_first()
            _current = _choose()
        return _current


def before_mujoco_import() -> None:
    """Check `MUJOCO_GL` before the first `import mujoco`, which a wrong value would break.

    With the variable unset nothing happens: mujoco then imports anywhere, and a run that renders
    nothing needs no OpenGL.

    Raises:
        UnavailableError: `MUJOCO_GL` names a backend that is unknown or does not work here.
    """
    if os.environ.get("MUJOCO_GL", "").strip().lower() not in ("", *_DISABLED):
        ensure_gl()


def _load_what_must_come_first() -> None:
    for name in _BEFORE_CONTEXT:
        if name not in sys.modules and importlib.util.find_spec(name) is not None:
            # If it cannot be imported, the code that needs it reports that.
            with suppress(Exception):
                importlib.import_module(name)


def _choose() -> GlInfo:
    wanted = os.environ.get("MUJOCO_GL", "").strip().lower()
    if wanted in _DISABLED:
        raise UnavailableError(
            f"no OpenGL: MUJOCO_GL={wanted} switches MuJoCo's rendering off; unset it, "
            "or set it to egl or osmesa"
        )
    if wanted and wanted not in _CHOICES:
        raise UnavailableError(
            f"no OpenGL: MUJOCO_GL={wanted!r} is no backend; unset it, or set it to one of egl, "
            "osmesa, glfw"
        )
    reasons = []
    for backend in (_CHOICES[wanted],) if wanted else _AUTOMATIC:
        try:
            return _start(backend)
        except _BackendError as error:
            reasons.append(f"{backend}: {error}")
    forced = f" (MUJOCO_GL={wanted})" if wanted else ""
    raise UnavailableError(f"no OpenGL{forced}: {'; '.join(reasons)}; {INSTALL}")


def _start(backend: str) -> GlInfo:
    """Load one backend, make a context with it, and point mujoco at it.

    Raises:
        _BackendError: It does not work; environment and loaded modules are as they were before.
    """
    # Looked for first: with the library absent, the import fails deep inside PyOpenGL.
    for group in _LIBRARIES[backend]:
        if not any(_loadable(name) for name in group):
            raise _BackendError(f"{group[0]} not found")
    before = {name: os.environ.get(name) for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    modules = set(sys.modules)
    os.environ["MUJOCO_GL"] = backend
    try:
        context_class = importlib.import_module(f"mujoco.{backend}").GLContext
        info = _probe(backend, context_class)
    except Exception as error:
        # Drivers, PyOpenGL and glfw fail in many ways (ImportError, AttributeError, GLError,
        # ctypes.ArgumentError, RuntimeError); after any of them the next backend is tried.
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _forget(set(sys.modules) - modules, backend)
        detail = str(error).strip().split("\n")[0].split(". ")[0] or type(error).__name__
        raise _BackendError(f"no context ({detail})") from error
    _install(context_class)
    return info


def _loadable(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _probe(backend: str, context_class: Any) -> GlInfo:  # noqa: ANN401 - mujoco is untyped
    """Make a context, read the driver's names, free it."""
    context = context_class(16, 16)
    try:
        if not context._context:  # glfw only warns and returns no window
            raise RuntimeError("no window could be made; is DISPLAY set?")
        context.make_current()
        # PyOpenGL rather than ctypes, because OSMesa's GL functions are in libOSMesa itself.
        gl = importlib.import_module("OpenGL.GL")
        names = [gl.glGetString(key) for key in (gl.GL_VENDOR, gl.GL_RENDERER, gl.GL_VERSION)]
    finally:
        context.free()
    if None in names:
        raise RuntimeError("the context has no GL_RENDERER")
    vendor, renderer, version = (name.decode("utf-8", "replace") for name in names)
    return GlInfo(backend=backend, vendor=vendor, renderer=renderer, version=version)


def _install(context_class: Any) -> None:  # noqa: ANN401 - mujoco is untyped
    """Replace the class that an earlier `import mujoco` bound, wherever Renderer may look."""
    for name in (
        "mujoco",
        "mujoco.gl_context",  # mujoco 3
        "mujoco.rendering.classic.gl_context",  # mujoco 4
        "mujoco.rendering.classic.renderer",
    ):
        module = sys.modules.get(name)
        if module is not None:
            module.GLContext = context_class  # type: ignore[attr-defined]


def _forget(fresh: set[str], backend: str) -> None:
    """Unload a failed attempt's modules, as PyOpenGL fixes its platform at the first import."""
    for name in fresh:
        if name.split(".")[0] == "OpenGL" or name.startswith(f"mujoco.{backend}"):
            sys.modules.pop(name, None)
    # The package keeps its submodules as attributes; a later import must not find the failed one.
    package = sys.modules.get("mujoco")
    if package is not None and hasattr(package, backend):
        delattr(package, backend)
