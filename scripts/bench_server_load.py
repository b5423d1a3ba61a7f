"""Load one server with many clients: is every chunk right, how long does it take, who shares it.

    python scripts/bench_server_load.py [--ckpt DIR] [--clients 16] [--seconds 600]

Every client plays short episodes, as fast as it is answered, and compares each chunk with the one
that the checkpoint gives in this process for that client, episode and inference. Any two of these
differ by more than batches may round, so a lost or crossed session cannot pass. Without --ckpt it
is the tiny v17 checkpoint of make_tiny_checkpoint.py, so latencies are the server's, not a model's.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from b1k_envs.base import VIEWS, Observation
from b1k_envs.r1pro import CAMERAS, PROPRIO_DIM
from b1k_envs.tasks.table import get_task
from b1k_policies.base import Query
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.remote.wire.codec import pack, unpack
from b1k_policies.remote.wire.messages import Announcement, read_answer, reset_message, to_wire
from b1k_policies.remote.wire.observations import camera_poses
from b1k_policies.seeding import inference_seed
from b1k_policies.xvla.policy import XVLAPolicy

TASK = get_task(31)
ROUNDING = 1e-3
"""Largest difference of a number in a batch; the least difference of two chunks is printed."""
ANSWER_S = 120.0
START_S = 600.0


@dataclass
class Ledger:
    """The record of what one client saw."""

    latencies: list[float] = field(default_factory=list)  # [s]
    shares: float = 0.0  # number of inferences, 1/n for one that n observations shared
    worst: float = 0.0  # largest deviation from the expected chunk
    wrong: int = 0
    failed: str | None = None


def made_observation(number: int) -> Observation:
    """Make an observation with its own numbers, and native pictures each of its own colour."""
    random = np.random.default_rng(number)
    poses = np.tile(np.array([0, 0, 1, 0, 0, 0, 1], np.float32), 3)
    poses[[0, 7, 14]] = random.uniform(-1, 1, 3)
    images = {}
    for view in VIEWS:
        size = CAMERAS[view].size
        images[view] = np.empty((size, size, 3), np.uint8)
        images[view][:] = random.integers(0, 256, 3)
    return Observation(
        images=images,
        camera_to_base=camera_poses(poses),
        cam_rel_poses=poses,
        proprio=random.uniform(-1, 1, PROPRIO_DIM["2026"]).astype(np.float32),
        protocol="2026",
        task_index=TASK.index,
        step=0,
        time=0.0,
    )


def expected_chunks(ckpt: Path, clients: int, inferences: int) -> np.ndarray:
    """Compute float32 [clients, inferences, T, 23]; client c has seed c, all see the same."""
    policy = XVLAPolicy(CheckpointRequest(ckpt=str(ckpt)), instruction=TASK.instruction)
    chunks = []
    for client in range(clients):
        for number in range(inferences):
            query = Query(
                observation=made_observation(number),
                instruction=TASK.instruction,
                seed=inference_seed(client, number),
            )
            chunks.append(policy.infer_batch([query])[0].actions)
    policy.close()
    return np.stack(chunks).reshape(clients, inferences, *chunks[0].shape)


def least_difference(chunks: np.ndarray) -> float:
    """Return the largest difference between the two chunks that are most alike."""
    flat = chunks.reshape(-1, chunks.shape[2] * chunks.shape[3])
    least = np.inf
    for number in range(1, len(flat)):
        least = min(least, float(np.abs(flat[:number] - flat[number]).max(axis=1).min()))
    return least


def play(url: str, client: int, expected: np.ndarray, end: float, ledger: Ledger) -> None:
    """Play episodes as one client until `end`; an error ends it and goes into the ledger."""
    rows = expected.shape[1]
    messages = [
        pack(to_wire(made_observation(number), batch=True, rows=rows, extended=True))
        for number in range(len(expected))
    ]
    try:
        with connect(url, compression=None, max_size=None) as socket:
            socket.recv(timeout=ANSWER_S)
            while time.monotonic() < end:
                socket.send(pack(reset_message(Announcement(seed=client, instance=0, rollout=0))))
                for message, chunk in zip(messages, expected, strict=True):
                    began = time.monotonic()
                    socket.send(message)
                    data = socket.recv(timeout=ANSWER_S)
                    ledger.latencies.append(time.monotonic() - began)
                    if isinstance(data, str):
                        raise RuntimeError(data)
                    answer = read_answer(unpack(data), rows=rows)
                    off = float(np.abs(answer.actions - chunk).max())
                    ledger.worst = max(ledger.worst, off)
                    ledger.wrong += off > ROUNDING
                    ledger.shares += 1 / answer.timing["together"]
    except (WebSocketException, OSError, RuntimeError, TimeoutError) as error:
        ledger.failed = f"{type(error).__name__}: {error}"


@contextmanager
def server_of(ckpt: Path, clients: int, max_batch: int, window_ms: float) -> Iterator[str]:
    """Run `b1k-eval serve` as a process, and give its address."""
    command = [
        *(sys.executable, "-c", "from b1k_eval.cli.main import main; main()", "serve"),
        *("--ckpt", str(ckpt), "--port", "0", "--json", "--max-clients", str(clients)),
        *("--max-batch", str(max_batch), "--batch-window-ms", str(window_ms)),
    ]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            log.seek(0)
            raise SystemExit(log.read().decode())
        try:
            yield json.loads(line)["url"]
        finally:
            process.terminate()
            if process.wait(START_S) != 0:
                log.seek(0)
                sys.stderr.write(log.read().decode()[-4000:])


def tiny_checkpoint(folder: Path) -> Path:
    """Make the tiny v17 checkpoint."""
    script = Path(__file__).with_name("make_tiny_checkpoint.py")
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec is not None
    assert spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    maker.make_tiny_checkpoint("v17", folder)
    return folder


def figures(ledgers: list[Ledger], seconds: float, least: float) -> list[tuple[str, str]]:
    """Return the results as rows of a table."""
    latencies = 1e3 * np.array([one for ledger in ledgers for one in ledger.latencies])
    shares = sum(ledger.shares for ledger in ledgers)
    percentiles = (
        [f"{value:.0f}" for value in np.percentile(latencies, (50, 90, 99, 100))]
        if len(latencies)
        else ["-"] * 4
    )
    each = [len(ledger.latencies) for ledger in ledgers]
    return [
        ("clients; cores", f"{len(ledgers)}; {os.cpu_count()}"),
        ("duration", f"{seconds:.0f} s"),
        ("chunks received", f"{len(latencies)}, {len(latencies) / seconds:.1f} per second"),
        ("... per client, fewest and most", f"{min(each)}, {max(each)}"),
        ("latency, 50 / 90 / 99 / 100 %", f"{' / '.join(percentiles)} ms"),
        ("observations per inference", f"{len(latencies) / shares:.2f}" if shares else "-"),
        ("chunks that were another's or nobody's", str(sum(one.wrong for one in ledgers))),
        ("largest deviation", f"{max(one.worst for one in ledgers):.2g}"),
        ("least difference of two expected chunks", f"{least:.2g}"),
        ("clients that failed", str(sum(one.failed is not None for one in ledgers))),
    ]


def main(
    ckpt: Annotated[Path | None, typer.Option(help="Checkpoint; the tiny v17 if none.")] = None,
    clients: Annotated[int, typer.Option(min=1, help="Connections at once.")] = 16,
    seconds: Annotated[float, typer.Option(min=1.0, help="How long.")] = 600.0,
    inferences: Annotated[int, typer.Option(min=1, help="Of an episode.")] = 8,
    max_batch: Annotated[int, typer.Option(min=1, help="As of serve.")] = 16,
    batch_window_ms: Annotated[float, typer.Option(min=0.0, help="As of serve.")] = 5.0,
    url: Annotated[
        str | None, typer.Option(help="A server of that checkpoint that runs already.")
    ] = None,
    write: Annotated[Path | None, typer.Option(help="Also as Markdown, into this file.")] = None,
) -> None:
    """Print a table of figures; exit code 1 if a chunk was wrong or a client failed."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = ckpt or tiny_checkpoint(Path(scratch) / "tiny_v17")
        expected = expected_chunks(folder, clients, inferences)
        least = least_difference(expected)
        # With less distance a chunk of another client could pass for a rounded one.
        if least <= 2 * ROUNDING:
            raise SystemExit(f"two expected chunks differ by {least:.2g} only: nothing is proved")
        ledgers = [Ledger() for _ in range(clients)]
        with (
            _given(url) if url else server_of(folder, clients, max_batch, batch_window_ms) as place
        ):
            began = time.monotonic()
            threads = [
                threading.Thread(
                    target=play, args=(place, number, expected[number], began + seconds, ledger)
                )
                for number, ledger in enumerate(ledgers)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            took = time.monotonic() - began
    rows = figures(ledgers, took, least)
    table = Table("figure", "measured")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    for number, ledger in enumerate(ledgers):
        if ledger.failed is not None:
            Console(stderr=True).print(f"client {number}: {ledger.failed}", markup=False)
    if write is not None:
        lines = ["| figure | measured |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)]
        write.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if any(ledger.failed is not None or ledger.wrong for ledger in ledgers):
        raise SystemExit(1)


@contextmanager
def _given(url: str) -> Iterator[str]:
    yield url


if __name__ == "__main__":
    typer.run(main)
