"""Small real runs for the report's tests: pictures that tell their step, a policy that talks.

The real command line, runner, trace and video make them; only the world is a line with a point.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from doubles import DrivePolicy, ToyEnv
from typer.testing import CliRunner

from b1k_envs.base import VideoFrame
from b1k_envs.errors import EnvError
from b1k_envs.tasks.subgoals import SUBGOALS
from b1k_eval.cli.main import app
from b1k_eval.run import policies, simulators
from b1k_policies.base import ActionChunk, Skill

TASK = "clean_boxing_gloves"
NAMES = tuple(subgoal.name for subgoal in SUBGOALS[TASK])
BITS = 12
HEAD = 448  # the head's place in a picture: the upper left corner, of this size
PICTURE = (680, 672)
SKILLS = ("move to", "open door", "pick up from")


class CodedEnv(ToyEnv):
    """A point on a line; each picture shows its control step as black and white stripes.

    The sub-goals of the task are reached one by one on the way to the goal. In the instances
    named it breaks down at a step.
    """

    def __init__(self, *, max_steps: int, breaks: Mapping[int, int]) -> None:
        super().__init__(max_steps=max_steps)
        self.breaks = breaks
        self.instance = 0

    def reset(self, instance, rollout, seed):
        super().reset(0, rollout, seed)
        self.instance = instance

    def step(self, action):
        if self.breaks.get(self.instance) == self.step_count:
            raise EnvError("the simulator fell over")
        return super().step(action)

    def subgoals(self):
        parts = (np.linspace(0.1, 1.0, len(NAMES)) * self.GOAL_X).tolist()
        return {name: self.x >= part - 1e-9 for name, part in zip(NAMES, parts, strict=True)}

    def frame(self, *, light=False):
        step = self.step_count
        sizes = {"head": HEAD, "left_wrist": 224, "right_wrist": 224}
        redeem = lambda: {view: stripes(step, size) for view, size in sizes.items()}  # noqa: E731
        return VideoFrame(redeem=redeem, holds_pictures=False)


class TalkingPolicy(DrivePolicy):
    """Drives, names another skill every 20 steps, and says how far it thinks it is."""

    needs_images = False

    def __init__(self, *, name: str = "talker", vx: float = 0.1) -> None:
        super().__init__(vx=vx, chunk_length=10)
        self.name = name

    def infer(self, observation):
        actions = super().infer(observation).actions
        index = observation.step // 20 % len(SKILLS)
        skill = Skill(index=index, name=SKILLS[index], probability=0.5 + 0.1 * index)
        return ActionChunk(actions=actions, skill=skill, progress=min(observation.step / 100, 1))


def stripes(step: int, size: int) -> np.ndarray:
    """A number as `BITS` upright stripes, the lowest bit first, uint8 [size, size, 3]."""
    bits = [step >> i & 1 for i in range(BITS)]
    row = np.repeat(np.array(bits, dtype=np.uint8) * 255, -(-size // BITS))[:size]
    return np.broadcast_to(row[None, :, None], (size, size, 3)).copy()


def read_stripes(picture: np.ndarray) -> int:
    """The number in a picture of the video, however large, uint8 [H, W, 3]."""
    height, width = picture.shape[:2]
    y = int(height * HEAD / PICTURE[0] / 2)
    stripe = -(-HEAD // BITS)
    columns = [int(width * (i + 0.5) * stripe / PICTURE[1]) for i in range(BITS)]
    return sum(1 << i for i, x in enumerate(columns) if picture[y, x].mean() > 128)


def steps_in(video: Path) -> list[int]:
    """The step that each picture of a video shows, in their order, as ffmpeg reads them."""
    reader = imageio_ffmpeg.read_frames(str(video), pix_fmt="rgb24")
    width, height = next(reader)["size"]
    return [read_stripes(np.frombuffer(raw, np.uint8).reshape(height, width, 3)) for raw in reader]


@contextmanager
def toy_world(policy: TalkingPolicy, breaks: Mapping[int, int]) -> Iterator[None]:
    """The command line runs this policy on the line, whatever is asked for."""
    with pytest.MonkeyPatch.context() as patch:
        make_env = lambda s: CodedEnv(max_steps=s.max_steps, breaks=breaks)  # noqa: E731
        patch.setattr(simulators, "make_env", make_env)
        patch.setattr(simulators, "prepare_pictures", lambda: None)
        patch.setattr(policies, "make_policy", lambda *_: policy)
        yield


def make_run(
    folder: Path,
    *,
    policy: TalkingPolicy | None = None,
    instances: str = "0-2",
    max_steps: int = 120,
    fps: float | None = 15,
    breaks: Mapping[int, int] | None = None,
) -> Path:
    """Run the policy and return the run's folder."""
    words = ["run", "--task", "31", "--policy", "hold", "--instances", instances]
    words += ["--max-steps", str(max_steps), "--out", str(folder)]
    words += ["--no-video"] if fps is None else ["--video-fps", str(fps)]
    with toy_world(policy or TalkingPolicy(), breaks or {}):
        result = CliRunner().invoke(app, words)
    assert result.exit_code == bool(breaks), (result.output, result.exception)
    return folder
