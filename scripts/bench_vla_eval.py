# ruff: noqa: D102 - methods of interfaces that are described where they are defined
"""Measure episodes per hour against vla-eval 0.8, doing the same work in one run.

    pip install -e '.[bench,xvla]'
    python scripts/bench_vla_eval.py TINY [--episodes 8] [--steps 300] [--write FILE]

The same world (the twin, three native pictures), the same checkpoint (TINY, of
`b1k_policies.xvla`), chunks of which ten actions are executed, one step limit, no videos and no
recording. vla-eval runs as its documentation has it: a model server that batches, and
`vla-eval run` once per shard; its pictures go over the wire raw, which is faster than its default,
PNG. Ours is `b1k-eval run` with as many workers. The ways take turns; wall time from the command
to its end.

vla-eval observes, draws and sends at every step. Ours draws when the chunk is used up, so there is
a row in which ours draws at every step, too.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Annotated, Any

import numpy as np
import typer
from bench_episode import machine_load
from rich.console import Console
from rich.table import Table
from vla_eval.benchmarks.base import StepBenchmark, StepResult
from vla_eval.model_servers.predict import PredictModelServer
from vla_eval.protocol.numpy_codec import set_image_format
from vla_eval.specs import DimSpec

from b1k_envs.base import VIEWS, Observation
from b1k_envs.mujoco_twin.env import TwinEnv
from b1k_envs.r1pro import ACTION_DIM, CONTROL_HZ
from b1k_envs.tasks.table import get_task
from b1k_policies.base import Query
from b1k_policies.checkpoint import CheckpointRequest

HOST = "127.0.0.1"
TASK = get_task("clean_boxing_gloves")
HORIZON = 10
_OURS = "from b1k_eval.cli.main import main; raise SystemExit(main())"
_THEIRS = "from vla_eval.cli.main import main; raise SystemExit(main())"
_SERVE = "import bench_vla_eval, sys; bench_vla_eval.serve(sys.argv[1], int(sys.argv[2]))"


# --- vla-eval's own classes, filled in as its documentation has it -------------------------------


class TheirServer(PredictModelServer):
    """The checkpoint as a vla-eval model server that batches over shards."""

    def __init__(self, checkpoint: str) -> None:
        from b1k_policies.xvla.policy import XVLAPolicy

        super().__init__(chunk_size=HORIZON, max_batch_size=8)
        self._policy = XVLAPolicy(CheckpointRequest(ckpt=checkpoint, device="cpu"))

    def predict_batch(self, obs_batch: Any, ctx_batch: Any) -> list[dict[str, Any]]:  # noqa: ANN401
        queries = [
            Query(observation=observation(obs), instruction=TASK.instruction, seed=0)
            for obs in obs_batch
        ]
        return [{"actions": chunk.actions} for chunk in self._policy.infer_batch(queries)]

    def get_action_spec(self) -> dict[str, DimSpec]:
        return {"actions": DimSpec("actions", ACTION_DIM, "r1pro")}

    def get_observation_spec(self) -> dict[str, DimSpec]:
        return {}


def observation(obs: dict[str, Any]) -> Observation:
    """What our policies take, of what came over their wire."""
    poses = np.asarray(obs["poses"], np.float32)
    return Observation(
        protocol="2026",
        images={view: np.asarray(obs["images"][view]) for view in VIEWS},
        proprio=np.asarray(obs["states"], np.float32),
        camera_to_base=dict(zip(VIEWS, poses, strict=True)),
        cam_rel_poses=np.asarray(obs["cam_rel_poses"], np.float32),
        task_index=TASK.index,
        step=int(obs["step"]),
        time=int(obs["step"]) / CONTROL_HZ,
    )


class TheirBenchmark(StepBenchmark):
    """The twin as a vla-eval benchmark, observed as its BEHAVIOR-1K benchmark does."""

    def __init__(self, steps: int, done: str) -> None:
        super().__init__()
        self._done = Path(done)
        set_image_format("raw")
        self._env = TwinEnv(TASK, protocol="2026", split="public-test", max_steps=steps - 1)

    def get_tasks(self) -> list[dict[str, Any]]:
        return [{"name": TASK.name}]

    def reset(self, task: Any) -> Observation:  # noqa: ANN401 - theirs
        self._env.reset(int(task["episode_idx"]), 0, 0)
        return self._env.observe()

    def step(self, action: Any) -> StepResult:  # noqa: ANN401 - theirs
        result = self._env.step(np.asarray(action["actions"], dtype=np.float32))
        goal = self._env.goal()
        done = result.truncated or goal.success
        info = {"step": result.step, "success": goal.success}
        return StepResult(obs=self._env.observe(), reward=0.0, done=done, info=info)

    def make_obs(self, raw_obs: Observation, task: Any) -> dict[str, Any]:  # noqa: ANN401
        return {
            "images": dict(raw_obs.images),
            "task_description": TASK.instruction,
            "states": raw_obs.proprio,
            "step": raw_obs.step,
            "cam_rel_poses": raw_obs.cam_rel_poses,
            "poses": np.stack([raw_obs.camera_to_base[view] for view in VIEWS]),
        }

    def get_step_result(self, step_result: StepResult) -> dict[str, Any]:
        with self._done.open("a") as file:
            file.write(f"{step_result.info['step']}\n")
        return {"success": step_result.info["success"]}

    def get_action_spec(self) -> dict[str, DimSpec]:
        return {"actions": DimSpec("actions", ACTION_DIM, "r1pro")}

    def get_observation_spec(self) -> dict[str, DimSpec]:
        return {}

    def cleanup(self) -> None:
        self._env.close()


def serve(checkpoint: str, port: int) -> None:
    """Serve the checkpoint as vla-eval does; the whole of a process."""
    import torch
    from vla_eval.model_servers.serve import serve as their_serve

    torch.set_num_threads(1)
    their_serve(TheirServer(checkpoint), HOST, port)


# --- both, from their command lines --------------------------------------------------------------


def start(code: str, *words: str) -> subprocess.Popen[bytes]:
    """Start a Python process that finds this module."""
    roots = [str(Path(__file__).parent), *sys.path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, roots))}
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process that has to end with 0."""
    if process.wait() != 0:
        raise SystemExit(f"{' '.join(map(str, process.args))} ended with {process.returncode}")


@contextmanager
def their_model(checkpoint: Path) -> Iterator[int]:
    """Run their server until the block ends; gives its port."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    process = start(_SERVE, str(checkpoint), str(port))
    try:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex((HOST, port)) == 0:
                    break
            if process.poll() is not None:
                raise SystemExit(f"vla-eval's server ended with {process.returncode}")
            sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.wait()


def theirs(checkpoint: Path, episodes: int, steps: int, shards: int) -> float:
    """One evaluation by vla-eval in so many shards; wall time [s] with its server's start."""
    begun = perf_counter()
    with tempfile.TemporaryDirectory() as folder, their_model(checkpoint) as port:
        done = Path(folder, "done")
        config = {
            "server": {"url": f"ws://{HOST}:{port}"},
            "output_dir": folder,
            "render": "gpu",
            "benchmarks": [
                {
                    "benchmark": "bench_vla_eval:TheirBenchmark",
                    "episodes_per_task": episodes,
                    "max_steps": steps,
                    "params": {"steps": steps, "done": str(done)},
                }
            ],
        }
        file = Path(folder, "config.yaml")
        file.write_text(json.dumps(config), "utf-8")  # JSON is YAML
        words = ["run", "--config", str(file), "--no-docker", "--no-save"]
        shares = [["--shard-id", str(n), "--num-shards", str(shards)] for n in range(shards)]
        for process in [start(_THEIRS, *words, *share) for share in shares]:
            finish(process)
        played = done.read_text().split() if done.exists() else []
        if played != [str(steps)] * episodes:
            raise SystemExit(f"vla-eval played episodes of {played} steps")
    return perf_counter() - begun


def ours(checkpoint: Path, episodes: int, steps: int, *options: str) -> float:
    """One evaluation by `b1k-eval run`; wall time [s]."""
    begun = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        words = ["run", "--sim", "mujoco", "--task", "31", "--ckpt", str(checkpoint)]
        words += ["--instances", f"0-{episodes - 1}", "--max-steps", str(steps - 1), "--no-video"]
        finish(start(_OURS, *words, "--device", "cpu", "--out", f"{folder}/run", *options))
    return perf_counter() - begun


def main(
    checkpoint: Annotated[Path, typer.Argument(help="A tiny checkpoint.")],
    episodes: Annotated[int, typer.Option(help="Episodes of an evaluation.")] = 8,
    steps: Annotated[int, typer.Option(help="Control steps of an episode.")] = 300,
    repeats: Annotated[int, typer.Option(help="Evaluations of every way.")] = 2,
    workers: Annotated[int, typer.Option(help="Shards of theirs, workers of ours.")] = 2,
    write: Annotated[Path | None, typer.Option(help="Also as Markdown, into this file.")] = None,
) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("LP_NUM_THREADS", "0")
    work = (checkpoint.resolve(), episodes, steps)
    many = ("--workers", str(workers))
    ways = {
        f"vla-eval, {workers} shards": lambda: theirs(*work, workers),
        f"b1k-eval, {workers} workers": lambda: ours(*work, *many),
        "... drawing at every step": lambda: ours(*work, *many, "--render", "every-step"),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    before = machine_load()
    for _ in range(repeats):
        for name, way in ways.items():
            times[name].append(way())
    hours = {name: episodes * 3600 / median(found) for name, found in times.items()}
    floor = next(iter(hours.values()))
    rows = [(name, f"{rate:.0f}", f"{rate / floor:.2f}") for name, rate in hours.items()]
    rows.append(("load of the machine before; its cores", before, ""))
    columns = ("way", "episodes per hour", "of theirs")
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    if write is not None:
        lines = [f"| {' | '.join(row)} |" for row in (columns, ("---",) * 3, *rows)]
        write.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
