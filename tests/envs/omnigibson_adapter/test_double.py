"""The double of `omnigibson` itself: it must misbehave as the real one is known to."""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from omnigibson_double.official import heavy_and_wide, official_config
from omnigibson_double.probes import (
    DRIVE,
    HEAD,
    ZERO,
    both,
    first,
    only_2025,
    only_2026,
    robot_of,
    start,
    start_as_asked,
)

from b1k_envs import r1pro


@pytest.fixture
def og(request):
    return start_as_asked(request)


# --- package --------------------------------------------------------------------------------


@pytest.mark.parametrize(("fixture", "version"), [("og_2025", "3.7.2"), ("og_2026", "3.9.3")])
def test_the_installed_version_is_known_without_importing(fixture, version, request):
    request.getfixturevalue(fixture)
    assert importlib.metadata.version("omnigibson") == version
    assert "omnigibson" not in sys.modules
    assert importlib.import_module("omnigibson").__version__ == version


def test_importing_needs_the_data_folder(og_2025, monkeypatch):
    monkeypatch.setenv("OMNIGIBSON_DATA_PATH", str(og_2025.folder / "nowhere"))
    with pytest.raises(AssertionError, match="does not exist"):
        importlib.import_module("omnigibson")


def test_the_simulator_exists_from_the_first_environment_on_and_stops_the_garbage_collector(
    og_2026,
):
    module = importlib.import_module("omnigibson")
    assert module.sim is None
    assert gc.isenabled()
    module.Environment(configs=official_config(og_2026))
    assert module.sim is not None
    assert not gc.isenabled()


@pytest.mark.slow
def test_another_process_finds_the_same_double(og_2025):
    code = "import omnigibson as og; print(og.__version__)"
    found = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "3.7.2"


def test_a_macro_locks_when_it_is_read_and_a_misspelt_one_changes_nothing(og_2026):
    importlib.import_module("omnigibson")
    macros = importlib.import_module("omnigibson.macros").macros
    assert macros.robots.robot.GRASP_WINDOW == 0.3
    with pytest.raises(AttributeError, match="already been used"):
        macros.robots.robot.GRASP_WINDOW = 0.75
    macros.robots.manipulation_robot.GRASP_WINDOW = 0.75  # 2025's path
    assert macros.robots.robot.GRASP_WINDOW == 0.3
    with macros.unlocked():
        macros.robots.robot.GRASP_WINDOW = 0.75
    assert macros.robots.robot.GRASP_WINDOW == 0.75


def test_variables_that_belong_to_isaac_stop_the_start(og_2025, monkeypatch):
    monkeypatch.setenv("ISAAC_PATH", "/isaac")
    module = importlib.import_module("omnigibson")
    with pytest.raises(RuntimeError, match="ISAAC_PATH"):
        module.Environment(configs=official_config(og_2025))


# --- shapes ---------------------------------------------------------------------------------


@only_2025
def test_2025_answers_in_plain_values(og):
    _, env, _ = og
    obs, reward, terminated, truncated, info = env.step(ZERO)
    assert obs["robot_r1"]["proprio"].shape == (256,)
    assert obs["robot_r1"][HEAD]["rgb"].shape == (720, 720, 4)
    assert (type(reward), type(terminated), type(truncated)) == (float, bool, bool)
    assert info["done"]["termination_conditions"]["timeout"] == {"done": False, "success": False}
    assert info["done"]["goal_status"] == {"satisfied": [], "unsatisfied": [0]}
    assert not hasattr(env, "scenes")
    assert env.task.object_scope["boxing_glove.n.01_1"].wrapped_obj.name == "boxing_gloves_189"
    assert env.task.object_scope["dust.n.01_1"].is_system


@only_2026
def test_2026_answers_in_lists_and_tensors_with_a_leading_dimension(og):
    _, env, _ = og
    obs, reward, terminated, truncated, info = env.step(ZERO[None])
    assert [o["robot_r1"]["proprio"].shape for o in obs] == [(61,)]
    assert [tuple(v.shape) for v in (reward, terminated, truncated)] == [(1,), (1,), (1,)]
    assert info[0]["episode_length"] == 0
    assert env.robots[0][0].model == "r1pro"
    assert env.task.object_scopes[0]["boxing_glove.n.01_1"].name == "boxing_gloves_189"
    assert not hasattr(env.task, "object_scope")
    assert not hasattr(env, "_pre_step")


@both
def test_the_fields_of_proprioception_are_those_of_the_config_in_its_order(og):
    _, env, installed = og
    vector, by_name = robot_of(env).get_proprioception()
    layout = r1pro.PROPRIO_LAYOUTS[installed.generation]
    assert list(by_name) == list(layout)
    for name, where in layout.items():
        assert vector[where].tolist() == by_name[name].tolist()


@both
def test_success_cannot_be_read_before_the_first_step(og):
    _, env, _ = og
    with pytest.raises(AssertionError, match="step"):
        _ = env.task.success
    env.step(ZERO)
    assert not env.task.success


def test_in_2026_alike_parts_of_all_robots_are_in_one_group(og_2026):
    _, env = start(og_2026, num_envs=2)
    view = importlib.import_module("omnigibson.controllers").ControllerView
    pairs = [row[0].controllers for row in env.robots]
    for part in ("base", "trunk", "arm_left"):
        assert [pair[part][1] for pair in pairs] == [0, 1]
        assert pairs[0][part][0] == pairs[1][part][0]
    limits = view._controller_groups[pairs[0]["base"][0]].command_output_limits
    assert np.allclose(limits, [[-0.75, -0.75, -1.0], [0.75, 0.75, 1.0]])


@both
def test_a_macro_that_does_not_exist_is_true_when_it_is_read(og):
    macros = importlib.import_module("omnigibson.macros")
    assert "ENABLE_WHATEVER" not in macros.gm
    assert macros.gm.ENABLE_WHATEVER
    assert "ENABLE_WHATEVER" in macros.gm


@both
def test_closing_without_an_application_ends_the_program(og, monkeypatch):
    module, _, _ = og
    monkeypatch.setattr(module, "app", None)
    with pytest.raises(SystemExit):
        module.shutdown()


@pytest.mark.parametrize("generation", ["2025", "2026"])
def test_an_episode_lasts_one_action_more_than_its_limit(generation, request):
    installed = request.getfixturevalue(f"og_{generation}")
    _, env = start(installed, max_steps=3)
    truncated = [bool(env.step(DRIVE)[3]) for _ in range(4)]
    assert truncated == [False, False, False, True]


@both
def test_the_goal_has_one_option_of_two_literals_named_as_bddl_names_them(og):
    _, env, installed = og
    (option,) = env.task.ground_goal_state_options
    assert sorted(" ".join(head.terms) for head in option) == [
        "not covered boxing_glove.n.01_1 dust.n.01_1",
        "not covered boxing_glove.n.01_2 dust.n.01_1",
    ]
    assert [head.evaluate() for head in option] == [False, False]
    if installed.generation == "2026":
        assert env.task.get_goal_option_satisfaction(0) == [[False, False]]


# --- robot ----------------------------------------------------------------------------------


@both
def test_the_base_weighs_what_the_urdf_says_until_it_is_set_with_the_simulator_stopped(og):
    module, env, _ = og
    link = robot_of(env).base_footprint_link
    assert link.mass == pytest.approx(47.63)
    with pytest.raises(AssertionError, match="stopped"):
        link.mass = 250.0
    heavy_and_wide(env)
    assert link.mass == 250.0
    module.sim.step()


@both
def test_a_zero_action_is_not_hold(og):
    _, env, _ = og
    for _ in range(30):
        env.step(ZERO)
    joints = robot_of(env).get_joint_positions()
    assert abs(float(joints[6])) < 0.2  # from 1.025
    np.testing.assert_allclose(joints[24:28], 0.025, atol=2e-3)


@pytest.mark.parametrize("asymmetric", [False, True])
def test_with_the_documented_limits_of_the_base_a_zero_command_drifts(asymmetric, og_2025):
    og_2025.faults.asymmetric_base_limits = asymmetric
    _, env = start(og_2025)
    _, high = env.robots[0].controllers["base"].command_output_limits
    assert high.tolist() == ([1.0, 1.0, 1.0] if asymmetric else [0.75, 0.75, 1.0])
    hold = DRIVE.copy()
    hold[:3] = 0.0
    origin = env.robots[0].get_position_orientation()[0]
    for _ in range(30):
        env.step(hold)
    moved = float((env.robots[0].get_position_orientation()[0] - origin).norm())
    assert moved == pytest.approx(0.177 if asymmetric else 0.0, abs=0.02)


@only_2026
def test_2026_cannot_reset_after_stop_and_play_before_the_handles_are_updated(og):
    module, env, _ = og
    module.sim.stop()
    module.sim.play()
    with pytest.raises(AttributeError, match="physics view"):
        env.reset()
    module.sim.update_handles()
    env.reset()


# --- faults ---------------------------------------------------------------------------------


@both
def test_planned_faults_strike_where_and_as_often_as_planned(og):
    torch = importlib.import_module("torch")
    _, env, installed = og
    installed.faults.plan("step", "out_of_memory", after=2)
    env.step(DRIVE)
    env.step(DRIVE)
    with pytest.raises(torch.cuda.OutOfMemoryError, match="CUDA"):
        env.step(DRIVE)
    installed.faults.plan("get_obs", "nan_proprio", field="trunk_qpos")
    obs = first(env.step(DRIVE)[0])
    nan = obs["robot_r1"]["proprio"].isnan().nonzero().flatten().tolist()
    assert nan == [*range(*r1pro.PROPRIO_LAYOUTS[installed.generation]["trunk_qpos"].indices(256))]
    installed.faults.plan("reset", "crash")
    with pytest.raises(RuntimeError, match="reset"):
        env.reset()
    assert not first(env.reset()[0])["robot_r1"]["proprio"].isnan().any()


@only_2025
def test_shutdown_may_hang(og):
    module, _, installed = og
    installed.faults.plan("shutdown", "hang")
    waiting = threading.Thread(target=module.shutdown, daemon=True)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    installed.faults.release()
    waiting.join()


@pytest.mark.slow
def test_a_saved_fault_strikes_one_process_and_spares_the_next(og_2025, tmp_path):
    og_2025.faults.plan("shutdown", "exit")
    variables = og_2025.faults.save(tmp_path / "faults.json")
    code = "import omnigibson as og; og.app = og; og.close = lambda: None; og.shutdown()"
    codes = [
        subprocess.run([sys.executable, "-c", code], env=os.environ | variables).returncode
        for _ in range(2)
    ]
    assert codes == [139, 0]


@both
def test_the_simulator_refuses_a_foreign_thread(og):
    module, _, _ = og
    errors = []

    def step():
        try:
            module.sim.step()
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=step)
    thread.start()
    thread.join()
    assert ["thread" in error for error in errors] == [True]


# --- record ---------------------------------------------------------------------------------


@only_2025
def test_only_what_the_adapter_touches_is_recorded(og, tmp_path):
    _, env, installed = og
    assert installed.touches() == frozenset()
    source = tmp_path / "b1k_envs" / "omnigibson" / "probe.py"
    code = "import omnigibson as og\nog.sim.render()\nenv.task.ground_goal_state_options\n"
    exec(compile(code, str(source), "exec"), {"env": env})
    assert installed.touches() == {
        ("omnigibson", "sim"),
        ("Simulator", "render"),
        ("Environment", "task"),
        ("BehaviorTask", "ground_goal_state_options"),
    }
