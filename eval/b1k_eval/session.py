"""From settings to a run folder with results: what `run` and `smoke` have in common."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b1k_envs.base import Env
from b1k_envs.errors import UsageError
from b1k_envs.r1pro import CONTROL_HZ
from b1k_envs.tasks import HumanStats
from b1k_eval import __version__, worlds
from b1k_eval.episode import Assembly, is_privileged
from b1k_eval.launch import launch, plan_episodes
from b1k_eval.progress import Reporter
from b1k_eval.provenance import this_session
from b1k_eval.run_files import FORMAT, EpisodeKey
from b1k_eval.settings import RunSettings, chunking_factory, human_figures
from b1k_eval.store import RunStore, check_folder, open_run
from b1k_policies.base import Policy
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.registry import make_policy

if TYPE_CHECKING:
    from b1k_eval.until_decided import Standing, UntilDecided

VIDEO_RATES: tuple[int, ...] = tuple(
    rate for rate in range(1, int(CONTROL_HZ) + 1) if CONTROL_HZ % rate == 0
)
"""Pictures per simulated second that a video can have: every n-th control step."""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a run is carried out; nothing of it can change a result, so a resume may differ.

    Attributes:
        workers: Processes.
        video: Whether each episode gets a video.mp4.
        video_fps: Pictures per simulated second, one of `VIDEO_RATES`.
    """

    workers: int = 1
    video: bool = True
    video_fps: float = 15.0

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UsageError(f"--workers {self.workers} must be at least 1")
        if self.video_fps not in VIDEO_RATES:
            raise UsageError(
                f"--video-fps {self.video_fps:g} must divide the control rate, {CONTROL_HZ:g} Hz, "
                f"as a video shows every n-th step: choose one of "
                f"{', '.join(map(str, VIDEO_RATES))}"
            )


class Session:
    """A run that is ready to go: checked, its env and policy built, its folder open.

    Attributes:
        settings: What is run.
        store: Where it goes.
        env: The env of this process.
        policy: The policy of this process.
        remarks: What a person should read before trusting a result.
    """

    def __init__(
        self,
        settings: RunSettings,
        execution: Execution,
        out: Path,
        *,
        argv: Sequence[str],
        resume: bool = False,
    ) -> None:
        """Check everything that can be checked, cheapest first, and only then touch the disk.

        Args:
            settings: What to run.
            execution: How.
            out: The run folder.
            argv: For the record.
            resume: Take up the run in `out`.

        Raises:
            UsageError: The request cannot be meant; see `worlds`, `registry` and `store`.
            UnavailableError: No simulator, no OpenGL, no ffmpeg.
            StorageError: The disk is full.
        """
        self.settings = settings
        self._execution = execution
        check_folder(out, resume=resume)
        worlds.check_world(settings)
        human = human_figures(settings.task_entry(), settings.human_stats)
        self._until = _until_decided(settings)
        if execution.video:
            from b1k_eval.video import ffmpeg_exe

            ffmpeg_exe()
        if execution.video or settings.render == "every-step" or settings.checkpoint is not None:
            worlds.prepare_pictures()
        instruction = settings.task_entry().instruction
        self.policy: Policy = make_policy(
            settings.policy, settings.checkpoint, settings.protocol, instruction
        )
        make_chunking = chunking_factory(settings, self.policy.skipped_rows)
        make_chunking(self.policy.chunk_length)
        self.remarks = (
            *self.policy.remarks,
            *_horizon_remark(settings, self.policy),
            *_threads_remark(execution, self.policy),
        )
        if self.policy.needs_images:
            worlds.prepare_pictures()
        self.env: Env = worlds.make_env(settings)
        self._assembly = Assembly(
            make_env=partial(worlds.make_env, settings),
            make_policy=partial(
                make_policy,
                settings.policy,
                _pinned(settings.checkpoint, self.policy),
                settings.protocol,
                instruction,
            ),
            make_chunking=make_chunking,
            human=human,
            max_steps=settings.max_steps,
            noise=settings.noise(),
            render=settings.render,
            video_fps=execution.video_fps if execution.video else None,
            title=f"{settings.task}  {self.policy.name}  {settings.split}",
            privileged=is_privileged(self.policy),
        )
        try:
            self.store: RunStore = open_run(out, self._record(human, argv), resume=resume)
        except BaseException:
            self.close_world()
            raise

    def _record(self, human: HumanStats, argv: Sequence[str]) -> dict[str, Any]:
        """Content of run.json: `identity` must not change on resume."""
        info = self.env.info
        return {
            "format": FORMAT,
            "identity": {
                "b1k_eval": __version__,
                "settings": self.settings.as_json(),
                "policy": self.policy.describe(),
                "env": {**asdict(info), "settings": dict(info.settings)},
                "human": asdict(human),
                "privileged": self._assembly.privileged,
            },
            "sessions": [
                {
                    **this_session(argv).as_json(),
                    "policy": self.policy.describe_here(),
                    "execution": asdict(self._execution),
                }
            ],
        }

    def run(self, reporter: Reporter) -> None:
        """Do what is missing.

        Raises:
            StorageError: See `launch`.
            KeyboardInterrupt: Passed through; `--resume` goes on from there.
        """
        settings, workers = self.settings, self._execution.workers
        plan = plan_episodes(
            settings.task_entry(),
            settings.instances,
            settings.rollouts,
            settings.seed,
            settings.protocol,
        )
        if workers > 1:
            self.close_world()  # each worker has its own
        launch(
            self._assembly,
            plan,
            self.store,
            reporter=reporter,
            workers=workers,
            env=None if workers > 1 else self.env,
            policy=None if workers > 1 else self.policy,
            enough=self._decided,
        )

    def standing(self) -> Standing | None:
        """How the comparison with `settings.against` stands; None without one."""
        return None if self._until is None else self._until.standing(self.store.episodes)

    def _decided(self) -> bool:
        standing = self.standing()
        return standing is not None and standing.decided

    def close_world(self) -> None:
        """Release env and policy of this process; safe to call twice."""
        self.env.close()
        self.policy.close()

    def close(self) -> None:
        """Release everything, the folder's lock included; safe to call twice."""
        self.close_world()
        self.store.close()


def _pinned(request: CheckpointRequest | None, policy: Policy) -> CheckpointRequest | None:
    """The checkpoint for workers: the folder found here, whatever a hub's name means by then."""
    if request is None:
        return None
    from b1k_policies.xvla import XVLAPolicy

    return policy.request if isinstance(policy, XVLAPolicy) else request


def _until_decided(settings: RunSettings) -> UntilDecided | None:
    if settings.against is None:
        return None
    from b1k_eval.until_decided import UntilDecided  # scipy, which no other run needs

    return UntilDecided(settings)


def _horizon_remark(settings: RunSettings, policy: Policy) -> tuple[str, ...]:
    if settings.horizon is None or settings.horizon <= policy.chunk_length:
        return ()
    return (
        f"--horizon {settings.horizon} counts the first {policy.skipped_rows} of the model's rows, "
        f"which are not to be executed: {policy.chunk_length} actions a chunk",
    )


def _threads_remark(execution: Execution, policy: Policy) -> tuple[str, ...]:
    threads = policy.describe_here().get("torch_threads")
    cores = len(os.sched_getaffinity(0))
    if threads is None or execution.workers == 1 or threads * execution.workers <= cores:
        return ()
    return (
        f"{execution.workers} workers with {threads} threads of torch each share {cores} cores and "
        f"wait for each other: OMP_NUM_THREADS={max(1, cores // execution.workers)} is faster",
    )


def summarise(episodes: dict[EpisodeKey, dict[str, Any]]) -> dict[str, Any]:
    """Counts of the three outcomes, and rates over the scored episodes.

    Returns:
        `counts` by outcome; `success_rate` and `mean_q_score` over successes and failures, None
        where there is neither: an error is no evidence either way.
    """
    lines = list(episodes.values())
    counts = {
        outcome: sum(line["outcome"] == outcome for line in lines)
        for outcome in ("success", "failure", "error")
    }
    scores = [line["q_score"] for line in lines if line["outcome"] != "error"]
    return {
        "counts": counts,
        "success_rate": counts["success"] / len(scores) if scores else None,
        "mean_q_score": sum(scores) / len(scores) if scores else None,
    }
