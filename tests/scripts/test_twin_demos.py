"""Demonstrations and snapshots of the learned policy: what is written is what was so."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import train_twin_policy
from twin_policy import snapshots
from twin_policy.demos import (
    CONTRACT,
    WATCHED,
    DemoSettings,
    Shoves,
    episode_of,
    imagined,
    make_env,
    privileged,
    record,
    relaid,
    write,
)
from twin_policy.legs import CLOCKED, FIRST_LEG, LEGS
from twin_policy.points import POINTS
from twin_policy.snapshots import Photographer
from typer.testing import CliRunner

from b1k_envs.base import VIEWS
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.scene import SCENE
from b1k_eval.cli.main import app
from b1k_policies.expert import ExpertPolicy
from b1k_policies.xvla.batch import extract_proprio

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow


class Parked:
    """Drives in place of the expert at every third step, by an action of its own."""

    asked = None
    found = np.full((POINTS, 4), 0.5, np.float32)

    def __init__(self, action):
        self.action = action

    def __call__(self, env, step, leg, steps):
        self.asked = 0.25 if step % 3 == 0 else None
        return self.action if step % 3 == 0 else None


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    settings = DemoSettings(noise="", shove_every_s=0.0, max_steps=30, pictures_every=10)
    env = make_env(settings)
    arrays = record(env, 3, 1, settings, Parked(np.zeros(23, np.float32)))
    folder = tmp_path_factory.mktemp("demos")
    write(folder, "train-003-1.npz", arrays)
    yield env, folder / "train-003-1.npz"
    env.close()


def test_each_row_is_of_the_state_before_its_action(demo):
    env, path = demo
    with np.load(path) as file:
        assert file["by_expert"].tolist() == [step % 3 != 0 for step in range(30)]
        assert file["plan_steps"].tolist() == list(range(0, 30, 3))
        assert (file["said"] == 0.25).all()
        assert file["found"].shape == (10, POINTS, 4)
        assert (file["executed"][::3] == 0).all()
        assert (file["executed"][1::3] == file["command"][1::3]).all()
        env.reset(3, 0, 1)
        for step in range(30):
            seen = env.observe(images=False)
            np.testing.assert_array_equal(file["proprio"][step], extract_proprio(seen, CONTRACT))
            np.testing.assert_array_equal(file["qpos"][step], env.shown().qpos)
            for number, view in enumerate(VIEWS):
                np.testing.assert_array_equal(
                    file["cameras"][step, number], seen.camera_to_base[view][:3]
                )
            env.step(file["executed"][step])
        assert json.loads(str(file["about"]))["instance"] == 3
        assert file["picture_steps"].tolist() == [0, 10, 20]
        assert file["picture_sizes"].sum() == file["pictures"].size


def test_a_snapshot_that_is_not_moved_is_the_demonstrations_own_state(demo):
    _, path = demo
    photographer = Photographer([path], seed=0)
    photographer._moved = lambda qpos, held: (qpos.copy(), 0.0)
    shot = photographer.shoot()
    step = shot["source"][1]
    with np.load(path) as file:
        np.testing.assert_allclose(shot["cameras"], file["cameras"][step], atol=1e-6)
        np.testing.assert_allclose(shot["places"], file["places"][step], atol=1e-6)
        # All but the base's velocity, which a snapshot does not have.
        np.testing.assert_allclose(shot["proprio"][3:], file["proprio"][step][3:], atol=1e-6)
    photographer.close()


def test_what_is_moved_stays_near_and_is_measured(demo):
    _, path = demo
    photographer = Photographer([path], seed=1)
    shots = [photographer.shoot() for _ in range(12)]
    photographer.close()
    with np.load(path) as file:
        for shot in shots:
            before = file["cameras"][shot["source"][1]]
            assert np.abs(shot["cameras"] - before).max() < 0.6
    assert 0.0 < max(shot["moved"] for shot in shots) < 0.5


def test_shoves_spare_a_hand_that_closes_and_turn_a_robot_on_its_way():
    shoves = Shoves(0.5, np.random.default_rng(0))
    pushes = {leg: np.array([shoves(leg) for _ in range(1500)]) for leg in range(LEGS)}
    shoved = {leg for leg, push in pushes.items() if push.any()}
    assert shoved == set(range(LEGS - 1)) - CLOCKED
    assert np.abs(pushes[10][:, 2]).max() > 0.7  # a leg of driving
    assert np.abs(pushes[10]).max() <= 1.0
    assert not Shoves(0.0, np.random.default_rng(0))(10).any()


def test_what_is_imagined_moves_the_base_and_what_is_held_and_nothing_else(demo):
    env, path = demo
    env.reset(3, 0, 1)
    truth = env.privileged_state()
    glove, other = layout.GLOVES
    truth = replace(truth, held={"left": glove, "right": None})
    there = imagined(truth, np.random.default_rng(0))
    assert np.abs(there.base - truth.base).max() > 0.01
    before, after = privileged(truth)["places"], privileged(there)["places"]
    number = WATCHED.index(glove)
    np.testing.assert_allclose(after[number], before[number], atol=1e-12)  # in the hand as before
    np.testing.assert_array_equal(there.positions[other], truth.positions[other])
    assert np.abs(after[WATCHED.index(other)] - before[WATCHED.index(other)]).max() > 0.01
    with np.load(path) as file:
        assert file["imagined_plans"].shape == (8, 30, 23)
        # What it would do elsewhere is not what it did.
        apart = file["imagined_plans"][:, 0] - file["command"][::4]
        assert np.abs(apart[:, :3]).max() > 0.05


def test_a_glove_is_relaid_within_what_instances_have_and_often_where_it_is_hard_to_reach(demo):
    env, _ = demo
    env.reset(3, 0, 1)
    truth = env.privileged_state()
    glove = layout.GLOVES[0]
    thing, rng = SCENE.things[glove], np.random.default_rng(0)
    drawn = [relaid(truth, glove, rng) for _ in range(200)]
    shift = truth.positions[thing.on][:2] - np.array(layout.COUNTER_POS)
    poses = [
        (*(there.positions[glove][:2] - shift), np.arctan2(*there.rotations[glove][1::-1, 0]))
        for there in drawn
    ]
    apart = np.array(poses) - np.array(thing.pose)
    assert (np.abs(apart) <= np.array(thing.jitter) + 1e-9).all()
    assert (np.ptp(apart, axis=0) > 1.7 * np.array(thing.jitter)).all()
    hard = (apart[:, 1] > 0.3 * thing.jitter[1]) & (apart[:, 2] > 0.6 * thing.jitter[2])
    assert 0.4 < hard.mean() < 0.7
    moved = [n for n, place in truth.positions.items() if drawn[0].positions[n] is not place]
    assert moved == [glove]
    there = relaid(truth, glove, rng, along=True)
    number = WATCHED.index(glove)
    before, after = privileged(truth)["places"], privileged(there)["places"]
    np.testing.assert_allclose(after[number], before[number], atol=1e-9)
    assert np.abs(after - before).max() > 0.01  # but the room's


def test_an_expert_that_reconsiders_takes_a_glove_that_lies_deep_in_another_posture(demo):
    env, _ = demo
    env.reset(3, 0, 1)
    settings = DemoSettings(noise="", shove_every_s=0.0, max_steps=300, imagine_every=0)
    asked = []

    class Asking(Parked):
        def __call__(self, env, step, leg, steps):
            if leg == FIRST_LEG["fetch", layout.GLOVES[0]] + 2:
                asked.append(env.privileged_state())
            return None

    record(env, 3, 1, settings, Asking(None))
    truth = asked[-1]
    expert = ExpertPolicy()
    expert.bind(lambda: truth)
    expert.reset(episode_of(3, 1, settings))
    truth = replace(truth, step=0)
    observation = env.observe(images=False)
    near = expert.infer(observation).actions[-1, 3:7]
    x, y, _ = truth.positions[layout.GLOVES[0]]
    deep = {**truth.positions, layout.GLOVES[0]: np.array([x, y + 0.25, 0.95])}
    truth = replace(truth, positions=deep, step=1)
    np.testing.assert_allclose(expert.infer(observation).actions[-1, 3:7], near, atol=0.02)
    truth = replace(truth, step=2)
    expert.reconsider()
    assert np.abs(expert.infer(observation).actions[-1, 3:7] - near).max() > 0.1


class Watching(Parked):
    """Never drives, so that an episode is kept that ends before its success."""

    def __call__(self, env, step, leg, steps):
        return None


def test_seconds_of_every_phase_make_a_checkpoint_that_is_run(demo, tmp_path):
    env, _ = demo
    data, out = tmp_path / "data", tmp_path / "out"
    (data / "demos").mkdir(parents=True)
    (data / "snapshots").mkdir()
    settings = DemoSettings(max_steps=140)  # until the wrist's camera sees the handle
    write(data / "demos", "train-003-1.npz", record(env, 3, 1, settings, Watching(None)))
    photographer = Photographer([data / "demos" / "train-003-1.npz"], seed=2)
    for number in range(4):
        shots = [photographer.shoot() for _ in range(8)]
        snapshots.write(data / "snapshots" / f"{number:05d}.npz", shots)
    photographer.close()
    threads = torch.get_num_threads()
    for phase in ("control", "head", "wrist", "joint"):
        words = [str(data), str(out), "--only", phase, "--minutes", "0.01", "--instances", ""]
        train_twin_policy.main(words)
        train_twin_policy.main(words)  # which is done, so it is over at once
        assert (out / f"{phase}.pt").exists()
    train_twin_policy.main([str(data), str(out), "--only", "save"])
    torch.set_num_threads(threads)
    assert (out / "log.txt").read_text().count("held out") == 3
    run = ["run", "--task", "31", "--ckpt", str(out / "ckpt"), "--max-steps", "20", "--no-video"]
    result = CliRunner().invoke(app, [*run, "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    done = json.loads(next((tmp_path / "run").glob("episodes/*/result.json")).read_text())
    assert done["outcome"] == "failure"
    assert done["steps"] == 21  # it ends at the first step after the limit
