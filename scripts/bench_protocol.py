# ruff: noqa: D102 - methods of interfaces that are described where they are defined
"""Measure what a policy behind a wire costs per control step, ours and vla-eval's in one run.

    pip install -e '.[bench]'
    python scripts/bench_protocol.py [--steps 600] [--write FILE]

The environment costs nothing but its three native pictures, which the MuJoCo twin rendered
beforehand; the policy costs nothing and returns chunks of 30 rows, of which 10 are executed. The
floor is our loop with both in one process. Every way runs its server in a process of its own, on
the loopback, and all ways take turns, so that a busy neighbour affects them alike.

GR00T's protocol is measured between our own two ends, with all 35 names of the state. torch makes
its pictures smaller, to 256 px.

vla-eval 0.8 observes, encodes and sends at every step, and its server replays the chunk: with PNG,
its default, and with its raw transport. Ours asks when a chunk is used up.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated, Any

import anyio
import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from vla_eval.benchmarks.base import StepBenchmark, StepResult
from vla_eval.connection import Connection
from vla_eval.model_servers.predict import PredictModelServer
from vla_eval.model_servers.serve import serve_async
from vla_eval.protocol.numpy_codec import set_image_format
from vla_eval.runners.sync_runner import SyncEpisodeRunner

from b1k_envs import base as env_base
from b1k_envs.mujoco_twin.env import TwinEnv
from b1k_envs.r1pro import ACTION_DIM, CONTROL_HZ, PROPRIO_DIM
from b1k_envs.tasks.table import get_task
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.loop.runner import run_episode
from b1k_eval.run.launch import episode_seed
from b1k_policies.base import ActionChunk, EpisodeInfo, Policy
from b1k_policies.remote.client import RemotePolicy
from b1k_policies.remote.gr00t.client import Gr00tPolicy
from b1k_policies.remote.gr00t.server import Gr00tServer
from b1k_policies.remote.server.app import PolicyServer
from b1k_policies.remote.server.batching import Batcher
from b1k_policies.remote.server.engine import Engine
from b1k_policies.remote.server.limits import Door, Quota, listen_on
from b1k_policies.remote.server.sessions import Terms
from b1k_policies.remote.wire.metadata import ServerInfo

HOST = "127.0.0.1"
TASK = get_task("clean_boxing_gloves")
CHUNK, HORIZON = 30, 10
_NOWHERE = env_base.AgentPositions(base=np.zeros(3), left_eef=np.zeros(3), right_eef=np.zeros(3))
_GOAL = env_base.GoalStatus(predicates={}, q_score=0.0, success=False)


def twin_observations(count: int) -> list[env_base.Observation]:
    """Return observations of a robot that turns on the spot, so that all pictures differ."""
    env = TwinEnv(TASK, protocol="2026", split="public-test", max_steps=10_000)
    env.reset(0, 0, 0)
    action = np.zeros(ACTION_DIM, dtype=np.float32)
    action[2], action[14], action[22] = 0.3, 1.0, 1.0
    seen = []
    for _ in range(count):
        for _ in range(HORIZON):
            env.step(action)
        seen.append(env.observe())
    env.close()
    return seen


class PictureEnv(env_base.Env):
    """A world that shows what was rendered beforehand, and ends only at its limit."""

    def __init__(self, observations: list[env_base.Observation], steps: int) -> None:
        self._observations = observations
        self._limit = steps
        self._step = 0

    def reset(self, instance: int, rollout: int, seed: int) -> None:
        self._step = 0

    def step(self, action: env_base.Float32Array) -> env_base.StepResult:
        self._step += 1
        return env_base.StepResult(
            step=self._step,
            time=self._step / CONTROL_HZ,
            terminated=False,
            truncated=self._step >= self._limit,
            agent=_NOWHERE,
        )

    def observe(self, *, images: bool = True) -> env_base.Observation:
        return self._observations[self._step // HORIZON % len(self._observations)]

    def goal(self) -> env_base.GoalStatus:
        return _GOAL

    def subgoals(self) -> dict[str, bool]:
        return {}

    def frame(self, *, light: bool = False) -> env_base.VideoFrame:
        raise NotImplementedError

    def privileged_state(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        return None


class FreePolicy(Policy):
    """Returns the same chunk whatever it is shown."""

    name = "free"
    chunk_length = CHUNK

    def __init__(self) -> None:
        self._actions = np.linspace(-0.5, 0.5, CHUNK * ACTION_DIM, dtype=np.float32)

    def reset(self, episode: EpisodeInfo) -> None:
        return None

    def infer(self, observation: env_base.Observation) -> ActionChunk:
        return ActionChunk(actions=self._actions.reshape(CHUNK, ACTION_DIM).copy())


EPISODE = EpisodeInfo(
    task=TASK.name,
    task_index=TASK.index,
    instruction=TASK.instruction,
    instance=0,
    rollout=0,
    seed=episode_seed(0, TASK.name, 0, 0),
    protocol="2026",
)


def ours(env: PictureEnv, policy: Policy) -> int:
    """Run one episode of our loop; returns its steps."""
    result = run_episode(env, policy, EPISODE, RecedingHorizon(HORIZON, policy.chunk_length))
    if result.outcome != "failure" or result.failure_reason is not None:
        raise SystemExit(f"an episode broke off: {result.message}")
    return result.steps


# --- vla-eval's own classes, filled in as its documentation has it -------------------------------


class TheirServer(PredictModelServer):
    """The free policy as a vla-eval model server that replays ten actions of a chunk."""

    def __init__(self) -> None:
        super().__init__(chunk_size=HORIZON)
        self._policy = FreePolicy()

    def predict(self, obs: Any, ctx: Any) -> dict[str, Any]:  # noqa: ANN401 - theirs
        return {"actions": self._policy._actions.reshape(CHUNK, ACTION_DIM)}


class TheirBenchmark(StepBenchmark):
    """The same world as a vla-eval benchmark, observed as its BEHAVIOR-1K benchmark does."""

    def __init__(self, env: PictureEnv) -> None:
        super().__init__()
        self._env = env

    def get_tasks(self) -> list[dict[str, Any]]:
        return [{"name": TASK.name}]

    def reset(self, task: Any) -> env_base.Observation:  # noqa: ANN401 - theirs
        self._env.reset(0, 0, 0)
        return self._env.observe()

    def step(self, action: Any) -> StepResult:  # noqa: ANN401 - theirs
        result = self._env.step(np.asarray(action["actions"], dtype=np.float32))
        return StepResult(
            obs=self._env.observe(), reward=0.0, done=result.truncated, info={"step": result.step}
        )

    def make_obs(self, raw_obs: env_base.Observation, task: Any) -> dict[str, Any]:  # noqa: ANN401
        return {
            "images": dict(raw_obs.images),
            "task_description": task["name"],
            "states": raw_obs.proprio,
        }

    def get_step_result(self, step_result: StepResult) -> dict[str, Any]:
        return {"success": False}


def theirs(env: PictureEnv, port: int, transport: str) -> int:
    """Run one episode of vla-eval's loop; returns its steps."""
    set_image_format(transport)  # type: ignore[arg-type]  # "png" or "raw"

    async def episode() -> int:
        async with Connection(f"ws://{HOST}:{port}") as connection:
            done = await SyncEpisodeRunner().run_episode(
                TheirBenchmark(env), {"name": TASK.name}, connection
            )
        return int(done["steps"])

    return anyio.run(episode)


def serve_theirs(port: int) -> None:
    """Serve the free policy as vla-eval does; the entry point of a process."""
    logging.disable(logging.WARNING)
    anyio.run(partial(serve_async, TheirServer(), HOST, port))


def serve_ours(port: int) -> None:
    """Serve the free policy as `b1k-eval serve` does; the entry point of a process."""
    batcher = Batcher(Engine(FreePolicy), most=16, window_s=0.0)
    terms = Terms(chunk_length=CHUNK, horizon=HORIZON, task=TASK)
    info = ServerInfo(name="free", chunk_length=CHUNK, skipped_rows=0, images="native", remarks=())
    server = PolicyServer(batcher, terms, Quota(rate=1e6), Door(HOST, None), info.as_metadata())
    asyncio.run(server.run(listen_on(HOST, port), lambda address, port: None))


def serve_gr00t(port: int) -> None:
    """Serve it as `b1k-eval serve --protocol gr00t` does; the entry point of a process."""
    policy = FreePolicy()
    batcher = Batcher(Engine(FreePolicy), most=16, window_s=0.0)
    terms = Terms(chunk_length=CHUNK, horizon=HORIZON, task=TASK, protocol="2025")
    server = Gr00tServer(batcher, terms, Quota(), Door(HOST, None), policy)
    server.run(listen_on(HOST, port), lambda address, port: None)


def as_in_2025(seen: env_base.Observation) -> env_base.Observation:
    """Return an observation with 256 numbers of state, as GR00T's protocol needs it."""
    return replace(seen, proprio=np.zeros(PROPRIO_DIM["2025"], np.float32), protocol="2025")


@contextmanager
def served(target: Callable[[int], None]) -> Iterator[int]:
    """Run a server process on a free port until the block ends."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(target=target, args=(port,), daemon=True)
    process.start()
    try:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex((HOST, port)) == 0:
                    break
            if not process.is_alive():
                raise SystemExit(f"{target.__name__} ended with {process.exitcode}")
        yield port
    finally:
        process.terminate()
        process.join()


def main(
    steps: Annotated[int, typer.Option(help="Control steps of an episode.")] = 300,
    repeats: Annotated[int, typer.Option(help="Episodes of every way.")] = 5,
    write: Annotated[Path | None, typer.Option(help="Write the table there, too.")] = None,
) -> None:
    """Measure all ways in turn and print the overhead per step."""
    observations = twin_observations(12)
    env = PictureEnv(observations, steps)
    env_2025 = PictureEnv([as_in_2025(seen) for seen in observations], steps)
    with (
        served(serve_ours) as our_port,
        served(serve_gr00t) as gr00t_port,
        served(serve_theirs) as their_port,
    ):
        remote = RemotePolicy(f"ws://{HOST}:{our_port}")
        gr00t = Gr00tPolicy(f"gr00t://{HOST}:{gr00t_port}")
        ways: dict[str, Callable[[], int]] = {
            "in process": partial(ours, env, FreePolicy()),
            "b1k-eval, served": partial(ours, env, remote),
            "b1k-eval, GR00T's protocol": partial(ours, env_2025, gr00t),
            "vla-eval 0.8, raw": partial(theirs, env, their_port, "raw"),
            "vla-eval 0.8, png (default)": partial(theirs, env, their_port, "png"),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(repeats + 1):
            for name, way in ways.items():
                begun = perf_counter()
                done = way()
                if number:  # the first episode is the warm-up
                    times[name].append(1e3 * (perf_counter() - begun) / done)
        remote.close()
        gr00t.close()
    per_step = {name: median(found) for name, found in times.items()}
    floor = per_step["in process"]
    over = {name: found - floor for name, found in per_step.items()}
    mine = over["b1k-eval, served"]
    table = Table("way", "ms per step", "over the floor [ms]", "of ours", box=None)
    for name, found in per_step.items():
        ratio = "" if name == "in process" else f"{over[name] / mine:.1f}"
        table.add_row(name, f"{found:.4f}", f"{over[name]:.4f}", ratio)
    lines = Console(record=True, width=90)
    lines.print(
        f"{steps} steps, chunk {CHUNK}, horizon {HORIZON}, pictures 720 + 2 x 480, "
        f"median of {repeats} episodes"
    )
    lines.print(table)
    if write is not None:
        write.write_text(lines.export_text(), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
