"""Faults on demand: what breaks, when, and how often. `faults` is the one object of a process.

A test in the same process calls `faults.plan(...)`. A test of other processes writes the plan to a
file and names it in the environment variable `OMNIGIBSON_DOUBLE_FAULTS`; the file is read when
`omnigibson` is imported, and counts down in the file, so that a fault planned once breaks one
process and spares the next.
"""

from __future__ import annotations

import importlib
import json
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Place = Literal["launch", "environment", "step", "render", "reset", "get_obs", "load", "shutdown"]
Kind = Literal["crash", "out_of_memory", "hang", "exit", "nan_proprio"]

VARIABLE = "OMNIGIBSON_DOUBLE_FAULTS"
EXIT_CODE = 139
"""What `exit` leaves behind, as a segmentation fault would."""


@dataclass
class Fault:
    """One planned fault.

    Attributes:
        place: Where: a call of `og.sim.step`, `og.sim.render`, `Environment.reset`,
            `Environment.get_obs` (or `get_proprioception`), `load_state`, `og.shutdown`, or the
            start of the application or of an environment.
        kind: What happens there. `nan_proprio` belongs to `get_obs`.
        after: How many calls pass unharmed first.
        times: How many calls it strikes.
        field: For `nan_proprio`: the proprioceptive field.
    """

    place: Place
    kind: Kind
    after: int = 0
    times: int = 1
    field: str = "trunk_qpos"


class Faults:
    """The plan of this process.

    Attributes:
        asymmetric_base_limits: The base gets the output limits that the 2025 documentation
            prints, upper (1, 1, 1): a zero command then drifts.
    """

    def __init__(self) -> None:
        self._file: Path | None = None
        self._planned: list[Fault] = []
        self._released = threading.Event()
        self.asymmetric_base_limits = False
        self.clear()

    def clear(self) -> None:
        """Nothing is planned; what hangs goes on."""
        self._released.set()
        self._released = threading.Event()
        self._planned = []
        self._file = None
        self.asymmetric_base_limits = False

    def plan(
        self,
        place: Place,
        kind: Kind,
        *,
        after: int = 0,
        times: int = 1,
        field: str = "trunk_qpos",
    ) -> None:
        """Plan one; see `Fault`."""
        self._planned.append(Fault(place, kind, after, times, field))

    def save(self, path: Path) -> dict[str, str]:
        """Write the plan for other processes; returns the environment variable they need."""
        path.write_text(json.dumps([asdict(fault) for fault in self._planned]))
        return {VARIABLE: str(path)}

    def load_from_environment(self) -> None:
        """Take over the plan another process has saved, if there is one."""
        name = os.environ.get(VARIABLE)
        if name:
            self._file = Path(name)
            self._planned = [Fault(**fault) for fault in json.loads(self._file.read_text())]

    def release(self) -> None:
        """Let everything that hangs go on."""
        self._released.set()

    def strike(self, place: Place) -> Fault | None:
        """Called by the double at each place; gives the fault only if it is to act itself."""
        for fault in self._planned:
            if fault.place != place or fault.times <= 0:
                continue
            if fault.after > 0:
                fault.after -= 1
                continue
            fault.times -= 1
            self._write()
            return self._act(fault)
        return None

    def _write(self) -> None:
        if self._file is not None:
            # Before it acts: after an `exit` nobody can.
            self._file.write_text(json.dumps([asdict(fault) for fault in self._planned]))

    def _act(self, fault: Fault) -> Fault | None:
        if fault.kind == "crash":
            raise RuntimeError(f"PhysX error: planned crash in {fault.place}")
        if fault.kind == "out_of_memory":
            torch = importlib.import_module("torch")
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        if fault.kind == "exit":
            os._exit(EXIT_CODE)
        if fault.kind == "hang":
            self._released.wait()
            return None
        return fault


faults = Faults()
