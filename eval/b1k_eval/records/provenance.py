"""Provenance of a session: versions, machine, commit. Recorded, not compared on resume.

The one version that is compared, that of b1k-eval, is in run.json's identity as well.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import b1k_eval
from b1k_policies.own.source import git_state

PACKAGES: tuple[str, ...] = (
    "b1k-eval",
    "bddl",
    "imageio-ffmpeg",
    "mujoco",
    "numpy",
    "omnigibson",
    "pyarrow",
    "torch",
    "transformers",
)
"""Distributions whose version could change a result."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """One session of a run; a resumed run has several.

    Attributes:
        started_at: UTC, ISO 8601.
        argv: The command as typed.
        versions: Version by distribution; only of installed ones.
        python: Version of Python.
        platform: Operating system and libc, from `platform.platform()`.
        cpu: Model of the processor.
        cpu_count: Logical processors this process may use.
        git_commit: Commit of the checkout this package is imported from, if any.
        git_dirty: Whether that checkout differs from the commit.
    """

    started_at: str
    argv: tuple[str, ...]
    versions: dict[str, str]
    python: str
    platform: str
    cpu: str
    cpu_count: int
    git_commit: str | None
    git_dirty: bool | None

    def as_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "argv": list(self.argv)}


def this_session(argv: Sequence[str]) -> Provenance:
    """Describe the present process and its machine."""
    commit, dirty = _git()
    return Provenance(
        started_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        argv=tuple(argv),
        versions=_versions(),
        python=sys.version.split()[0],
        platform=platform.platform(),
        cpu=_cpu(),
        cpu_count=len(os.sched_getaffinity(0)),
        git_commit=commit,
        git_dirty=dirty,
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())


def _git() -> tuple[str | None, bool | None]:
    """Return commit and dirty flag of the checkout that holds this package's source, if any."""
    package = Path(b1k_eval.__file__).resolve().parent
    root = package.parent.parent
    if not (root / ".git").exists() or package != root / "eval" / "b1k_eval":
        return None, None
    return git_state(root)
