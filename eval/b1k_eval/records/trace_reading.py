"""Reading a trace for analysis: columns as numpy arrays, on demand.

The columns are declared in `b1k_eval.records.columns`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from b1k_envs.errors import B1kEvalError
from b1k_envs.parquet import require_pyarrow
from b1k_eval.records.columns import CHECK_PREFIX, NEWER, SUBGOAL_PREFIX

Values = npt.NDArray[Any]
"""A column of a trace, one value per control step; dtypes as in `EpisodeTrace.read`."""


class DamagedTraceError(B1kEvalError):
    """A trace that cannot be used: missing, truncated, or not that of its episode."""


class EpisodeTrace:
    """The trace of one episode; columns are read on demand."""

    def __init__(self, path: Path, *, steps: int, subgoals: Collection[str]) -> None:
        """Open the file; only the names of columns and the number of rows are read.

        Args:
            path: The file.
            steps: Rows that it must have.
            subgoals: Names of its sub-goals, in order.

        Raises:
            DamagedTraceError: It is missing, cannot be read, or does not have one row per step.
            UnavailableError: pyarrow cannot be imported.
        """
        require_pyarrow()
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path = path
        self._subgoals = tuple(subgoals)
        self._cache: dict[str, Values] = {}
        try:
            # Read as bytes: pyarrow takes only file names that are UTF-8.
            self._file = pq.ParquetFile(pa.BufferReader(path.read_bytes()))
        except (pa.ArrowException, OSError) as error:
            raise DamagedTraceError(f"{path} cannot be read ({error})") from error
        self.names: tuple[str, ...] = tuple(self._file.schema_arrow.names)
        rows = self._file.metadata.num_rows
        if rows != steps:
            raise DamagedTraceError(f"{path} has {rows} rows, the episode {steps} steps")

    def read(self, *names: str) -> dict[str, Values]:
        """Read columns by name, each [steps] and read-only; a column is read once.

        Floats become float64 with NaN for null, integers int64 with -1 for null (no column has
        negative integers), truths bool, and text object with None for null. A column that older
        versions did not record (`columns.NEWER`) is all null.

        Raises:
            DamagedTraceError: A column is missing or cannot be read, or a truth is null.
        """
        import pyarrow as pa

        for name in {*names}.difference(self.names, self._cache):
            if name not in NEWER:
                raise DamagedTraceError(f"{self.path} has no column {name!r}")
            nulls = pa.nulls(self._file.metadata.num_rows, pa.type_for_alias(NEWER[name]))
            self._cache[name] = _column(pa.chunked_array([nulls]))
        new = [name for name in names if name not in self._cache]
        if new:
            table = self._table(new)
            for name in new:
                column = table.column(name)
                if pa.types.is_boolean(column.type) and column.null_count:
                    raise DamagedTraceError(f"{self.path}: column {name!r} has nulls")
                self._cache[name] = _column(column)
        return {name: self._cache[name] for name in names}

    def unlike(self, other: EpisodeTrace, names: Collection[str]) -> list[str]:
        """Return those of the columns that are not equal to the bit, in the order given.

        Raises:
            DamagedTraceError: A column cannot be read.
        """
        one, two = self._table(names), other._table(names)
        return [n for n in names if not _bits(one.column(n)).equals(_bits(two.column(n)))]

    def _table(self, names: Collection[str]) -> Any:  # noqa: ANN401 - pyarrow has no types
        import pyarrow as pa

        try:
            return self._file.read(columns=list(names), use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise DamagedTraceError(f"{self.path} cannot be read ({error})") from error

    def subgoals(self) -> dict[str, Values]:
        """Read the truth of each sub-goal after each step, bool [steps], by name.

        Raises:
            DamagedTraceError: See `read`; or they differ from those of the result.
        """
        names = self._subgoals
        found = tuple(n[len(SUBGOAL_PREFIX) :] for n in self.names if n.startswith(SUBGOAL_PREFIX))
        if found != names:
            raise DamagedTraceError(
                f"{self.path} has the sub-goals {list(found)}, the result {list(names)}"
            )
        columns = self.read(*(SUBGOAL_PREFIX + name for name in names))
        return {name: columns[SUBGOAL_PREFIX + name] for name in names}

    def checks(self) -> dict[str, Values]:
        """Read the truth of each check of task progress after each step, as `subgoals`.

        Empty for a trace of an older version, or of a task that no public table has.
        """
        names = [name for name in self.names if name.startswith(CHECK_PREFIX)]
        return {name[len(CHECK_PREFIX) :]: values for name, values in self.read(*names).items()}


def _bits(column: Any) -> Any:  # noqa: ANN401 - pyarrow has no types
    """Return a column in one piece, floats as the integers of their bits: 0.0 is not -0.0."""
    import pyarrow as pa

    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):  # as newer versions give it
        whole = whole.chunk(0) if whole.num_chunks else pa.array([], type=whole.type)
    if pa.types.is_floating(whole.type):
        return whole.view(pa.int32() if whole.type == pa.float32() else pa.int64())
    return whole


def _column(column: Any) -> Values:  # noqa: ANN401 - pyarrow has no types
    import pyarrow as pa

    kind = column.type
    values: Values
    if pa.types.is_boolean(kind):
        values = _numbers(column, pa.uint8(), np.uint8, 0).view(np.bool_)
    elif pa.types.is_integer(kind):
        values = _numbers(column, pa.int64(), np.int64, -1)
    elif pa.types.is_floating(kind):
        values = _numbers(column, pa.float64(), np.float64, np.nan)
    else:
        values = np.array(column.to_pylist(), dtype=object)
    values.setflags(write=False)
    return values


def _numbers(column: Any, kind: Any, dtype: type, missing: float) -> Values:  # noqa: ANN401
    """Read the numbers of a column from its memory."""
    # Not `to_numpy`, which imports pandas, and that takes long.
    import pyarrow as pa

    if not len(column):
        return np.empty(0, dtype=dtype)
    column = column.cast(kind)
    if column.null_count:
        column = column.fill_null(missing)
    array = pa.concat_arrays(column.chunks)
    whole: Values = np.frombuffer(array.buffers()[1], dtype=dtype)
    return whole[array.offset : array.offset + len(array)]
