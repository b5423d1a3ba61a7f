"""What a running episode tells of itself, from its process to whoever shows the run."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from b1k_eval.loop.events import EpisodeResult, StepEvent, Subscriber

UPDATE_INTERVAL_S = 0.25
"""Time between reports of a running episode [s]; in between the loop only reads a clock."""


class EpisodeProgress(NamedTuple):
    """Progress of a running episode: steps, q-score, and the policy's skill and progress reports.

    After the last step, `pictures_left` counts pictures still to be encoded; None until then.
    """

    step: int
    q_score: float
    skill: str | None
    progress: float | None
    pictures_left: int | None = None


class ProgressSubscriber(Subscriber):
    """Sends a snapshot every `interval_s`."""

    def __init__(
        self,
        send: Callable[[EpisodeProgress], None],
        *,
        interval_s: float = UPDATE_INTERVAL_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._send = send
        self._interval_s = interval_s
        self._clock = clock
        self._due = clock()
        self._end = EpisodeProgress(0, 0.0, None, None)

    def on_step(self, event: StepEvent) -> None:
        """Send a snapshot if one is due."""
        now = self._clock()
        if now < self._due:
            return
        self._due = now + self._interval_s
        self._send(_snapshot(event))

    def on_end(self, result: EpisodeResult) -> None:
        """Keep the final state for `waiting_for_video`."""
        q_score = 0.0 if result.goal is None else result.goal.q_score
        self._end = EpisodeProgress(result.steps, q_score, None, None)

    def waiting_for_video(self, pictures_left: int) -> None:
        """Report that the loop is over and the video is not; not rate-limited here."""
        self._send(self._end._replace(pictures_left=pictures_left))


def _snapshot(event: StepEvent) -> EpisodeProgress:
    skill = None if event.skill is None else event.skill.label
    return EpisodeProgress(event.result.step, event.goal.q_score, skill, event.progress)
