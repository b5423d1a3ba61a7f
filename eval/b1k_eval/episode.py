"""One episode with its files: what is built around the loop, here or in a worker."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from b1k_envs.base import Env
from b1k_envs.errors import B1kEvalError
from b1k_eval.chunking import Chunking
from b1k_eval.events import EpisodeResult, EpisodeTiming, Subscriber
from b1k_eval.files import to_json, write_atomic
from b1k_eval.noise import ActionNoise, NoiseSpec
from b1k_eval.progress import ProgressSubscriber, Snapshot
from b1k_eval.recording import VideoSubscriber
from b1k_eval.runner import Render, run_episode
from b1k_eval.scoring import HumanFigures, ScoreKeeper, result_record
from b1k_eval.store import disk_full, storing
from b1k_eval.trace import Trace
from b1k_eval.video import RenderThread
from b1k_policies.base import EpisodeInfo, Policy, PrivilegedPolicy

RESULT_FILE = "result.json"
TRACE_FILE = "trace.parquet"
VIDEO_FILE = "video.mp4"


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """How to build what an episode needs; picklable, so that a worker can do it too.

    Attributes:
        make_env: Builds the env.
        make_policy: Builds the policy.
        make_chunking: Builds the strategy for a policy's chunk length.
        human: Human figures of the task.
        max_steps: The env's time limit, for displays.
        noise: Disturbance of the executed actions; None for none.
        render: When to observe.
        video_fps: Pictures per simulated second; None for no video.
        title: First line below the video's picture; the instance is added.
        privileged: Whether the policy reads the simulator's truth.
    """

    make_env: Callable[[], Env]
    make_policy: Callable[[], Policy]
    make_chunking: Callable[[int], Chunking]
    human: HumanFigures
    max_steps: int
    noise: NoiseSpec | None = None
    render: Render = "on-demand"
    video_fps: float | None = None
    title: str = ""
    privileged: bool = False


class Finished(NamedTuple):
    """An episode whose files lie in its folder.

    Attributes:
        record: Content of result.json.
        stop: Why no further episode should be tried (a full disk), else None.
    """

    record: dict[str, Any]
    stop: str | None


class Executor:
    """Owns an env and a policy, and runs one episode after another with them."""

    def __init__(
        self, assembly: Assembly, *, env: Env | None = None, policy: Policy | None = None
    ) -> None:
        """Take over an env and a policy, or build them at the first episode."""
        self._assembly = assembly
        self._env = env
        self._policy = policy
        self._thread: RenderThread | None = None

    def run(self, episode: EpisodeInfo, folder: Path, send: Callable[[Snapshot], None]) -> Finished:
        """Run an episode and write its files into the folder, result.json last.

        Args:
            episode: Which.
            folder: Empty; the caller gives it its final name.
            send: Told now and then how far it is.

        Raises:
            StorageError: Not even result.json can be written.
        """
        try:
            env, policy = self._ready()
        except Exception as error:  # noqa: BLE001 - a world that cannot be built is an "error"
            message = f"{type(error).__name__}: {error}"
            record = broken_record(self._assembly, episode, message, traceback.format_exc())
            write_record(folder, record)
            return Finished(record, None)
        assembly = self._assembly
        trace = Trace(with_command=assembly.noise is not None)
        keeper = ScoreKeeper()
        progress = ProgressSubscriber(send)
        subscribers: list[Subscriber] = [keeper, trace, progress]
        video = self._video(env, episode, folder)
        if video is not None:
            subscribers.append(video)
        full = False
        try:
            result = self._episode(env, policy, episode, subscribers)
            # Finished even after an error: what led to the crash is worth having.
            finishers: list[Callable[[], None]] = [lambda: trace.write(folder / TRACE_FILE)]
            if video is not None:
                finishers.append(partial(video.finish, progress.waiting_for_video))
            for finish in finishers:
                try:
                    finish()
                except (OSError, B1kEvalError) as error:
                    full = full or disk_full(error)
                    result = _as_error(result, error)
        finally:
            for subscriber in subscribers:
                subscriber.close()
        if result.outcome == "error":
            self._drop_world()
        record = result_record(result, keeper, assembly.human)
        write_record(folder, record)
        stop = f"no space left in {folder.parent.parent}: free some space, then --resume"
        return Finished(record, stop if full else None)

    def close(self) -> None:
        """Release env, policy and the video thread; safe to call twice."""
        self._drop_world()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.close()

    def _ready(self) -> tuple[Env, Policy]:
        if self._policy is None:
            self._policy = self._assembly.make_policy()
        if self._env is None:
            self._env = self._assembly.make_env()
        return self._env, self._policy

    def _video(self, env: Env, episode: EpisodeInfo, folder: Path) -> VideoSubscriber | None:
        fps = self._assembly.video_fps
        if fps is None:
            return None
        if self._thread is None:
            self._thread = RenderThread()
        return VideoSubscriber(
            folder / VIDEO_FILE,
            env,
            fps=fps,
            title=f"{self._assembly.title} {episode.instance}".strip(),
            render=self._assembly.render,
            thread=self._thread,
        )

    def _episode(
        self, env: Env, policy: Policy, episode: EpisodeInfo, subscribers: list[Subscriber]
    ) -> EpisodeResult:
        assembly = self._assembly
        return run_episode(
            env,
            policy,
            episode,
            assembly.make_chunking(policy.chunk_length),
            subscribers=subscribers,
            noise=None if assembly.noise is None else ActionNoise(assembly.noise),
            render=assembly.render,
        )

    def _drop_world(self) -> None:
        """After an error nothing is known about their state: the next episode builds both anew."""
        env, self._env = self._env, None
        if env is not None:
            env.close()
        policy, self._policy = self._policy, None
        if policy is not None:
            policy.close()


def _as_error(result: EpisodeResult, error: BaseException) -> EpisodeResult:
    """The result of an episode whose files could not be written; the first error is kept."""
    if result.outcome == "error":
        return result
    return replace(
        result,
        outcome="error",
        failure_reason=None,
        message=f"{type(error).__name__}: {error}",
        traceback="".join(traceback.format_exception(error)),
    )


def broken_record(
    assembly: Assembly, episode: EpisodeInfo, message: str, trace: str | None = None
) -> dict[str, Any]:
    """The result.json of an episode that never got as far as a world: an `error`."""
    result = EpisodeResult(
        episode=episode,
        outcome="error",
        steps=0,
        time=0.0,
        terminated=False,
        truncated=False,
        inferences=0,
        privileged=assembly.privileged,
        goal=None,
        failure_reason=None,
        message=message,
        traceback=trace,
        timing=EpisodeTiming(wall_s=0.0, reset_s=0.0, step_s=0.0, observe_s=0.0, policy_s=0.0),
    )
    return result_record(result, ScoreKeeper(), assembly.human)


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write result.json.

    Raises:
        StorageError: It cannot be written.
    """
    with storing(folder):
        write_atomic(folder / RESULT_FILE, to_json(record).encode())


def is_privileged(policy: Policy) -> bool:
    """Whether a policy reads the simulator's truth."""
    return isinstance(policy, PrivilegedPolicy)
