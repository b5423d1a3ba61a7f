"""Numbered initial states: the same numbers everywhere, and a world that starts as they say.

The pinned numbers are the contract with every other machine: an episode "public-test 7" must be
the same world for two labs. Changing one of them invalidates comparisons with older runs.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import twin_bench
from twin_bench import (
    GLOVES,
    Bench,
    action,
    fingerprint,
    make_twin,
    picture_hashes,
    trajectory,
)

from b1k_envs.base import Split
from b1k_envs.errors import UsageError
from b1k_envs.mujoco_twin.env import TwinEnv
from b1k_envs.mujoco_twin.instances import Instance, check_instance, make_instance
from b1k_envs.mujoco_twin.scenes.base import Scene
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.scene import SCENE

COUNTS: dict[Split, int] = {"train": 200, "public-test": 20, "hidden-test": 20}
ALL = [(split, index) for split, count in COUNTS.items() for index in range(count)]

PINNED: dict[tuple[Split, int], Instance] = {
    ("train", 0): Instance(
        start=(0.0711571583470302, 0.21083570920575423, 0.04874080762913533),
        things={
            "boxing_glove_1": (-0.3466382630324018, 1.9344506413436207, 1.2952110447521314),
            "boxing_glove_2": (-0.7542182684018538, 2.014807631425748, 1.6898096347637293),
        },
        shifts={
            "washer": (0.01177373159788489, 0.01294187849139388),
            "dryer": (0.009724038489685624, 0.01361207455302207),
            "countertop": (-0.01608178421422911, 0.0017560187113457061),
        },
        light=0.9891811213714246,
        tints=(
            (1.044584693132948, 1.0002000222284115, 1.0116654136936718),
            (0.9995148652950206, 1.032770192474256, 1.020883907576823),
        ),
    ),
    ("train", 199): Instance(
        start=(-0.08540164511533897, -0.09813749887650025, 0.0541802066305924),
        things={
            "boxing_glove_1": (-0.401927098361882, 1.9797216951488479, 1.4145978800878896),
            "boxing_glove_2": (-0.8219662004064267, 1.9423643430600426, 2.033231973433757),
        },
        shifts={
            "washer": (0.004579046340663981, -0.0037799204544723877),
            "dryer": (-0.01415083412505354, -0.01017820221058167),
            "countertop": (-0.015233801262788149, 0.011591939681003468),
        },
        light=0.9356458748163,
        tints=(
            (0.9999615163759872, 0.9806641948995647, 0.9981115672554896),
            (1.0490249573868453, 0.9691699217812151, 1.0251689028944595),
        ),
    ),
    ("public-test", 0): Instance(
        start=(-0.12120410580260481, 0.2310220482252458, -0.08363193455436195),
        things={
            "boxing_glove_1": (-0.36462019731124984, 1.9075589007869698, 1.4234575606637632),
            "boxing_glove_2": (-0.739842135772487, 1.9481602512766842, 1.2790655994907123),
        },
        shifts={
            "washer": (0.016015257251025535, 0.007335801891586819),
            "dryer": (-0.009246028569800635, -0.010564933011923738),
            "countertop": (-0.007805036018387055, -0.005249172208755874),
        },
        light=0.9709145804154209,
        tints=(
            (0.9767281022803476, 1.002104613590663, 0.9660883913148631),
            (1.055795544808151, 0.9847147162100123, 0.9710261236446234),
        ),
    ),
    ("public-test", 19): Instance(
        start=(-0.06265699618108202, 0.20302453462799197, -0.13050613202397174),
        things={
            "boxing_glove_1": (-0.34652352083119736, 1.9629638461276124, 2.1135853979626695),
            "boxing_glove_2": (-0.7654761679813497, 2.011089498832176, 1.8855221249668894),
        },
        shifts={
            "washer": (-0.0188080220090432, 0.0030661795689813733),
            "dryer": (-0.009066987347705462, -0.01509139950777394),
            "countertop": (0.01731368436497513, -0.01792921363542052),
        },
        light=0.9444507192775379,
        tints=(
            (1.054672308016883, 1.0089855994217627, 0.9553631784200446),
            (0.9868429992028684, 1.036827937700368, 1.0306391816652813),
        ),
    ),
    ("hidden-test", 0): Instance(
        start=(0.14522895619375464, -0.18867288575464747, 0.2059137902364654),
        things={
            "boxing_glove_1": (-0.3048363552288001, 1.9168465639236478, 1.9495784659806792),
            "boxing_glove_2": (-0.7528175071166697, 1.9524128137025905, 2.1329168881220104),
        },
        shifts={
            "washer": (-0.019314151594491725, 0.004292894558930271),
            "dryer": (0.001105669408949832, 0.004737190990699376),
            "countertop": (0.006362503207973944, -0.018460630979639618),
        },
        light=1.0641971506178256,
        tints=(
            (0.9870114249882408, 1.01028746023016, 0.947825117873077),
            (0.9482902002433065, 0.9452980445559247, 1.026029943012366),
        ),
    ),
    ("hidden-test", 19): Instance(
        start=(-0.0842293060739845, 0.04896769644775162, 0.007390549949376623),
        things={
            "boxing_glove_1": (-0.40341748658092386, 2.001933884438515, 1.8084023163344711),
            "boxing_glove_2": (-0.7887882429408327, 1.9702246661824547, 1.9638595183963552),
        },
        shifts={
            "washer": (0.015951839473953917, -0.00032207923440320753),
            "dryer": (0.000862331949161983, 0.01850882954353079),
            "countertop": (-0.003917928701409021, 0.004292894869399322),
        },
        light=1.0470749256464835,
        tints=(
            (1.0472459339055815, 0.9873343051239878, 0.9537256161964163),
            (1.0254526994164022, 0.9765655841369664, 1.049061811852734),
        ),
    ),
}


def tinting(count: int) -> Scene:
    """The scene with as many tinted materials."""
    return replace(SCENE, materials=tuple(map(str, range(count))))


def drawn(tint_count: int = 2) -> dict[tuple[Split, int], Instance]:
    return {key: make_instance(tinting(tint_count), *key) for key in ALL}


# --- the numbers ----------------------------------------------------------------------------


def test_the_numbers_are_those_that_other_machines_have():
    assert {key: make_instance(tinting(2), *key) for key in PINNED} == PINNED


def test_the_sizes_of_the_splits_are_those_of_the_challenge():
    assert dict(SCENE.counts) == COUNTS


def test_neither_order_nor_the_global_generator_matter():
    random.seed(1)
    forwards = drawn()
    random.seed(2)
    np.random.seed(2)
    state = random.getstate()
    backwards = {key: make_instance(tinting(2), *key) for key in reversed(ALL)}
    assert backwards == forwards
    assert random.getstate() == state, "the caller's generator was used"


def test_all_240_instances_differ_in_every_pose():
    instances = list(drawn().values())
    assert len(instances) == 240
    for part in ("start", "light"):
        assert len({getattr(instance, part) for instance in instances}) == 240, part
    for name in GLOVES:
        assert len({instance.things[name] for instance in instances}) == 240, name
    for name in ("washer", "dryer", "countertop"):
        assert len({instance.shifts[name] for instance in instances}) == 240, name


def test_another_task_would_get_other_numbers():
    other = replace(SCENE, task="other_task")
    assert make_instance(other, "train", 0) != make_instance(SCENE, "train", 0)


def test_a_new_material_changes_no_pose_and_no_other_tint():
    for index in range(5):
        few, many = (make_instance(tinting(count), "train", index) for count in (3, 7))
        assert many.tints[:3] == few.tints
        assert len(many.tints) == 7
        for part in ("start", "things", "shifts", "light"):
            assert getattr(few, part) == getattr(many, part)


def jitters() -> dict[str, tuple[float, np.ndarray]]:
    """Allowed half-width and what was drawn, less the nominal value, per jittered quantity."""
    instances = list(drawn().values())
    start = np.array([i.start for i in instances])
    counter = np.array([i.shifts["countertop"] for i in instances])
    gloves = np.array(
        [[i.things[g] for g in GLOVES] for i in instances]
    )  # instance, glove, x y yaw
    nominal = np.array([[-0.36, 1.97, np.pi / 2], [-0.76, 1.97, np.pi / 2]])
    on_counter = gloves - nominal
    on_counter[:, :, :2] -= counter[:, None]
    return {
        "start x": (0.15, start[:, 0]),
        "start y": (0.25, start[:, 1]),
        "start yaw": (0.30, start[:, 2]),
        "glove x": (0.05, on_counter[:, :, 0]),
        "glove y": (0.06, on_counter[:, :, 1]),
        "glove yaw": (0.60, on_counter[:, :, 2]),
        "washer": (0.02, np.array([i.shifts["washer"] for i in instances])),
        "dryer": (0.02, np.array([i.shifts["dryer"] for i in instances])),
        "counter": (0.02, counter),
        "light": (0.12, np.array([i.light for i in instances]) - 1.0),
        "tints": (0.06, np.array([i.tints for i in instances]) - 1.0),
    }


@pytest.mark.parametrize("quantity", jitters())
def test_the_jitter_of_all_240_stays_in_its_bounds_and_fills_them(quantity: str):
    half_width, values = jitters()[quantity]
    assert np.abs(values).max() <= half_width + 1e-12
    assert values.max() > 0.9 * half_width
    assert values.min() < -0.9 * half_width
    assert abs(values.mean()) < 0.15 * half_width


@pytest.mark.parametrize(
    ("split", "index", "text"),
    [
        ("public-test", 20, "instance 20 is out of range: public-test has instances 0-19"),
        ("public-test", -1, "instance -1 is out of range: public-test has instances 0-19"),
        ("hidden-test", 20, "instance 20 is out of range: hidden-test has instances 0-19"),
        ("train", 200, "instance 200 is out of range: train has instances 0-199"),
        ("train", 301, "instance 301 is out of range: train has instances 0-199"),
    ],
)
def test_an_index_outside_the_split_is_refused(split: Split, index: int, text: str):
    for refuse in (check_instance, make_instance):
        with pytest.raises(UsageError, match=f"^{text}$"):
            refuse(SCENE, split, index)


def test_the_first_and_last_index_are_accepted():
    for split, count in COUNTS.items():
        check_instance(SCENE, split, 0)
        check_instance(SCENE, split, count - 1)


# --- the world they make --------------------------------------------------------------------


@pytest.fixture(scope="module")
def env() -> Iterator[TwinEnv]:
    made = make_twin()
    yield made
    made.close()


@pytest.fixture(scope="module", params=["public-test", "hidden-test"])
def test_split(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """One world for all its tests, each of which resets it."""
    made = make_twin(split=str(request.param))
    yield Bench(made)
    made.close()


def test_reset_refuses_an_index_outside_its_split(env: TwinEnv):
    with pytest.raises(
        UsageError, match=r"^instance 20 is out of range: public-test has instances 0-19$"
    ):
        env.reset(20, 0, 0)


@pytest.mark.parametrize("index", range(20))
def test_gloves_lie_on_the_counter_and_touch_nothing_else(test_split: Bench, index: int):
    bench = test_split
    bench.env.reset(index, 0, 0)
    for glove in GLOVES:
        assert bench.touching(glove) == {"countertop"}
        assert bench.turn(glove)[2, 2] > 0.999, "it lies flat, palm down"
        assert bench.body(glove)[2] == pytest.approx(0.91 + 0.051, abs=0.004)


@pytest.mark.parametrize("index", range(20))
def test_distances_are_those_published_of_the_real_scene(test_split: Bench, index: int):
    bench = test_split
    bench.env.reset(index, 0, 0)
    start, washer, dryer = (bench.body(b)[:2] for b in ("base_link", "washer", "dryer"))
    counter = bench.body("countertop")[:2]
    assert 0.9 <= np.linalg.norm(washer - start) <= 2.0
    for glove in GLOVES:
        assert 0.85 <= np.linalg.norm(bench.body(glove)[:2] - start) <= 3.8
    assert np.linalg.norm(counter - washer) == pytest.approx(3.0, abs=0.15)
    assert np.linalg.norm(dryer - washer) == pytest.approx(0.62, abs=0.07)
    assert bench.body("washer")[2] == pytest.approx(0.47, abs=1e-6)
    assert bench.body("dryer")[2] == pytest.approx(0.47, abs=1e-6)


@pytest.mark.parametrize("index", range(20))
def test_the_world_starts_as_the_numbers_say(env: TwinEnv, index: int):
    env.reset(index, 0, 0)
    bench_data, instance = env._data, make_instance(SCENE, "public-test", index)
    base = [float(bench_data.joint(f"base_footprint_{a}_joint").qpos[0]) for a in ("x", "y", "rz")]
    np.testing.assert_allclose(base, instance.start, atol=1e-4)
    for glove, pose in instance.things.items():
        body = bench_data.body(glove)
        np.testing.assert_allclose(body.xpos[:2], pose[:2], atol=2e-3)
        turn = body.xmat.reshape(3, 3)
        assert np.arctan2(turn[1, 0], turn[0, 0]) == pytest.approx(pose[2], abs=0.02)
    for name, nominal in (
        ("washer", (1.62, 0.0)),
        ("dryer", (1.62, -0.64)),
        ("countertop", (-0.45, 2.06)),
    ):
        np.testing.assert_allclose(
            bench_data.body(name).xpos[:2], np.add(nominal, instance.shifts[name]), atol=1e-9
        )


@pytest.mark.parametrize("index", range(20))
def test_nothing_moves_when_the_robot_does_not(env: TwinEnv, index: int):
    env.reset(index, 0, 0)
    before = env._data.qpos.copy()
    posture = action()  # the reset posture, hands open
    for _ in range(30):
        env.step(posture)
    np.testing.assert_allclose(env._data.qpos, before, atol=2e-3)


# --- bit for bit ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference(env: TwinEnv) -> dict[str, str]:
    return fingerprint(env, 4)


def test_the_same_instance_twice_is_the_same_bit_for_bit(env: TwinEnv, reference: dict[str, str]):
    """With another instance and another trajectory in between, and whatever rollout and seed."""
    fingerprint(env, 11)
    assert fingerprint(env, 4) == reference
    np.testing.assert_array_equal(
        trajectory(env, 4, rollout=3, seed=99), trajectory(env, 4, rollout=0, seed=1)
    )


@pytest.mark.slow
def test_a_second_world_of_the_same_process_is_the_same_bit_for_bit(
    env: TwinEnv, reference: dict[str, str]
):
    second = make_twin()
    try:
        # Interleaved: two worlds share no state.
        env.reset(7, 0, 0)
        assert fingerprint(second, 4) == reference
    finally:
        second.close()
    assert fingerprint(env, 4) == reference


@pytest.mark.slow
def test_another_process_is_the_same_bit_for_bit(reference: dict[str, str]):
    script = Path(twin_bench.__file__)
    done = subprocess.run(
        [sys.executable, str(script), "public-test", "4"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == reference


@pytest.mark.slow
def test_the_protocol_changes_neither_world_nor_pictures(reference: dict[str, str]):
    other = make_twin("2025")
    try:
        other.reset(4, 0, 0)
        assert picture_hashes(other).items() <= reference.items()
    finally:
        other.close()


def test_different_instances_differ_in_pictures_and_trajectory(
    env: TwinEnv, reference: dict[str, str]
):
    other = fingerprint(env, 5)
    assert [key for key in reference if other[key] == reference[key]] == []


@pytest.mark.slow
def test_no_split_repeats_a_world_of_another():
    starts = {}
    for split in COUNTS:
        world = make_twin(split=split)
        world.reset(0, 0, 0)
        starts[split] = world._data.qpos.tobytes()
        world.close()
    assert len(set(starts.values())) == 3
