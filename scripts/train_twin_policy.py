#!/usr/bin/env python3
"""Train a small policy of task 31 in the twin, and save it as a checkpoint folder.

    python scripts/twin_demos.py DATA/demos --instances 0-99 --workers 2
    python scripts/train_twin_policy.py DATA OUT [--minutes 120] [--seed 0] [--version v4]

Four phases share the time, which is CPU time, on two cores: control from the true places, while
snapshots are taken; both eyes from those; and control again with the eyes' own errors (joint). That
is broken off four times, for the policy to drive in turns with the expert (OUT/on_policy). Every
few minutes a phase is kept in OUT/PHASE.pt, what was measured goes to OUT/log.txt, and the same
command goes on where it was. At the end, and with `--only save` at any time, OUT/ckpt is a
checkpoint folder in the v17 format. `--version v4` trains with all that the card says was wrong
with v4, `--fault NAME` with one of it.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch
from twin_policy.checkpoint import hand_in_camera, save
from twin_policy.data import load_demos, load_snapshots
from twin_policy.eyes import EYES, error_bank, held_out, train_eye
from twin_policy.recipe import FAULTS, Recipe
from twin_policy.training import PARTS, Session, adopt, load_model, sessions_in, train_control

from b1k_eval.selection import parse_instances

SHARES = {"control": 0.12, "head": 0.2, "wrist": 0.24, "joint": 0.44}
"""Of the time."""
_BREAKS = (0.25, 0.4, 0.55, 0.7)
"""Shares of the joint phase after which the policy drives.

Before the first round it stopped short of the door's handle, where the expert would go over to the
next leg, however small its loss; eight minutes after it two of three episodes succeeded.
"""

Command = list[str]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with demos/; snapshots/ is made there")
    parser.add_argument("out", type=Path, help="folder of the training")
    parser.add_argument("--minutes", type=float, default=120.0, help="of CPU, for all phases")
    parser.add_argument("--snapshots", type=int, default=18_000, help="how many (default 18,000)")
    parser.add_argument("--driven", default="0-59", help="of train, for the policy to drive in")
    parser.add_argument("--every", type=float, default=4.0, help="minutes between reports")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--version", choices=("v17", "v4"), default="v17")
    parser.add_argument("--fault", action="append", default=[], choices=FAULTS, help="of v4's")
    parser.add_argument("--instances", default="100-102", help="of train, to fly; '' for none")
    parser.add_argument("--only", choices=(*PARTS, "save"), help="one phase, for all the minutes")
    parser.add_argument(
        "--adopt",
        type=Path,
        nargs="*",
        default=[],
        metavar="SESSION",
        help="begin with what these learnt: sessions, named by their phase (head.pt), or the eyes "
        "of a checkpoint's folder",
    )
    arguments = parser.parse_args(argv)
    recipe = Recipe.of(arguments.version, arguments.fault)
    torch.set_num_threads(1)
    _keep_memory()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.only is None:
        _all_phases(arguments)
    elif arguments.only != "save":
        _one_phase(arguments.only, arguments, recipe)
    if arguments.only in (None, "save"):
        model, _ = load_model(arguments.out, recipe, arguments.adopt)
        save(model, arguments.out / "ckpt", "Learned in the twin.", recipe)
        print(f"saved {arguments.out / 'ckpt'}")


def _keep_memory() -> None:
    """Let the C library keep what it has freed, where it has these options (mallopt(3)).

    By default the memory of every step goes back to the kernel, which took a third of the time.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        trim_threshold, mmap_threshold = -1, -3
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(mmap_threshold, 2**30)


def _one_phase(phase: str, arguments: argparse.Namespace, recipe: Recipe) -> None:
    data, out, every = arguments.data, arguments.out, 60 * arguments.every
    seconds = 60 * arguments.minutes
    session = Session(out / f"{phase}.pt", arguments.seed, out / "log.txt", recipe)
    own = PARTS[phase] if session.done else ()
    adopt(session.model, [*arguments.adopt, *sessions_in(out)], but=own)
    if session.done.get(phase, 0.0) >= seconds:
        return
    snapshots = data / "snapshots"
    if phase in EYES:
        train_eye(session, EYES.index(phase), snapshots, seconds, every)
        return
    folders = (data / "demos", data / "on_policy", out / "on_policy")
    files = [file for folder in folders for file in sorted(folder.glob("*.npz"))]
    demos = load_demos(files, hand_in_camera(), recipe)
    session.say(f"{len(files)} demonstrations, {len(demos.usable)} steps")
    bank = None
    if phase == "joint":
        first = sorted(snapshots.glob("*.npz"))[:20]
        bank = error_bank(session.model, load_snapshots(first), 4000, session.rng, recipe)
        errors = held_out(session.model, load_snapshots(first[:3]), recipe=recipe)
        session.say(f"held out: {errors}")
    instances = parse_instances(arguments.instances) if arguments.instances else ()
    train_control(session, demos, seconds, instances, every, bank)


def _all_phases(arguments: argparse.Namespace) -> None:
    data, out = str(arguments.data), str(arguments.out)

    recipe = ["--version", arguments.version]
    recipe += [word for fault in arguments.fault for word in ("--fault", fault)]

    def script(name: str, *words: str) -> Command:
        return [sys.executable, str(Path(__file__).with_name(name)), *words]

    def phase(name: str, share: float = 1.0) -> Command:
        minutes = arguments.minutes * SHARES[name] * share
        return script(
            Path(__file__).name,
            *(data, out, "--only", name, "--minutes", str(minutes), "--seed", str(arguments.seed)),
            *("--every", str(arguments.every), "--instances", arguments.instances, *recipe),
            *("--adopt", *map(str, arguments.adopt)),
        )

    photos = ("--count", str(arguments.snapshots))
    snapshots = script("twin_snapshots.py", f"{data}/demos", f"{data}/snapshots", *photos)
    _side_by_side(snapshots, phase("control"))
    _side_by_side(phase("head"), phase("wrist"))
    for number, share in enumerate(_BREAKS):
        _side_by_side(phase("joint", share))
        driven = ("--instances", arguments.driven, "--seed", str(1000 + number), "--workers", "2")
        folder = f"{out}/on_policy"
        _side_by_side(script("twin_demos.py", folder, *driven, "--policy", out, *recipe))
    _side_by_side(phase("joint"))


def _side_by_side(*commands: Command) -> None:
    """Run commands at once; raise for one that failed."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(partial(subprocess.run, check=True), commands))


if __name__ == "__main__":
    main()
