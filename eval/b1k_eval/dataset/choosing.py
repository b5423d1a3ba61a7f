"""Which episodes of a run go into a data set, and which lack their pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from b1k_envs.tasks.table import Task, get_task
from b1k_eval.dataset.recorder import has_frames
from b1k_eval.dataset.writing import Source, Written, write_dataset
from b1k_eval.execution import RecordOnly
from b1k_eval.records.episode import OUTCOMES
from b1k_eval.records.loading import EpisodeData, RunData, read_tasks

TASK_FACTOR, INSTANCE_FACTOR = 10_000, 10


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The episodes of runs.

    Attributes:
        sources: Those to write, in the order of runs and plans.
        unseen: Those of them that were run without being recorded.
        empty: How many are left out because they ended before their first step.
    """

    sources: tuple[Source, ...]
    unseen: tuple[Source, ...]
    empty: int


def choose(runs: Sequence[RunData], only: RecordOnly) -> Chosen:
    """Choose successes and failures, or successes alone; an error is no rollout."""
    outcomes = OUTCOMES[:1] if only == "success" else OUTCOMES[:2]
    wanted = [
        Source(run, episode, episode.folder, numbers_of(run, episode))
        for run in runs
        for episode in run.episodes
        if episode.outcome in outcomes
    ]
    there = [source for source in wanted if source.episode.steps > 0]
    return Chosen(
        sources=tuple(there),
        unseen=tuple(source for source in there if not has_frames(source.folder)),
        empty=len(wanted) - len(there),
    )


def write_recorded(
    run: Path, path: Path, only: RecordOnly, note: Callable[[str], None]
) -> Written | None:
    """Write the data set of the recorded episodes of a run; None where there is none.

    Args:
        run: The run folder.
        path: The data set's folder.
        only: Which episodes.
        note: Receives what is left out.

    Raises:
        B1kEvalError: See `write_dataset`.
    """
    chosen = choose(read_tasks(run), only)
    unseen = {source.episode.key for source in chosen.unseen}
    sources = [each for each in chosen.sources if each.episode.key not in unseen]
    if chosen.empty:
        note(f"not in the data set: {chosen.empty} that ended before the first step")
    if unseen:
        note(
            f"not in the data set: {len(unseen)} that were run without --record; `b1k-eval record "
            f"{run} --to DIR` executes them again in the twin"
        )
    if not sources:
        note(f"no data set in {path}: there is no episode for it")
        return None
    return write_dataset(sources, path)


def numbers_of(run: RunData, episode: EpisodeData) -> Mapping[str, int]:
    """Return an episode's `task_instance_id` and `raw_episode_id`, as the demonstrations have them.

    Empty for results of OmniGibson whose run did not record its instances' official numbers.
    """
    settings = run.identity["settings"]
    if settings["sim"] == "mujoco":
        from b1k_envs.omnigibson.setup.data import FIRST_IDS

        instance = FIRST_IDS[settings["split"]] + episode.instance
    elif str(episode.instance) in run.identity.get("instance_ids", {}):
        instance = int(run.identity["instance_ids"][str(episode.instance)])
    else:
        return {}
    number = behavior_number(get_task(episode.task), instance, episode.rollout)
    return {"task_instance_id": instance, "raw_episode_id": number}


def behavior_number(task: Task, instance_id: int, attempt: int) -> int:
    """Return the BEHAVIOR number of an episode: task * 10000 + instance * 10 + try."""
    return task.index * TASK_FACTOR + instance_id * INSTANCE_FACTOR + attempt
