"""Checking the installed OmniGibson and the packages it needs, without importing anything."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from b1k_envs.errors import UnavailableError
from b1k_envs.omnigibson.setup.application import FOREIGN_VARIABLES
from b1k_envs.omnigibson.setup.generation import (
    GENERATIONS,
    Generation,
    installed_generation,
    package_folder,
)
from b1k_envs.omnigibson.setup.generation import installed_version as omnigibson_version
from b1k_eval.doctor.checks import (
    BOTH_YEARS,
    Check,
    Subject,
    installed_version,
    is_importable,
    is_pypi_bddl,
    release,
)
from b1k_eval.doctor.stacks import (
    DATA_VARIABLE,
    OLD_VARIABLES,
    STACKS,
    dotted,
    install_command,
    subject,
)

_NEEDS_IT = "looked at once OmniGibson is installed"


def installed() -> Generation | None:
    """Return the installed generation; None for none, or for one that is not supported."""
    try:
        return installed_generation()
    except UnavailableError:
        return None


def omnigibson_checks() -> tuple[Check, ...]:
    """Check everything about the installation except GPU, torch and data."""
    generation = installed()
    return (
        *(_generation(each) for each in GENERATIONS.values()),
        _python(generation),
        _isaacsim(generation),
        _numpy(generation),
        _bddl(generation),
        _gello(generation),
        _isaac_variables(),
        _old_variables(),
    )


def _concerns(generation: Generation | None) -> tuple[Subject, ...]:
    return BOTH_YEARS if generation is None else (subject(generation),)


def _skipped(name: str, detail: str = _NEEDS_IT) -> Check:
    return Check(name=name, state="skipped", detail=detail)


def _generation(generation: Generation) -> Check:
    """Check whether the installed OmniGibson runs a protocol."""
    name, concerns = f"omnigibson {generation.protocol}", (subject(generation),)
    try:
        installed_generation(generation.protocol)
    except UnavailableError as error:
        return Check(
            name=name,
            state="absent",
            detail="not installed" if omnigibson_version() is None else str(error),
            advice=install_command(generation),
            concerns=concerns,
        )
    return Check(
        name=name,
        state="ok",
        detail=f"{omnigibson_version()} ({package_folder()})",
        concerns=concerns,
    )


def _python(generation: Generation | None) -> Check:
    name = "omnigibson python"
    found = sys.version_info[:2]
    if generation is None:
        wanted = ", ".join(f"{dotted(each.python)} for {year}" for year, each in STACKS.items())
        return _skipped(name, f"{_NEEDS_IT}, which takes Python {wanted}; this is {dotted(found)}")
    wanted = dotted(STACKS[generation.protocol].python)
    fits = dotted(found) == wanted
    return Check(
        name=name,
        state="ok" if fits else "absent",
        detail=f"{dotted(found)}; OmniGibson {generation.tag} runs on {wanted}",
        advice=None if fits else f"a new environment: {install_command(generation)}",
        concerns=_concerns(generation),
    )


def _isaacsim(generation: Generation | None) -> Check:
    """Check Isaac Sim: the meta package is not enough, as the parts are wheels of their own."""
    name, concerns = "isaacsim", _concerns(generation)
    found = installed_version(name)
    advice = (
        "the set-up script of OmniGibson installs it"
        if generation is None
        else f"a new environment: {install_command(generation)}"
    )
    if found is None:
        there = is_importable(name)
        return Check(
            name=name,
            state="ok" if there else "absent",
            detail="importable, version unknown" if there else "not installed",
            advice=None if there else advice,
            concerns=concerns,
        )
    problem = None
    if installed_version("isaacsim-kernel") is None:
        problem = "its meta package alone, without isaacsim-kernel"
    elif generation is not None and release(found)[:2] != STACKS[generation.protocol].isaacsim:
        wanted = dotted(STACKS[generation.protocol].isaacsim)
        problem = f"OmniGibson {generation.tag} runs on {wanted}"
    return Check(
        name=name,
        state="ok" if problem is None else "absent",
        detail=found if problem is None else f"{found}; {problem}",
        advice=None if problem is None else advice,
        concerns=concerns,
    )


def _numpy(generation: Generation | None) -> Check:
    name, found = "omnigibson numpy", installed_version("numpy")
    if generation is None or found is None:
        return _skipped(name)
    fits = release(found)[:1] < (2,)
    return Check(
        name=name,
        state="ok" if fits else "absent",
        detail=found if fits else f"{found}; Isaac Sim and OmniGibson run with numpy < 2",
        # Newer pyarrow builds need numpy 2 without declaring it.
        advice=None if fits else "pip install 'numpy<2' 'pyarrow<26'",
        concerns=_concerns(generation),
    )


def _bddl(generation: Generation | None) -> Check:
    """Check for OmniGibson's own bddl, from its repository; PyPI's has the same name."""
    name, found = "omnigibson bddl", installed_version("bddl")
    if generation is None or found is None:
        return _skipped(name)
    fits = not is_pypi_bddl()
    return Check(
        name=name,
        state="ok" if fits else "absent",
        detail=found if fits else f"{found} of PyPI; OmniGibson {generation.tag} needs its own",
        advice=None if fits else f"pip install -e {_repository() / 'bddl3'}",
        concerns=_concerns(generation),
    )


def _gello(generation: Generation | None) -> Check:
    """Check Joylo's package, which the official evaluator imports; the adapter reads one table."""
    if generation is None:
        return _skipped("gello")
    there = is_importable("gello")
    return Check(
        name="gello",
        state="ok" if there else "note",
        detail="joylo is installed"
        if there
        else "joylo is not installed; the official evaluator needs it, this one does not",
        advice=None if there else f"pip install -e {_repository() / 'joylo'}",
        concerns=_concerns(generation),
    )


def _repository() -> Path:
    """Return the checkout of BEHAVIOR-1K from which setup.sh installed OmniGibson."""
    folder = package_folder()
    return Path("BEHAVIOR-1K") if folder is None else folder.parents[1]


def _isaac_variables() -> Check:
    found = [name for name in FOREIGN_VARIABLES if name in os.environ]
    return Check(
        name="isaac variables",
        state="absent" if found else "ok",
        detail=f"{', '.join(found)} set, of another Isaac Sim" if found else "none is set",
        advice=f"unset {' '.join(found)}" if found else None,
        concerns=BOTH_YEARS,
    )


def _old_variables() -> Check:
    found = [name for name in OLD_VARIABLES if name in os.environ]
    advice = f"unset {' '.join(found)}"
    if DATA_VARIABLE not in os.environ:
        advice += f"; export {DATA_VARIABLE}= the folder that holds behavior-1k-assets"
    return Check(
        name="old variables",
        state="note" if found else "ok",
        detail=f"{', '.join(found)} set, which OmniGibson no longer reads"
        if found
        else "none is set",
        advice=advice if found else None,
        concerns=BOTH_YEARS,
    )
