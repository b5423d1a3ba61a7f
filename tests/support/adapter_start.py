"""Brings the adapter up on the double, step by step, for the tests of what comes before a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from b1k_envs.base import Split
from b1k_envs.findings import Finding
from b1k_envs.omnigibson.setup.application import Application, launch
from b1k_envs.omnigibson.setup.checks import check_startup
from b1k_envs.omnigibson.setup.config import build_config
from b1k_envs.omnigibson.setup.data import TaskData, find_task_data
from b1k_envs.omnigibson.setup.generation import Generation, installed_generation
from b1k_envs.omnigibson.setup.loading import load_instances
from b1k_envs.omnigibson.setup.preparation import prepare_environment, robots_of
from b1k_envs.tasks.table import get_task

GLOVES = get_task(31)


@dataclass
class Adapter:
    """The parts of a run, in the order in which they are made."""

    generation: Generation
    data: TaskData
    application: Application
    env: Any

    @property
    def og(self) -> Any:
        return self.application.og

    @property
    def robots(self) -> list[Any]:
        return robots_of(self.generation, self.env)

    def prepare(self, *, heavy_base: bool = False) -> dict[str, Any]:
        return prepare_environment(
            self.application, self.generation, self.env, heavy_base=heavy_base
        )

    def check(self, *, heavy_base: bool = False) -> list[Finding]:
        return check_startup(self.application, self.generation, self.env, heavy_base=heavy_base)

    def load(self, instances: dict[int, int]) -> dict[int, dict[str, Any]]:
        return load_instances(self.application, self.generation, self.env, self.data, instances)


def bring_up(
    *,
    num_envs: int = 1,
    split: Split = "public-test",
    prepared: bool = True,
    change: Any = None,
) -> Adapter:
    """Launch, make the environment and prepare it.

    Args:
        num_envs: How many envs.
        split: Which split instances are of.
        prepared: Whether to prepare it.
        change: Called with the config before it is used, to spoil it.
    """
    generation = installed_generation()
    data = find_task_data(generation, GLOVES, split)
    application = launch(generation)
    config = build_config(generation, GLOVES, data, num_envs=num_envs, max_steps=100)
    if change is not None:
        change(config)
    adapter = Adapter(generation, data, application, application.og.Environment(configs=config))
    if prepared:
        adapter.prepare()
    return adapter
