"""Drives the loops of one or many episodes in one process, on one thread.

A loop is a generator: it yields a request (a reset, an inference or a step) and is sent the
answer. Between two requests it reads its env and calls its subscribers. Once every loop has a
request, all inferences go to the policy in one call; when none is left, all worlds move with one
call.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

from b1k_envs.base import Float32Array, Start, Worlds
from b1k_envs.errors import ActionError
from b1k_eval.loop.asked import Asked, asked
from b1k_policies.base import Policy, Query


@dataclass(frozen=True, eq=False)
class Reset:
    """Request to put the env into an initial state; once, before everything else."""

    start: Start


@dataclass(frozen=True, eq=False)
class Infer:
    """Request for an inference; `alone` if its latency matters, so that it shares no call."""

    policy: Policy
    query: Query
    alone: bool = False


@dataclass(frozen=True, eq=False)
class Step:
    """Request to apply an action, float32 [23], to the env."""

    action: Float32Array


class Had(NamedTuple):
    """The answer to a request.

    Attributes:
        value: None for a reset, an `ActionChunk` for an inference, a `StepResult` for a step.
        took_s: Wall time of the call [s], which may have served several loops.
        asked: What the policy was asked; None for a reset and a step.
    """

    value: Any
    took_s: float
    asked: Asked | None = None


Want = Reset | Infer | Step
R = TypeVar("R")
Loop = Generator[Want, Had, R]
"""Returns a result at its end. If a request fails, the error is raised where it was yielded."""


def drive(
    loops: Mapping[int, Loop[R]],
    worlds: Worlds,
    ended: Callable[[int, R], Loop[R] | None],
) -> None:
    """Drive loops to their ends.

    Args:
        loops: By the index of their env.
        worlds: The envs.
        ended: Called with each loop's result; returns the next loop for that env, or None. A next
            loop needs worlds that are independent.

    Raises:
        BaseException: What a loop or `ended` raised; the remaining loops are closed.
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
    """Serve the requests of one kind: inferences, else resets, else steps."""
    # Inferences first: a loop that has its answer goes on to want a step, so that in the end all
    # loops want a step and one call moves all worlds.
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
    except Exception as error:  # noqa: BLE001 - raised in every loop
        return {index: _again(error) for index in wants}
    took = perf_counter() - begun
    return {i: had if isinstance(had, Exception) else Had(had, took) for i, had in found.items()}


def _again(error: Exception) -> Exception:
    """Copy an exception for another loop: one object would collect the tracebacks of all."""
    try:
        other = type(error)(*error.args)
    except Exception:  # noqa: BLE001 - its class takes other arguments
        return error
    other.__cause__ = error.__cause__
    return other.with_traceback(error.__traceback__)


def _inferred(asking: Mapping[int, Infer]) -> dict[int, Had | Exception]:
    """Call each policy once: a stateless one serves all loops, any other only its own."""
    # On a CPU the tiny checkpoint takes 35 ms per observation alone and 23 ms in a batch of 16
    # (docs/performance.md).
    together: dict[tuple[int, int | None], dict[int, Infer]] = {}
    for index, want in asking.items():
        call = id(want.policy), index if want.alone else None
        together.setdefault(call, {})[index] = want
    calls = list(together.values())
    elsewhere = all(want.policy.computes_elsewhere for want in asking.values())
    if elsewhere and len(calls) > 1:
        # At the same time: a server that all of them ask can then answer them in one call.
        with ThreadPoolExecutor(len(calls)) as threads:
            answers = list(threads.map(_answered, calls))
    else:
        answers = [_answered(wants) for wants in calls]
    return {index: had for answer in answers for index, had in answer.items()}


def _answered(wants: dict[int, Infer]) -> dict[int, Had | Exception]:
    """Answer all with one call; if it fails, one call each, so that one cannot spoil the rest."""
    policy = next(iter(wants.values())).policy
    questions = [asked(want.query) for want in wants.values()]  # before the policy has them
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
    return {
        index: Had(chunk, took, question)
        for index, chunk, question in zip(wants, chunks, questions, strict=True)
    }
