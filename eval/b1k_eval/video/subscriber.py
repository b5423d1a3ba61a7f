"""The subscriber that turns steps into pictures for `VideoRecorder`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from b1k_envs.base import Env
from b1k_envs.r1pro import CONTROL_HZ
from b1k_eval.execution import VideoSize
from b1k_eval.loop.events import EpisodeResult, EpisodeStart, StepEvent, Subscriber
from b1k_eval.loop.runner import Render
from b1k_eval.video.recorder import Overlay, VideoRecorder
from b1k_eval.video.render_thread import RenderThread


def every_n_steps(fps: float) -> int:
    """Return the control steps from one picture to the next, for about this rate."""
    return max(1, round(CONTROL_HZ / fps))


class VideoSubscriber(Subscriber):
    """Records one episode: the start, every n-th step, and the end with its outcome."""

    def __init__(
        self,
        path: Path,
        env: Env,
        *,
        fps: float,
        title: str,
        render: Render = "on-demand",
        size: VideoSize = "large",
        thread: RenderThread | None = None,
    ) -> None:
        """Prepare; ffmpeg is started with the episode.

        Args:
            path: The mp4.
            env: Gives a ticket per picture.
            fps: Pictures per second of simulated time; rounded to a whole number of steps.
            title: First line below the picture.
            render: With `every-step` the observed pictures are shown; otherwise most steps have
                none, and all are rendered again on the thread.
            size: See `VideoRecorder`.
            thread: Shared by the episodes of a process.
        """
        self._every = every_n_steps(fps)
        self._env = env
        self._title = title
        self._observed = render == "every-step"
        self._due = False  # whether a picture waits for the observation of its step
        self._recorder = VideoRecorder(path, CONTROL_HZ / self._every, size, thread=thread)
        self._last: StepEvent | None = None
        self._start: EpisodeStart | None = None
        self._reached: frozenset[str] = frozenset()
        self._outcome: str | None = None
        self._ended = False

    def on_start(self, start: EpisodeStart) -> None:
        """Start ffmpeg, and take a picture of the initial state."""
        self._start = start
        self._reached = _held(start.subgoals)
        self._recorder.start()
        self._take()

    def on_pictures(self) -> None:
        """Take the observed pictures if a picture is due, so as not to render them twice."""
        if self._due:
            self._due = False
            self._add("running")

    def on_step(self, event: StepEvent) -> None:
        """Take a picture at every n-th step."""
        self._last = event
        if not self._reached.issuperset(held := _held(event.subgoals)):
            self._reached |= held
        if event.result.step % self._every == 0:
            self._take()

    def on_end(self, result: EpisodeResult) -> None:
        """Keep the outcome for `end`."""
        self._outcome = result.outcome

    def end(self) -> None:
        """Add the last picture, with the outcome; later calls do nothing.

        Then the env may be reset, while the video is still being made.

        Raises:
            EnvError: The video has failed.
        """
        ended, self._ended = self._ended, True
        # No last picture after an error, as the env may be gone.
        if ended or not self._recorder.frames_added:
            return
        if self._outcome in ("success", "failure"):
            self._add(self._outcome)
        self._recorder.no_more()

    def finish(self, waiting: Callable[[int], None] | None = None) -> None:
        """Call `end`, and wait until the file is complete.

        If tickets are rendered on the CPU this may take several times as long as the episode.

        Args:
            waiting: Called a few times a second with the number of pictures left.

        Raises:
            EnvError: The file could not be written, or has no picture.
        """
        self.end()
        self._recorder.close(waiting)

    @property
    def pictures_left(self) -> int:
        """Pictures that are not encoded yet."""
        return self._recorder.pictures_left

    @property
    def recording(self) -> dict[str, float] | None:
        """`frames`, `fps` and `bytes` of the file; None if there is none."""
        return self._recorder.recording

    def close(self) -> None:
        """Stop without a file, unless `finish` was called."""
        self._recorder.abort()

    def _take(self) -> None:
        if self._observed:
            self._due = True  # the loop observes this step next and calls `on_pictures`
        else:
            self._add("running")

    def _add(self, outcome: str) -> None:
        last, start = self._last, self._start
        if start is None:
            return
        if last is None:
            overlay = Overlay(
                title=self._title,
                step=0,
                time_s=0.0,
                outcome=outcome,
                q_score=start.goal.q_score,
                predicates=start.goal.predicates,
                subgoals=start.subgoals,
            )
        else:
            skill = last.skill
            overlay = Overlay(
                title=self._title,
                step=last.result.step,
                time_s=last.result.time,
                outcome=outcome,
                skill=None if skill is None else skill.label,
                skill_probability=None if skill is None else skill.probability,
                progress=last.progress,
                q_score=last.goal.q_score,
                predicates=last.goal.predicates,
                subgoals=last.subgoals,
                reached=self._reached,
            )
        self._recorder.add(self._env.frame(light=not self._observed), overlay)


def _held(subgoals: Mapping[str, bool]) -> frozenset[str]:
    return frozenset(name for name, holds in subgoals.items() if holds)
