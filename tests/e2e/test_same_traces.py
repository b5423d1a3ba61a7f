"""The expert's episodes are those of before, to the bit: where base and hands were, what was sent.

The hashes were recorded before tasks became folders, with MuJoCo 4.0.0 on x86-64; another build of
it rounds otherwise, which 1,200 steps of contacts amplify, and is not held to them.
"""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

import mujoco
import numpy as np
import pyarrow.parquet
import pytest

TRACES = {
    ("2025", 0): "c0a4328c971cee5a",
    ("2025", 1): "062c54241310fae0",
    ("2025", 2): "1149c8bdf70db8a6",
    ("2026", 0): "a87eea04fc0a8491",
    ("2026", 1): "877f9c0da2209a2e",
    ("2026", 2): "31c53bb29ecad994",
}
COLUMNS = ("action_", "base_", "left_eef_", "right_eef_")


def fingerprint(trace: Path) -> str:
    table = pyarrow.parquet.read_table(trace)
    names = [name for name in table.column_names if name.startswith(COLUMNS)]
    assert len(names) == 23 + 3 * 3
    whole = hashlib.sha256()
    for name in names:
        whole.update(table.column(name).to_numpy().astype(np.float64).tobytes())
    return whole.hexdigest()[:16]


@pytest.mark.slow
@pytest.mark.skipif(
    (mujoco.__version__, platform.machine()) != ("4.0.0", "x86_64"), reason="another MuJoCo"
)
@pytest.mark.parametrize("protocol", ["2025", "2026"])
def test_the_experts_traces_are_those_recorded(protocol, expert_episode):
    for (year, instance), expected in TRACES.items():
        if year == protocol:
            assert fingerprint(expert_episode(protocol, instance).file) == expected
