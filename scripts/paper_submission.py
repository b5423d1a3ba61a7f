"""Work out on paper how long a challenge submission takes on 1, 8 and 64 GPUs.

    python scripts/paper_submission.py [--instances 10] [--write FILE]

Nothing is run: steps come from the task table, speeds from what others published, and each number
that is nobody's is an assumption. Episodes are handed out by the `Dealer` of a run, one world a
GPU; a GPU that gets another task loads its scene.

Sources: steps a second and loading a scene, the benchmark's documentation and RLinf's; human
lengths, `b1k_envs.tasks.table`; the harness's own time a step, `scripts/bench_episode.py`.
"""

from __future__ import annotations

import heapq
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from b1k_envs.tasks.table import TASKS, Task, get_task
from b1k_eval.run.dealing import Dealer
from b1k_policies.base import EpisodeInfo

STEPS_PER_S = {"RGB 720/480": 20.6, "RGB-D 720/480": 13.5}
"""Of one environment with random actions on an RTX 4090, by the benchmark's documentation."""
LOAD_S = 300.0  # the longer of the 150 to 300 s published
RESET_S = 20.0  # assumed: loading an instance and two resets
HARNESS_S = 0.05e-3
HORIZON = 10


class Case(NamedTuple):
    """A submission: what is rendered, how slow the policy is, how many episodes succeed."""

    cameras: str
    inference_s: float
    successes: float

    def episode_s(self, task: Task) -> float:
        """Mean wall time of an episode; a success takes as long as a human."""
        steps = task.max_steps("2026") * (1 - self.successes) + task.human_steps * self.successes
        step_s = 1 / STEPS_PER_S[self.cameras] + HARNESS_S + self.inference_s / HORIZON
        return RESET_S + steps * step_s


CASES = (
    Case("RGB 720/480", 0.0, 0.0),
    Case("RGB 720/480", 0.2, 0.0),
    Case("RGB 720/480", 0.2, 0.5),
    Case("RGB-D 720/480", 0.2, 0.0),
)
GPUS = (1, 8, 64)


def hours(case: Case, gpus: int, instances: int) -> tuple[float, float]:
    """Time until the last episode has ended [h], and the share of that which the GPUs work."""
    dealer = Dealer(
        EpisodeInfo(
            task=task.name, task_index=task.index, instruction=task.instruction,
            instance=instance, rollout=0, seed=0, protocol="2026",
        )
        for task in TASKS
        for instance in range(instances)
    )  # fmt: skip
    free = [(0.0, gpu) for gpu in range(gpus)]
    worlds: list[str | None] = [None] * gpus
    while len(dealer):
        now, gpu = heapq.heappop(free)
        task = dealer.task_for(worlds[gpu], [world for world in worlds if world != worlds[gpu]])
        dealer.take(task)
        load_s = 0.0 if worlds[gpu] == task else LOAD_S
        worlds[gpu] = task
        heapq.heappush(free, (now + load_s + case.episode_s(get_task(task)), gpu))
    ends = [end for end, _ in free]
    return max(ends) / 3600, sum(ends) / (gpus * max(ends))


def main(
    instances: Annotated[int, typer.Option(help="Instances of each task.")] = 10,
    write: Annotated[Path | None, typer.Option(help="Write the table into this file.")] = None,
) -> None:
    lines = [
        "| rendered | an inference | succeed | "
        + " | ".join(f"{gpus} GPU{'s' * (gpus > 1)}" for gpus in GPUS)
        + f" | busy, of {GPUS[-1]} |",
        "|---" * (len(GPUS) + 4) + "|",
    ]
    for case in CASES:
        found = [hours(case, gpus, instances) for gpus in GPUS]
        times = " | ".join(f"{time:.0f} h" if time > 30 else f"{time:.1f} h" for time, _ in found)
        which = f"{case.cameras} | {case.inference_s * 1e3:.0f} ms | {case.successes:.0%}"
        lines.append(f"| {which} | {times} | {found[-1][1]:.0%} |")
    text = "\n".join(lines) + "\n"
    typer.echo(text, nl=False)
    if write is not None:
        write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
