"""Doctor's results: a check for each thing looked at, a verdict for each thing to be run."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

State = Literal["ok", "missing", "absent", "note", "skipped"]
Subject = Literal["mujoco", "omnigibson-2025", "omnigibson-2026", "checkpoints"]

FORMAT = 1
"""Version of the JSON form, see docs/doctor.md; it rises when a field changes its meaning."""

TWIN: tuple[Subject, ...] = ("mujoco",)
BOTH_YEARS: tuple[Subject, ...] = ("omnigibson-2025", "omnigibson-2026")
CHECKPOINTS: tuple[Subject, ...] = ("checkpoints",)
EVERYTHING: tuple[Subject, ...] = (*TWIN, *BOTH_YEARS, *CHECKPOINTS)


@dataclass(frozen=True, kw_only=True)
class Check:
    """The result of looking for one thing.

    Attributes:
        name: One to three words; docs/doctor.md lists all names.
        state: `ok`; `missing` if the twin or its videos need it; `absent` if only OmniGibson or a
            checkpoint needs it and it is not there or does not fit; `note` if nothing is stopped by
            it; `skipped` if there was nothing to look at, for the reason in `detail`.
        detail: What was found.
        advice: What to do, with the command; None if there is nothing to do.
        concerns: The verdicts it counts for: `missing` or `absent` makes them negative, a `note`
            becomes a remark on them.
    """

    name: str
    state: State
    detail: str
    advice: str | None = None
    concerns: tuple[Subject, ...] = ()

    def said(self) -> str:
        """The check as one line."""
        found = f"{self.name}: {self.detail}"
        return found if self.advice is None else f"{found}; {self.advice}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether something can run here.

    Attributes:
        subject: A simulator, for OmniGibson with the protocol's year, or checkpoints.
        ready: Whether it can run.
        text: One line: `ready`, perhaps with a reservation, or the first obstacle.
        steps: All obstacles, each with what to do, in the order to do it in.
        remarks: What makes results doubtful or runs slow without stopping them.
    """

    subject: Subject
    ready: bool
    text: str
    steps: tuple[str, ...]
    remarks: tuple[str, ...]


def installed_version(distribution: str) -> str | None:
    """Return the version from a package's metadata; None if it has none."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def is_importable(module: str) -> bool:
    """Whether there is a top-level module of that name, without importing it."""
    try:
        return find_spec(module) is not None
    except ValueError:  # the module is loaded and has no spec
        return True


def find_package(
    name: str,
    *,
    concerns: tuple[Subject, ...],
    missing: State = "missing",
    advice: str | None = None,
) -> Check:
    """Look for a distribution whose module has the same name."""
    found = installed_version(name)
    if found is None and not is_importable(name):
        return Check(
            name=name,
            state=missing,
            detail="not installed",
            advice=advice or f"pip install {name}",
            concerns=concerns,
        )
    return Check(
        name=name, state="ok", detail=found or "importable, version unknown", concerns=concerns
    )


def is_pypi_bddl() -> bool:
    """Whether bddl is the backend generation of PyPI, by a file that only it has."""
    spec = find_spec("bddl")
    origin = None if spec is None else spec.origin
    return origin is not None and (Path(origin).parent / "backend_abc.py").exists()


def release(number: str) -> tuple[int, ...]:
    """Return a version's leading numbers, as (2, 13, 0) for 2.13.0+cpu; () if there are none."""
    numbers = []
    for part in number.partition("+")[0].split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
