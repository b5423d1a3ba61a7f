"""Checking the data of BEHAVIOR-1K: assets, their key, the challenge's instances, disk space.

What a pass does not prove: that a download is complete, or that the key opens the assets.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from b1k_envs.errors import B1kEvalError
from b1k_envs.omnigibson.setup.data import (
    ASSETS,
    KEY,
    assets_present,
    assets_version,
    find_data_path,
    find_task_data,
    instance_files_present,
    key_present,
)
from b1k_envs.omnigibson.setup.generation import GENERATIONS, Generation
from b1k_envs.tasks.table import get_task
from b1k_eval.doctor.basics import nearest
from b1k_eval.doctor.checks import BOTH_YEARS, Check, is_importable, release
from b1k_eval.doctor.omnigibson import installed
from b1k_eval.doctor.stacks import (
    DATA_GB,
    DATA_VARIABLE,
    download_command,
    replace_command,
    subject,
)

_UNKNOWN = f"looked at once OmniGibson is installed or {DATA_VARIABLE} is set"
_SAMPLE = "clean_boxing_gloves"  # a task of both years


def data_checks() -> tuple[Check, ...]:
    """Make all checks of the data, in the place where OmniGibson's evaluator will look."""
    root, generation = find_data_path(), installed()
    years = tuple(GENERATIONS.values())
    if root is None:
        names = ("data path", "assets", "asset key", *(_instances_name(year) for year in years))
        skipped = tuple(Check(name=name, state="skipped", detail=_UNKNOWN) for name in names)
        return (*skipped, _room(Path.cwd()))
    return (
        _data_path(root),
        _assets(root),
        _key(root),
        *(_instances(root, year, generation) for year in years),
        _room(root),
    )


def _data_path(root: Path) -> Check:
    there = root.is_dir()
    return Check(
        name="data path",
        state="ok" if there else "absent",
        detail=str(root) if there else f"{root} is no folder, so that OmniGibson does not start",
        advice=None
        if there
        else f"mkdir -p {root}, or export {DATA_VARIABLE}= the folder that has the data",
        concerns=BOTH_YEARS,
    )


def _assets(root: Path) -> Check:
    lacking = [name for name, there in assets_present().items() if not there]
    if lacking:
        return Check(
            name="assets",
            state="absent",
            detail=f"{' and '.join(lacking)} not in {root}",
            advice="if you accept the licences: "
            + "; ".join(download_command(name, root) for name in lacking),
            concerns=BOTH_YEARS,
        )
    versions = assets_version()
    detail = ", ".join(
        f"{name} {versions[name]['installed'] or 'without VERSION'}" for name in ASSETS
    )
    # OmniGibson's code names one version of the scenes to download, but a minimum for the robot.
    scenes, robot = (versions[name] for name in ASSETS)
    if _older(robot["installed"], robot["wanted"]):
        return Check(
            name="assets",
            state="absent",
            detail=f"{detail}; this OmniGibson refuses a robot older than {robot['wanted']}",
            advice=replace_command(ASSETS[1], root),
            concerns=BOTH_YEARS,
        )
    if scenes["wanted"] not in (None, scenes["installed"]):
        return Check(
            name="assets",
            state="note",
            detail=f"{detail}; this OmniGibson downloads {ASSETS[0]} {scenes['wanted']}",
            advice=replace_command(ASSETS[0], root),
            concerns=BOTH_YEARS,
        )
    return Check(name="assets", state="ok", detail=detail, concerns=BOTH_YEARS)


def _older(installed: str | None, minimum: str | None) -> bool:
    if minimum is None:
        return False
    return installed is None or release(installed) < release(minimum)


def _key(root: Path) -> Check:
    there = key_present()
    return Check(
        name="asset key",
        state="ok" if there else "absent",
        detail=f"{root / KEY}" if there else f"{root / KEY} is missing: the assets are encrypted",
        advice=None
        if there
        else f"if you accept the licences, this brings it: {download_command(ASSETS[0], root)}",
        concerns=BOTH_YEARS,
    )


def _instances_name(generation: Generation) -> str:
    return f"instances {generation.protocol}"


def _instances(root: Path, generation: Generation, used: Generation | None) -> Check:
    name = _instances_name(generation)
    if not instance_files_present(generation):
        if used not in (None, generation):
            return Check(
                name=name, state="skipped", detail=f"the installed {used.tag} does not use them"
            )
        return Check(
            name=name,
            state="absent",
            detail=f"{generation.instances} not in {root}",
            advice=download_command(generation.instances, root),
            concerns=(subject(generation),),
        )
    if used != generation:
        return Check(
            name=name,
            state="ok",
            detail=str(root / generation.instances),
            concerns=(subject(generation),),
        )
    return _first_instance(root, generation)


def _first_instance(root: Path, generation: Generation) -> Check:
    """Find one instance file as a run would, since any file read on the way may be missing."""
    folder = root / generation.instances
    there = Check(
        name=_instances_name(generation),
        state="ok",
        detail=str(folder),
        concerns=(subject(generation),),
    )
    if not all(assets_present().values()) or not key_present():
        return there
    if not is_importable("yaml"):
        return replace(
            there,
            state="absent",
            detail=f"{folder}; its tables cannot be read without PyYAML",
            advice="pip install PyYAML",
        )
    try:
        file = find_task_data(generation, get_task(_SAMPLE), "public-test").instance_file(0)
    except B1kEvalError as error:
        again = replace_command(generation.instances, root)
        return replace(there, state="absent", detail=str(error), advice=again)
    return replace(there, detail=f"{folder}, with {file.name}")


def _room(place: Path) -> Check:
    """Check the space for what is still to be downloaded, nearly all of which is the scenes."""
    name = "data disk"
    if assets_present()[ASSETS[0]]:
        return Check(name=name, state="ok", detail="the assets are here already")
    free_gb = shutil.disk_usage(nearest(place)).free / 1e9
    enough = free_gb >= DATA_GB
    return Check(
        name=name,
        state="ok" if enough else "absent",
        detail=f"{free_gb:.1f} GB free for {place}; the data take {DATA_GB} GB",
        advice=None
        if enough
        else f"free {DATA_GB - free_gb:.0f} GB, or export {DATA_VARIABLE}= a folder on a larger "
        "disk before the set-up",
        concerns=BOTH_YEARS,
    )
