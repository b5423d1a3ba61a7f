"""One episode with its files: the loop plus trace, score, video and result.json."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from b1k_envs.base import Env, ProgressVariant, Worlds
from b1k_envs.errors import B1kEvalError, EndsRunError
from b1k_envs.tasks.table import HumanStats
from b1k_envs.tasks.task_progress import DEFAULT_VARIANT
from b1k_eval.dataset.recorder import RecordSubscriber
from b1k_eval.diagnosis.failures import diagnosed
from b1k_eval.disturbances.axes import Disturbance
from b1k_eval.disturbances.disturber import Disturber
from b1k_eval.disturbances.noise import NoiseSpec
from b1k_eval.execution import RecordOnly, VideoSize
from b1k_eval.files import to_json, write_atomic
from b1k_eval.loop.chunking import Chunking
from b1k_eval.loop.driver import Loop
from b1k_eval.loop.events import EpisodeResult, EpisodeTiming, Outcome, Subscriber
from b1k_eval.loop.runner import Render, episode_loop
from b1k_eval.records.episode import (
    RESULT_FILE,
    TRACE_FILE,
    VIDEO_FILE,
    DamagedRecordError,
    EpisodeRecord,
)
from b1k_eval.records.loading import EpisodeData
from b1k_eval.records.run_files import parse_object
from b1k_eval.records.scoring import ScoreKeeper, episode_record
from b1k_eval.records.store import StorageError, disk_full, storing
from b1k_eval.records.trace import Trace
from b1k_eval.run.progress.snapshot import EpisodeProgress, ProgressSubscriber
from b1k_eval.run.watchdog import CallLimits
from b1k_eval.video.render_thread import RenderThread
from b1k_eval.video.subscriber import VideoSubscriber
from b1k_policies.base import EpisodeInfo, Policy, PrivilegedPolicy


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """How to build what an episode needs; picklable, for workers.

    Attributes:
        make_worlds: Builds the envs.
        make_policy: Builds the policy.
        make_chunking: Builds the strategy for a policy's chunk length.
        human: Human figures of the task.
        max_steps: The env's time limit, for displays.
        noise: Noise of the executed actions; None for none.
        disturbances: Of what the policy is shown, and of its answers.
        render: When to observe.
        variant: How task progress is decided.
        video_fps: Pictures per simulated second; None for no video.
        video_size: How large its file may be.
        record: Which episodes are kept for a data set; None for no recording.
        title: First line below the video's picture; the instance is added.
        driver: The policy, for the end of that line.
        privileged: Whether the policy reads the simulator's state.
        limits: Time limits for a simulator that can hang or crash and that a process can start
            only once. It then always runs in a worker, which is replaced after an error. None for
            a world that any process can build repeatedly.
        num_envs: Envs that `make_worlds` builds, and so episodes that run at once in a process.
        gpus: GPUs to distribute over the workers, as `gpu=` of `make_worlds` and `make_policy`;
            empty to leave the choice to simulator and policy.
        lent: A policy of the caller's, used in place of `make_policy` in this process and never
            closed; None for none.
        of_tasks: For a run of several tasks: the fields that differ, by the name of the task.
    """

    make_worlds: Callable[..., Worlds]
    make_policy: Callable[..., Policy]
    make_chunking: Callable[[int], Chunking]
    human: HumanStats
    max_steps: int
    noise: NoiseSpec | None = None
    disturbances: tuple[Disturbance, ...] = ()
    render: Render = "on-demand"
    variant: ProgressVariant = DEFAULT_VARIANT
    video_fps: float | None = None
    video_size: VideoSize = "large"
    record: RecordOnly | None = None
    title: str = ""
    driver: str = ""
    privileged: bool = False
    limits: CallLimits | None = None
    num_envs: int = 1
    gpus: tuple[int, ...] = ()
    lent: Policy | None = None
    of_tasks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def of(self, task: str) -> Assembly:
        """Return the assembly for the episodes of a task."""
        return replace(self, of_tasks={}, **self.of_tasks[task]) if self.of_tasks else self

    def for_worker(self, number: int) -> Assembly:
        """Return the assembly for the n-th worker, from 0, on its GPU."""
        if not self.gpus:
            return self
        gpu = self.gpus[number % len(self.gpus)]
        return replace(
            self,
            make_worlds=partial(self.make_worlds, gpu=gpu),
            make_policy=partial(self.make_policy, gpu=gpu),
            of_tasks={
                name: {**each, "make_worlds": partial(each["make_worlds"], gpu=gpu)}
                for name, each in self.of_tasks.items()
            },
        )


class Finished(NamedTuple):
    """A finished episode.

    Attributes:
        record: The content of result.json.
        stop: Why no further episode should be tried, else None.
    """

    record: EpisodeRecord
    stop: B1kEvalError | None


class Played(NamedTuple):
    """An episode whose loop is over and whose files may not be complete.

    Attributes:
        outcome: So far; an error while files are completed makes it an `error`.
        waits: Whether its video is still being made, beside the next episode if there is one.
        complete: Waits for the video and writes result.json; raises StorageError if it cannot.
        drop: Stops instead and leaves no video; does nothing once complete.
    """

    outcome: Outcome
    waits: bool
    complete: Callable[[], Finished]
    drop: Callable[[], None]


def recorded_loop(
    assembly: Assembly,
    env: Env,
    policy: Policy,
    episode: EpisodeInfo,
    folder: Path,
    send: Callable[[EpisodeProgress], None],
    thread: RenderThread | None,
) -> Loop[Played]:
    """Run `episode_loop` and write the episode's files into the folder, result.json last.

    Args:
        assembly: Everything but env and policy.
        env: See `episode_loop`.
        policy: See `episode_loop`.
        episode: See `episode_loop`.
        folder: Empty; the caller gives it its final name.
        send: Receives progress.
        thread: Renders and encodes the video; None for no video.
    """
    disturber = Disturber.of(assembly.disturbances, assembly.noise)
    trace = Trace(with_command=disturber is not None and disturber.changes_commands)
    keeper = ScoreKeeper()
    progress = ProgressSubscriber(send)
    subscribers: list[Subscriber] = [keeper, trace, progress]
    video = _video(assembly, env, episode, folder, thread)
    if video is not None:
        subscribers.append(video)
    rollout: RecordSubscriber | None = None
    if assembly.record is not None:
        rollout = RecordSubscriber(folder, env, assembly.record)
        subscribers.append(rollout)

    def drop() -> None:
        for subscriber in subscribers:
            subscriber.close()

    try:
        result = yield from episode_loop(
            env,
            policy,
            episode,
            assembly.make_chunking(policy.chunk_length),
            subscribers=subscribers,
            disturber=disturber,
            render=assembly.render,
            variant=assembly.variant,
        )
        # Also after an error: the files show what led to it.
        finishers: list[Callable[[], None]] = [lambda: trace.write(folder / TRACE_FILE)]
        if rollout is not None:
            finishers.append(rollout.finish)
        if video is not None:
            finishers.append(video.end)  # while the env shows this episode
        result, full = _all_done(finishers, result)
    except BaseException:
        drop()
        raise

    def complete() -> Finished:
        try:
            waits = () if video is None else (partial(video.finish, progress.waiting_for_video),)
            ended, full_now = _all_done(waits, result)
        finally:
            drop()
        recording = None if video is None else video.recording
        record = episode_record(ended, keeper, assembly.human, recording)
        found = diagnosed(EpisodeData(**vars(record), folder=folder))
        record = replace(record, diagnosis=found)
        write_record(folder, record)
        stop: B1kEvalError | None = None
        if full or full_now:
            stop = StorageError(
                f"no space left in {folder.parent.parent}: free some space, then --resume"
            )
        elif ended.ends_run:
            stop = EndsRunError(f"the run ends here: {ended.message}")
        return Finished(record, stop)

    if video is not None:
        progress.waiting_for_video(video.pictures_left)
    return Played(result.outcome, video is not None, complete, drop)


def _all_done(
    finishers: Sequence[Callable[[], None]], result: EpisodeResult
) -> tuple[EpisodeResult, bool]:
    """Call all; return the result, an error if one failed, and whether the disk was full."""
    full = False
    for finish in finishers:
        try:
            finish()
        except (OSError, B1kEvalError) as error:
            full = full or disk_full(error)
            result = _as_error(result, error)
    return result, full


def _video(
    assembly: Assembly,
    env: Env,
    episode: EpisodeInfo,
    folder: Path,
    thread: RenderThread | None,
) -> VideoSubscriber | None:
    if assembly.video_fps is None or thread is None:
        return None
    return VideoSubscriber(
        folder / VIDEO_FILE,
        env,
        fps=assembly.video_fps,
        title=f"{assembly.title} {episode.instance}  {assembly.driver}".strip(),
        render=assembly.render,
        size=assembly.video_size,
        thread=thread,
    )


def _as_error(result: EpisodeResult, error: BaseException) -> EpisodeResult:
    """Turn a result into an error because its files could not be written; keep an earlier one."""
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
) -> EpisodeRecord:
    """Return the record of an episode that never started: an `error`."""
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
    return episode_record(result, ScoreKeeper(), assembly.of(episode.task).human)


def read_record(folder: Path) -> EpisodeRecord | None:
    """Read the result.json of a folder; None if it is missing or cannot be read."""
    try:
        return EpisodeRecord.from_json(parse_object((folder / RESULT_FILE).read_bytes()))
    except (OSError, DamagedRecordError):
        return None


def write_record(folder: Path, record: EpisodeRecord) -> None:
    """Write result.json.

    Raises:
        StorageError: It cannot be written.
    """
    with storing(folder):
        write_atomic(folder / RESULT_FILE, to_json(record.to_json()).encode())


def is_privileged(policy: Policy) -> bool:
    """Return whether a policy reads the simulator's state."""
    return isinstance(policy, PrivilegedPolicy)
