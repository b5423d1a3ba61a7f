"""Six short episodes of the toy world with noise, recorded; the last ends the process if told so.

`python recorded_run.py FOLDER DATASET N`: SIGKILL at the N-th thing done, as in `killed_run`.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from doubles import ToyEnv
from killed_run import Bomb, make_assembly

from b1k_envs.base import VIEWS
from b1k_eval.dataset.choosing import write_recorded
from b1k_eval.dataset.film import Film
from b1k_eval.records.store import open_run
from b1k_eval.run.launch import launch, plan_episodes
from b1k_eval.run.progress.reporter import Reporter
from b1k_eval.settings import RunSettings

SETTINGS = RunSettings(
    task="clean_boxing_gloves",
    policy="hold",
    sim="mujoco",
    protocol="2026",
    instances=(0, 1, 2, 3, 4, 5),
    max_steps=14,
    action_noise="0.05,0.3,1",
)
PLAN = plan_episodes(SETTINGS.task_entry(), SETTINGS.instances, 1, seed=3, protocol="2026")


class SmallEnv(ToyEnv):
    """Succeeds in most instances, fails in some; its pictures tell step and camera."""

    def __init__(self):
        super().__init__(max_steps=14)

    def reset(self, instance, rollout, seed):
        super().reset(instance, rollout, seed)
        self.x = 1.1 if instance % 3 else -9.0

    def _pictures(self):
        return {view: picture(place, self.step_count) for place, view in enumerate(VIEWS)}

    def observe(self, *, images=True):
        seen = super().observe(images=images)
        proprio = seen.proprio.copy()
        proprio[0] = self.step_count
        return replace(seen, proprio=proprio)


def picture(place, step):
    """A camera's picture at a step: one colour on the left, a ramp on the right."""
    size = (48, 64)
    made = np.full((*size, 3), (40 * place + 20, 10 * step + 30, 120), np.uint8)
    made[:, 32:, 2] = np.linspace(0, 255, 32).astype(np.uint8)
    return made


def make_run(folder, dataset=None, *, only="all", workers=1, plan=PLAN, shard=None):
    """Start or resume the run, and write its data set as `ReadyRun.run` does."""
    settings = {**SETTINGS.as_json(), "shard": shard}
    identity = {
        "settings": settings,
        "policy": {"name": "random walk"},
        "privileged": False,
        "b1k_eval": "0",
        "human": {},
        "env": {},
    }
    record = {"format": 1, "identity": identity, "sessions": [{"started_at": str(folder)}]}
    store = open_run(Path(folder), record, resume=True)
    assembly = replace(make_assembly(SmallEnv), record=only, max_steps=14)
    try:
        launch(assembly, plan, store, reporter=Reporter(), workers=workers)
    finally:
        store.close()
    if dataset is None:
        return None
    return write_recorded(Path(folder), Path(dataset), only, print)


if __name__ == "__main__":
    bomb = Bomb(int(sys.argv[3]))
    ToyEnv.step = bomb.around(ToyEnv.step)
    Film.finish = bomb.around(Film.finish)
    os.fsync = bomb.around(os.fsync)
    os.link = bomb.around(os.link)
    Path.replace = bomb.around(Path.replace)
    Path.mkdir = bomb.around(Path.mkdir)
    shutil.rmtree = bomb.around(shutil.rmtree)
    make_run(sys.argv[1], sys.argv[2])
    sys.stdout.write(str(bomb.count))
