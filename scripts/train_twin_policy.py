#!/usr/bin/env python3
"""Train a small policy of task 31 in the twin, and save it as a checkpoint folder.

    python scripts/twin_demos.py DATA/demos --instances 0-99
    python scripts/twin_snapshots.py DATA/demos DATA/snapshots --count 40000
    python scripts/train_twin_policy.py DATA OUT [--minutes 90] [--seed 0]

Three phases share the time, which is CPU time: control from the true places, eyes from snapshots,
then control again with the eyes' own errors (joint). Every few minutes the session is kept in
OUT/session.pt, what was measured goes to OUT/log.txt, and the same command goes on where it was.
At the end, and with `--only save` at any time, OUT/ckpt is a checkpoint folder in the v17 format.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from twin_policy.checkpoint import hand_in_camera, save
from twin_policy.data import load_demos, load_snapshots
from twin_policy.training import Session, adopt, error_bank, train_control, train_eyes

SHARES = {"control": 0.25, "eyes": 0.6, "joint": 0.15}
"""Of the time."""
_PARTS = (
    ("control", "words", "aside", "skill_classifier", "progress_head"),
    ("head_eye", "wrist_eye"),
)
"""What is taken from the first and the second session that is adopted."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with demos/, snapshots/ and on_policy/")
    parser.add_argument("out", type=Path, help="folder of the training")
    parser.add_argument("--minutes", type=float, default=90.0, help="of CPU, for all phases")
    parser.add_argument("--every", type=float, default=4.0, help="minutes between reports")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--instances", default="100-102", help="of train, to fly; '' for none")
    parser.add_argument("--only", choices=(*SHARES, "save"), help="one phase, for all the minutes")
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
    for number, path in enumerate(arguments.adopt):
        adopt(session.model, path, _PARTS[number])
    first, _, last = arguments.instances.partition("-")
    instances = tuple(range(int(first), int(last or first) + 1)) if first else ()
    snapshots = arguments.data / "snapshots"
    for phase, share in SHARES.items():
        if arguments.only not in (None, phase):
            continue
        seconds = 60 * arguments.minutes * (1.0 if arguments.only else share)
        if session.done.get(phase, 0.0) >= seconds:
            continue
        if phase == "eyes":
            train_eyes(session, snapshots, seconds, instances, 60 * arguments.every)
            continue
        files = [
            f for name in ("demos", "on_policy") for f in (arguments.data / name).glob("*.npz")
        ]
        demos = load_demos(sorted(files), hand_in_camera())
        session.say(f"{len(files)} demonstrations, {len(demos.usable)} steps")
        bank = None
        if phase == "joint":
            shots = load_snapshots(sorted(snapshots.glob("*.npz"))[:20])
            bank = error_bank(session.model, shots, arguments.bank, session.rng)
        train_control(session, demos, seconds, instances, 60 * arguments.every, bank)
    if arguments.only in (None, "save"):
        save(session.model, arguments.out / "ckpt", "Learned in the twin.")
        session.say(f"saved {arguments.out / 'ckpt'}")


if __name__ == "__main__":
    main()
