#!/usr/bin/env python3
"""Train a small policy of task 31 in the twin, and save it as a checkpoint folder.

python scripts/train_twin_policy.py control DATA OUT --minutes 10
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from twin_policy.checkpoint import hand_in_camera, save
from twin_policy.data import load_demos, load_snapshots
from twin_policy.training import Session, adopt, error_bank, train_control, train_eyes

_PARTS = (
    ("control", "words", "aside", "skill_classifier", "progress_head"),
    ("head_eye", "wrist_eye"),
)
"""What is taken from the first and the second session that is adopted."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("phase", choices=("control", "eyes", "joint", "save"))
    parser.add_argument("data", type=Path, help="folder with demos/ and snapshots/")
    parser.add_argument("out", type=Path, help="folder of the training")
    parser.add_argument("--minutes", type=float, default=10.0, help="of CPU, for this phase")
    parser.add_argument("--every", type=float, default=2.0, help="minutes between reports")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--instances", default="100-104", help="of train, to fly")
    parser.add_argument(
        "--adopt",
        type=Path,
        nargs="*",
        default=[],
        metavar="SESSION",
        help="take control from the first session, eyes from the second",
    )
    parser.add_argument("--bank", type=int, default=4000, help="snapshots for the eyes' errors")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    session = Session(arguments.out / "session.pt", arguments.seed, arguments.out / "log.txt")
    first, _, last = arguments.instances.partition("-")
    instances = tuple(range(int(first), int(last or first) + 1)) if first else ()
    seconds, every = 60 * arguments.minutes, 60 * arguments.every
    for number, path in enumerate(arguments.adopt):
        adopt(session.model, path, _PARTS[number])
    if arguments.phase in ("control", "joint"):
        files = sorted((arguments.data / "demos").glob("*.npz"))
        files += sorted((arguments.data / "on_policy").glob("*.npz"))
        demos = load_demos(files, hand_in_camera())
        session.say(f"{len(files)} demonstrations, {len(demos.usable)} steps")
        bank = None
        if arguments.phase == "joint":
            shots = load_snapshots(sorted((arguments.data / "snapshots").glob("*.npz"))[:20])
            bank = error_bank(session.model, shots, arguments.bank, session.rng)
        train_control(session, demos, seconds, instances, every, bank)
    elif arguments.phase == "eyes":
        train_eyes(session, arguments.data / "snapshots", seconds, instances, every)
    elif arguments.phase == "save":
        save(session.model, arguments.out / "ckpt", "Learned in the twin.")


if __name__ == "__main__":
    main()
