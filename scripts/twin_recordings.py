#!/usr/bin/env python3
"""Write a run of the twin in the format of the BEHAVIOR demonstrations, for `b1k-eval qualify`.

    b1k-eval run --task 31 --policy expert --split train --instances 0-9 --out results/expert
    python scripts/twin_recordings.py results/expert recordings --layout v3.0
    b1k-eval qualify --sim mujoco --demos recordings

A trace has the executed actions; the proprioception comes from executing them again, and each row
of it is of the state before its action. Only successful episodes are taken. Layouts: v2.1 as in
`behavior-1k/2025-challenge-demos`, v3.0 as in `behavior-1k/2026-challenge-demos` (see
`b1k_eval.qualify.demos`); without pictures. The twin's recordings mean something in the twin only.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from b1k_envs.r1pro import ACTION_DIM, CONTROL_HZ
from b1k_envs.tasks.table import Task, get_task
from b1k_eval.dataset.choosing import behavior_number
from b1k_eval.qualify.demos import Demo, DemoEntry
from b1k_eval.qualify.one_replay import execute_and_read
from b1k_eval.records.loading import read_run_data
from b1k_eval.replay.recorded import read_recorded, world_settings
from b1k_eval.run import simulators

LAYOUTS = ("v2.1", "v3.0")


def record(run: Path) -> list[Demo]:
    """Execute a run's successful episodes again and keep actions and proprioception.

    Args:
        run: Folder of a run of the twin, with or without action noise.

    Raises:
        UsageError: It is not a run of the twin.
    """
    data = read_run_data(run)
    settings = world_settings(data)
    task = get_task(data.task)
    env = simulators.make_env(settings)
    demos = []
    try:
        for episode in data.episodes:
            if episode.outcome != "success":
                continue
            actions, key = read_recorded(episode).actions, episode.key
            env.reset(key.instance, key.rollout, episode.seed)
            states = execute_and_read(env, actions)
            instance = simulators.twin_number(settings.split, key.instance)
            number = behavior_number(task, instance, key.rollout)
            entry = DemoEntry(
                number=number, episode_index=number, instance_id=instance, file=Path()
            )
            demos.append(
                Demo(
                    entry=entry,
                    actions=actions,
                    states=states.measured[: len(actions)],
                    layout=settings.protocol,
                )
            )
    finally:
        env.close()
    return demos


def write(demos: Sequence[Demo], folder: Path, task: Task, layout: str) -> None:
    """Write a data set.

    Args:
        demos: At least one recording, all of one layout of the proprioception.
        folder: The folder to make, which must not exist.
        task: The task that was recorded.
        layout: One of `LAYOUTS`.
    """
    folder.mkdir(parents=True)
    (_write_v2 if layout == "v2.1" else _write_v3)(demos, folder, task)


def _info(demos: Sequence[Demo], version: str, data_path: str) -> dict[str, Any]:
    features = {
        "action": {"dtype": "float32", "shape": [ACTION_DIM], "names": None},
        "observation.state": {
            "dtype": "float32",
            "shape": [demos[0].states.shape[1]],
            "names": None,
        },
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    }
    for name in ("frame_index", "episode_index", "index", "task_index"):
        features[name] = {"dtype": "int64", "shape": [1], "names": None}
    return {
        "codebase_version": version,
        "robot_type": "R1Pro",
        "total_episodes": len(demos),
        "total_frames": sum(len(demo.actions) for demo in demos),
        "total_tasks": 1,
        "chunks_size": 10_000,
        "fps": int(CONTROL_HZ),
        "data_path": data_path,
        "features": features,
    }


def _rows(demo: Demo, episode_index: int, first: int, task: Task) -> pa.Table:
    count = len(demo.actions)
    frames = np.arange(count)
    return pa.table(
        {
            "index": first + frames,
            "episode_index": np.full(count, episode_index),
            "frame_index": frames,
            "timestamp": (frames / CONTROL_HZ).astype(np.float32),
            "task_index": np.full(count, task.index),
            "action": pa.array(list(demo.actions), pa.list_(pa.float32())),
            "observation.state": pa.array(list(demo.states), pa.list_(pa.float32())),
        }
    )


def _write_v2(demos: Sequence[Demo], folder: Path, task: Task) -> None:
    path = "data/task-{episode_chunk:04d}/episode_{episode_index:08d}.parquet"
    lines, first = [], 0
    for demo in demos:
        number = demo.entry.number
        file = folder / path.format(episode_chunk=task.index, episode_index=number)
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(_rows(demo, number, first, task), file)
        first += len(demo.actions)
        lines.append(
            {
                "episode_index": number,
                "tasks": [task.instruction],
                "length": len(demo.actions),
            }
        )
    _write_meta(folder, _info(demos, "v2.1", path))
    _write_lines(folder / "meta" / "episodes.jsonl", lines)
    _write_lines(
        folder / "meta" / "tasks.jsonl",
        [{"task_index": task.index, "task_name": task.name, "task": task.instruction}],
    )


def _write_v3(demos: Sequence[Demo], folder: Path, task: Task) -> None:
    path = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    half = (len(demos) + 1) // 2  # two files, as real data sets have several
    episodes, first = [], 0
    for file_index, part in enumerate((demos[:half], demos[half:])):
        tables = []
        for place, demo in enumerate(part):
            index = file_index * half + place
            tables.append(_rows(demo, index, first, task))
            episodes.append(
                {
                    "episode_index": index,
                    "tasks": [task.instruction],
                    "length": len(demo.actions),
                    "data/chunk_index": task.index,
                    "data/file_index": file_index,
                    "dataset_from_index": first,
                    "dataset_to_index": first + len(demo.actions),
                    "task_index": task.index,
                    "raw_episode_id": demo.entry.number,
                    "task_instance_id": demo.entry.instance_id,
                }
            )
            first += len(demo.actions)
        if tables:
            file = folder / path.format(chunk_index=task.index, file_index=file_index)
            file.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.concat_tables(tables), file)
    _write_meta(folder, _info(demos, "v3.0", path))
    meta = folder / "meta" / "episodes" / f"chunk-{task.index:03d}"
    meta.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(episodes), meta / "file-000.parquet")
    tasks = pa.table({"task_index": [task.index], "task": [task.instruction]})
    pq.write_table(tasks, folder / "meta" / "tasks.parquet")


def _write_meta(folder: Path, info: Mapping[str, Any]) -> None:
    (folder / "meta").mkdir(exist_ok=True)
    (folder / "meta" / "info.json").write_text(json.dumps(info, indent=2) + "\n")


def _write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a run of the twin")
    parser.add_argument("out", type=Path, help="the data set, a new folder")
    parser.add_argument("--layout", choices=LAYOUTS, default="v3.0")
    arguments = parser.parse_args()
    if arguments.out.exists():
        parser.error(f"{arguments.out} is there already: choose another folder")
    demos = record(arguments.run)
    if not demos:
        parser.error(f"{arguments.run} has no successful episode")
    write(demos, arguments.out, get_task(read_run_data(arguments.run).task), arguments.layout)
    print(f"{len(demos)} recordings in {arguments.out}")


if __name__ == "__main__":
    main()
