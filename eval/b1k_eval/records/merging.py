"""Making one run of shards: what does not belong together is refused, with every reason.

The merged run equals the whole one, run.json's `sessions` apart, which are those of all shards; the
shards are left as they are. Files are linked where the disk allows it, for they are never changed.

A pass does not prove that shards were run on equal machines: `sessions` says on which.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b1k_envs.claims import ClaimedError, claim
from b1k_envs.errors import UsageError
from b1k_eval.files import link
from b1k_eval.records.identity import identity_differences
from b1k_eval.records.loading import RunData, read_tasks
from b1k_eval.records.run_files import LOCK_FILE, read_run
from b1k_eval.records.store import RunStore, open_run, storing


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A shard.

    Attributes:
        number: From 0.
        count: Of how many.
        record: Its run.json.
        runs: What it holds, by task.
    """

    number: int
    count: int
    record: dict[str, Any]
    runs: tuple[RunData, ...]

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.runs[0].path

    @property
    def name(self) -> str:
        """I/N."""
        return f"{self.number}/{self.count}"


@dataclass(frozen=True, kw_only=True)
class Merged:
    """A merged run.

    Attributes:
        store: Its folder, closed.
        missing: What it lacks, in words; empty for a whole run.
    """

    store: RunStore
    missing: tuple[str, ...]


def merge_runs(
    paths: Sequence[Path],
    out: Path,
    *,
    partial: bool = False,
    beside: bool = False,
) -> Merged:
    """Make one run of shards.

    Args:
        paths: Their folders.
        out: The folder of the merged run.
        partial: Whether episodes may be missing.
        beside: Choose another name if the folder exists.

    Raises:
        UsageError: The shards are not of one run, not complete, damaged, or being written.
        StorageError: The merged run cannot be written.
    """
    with ExitStack() as held:
        for path in dict.fromkeys(path.resolve() for path in paths):
            read_run(path)  # before a lock file is made where there is no run
            held.enter_context(_held(path))
        shards = [_shard(path) for path in paths]
        _check_division(shards)
        _check_identities(shards)
        shards.sort(key=lambda each: each.number)
        missing = tuple(_missing(shards))
        if missing and not partial:
            raise UsageError(
                f"the run is not complete: {'; '.join(missing)}. Finish that, or merge what is "
                "there with --partial"
            )
        store = open_run(out, _record(shards), resume=False, beside=beside)
        try:
            _fill(store, shards)
        except BaseException:
            shutil.rmtree(store.path, ignore_errors=True)  # it was new
            raise
        finally:
            store.close()
        return Merged(store=store, missing=missing)


def _shard(path: Path) -> Shard:
    runs = read_tasks(path)
    name = runs[0].identity["settings"]["shard"]
    if name is None:
        raise UsageError(f"{path} is a whole run, not a share of one (--shard): leave it out")
    for each in (damaged for run in runs for damaged in run.damaged):
        raise UsageError(
            f"{path}: {each.name} is damaged ({each.why}): remove its line from episodes.jsonl and "
            "--resume that run"
        )
    number, count = map(int, name.split("/"))
    return Shard(number=number, count=count, record=read_run(path), runs=runs)


def _check_division(shards: Sequence[Shard]) -> None:
    first = shards[0]
    seen: dict[int, Shard] = {}
    for each in shards:
        if each.count != first.count:
            raise UsageError(
                f"{first.path} is shard {first.name} and {each.path} shard {each.name}: "
                "shares of different divisions overlap; merge those of one"
            )
        if each.number in seen:
            twin = seen[each.number].path
            raise UsageError(
                f"{twin} and {each.path} are both shard {each.name}: their episodes are the "
                "same; leave one of them out"
            )
        seen[each.number] = each


def _check_identities(shards: Sequence[Shard]) -> None:
    first = shards[0]
    for each in shards[1:]:
        apart = identity_differences(_whole(first.record), _whole(each.record))
        if apart:
            raise UsageError(
                f"{first.path} and {each.path} are not shares of one run: {'; '.join(apart)}"
            )


def _whole(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the run.json of a shard as that of the whole run."""
    identity = record["identity"]
    return {**record, "identity": {**identity, "settings": {**identity["settings"], "shard": None}}}


def _missing(shards: Sequence[Shard]) -> Iterator[str]:
    """Yield in words what is not there."""
    count, there = shards[0].count, {each.number for each in shards}
    absent = [f"{number}/{count}" for number in range(count) if number not in there]
    if absent:
        yield f"no folder was given for shard {', '.join(absent)}"
    for each in shards:
        pending = sum(len(run.pending) for run in each.runs)
        if pending:
            planned = sum(len(run.plan) for run in each.runs)
            yield (
                f"{each.path} (shard {each.name}) lacks {pending} of its {planned} episodes, which "
                f"`b1k-eval run --resume --out {each.path}` does"
            )


def _record(shards: Sequence[Shard]) -> dict[str, Any]:
    """Return the run.json of the whole run."""
    return {
        **_whole(shards[0].record),
        "sessions": [session for each in shards for session in each.record["sessions"]],
        "merged_from": [{"shard": each.name, "run": str(each.path)} for each in shards],
    }


def _fill(store: RunStore, shards: Sequence[Shard]) -> None:
    runs = [run for each in shards for run in each.runs]
    for episode in (episode for run in runs for episode in run.episodes):
        folder = store.begin(episode.key)
        with storing(folder):
            # None for an error whose retry was killed before it had files.
            for file in episode.folder.iterdir() if episode.folder.is_dir() else ():
                link(file, folder / file.name)
        store.commit(folder, episode)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Keep other processes from writing a run."""
    try:
        held = claim(path / LOCK_FILE)
    except ClaimedError as error:
        known = "" if error.remove is None else f", or remove {error.remove} if it has ended"
        raise UsageError(f"{path} is being written by {error.owner}: wait for it{known}") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be locked ({error.strerror})") from error
    try:
        yield
    finally:
        held.close()
