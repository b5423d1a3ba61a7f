"""Running many episodes, in this process or in workers with their own envs and policies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from b1k_envs.base import Worlds
from b1k_envs.tasks.table import Task
from b1k_eval.records.store import RunStore
from b1k_eval.run.crew.base import Crew
from b1k_eval.run.crew.processes import Processes
from b1k_eval.run.dealing import Dealer
from b1k_eval.run.episode import Assembly, Finished
from b1k_eval.run.executor import Assignment, Executor
from b1k_eval.run.pool import Pool, commit, key_of
from b1k_eval.run.progress.reporter import Reporter
from b1k_eval.run.progress.snapshot import EpisodeProgress
from b1k_policies.base import EpisodeInfo, Policy

__all__ = ["episode_seed", "key_of", "launch", "plan_episodes"]


def episode_seed(run_seed: int, task: str, instance: int, rollout: int) -> int:
    """Return the seed of an episode, in [0, 2^31)."""
    # Hashed, so that it does not depend on which other episodes are in the run.
    text = f"b1k-eval/{run_seed}/{task}/{instance}/{rollout}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def plan_episodes(
    task: Task,
    instances: Iterable[int],
    rollouts: int,
    seed: int,
    protocol: Any,  # noqa: ANN401
) -> list[EpisodeInfo]:
    """List all episodes of a run, by instance and then rollout."""
    return [
        EpisodeInfo(
            task=task.name,
            task_index=task.index,
            instruction=task.instruction,
            instance=instance,
            rollout=rollout,
            seed=episode_seed(seed, task.name, instance, rollout),
            protocol=protocol,
        )
        for instance in instances
        for rollout in range(rollouts)
    ]


def launch(
    assembly: Assembly,
    plan: Sequence[EpisodeInfo],
    store: RunStore,
    *,
    reporter: Reporter,
    workers: int = 1,
    worlds: Worlds | None = None,
    policy: Policy | None = None,
    enough: Callable[[], bool] = lambda: False,
    crew: Crew | None = None,
    retries: int = 0,
) -> None:
    """Run the missing episodes of a plan. What is finished is kept, whatever is raised.

    Args:
        assembly: How to build envs and a policy, here or in a worker.
        plan: All episodes of the run, finished ones included.
        store: Where results go; leftovers are cleared first.
        reporter: Receives progress; not closed here.
        workers: 1 runs in this process, more in as many spawned ones. A world with
            `Assembly.limits` always runs in spawned ones.
        worlds: Envs that exist already, for workers = 1; closed here.
        policy: The same for the policy.
        enough: Asked before every episode; once true, no further one is started.
        crew: Makes the workers elsewhere than on this machine; closed here.
        retries: See `Pool`.

    Raises:
        UsageError: The folder has an episode that is not in the plan.
        StorageError: A result cannot be written.
        EnvError: The world cannot be started, see `Pool`.
        KeyboardInterrupt: Passed through.
    """
    keys = [key_of(episode) for episode in plan]
    store.clean(keys)
    pending = set(store.pending(keys))
    todo = [episode for episode, key in zip(plan, keys, strict=True) if key in pending]
    at_once = workers * assembly.num_envs
    longest = max((assembly.of(episode.task).max_steps for episode in plan), default=1)
    reporter.run_started(len(plan), len(plan) - len(todo), longest, at_once)
    try:
        if crew is None and workers == 1 and assembly.limits is None:
            executor = Executor(assembly, worlds=worlds, policy=policy)
            _run_here(executor, todo, store, reporter, enough, at_once)
        else:
            crew = crew or Processes(assembly)
            Pool(assembly, store, reporter, workers, enough, crew, retries).run(todo)
    except KeyboardInterrupt:
        store.clean(keys)  # the half-written folders of the episodes under way
        raise
    if crew is not None:
        store.clean(keys)  # the folders of attempts whose node was lost
    store.finish(keys)


def _run_here(
    executor: Executor,
    todo: Iterable[EpisodeInfo],
    store: RunStore,
    reporter: Reporter,
    enough: Callable[[], bool],
    at_once: int,
) -> None:
    dealer = Dealer(todo)
    under_way: dict[int, Assignment] = {}
    task = ""

    def following(number: int) -> Assignment | None:
        episode = None if enough() else dealer.take(task)
        if episode is None:
            return None
        reporter.episode_started(key_of(episode))
        under_way[number] = Assignment(episode, store.begin(key_of(episode)))
        return under_way[number]

    def heard(number: int, what: EpisodeProgress | Finished) -> None:
        episode, folder = under_way[number]
        if isinstance(what, EpisodeProgress):
            reporter.step(key_of(episode), what)
        else:
            commit(store, reporter, key_of(episode), folder, what)

    try:
        while dealer and not enough():
            task = dealer.task_for(task)
            batch = [each for n in range(at_once) if (each := following(n)) is not None]
            executor.run_batch(batch, heard, following)
    finally:
        executor.close()
