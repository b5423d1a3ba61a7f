"""The options of `run` that can change a result, each declared once.

They are checked, recorded in run.json as part of the run's identity, fixed on resume, and read back
from there. Those that may differ on resume are in `execution`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from b1k_envs.base import ProgressVariant, ProtocolYear, Sim, Split
from b1k_envs.errors import UsageError
from b1k_envs.tasks.table import Task, get_task
from b1k_envs.tasks.task_progress import DEFAULT_VARIANT
from b1k_envs.tracks import Track
from b1k_eval.disturbances.axes import Disturbance, parse_disturbances
from b1k_eval.disturbances.noise import NoiseSpec
from b1k_eval.loop.chunking import Chunking
from b1k_eval.loop.runner import Render
from b1k_eval.loop.strategy import (
    DEFAULT_ENSEMBLE_DECAY,
    DEFAULT_ENSEMBLE_EVERY,
    DEFAULT_HORIZON,
    ChunkingName,
    build_chunking,
)
from b1k_eval.selection import parse_instances, parse_shard
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.options import (
    POLICY,
    STATISTICS,
    WHAT,
    Option,
    check,
    completed,
    flag,
    read,
    record,
)
from b1k_policies.own.installed import installed_words
from b1k_policies.remote.gr00t.robot import HORIZON as GR00T_HORIZON

Mode = Literal["sync", "realtime"]
RenderQuality = Literal["fast", "high"]

MEASURED = "measured"
"""Value of `--latency` for the measured latency of each inference."""


IMPORTED = "imported:"
"""Prefix of the policy's name in imported results."""

UNKNOWN = "unknown"
"""A setting of imported results that official files do not record."""

_CHOICES_OF_2025: Mapping[str, Mapping[Sim, str]] = {
    "partial_scene": {
        "omnigibson": "2026 loads the rooms that the task's own table names, in every official run",
        "mujoco": "the MuJoCo twin has one room",
    },
    "heavy_base": {
        "omnigibson": "in 2026 the base always weighs 250 kg",
        "mujoco": "the base of the MuJoCo twin always weighs 250 kg",
    },
}
"""Settings that only the 2025 evaluator leaves open, and why they are fixed elsewhere."""


def _chosen_in_2025(recorded: Mapping[str, Any]) -> bool | str:
    """Return the value of `partial_scene` and `heavy_base` in runs that did not record them.

    Both were on in OmniGibson 2025; official files of that year do not tell.
    """
    chosen = (recorded.get("sim"), recorded.get("protocol")) == ("omnigibson", "2025")
    return UNKNOWN if chosen and str(recorded.get("policy")).startswith(IMPORTED) else chosen


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Everything that can change a result. Runs with equal settings are the same experiment.

    Fields are explained by their options' help. Values are resolved: `sim` is not `auto`, `policy`
    is `checkpoint` if there is one, files are absolute.

    Raises:
        UsageError: Invalid values, alone or together.
    """

    task: Annotated[
        str,
        Option(
            heading=WHAT,
            help="Tasks by index, name, range or group, e.g. 31, clean_boxing_gloves, 31,0, 0-49, "
            "b10 to b50 (the groups of 2025) or all.",
        ),
    ]
    policy: Annotated[
        str,
        Option(
            heading=POLICY,
            help="expert, zero, hold, random, replay:FILE, ws://HOST:PORT, wss://HOST:PORT, "
            "gr00t://HOST:PORT, or a class of your own, FILE.py:CLASS or PACKAGE.MODULE:CLASS; or "
            "see --ckpt.",
            also=installed_words,
            default="none: this or --ckpt must be given",
        ),
    ] = "expert"
    policy_args: Annotated[
        tuple[str, ...],
        Option(
            heading=POLICY,
            help="An argument for the class's constructor, typed by its annotation; may be "
            "repeated.",
            flag="--policy-arg",
            metavar="KEY=VALUE",
            before="default",
        ),
    ] = ()
    checkpoint: CheckpointRequest | None = None
    sim: Annotated[Sim, Option(heading=WHAT, help="auto, mujoco or omnigibson.", default="auto")]
    protocol: Annotated[
        ProtocolYear,
        Option(
            heading=WHAT,
            help="Challenge generation, 2025 or 2026.",
            default="2026, or OmniGibson's installed one",
        ),
    ]
    track: Annotated[
        Track | None,
        Option(
            heading=WHAT,
            help="standard (hides from the policy what that track forbids) or privileged.",
            default="not set",
            before="default",
        ),
    ] = None
    split: Annotated[Split, Option(heading=WHAT, help="train, public-test or hidden-test.")] = (
        "public-test"
    )
    # Ascending; with `against` in the drawn order.
    instances: Annotated[
        tuple[int, ...],
        Option(
            heading=WHAT, help="Initial states, e.g. 0-9,12,15.", default="0", parse=parse_instances
        ),
    ]
    rollouts: Annotated[int, Option(heading=WHAT, help="Tries each.", minimum=1)] = 1
    shard: Annotated[
        str | None,
        Option(
            heading=WHAT,
            help="Only share I of N of the episodes, counted from 0; `merge` makes one run of all.",
            default="all episodes",
            metavar="I/N",
            parse=parse_shard,
            before="default",
        ),
    ] = None
    # None for the default (at most the chunk length), and for other strategies than `receding`.
    horizon: Annotated[
        int | None,
        Option(
            heading=POLICY,
            help="Actions executed per chunk, 1 to its length.",
            default=f"{DEFAULT_HORIZON}; {GR00T_HORIZON} of a gr00t:// server",
        ),
    ] = None
    chunking: Annotated[ChunkingName, Option(heading=POLICY, help="receding or ensemble.")] = (
        "receding"
    )
    mode: Annotated[
        Mode,
        Option(
            heading=POLICY,
            help="sync: the world waits for the policy. realtime: it goes on, and the old chunk is "
            "executed until the new one arrives.",
            before="default",
        ),
    ] = "sync"
    latency: Annotated[
        str | None,
        Option(
            heading=POLICY,
            help="With --mode realtime: how long an inference takes.",
            default=MEASURED,
            metavar=f"MS|{MEASURED}",
            before="default",
        ),
    ] = None
    ensemble_every: Annotated[
        int | None,
        Option(
            heading=POLICY, help="Steps between inferences.", default=str(DEFAULT_ENSEMBLE_EVERY)
        ),
    ] = None
    ensemble_decay: Annotated[
        float | None,
        Option(
            heading=POLICY,
            help="Prediction i, oldest first, weighs exp(-DECAY * i).",
            default=str(DEFAULT_ENSEMBLE_DECAY),
        ),
    ] = None
    render: Annotated[
        Render,
        Option(heading=WHAT, help="on-demand, or every-step as the official evaluator does."),
    ] = "on-demand"
    render_quality: Annotated[RenderQuality, Option(heading=WHAT, help="fast or high.")] = "fast"
    partial_scene: Annotated[
        bool,
        Option(
            heading=WHAT,
            help="OmniGibson 2025: load the rooms of the task only, not the whole house.",
            before=_chosen_in_2025,
        ),
    ] = False
    heavy_base: Annotated[
        bool,
        Option(
            heading=WHAT,
            help="OmniGibson 2025: a base of 250 kg, as in 2026 and in data collection.",
            before=_chosen_in_2025,
        ),
    ] = False
    max_steps: Annotated[
        int,
        Option(
            heading=WHAT,
            help="Time limit in control steps; N ends after N + 1 steps, as upstream.",
            default="the task's",
            minimum=1,
        ),
    ]
    seed: Annotated[int, Option(heading=WHAT, help="Seed of the run.", minimum=0)] = 0
    action_noise: Annotated[
        str | None,
        Option(
            heading=POLICY,
            help="Disturb the executed actions: SIGMA[,CORRELATION_S[,KICK_RATE_HZ[,KICK]]].",
            default="none",
        ),
    ] = None
    disturb: Annotated[
        tuple[str, ...],
        Option(
            heading=POLICY,
            help="Disturb what the policy is shown, its answers or the twin's world, e.g. "
            "blur:head=3; may be repeated. `b1k-eval stress --list` shows the axes.",
            metavar="AXIS[:PART]=DOSE",
            before="default",
        ),
    ] = ()
    progress_variant: Annotated[
        ProgressVariant,
        Option(
            heading=STATISTICS,
            help="How task progress decides near and opened: links-fraction or roots-symbol.",
            before="default",
        ),
    ] = DEFAULT_VARIANT
    # What the normalised figures are relative to.
    human_stats: Annotated[
        str | None,
        Option(
            heading=STATISTICS,
            help="The evaluator's file with exact human means: metadata/episodes.jsonl (2025) or "
            "metadata/task.jsonl (2026).",
            default="published figures, or those of OmniGibson's data",
            typed=Path,
            parse=str,
        ),
    ] = None
    against: Annotated[
        str | None,
        Option(
            heading=STATISTICS,
            help="The run to decide against.",
            metavar="RUN",
            typed=Path,
            parse=str,
        ),
    ] = None

    def __post_init__(self) -> None:
        check(self)
        if self.sim == "omnigibson" and self.render_quality != "fast":
            raise UsageError(
                f"--render-quality {self.render_quality} is of the MuJoCo twin: OmniGibson renders "
                "as the official evaluator has it; leave the option out, or take --sim mujoco"
            )
        for name, otherwise in _CHOICES_OF_2025.items():
            if getattr(self, name) and (self.sim, self.protocol) != ("omnigibson", "2025"):
                raise UsageError(
                    f"{flag(RunSettings, name)} is a choice with --sim omnigibson --protocol 2025 "
                    f"only: {otherwise[self.sim]}; leave the option out"
                )
        if (self.mode == "realtime") != (self.latency is not None):
            raise UsageError("--latency goes with --mode realtime: add that, or leave it out")
        if self.mode == "realtime" and self.chunking != "receding":
            raise UsageError(
                f"--mode realtime executes chunks itself: not --chunking {self.chunking}"
            )
        if self.shard is not None and self.against is not None:
            raise UsageError(
                "--shard and --until-decided do not go together: what is decided depends on all "
                "episodes so far; take --workers, or leave one out"
            )
        self.latency_s()
        self.noise()
        self._check_disturbances()

    def _check_disturbances(self) -> None:
        """Check that the disturbances go with each other and with the rest.

        Raises:
            UsageError: They do not.
        """
        for each in self.disturbances():
            name, kind = each.axis.name, each.axis.kind
            if kind == "world" and self.sim != "mujoco":
                raise UsageError(
                    f"--disturb {name} changes the MuJoCo twin's world, and this run is in "
                    "OmniGibson: take an axis of what the policy is shown, or --sim mujoco"
                )
            if kind == "answer" and (self.mode, self.chunking) != ("sync", "receding"):
                raise UsageError(
                    f"--disturb {name} goes with --chunking receding and without --mode realtime"
                )
            if name == "action-noise" and self.action_noise is not None:
                raise UsageError("--disturb action-noise and --action-noise are one: give one")

    def disturbances(self) -> tuple[Disturbance, ...]:
        """Parse `disturb`; see `parse_disturbances`."""
        return parse_disturbances(self.disturb)

    def latency_s(self) -> float | None:
        """Return the fixed latency of a realtime run [s]; None if it is measured.

        Raises:
            UsageError: It is neither `measured` nor a finite number >= 0.
        """
        if self.latency is None or self.latency == MEASURED:
            return None
        try:
            latency_s = float(self.latency) / 1e3
        except ValueError:
            latency_s = math.nan
        if not (math.isfinite(latency_s) and latency_s >= 0):
            raise UsageError(f"--latency {self.latency} is neither a time in ms nor `{MEASURED}`")
        return latency_s

    def noise(self) -> NoiseSpec | None:
        """Parse `action_noise`, or the axis of that name; see `NoiseSpec.parse`."""
        text = self.action_noise
        for each in self.disturbances():
            if each.axis.name == "action-noise" and each.dose:
                text = f"{each.dose!r}"
        return None if text is None else NoiseSpec.parse(text)

    def task_entry(self) -> Task:
        """Return the task's row of the table."""
        return get_task(self.task)

    def as_json(self) -> dict[str, Any]:
        """Return JSON values, with `action_noise` also resolved."""
        noise = self.noise()
        return {
            **record(self),
            "action_noise_resolved": None if noise is None else noise.describe(),
        }


def recorded_settings(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Read the fields of `RunSettings` from run.json's `identity`.

    Raises:
        UsageError: One is missing or has an invalid value.
    """
    return read(RunSettings, identity.get("settings"), "identity.settings", others=True)


def settled(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return `identity.settings` of a run, completed for options that are newer than the run."""
    return completed(RunSettings, recorded)


def chunking_factory(settings: RunSettings, skipped_rows: int = 0) -> partial[Chunking]:
    """Return `build_chunking` with everything but the chunk length; picklable."""
    answers = [each for each in settings.disturbances() if each.axis.kind == "answer" and each.dose]
    latency_ms = sum(each.dose for each in answers if each.axis.name == "latency")
    return partial(
        build_chunking,
        settings.chunking,
        settings.horizon,
        settings.ensemble_every,
        settings.ensemble_decay,
        skipped_rows,
        realtime=settings.mode == "realtime" or bool(answers),
        latency_s=latency_ms / 1e3 if answers else settings.latency_s(),
    )
