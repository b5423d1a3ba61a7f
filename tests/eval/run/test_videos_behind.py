"""A video is made beside the next episode, is complete before the one after that, and is kept."""

from __future__ import annotations

import json
import threading
from functools import partial
from pathlib import Path

import pytest
from doubles import RandomWalkPolicy, ToyEnv

from b1k_envs.base import VideoFrame, make_several
from b1k_envs.tasks.table import get_task, human_stats
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.records.store import open_run
from b1k_eval.run.episode import Assembly
from b1k_eval.run.launch import launch, plan_episodes
from b1k_eval.run.progress.reporter import Reporter

TASK = get_task(31)
pytest.importorskip("cv2")


class Watched(ToyEnv):
    """Lets no picture of an episode be had before the next one has begun; notes what is complete.

    Attributes:
        complete: By instance: the instances whose video was complete when it was reset.
    """

    last = 3

    def __init__(self, folder, breaks_at=None):
        super().__init__(max_steps=12)
        self.folder, self.breaks_at = Path(folder), breaks_at
        self.begun = {n: threading.Event() for n in range(self.last + 2)}
        self.begun[self.last + 1].set()
        self.complete = {}

    def reset(self, instance, rollout, seed):
        super().reset(instance, rollout, seed)
        self.instance = instance
        self.complete[instance] = [
            n for n in range(self.last + 1) if video(self.folder, n).exists()
        ]
        self.begun[instance].set()

    def step(self, action):
        if self.instance == self.breaks_at and self.step_count == 5:
            raise RuntimeError("the world broke")
        return super().step(action)

    def frame(self, *, light=False):
        frame, following = super().frame(light=light), self.begun[self.instance + 1]

        def redeem():
            assert following.wait(30), "the next episode waits for this one's video"
            return frame.redeem()

        return VideoFrame(redeem=redeem, holds_pictures=False)


def video(folder, instance):
    return folder / "episodes" / f"{TASK.name}-{instance}-0" / "video.mp4"


def run(folder, env, *, workers=1, instances=range(4), num_envs=1):
    assembly = Assembly(
        make_worlds=partial(make_several, env, num_envs),
        make_policy=RandomWalkPolicy,
        make_chunking=partial(RecedingHorizon, 4),
        human=human_stats(TASK),
        max_steps=12,
        video_fps=15.0,
        num_envs=num_envs,
    )
    record = {"format": 1, "identity": {"settings": {}}, "sessions": [{}]}
    store = open_run(folder, record, resume=True)
    plan = plan_episodes(TASK, instances, 1, 3, "2026")
    try:
        launch(assembly, plan, store, reporter=Reporter(), workers=workers)
    finally:
        store.close()
    lines = (folder / "episodes.jsonl").read_text().splitlines()
    return {line["instance"]: line for line in map(json.loads, lines)}


def recorded_frames(folder, instance):
    result = json.loads(video(folder, instance).with_name("result.json").read_text())
    return result["recording"]["frames"], result["steps"]


def test_the_next_episode_runs_meanwhile_and_the_one_after_that_waits(tmp_path):
    env = Watched(tmp_path)
    done = run(tmp_path, lambda: env)
    assert sorted(done) == [0, 1, 2, 3]
    # The video of n - 1 cannot be complete when n begins; that of n - 2 must be.
    assert env.complete == {0: [], 1: [], 2: [0], 3: [0, 1]}
    for instance in range(4):
        frames, steps = recorded_frames(tmp_path, instance)
        assert frames == steps // 2 + 2  # the start, every second step, and the end
        assert video(tmp_path, instance).stat().st_size > 1000


def test_an_error_in_the_next_episode_costs_nothing_of_the_video_before(tmp_path):
    worlds = []

    def build():
        worlds.append(Watched(tmp_path, breaks_at=1))
        worlds[-1].begun[2].set()  # after an error another world plays the next episode
        return worlds[-1]

    done = run(tmp_path, build)
    assert [done[n]["outcome"] for n in range(4)] == ["failure", "error", "failure", "failure"]
    assert len(worlds) == 2
    assert worlds[0].closed
    frames, steps = recorded_frames(tmp_path, 0)
    assert frames == steps // 2 + 2


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "num_envs"), [(2, 1), (1, 3)])
def test_with_workers_and_several_worlds_every_episode_has_its_own_video(
    tmp_path, workers, num_envs
):
    done = run(
        tmp_path,
        partial(ToyEnv, max_steps=12),
        workers=workers,
        num_envs=num_envs,
        instances=range(7),
    )
    assert sorted(done) == list(range(7))
    for instance in range(7):
        frames, steps = recorded_frames(tmp_path, instance)
        assert (frames, steps) == (steps // 2 + 2, done[instance]["steps"])
