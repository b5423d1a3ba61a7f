#!/usr/bin/env python3
"""Make demonstrations of task 31 in the twin, for `train_twin_policy.py`.

    python scripts/twin_demos.py FOLDER --instances 0-199 [--seed 1] [--workers 2] [--pictures 5]

One file an episode, in the format of `twin_policy.demos`. What is there already is not made again,
so a run that was stopped goes on where it was. Episodes that fail are dropped, and noted.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from twin_policy.closed_loop import Pilot, TakingTurns
from twin_policy.demos import DemoSettings, make_env, name_of, record, write
from twin_policy.recipe import FAULTS, Recipe

from b1k_eval.selection import parse_instances
from b1k_policies.xvla.files.folder import SHIPPED


def _work(
    folder: Path,
    settings: DemoSettings,
    instances: list[int],
    seed: int,
    policy: str,
    recipe: Recipe,
    oracle: bool,
) -> None:
    env = make_env(settings)
    model = ids = None
    if policy:
        import torch
        from twin_policy.training import load_model

        torch.set_num_threads(1)
        path = Path(policy)
        model, ids = load_model(path if path.is_dir() else SHIPPED / policy, recipe)
    for instance in instances:
        name = name_of(settings, instance, seed)
        if (folder / name).exists() or (folder / name).with_suffix(".failed").exists():
            continue
        begun = time.perf_counter()
        drive = None
        if model is not None:
            rng = np.random.default_rng([seed, instance, 9])
            drive = TakingTurns(Pilot(model, ids, oracle=oracle, recipe=recipe), rng)
        arrays = record(env, instance, seed, settings, drive)
        write(folder, name, arrays)
        steps = "failed" if arrays is None else f"{len(arrays['command'])} steps"
        print(f"{name}: {steps}, {time.perf_counter() - begun:.1f} s", flush=True)
    env.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--instances", default="0-199", help="of the split, like 0-99 or 3,7-9")
    parser.add_argument("--seed", type=int, default=1, help="of noise and shoves (default 1)")
    parser.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--pictures", type=int, default=0, help="every so many steps (0: none)")
    parser.add_argument("--noise", default=DemoSettings.noise, help="as --action-noise; '' is none")
    parser.add_argument(
        "--policy",
        default="",
        help="folder of a training, or a checkpoint like twin-v17: its policy drives in turns",
    )
    parser.add_argument("--version", choices=("v17", "v4"), default="v17", help="of that policy")
    parser.add_argument("--fault", action="append", default=[], choices=FAULTS, help="of v4's")
    parser.add_argument("--oracle", action="store_true", help="tell that policy the true places")
    parser.add_argument("--protocol", choices=("2025", "2026"), default="2026")
    arguments = parser.parse_args()
    recipe = Recipe.of(arguments.version, arguments.fault)
    instances = [*parse_instances(arguments.instances)]
    settings = replace(
        DemoSettings(),
        noise=arguments.noise,
        protocol=arguments.protocol,
        pictures_every=arguments.pictures,
    )
    arguments.folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")  # a forked process may not use EGL
    count = arguments.workers
    shares = [instances[i::count] for i in range(count)]
    common = (arguments.seed, arguments.policy, recipe, arguments.oracle)
    jobs = [(arguments.folder, settings, share, *common) for share in shares]
    processes = [context.Process(target=_work, args=job) for job in jobs[1:]]
    for process in processes:
        process.start()
    _work(*jobs[0])
    for process in processes:
        process.join()


if __name__ == "__main__":
    main()
