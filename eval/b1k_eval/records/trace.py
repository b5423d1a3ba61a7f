"""Recording the trace, one row per control step, as parquet.

The columns are declared in `b1k_eval.records.columns`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from b1k_envs.errors import EnvError
from b1k_eval.files import write_atomic
from b1k_eval.loop.events import EpisodeStart, StepEvent, Subscriber
from b1k_eval.records.columns import CALLED, COLUMNS, TRUTHS, Kind, TraceColumn

_NUMBERED = [column for column in COLUMNS if column.truths is None]


class Trace(Subscriber):
    """Collects the rows of an episode.

    Args:
        with_command: Keep the command besides the executed action (runs with action noise).
    """

    def __init__(self, *, with_command: bool = False) -> None:
        columns = [column for column in _NUMBERED if with_command or not column.with_noise]
        self._single = [column for column in columns if not column.ends]
        self._several = [column for column in columns if column.ends]
        self._forget()

    def _forget(self) -> None:
        self._started = False
        self._names: dict[str, tuple[str, ...]] = {}  # of the truths, by column
        self._values: list[list[Any]] = [[] for _ in self._single]
        # As bytes: one numpy array per step would take several times the memory.
        self._arrays = [bytearray() for _ in self._several]
        self._truths = {column.name: bytearray() for column in TRUTHS}

    def __len__(self) -> int:
        """Return the number of rows so far."""
        return len(self._values[0])

    def on_start(self, start: EpisodeStart) -> None:
        """Reset for a new episode, and fix its predicates, sub-goals and checks."""
        self._forget()
        self._started = True
        self._names = {name: tuple(found) for name, found in _truths(start)}

    def on_step(self, event: StepEvent) -> None:
        """Add a row.

        Raises:
            EnvError: The names of predicates, sub-goals or checks changed within the episode.
        """
        for name, found in _truths(event):
            if tuple(found) != self._names[name]:
                raise EnvError(
                    f"{name[:-1]}s changed within the episode, from {list(self._names[name])} to "
                    f"{list(found)}"
                )
            self._truths[name].extend(found.values())
        for column, rows in zip(self._several, self._arrays, strict=True):
            rows += column.value(event).astype(column.kind, copy=False).tobytes()
        for column, values in zip(self._single, self._values, strict=True):
            values.append(column.value(event))

    def write(self, path: Path) -> None:
        """Write the rows so far as parquet, atomically.

        Raises:
            OSError: The file cannot be written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        # Encoded in memory (a few MB), so that the write to disk is atomic.
        sink = pa.BufferOutputStream()
        columns = self._arrow_columns()
        called = {name: {"name": CALLED[name]} for name in columns if name in CALLED}
        fields = [pa.field(name, v.type, metadata=called.get(name)) for name, v in columns.items()]
        table = pa.Table.from_arrays(list(columns.values()), schema=pa.schema(fields))
        pq.write_table(table, sink, compression="zstd")
        write_atomic(path, memoryview(sink.getvalue()))

    def _arrow_columns(self) -> dict[str, Any]:
        single = dict(zip((column.name for column in self._single), self._values, strict=True))
        several = dict(zip((column.name for column in self._several), self._arrays, strict=True))
        table: dict[str, Any] = {}
        for column in COLUMNS:
            if column.name in single:
                table[column.name] = _nullable(single[column.name], column.kind)
            elif not self._started:
                break  # the episode ended before its start: no rows, and no names of truths
            elif column.truths is not None:
                names = [f"{column.name}{name}" for name in self._names[column.name]]
                table.update(self._split(column, names, self._truths[column.name]))
            elif column.name in several:
                table.update(self._split(column, column.names, several[column.name]))
        return table

    def _split(self, column: TraceColumn, names: Any, rows: bytearray) -> dict[str, Any]:  # noqa: ANN401
        values = np.frombuffer(rows, column.kind).reshape(len(self), len(names))
        return {name: _arrow(values[:, i], column.kind) for i, name in enumerate(names)}


def _nullable(values: list[Any], kind: Kind) -> Any:  # noqa: ANN401
    """An Arrow array with null for None and NaN."""
    present = np.array([value is not None and value == value for value in values], bool)
    if kind == "string":
        return _arrow([value or "" for value in values], kind, present)
    filled = [value if there else 0 for value, there in zip(values, present, strict=True)]
    return _arrow(np.array(filled, kind), kind, present)


def _arrow(values: Any, kind: Kind, present: Any = None) -> Any:  # noqa: ANN401
    """An Arrow array from its buffers: `pa.array` would import pandas, which takes 0.5 s."""
    import pyarrow as pa

    bits = None if present is None or all(present) else np.packbits(present, bitorder="little")
    if kind == "string":
        texts = [text.encode() for text in values]
        data = [np.cumsum([0, *map(len, texts)], dtype=np.int32), b"".join(texts)]
    else:
        plain = np.packbits(values, bitorder="little") if kind == "bool" else values.copy()
        data = [plain]
    buffers = [None if part is None else pa.py_buffer(part) for part in (bits, *data)]
    return pa.Array.from_buffers(pa.type_for_alias(kind), len(values), buffers)


def _truths(event: EpisodeStart | StepEvent) -> list[tuple[str, Mapping[str, bool]]]:
    return [(column.name, column.truths(event)) for column in TRUTHS if column.truths]
