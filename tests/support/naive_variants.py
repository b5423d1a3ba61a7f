"""Naive variants of the adapter: one piece put the obvious way, and a check that must notice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from b1k_envs.omnigibson.dialects.dialect_2025 import Dialect2025
from b1k_envs.omnigibson.dialects.dialect_2026 import Dialect2026

Naive = Callable[[pytest.MonkeyPatch], None]


def assert_catches(
    check: Callable[[], None], naive: Naive, raised: type[Exception] = AssertionError
) -> None:
    """The check passes as things are, and fails once the naive variant is in place."""
    check()
    with pytest.MonkeyPatch.context() as patch:
        naive(patch)
        with pytest.raises(raised):
            check()


def put(target: object, name: str, value: object) -> Naive:
    return lambda patch: patch.setattr(target, name, value)


def dialects(name: str, value: object) -> Naive:
    """The same in both generations."""

    def naive(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(Dialect2025, name, value)
        patch.setattr(Dialect2026, name, value)

    return naive
