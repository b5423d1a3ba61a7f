"""A data set of finished runs: what was not recorded is executed again in the twin.

An episode that was recorded is taken as it is, whatever simulator it was run in. Any other has to
be of the twin, and its replay has to equal its trace: pictures of another course would not belong
to its actions.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from b1k_envs.base import Env
from b1k_envs.errors import EnvError, UsageError
from b1k_eval.dataset.choosing import choose
from b1k_eval.dataset.recorder import FrameRecorder
from b1k_eval.dataset.writing import Source, Written, check_target, write_dataset
from b1k_eval.execution import RecordOnly
from b1k_eval.files import TEMP_PREFIX
from b1k_eval.records.loading import RunData
from b1k_eval.records.store import storing
from b1k_eval.replay.recorded import read_recorded, world_settings
from b1k_eval.replay.retrace import compare, execute
from b1k_eval.run import simulators


def write_rollouts(
    runs: Sequence[RunData], path: Path, only: RecordOnly, said: Callable[[str], None]
) -> Written:
    """Write a data set of runs.

    Args:
        runs: Of one layout of the proprioception.
        path: Its folder; one that holds a data set of the same runs is replaced.
        only: Which episodes.
        said: Receives remarks.

    Raises:
        UsageError: There is no episode; an unrecorded run is not of the twin; see `check_target`.
        UnavailableError: The twin cannot be had here.
        EnvError: A replay does not equal its trace.
        StorageError: The data set cannot be written.
    """
    sessions = list({run.path: run.sessions[0] for run in runs}.values())
    check_target(path, sessions)
    chosen = choose(runs, only)
    if chosen.empty:
        said(f"{chosen.empty} episodes ended before their first step: left out")
    if not chosen.sources:
        names = ", ".join(str(run.path) for run in runs)
        raise UsageError(f"{names}: no episode for a data set, with --record-only {only}")
    settings = {id(source.run): world_settings(source.run) for source in chosen.unseen}
    for each in settings.values():
        simulators.check_world(each)
    if settings:
        simulators.prepare_pictures()
    sources = list(chosen.sources)
    films = path.with_name(f"{TEMP_PREFIX}films-{path.name}")
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, films, ignore_errors=True)
        of: int | None = None
        env: Env | None = None
        for number, source in enumerate(chosen.unseen, start=1):
            if env is None or of != id(source.run):
                if env is not None:
                    env.close()
                env, of = simulators.make_env(settings[id(source.run)]), id(source.run)
                stack.callback(env.close)
            said(f"executing {source.episode.name} again, {number} of {len(chosen.unseen)}")
            folder = films / str(number)
            with storing(folder, "do it again"):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                _film(env, source, folder)
            sources[sources.index(source)] = source._replace(folder=folder)
        return write_dataset(sources, path)


def _film(env: Env, source: Source, folder: Path) -> None:
    """Execute an episode again, and record what is seen before each action.

    Raises:
        EnvError: It does not go as it did.
    """
    recorded = read_recorded(source.episode)
    recorder = FrameRecorder(folder)

    def watch(step: int) -> None:
        if step < len(recorded.actions):
            recorder.add(env.observe())

    try:
        comparison = compare(recorded.states, execute(env, recorded, watch=watch))
        if not comparison.equal:
            raise EnvError(
                f"{source.run.path}: {source.episode.name} does not go as recorded from step "
                f"{comparison.first_step} on, so its pictures cannot be made; `b1k-eval replay "
                f"{source.run.path} {source.episode.name}` shows what differs, and --record on a "
                "run makes them at once"
            )
        recorder.finish()
    except BaseException:
        recorder.drop()
        raise
