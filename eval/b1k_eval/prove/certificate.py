"""Going all ways and holding each against the episodes run one by one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from b1k_envs.errors import B1kEvalError, UnavailableError, UsageError
from b1k_eval.files import to_json, write_atomic
from b1k_eval.prove.equivalence import Equivalence, equivalence
from b1k_eval.prove.traces import (
    GROWN,
    ROUNDING,
    CellDifference,
    Verdict,
    compare_runs,
    worst,
)
from b1k_eval.prove.ways import WAYS, Trial
from b1k_eval.records.columns import MEASURED
from b1k_eval.records.loading import EpisodeData, RunData, read_tasks
from b1k_eval.records.run_files import RUN_FILE, read_run
from b1k_eval.records.store import storing

CERTIFICATE_FILE = "certificate.json"
BASE = "one-by-one"
"""Folder of the run that the others are held against."""


@dataclass(frozen=True, kw_only=True)
class WayResult:
    """What was found of a way.

    Attributes:
        way: Its name in `WAYS`.
        words: What it is.
        verdict: That of `traces`, or of `equivalence` for a simulator that never does the same
            twice; or `impossible` here.
        why: Why it is impossible; else None.
        episodes: How many were compared.
        equal: How many of them are equal to the bit.
        first: Where the first episode with the verdict differs; None if all are equal.
        largest: Largest difference of a number of all episodes, and its column.
        equivalence: The test's result; None without one.
    """

    way: str
    words: str
    verdict: Verdict | Literal["equivalent", "apart", "undecided", "impossible"]
    why: str | None = None
    episodes: int = 0
    equal: int = 0
    first: CellDifference | None = None
    largest: float = 0.0
    largest_in: str | None = None
    equivalence: Equivalence | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing that matters differs; also where the way is impossible here."""
        return self.verdict in ("equal", "rounding", "equivalent", "impossible")

    def said(self) -> str:
        """Return what there is to say besides the verdict; empty for nothing."""
        said = [] if self.why is None else [self.why]
        if self.equivalence is not None:
            said.append(self.equivalence.words())
        if self.largest_in is not None:
            said.append(f"largest difference {self.largest:.2g} ({self.largest_in})")
        if self.first is not None:
            said.append(f"first: {self.first.words()}")
        return "; ".join(said)


def prove(
    trial: Trial,
    out: Path,
    *,
    ways: Sequence[str] | None,
    bound: float,
    told: Callable[[WayResult], None],
) -> dict[str, Any]:
    """Run the episodes one by one and in other ways, compare, and write the certificate.

    Args:
        trial: The episodes.
        out: A folder for a run folder per way; what is done there is not done again.
        ways: Names of `WAYS`; None for all that are possible here.
        bound: See `equivalence`.
        told: Receives each result as it is found.

    Returns:
        The certificate, as JSON values.

    Raises:
        UsageError: A way that was named is unknown, or the settings are invalid.
        UnavailableError: A way that was named is impossible here; or simulator or policy are.
        B1kEvalError: An episode that was run one by one is an error.
        StorageError: A folder cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    trial.run(out / BASE)
    base = read_tasks(out / BASE)
    _check(base)
    results = []
    for name in WAYS if ways is None else ways:
        results.append(_gone(trial, out, name, bound=bound, named=ways is not None))
        told(results[-1])
    record = read_run(out / BASE)
    session = record["sessions"][-1]
    document = {
        "format": 1,
        "proved": all(each.passed for each in results),
        "episodes": [key.folder for run in base for key in run.plan],
        "at_once": trial.at_once,
        "rounding": ROUNDING,
        "grown": GROWN,
        "not_compared": sorted(MEASURED),
        "ways": [asdict(each) for each in results],
        "identity": record["identity"],
        "made_with": {key: value for key, value in session.items() if key != "execution"},
    }
    with storing(out):
        write_atomic(out / CERTIFICATE_FILE, to_json(document).encode())
    return document


def check_ways(ways: Sequence[str]) -> None:
    """Refuse unknown ways.

    Raises:
        UsageError: One is unknown, or given twice.
    """
    for name in ways:
        if name not in WAYS:
            raise UsageError(f"--ways: {name!r} is unknown: choose from {', '.join(WAYS)}")
        if ways.count(name) > 1:
            raise UsageError(f"--ways: {name} is given twice")


def _gone(trial: Trial, out: Path, name: str, *, bound: float, named: bool) -> WayResult:
    (words, go), folder = WAYS[name], out / name
    words = words.format(n=trial.at_once)
    new = not folder.exists()
    try:
        go(trial, folder)
    except (UsageError, UnavailableError) as error:
        if named or (isinstance(error, UsageError) and (folder / RUN_FILE).exists()):
            raise  # a folder that cannot be gone on with is no reason to leave out a way
        if new:
            shutil.rmtree(folder, ignore_errors=True)
        return WayResult(way=name, words=words, verdict="impossible", why=str(error))
    compared = compare_runs(out / BASE, folder)
    shown = worst(compared)
    verdict: Any = shown.verdict
    test = None
    if verdict == "different" and trial.tasks[0].sim == "omnigibson":
        test = _tested(out / BASE, folder, bound)
        verdict = test.verdict
    largest = max(compared, key=lambda each: each.largest)
    return WayResult(
        way=name,
        words=words,
        verdict=verdict,
        episodes=len(compared),
        equal=sum(each.verdict == "equal" for each in compared),
        first=shown.first,
        largest=largest.largest,
        largest_in=largest.largest_in,
        equivalence=test,
    )


def _check(base: Sequence[RunData]) -> None:
    for each in (each for run in base for each in run.episodes if each.outcome == "error"):
        raise B1kEvalError(
            f"{each.name}, run one by one, ended as error ({each.message}): a certificate needs "
            "episodes that run; see the messages of `run`"
        )
    for run in base:
        for damaged in run.damaged:
            raise UsageError(f"{run.path}: {damaged.name} is damaged ({damaged.why})")


def _tested(first: Path, second: Path, bound: float) -> Equivalence:
    one, two = ([*_scored(path)] for path in (first, second))

    def by_instance(scored: list[EpisodeData], name: str) -> dict[tuple[str, int], list[float]]:
        found: dict[tuple[str, int], list[float]] = {}
        for each in scored:
            found.setdefault((each.task, each.instance), []).append(float(getattr(each, name)))
        return found

    return equivalence(
        (by_instance(one, "success"), by_instance(two, "success")),
        (by_instance(one, "q_score"), by_instance(two, "q_score")),
        bound=bound,
    )


def _scored(path: Path) -> Iterator[EpisodeData]:
    for run in read_tasks(path):
        yield from run.scored
