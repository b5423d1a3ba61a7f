"""The BEHAVIOR challenge's rules for submissions, and why a run cannot be submitted.

Sources: StanfordVL/BEHAVIOR-1K, `OmniGibson/omnigibson/eval/utils/score_utils.py` (folder and file
names, test instances, one rollout each) and `docs/challenge/{submission,evaluation}.md` (which
instances count, videos, one prescribed rollout, official rendering, several checkpoints of one
model family in one entry).
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType
from typing import Any, Literal

from b1k_envs.base import ProtocolYear, Split
from b1k_envs.errors import UsageError
from b1k_envs.r1pro import CONTROL_HZ
from b1k_envs.tasks.table import TIME_LIMIT_FACTORS, get_task
from b1k_envs.tracks import FORBIDDEN_PROPRIO, Track
from b1k_eval.comparison.comparable import differences, source_facts
from b1k_eval.records.loading import EpisodeData, RunData
from b1k_eval.video.recording import DamagedVideoError, recording_of

TestSet = Literal["public", "hidden"]

TEST_SETS: Mapping[Split, TestSet] = MappingProxyType(
    {"public-test": "public", "hidden-test": "hidden"}
)
COUNTED_INSTANCES = range(10)
"""Indices within the split that the leaderboard counts; the rest are for validation."""

VIDEO_FPS = CONTROL_HZ
"""Pictures per second of a submission's videos: one per control step."""

DRAFT = "draft"
"""Prefix of the track in a draft's name, so that the official scorer refuses it."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The five parts of a submission's folder name.

    Attributes:
        track: `standard` or `privileged`.
        testset: `public` or `hidden`.
        team: Name of the team; spaces become underscores, which the scorer reverts.
        affiliation: Affiliation of the team; likewise.
        date: Date of the submission.

    Raises:
        UsageError: A part is empty, or has a character that the name cannot have.
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
        """Return the name of the submission's folder."""
        parts = (self.team.strip(), self.affiliation.strip())
        named = [part.replace(" ", "_") for part in parts]
        track = f"{DRAFT}-{self.track}" if draft else self.track
        return ".".join([track, self.testset, *named, self.date.isoformat()])


def objections(run: RunData, track: Track) -> tuple[str, ...]:
    """Return all reasons why a run cannot be submitted to a track; empty if it can."""
    return tuple(_objections(run, track))


def setting_objections(settings: Mapping[str, Any], track: Track) -> Iterator[tuple[str, str]]:
    """Yield each setting that prevents a submission to a track, and why.

    `settings` are by field of `RunSettings`; `protocol` may be None if not known yet.
    """
    sim, protocol, split = (settings[name] for name in ("sim", "protocol", "split"))
    if sim != "omnigibson":
        yield "sim", "the MuJoCo twin is not the benchmark: --sim omnigibson is"
    if track == "standard" and protocol == "2025" and settings.get("track") != "standard":
        yield (
            "track",
            "the policy sees the slices of the 256 numbers that the standard track forbids: "
            "--track standard hides them",
        )
    if split not in TEST_SETS:
        yield "split", f"the split {split} is not a test set; {' and '.join(TEST_SETS)} are"
    beyond = [index for index in settings["instances"] if index not in COUNTED_INSTANCES]
    if beyond:
        yield (
            "instances",
            f"instance {beyond[0]} does not count, only "
            f"{COUNTED_INSTANCES.start} to {COUNTED_INSTANCES.stop - 1} do",
        )
    if settings["rollouts"] != 1:
        yield "rollouts", f"{settings['rollouts']} rollouts per instance, but one is prescribed"
    if settings["render"] != "every-step":
        yield (
            "render",
            f"rendered {settings['render']}, and the official evaluator renders and observes every "
            "step: --render every-step does",
        )
    if settings["partial_scene"] is True:
        yield (
            "partial_scene",
            "only the rooms of the task are loaded, and the 2025 evaluation has the whole house: "
            "leave --partial-scene out",
        )
    if settings.get("mode", "sync") != "sync":
        yield (
            "mode",
            "the world goes on while the policy thinks, which the official evaluator's does not: "
            "--mode sync waits",
        )
    if settings["action_noise"] is not None:
        yield "action_noise", "actions are disturbed on purpose (--action-noise)"
    if settings.get("against") is not None:
        yield "against", "results decide which instances are run (--until-decided)"


def _objections(run: RunData, track: Track) -> Iterator[str]:
    settings = run.identity["settings"]
    if run.privileged and track == "standard":
        yield "its policy reads the simulator's state, which the standard track forbids"
    yield from (why for _, why in setting_objections(settings, track))
    yield from _limit_objections(run, settings["protocol"])
    yield from _episode_objections(run)
    yield from _video_objections(run)


def _limit_objections(run: RunData, protocol: ProtocolYear) -> Iterator[str]:
    settings, human = run.identity["settings"], run.identity["human"]
    if any(human[name] is None for name in human):
        yield (
            "the official human figures of the task were not at hand, so its normalised figures "
            "are incomplete: run it with --human-stats FILE"
        )
        return
    official = int(human["length"] * TIME_LIMIT_FACTORS[protocol])  # truncated, as the evaluator's
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
            repair = "" if what == "has no video" else ": --resume the run"
            yield f"episode {and_more(names)} {what}{repair}"


def _video_objections(run: RunData) -> Iterator[str]:
    """Yield a sentence per kind of problem: a video must have one picture per step at 30 Hz."""
    found: dict[str, list[str]] = {}
    for episode in run.scored:
        if episode.video is not None and (why := _video_problem(episode)) is not None:
            found.setdefault(why, []).append(episode.name)
    for why, names in found.items():
        yield f"the video of episode {and_more(names)} {why}"


def _video_problem(episode: EpisodeData) -> str | None:
    if episode.video is None:
        return None
    try:
        found = recording_of(episode.video, episode.recording)
    except DamagedVideoError as error:
        return f"cannot be read ({error}): run the episode again"
    if found.every != 1:
        return (
            f"has {found.fps:g} pictures per second, but needs one per step at {VIDEO_FPS:g}: "
            f"run it with --video-fps {VIDEO_FPS:g}"
        )
    if not found.fits(episode.steps):
        return (
            f"has {found.frames} pictures for {episode.steps} steps, but needs one per step: "
            "run the episode again"
        )
    return None


def and_more(names: Sequence[str]) -> str:
    """Return the first name, and how many more there are."""
    return f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0]


# --- several runs in one submission ---------------------------------------------------------


def require_one_entry(runs: Sequence[RunData], *, several_policies: bool) -> None:
    """Check that runs can be one entry together.

    Args:
        runs: The runs.
        several_policies: Whether different tasks may have different policies; one task never.

    Raises:
        UsageError: A run was imported; or two share an episode, or differ in protocol, test set,
            track or policy. The message names both and the difference.
    """
    for run in runs:
        source = run.identity.get("imported_from")
        if source is not None:
            raise UsageError(
                f"{run.path} was imported from {source}: submit the evaluator's own files, which "
                "must not be changed"
            )
    for one, two in combinations(runs, 2):
        if one.path.resolve() == two.path.resolve() and one.task == two.task:
            raise UsageError(f"{one.path} is given twice")
        mine, other = one.identity["settings"], two.identity["settings"]
        for name in ("protocol", "split", "track"):
            if _shown(mine, name) != _shown(other, name):
                raise UsageError(
                    f"{one.path} and {two.path} cannot be one entry ({name}: "
                    f"{mine.get(name)} against {other.get(name)}): export them apart"
                )
        shared = [key for key in one.plan if key in set(two.plan)]
        if shared:
            raise UsageError(
                f"{one.path} and {two.path} both have episode "
                f"{and_more([key.folder for key in shared])}: an entry has one prescribed rollout "
                "of each; export only the run that was meant for it"
            )
        if one.task == two.task and dict(one.identity["human"]) != dict(two.identity["human"]):
            raise UsageError(
                f"{one.path} and {two.path} are of one task, but relative to different human "
                "figures: run one of them again with the other's data"
            )
        different = _other_policy(one, two)
        if different is None:
            continue
        if one.task == two.task:
            raise UsageError(
                f"{one.path} and {two.path} are of one task by different policies ({different}): "
                "its instances must not be shared out among policies"
            )
        if not several_policies:
            raise UsageError(
                f"{one.path} and {two.path} are of different policies ({different}). The "
                "challenge takes several checkpoints of one model family as one entry: if they are "
                "that, add --several-policies; else export them apart"
            )


def _shown(settings: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - a JSON value
    """Return a setting; no track counts as `standard` if that track hides nothing."""
    hides = name != "track" or FORBIDDEN_PROPRIO[settings["protocol"]]
    return settings.get(name) if hides or settings.get(name) == "privileged" else "standard"


_ASIDE = (
    "name",
    "chunk_length",
    "remarks",
    "device",
    "packages",
    "address",
    "batch",
    "query_timeout_s",
)
"""Keys of a policy's description that do not identify it: where and how it was run."""

_NEWER = ("variables",)
"""Keys that the first runs did not record; compared if both runs have them."""


def _other_policy(one: RunData, two: RunData) -> str | None:
    """Say how the policies of two runs differ; None if they are the same."""
    contracts = differences(one, two).contract
    if contracts:
        return f"contract, {contracts[0]}"
    first, second = (_policy_facts(run.identity["policy"]) for run in (one, two))
    for name in (*first, *second):
        unknown = name in _NEWER and not (name in first and name in second)
        if not unknown and first.get(name) != second.get(name):
            return f"{name} {_short(first.get(name))} against {_short(second.get(name))}"
    return None


def _policy_facts(policy: Mapping[str, Any]) -> dict[str, Any]:
    """Return what identifies a policy, most telling first.

    A checkpoint is identified by its weights and code, a served policy by its server's metadata,
    whatever the address; without metadata by the address.
    """
    facts: dict[str, Any] = {}
    checkpoint = policy.get("checkpoint")
    if checkpoint is not None:
        facts = {name: checkpoint.get(name) for name in ("weights_sha256", "code_sha256")}
    elif policy.get("address") is None:
        facts["name"] = policy["name"]
    elif not policy.get("metadata"):
        facts["address"] = policy["address"]
    aside = {*_ASIDE, "checkpoint", "contract", "source"}
    return {
        **facts,
        **source_facts(policy),
        **{name: value for name, value in policy.items() if name not in aside},
    }


def _short(value: Any) -> str:  # noqa: ANN401 - any JSON value
    text = "none" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
