"""Rung 4: executing the actions of demonstrations on their initial states.

A replay that succeeds shows that the world, its initial states, the controllers and the goal are
those of the recording. For one that fails, the first step at which recorded and measured
proprioception part is named, with what explains it: actions that are shifted against the states, or
another initial state, which is searched for.

What a failure does not prove: that this installation is wrong. BEHAVIOR-1K's issue 2344 reports
that the demonstrations of 2026 were recorded on OmniGibson 3.7 with Isaac Sim 4.5 and diverge when
their actions are replayed on 3.9.2 with Isaac Sim 5.1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from b1k_envs.base import Env, EnvInfo
from b1k_eval import __version__
from b1k_eval.comparison.intervals import wilson
from b1k_eval.files import to_json, write_atomic
from b1k_eval.qualify.alignment import BOUNDS
from b1k_eval.qualify.one_replay import Assigned, ReplayOutcome, replay
from b1k_eval.qualify.rungs import Rung
from b1k_eval.records.store import storing
from b1k_eval.run.pool import without_process

FOLDER = "replays"
"""Folder in the output folder, with a file for each recording that was replayed."""

EXPECTED_RATE = 0.8
"""In OmniGibson, whose physics does not repeat bit for bit, the rung fails if the interval of the
success rate lies below this. The twin does repeat, so there every recording has to succeed."""

MOST_CANDIDATES = 8
"""Most initial states to try when searching for that of a recording."""

ISSUE_2344 = (
    "a replay may fail through no fault of this installation: the demonstrations of 2026 were "
    "recorded on OmniGibson 3.7 with Isaac Sim 4.5, and open-loop replay of them diverges on 3.9.2 "
    "with Isaac Sim 5.1 (StanfordVL/BEHAVIOR-1K, issue 2344)"
)


def replays_rung(
    env: Env,
    assigned: Sequence[Assigned],
    out: Path,
    *,
    remarks: Sequence[str] = (),
    say: Callable[[str], None] = lambda text: None,
) -> Rung:
    """Run rung 4: replay what has not been replayed yet, and judge all results.

    Args:
        env: Any world; its time limit does not apply.
        assigned: The recordings, at least one.
        out: Folder below which results are kept, so that a second call need not repeat them.
        remarks: Remarks on the data set.
        say: Called with a line for every replay.

    Raises:
        StorageError: A result cannot be written.
        EnvError: The world cannot be reset.
    """
    told: list[ReplayOutcome] = []
    for number, each in enumerate(assigned, start=1):
        file = out / FOLDER / f"{each.demo.entry.name}.json"
        identity = _identity(env, each)
        result = _kept(file, identity)
        if result is None:
            result = replay(env, each, _candidates(each, assigned, told))
            with storing(file):
                file.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(
                    file, to_json({"identity": identity, "result": asdict(result)}).encode()
                )
            say(f"recording {number} of {len(assigned)}: {result.words}")
        else:
            say(f"recording {number} of {len(assigned)}, replayed before: {result.words}")
        told.append(result)
        if result.cause == "world failed":
            break
    return _judge(env, told, len(assigned), remarks)


def _identity(env: Env, each: Assigned) -> dict[str, Any]:
    """Return what a kept result must have been made with to count."""
    info = env.info
    return {
        "b1k_eval": __version__,
        "recording": each.demo.sha256,
        "instance": each.instance,
        "sim": info.sim,
        "sim_version": info.sim_version,
        "protocol": info.protocol,
        "task": info.task,
        "world": _without_measurements(info),
    }


def _without_measurements(info: EnvInfo) -> dict[str, Any]:
    """Return what a world is made of, as JSON values that are equal at every start of it.

    Of the checks at its start only words, whole numbers and the verdicts are kept.
    """
    # Measured floats differ between two starts of one world, and would void every kept result.
    made = without_process({"settings": dict(info.settings)})["settings"]
    checks = {
        each["name"]: [each["ok"], each["found"] if isinstance(each["found"], (str, int)) else None]
        for each in made.pop("startup_checks", ())
    }
    plain: dict[str, Any] = json.loads(json.dumps({**made, "checks": checks}, default=str))
    return plain


def _kept(file: Path, identity: dict[str, Any]) -> ReplayOutcome | None:
    """Return a kept result, if it is of the same recording in the same world."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        kept = json.loads(file.read_text(encoding="utf-8"))
        # A world that failed says nothing about the recording, so that is tried again.
        if kept["identity"] == identity and kept["result"]["cause"] != "world failed":
            return ReplayOutcome(**kept["result"])
    return None


def _candidates(
    each: Assigned, assigned: Sequence[Assigned], told: Sequence[ReplayOutcome]
) -> list[int]:
    """List initial states that may fit; after a find, only the one at the same distance."""
    # A data set that is counted otherwise is off by the same number for every recording.
    away = next((t.found_on - t.instance for t in told if t.found_on is not None), None)
    if away is not None:
        return [each.instance + away]
    near = [each.instance + by for by in (-1, 1, -2, 2)]
    others = [other.instance for other in assigned]
    every = dict.fromkeys(index for index in (*near, *others) if index >= 0)
    every.pop(each.instance, None)
    return list(every)[:MOST_CANDIDATES]


def _judge(env: Env, told: Sequence[ReplayOutcome], count: int, remarks: Sequence[str]) -> Rung:
    successes = sum(each.success for each in told)
    interval = wilson(successes, len(told))
    details = {
        "successes": successes,
        "replayed": len(told),
        "interval": None if interval is None else asdict(interval),
        "bounds": dict(BOUNDS),
        "recordings": [asdict(each) for each in told],
    }
    failed = next((each for each in told if each.cause == "world failed"), None)
    if failed is not None or interval is None:
        why = "nothing was replayed" if failed is None else failed.words
        return Rung(
            number=4,
            verdict="fail",
            finding=why,
            advice="see the log of the simulator",
            details=details,
        )
    rate = (
        f"{successes} of {len(told)} succeed ({interval.estimate:.0%} "
        f"[{interval.low:.0%}, {interval.high:.0%}], {interval.method})"
    )
    late = sum(each.shift == 1 for each in told)
    said = list(remarks)
    if late:
        said.append(
            f"in {late} recordings every state is that after its action; or actions act one step "
            "later here than when they were recorded: a recording cannot tell which"
        )
    if successes < len(told):
        said.append(ISSUE_2344)
    named = [each for each in told if each.cause in ("shifted", "wrong instance")]
    others = [each for each in told if not each.success and each not in named]
    everything = env.info.sim == "mujoco"
    enough = successes == len(told) if everything else interval.high >= EXPECTED_RATE
    verdict: Literal["pass", "fail"] = "pass" if enough and not named else "fail"
    shown = [*named, *others][:3]
    more = len(named) + len(others) - len(shown)
    finding = ". ".join([rate, *(each.words for each in shown)])
    if more:
        finding += f". {more} more in {FOLDER}/"
    return Rung(
        number=4,
        verdict=verdict,
        finding=finding,
        advice=None if verdict == "pass" else _advice(told),
        details=details,
        remarks=tuple(said),
    )


def _advice(told: Sequence[ReplayOutcome]) -> str:
    causes = {each.cause for each in told}
    if "shifted" in causes:
        return (
            "an action has to act in the step it is given for: look for a queue or an extra step "
            "between policy and simulator; or the recordings' rows were moved"
        )
    if "wrong instance" in causes:
        return (
            "hold the numbers of the initial states against the recordings': --split, the files of "
            "the instances, and what numbers the data set has"
        )
    if "other outcome" in causes:
        return (
            "hold the files of the instances, the assets' version and the BDDL problem against "
            "those of the recording"
        )
    return (
        "hold versions of simulator and assets, base mass and grasp window against those of the "
        "recording; where they differ, only recordings of the installed version can tell"
    )
