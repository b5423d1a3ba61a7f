"""What is recorded of a user's policy, so that another run with it is known to be the same.

The class's own file is hashed, and what it imports from its folder, or from its package, wherever
the import stands. What a policy reads by itself, such as weights, it has to describe: `describe`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

from b1k_policies.base import Policy
from b1k_policies.own.arguments import all_arguments, typed_arguments
from b1k_policies.own.hashes import file_hashes
from b1k_policies.own.loading import Named, module_file


@dataclass(frozen=True, kw_only=True)
class PolicySource:
    """Where a policy's class is from, and how it was made.

    Attributes:
        module: Its module, or the name of its file.
        name: The class.
        files: SHA-256 by file, relative to the folder that is imported from.
        arguments: Every argument of the constructor, defaults included; JSON values.
        package: Distribution and version; None for a file or a module that is in none.
        commit: Commit of the git tree that the class's file lies in; None outside of any.
        dirty: Whether files of that tree differ from the commit.
    """

    module: str
    name: str
    files: Mapping[str, str]
    arguments: Mapping[str, Any]
    package: str | None
    commit: str | None
    dirty: bool | None

    def identity(self) -> dict[str, Any]:
        """Return what decides the actions, for run.json's identity."""
        return {
            "module": self.module,
            "class": self.name,
            "files": dict(self.files),
            "arguments": dict(self.arguments),
            "package": self.package,
        }

    def here(self) -> dict[str, Any]:
        """Return what is recorded per session and not compared: files decide, not commits."""
        return {"source_commit": self.commit, "source_dirty": self.dirty}


def source_of(named: Named, cls: type[Policy], words: Sequence[str]) -> PolicySource:
    """Describe a class that was loaded, made with these `--policy-arg`.

    Raises:
        UsageError: See `typed_arguments`.
    """
    file = module_file(cls)
    in_file = isinstance(named.place, Path)
    commit, dirty = (None, None) if file is None else git_state(file.parent)
    return PolicySource(
        module=named.place.name if isinstance(named.place, Path) else cls.__module__,
        name=cls.__name__,
        files=files_of(named, cls),
        arguments=all_arguments(cls, typed_arguments(cls, words)),
        package=named.package or (None if in_file else _package(cls.__module__)),
        commit=commit,
        dirty=dirty,
    )


def files_of(named: Named, cls: type[Policy]) -> dict[str, str]:
    """Return `PolicySource.files` of a class that was loaded."""
    file = module_file(cls)
    in_file = isinstance(named.place, Path)
    return {} if file is None else file_hashes(file, None if in_file else cls.__module__)


def _package(module: str) -> str | None:
    names = packages_distributions().get(module.partition(".")[0], [])
    return f"{names[0]} {version(names[0])}" if names else None


def git_state(folder: Path) -> tuple[str | None, bool | None]:
    """Return commit and dirty flag of the git tree that a folder lies in, if any."""
    try:
        commit = _run_git(folder, "rev-parse", "HEAD")
        status = _run_git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None, None
    return commit, bool(status)


def _run_git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True, text=True, errors="replace", check=True, timeout=10,
    )  # fmt: skip
    return done.stdout.strip()
