"""Coverage-guided fuzzing of what comes over the wire; docs/fuzzing.md has the invariants.

    pip install -e '.[fuzz]'                          # Python 3.11: atheris has no other wheel
    python scripts/fuzz_wire.py codec|server|client [FOLDER ...] [-max_total_time=300 ...]
    python scripts/fuzz_wire.py server FILE ...       # once each, what was found before

Folders hold inputs; what reaches new code is added to the first. Options are libFuzzer's. An input
is a sequence of messages, see `messages_of`; the codec is given the whole of it as one.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris
from fuzz_wire_messages import crossed, mutated, seeds
from fuzz_wire_targets import METER, TARGETS, ready

TRACED = 4
"""Memory is traced for one input in this many."""


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(__doc__)
    name, given = sys.argv[1], sys.argv[2:]
    with atheris.instrument_imports(
        include=[
            "b1k_policies.remote.wire",
            "b1k_policies.remote.server",
            "b1k_policies.remote.client",
        ]
    ):
        target = ready(name)
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(seeds(name)):
            Path(folder, f"honest-{number}").write_bytes(data)
        again = any(Path(one).is_file() for one in given)
        METER.every = 1 if again else TRACED
        atheris.Setup(
            [sys.argv[0], "-max_len=8192", "-timeout=30", *given, *([] if again else [folder])],
            target,
            custom_mutator=lambda data, size, seed: mutated(data, size, seed, atheris.Mutate),
            custom_crossover=crossed,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
