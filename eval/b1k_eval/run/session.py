"""From settings to a run folder with results, for `run` and `smoke`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b1k_envs.base import Worlds
from b1k_envs.errors import UsageError
from b1k_envs.parquet import require_pyarrow
from b1k_eval import __version__
from b1k_eval.dataset.choosing import write_recorded
from b1k_eval.dataset.writing import Written, check_target
from b1k_eval.execution import Execution
from b1k_eval.records.episode import FORMAT, EpisodeKey
from b1k_eval.records.identity import joined
from b1k_eval.records.loading import policy_label
from b1k_eval.records.provenance import this_session
from b1k_eval.records.run_files import read_run
from b1k_eval.records.store import RunStore, check_folder, open_run
from b1k_eval.run import policies, simulators
from b1k_eval.run.crew import cluster
from b1k_eval.run.episode import Assembly, is_privileged
from b1k_eval.run.launch import launch, plan_episodes
from b1k_eval.run.pool import add_remarks
from b1k_eval.run.progress.reporter import Reporter
from b1k_eval.run.progress.telling import Telling
from b1k_eval.run.remarks import (
    check_disturbances,
    check_lent,
    check_privileges,
    check_track,
    run_remarks,
)
from b1k_eval.selection import share
from b1k_eval.settings import RunSettings, chunking_factory
from b1k_eval.trackers.starting import check_trackers, logging_to
from b1k_policies.base import EpisodeInfo, Policy
from b1k_policies.registry import source
from b1k_policies.remote.sharing.model import SharedHandle

if TYPE_CHECKING:
    from b1k_eval.comparison.until_decided import Standing, UntilDecided


class ReadyRun:
    """A run that is ready to start: checked, env and policy built, folder open.

    Attributes:
        settings: What is run, of the first task.
        tasks: The same of every task; they differ in task, instances and time limit only.
        plan: The episodes, those of the shard only.
        store: The run folder.
        worlds: The envs of this process, of the first task; None for a simulator that runs in its
            own processes.
        policy: The policy of this process.
        label: Its name for people, as `RunData.label`.
        remarks: See `run_remarks`.
        written: The data set of the run, once there is one.
    """

    def __init__(
        self,
        tasks: Sequence[RunSettings],
        execution: Execution,
        out: Path,
        *,
        argv: Sequence[str],
        resume: bool = False,
        beside: bool = False,
        rated: bool = False,
        lent: Policy | None = None,
    ) -> None:
        """Check everything that can be checked, cheapest first, and only then touch the disk.

        Args:
            tasks: What to run, by task; at least one.
            execution: How to run it.
            out: The run folder.
            argv: Command line, for the record.
            resume: Continue the run in `out`.
            beside: Choose another name if `out` exists.
            rated: Whether a success rate is demanded (`--fail-under`).
            lent: A policy of the caller's, used in this process alone and not closed; None to make
                the one that the settings name.

        Raises:
            UsageError: The settings are invalid; see `simulators`, `registry` and `store`.
            UnavailableError: No simulator, no data for it, no OpenGL, no ffmpeg, no pyarrow.
            StorageError: The disk is full.
        """
        self.tasks = tuple(tasks)
        self.settings = settings = self.tasks[0]
        whole = [episode for each in self.tasks for episode in _plan(each)]
        self.plan = share(whole, settings.shard)
        self._execution = execution
        resumed = not beside and check_folder(out, resume=resume)
        seldom = (settings.sim, settings.render) == ("omnigibson", "on-demand")
        if execution.dataset is not None and seldom:
            raise UsageError(
                "--record needs the pictures of every step, which OmniGibson renders with "
                "--render every-step only: add that"
            )
        if execution.dataset is not None:
            check_target(execution.dataset, read_run(out)["sessions"][:1] if resumed else [])
        if execution.gpus and settings.sim != "omnigibson":
            raise UsageError("--gpus is for OmniGibson: the twin renders where OpenGL does")
        require_pyarrow()
        check_trackers(execution.log_to)
        for each in self.tasks:
            simulators.check_world(each, execution.num_envs)
        self.written: Written | None = None
        self._human = {each.task: simulators.human_stats_of(each) for each in self.tasks}
        self._until = _until_decided(settings)
        if execution.video or execution.dataset is not None:
            from b1k_eval.video.recorder import ffmpeg_exe

            ffmpeg_exe()
        self._lent = lent
        if lent is not None:
            check_lent(lent, settings, execution)
        # Before the policy: a missing OpenGL should be found before a checkpoint is loaded.
        in_twin = settings.sim == "mujoco"
        recorded = execution.dataset is not None
        pictures = execution.video or recorded or settings.render == "every-step"
        if in_twin and (pictures or settings.checkpoint is not None):
            simulators.prepare_pictures()
        make = partial(policies.make, settings)
        self._shared, unshared = policies.shared_models(make, settings, execution)
        made = lent if not self._shared else SharedHandle(self._shared)
        self.policy: Policy = make() if made is None else made
        self.worlds: Worlds | None = None
        count = execution.num_envs
        try:
            self._source = source(settings.policy, settings.policy_args)
            if execution.ray is not None:
                cluster.connect(execution.ray)
            check_privileges(settings, self.policy, rated=rated)
            check_track(settings, self.policy)
            check_disturbances(settings, self.policy)
            make_chunking = chunking_factory(settings, self.policy.skipped_rows)
            make_chunking(self.policy.chunk_length)
            self.remarks = (*run_remarks(settings, execution, self.policy), *unshared)
            if in_twin and self.policy.needs_images:
                simulators.prepare_pictures()
            self.label = policy_label(
                {
                    "policy": self.policy.describe(),
                    "privileged": is_privileged(self.policy),
                    "settings": settings.as_json(),
                }
            )
            depth = {"depth": True} if self.policy.needs_depth else {}
            of_tasks: dict[str, dict[str, Any]] = {
                each.task: {
                    "make_worlds": partial(simulators.make_worlds, each, count, **depth),
                    "human": self._human[each.task],
                    "max_steps": each.max_steps,
                    "title": f"{each.task}  {each.split}",
                }
                for each in self.tasks
            }
            if in_twin:
                self.worlds = of_tasks[settings.task]["make_worlds"]()
        except BaseException:
            self._release()
            raise
        self._assembly = Assembly(
            **of_tasks[settings.task],
            of_tasks=of_tasks if len(self.tasks) > 1 else {},
            num_envs=count,
            limits=simulators.limits(settings),
            gpus=execution.gpus,
            make_policy=self.policy.elsewhere() or partial(policies.make, settings, self._source),
            lent=lent,
            make_chunking=make_chunking,
            noise=settings.noise(),
            disturbances=settings.disturbances(),
            render=settings.render,
            variant=settings.progress_variant,
            video_fps=execution.video_fps if execution.video else None,
            video_size=execution.video_size,
            record=execution.record_only if recorded else None,
            driver=self.label,
            privileged=is_privileged(self.policy),
        )
        try:
            self.store: RunStore = open_run(out, self._record(argv), resume=resume, beside=beside)
            if self.store.remark is not None:
                self.remarks = (*self.remarks, self.store.remark)
        except BaseException:
            self._release()
            raise

    def _record(self, argv: Sequence[str]) -> dict[str, Any]:
        """Return the content of run.json; `identity` must not change on resume."""
        return {
            "format": FORMAT,
            "identity": joined([self._identity(each) for each in self.tasks]),
            "sessions": [
                {
                    **this_session(argv).as_json(),
                    "policy": {
                        **self.policy.describe_here(),
                        **(self._source.here() if self._source else {}),
                    },
                    "execution": asdict(self._execution),
                }
            ],
        }

    def _identity(self, settings: RunSettings) -> dict[str, Any]:
        if self.worlds is not None and settings is self.settings:
            info = self.worlds.envs[0].info
        else:
            info = simulators.describe(settings, depth=self.policy.needs_depth)
        return {
            "b1k_eval": __version__,
            "settings": settings.as_json(),
            "policy": {
                **self.policy.describe(),
                **({"source": self._source.identity()} if self._source else {}),
            },
            "env": {**asdict(info), "settings": dict(info.settings)},
            "human": asdict(self._human[settings.task]),
            "privileged": self._assembly.privileged,
            **_numbers(settings),
        }

    def run(self, reporter: Reporter) -> None:
        """Run the missing episodes; see `launch` for errors."""
        how = self._execution
        workers, crew = how.workers, None
        if how.ray is not None:
            gpus = 1.0 if self.settings.sim == "omnigibson" else 0.0
            gpus = gpus if how.gpus_per_worker is None else how.gpus_per_worker
            workers = workers or cluster.room(gpus)
            crew = cluster.Cluster(self._assembly, self.store.path, gpus, reporter.note)
        here = crew is None and workers == 1 and self.worlds is not None
        if not here:
            self.close_world()  # each worker has its own
        for model in self._shared.values():
            model.note = reporter.note
            model.serve()
        telling = Telling(reporter, self.store.path)
        remarks: list[str] = []
        try:
            with logging_to(how.log_to, self.store.path, how.log_videos, reporter.note) as remarks:
                launch(
                    self._assembly,
                    self.plan,
                    self.store,
                    reporter=telling,
                    workers=workers,
                    worlds=self.worlds if here else None,
                    policy=self.policy if here else None,
                    enough=self._enough,
                    crew=crew,
                    retries=how.retries,
                )
        finally:
            telling.close()
            add_remarks(self.store, remarks)
        if how.dataset is not None:
            self.written = write_recorded(
                self.store.path, how.dataset, how.record_only, reporter.note
            )

    def standing(self) -> Standing | None:
        """Return the state of the comparison with `settings.against`; None without one."""
        return None if self._until is None else self._until.standing(self.store.episodes)

    def _enough(self) -> bool:
        """Return whether no further episode is needed; raise if none is possible."""
        for model in self._shared.values():
            if model.failed is not None:
                raise model.failed
        standing = self.standing()
        return standing is not None and standing.decided

    def close_world(self) -> None:
        """Release env and policy of this process; safe to call twice."""
        if self.worlds is not None:
            self.worlds.close()
        if self._lent is None:
            self.policy.close()

    def close(self) -> None:
        """Release everything, the folder's lock included; safe to call twice."""
        self._release()
        self.store.close()

    def _release(self) -> None:
        self.close_world()
        for model in self._shared.values():
            model.close()
        if self._execution.ray is not None:
            cluster.disconnect()


def _plan(settings: RunSettings) -> list[EpisodeInfo]:
    return plan_episodes(
        settings.task_entry(),
        settings.instances,
        settings.rollouts,
        settings.seed,
        settings.protocol,
    )


def _numbers(settings: RunSettings) -> dict[str, Any]:
    """Return the instances' official numbers, which name official files; the twin has none."""
    if settings.sim != "omnigibson":
        return {}
    ids = simulators.instance_ids(settings)
    return {"instance_ids": {str(index): number for index, number in ids.items()}}


def _until_decided(settings: RunSettings) -> UntilDecided | None:
    if settings.against is None:
        return None
    from b1k_eval.comparison.until_decided import UntilDecided  # scipy, which no other run needs

    return UntilDecided(settings)


def summarise(episodes: dict[EpisodeKey, dict[str, Any]]) -> dict[str, Any]:
    """Count the outcomes, and compute rate and means of the scored episodes.

    They are None if no episode was scored: an error is no evidence either way. So is
    `mean_task_progress` if it was counted in none.
    """
    lines = list(episodes.values())
    counts = {
        outcome: sum(line["outcome"] == outcome for line in lines)
        for outcome in ("success", "failure", "error")
    }
    scores = [line["q_score"] for line in lines if line["outcome"] != "error"]
    counted = [line.get("task_progress") for line in lines if line["outcome"] != "error"]
    progress = [each["score"] for each in counted if each is not None]
    return {
        "counts": counts,
        "success_rate": counts["success"] / len(scores) if scores else None,
        "mean_q_score": sum(scores) / len(scores) if scores else None,
        "mean_task_progress": sum(progress) / len(progress) if progress else None,
    }
