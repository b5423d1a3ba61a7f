"""The tasks of the twin, each described in the module of its name in this folder."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from b1k_envs.tasks.description import Description

TWIN_TASKS: tuple[str, ...] = ("turning_on_radio", "clean_boxing_gloves")
"""Their names. A new task needs its name here, a module in this folder, a folder in
`mujoco_twin.scenes` and a module of the expert: see docs/adding-a-task.md."""

DESCRIPTIONS: Mapping[str, Description] = MappingProxyType(
    {task: import_module(f"{__package__}.{task}").DESCRIPTION for task in TWIN_TASKS}
)
