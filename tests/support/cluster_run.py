"""Forty episodes of a toy world on a Ray cluster.

`python cluster_run.py FOLDER ADDRESS` starts or resumes the run, with a line on standard error per
start and end of an episode. One worker of the run kills itself, the first time that it comes to
instance 15.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

from doubles import RandomWalkPolicy, ToyEnv
from killed_run import RECORD, TASK
from rich.console import Console

from b1k_envs.base import make_several
from b1k_envs.tasks.table import human_stats
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.records.store import open_run
from b1k_eval.run.crew.cluster import Cluster, connect, disconnect
from b1k_eval.run.episode import Assembly
from b1k_eval.run.launch import launch, plan_episodes
from b1k_eval.run.progress.displays import PlainReporter
from b1k_eval.run.progress.reporter import Reporter


class Starts(PlainReporter):
    """Says where an episode begins, too."""

    def episode_started(self, key, where=None):
        super().episode_started(key, where)
        self.note(f"{key.folder} started on {where}")


PLAN = plan_episodes(TASK, range(40), 1, seed=3, protocol="2026")


class OnceDyingEnv(ToyEnv):
    """Takes its time, and kills its process once."""

    def __init__(self, mark=None):
        super().__init__()
        self.mark = mark

    def reset(self, instance, rollout, seed):
        super().reset(instance, rollout, seed)
        if instance == 15 and self.mark is not None and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def step(self, action):
        if self.mark is not None:
            time.sleep(0.02)
        return super().step(action)


def make_run(folder: Path, *, address: str | None, reporter: Reporter) -> None:
    """Run it in this process without an address."""
    mark = None if address is None else folder.with_suffix(".mark")
    assembly = Assembly(
        make_worlds=partial(make_several, partial(OnceDyingEnv, mark)),
        make_policy=RandomWalkPolicy,
        make_chunking=partial(RecedingHorizon, 4),
        human=human_stats(TASK),
        max_steps=50,
    )
    if address is not None:
        connect(address)
    store = open_run(folder, RECORD, resume=True)
    try:
        crew = None if address is None else Cluster(assembly, folder, 0.0, reporter.note)
        workers = 1 if crew is None else 4
        launch(assembly, PLAN, store, reporter=reporter, workers=workers, crew=crew, retries=2)
    finally:
        store.close()
        if address is not None:
            disconnect()


def main() -> None:
    """As the words of the command line say."""
    make_run(
        Path(sys.argv[1]).resolve(),
        address=sys.argv[2],
        reporter=Starts(Console(stderr=True, width=500)),
    )


if __name__ == "__main__":
    import cluster_run  # a worker could not import the classes of `__main__`

    cluster_run.main()
