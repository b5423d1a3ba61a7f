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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from b1k_envs.base import Float32Array
from b1k_policies.base import ActionChunk, EpisodeInfo, Policy, PrivilegedPolicy, Query
from b1k_policies.inspection.made_up import arrays_of, made_up
from b1k_policies.own.loading import where_raised
from b1k_policies.seeding import inference_seed

Verdict = Literal["holds", "fails", "note", "skipped"]

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


Checking = Callable[["_Kit"], None]

_CHECKS: list[tuple[str, str, Checking, str]] = []
"""Name, sentence, function and advice of each check, in order."""


class _Broken(Exception):  # noqa: N818
    """What a check found."""


class _Noted(Exception):  # noqa: N818
    """What a check found and allows."""


class _Skipped(Exception):  # noqa: N818
    """Why a check is not done."""


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
    kit = _Kit(make, episode, questions)
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


class _Kit:
    """The policy under test, and what is known of it so far."""

    def __init__(self, make: Callable[[], Policy], episode: EpisodeInfo, questions: int) -> None:
        self._make = make
        self.episode = episode
        self.other = replace(episode, instance=episode.instance + 1, seed=episode.seed ^ 0x5EED)
        self.questions = questions
        self.kept: list[float] = []  # bytes an inference: Python's and numpy's, and the process's
        self.policy = make()
        self.asked: set[str] = set()
        self.first: list[Float32Array] = []
        self.verdicts: dict[str, Verdict] = {}

    def verdict(self, name: str, function: Checking) -> tuple[Verdict, str]:
        result: tuple[Verdict, str] = "holds", ""
        try:
            function(self)
        except _Skipped as why:
            result = "skipped", str(why)
        except _Noted as what:
            result = "note", str(what)
        except _Broken as what:
            result = "fails", str(what)
        except Exception as error:  # noqa: BLE001 - whatever a policy raises
            result = "fails", f"it raised: {where_raised(error)}"
        self.verdicts[name] = result[0]
        return result

    def require_asked(self) -> None:
        """Skip a check that asks, of a policy that cannot be asked."""
        if isinstance(self.policy, PrivilegedPolicy):
            raise _Skipped("it reads the simulator's state, which only a run has")
        if self.verdicts.get("actions") == "fails":
            raise _Skipped("it gives no usable chunk: see actions")

    def require_repeats(self) -> None:
        """Skip also what compares answers, of a policy whose answers differ anyway."""
        self.require_asked()
        if self.verdicts["repeats"] == "fails":
            raise _Skipped("cannot be told while it does not repeat itself: see repeats")

    def remake(self) -> Policy:
        self.policy.close()
        self.policy = self._make()
        return self.policy

    def query(
        self,
        number: int,
        episode: EpisodeInfo,
        *,
        step: int = 0,
        progress: float | None = None,
        pictures: int | None = None,
        writable: bool = True,
    ) -> Query:
        needed = pictures if pictures is not None else number % 4
        observation = made_up(
            1000 * episode.instance + number,
            episode.protocol,
            task_index=episode.task_index,
            step=step,
            pictures=needed if self.policy.needs_images or pictures is not None else None,
            depth=self.policy.needs_depth,
            writable=writable,
            asked=self.asked if pictures is None else None,
        )
        seed = inference_seed(episode.seed, number)
        return Query(
            observation=observation, instruction=episode.instruction, seed=seed, progress=progress
        )

    def ask(self, *queries: Query) -> list[ActionChunk]:
        chunks = self.policy.infer_batch(queries)
        if len(chunks) != len(queries):
            raise _Broken(f"infer_batch gave {len(chunks)} chunks for {len(queries)} queries")
        for chunk in chunks:
            if not isinstance(chunk, ActionChunk):
                raise _Broken(f"it gave {type(chunk).__name__}, not an ActionChunk")
        return chunks

    def play(self, episode: EpisodeInfo, count: int = 2) -> list[Float32Array]:
        """Return the actions of the first answers of an episode."""
        self.policy.reset(episode)
        progress, found = None, []
        for number in range(count):
            (chunk,) = self.ask(self.query(number, episode, step=number, progress=progress))
            progress = chunk.progress
            found.append(chunk.actions)
        return found


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
def _actions(kit: _Kit) -> None:
    """Its answer is an ActionChunk of finite float32 [T, 23]."""
    kit.require_asked()
    kit.first = kit.play(kit.episode)


@_check("chunk length", "set chunk_length to what infer returns, or cut the chunk")
def _length(kit: _Kit) -> None:
    """Every chunk has chunk_length rows."""
    kit.require_asked()
    lengths = sorted({len(actions) for actions in kit.first})
    if lengths != [kit.policy.chunk_length]:
        raise _Broken(f"chunks have {lengths} rows, chunk_length says {kit.policy.chunk_length}")


@_check("writes nothing", "work on a copy: the same observation goes to the trace and to the video")
def _writes(kit: _Kit) -> None:
    """It leaves the observation as it was."""
    kit.require_asked()
    kit.policy.reset(kit.episode)
    query = kit.query(0, kit.episode)
    before = {name: array.tobytes() for name, array in arrays_of(query.observation).items()}
    kit.ask(query)
    after = {name: array.tobytes() for name, array in arrays_of(query.observation).items()}
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if changed:
        raise _Broken(f"it changed {', '.join(changed)}")


@_check(
    "repeats", "draw every random number from EpisodeInfo.seed, or from Query.seed in infer_batch"
)
def _repeats(kit: _Kit) -> None:
    """Two made alike give the same chunks for the same episode, observations and seeds."""
    kit.require_asked()
    kit.remake()
    _equal("another one answers", kit.play(kit.episode), kit.first, _SAME)


@_check(
    "reset forgets",
    "clear in reset all that infer keeps: queues, hidden states, counters, generators",
)
def _forgets(kit: _Kit) -> None:
    """After an episode it answers the next as if there had been none."""
    kit.require_repeats()
    before = kit.play(kit.episode)  # of the policy of `_repeats`; compared with itself
    kit.play(kit.other, count=1)
    _equal("after another episode it answers", kit.play(kit.episode), before, _SAME)


@_check(
    "batch", "answer from the Query alone, in the order of the queries; or do not say stateless"
)
def _batch(kit: _Kit) -> None:
    """A question has the same answer alone, in any order, and in any batch."""
    kit.require_repeats()
    if not kit.policy.stateless:
        raise _Skipped("it does not say stateless: each episode has a policy of its own")
    episodes = kit.episode, kit.other, kit.episode
    kit.policy.reset(kit.episode)
    queries = [kit.query(number, episode) for number, episode in enumerate(episodes)]
    alone = [kit.ask(query)[0].actions for query in queries]
    again = [kit.ask(query)[0].actions for query in reversed(queries)][::-1]
    _equal("asked in another order it answers", again, alone, _SAME)
    for some in (queries, queries[:0:-1]):
        found = [chunk.actions for chunk in kit.ask(*some)]
        _equal("in a batch it answers", found, [alone[queries.index(q)] for q in some],
               _SAME_IN_BATCH)  # fmt: skip


@_check(f"{STEPS} steps", "an error here is a failed episode in a run")
def _survives(kit: _Kit) -> None:
    """It answers through an episode of 200 control steps."""
    kit.require_asked()
    if kit.verdicts["writes nothing"] == "fails":
        raise _Skipped("the arrays of a run cannot be written to: see writes nothing")
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
            except _Broken as what:
                raise _Broken(f"at step {step}: {what}") from what
            except Exception as error:
                raise _Broken(f"at step {step} it raised: {where_raised(error)}") from error
            progress = chunk.progress
        del query, chunk
        marks.append(_memory_now())
    kit.kept = [(after - before) / _LATE for before, after in zip(*marks, strict=True)]


@_check("memory", "keep no observation, or a bounded number; detach what torch computes (no_grad)")
def _memory(kit: _Kit) -> None:
    """Its memory does not grow with the questions."""
    if not kit.kept:
        raise _Skipped(f"see {STEPS} steps")
    kept, resident = kit.kept
    if kept > _KEPT or resident > _RESIDENT:
        raise _Broken(
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
def _needs_images(kit: _Kit) -> None:
    """What it says about needing pictures is true."""
    kit.require_asked()
    if kit.policy.needs_images:
        if not kit.asked:
            raise _Noted("it says needs_images, and looked at none of the pictures")
        return
    if kit.asked:
        raise _Broken(
            f"it says needs_images = False, and looked for {', '.join(sorted(kit.asked))}"
        )
    answers = []
    for pictures in (None, 0, 1):
        kit.policy.reset(kit.episode)
        answers.append(kit.ask(kit.query(0, kit.episode, pictures=pictures))[0].actions)
    # With --render every-step a run hands over the pictures that it has.
    _equal("says needs_images = False, and with pictures it answers", answers[1:], answers[:2],
           _SAME)  # fmt: skip


@_check("describes itself", "return JSON values, those of super().describe() included")
def _describes(kit: _Kit) -> None:
    """What describe() says can be written into run.json."""
    described = {**kit.policy.describe(), **kit.policy.describe_here()}
    try:
        json.dumps(described, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise _Broken(f"describe() gives what is no JSON: {error}") from error
    if described.get("name") != kit.policy.name:
        raise _Broken(f"describe() gives the name {described.get('name')!r}, not {kit.policy.name}")


@_check("closes", "let close do nothing the second time")
def _closes(kit: _Kit) -> None:
    """It can be closed, twice."""
    kit.policy.close()
    kit.policy.close()


def _equal(
    what: str, found: Sequence[Float32Array], wanted: Sequence[Float32Array], tolerance: float
) -> None:
    for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
        if one.shape != other.shape:
            raise _Broken(
                f"{what} question {number} with {one.shape[0]} rows, not {other.shape[0]}"
            )
        apart = np.abs(one - other)
        if apart.max() > tolerance:
            row, column = np.unravel_index(int(apart.argmax()), apart.shape)
            raise _Broken(
                f"{what} question {number} otherwise: by {apart.max():.3g} in row {row}, column "
                f"{column}"
            )
