"""How a run is carried out: nothing of it can change a result, so a resume may differ."""

from __future__ import annotations

from dataclasses import dataclass

from b1k_envs.errors import UsageError
from b1k_envs.r1pro import CONTROL_HZ

VIDEO_RATES: tuple[int, ...] = tuple(
    rate for rate in range(1, int(CONTROL_HZ) + 1) if CONTROL_HZ % rate == 0
)
"""Pictures per simulated second that a video can have: every n-th control step."""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a run is carried out.

    Attributes:
        workers: Processes.
        video: Whether each episode gets a video.mp4.
        video_fps: Pictures per simulated second, one of `VIDEO_RATES`.
        num_envs: Episodes at once in each process, where the simulator can.
        gpus: GPUs to share out among the workers, as CUDA counts them; empty for the simulator's
            own choice.
    """

    workers: int = 1
    video: bool = True
    video_fps: float = 15.0
    num_envs: int = 1
    gpus: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("workers", "num_envs"):
            if getattr(self, name) < 1:
                option = "--" + name.replace("_", "-")
                raise UsageError(f"{option} {getattr(self, name)} must be at least 1")
        if self.video_fps not in VIDEO_RATES:
            raise UsageError(
                f"--video-fps {self.video_fps:g} must divide the control rate, {CONTROL_HZ:g} Hz, "
                f"as a video shows every n-th step: choose one of "
                f"{', '.join(map(str, VIDEO_RATES))}"
            )


def parse_gpus(text: str) -> tuple[int, ...]:
    """Read `0` or `0,2,3`.

    Raises:
        UsageError: Not of that form.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) < 4 for part in parts):
        raise UsageError(f"--gpus {text!r}: give numbers such as 0 or 0,1")
    return tuple(int(part) for part in parts)
