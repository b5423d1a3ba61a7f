"""Drives the loops of one or many episodes in one process, on one thread.

A loop is a generator. It yields what it wants - a reset, an inference, a step - and is sent what
came of it. It goes on until it wants again, so that what it reads of its env, and what its
subscribers do, happens between two wants. Once all loops want something, the inferences of all of
them go to the policy in one call; when none is left the worlds move, all with one call.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

from b1k_envs.base import Float32Array, Start, Worlds
from b1k_envs.errors import ActionError
from b1k_policies.base import Policy, Query


@dataclass(frozen=True, eq=False)
class Reset:
    """Wants its env in an initial state; once, before everything else."""

    start: Start


@dataclass(frozen=True, eq=False)
class Infer:
    """Wants an answer of its policy; `alone` where how long that takes is part of the answer."""

    policy: Policy
    query: Query
    alone: bool = False


@dataclass(frozen=True, eq=False)
class Step:
    """Wants its env moved by an action, float32 [23]."""

    action: Float32Array


class Had(NamedTuple):
    """What came of a want.

    Attributes:
        value: Nothing of a reset, an `ActionChunk`, a `StepResult`.
        took_s: Wall time of the call [s], which may have been for several loops.
    """

    value: Any
    took_s: float


Want = Reset | Infer | Step
R = TypeVar("R")
Loop = Generator[Want, Had, R]
"""Gives a result at its end. What goes wrong with a want is raised where it was yielded."""


def drive(
    loops: Mapping[int, Loop[R]],
    worlds: Worlds,
    ended: Callable[[int, R], Loop[R] | None],
) -> None:
    """Drive loops to their ends.

    Args:
        loops: By the index of their env.
        worlds: The envs.
        ended: Told of each loop's result; gives the next loop of that env, or None. A next one
            needs worlds that are independent.

    Raises:
        BaseException: What a loop or `ended` raised; the loops that are left are closed then.
    """
    running = dict(loops)
    wants: dict[int, Want] = {}

    def go_on(index: int, had: Had | Exception | None) -> None:
        while index in running:
            loop = running[index]
            try:
                if isinstance(had, Exception):
                    wants[index] = loop.throw(had)
                else:
                    wants[index] = next(loop) if had is None else loop.send(had)
                return
            except StopIteration as end:
                del running[index]
                result = end.value
            after, had = ended(index, result), None
            if after is not None:
                running[index] = after

    try:
        for index in loops:
            go_on(index, None)
        while wants:
            for index, had in _round(wants, worlds).items():
                del wants[index]
                go_on(index, had)
    finally:
        for loop in running.values():
            loop.close()


def _round(wants: Mapping[int, Want], worlds: Worlds) -> dict[int, Had | Exception]:
    """Serve the wants of one kind: inferences, else resets, else steps."""
    asking = {i: want for i, want in wants.items() if isinstance(want, Infer)}
    if asking:
        return _inferred(asking)
    starts = {i: want.start for i, want in wants.items() if isinstance(want, Reset)}
    if starts:
        return _moved(starts, worlds.reset)
    return _moved({i: w.action for i, w in wants.items() if isinstance(w, Step)}, worlds.step)


W = TypeVar("W")


def _moved(
    wants: dict[int, W], move: Callable[[dict[int, W]], Mapping[int, Any]]
) -> dict[int, Had | Exception]:
    begun = perf_counter()
    try:
        found = move(wants)
    except Exception as error:  # noqa: BLE001 - every loop hears of it
        return {index: _again(error) for index in wants}
    took = perf_counter() - begun
    return {i: had if isinstance(had, Exception) else Had(had, took) for i, had in found.items()}


def _again(error: Exception) -> Exception:
    """The same for another loop: an exception carries one traceback only."""
    try:
        other = type(error)(*error.args)
    except Exception:  # noqa: BLE001 - its class wants something else
        return error
    other.__cause__ = error.__cause__
    return other.with_traceback(error.__traceback__)


def _inferred(asking: Mapping[int, Infer]) -> dict[int, Had | Exception]:
    """One call of each policy: a stateless one serves all loops, another one its own."""
    together: dict[tuple[int, int | None], dict[int, Infer]] = {}
    for index, want in asking.items():
        call = id(want.policy), index if want.alone else None
        together.setdefault(call, {})[index] = want
    found: dict[int, Had | Exception] = {}
    for wants in together.values():
        found |= _answered(wants)
    return found


def _answered(wants: dict[int, Infer]) -> dict[int, Had | Exception]:
    """One call for all; should it fail, one for each, so that one cannot spoil the others."""
    policy = next(iter(wants.values())).policy
    begun = perf_counter()
    try:
        chunks = policy.infer_batch([want.query for want in wants.values()])
        if len(chunks) != len(wants):
            raise ActionError(f"infer_batch gave {len(chunks)} chunks for {len(wants)} queries")
    except Exception as error:  # noqa: BLE001 - the loop says whose fault it is
        if len(wants) == 1:
            return dict.fromkeys(wants, error)
        found: dict[int, Had | Exception] = {}
        for index, want in wants.items():
            found |= _answered({index: want})
        return found
    took = perf_counter() - begun
    return {index: Had(chunk, took) for index, chunk in zip(wants, chunks, strict=True)}
