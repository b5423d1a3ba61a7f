"""Building the chunking strategy that the options of a run or a server name."""

from __future__ import annotations

from typing import Literal

from b1k_eval.loop.chunking import Chunking, RecedingHorizon, TemporalEnsemble
from b1k_eval.loop.realtime import RealTime

ChunkingName = Literal["receding", "ensemble"]

DEFAULT_HORIZON = 10
DEFAULT_ENSEMBLE_EVERY = 1
DEFAULT_ENSEMBLE_DECAY = 0.01


def build_chunking(
    name: ChunkingName,
    horizon: int | None,
    every: int | None,
    decay: float | None,
    skipped_rows: int,
    chunk_length: int,
    *,
    realtime: bool = False,
    latency_s: float | None = None,
) -> Chunking:
    """Build the strategy for a policy's chunk length.

    A horizon may include the `skipped_rows` of a model's chunk that come before the first
    executable one; it then means all executable rows.

    Raises:
        UsageError: A parameter does not fit the chunk length.
    """
    if name == "receding":
        rows = min(DEFAULT_HORIZON, chunk_length) if horizon is None else horizon
        if chunk_length < rows <= chunk_length + skipped_rows:
            rows = chunk_length
        if realtime:
            return RealTime(rows, chunk_length, latency_s)
        return RecedingHorizon(rows, chunk_length)
    return TemporalEnsemble(
        DEFAULT_ENSEMBLE_EVERY if every is None else every,
        DEFAULT_ENSEMBLE_DECAY if decay is None else decay,
        chunk_length,
    )
