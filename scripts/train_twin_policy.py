#!/usr/bin/env python3
"""Train a small policy of task 31 in the twin, and save it as a checkpoint folder.

    python scripts/twin_demos.py DATA/demos --instances 0-99
    python scripts/twin_snapshots.py DATA/demos DATA/snapshots --count 40000
    python scripts/train_twin_policy.py DATA OUT [--minutes 90] [--seed 0]

Four phases share the time, which is CPU time: control from the true places, both eyes from
snapshots, then control again with the eyes' own errors (joint). Every few minutes a phase is kept
in OUT/PHASE.pt, what was measured goes to OUT/log.txt, and the same command goes on where it was.
At the end, and with `--only save` at any time, OUT/ckpt is a checkpoint folder in the v17 format.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from twin_policy.checkpoint import hand_in_camera, save
from twin_policy.data import load_demos, load_snapshots
from twin_policy.eyes import EYES, error_bank, held_out, train_eye
from twin_policy.training import Session, adopt, train_control

SHARES = {"control": 0.2, "head": 0.35, "wrist": 0.35, "joint": 0.1}
"""Of the time."""
_CONTROL = ("control", "words", "aside", "skill_classifier", "progress_head")
_PARTS = {"control": _CONTROL, "head": ("head_eye",), "wrist": ("wrist_eye",), "joint": _CONTROL}
"""What is taken from the session of each phase."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with demos/, snapshots/ and on_policy/")
    parser.add_argument("out", type=Path, help="folder of the training")
    parser.add_argument("--minutes", type=float, default=150.0, help="of CPU, for all phases")
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
        help="begin with what these sessions learnt; each is named by its phase: head.pt",
    )
    parser.add_argument("--bank", type=int, default=4000, help="snapshots for the eyes' errors")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    out, data = arguments.out, arguments.data
    out.mkdir(parents=True, exist_ok=True)
    first, _, last = arguments.instances.partition("-")
    instances = tuple(range(int(first), int(last or first) + 1)) if first else ()
    every = 60 * arguments.every
    learnt = {path.stem: path for path in arguments.adopt}
    snapshots = data / "snapshots"

    def session_of(phase: str) -> Session:
        session = Session(out / f"{phase}.pt", arguments.seed, out / "log.txt")
        before = {**learnt, **{p: out / f"{p}.pt" for p in SHARES if (out / f"{p}.pt").exists()}}
        for other, path in before.items():
            if not (session.done and set(_PARTS[other]) & set(_PARTS[phase])):
                adopt(session.model, path, _PARTS[other])
        return session

    for phase, share in SHARES.items():
        if arguments.only not in (None, phase):
            continue
        seconds = 60 * arguments.minutes * (1.0 if arguments.only else share)
        session = session_of(phase)
        if session.done.get(phase, 0.0) >= seconds:
            continue
        if phase in EYES:
            train_eye(session, EYES.index(phase), snapshots, seconds, every)
            continue
        files = [f for name in ("demos", "on_policy") for f in (data / name).glob("*.npz")]
        demos = load_demos(sorted(files), hand_in_camera())
        session.say(f"{len(files)} demonstrations, {len(demos.usable)} steps")
        bank = None
        if phase == "joint":
            shots = load_snapshots(sorted(snapshots.glob("*.npz"))[:20])
            bank = error_bank(session.model, shots, arguments.bank, session.rng)
            shots = load_snapshots(sorted(snapshots.glob("*.npz"))[:3])
            session.say(f"held out: {held_out(session.model, shots)}")
        train_control(session, demos, seconds, instances, every, bank)
    if arguments.only in (None, "save"):
        session = session_of("joint")
        save(session.model, out / "ckpt", "Learned in the twin.")
        session.say(f"saved {out / 'ckpt'}")


if __name__ == "__main__":
    main()
