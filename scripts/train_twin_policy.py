#!/usr/bin/env python3
"""Train a small policy of task 31 in the twin, and save it as a checkpoint folder.

    python scripts/train_twin_policy.py control DATA OUT --minutes 10
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from twin_policy.checkpoint import hand_in_camera, save
from twin_policy.data import load_demos
from twin_policy.training import Session, train_control, train_eyes


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("phase", choices=("control", "eyes", "joint", "save"))
    parser.add_argument("data", type=Path, help="folder with demos/ and snapshots/")
    parser.add_argument("out", type=Path, help="folder of the training")
    parser.add_argument("--minutes", type=float, default=10.0, help="of CPU, for this phase")
    parser.add_argument("--every", type=float, default=2.0, help="minutes between reports")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--instances", default="100-104", help="of train, to fly")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    session = Session(arguments.out / "session.pt", arguments.seed, arguments.out / "log.txt")
    first, _, last = arguments.instances.partition("-")
    instances = tuple(range(int(first), int(last or first) + 1)) if first else ()
    seconds, every = 60 * arguments.minutes, 60 * arguments.every
    if arguments.phase == "control":
        files = sorted((arguments.data / "demos").glob("*.npz"))
        demos = load_demos(files, hand_in_camera())
        session.say(f"{len(files)} demonstrations, {len(demos.usable)} steps")
        train_control(session, demos, seconds, instances, every)
    elif arguments.phase == "eyes":
        train_eyes(session, arguments.data / "snapshots", seconds, instances, every)
    elif arguments.phase == "save":
        save(session.model, arguments.out / "ckpt", "Learned in the twin.")


if __name__ == "__main__":
    main()
