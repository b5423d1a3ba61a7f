"""How many workers a machine carries, for `--workers auto`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from b1k_eval.selection import share
from b1k_eval.settings import RunSettings

_WORKER_GB = 1.0
"""Memory of a worker: 0.3 GB with a twin (measured), its video's process and a model beside it."""

_MEMINFO = Path("/proc/meminfo")


def workers_here(
    tasks: Sequence[RunSettings], num_envs: int, gpus: Sequence[int]
) -> tuple[int, str]:
    """Return how many workers to have, and why in a sentence.

    An OmniGibson needs a GPU of its own: one per GPU of `gpus`, or one. A twin takes a core: one
    per core, as far as memory goes. Never more than have an episode.

    Args:
        tasks: What is run.
        num_envs: Episodes at once in each.
        gpus: Those to share out.
    """
    planned = [each for task in tasks for each in task.instances * task.rollouts]
    useful = -(-len(share(planned, tasks[0].shard)) // num_envs)
    if tasks[0].sim == "omnigibson":
        most, why = max(1, len(gpus)), "one per GPU of --gpus"
    else:
        cores, free_gb = len(os.sched_getaffinity(0)), _free_gb()
        why = f"{cores} core{'' if cores == 1 else 's'}"
        most = cores
        if free_gb is not None:
            most = min(most, int(free_gb / _WORKER_GB))
            why += f", {free_gb:.0f} GB of free memory"
    count = max(1, min(most, useful))
    return count, f"--workers auto: {count} ({why}, {useful} with an episode)"


def _free_gb() -> float | None:
    """Return the memory that may be had without swapping [GB]; None where it is not told."""
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 / 1e9 if found else None
