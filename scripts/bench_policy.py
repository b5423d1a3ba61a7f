# ruff: noqa: TID253 - a bench of models imports torch; nothing imports the bench
"""Measure what a checkpoint costs between observation and chunk: floors and ratios, in one process.

    python scripts/bench_policy.py [--repeats 30] [--write FILE]
    python scripts/bench_policy.py --real-widths --device cuda [--write FILE]

The first runs the tiny checkpoints: pictures compared with PIL, and what the policy adds to its
model. The second times a stand-in with random weights and the widths of the DA3-XVLA v17 card, on
the device. All ways of one figure are measured in turn, so that a busy neighbour affects them
alike; figures are medians.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Annotated

import numpy as np
import torch
import typer
from make_tiny_checkpoint import make_tiny_checkpoint
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.functional import avg_pool2d, scaled_dot_product_attention

from b1k_envs.base import Observation, make_several
from b1k_envs.mujoco_twin.env import TwinEnv
from b1k_envs.tasks.table import get_task
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.loop.driver import drive
from b1k_eval.loop.events import EpisodeResult
from b1k_eval.loop.runner import episode_loop
from b1k_policies.base import EpisodeInfo, Query
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.contract.contract import EvalContract
from b1k_policies.contract.presets import PRESETS, V17
from b1k_policies.xvla.batch import Batch, build_batch, extract_proprio, extrinsics
from b1k_policies.xvla.policy import XVLAPolicy
from b1k_policies.xvla.silence import quietly

TASK = get_task("clean_boxing_gloves")
LINE_MS = 1000 * 10 / 30
"""Time an inference may take if ten actions of every chunk are executed: ten control steps [ms]."""

Row = tuple[str, str, str]
Times = dict[str, list[float]]


def timed(
    ways: dict[str, Callable[[], object]],
    repeats: int,
    clock: Callable[[], float] = perf_counter,
    sync: Callable[[], object] = lambda: None,
) -> Times:
    """Return the times of each way [ms], taken in turn after one call of each to warm up."""
    times: Times = {name: [] for name in ways}
    for number in range(repeats + 1):
        for name, way in ways.items():
            sync()
            begun = clock()
            way()
            sync()
            if number:
                times[name].append(1e3 * (clock() - begun))
    return times


def cpu_clock() -> Callable[[], float]:
    """Return a clock of this process's CPU time if it has one thread: neighbours do not affect it.

    Threads that wait for each other use CPU time, too, so several are timed by wall time.
    """
    return process_time if torch.get_num_threads() == 1 else perf_counter


def clock_of(device: torch.device) -> tuple[Callable[[], float], Callable[[], object]]:
    """Return the clock for a model on a device, and what to call before it is read."""
    if device.type == "cuda":
        return perf_counter, torch.cuda.synchronize
    return cpu_clock(), lambda: None


def machine_load() -> str:
    one, five, _ = os.getloadavg()
    return f"{one:.1f}, {five:.1f}; {os.cpu_count()}"


# --- observation to batch ----------------------------------------------------------------------


def rendered() -> Observation:
    """Return the twin's first observation: a 720 px head and two 480 px wrists."""
    env = TwinEnv(TASK, protocol="2026", split="public-test", max_steps=10)
    env.reset(0, 0, 0)
    observation = env.observe()
    env.close()
    return observation


def pil_images(observation: Observation, contract: EvalContract) -> np.ndarray:
    """Return the pictures as most clients make them, by PIL, float32 [1, V, 3, S, S]."""
    size = (contract.image_size, contract.image_size)
    mean, std = np.float32(contract.image_mean), np.float32(contract.image_std)
    planes = []
    for view in contract.view_order:
        resized = Image.fromarray(observation.images[view]).resize(size, Image.Resampling.BICUBIC)
        levels = np.asarray(resized, dtype=np.float32) / np.float32(255)
        planes.append(((levels - mean) / std).transpose(2, 0, 1))
    return np.ascontiguousarray(np.stack(planes)[None])


def pil_batch(observation: Observation, contract: EvalContract, ids: torch.Tensor) -> Batch:
    """Return the same batch with pictures made by PIL."""
    return {
        "input_ids": ids,
        "image_input": torch.from_numpy(pil_images(observation, contract)),
        "image_mask": torch.ones(1, len(contract.view_order), dtype=torch.bool),
        "proprio": torch.from_numpy(extract_proprio(observation, contract))[None],
        "domain_id": torch.full((1,), contract.domain_id),
        "extrinsics": torch.from_numpy(extrinsics(observation, contract))[None],
        "intrinsics": torch.from_numpy(contract.intrinsics_matrices.astype(np.float32))[None],
    }


def check_same(ours: Batch, pils: Batch, contract: EvalContract) -> None:
    """Check that batches are equal, except for pictures, as PIL rounds twice and torch once."""
    if any(not torch.equal(ours[name], pils[name]) for name in pils if name != "image_input"):
        raise SystemExit(f"{contract.name}: the two batches differ beside the pictures")
    std = torch.tensor(contract.image_std).reshape(3, 1, 1)
    levels = (255 * std * (ours["image_input"] - pils["image_input"])).abs()
    # Within a level of PIL's, but for some tens of values in a million (see `xvla.images`).
    if levels.max() > 2.1 or (levels > 1.1).float().mean() > 1e-4:
        raise SystemExit(f"{contract.name}: the pictures differ by more than rounding")


def batch_rows(observation: Observation, repeats: int) -> list[Row]:
    rows = []
    for name in ("v17", "v4"):
        contract = PRESETS[name]
        ids = torch.zeros(1, contract.language_length, dtype=torch.int64)
        check_same(
            build_batch([observation], contract, ids),
            pil_batch(observation, contract, ids),
            contract,
        )
        times = timed(
            {
                "ours": lambda c=contract, i=ids: build_batch([observation], c, i),
                "pil": lambda c=contract, i=ids: pil_batch(observation, c, i),
            },
            repeats,
            cpu_clock(),
        )
        ours, pil = median(times["ours"]), median(times["pil"])
        wanted = ("< 3 ms", "> 5") if name == "v17" else ("", "")
        rows += [
            (f"{name}: observation to batch, three full-size views", f"{ours:.2f} ms", wanted[0]),
            (f"{name}: the same batch with PIL and numpy / that", f"{pil / ours:.1f}", wanted[1]),
        ]
    return rows


# --- what the policy adds to its model ---------------------------------------------------------


def episode() -> EpisodeInfo:
    return EpisodeInfo(
        task=TASK.name,
        task_index=TASK.index,
        instruction=TASK.instruction,
        instance=0,
        rollout=0,
        seed=0,
        protocol="2026",
    )


def policy_rows(
    observation: Observation, repeats: int, device: str, batches: list[int]
) -> list[Row]:
    """Measure the tiny models: the share of hooks and bookkeeping, and inferences."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("v17", "v4"):
            with quietly():
                make_tiny_checkpoint(name, Path(folder) / name)
            request = CheckpointRequest(ckpt=str(Path(folder) / name), device=device)
            policy = XVLAPolicy(request)
            policy.reset(episode())
            other = XVLAPolicy(request)
            bare = other.model.model.generate_actions
            other.close()  # removes its hooks from the model
            rows += share_rows(name, policy, bare, observation, repeats)
            rows += inference_rows(name, policy, observation, repeats, batches)
            policy.close()
    return rows


def world_rows(device: str, counts: Sequence[int] = (1, 4, 8, 16), steps: int = 50) -> list[Row]:
    """Measure observations answered per second by the v17 tiny model, for N twins in a process.

    Whole episodes with their rendering and physics, not inferences alone. Resets are not counted,
    nor a first round, in which every twin uploads its pictures to OpenGL.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        with quietly():
            make_tiny_checkpoint("v17", Path(folder) / "v17")
        policy = XVLAPolicy(CheckpointRequest(ckpt=str(Path(folder) / "v17"), device=device))
        for count in counts:
            make = partial(TwinEnv, TASK, protocol="2026", split="public-test", max_steps=steps - 1)
            worlds = make_several(make, count)
            for _ in range(2):
                results: dict[int, EpisodeResult] = {}
                loops = {
                    n: episode_loop(
                        worlds.envs[n],
                        policy,
                        replace(episode(), instance=n),
                        RecedingHorizon(10, policy.chunk_length),
                    )
                    for n in range(count)
                }
                begun = perf_counter()
                drive(loops, worlds, results.__setitem__)
                took = perf_counter() - begun - results[0].timing.reset_s
            worlds.close()
            answered = sum(result.inferences for result in results.values())
            rows.append(
                (f"v17: observations per second, {count} twins", f"{answered / took:.1f}", "")
            )
        policy.close()
    return rows


def share_rows(
    name: str,
    policy: XVLAPolicy,
    generate_actions: Callable[..., object],
    observation: Observation,
    repeats: int,
) -> list[Row]:
    """Measure what surrounds the model, by the same calls around one that only asks its heads.

    Not as `infer` minus the model: the difference of two times of 40 ms is lost in their noise.
    """
    query = Query(observation=observation, instruction=TASK.instruction, seed=0)
    device = policy.model.device
    batch = policy.prepare([query])
    ready = {key: tensor.to(device) for key, tensor in batch.items()}
    whole, bare = policy.generate, generate_actions.__self__
    answer = policy.predict(batch, [0]).actions
    chunk = torch.from_numpy(answer).to(device)
    pooled = torch.zeros(1, bare.skill_classifier.in_features, device=device)

    def ask(model: torch.nn.Module) -> torch.Tensor:
        model.skill_classifier(pooled)
        model.progress_head(pooled)
        return chunk

    def around() -> None:
        policy.generate = lambda **_: ask(policy.model.model)
        try:
            policy.read(policy.predict(batch, [0]), [query])
        finally:
            policy.generate = whole

    def heads() -> None:
        with torch.inference_mode():
            ask(bare)

    def model() -> None:
        with torch.inference_mode():
            generate_actions(**ready, steps=policy.contract.denoising_steps)

    times = timed({"around": around, "heads": heads, "model": model}, repeats, *clock_of(device))
    added = [one - other for one, other in zip(times["around"], times["heads"], strict=True)]
    share = median(added) / median(times["model"])
    return [
        (f"{name}: hooks and bookkeeping of an inference", f"{median(added):.2f} ms", ""),
        (f"{name}: the same, share of the tiny model's inference", f"{share:.1%}", "< 2 %"),
    ]


def inference_rows(
    name: str, policy: XVLAPolicy, observation: Observation, repeats: int, batches: list[int]
) -> list[Row]:
    def ask(count: int) -> Callable[[], object]:
        queries = [
            Query(observation=observation, instruction=TASK.instruction, seed=seed)
            for seed in range(count)
        ]
        return lambda: policy.infer_batch(queries)

    ways = {str(count): ask(count) for count in batches}
    times = timed(ways, max(1, repeats // 3), *clock_of(policy.model.device))
    return [
        (
            f"{name}: inference of the tiny model, batch of {count}, per observation",
            f"{median(times[str(count)]) / count:.1f} ms",
            "",
        )
        for count in batches
    ]


# --- real widths ---------------------------------------------------------------------------------


class Layer(nn.Module):
    """A transformer layer that normalises the input before each part."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // 64
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inner = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer: float [B, N, W] to float [B, N, W]."""
        qkv = self.qkv(self.norms[0](x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        x = x + self.out(scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        return x + self.inner(self.norms[1](x))


def stack(width: int, depth: int) -> nn.Sequential:
    return nn.Sequential(*(Layer(width) for _ in range(depth)))


class StandIn(nn.Module):
    """A model with the parameters and tokens of DA3-XVLA v17, in plain layers of random weights.

    The action transformer has the card's width and depth. Florence-2-large (0.8 B) is a vision
    transformer of 0.63 B and BART-large's encoder; DA3-LARGE is a ViT-L at 224 px whose last third
    attends across the views. What a pass does not prove: that the real model is as fast.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()

        def width(full: int) -> int:
            return max(64, round(full * scale / 64) * 64)

        def depth(full: int) -> int:
            return max(1, round(full * scale))

        self.width = w = width(1024)
        self.words = nn.Embedding(51_289, w)
        self.see = nn.Conv2d(3, width(1280), 16, stride=16)
        self.vision, self.seen = stack(width(1280), depth(32)), nn.Linear(width(1280), w)
        self.language = stack(w, depth(12))
        self.patches = nn.Conv2d(3, w, 14, stride=14)
        self.rays = nn.Linear(12 + 9, w)
        self.each_view, self.all_views = stack(w, depth(16)), stack(w, depth(8))
        self.action, self.proprio = nn.Linear(23, w), nn.Linear(23, w)
        self.prompts = nn.Embedding(34, 32 * w)
        self.transformer, self.output = stack(w, depth(24)), nn.Linear(w, 23)
        self.skill_classifier, self.progress_head = nn.Linear(w, 34), nn.Linear(w, 1)

    def context(
        self,
        input_ids: torch.Tensor,
        image_input: torch.Tensor,
        extrinsics: torch.Tensor,
        intrinsics: torch.Tensor,
        proprio: torch.Tensor,
    ) -> torch.Tensor:
        """Return all tokens except the chunk's, float [B, 50 + 3 x 49 + 240 + 32 + 1, W]."""
        pictures, count = image_input.flatten(0, 1), len(image_input)
        tokens = self.vision(self.see(pictures).flatten(2).transpose(1, 2))
        grid = tokens.transpose(1, 2).unflatten(-1, (14, 14))
        seen = self.seen(avg_pool2d(grid, 2).flatten(2).transpose(1, 2)).unflatten(0, (count, -1))
        said = self.language(torch.cat([seen[:, 0], self.words(input_ids)], dim=1))
        camera = torch.cat([extrinsics[..., :3, :].flatten(2), intrinsics.flatten(2)], dim=-1)
        rays = self.rays(camera.to(proprio.dtype)).flatten(0, 1)[:, None]
        views = self.each_view(self.patches(pictures).flatten(2).transpose(1, 2) + rays)
        geometry = self.all_views(views.unflatten(0, (count, -1)).flatten(1, 2))[:, :240]
        pooled = said.mean(dim=1)
        self.progress_head(pooled)
        prompts = self.prompts(self.skill_classifier(pooled).argmax(-1)).unflatten(-1, (32, -1))
        state = self.proprio(proprio)[:, None]
        return torch.cat([said, seen[:, 1:].flatten(1, 2), geometry, prompts, state], dim=1)

    def generate_actions(self, batch: Batch) -> torch.Tensor:
        """Denoise in ten steps from noise, [B, 30, 23] in the weights' dtype."""
        names = ("input_ids", "image_input", "extrinsics", "intrinsics", "proprio")
        context = self.context(*(batch[name] for name in names))
        chunk = torch.randn(len(context), 30, 23, dtype=context.dtype, device=context.device)
        steps = V17.denoising_steps
        for _ in range(steps):
            rows = self.transformer(torch.cat([self.action(chunk), context], dim=1))[:, :30]
            chunk = chunk + (self.output(rows) - chunk) / steps
        return chunk


def real_rows(
    observation: Observation,
    repeats: int,
    device: str,
    batches: list[int],
    scale: float,
    *,
    compiled: bool,
) -> list[Row]:
    """Measure the stand-in in bfloat16, eager and compiled."""
    torch.manual_seed(0)
    with torch.device(device):
        model = StandIn(scale).to(torch.bfloat16).eval().requires_grad_(False)
    on_gpu = torch.device(device).type == "cuda"
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    what = torch.cuda.get_device_name() if on_gpu else "CPU"
    rows = [("stand-in of real widths, bfloat16; its device", f"{millions:.0f} M; {what}", "")]
    ways = {"eager": model.generate_actions}
    if compiled:
        ways["compiled"] = torch.compile(model.generate_actions, dynamic=False)
    for count in batches:
        ids = torch.zeros(count, V17.language_length, dtype=torch.int64)
        batch = build_batch([observation] * count, V17, ids)
        for name, tensor in batch.items():
            low = name in ("image_input", "proprio")  # the inputs that the policy casts
            batch[name] = tensor.to(device, torch.bfloat16 if low else None)

        def ask(way: Callable[[Batch], torch.Tensor], batch: Batch = batch) -> None:
            with torch.inference_mode():
                way(batch)

        times = timed(
            {name: lambda w=way: ask(w) for name, way in ways.items()},
            repeats,
            *clock_of(torch.device(device)),
        )
        wanted = f"< {LINE_MS:.0f} ms" if count == 1 else ""
        for name in ways:
            took = median(times[name])
            rows.append((f"{name}, batch of {count}", f"{took:.1f} ms", wanted))
            rows.append(("... per observation", f"{took / count:.1f} ms", ""))
    if on_gpu:
        peak = torch.cuda.max_memory_allocated() / 2**30
        rows.append(("GPU memory at most", f"{peak:.1f} GiB", ""))
    return rows


def main(
    repeats: Annotated[int, typer.Option(min=1, help="Calls per figure.")] = 30,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Of torch, on the CPU.")] = 1,
    batches: Annotated[str, typer.Option(help="Observations in an inference.")] = "1,4,16",
    real_widths: Annotated[
        bool, typer.Option("--real-widths", help="The stand-in of the card's widths instead.")
    ] = False,
    compiled: Annotated[
        bool, typer.Option("--compile/--no-compile", help="Time the stand-in compiled as well.")
    ] = True,
    scale: Annotated[float, typer.Option(hidden=True, help="Of the stand-in's widths.")] = 1.0,
    write: Annotated[Path | None, typer.Option(help="Also as Markdown, into this file.")] = None,
) -> None:
    """Print a table of figures, measured and wanted."""
    torch.set_num_threads(threads)
    sizes = [int(size) for size in batches.split(",")]
    observation = rendered()
    rows = [
        ("load of the machine, 1 and 5 min; its cores", machine_load(), ""),
        ("torch; its threads", f"{torch.__version__}; {threads}", ""),
    ]
    if real_widths:
        rows += real_rows(observation, repeats, device, sizes, scale, compiled=compiled)
    else:
        rows += batch_rows(observation, repeats)
        rows += policy_rows(observation, repeats, device, sizes)
        rows += world_rows(device)
    table = Table("figure", "measured", "wanted")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    if write is not None:
        lines = ["| figure | measured | wanted |", "|---|---|---|"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        write.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
