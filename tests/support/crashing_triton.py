"""A stand-in for triton 3.8.0, which kills a process that has an OpenGL driver loaded already.

The real one was measured with Mesa 22.3.6 (LLVM 15) on Debian 12: SIGSEGV when it is imported after
an EGL context exists, with torch before or after, and nothing when it is imported first. Its wheel
has 200 MB, so tests use this package of the same name: it looks for libEGL in its own process. Once
loaded it stays so, like a library, but is no package to work with: torch has to find none.
"""

from __future__ import annotations

import os
from pathlib import Path

SOURCE = """
import os, signal, sys
if not hasattr(sys, "stand_in_for_triton") and "libEGL" in open("/proc/self/maps").read():
    os.kill(os.getpid(), signal.SIGSEGV)
sys.stand_in_for_triton = True
raise ImportError("this is a stand-in for triton")
"""


def environment_with_it(folder: Path) -> dict[str, str]:
    """Write the package into a folder; an environment whose Pythons find it first."""
    package = folder / "site" / "triton"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(SOURCE)
    path = os.pathsep.join([str(package.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path}
