#!/usr/bin/env python3
"""Make perturbed snapshots from demonstrations, for `train_twin_policy.py`.

    python scripts/twin_snapshots.py DEMOS FOLDER --count 50000 [--first 0]

Files of 250, in the format of `twin_policy.snapshots`; what is there already is not made again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from twin_policy.snapshots import PER_FILE, Photographer, write

_RELOAD_FILES = 8  # new demonstrations are taken up after so many files


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("demos", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    photographer, used = None, 0
    for number in range(arguments.first, arguments.first + -(-arguments.count // PER_FILE)):
        path = arguments.folder / f"{number:05d}.npz"
        if path.exists():
            continue
        if photographer is None or used >= _RELOAD_FILES:
            if photographer is not None:
                photographer.close()
            photographer, used = Photographer(sorted(arguments.demos.glob("*.npz")), number), 0
        begun = time.perf_counter()
        write(path, [photographer.shoot() for _ in range(PER_FILE)])
        used += 1
        print(f"{path.name}: {PER_FILE / (time.perf_counter() - begun):.1f} a second", flush=True)


if __name__ == "__main__":
    main()
