"""Trackers as processes beside a run: nothing they do, or cannot do, reaches the run itself.

A tracker that hangs cannot slow an episode, as it shares neither thread nor interpreter with one,
and is left at the run's end: after `_UNSTARTED_S` if it should have begun by then, else after
`_FINISH_S`. What it has not taken is logged by the next `--resume`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import IO, Any

from b1k_envs.errors import UnavailableError
from b1k_eval.execution import TrackerName

_IMPORT_S = 60.0
"""A package that is not imported this long after the start will not be [s]; they take 2 to 20."""
_BEGIN_S = 10.0
"""A tracker that has not begun this long after its import cannot be reached [s].

Others take 1 to 5; wandb and MLflow themselves try for minutes."""

_UNSTARTED_S = 1.0
_FINISH_S = 30.0


def check_trackers(names: Sequence[TrackerName]) -> None:
    """Look for the packages of trackers, without importing them.

    Raises:
        UnavailableError: One is not installed.
    """
    for name in names:
        if find_spec(name) is None:
            raise UnavailableError(
                f"--log-to {name} needs the package {name}, which is not installed: "
                f"pip install '.[{name}]' in the checkout, or leave {name} out"
            )


class _Process:
    """The process of one tracker."""

    def __init__(
        self,
        name: TrackerName,
        arguments: Sequence[str],
        log: IO[bytes] | int,
        note: Callable[[str], None],
    ) -> None:
        self.name = name
        self.notes: list[str] = []
        self._note = note
        self._started = False
        self._begins_by = monotonic() + _IMPORT_S
        self._process = subprocess.Popen(
            [sys.executable, "-m", "b1k_eval.trackers", name, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            # wandb: the address of a caller's own service, which must not hear of this run.
            env={key: text for key, text in os.environ.items() if key != "WANDB_SERVICE"},
            start_new_session=True,  # Ctrl-C is for the run, and ends this by its input's end
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with suppress(ValueError):
                said = json.loads(line)
                self._started = self._started or "started" in said
                if "imported" in said:
                    self._begins_by = monotonic() + _BEGIN_S
                if "note" in said:
                    self.say(said["note"])

    def say(self, text: str) -> None:
        """Tell the user, and keep it for the record."""
        self.notes.append(text)
        self._note(f"note: {text}")

    def end_input(self, text: bytes = b"") -> None:
        """Tell the process that the run is over; `text` is written before."""
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended already
            self._process.stdin.write(text)
        with suppress(OSError):
            self._process.stdin.close()

    def wait(self, then: str) -> bool:
        """Wait for the end as long as may be, then kill it with its own children.

        Returns:
            Whether it has done all it was to do.
        """
        code: int | None = None
        began = monotonic()
        try:
            while code is None and monotonic() < self._until(began):
                with suppress(subprocess.TimeoutExpired):
                    code = self._process.wait(0.2)
        finally:
            if code is None:
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._reader.join(1.0)
        if code is None:
            self.say(f"{self.name} has not taken everything by the end: {then}")
        elif code != 0 and not self.notes:
            self.say(f"{self.name} ended with code {code}: {then}")
        return code == 0

    def _until(self, began: float) -> float:
        if self._started:
            return began + _FINISH_S
        return max(began + _UNSTARTED_S, self._begins_by)


@contextmanager
def logging_to(
    names: Sequence[TrackerName], folder: Path, videos: int, note: Callable[[str], None]
) -> Iterator[list[str]]:
    """Log a run to trackers while the context lasts.

    Args:
        names: The trackers.
        folder: The run folder.
        videos: How many videos at most.
        note: Shows a remark to the user.

    Yields:
        Remarks for the record; complete once the context has ended.
    """
    remarks: list[str] = []
    if not names:
        yield remarks
        return
    logs = folder / "logs"
    with suppress(OSError):
        logs.mkdir(exist_ok=True)
    running: list[_Process] = []
    with ExitStack() as files:
        for name in names:
            try:
                log: IO[bytes] | int = files.enter_context((logs / f"{name}.log").open("ab"))
            except OSError:
                log = subprocess.DEVNULL
            running.append(_Process(name, [str(folder), str(videos)], log, note))
        try:
            yield remarks
        finally:
            for each in running:
                each.end_input()
            for each in running:
                each.wait(f"--resume logs what is missing; its own words are in {logs}")
                remarks += each.notes


def log_comparison(
    names: Sequence[TrackerName],
    document: Mapping[str, Any],
    folder: Path,
    note: Callable[[str], None],
) -> None:
    """Log a comparison as a run of its own; waits for a tracker, but not for ever.

    Args:
        names: The trackers.
        document: Of `comparison.summary` or `comparison.task_summary`.
        folder: The last run, below which TensorBoard's files go.
        note: Shows a remark to the user.
    """
    now = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S-%f")
    pairs, several = document["pairs"], len(document["pairs"]) > 1
    told = {
        "what": {
            "id": f"compare-{now}",
            "name": f"compare {', '.join(row['name'] for row in document['runs'])}",
            "kind": "compare",
            "folder": str(folder),
            "settings": {"level": document["level"], "mixed": document["mixed"]},
        },
        "values": {
            name: value
            for pair in pairs
            for name, value in _numbers(
                pair, f"{pair['second']} against {pair['first']}/" if several else ""
            )
        },
        "runs": [
            {
                "run": row["name"],
                **row["counts"],
                "success_rate": row["success"].get("rate", row["success"].get("mean")),
                "q_score": row["q_score"]["mean"],
            }
            for row in document["runs"]
        ],
        "verdict": "\n".join(pair["verdict"] for pair in pairs),
    }
    text = json.dumps(told).encode()
    running = [_Process(name, [], subprocess.DEVNULL, note) for name in names]
    for each in running:
        each.end_input(text)
    for each in running:
        each.wait("the verdict is not there; compare again when it can be reached")


def _numbers(pair: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    """Yield the numbers of the comparison of two runs."""
    for name in ("success", "q_score", "task_progress"):
        found = pair.get(name)
        if found is None:
            continue
        yield f"{prefix}{name}_difference", found["difference"]
        yield f"{prefix}{name}_p_value", found["p_value"]
        for end in ("low", "high") if found["interval"] is not None else ():
            yield f"{prefix}{name}_{end}", found["interval"][end]
