"""What the BEHAVIOR challenge takes as a submission, and why a run is none.

Sources: StanfordVL/BEHAVIOR-1K, `OmniGibson/omnigibson/eval/utils/score_utils.py` (folder and file
names, test instances, one rollout each) and `docs/challenge/{submission,evaluation}.md` (which
instances count, videos, one prescribed rollout, official rendering).
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from b1k_envs.base import Protocol, Split
from b1k_envs.errors import UsageError
from b1k_envs.tasks import TIME_LIMIT_FACTORS, get_task
from b1k_envs.track import Track
from b1k_eval.compare.loading import RunData

TestSet = Literal["public", "hidden"]

TEST_SETS: Mapping[Split, TestSet] = MappingProxyType(
    {"public-test": "public", "hidden-test": "hidden"}
)
COUNTED_INSTANCES = range(10)
"""Indices within the split that the leaderboard counts; the rest are free for validation."""

DRAFT = "draft"
"""Takes the track's place in a draft's name, which the official scorer then refuses."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Who submits what; the five parts of the folder's name.

    Attributes:
        track: `standard` or `privileged`.
        testset: `public` or `hidden`.
        team: Name of the team; spaces become underscores, as the scorer turns them back.
        affiliation: The same for where it is from.
        date: ISO date.

    Raises:
        UsageError: A part is empty, or has a character that the name cannot carry.
    """

    track: Track
    testset: TestSet
    team: str
    affiliation: str
    date: datetime.date

    def __post_init__(self) -> None:
        for option, text in (("--team", self.team), ("--affiliation", self.affiliation)):
            if not text.strip():
                raise UsageError(f"{option} must not be empty: it is a part of the folder's name")
            bad = sorted({character for character in text if character in "./\\\0\n"})
            if bad:
                raise UsageError(
                    f"{option} {text!r} has {bad[0]!r}, which the folder's name "
                    "TRACK.TESTSET.TEAM.AFFILIATION.DATE cannot carry: leave it out"
                )

    def folder(self, *, draft: bool = False) -> str:
        """Name of the submission's folder."""
        parts = (self.team.strip(), self.affiliation.strip())
        named = [part.replace(" ", "_") for part in parts]
        track = f"{DRAFT}-{self.track}" if draft else self.track
        return ".".join([track, self.testset, *named, self.date.isoformat()])


def objections(run: RunData, track: Track) -> tuple[str, ...]:
    """Every reason why a run cannot be submitted, in words; empty if it can.

    Args:
        run: The run.
        track: The track it would be submitted to.
    """
    return tuple(_objections(run, track))


def _objections(run: RunData, track: Track) -> Iterator[str]:
    settings = run.identity["settings"]
    protocol: Protocol = settings["protocol"]
    if settings["sim"] != "omnigibson":
        yield (
            "it was run in the MuJoCo twin, which is not the benchmark: run it with "
            "--sim omnigibson"
        )
    if run.privileged and track == "standard":
        yield "its policy reads the simulator's truth, which the standard track forbids"
    if track == "standard" and protocol == "2025" and settings.get("track") != "standard":
        yield (
            "the policy was shown the slices of the 256 numbers that the standard track forbids: "
            "run it with --track standard"
        )
    if settings["split"] not in TEST_SETS:
        yield f"its instances are of the split {settings['split']}, not of a test set"
    beyond = [index for index in settings["instances"] if index not in COUNTED_INSTANCES]
    if beyond:
        yield (
            f"instance {beyond[0]} is none of those that count, "
            f"{COUNTED_INSTANCES.start} to {COUNTED_INSTANCES.stop - 1}"
        )
    if settings["rollouts"] != 1:
        yield f"it has {settings['rollouts']} rollouts an instance, and one is prescribed"
    if settings["render"] != "every-step":
        yield (
            f"it was rendered {settings['render']}; the official evaluator renders and observes "
            "every step: run it with --render every-step"
        )
    if settings.get("mode", "sync") != "sync":
        yield "the world went on while the policy thought, which the official evaluator's does not"
    if settings["action_noise"] is not None:
        yield "its actions were disturbed on purpose (--action-noise)"
    yield from _limit_objections(run, protocol)
    yield from _episode_objections(run)


def _limit_objections(run: RunData, protocol: Protocol) -> Iterator[str]:
    settings, human = run.identity["settings"], run.identity["human"]
    if any(human[name] is None for name in human):
        yield (
            "the official human figures of the task were not at hand, so its normalised figures "
            "are incomplete: run it with --human-stats FILE"
        )
        return
    official = int(human["length"] * TIME_LIMIT_FACTORS[protocol])
    if settings["max_steps"] != official:
        yield (
            f"its time limit was {settings['max_steps']} steps, the official one of "
            f"{get_task(settings['task']).name} is {official}"
        )


def _episode_objections(run: RunData) -> Iterator[str]:
    for what, names in (
        ("ended as an error", [e.name for e in run.episodes if e.outcome == "error"]),
        ("is not finished", [key.folder for key in run.pending]),
        ("is damaged", [entry.name for entry in run.damaged]),
        ("has no video", [e.name for e in run.scored if e.video is None]),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            repair = "" if what == "has no video" else ": --resume the run"
            yield f"episode {names[0]}{more} {what}{repair}"
