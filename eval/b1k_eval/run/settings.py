"""What a run is asked to do: checked once, recorded in run.json, and read back from there."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from functools import partial
from typing import Any, Literal, get_args, get_origin, get_type_hints

from b1k_envs.base import Protocol, Sim, Split
from b1k_envs.errors import UsageError
from b1k_envs.tasks.table import HumanStats, Task, get_task, human_stats, load_human_stats
from b1k_envs.tracks import Track
from b1k_eval.loop.chunking import Chunking, RecedingHorizon, TemporalEnsemble
from b1k_eval.loop.noise import NoiseSpec
from b1k_eval.loop.realtime import RealTime
from b1k_eval.loop.runner import Render
from b1k_eval.records.run_files import since
from b1k_policies.xvla.files.checkpoint import CheckpointRequest

ChunkingName = Literal["receding", "ensemble"]
Mode = Literal["sync", "realtime"]
RenderQuality = Literal["fast", "high"]

DEFAULT_HORIZON = 10
DEFAULT_ENSEMBLE_EVERY = 1
DEFAULT_ENSEMBLE_DECAY = 0.01
MEASURED = "measured"
"""The latency of a realtime run in which every inference takes what it was measured to take."""

MAX_INSTANCES = 10_000
"""Most instances of one run, far above any split's; a slip in a range is found before memory is."""

CONSENTS: tuple[str, ...] = ("trust_code", "allow_pickle")
"""Fields of a checkpoint's request that a run does not record: a resume has to say them again."""

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
"""Settings that the 2025 evaluator leaves to whoever runs it, and how it is elsewhere."""

_LATER: tuple[str, ...] = ("num_envs", "gpus")
"""Fields of an execution that the first runs did not have: where missing, their defaults hold."""

_MAX_DIGITS = 9


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Everything that can change a result. Two runs with equal settings are the same experiment.

    Attributes:
        task: Task name.
        policy: Policy spec, as given; `checkpoint` for one.
        sim: Simulator, resolved.
        protocol: Challenge generation.
        split: Which set the instances are from.
        instances: Indices within the split, ascending; with `against` in the order drawn.
        rollouts: Tries per instance.
        max_steps: Time limit in control steps.
        chunking: Name of the strategy.
        horizon: h of `receding`; None for the default, or the whole of a shorter chunk, and with
            any other strategy.
        ensemble_every: k of `ensemble`, else None.
        ensemble_decay: Decay of `ensemble`, else None.
        render: When pictures are made.
        render_quality: How they are made.
        seed: Seed of the run; episodes' seeds are derived from it.
        action_noise: Disturbance, as given; None for none.
        human_stats: Official metadata file with the human means, which the normalised figures are
            relative to; None for the published ones, or in OmniGibson for those of its own data.
        checkpoint: Which checkpoint, under which contract, on which device; None for any other
            policy.
        against: Folder of a run: no further episode is started once it is decided which of the
            two is better; None to do all.
        track: What the policy may know; None for whatever the evaluator hands out.
        mode: Whether the world waits for the policy (`sync`) or goes on (`realtime`).
        latency: Of `realtime`: how long an inference takes [ms], as given, or `measured`; else
            None.
        partial_scene: In OmniGibson 2025: whether the rooms of the task are loaded only, and not
            the whole house.
        heavy_base: In OmniGibson 2025: whether the base weighs 250 kg.
    """

    task: str
    policy: str
    sim: Sim
    protocol: Protocol
    split: Split
    instances: tuple[int, ...]
    rollouts: int
    max_steps: int
    chunking: ChunkingName
    horizon: int | None
    ensemble_every: int | None
    ensemble_decay: float | None
    render: Render
    render_quality: RenderQuality
    seed: int
    action_noise: str | None
    human_stats: str | None = None
    checkpoint: CheckpointRequest | None = None
    against: str | None = None
    track: Track | None = None
    mode: Mode = "sync"
    latency: str | None = None
    partial_scene: bool = False
    heavy_base: bool = False

    def __post_init__(self) -> None:
        for name, minimum in (("rollouts", 1), ("max_steps", 1), ("seed", 0)):
            value = getattr(self, name)
            if value < minimum:
                raise UsageError(f"{option_name(name)} {value} must be at least {minimum}")
        for name, kind in (
            ("protocol", Protocol),
            ("split", Split),
            ("sim", Sim),
            ("chunking", ChunkingName),
            ("mode", Mode),
            ("render", Render),
            ("render_quality", RenderQuality),
        ):
            if getattr(self, name) not in get_args(kind):
                raise UsageError(
                    f"{option_name(name)} {getattr(self, name)!r} is unknown: choose one of "
                    f"{', '.join(get_args(kind))}"
                )
        if self.track is not None and self.track not in get_args(Track):
            raise UsageError(
                f"--track {self.track!r} is unknown: choose one of {', '.join(get_args(Track))}"
            )
        if self.sim == "omnigibson" and self.render_quality != "fast":
            raise UsageError(
                f"--render-quality {self.render_quality} is of the MuJoCo twin: OmniGibson renders "
                "as the official evaluator has it; leave the option out, or take --sim mujoco"
            )
        for name, otherwise in _CHOICES_OF_2025.items():
            if getattr(self, name) and (self.sim, self.protocol) != ("omnigibson", "2025"):
                raise UsageError(
                    f"{option_name(name)} is a choice with --sim omnigibson --protocol 2025 only: "
                    f"{otherwise[self.sim]}; leave the option out"
                )
        if (self.mode == "realtime") != (self.latency is not None):
            raise UsageError("--latency goes with --mode realtime: add that, or leave it out")
        if self.mode == "realtime" and self.chunking != "receding":
            raise UsageError(
                f"--mode realtime executes chunks itself: not --chunking {self.chunking}"
            )
        self.latency_s()
        self.noise()

    def latency_s(self) -> float | None:
        """How long an inference takes in a realtime run [s]; None where it is measured.

        Raises:
            UsageError: It is neither `measured` nor a finite number from 0 on.
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
        """The disturbance, parsed.

        Raises:
            UsageError: It cannot be.
        """
        return None if self.action_noise is None else NoiseSpec.parse(self.action_noise)

    def task_entry(self) -> Task:
        """The task's row of the table."""
        return get_task(self.task)

    def as_json(self) -> dict[str, Any]:
        """JSON values, with the disturbance spelled out."""
        noise = self.noise()
        given = asdict(self)
        if given["checkpoint"] is not None:  # consent is given by a person, never by a file
            for name in CONSENTS:
                del given["checkpoint"][name]
        return {
            **given,
            "instances": list(self.instances),
            "action_noise_resolved": None if noise is None else noise.describe(),
        }


def option_name(field: str) -> str:
    """The command line's name of a setting."""
    return "--" + field.replace("_", "-")


def given_settings(recorded: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever JSON was found
    """The fields of `RunSettings` out of run.json's `identity.settings`.

    Raises:
        UsageError: One is missing, or has a value that is none of its own.
    """
    if isinstance(recorded, dict):
        recorded = {**since(recorded), **recorded}
    return recorded_fields(RunSettings, recorded, "identity.settings", others=True)


def recorded_fields(
    kind: type[Any],
    recorded: Any,  # noqa: ANN401 - whatever JSON was found
    where: str,
    *,
    others: bool,
) -> dict[str, Any]:
    """The fields of a dataclass out of a JSON object.

    Args:
        kind: The dataclass; fields of the types that `_fits` knows.
        recorded: What stands in run.json.
        where: Its place there, for messages.
        others: Whether the object may have more.

    Raises:
        UsageError: It is no object, or a field is missing, has a value of another type, or is
            none of the dataclass's. A field of later versions may be missing, and is left out.
    """
    hints = get_type_hints(kind)
    problem = None
    if not isinstance(recorded, dict):
        problem = f"{where} is {recorded!r}, no object"
    else:
        for name in [*hints, *recorded]:
            if name not in recorded:
                problem = None if name in _LATER else f"{where} lacks {name!r}"
            elif name not in hints:
                problem = None if others else f"{where} has an unknown {name!r}"
            elif not _fits(recorded[name], hints[name]):
                problem = f"{where}.{name} is {recorded[name]!r}"
            if problem is not None:
                break
    if problem is not None:
        raise UsageError(
            f"run.json is damaged ({problem}): restore the file, or start the run again under "
            "another --out"
        )
    return {name: recorded[name] for name in hints if name in recorded}


def _fits(value: Any, hint: Any) -> bool:  # noqa: ANN401 - JSON values and types
    """Whether a JSON value can stand for a type: plain, literal, union, or tuple of any length."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in arguments
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        return (
            isinstance(value, dict)
            and value.keys() | set(CONSENTS) == hints.keys() | set(CONSENTS)
            and all(_fits(value[name], hints[name]) for name in value)
        )
    if origin is tuple:
        return isinstance(value, list) and all(_fits(item, arguments[0]) for item in value)
    if arguments:
        return any(_fits(value, option) for option in arguments)
    if hint is float:
        return type(value) in (int, float)
    return type(value) is hint  # exactly: true and false are no numbers


def build_chunking(
    name: ChunkingName,
    horizon: int | None,
    every: int | None,
    decay: float | None,
    skipped_rows: int,
    chunk_length: int,
    *,
    realtime: bool = False,
    latency_s: float | None = None,
) -> Chunking:
    """The strategy for a policy's chunk length.

    A horizon may count the rows that a model's chunk has before the first executable one: the
    whole of such a chunk is its executable rows.

    Raises:
        UsageError: A parameter does not fit the chunk length.
    """
    if name == "receding":
        rows = min(DEFAULT_HORIZON, chunk_length) if horizon is None else horizon
        if chunk_length < rows <= chunk_length + skipped_rows:
            rows = chunk_length
        if realtime:
            return RealTime(rows, chunk_length, latency_s)
        return RecedingHorizon(rows, chunk_length)
    return TemporalEnsemble(
        DEFAULT_ENSEMBLE_EVERY if every is None else every,
        DEFAULT_ENSEMBLE_DECAY if decay is None else decay,
        chunk_length,
    )


def chunking_factory(settings: RunSettings, skipped_rows: int = 0) -> partial[Chunking]:
    """`build_chunking` with everything but the chunk length; picklable."""
    return partial(
        build_chunking,
        settings.chunking,
        settings.horizon,
        settings.ensemble_every,
        settings.ensemble_decay,
        skipped_rows,
        realtime=settings.mode == "realtime",
        latency_s=settings.latency_s(),
    )


def human_figures(task: Task, path: str | None, protocol: Protocol) -> HumanStats:
    """What is published about the task, or the exact means in the year's official metadata file.

    Raises:
        UsageError: The file cannot be used.
    """
    return human_stats(task) if path is None else load_human_stats(path, task, protocol)


def parse_instances(text: str) -> tuple[int, ...]:
    """Read `0`, `0-9` or `0-9,12,15`; ascending.

    Raises:
        UsageError: Not of that form, a range that runs backwards, an index given twice, or more
            than `MAX_INSTANCES`.
    """
    form = "numbers and ranges such as 0-9,12,15"
    found: Counter[int] = Counter()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageError(
                f"--instances {text!r}: {part!r} is not a number or range; give {form}"
            )
        if max(len(first), len(last)) > _MAX_DIGITS:
            raise UsageError(f"--instances {text[:40]!r}: no split has an index of so many digits")
        low, high = int(first), int(last) if dash else int(first)
        if high < low:
            raise UsageError(f"--instances {text!r}: the range {part.strip()} runs backwards")
        if found.total() + high - low + 1 > MAX_INSTANCES:
            raise UsageError(
                f"--instances {text!r}: more than {MAX_INSTANCES} instances; no split has so many"
            )
        found.update(range(low, high + 1))
    twice = [index for index, times in found.items() if times > 1]
    if twice:
        raise UsageError(f"--instances {text!r}: {min(twice)} is given twice")
    return tuple(sorted(found))
