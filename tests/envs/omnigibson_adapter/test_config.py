"""The config against one written out by hand from the public sources of both evaluators."""

import copy
import importlib
import json
from pathlib import Path

import pytest

from b1k_envs.errors import UnavailableError, UsageError
from b1k_envs.omnigibson.setup.config import build_config
from b1k_envs.omnigibson.setup.data import TaskData
from b1k_envs.omnigibson.setup.generation import GENERATIONS
from b1k_envs.omnigibson.setup.rooms import room_instances, room_types
from b1k_envs.omnigibson.setup.task_table import TaskEntry
from b1k_envs.tasks.table import get_task

GLOVES = get_task(31)
BDDL = """(define (problem clean_boxing_gloves-0)
    (:init ; (inroom sink.n.01_1 bathroom)
        (ontop boxing_glove.n.01_1 countertop.n.01_1)
        (inroom washer.n.03_1 utility_room)
        (inroom countertop.n.01_1 utility_room) ))"""

JOINTS = {
    "name": "JointController",
    "motor_type": "position",
    "pos_kp": 150,
    "command_input_limits": None,
    "command_output_limits": None,
    "use_impedances": False,
    "use_delta_commands": False,
}
GRIPPER = {
    "name": "MultiFingerGripperController",
    "mode": "smooth",
    "command_input_limits": "default",
    "command_output_limits": "default",
}
ROBOT = {
    "name": "robot_r1",
    "action_normalize": False,
    "self_collisions": True,
    "grasping_mode": "assisted",
    "obs_modalities": ["proprio", "rgb"],
    "position": [23.09, 1.15, 0.005],
    "orientation": [-0.0009, 0.0001, 0.1601, 0.9871],
    "reset_joint_pos": [
        *[0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        *[1.025, -1.45, -0.47, 0.0],
        *[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        *[0.05, 0.05, 0.05, 0.05],
    ],
    "controller_config": {
        "arm_left": JOINTS,
        "arm_right": JOINTS,
        "gripper_left": GRIPPER,
        "gripper_right": GRIPPER,
        "base": {
            "name": "HolonomicBaseJointController",
            "motor_type": "velocity",
            "vel_kp": 150,
            "command_input_limits": [[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]],
            "command_output_limits": [[-0.75, -0.75, -1.0], [0.75, 0.75, 1.0]],
            "use_impedances": False,
        },
        "trunk": JOINTS,
        "camera": {"name": "NullJointController"},
    },
}
TASK = {
    "type": "BehaviorTask",
    "activity_name": "clean_boxing_gloves",
    "activity_definition_id": 0,
    "activity_instance_id": 0,
    "online_object_sampling": False,
    "debug_object_sampling": False,
    "highlight_task_relevant_objects": False,
    "termination_config": {"max_steps": 12352},
    "reward_config": {"r_potential": 1.0},
    "include_obs": False,
}
CONFIG_2025 = {
    "env": {"action_frequency": 30, "rendering_frequency": 30, "physics_frequency": 120},
    "scene": {
        "type": "InteractiveTraversableScene",
        "scene_model": "house_single_floor",
        "load_room_types": None,
        "load_room_instances": None,
        "include_robots": False,
    },
    "task": {**TASK, "predefined_problem": None},
    "robots": [
        {
            **ROBOT,
            "type": "R1Pro",
            "proprio_obs": [
                *["joint_qpos", "joint_qpos_sin", "joint_qpos_cos", "joint_qvel", "joint_qeffort"],
                *["robot_pos", "robot_ori_cos", "robot_ori_sin"],
                *["robot_2d_ori", "robot_2d_ori_cos", "robot_2d_ori_sin"],
                *["robot_lin_vel", "robot_ang_vel"],
                *["arm_left_qpos", "arm_left_qpos_sin", "arm_left_qpos_cos", "arm_left_qvel"],
                *["eef_left_pos", "eef_left_quat", "gripper_left_qpos", "gripper_left_qvel"],
                *["arm_right_qpos", "arm_right_qpos_sin", "arm_right_qpos_cos", "arm_right_qvel"],
                *["eef_right_pos", "eef_right_quat", "gripper_right_qpos", "gripper_right_qvel"],
                *["trunk_qpos", "trunk_qvel"],
                *["base_qpos", "base_qpos_sin", "base_qpos_cos", "base_qvel"],
            ],
            "sensor_config": {
                "VisionSensor": {"sensor_kwargs": {"image_height": 1080, "image_width": 1080}}
            },
        }
    ],
}
CONFIG_2026 = {
    "env": {
        "action_frequency": 30,
        "rendering_frequency": 30,
        "physics_frequency": 120,
        "num_envs": 3,
    },
    "scene": {
        "type": "InteractiveTraversableScene",
        "scene_model": "house_single_floor",
        "load_room_types": None,
        "load_room_instances": [
            "corridor_0",
            "dining_room_0",
            "entryway_0",
            "garden_0",
            "utility_room_0",
        ],
        "include_robots": False,
    },
    "task": TASK,
    "robots": [
        {
            **ROBOT,
            "model": "r1pro",
            "proprio_obs": [
                "base_qvel",
                *["arm_left_qpos", "arm_left_qvel", "eef_left_pos", "eef_left_quat"],
                *["gripper_left_qpos", "gripper_left_qvel"],
                *["arm_right_qpos", "arm_right_qvel", "eef_right_pos", "eef_right_quat"],
                *["gripper_right_qpos", "gripper_right_qvel"],
                *["trunk_qpos", "trunk_qvel"],
            ],
            "sensor_config": {
                "VisionSensor": {"sensor_kwargs": {"image_height": 1080, "image_width": 1080}},
                "zed_link:Camera:0": {"sensor_kwargs": {"image_height": 720, "image_width": 720}},
                "left_realsense_link:Camera:0": {
                    "sensor_kwargs": {"image_height": 480, "image_width": 480}
                },
                "right_realsense_link:Camera:0": {
                    "sensor_kwargs": {"image_height": 480, "image_width": 480}
                },
            },
        }
    ],
}


def task_data(protocol, root, *, task=GLOVES, scene="house_single_floor", rooms=None):
    return TaskData(
        generation=GENERATIONS[protocol],
        task=task,
        split="public-test",
        root=root,
        entry=TaskEntry(
            scene_model=scene,
            robot_start_position=(23.09, 1.15, 0.005),
            robot_start_orientation=(-0.0009, 0.0001, 0.1601, 0.9871),
            load_room_instances=rooms,
        ),
        entry_file=root / "available_tasks.yaml",
    )


def write_rooms(root, text):
    file = root / "2026-challenge-task-instances" / "metadata" / "B100_task_misc.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.fixture
def root(tmp_path):
    write_rooms(
        tmp_path,
        'Task,Task ID,Rooms to inlcude\nturning_on_radio,0,living_room_0\nclean_boxing_gloves,31,"'
        ' corridor_0\ndining_room_0\nentryway_0\n\ngarden_0 \nutility_room_0\n"\n',
    )
    return tmp_path


def problem(monkeypatch, tmp_path, text):
    """Let the installed bddl package answer with a problem of ours."""
    file = tmp_path / "problem0.bddl"
    file.write_text(text)
    config = importlib.import_module("bddl.config")
    monkeypatch.setattr(config, "get_definition_filename", lambda activity, number: str(file))


# --- the whole config -----------------------------------------------------------------------


def test_the_2025_config_is_the_official_one_key_by_key(root):
    data = task_data("2025", root)
    config = build_config(GENERATIONS["2025"], GLOVES, data, max_steps=12352)
    assert config == CONFIG_2025


def test_part_of_the_2025_house_is_loaded_by_room_type(root):
    data = task_data("2025", root)
    config = build_config(GENERATIONS["2025"], GLOVES, data, max_steps=12352, partial_scene=True)
    scene = {**CONFIG_2025["scene"], "load_room_types": ["utility_room"]}
    assert config == {**CONFIG_2025, "scene": scene}


def test_the_2026_config_is_the_official_one_key_by_key(root):
    data = task_data("2026", root)
    config = build_config(GENERATIONS["2026"], GLOVES, data, num_envs=3, max_steps=12352)
    assert config == CONFIG_2026


@pytest.mark.parametrize("protocol", ["2025", "2026"])
def test_a_config_is_json_and_shares_nothing_with_the_next(root, protocol):
    data, generation = task_data(protocol, root), GENERATIONS[protocol]
    first = build_config(generation, GLOVES, data, max_steps=12352)
    kept = copy.deepcopy(first)
    assert json.loads(json.dumps(first)) == first
    controllers = first["robots"][0]["controller_config"]
    controllers["arm_left"]["pos_kp"] = 1
    controllers["base"]["command_output_limits"][1][0] = 9.0
    first["robots"][0]["reset_joint_pos"][0] = 9.0
    assert controllers["arm_right"]["pos_kp"] == 150
    assert build_config(generation, GLOVES, data, max_steps=12352) == kept


def test_several_envs_are_a_matter_of_2026(root):
    with pytest.raises(UsageError, match=r"2 envs in one simulator: v3\.7\.2 has exactly 1"):
        build_config(GENERATIONS["2025"], GLOVES, task_data("2025", root), num_envs=2, max_steps=1)
    with pytest.raises(UsageError, match="0 envs"):
        build_config(GENERATIONS["2026"], GLOVES, task_data("2026", root), num_envs=0, max_steps=1)


def test_a_limit_below_one_step_is_refused(root):
    with pytest.raises(UsageError, match="time limit of 0 steps"):
        build_config(GENERATIONS["2026"], GLOVES, task_data("2026", root), max_steps=0)


# --- rooms ----------------------------------------------------------------------------------


def test_2025_room_types_come_from_the_problem_and_not_from_its_comments(monkeypatch, tmp_path):
    problem(monkeypatch, tmp_path, BDDL)
    assert room_types(GLOVES, "house_single_floor") == ["utility_room"]


@pytest.mark.parametrize(
    ("scene", "named", "loaded"),
    [
        ("house_single_floor", "kitchen", ["dining_room", "kitchen", "living_room"]),
        ("house_single_floor", "dining_room", ["dining_room", "kitchen", "living_room"]),
        ("house_double_floor_lower", "kitchen", ["corridor", "kitchen", "living_room"]),
        ("house_double_floor_lower", "living_room", ["corridor", "kitchen", "living_room"]),
        ("house_double_floor_lower", "garage", ["corridor", "garage"]),
        ("house_double_floor_lower", "bedroom", ["bedroom"]),
        ("house_double_floor_upper", "kitchen", ["kitchen"]),
    ],
)
def test_2025_rooms_bring_those_they_depend_on(monkeypatch, tmp_path, scene, named, loaded):
    problem(monkeypatch, tmp_path, BDDL.replace("utility_room", named))
    assert room_types(GLOVES, scene) == loaded


def test_chopping_wood_gets_the_garage_without_what_that_depends_on(monkeypatch, tmp_path):
    problem(monkeypatch, tmp_path, BDDL.replace("utility_room", "garden"))
    chopping = get_task("chopping_wood")
    assert room_types(chopping, "house_double_floor_lower") == ["garage", "garden"]


def test_an_unknown_2025_scene_is_refused():
    with pytest.raises(UnavailableError, match=r"no room dependencies for the scene 'Rs_int'"):
        room_types(GLOVES, "Rs_int")


def test_a_problem_without_rooms_is_refused(monkeypatch, tmp_path):
    problem(monkeypatch, tmp_path, "(define (problem x))")
    with pytest.raises(UnavailableError, match="no `inroom` fact"):
        room_types(GLOVES, "house_single_floor")


def test_2025_keeps_the_room_instances_of_the_entry(root):
    data = task_data("2025", root, rooms=("utility_room_0",))
    scene = build_config(GENERATIONS["2025"], GLOVES, data, max_steps=1)["scene"]
    assert scene["load_room_instances"] == ["utility_room_0"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Task,Task ID,Rooms to inlcude\nturning_on_radio,0,a_0\n", "found Task IDs \\[\\]"),
        ("Task,Task ID,Rooms to inlcude\nclean_boxing_gloves,30,a_0\n", "found Task IDs"),
        ("Task,Task ID,Rooms\nclean_boxing_gloves,31,a_0\n", "in the column 'Rooms to inlcude'"),
        ("Task,Task ID,Rooms to inlcude\nclean_boxing_gloves,31,\n", "names no rooms"),
    ],
)
def test_a_2026_table_that_does_not_fit_is_refused(root, text, words):
    write_rooms(root, text)
    with pytest.raises(UnavailableError, match=words):
        room_instances(task_data("2026", root))


def test_a_missing_2026_table_names_what_downloads_it(tmp_path):
    wanted = r"B100_task_misc\.csv is missing: .*download_2026_challenge_task_instances\(\)"
    with pytest.raises(UnavailableError, match=wanted):
        room_instances(task_data("2026", tmp_path))


def test_the_installed_bddl_package_puts_the_gloves_into_the_utility_room():
    config = importlib.import_module("bddl.config")
    assert Path(config.get_definition_filename("clean_boxing_gloves", 0)).is_file()
    assert room_types(GLOVES, "house_single_floor") == ["utility_room"]
