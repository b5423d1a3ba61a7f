"""What doctor hands out: a check for each thing looked at, a verdict for each thing wanted."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

State = Literal["ok", "missing", "absent", "note", "skipped"]
Subject = Literal["mujoco", "omnigibson-2025", "omnigibson-2026", "checkpoints"]

FORMAT = 1
"""Number of the JSON form, see docs/doctor.md; a field that changes its meaning raises it."""

TWIN: tuple[Subject, ...] = ("mujoco",)
BOTH_YEARS: tuple[Subject, ...] = ("omnigibson-2025", "omnigibson-2026")
CHECKPOINTS: tuple[Subject, ...] = ("checkpoints",)
EVERYTHING: tuple[Subject, ...] = (*TWIN, *BOTH_YEARS, *CHECKPOINTS)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked for.

    Attributes:
        name: What, in one to three words; docs/doctor.md lists them all.
        state: `ok`; `missing`, which the twin or its videos cannot do without; `absent`, which only
            OmniGibson or a checkpoint asks for, also where it is there and does not fit; `note`,
            which stops nothing; or `skipped`: there was nothing to look at, `detail` says why.
        detail: What was found.
        advice: What to do, with the command; None when there is nothing to do.
        concerns: The verdicts it counts for: `missing` or `absent` speaks against them, a `note`
            becomes a remark on them.
    """

    name: str
    state: State
    detail: str
    advice: str | None = None
    concerns: tuple[Subject, ...] = ()

    def said(self) -> str:
        """The check in one line."""
        found = f"{self.name}: {self.detail}"
        return found if self.advice is None else f"{found}; {self.advice}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether something can run here.

    Attributes:
        subject: Which: a simulator, for OmniGibson with the protocol's year, or checkpoints.
        ready: It can.
        text: One line: `ready`, perhaps with a reservation, or what is first in the way.
        steps: All that is in the way, each with what to do, in the order to do it in.
        remarks: What makes its results doubtful or its runs slow, though nothing is in the way.
    """

    subject: Subject
    ready: bool
    text: str
    steps: tuple[str, ...]
    remarks: tuple[str, ...]


def installed_version(distribution: str) -> str | None:
    """Version from the metadata; None when it is not installed that way."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def is_importable(module: str) -> bool:
    """Whether there is a top-level module of that name; it is not imported."""
    try:
        return find_spec(module) is not None
    except ValueError:  # it is loaded and does not say where from
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
    """Whether bddl is the backend generation that PyPI has, told by a file that only it has."""
    spec = find_spec("bddl")
    origin = None if spec is None else spec.origin
    return origin is not None and (Path(origin).parent / "backend_abc.py").exists()


def release(number: str) -> tuple[int, ...]:
    """The leading numbers of a version: (2, 13, 0) of 2.13.0+cpu; () where there is none."""
    numbers = []
    for part in number.partition("+")[0].split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
