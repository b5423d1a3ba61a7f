"""A policy under examination: asked made-up questions, with what is known of it so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from b1k_envs.base import Float32Array
from b1k_policies.base import ActionChunk, EpisodeInfo, Policy, PrivilegedPolicy, Query
from b1k_policies.inspection.made_up import made_up
from b1k_policies.own.loading import where_raised
from b1k_policies.seeding import inference_seed

Verdict = Literal["holds", "fails", "note", "skipped"]
Checking = Callable[["Examined"], None]
"""A check: returns if it holds, else raises one of the three below."""


class Broken(Exception):  # noqa: N818
    """What a check found."""


class Noted(Exception):  # noqa: N818
    """What a check found and allows."""


class Skipped(Exception):  # noqa: N818
    """Why a check is not done."""


class Examined:
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
        """Do a check, and return what came of it and what it says."""
        result: tuple[Verdict, str] = "holds", ""
        try:
            function(self)
        except Skipped as why:
            result = "skipped", str(why)
        except Noted as what:
            result = "note", str(what)
        except Broken as what:
            result = "fails", str(what)
        except Exception as error:  # noqa: BLE001 - whatever a policy raises
            result = "fails", f"it raised: {where_raised(error)}"
        self.verdicts[name] = result[0]
        return result

    def require_asked(self) -> None:
        """Skip a check that asks, of a policy that cannot be asked."""
        if isinstance(self.policy, PrivilegedPolicy):
            raise Skipped("it reads the simulator's state, which only a run has")
        if self.verdicts.get("actions") == "fails":
            raise Skipped("it gives no usable chunk: see actions")

    def require_repeats(self) -> None:
        """Skip also what compares answers, of a policy whose answers differ anyway."""
        self.require_asked()
        if self.verdicts["repeats"] == "fails":
            raise Skipped("cannot be told while it does not repeat itself: see repeats")

    def remake(self) -> Policy:
        """Close the policy and make it anew."""
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
        """Return question `number` of an episode; `pictures` are drawn from that seed."""
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
        """Return one chunk a query, or say what else it gave."""
        chunks = self.policy.infer_batch(queries)
        if len(chunks) != len(queries):
            raise Broken(f"infer_batch gave {len(chunks)} chunks for {len(queries)} queries")
        for chunk in chunks:
            if not isinstance(chunk, ActionChunk):
                raise Broken(f"it gave {type(chunk).__name__}, not an ActionChunk")
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


def equal(
    what: str, found: Sequence[Float32Array], wanted: Sequence[Float32Array], tolerance: float
) -> None:
    """Compare answers.

    Raises:
        Broken: Two differ by more than the tolerance, or in length.
    """
    for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
        if one.shape != other.shape:
            raise Broken(f"{what} question {number} with {one.shape[0]} rows, not {other.shape[0]}")
        apart = np.abs(one - other)
        if apart.max() > tolerance:
            row, column = np.unravel_index(int(apart.argmax()), apart.shape)
            raise Broken(
                f"{what} question {number} otherwise: by {apart.max():.3g} in row {row}, column "
                f"{column}"
            )
