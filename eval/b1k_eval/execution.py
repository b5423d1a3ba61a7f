"""The options of `run` that say how it is carried out, each declared once.

They cannot change a result. They are recorded in run.json with every session, and may differ on
resume.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from b1k_envs.errors import UsageError
from b1k_envs.r1pro import CONTROL_HZ
from b1k_policies.options import EXECUTION, OUTPUT, Option, at_home, check, read

VideoSize = Literal["small", "medium", "large"]
RecordOnly = Literal["all", "success"]

LEROBOT = "lerobot:"
"""Prefix of the value of `--record`: the format, before its folder."""
TrackerName = Literal["wandb", "trackio", "tensorboard", "mlflow"]

AUTO = "auto"
"""Value of `--workers` for as many as this machine carries; recorded as their number."""

OFF = "off"
"""Value of `--ray`, `--record`, `--log-to`: a run is resumed without what it was started with."""

VIDEO_RATES: tuple[int, ...] = tuple(
    rate for rate in range(1, int(CONTROL_HZ) + 1) if CONTROL_HZ % rate == 0
)
"""Possible pictures per simulated second of a video: every n-th control step."""


def _parse_workers(text: str) -> int:
    """Parse a number; -1 for `auto`, which `run.capacity` resolves.

    Raises:
        UsageError: It is neither.
    """
    if text == AUTO:
        return -1
    if not (text.isdecimal() and len(text) < 7):
        raise UsageError(f"--workers {text!r}: give a number or {AUTO}")
    return int(text)


def _parse_gpus(text: str) -> tuple[int, ...]:
    """Parse `0` or `0,2,3`; raise UsageError for any other form."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) < 4 for part in parts):
        raise UsageError(f"--gpus {text!r}: give numbers such as 0 or 0,1")
    return tuple(int(part) for part in parts)


def _parse_record(text: str) -> str:
    """Parse `lerobot:DIR` or `off`; the folder becomes absolute, as a run may be resumed elsewhere.

    Raises:
        UsageError: It is neither.
    """
    if text == OFF:
        return text
    folder = text.removeprefix(LEROBOT)
    if folder in ("", text):
        raise UsageError(f"--record {text!r}: give {LEROBOT}DIR, a LeRobotDataset v3 in DIR")
    return LEROBOT + str(Path(at_home(folder)).absolute())


def _parse_trackers(text: str) -> tuple[TrackerName, ...]:
    """Parse `wandb,mlflow`, or `off` for none.

    Raises:
        UsageError: One is unknown.
    """
    known: Mapping[str, TrackerName] = {name: name for name in get_args(TrackerName)}
    words = [] if text == OFF else [word.strip() for word in text.split(",")]
    for word in words:
        if word not in known:
            raise UsageError(
                f"--log-to {word!r} is unknown: choose from {', '.join(known)}, or {OFF}"
            )
    return tuple(dict.fromkeys(known[word] for word in words))


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a run is carried out; may differ on resume.

    It does not change what is run. If a checkpoint serves several envs, its sums may round
    differently; a remark says so.

    Raises:
        UsageError: Invalid values.
    """

    workers: Annotated[
        int,
        Option(
            heading=EXECUTION,
            help=f"Processes, or {AUTO} for as many as this machine carries; with --ray 0, its "
            "default, for all places.",
            default="1",
            metavar=f"N|{AUTO}",
            minimum=0,
            parse=_parse_workers,
            typed=str,
        ),
    ] = 1
    ray: Annotated[
        str | None,
        Option(
            heading=EXECUTION,
            help="Workers on the nodes of a Ray cluster: auto for that of this machine, HOST:PORT, "
            f"local to start one here, or {OFF}.",
            default=OFF,
            metavar="auto|ADDRESS",
            before="default",
        ),
    ] = None
    gpus_per_worker: Annotated[
        float | None,
        Option(
            heading=EXECUTION,
            help="With --ray: what Ray reserves for a worker, e.g. 0.5.",
            default="1 for OmniGibson, else 0",
            minimum=0,
            before="default",
        ),
    ] = None
    retries: Annotated[
        int,
        Option(
            heading=EXECUTION,
            help="With --ray: how often an episode is handed out again whose node was lost.",
            minimum=0,
            before="default",
        ),
    ] = 2
    num_envs: Annotated[
        int,
        Option(
            heading=EXECUTION,
            help="Episodes at once in each process, with one call of a checkpoint for all of them: "
            "in the twin, and in OmniGibson v3.9.3.",
            minimum=1,
            before="default",
        ),
    ] = 1
    share_policy: Annotated[
        Literal["auto", "off"],
        Option(
            heading=EXECUTION,
            help="auto: the workers share one copy of a checkpoint per GPU, in a server that the "
            "run starts. off: each has its own.",
            before="default",
        ),
    ] = "auto"
    # In CUDA's numbering; empty for the simulator's own choice.
    gpus: Annotated[
        tuple[int, ...],
        Option(
            heading=EXECUTION,
            help="GPUs to share out among OmniGibson's processes, e.g. 0,1.",
            default="first",
            parse=_parse_gpus,
            before="default",
        ),
    ] = ()
    video: Annotated[
        bool,
        Option(
            heading=OUTPUT, help="Record each episode.", flag="--video/--no-video", default="video"
        ),
    ] = True
    video_fps: Annotated[
        float,
        Option(
            heading=OUTPUT, help="Pictures per simulated second, a divisor of 30.", default="15"
        ),
    ] = 15.0

    video_size: Annotated[
        VideoSize,
        Option(
            heading=OUTPUT,
            help="small, medium (5 MB a simulated minute of the twin) or large (17 MB, the least "
            "work for the CPU).",
            before="default",
        ),
    ] = "medium"
    log_to: Annotated[
        tuple[TrackerName, ...],
        Option(
            heading=OUTPUT,
            help="Trackers: wandb, trackio, tensorboard, mlflow, or several with commas.",
            default=OFF,
            metavar="NAME[,NAME...]",
            parse=_parse_trackers,
            before="default",
        ),
    ] = ()
    log_videos: Annotated[
        int,
        Option(
            heading=OUTPUT,
            help="With --log-to: so many videos, of the first episodes to end.",
            minimum=0,
            before="default",
        ),
    ] = 0
    record: Annotated[
        str | None,
        Option(
            heading=OUTPUT,
            help="Write the episodes as a data set too, failures included, with every step's "
            "pictures: a LeRobotDataset v3. It is complete when the run is.",
            default=OFF,
            metavar=f"{LEROBOT}DIR",
            parse=_parse_record,
            before="default",
        ),
    ] = None
    record_only: Annotated[
        RecordOnly,
        Option(heading=OUTPUT, help="With --record: all or success.", before="default"),
    ] = "all"

    @property
    def dataset(self) -> Path | None:
        """The folder of the data set; None for none."""
        return None if self.record is None else Path(self.record.removeprefix(LEROBOT))

    def __post_init__(self) -> None:
        check(self)
        if self.ray is None and self.workers == 0:
            raise UsageError("--workers 0 must be at least 1 (without --ray)")
        if self.ray is None and self.gpus_per_worker is not None:
            raise UsageError("--gpus-per-worker goes with --ray: add that, or leave it out")
        if self.ray is not None and self.gpus:
            raise UsageError("--gpus and --ray do not go together: Ray counts --gpus-per-worker")
        if self.record is None and self.record_only != "all":
            raise UsageError("--record-only goes with --record: add that, or leave it out")
        if self.video_fps not in VIDEO_RATES:
            raise UsageError(
                f"--video-fps {self.video_fps:g} must divide the control rate, {CONTROL_HZ:g} Hz, "
                f"as a video shows every n-th step: choose one of "
                f"{', '.join(map(str, VIDEO_RATES))}"
            )


def recorded_execution(sessions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Read the fields of the last `Execution` from run.json's `sessions`.

    Raises:
        UsageError: See `recorded_settings`.
    """
    where = f"sessions[{len(sessions) - 1}].execution"
    return read(Execution, sessions[-1].get("execution"), where, others=False)
