"""Does a policy keep the promises of `base.Policy`? One sentence per check, without a simulator.

The observations are made up (`made_up`), so a pass says nothing about how good a policy is. What a
run relies on is checked: that the same question has the same answer, that an episode leaves nothing
behind, that a batch changes nothing, and that the policy says the truth about itself.
"""

from __future__ import annotations

import gc
import json
import os
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from b1k_policies.base import EpisodeInfo, Policy
from b1k_policies.inspection.examined import (
    Broken,
    Checking,
    Examined,
    Noted,
    Skipped,
    Verdict,
    equal,
)
from b1k_policies.inspection.made_up import arrays_of
from b1k_policies.own.loading import where_raised

STEPS = 200
"""Control steps of the episode that is played."""

_HORIZON = 10  # as a run's default
_SAME, _SAME_IN_BATCH = 1e-5, 1e-3  # a GPU's sums may differ, and those of a batch more
_QUESTIONS = 40  # of that episode; the first ones fill caches and bounded histories
_LATE = 10  # the last of them, over which memory is measured
_KEPT, _RESIDENT = 100e3, 2e6  # bytes a question; 800 questions are an episode of minutes


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check.

    Attributes:
        name: Short name.
        sentence: What holds if it passes.
        verdict: Whether it does; `note` for what is allowed and worth knowing.
        found: What was found, or why it was skipped; empty for nothing to say.
        advice: What to do; empty if it holds.
    """

    name: str
    sentence: str
    verdict: Verdict
    found: str = ""
    advice: str = ""


_CHECKS: list[tuple[str, str, Checking, str]] = []
"""Name, sentence, function and advice of each check, in order."""


def check_policy(
    make: Callable[[], Policy], episode: EpisodeInfo, questions: int = _QUESTIONS
) -> tuple[Check, ...]:
    """Check a policy.

    Args:
        make: Makes it; called twice, never with both alive.
        episode: What it is told.
        questions: How often it is asked in the episode that is played, at least.

    Raises:
        B1kEvalError: As `make`.
    """
    kit = Examined(make, episode, questions)
    found = []
    try:
        for name, sentence, function, advice in _CHECKS:
            verdict, text = kit.verdict(name, function)
            found.append(
                Check(
                    name=name,
                    sentence=sentence,
                    verdict=verdict,
                    found=text,
                    advice=advice if verdict in ("fails", "note") else "",
                )
            )
    finally:
        with suppress(Exception):  # its last check, or another's own error, says it
            kit.policy.close()
    return tuple(found)


def _check(name: str, advice: str) -> Callable[[Checking], Checking]:
    """Register a check, whose docstring is its sentence."""

    def register(function: Checking) -> Checking:
        assert function.__doc__ is not None
        _CHECKS.append((name, function.__doc__, function, advice))
        return function

    return register


@_check(
    "actions",
    "ActionChunk(actions=...) takes np.float32, a row per control step, columns as in "
    "b1k_envs.r1pro",
)
def _actions(kit: Examined) -> None:
    """Its answer is an ActionChunk of finite float32 [T, 23]."""
    kit.require_asked()
    kit.first = kit.play(kit.episode)


@_check("chunk length", "set chunk_length to what infer returns, or cut the chunk")
def _length(kit: Examined) -> None:
    """Every chunk has chunk_length rows."""
    kit.require_asked()
    lengths = sorted({len(actions) for actions in kit.first})
    if lengths != [kit.policy.chunk_length]:
        raise Broken(f"chunks have {lengths} rows, chunk_length says {kit.policy.chunk_length}")


@_check("writes nothing", "work on a copy: the same observation goes to the trace and to the video")
def _writes(kit: Examined) -> None:
    """It leaves the observation as it was."""
    kit.require_asked()
    kit.policy.reset(kit.episode)
    query = kit.query(0, kit.episode)
    before = {name: array.tobytes() for name, array in arrays_of(query.observation).items()}
    kit.ask(query)
    after = {name: array.tobytes() for name, array in arrays_of(query.observation).items()}
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if changed:
        raise Broken(f"it changed {', '.join(changed)}")


@_check(
    "repeats", "draw every random number from EpisodeInfo.seed, or from Query.seed in infer_batch"
)
def _repeats(kit: Examined) -> None:
    """Two made alike give the same chunks for the same episode, observations and seeds."""
    kit.require_asked()
    kit.remake()
    equal("another one answers", kit.play(kit.episode), kit.first, _SAME)


@_check(
    "reset forgets",
    "clear in reset all that infer keeps: queues, hidden states, counters, generators",
)
def _forgets(kit: Examined) -> None:
    """After an episode it answers the next as if there had been none."""
    kit.require_repeats()
    before = kit.play(kit.episode)  # of the policy of `_repeats`; compared with itself
    kit.play(kit.other, count=1)
    equal("after another episode it answers", kit.play(kit.episode), before, _SAME)


@_check(
    "batch", "answer from the Query alone, in the order of the queries; or do not say stateless"
)
def _batch(kit: Examined) -> None:
    """A question has the same answer alone, in any order, and in any batch."""
    kit.require_repeats()
    if not kit.policy.stateless:
        raise Skipped("it does not say stateless: each episode has a policy of its own")
    episodes = kit.episode, kit.other, kit.episode
    kit.policy.reset(kit.episode)
    queries = [kit.query(number, episode) for number, episode in enumerate(episodes)]
    alone = [kit.ask(query)[0].actions for query in queries]
    again = [kit.ask(query)[0].actions for query in reversed(queries)][::-1]
    equal("asked in another order it answers", again, alone, _SAME)
    for some in (queries, queries[:0:-1]):
        found = [chunk.actions for chunk in kit.ask(*some)]
        equal("in a batch it answers", found, [alone[queries.index(q)] for q in some],
               _SAME_IN_BATCH)  # fmt: skip


@_check(f"{STEPS} steps", "an error here is a failed episode in a run")
def _survives(kit: Examined) -> None:
    """It answers through an episode of 200 control steps."""
    kit.require_asked()
    if kit.verdicts["writes nothing"] == "fails":
        raise Skipped("the arrays of a run cannot be written to: see writes nothing")
    every = min(_HORIZON, kit.policy.chunk_length)
    count = max(kit.questions, STEPS // every)
    kit.policy.reset(kit.episode)
    progress, marks = None, []
    with _traced():
        for number in range(count):
            if number == count - _LATE:
                marks.append(_memory_now())
            step = number * every
            query = kit.query(number, kit.episode, step=step, progress=progress, writable=False)
            try:
                (chunk,) = kit.ask(query)
            except Broken as what:
                raise Broken(f"at step {step}: {what}") from what
            except Exception as error:
                raise Broken(f"at step {step} it raised: {where_raised(error)}") from error
            progress = chunk.progress
        del query, chunk
        marks.append(_memory_now())
    kit.kept = [(after - before) / _LATE for before, after in zip(*marks, strict=True)]


@_check("memory", "keep no observation, or a bounded number; detach what torch computes (no_grad)")
def _memory(kit: Examined) -> None:
    """Its memory does not grow with the questions."""
    if not kit.kept:
        raise Skipped(f"see {STEPS} steps")
    kept, resident = kit.kept
    if kept > _KEPT or resident > _RESIDENT:
        raise Broken(
            f"an inference keeps {max(kept, resident) / 1e6:.1f} MB, measured over the last {_LATE}"
        )


@contextmanager
def _traced() -> Iterator[None]:
    begun = not tracemalloc.is_tracing()
    if begun:
        tracemalloc.start()
    try:
        yield
    finally:
        if begun:
            tracemalloc.stop()


def _memory_now() -> tuple[int, int]:
    """Return Python's and numpy's memory, and the process's [bytes]."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return tracemalloc.get_traced_memory()[0], pages * os.sysconf("SC_PAGE_SIZE")


@_check(
    "needs_images",
    "set needs_images to whether infer looks at observation.images: rendering is most of an "
    "episode's time",
)
def _needs_images(kit: Examined) -> None:
    """What it says about needing pictures is true."""
    kit.require_asked()
    if kit.policy.needs_images:
        if not kit.asked:
            raise Noted("it says needs_images, and looked at none of the pictures")
        return
    if kit.asked:
        raise Broken(f"it says needs_images = False, and looked for {', '.join(sorted(kit.asked))}")
    answers = []
    for pictures in (None, 0, 1):
        kit.policy.reset(kit.episode)
        answers.append(kit.ask(kit.query(0, kit.episode, pictures=pictures))[0].actions)
    # With --render every-step a run hands over the pictures that it has.
    equal("says needs_images = False, and with pictures it answers", answers[1:], answers[:2],
           _SAME)  # fmt: skip


@_check("describes itself", "return JSON values, those of super().describe() included")
def _describes(kit: Examined) -> None:
    """What describe() says can be written into run.json."""
    described = {**kit.policy.describe(), **kit.policy.describe_here()}
    try:
        json.dumps(described, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Broken(f"describe() gives what is no JSON: {error}") from error
    if described.get("name") != kit.policy.name:
        raise Broken(f"describe() gives the name {described.get('name')!r}, not {kit.policy.name}")


@_check("closes", "let close do nothing the second time")
def _closes(kit: Examined) -> None:
    """It can be closed, twice."""
    kit.policy.close()
    kit.policy.close()
