"""A five-episode run that kills itself with SIGKILL at the n-th thing it does.

`python killed_run.py FOLDER N`: N counts control steps, fsyncs, renames and removals; at N = 0 the
run goes to its end. Prints how many such things it did, and whether it has imported pandas.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from functools import partial
from pathlib import Path

from doubles import BreakingEnv, RandomWalkPolicy, ToyEnv

from b1k_envs.base import make_several
from b1k_envs.tasks.table import get_task, human_stats
from b1k_eval.disturbances.noise import NoiseSpec
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.records.store import open_run
from b1k_eval.run.episode import Assembly
from b1k_eval.run.launch import launch, plan_episodes
from b1k_eval.run.progress.reporter import Reporter

TASK = get_task(31)
PLAN = plan_episodes(TASK, range(5), 1, seed=3, protocol="2026")
RECORD = {"format": 1, "identity": {"settings": {"seed": 3}}, "sessions": [{"started_at": "-"}]}


def make_assembly(make_env=ToyEnv):
    """What the run's worlds and policy are."""
    return Assembly(
        make_worlds=partial(make_several, make_env),
        make_policy=RandomWalkPolicy,
        make_chunking=partial(RecedingHorizon, 4),
        human=human_stats(TASK),
        max_steps=50,
        noise=NoiseSpec.parse("0.05,0.3,1"),
    )


def make_run(folder, *, make_env=ToyEnv, workers=1):
    """Start or resume the run in this process, and end it."""
    store = open_run(Path(folder), RECORD, resume=True)
    try:
        launch(make_assembly(make_env), PLAN, store, reporter=Reporter(), workers=workers)
    finally:
        store.close()


def failing_env():
    """An env whose every episode is an error."""
    return BreakingEnv(hook="step", at_step=3)


class Bomb:
    """Counts calls of what it is put around, and kills the process at the n-th."""

    def __init__(self, at):
        self.at = at
        self.count = 0

    def around(self, call):
        def counted(*args, **kwargs):
            self.count += 1
            if self.count == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return counted


if __name__ == "__main__":
    bomb = Bomb(int(sys.argv[2]))
    ToyEnv.step = bomb.around(ToyEnv.step)
    os.fsync = bomb.around(os.fsync)
    Path.replace = bomb.around(Path.replace)
    Path.mkdir = bomb.around(Path.mkdir)
    shutil.rmtree = bomb.around(shutil.rmtree)
    make_run(sys.argv[1])
    sys.stdout.write(f"{bomb.count} {'pandas' in sys.modules}")
