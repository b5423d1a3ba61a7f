"""Everything of OmniGibson that `b1k_envs.omnigibson` uses, one row each.

`scripts/check_omnigibson_api.py` looks up every row in a source tree of BEHAVIOR-1K; a test keeps
the table equal to what the code uses. So a method that is renamed upstream is found before a GPU
is rented.

Values that a call only passes through (tensors, tuples, plain dictionaries of the config) are not
listed. The keys that are read from dictionaries filled by OmniGibson are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from b1k_envs.base import ProtocolYear

Kind = Literal["class", "function", "method", "attribute", "setting", "macro", "key", "foreign"]
"""`attribute` is read, `setting` is assigned; `macro` is a constant of a module's macros; `key` is
a string that the owner's code must contain, such as a key of a dictionary it fills; `foreign` is
of Isaac Sim, handed through, and in no text of OmniGibson."""

BOTH: tuple[ProtocolYear, ...] = ("2025", "2026")


@dataclass(frozen=True, kw_only=True)
class Touchpoint:
    """One thing that the adapter uses.

    Attributes:
        owner: A name in `OWNERS`.
        member: Its name.
        kind: What it must be.
        use: What it is used for.
        arguments: What a call passes, in order: `name` by position, `name=` by keyword.
        generations: The generations in which it is used.
    """

    owner: str
    member: str
    kind: Kind
    use: str
    arguments: tuple[str, ...] = ()
    generations: tuple[ProtocolYear, ...] = BOTH


def _owner(
    both: str | None = None, *, y2025: str | None = None, y2026: str | None = None
) -> Mapping[ProtocolYear, str]:
    paths: dict[ProtocolYear, str] = {}
    if (path := y2025 or both) is not None:
        paths["2025"] = path
    if (path := y2026 or both) is not None:
        paths["2026"] = path
    return MappingProxyType(paths)


OWNERS: Mapping[str, Mapping[ProtocolYear, str]] = MappingProxyType(
    {
        "package": _owner("omnigibson"),
        "macros": _owner("omnigibson.macros"),
        "macro dict": _owner("omnigibson.macros.MacroDict"),
        "robot macros": _owner(
            y2025="omnigibson.robots.manipulation_robot", y2026="omnigibson.robots.robot"
        ),
        "sim": _owner("omnigibson.simulator.Simulator"),
        "env": _owner("omnigibson.envs.env_base.Environment"),
        "scene": _owner(
            "omnigibson.scenes.interactive_traversable_scene.InteractiveTraversableScene"
        ),
        "prim": _owner("omnigibson.prims.xform_prim.XFormPrim"),
        "entity": _owner("omnigibson.prims.entity_prim.EntityPrim"),
        "task": _owner("omnigibson.tasks.behavior_task.BehaviorTask"),
        "task base": _owner("omnigibson.tasks.task_base"),
        "scope entry": _owner(y2025="omnigibson.utils.bddl_utils.BDDLEntity"),
        "literal": _owner("bddl.condition_evaluation.HEAD"),
        "bddl config": _owner("bddl.config"),
        "bddl utils": _owner("omnigibson.utils.bddl_utils"),
        "python utils": _owner("omnigibson.utils.python_utils"),
        "assets": _owner("omnigibson.utils.asset_utils"),
        "rules": _owner("omnigibson.transition_rules"),
        "rule": _owner("omnigibson.transition_rules.BaseTransitionRule"),
        "robot": _owner(
            y2025="omnigibson.robots.r1pro.R1Pro", y2026="omnigibson.robots.robot.Robot"
        ),
        "controllers": _owner(y2026="omnigibson.controllers"),
        "controller view": _owner(y2026="omnigibson.controllers.controller_view.ControllerView"),
        "controller": _owner("omnigibson.controllers.controller_base.BaseController"),
        "joint controller": _owner("omnigibson.controllers.joint_controller.JointController"),
        "gripper controller": _owner(
            "omnigibson.controllers.multi_finger_gripper_controller.MultiFingerGripperController"
        ),
        "base controller": _owner(
            "omnigibson.controllers.holonomic_base_joint_controller.HolonomicBaseJointController"
        ),
        "camera": _owner("omnigibson.sensors.vision_sensor.VisionSensor"),
        "replicator": _owner("omni.replicator.core"),
        "link": _owner("omnigibson.prims.rigid_dynamic_prim.RigidDynamicPrim"),
        "object": _owner("omnigibson.objects.dataset_object.DatasetObject"),
        "states": _owner("omnigibson.object_states"),
        "state": _owner("omnigibson.object_states.object_state_base.BaseObjectState"),
        "open state": _owner("omnigibson.object_states.open_state.Open"),
        "joint": _owner("omnigibson.prims.joint_prim.JointPrim"),
    }
)
"""Dotted path of each owner, by the generations in which it exists."""

_2025: tuple[ProtocolYear, ...] = ("2025",)
_2026: tuple[ProtocolYear, ...] = ("2026",)


def _rows(
    owner: str, kind: Kind, use: str, *members: str, only: tuple[ProtocolYear, ...] = BOTH
) -> tuple[Touchpoint, ...]:
    """Return the rows of one owner; a member is written `name`, or `name(argument other=)`."""
    rows = []
    for member in members:
        name, _, arguments = member.rstrip(")").partition("(")
        rows.append(
            Touchpoint(
                owner=owner,
                member=name,
                kind=kind,
                use=use,
                arguments=tuple(arguments.split()),
                generations=only,
            )
        )
    return tuple(rows)


_CLOCK = "physics_dt= rendering_dt= sim_step_dt= device= viewer_width= viewer_height="
_CONTROLLER = "control_freq= control_limits= dof_idx= command_input_limits= command_output_limits="
_TASK = (
    "activity_name= activity_definition_id= activity_instance_id= online_object_sampling= "
    "highlight_task_relevant_objects= termination_config= reward_config= include_obs="
)
_ROBOT = (
    "name= action_normalize= self_collisions= grasping_mode= obs_modalities= proprio_obs= "
    "reset_joint_pos= sensor_config= controller_config="
)
_ROOMS = "load_room_types= load_room_instances="

APPLICATION = (
    *_rows("package", "function", "start, end", "launch", "shutdown"),
    *_rows("package", "class", "build the scene", "Environment"),
    *_rows("package", "attribute", "the simulator, set by launch", "sim"),
    *_rows("sim", "method", "launch hands its arguments on", f"__init__({_CLOCK})"),
    *_rows("macros", "attribute", "the global macros, and all macros", "gm", "macros"),
    *_rows("macros", "macro", "set before launch", "HEADLESS", "RENDER_VIEWER_CAMERA"),
    *_rows("macros", "macro", "set, checked", "USE_GPU_DYNAMICS", "ENABLE_TRANSITION_RULES"),
    *_rows("macros", "macro", "set before launch, checked", "ENABLE_FLATCACHE", only=_2025),
    *_rows("macros", "macro", "checked", "ENABLE_OBJECT_STATES"),
    *_rows("macros", "macro", "checked", "ENABLE_TILED_RENDERING", only=_2026),
    *_rows("macro dict", "method", "set a macro that was read", "unlocked", only=_2025),
    *_rows("robot macros", "macro", "how long a grasp takes", "GRASP_WINDOW"),
    *_rows("rules", "class", "off", "ToggleableMachineRule", "MixingToolRule", "CookingSystemRule"),
    *_rows("rule", "setting", "the switch", "ENABLED"),
)

CONFIG = (
    *_rows("env", "method", "the config", "__init__(configs=)"),
    *_rows("env", "key", "its parts", "env", "scene", "task", "robots", "type"),
    *_rows("env", "key", "rates", "action_frequency", "rendering_frequency", "physics_frequency"),
    *_rows("env", "key", "how many scenes", "num_envs", only=_2026),
    *_rows("env", "key", "start pose of the robot", "position", "orientation"),
    *_rows("scene", "method", "config", f"__init__(scene_model= {_ROOMS} include_robots=)"),
    *_rows("task", "method", "config", f"__init__({_TASK} predefined_problem=)", only=_2025),
    *_rows("task", "method", "config", f"__init__({_TASK})", only=_2026),
    *_rows("task", "key", "time limit, reward", "max_steps", "r_potential"),
    *_rows("robot", "method", "config", f"__init__({_ROBOT})", only=_2025),
    *_rows("robot", "method", "config", f"__init__(model= {_ROBOT})", only=_2026),
    *_rows(
        "camera",
        "method",
        "picture sizes",
        "__init__(relative_prim_path= name= image_height= image_width=)",
    ),
    *_rows(
        "joint controller",
        "method",
        "arms and trunk",
        f"__init__({_CONTROLLER} motor_type= pos_kp= use_impedances= use_delta_commands=)",
    ),
    *_rows(
        "gripper controller",
        "method",
        "grippers",
        f"__init__({_CONTROLLER} motor_type= mode=)",
    ),
    *_rows(
        "base controller",
        "method",
        "base",
        f"__init__({_CONTROLLER} motor_type= vel_kp= use_impedances=)",
    ),
)

DATA = (
    *_rows(
        "assets",
        "attribute",
        "version, from the text",
        "BEHAVIOR_1K_ASSET_VERSION",
        "MINIMUM_ROBOT_ASSETS_VERSION",
        only=_2026,
    ),
    *_rows(
        "assets",
        "function",
        "named in messages",
        "download_omnigibson_robot_assets",
        "download_behavior_1k_assets(accept_license=)",
    ),
    *_rows(
        "assets",
        "function",
        "named in messages",
        "download_2025_challenge_task_instances",
        only=_2025,
    ),
    *_rows(
        "assets",
        "function",
        "named in messages",
        "download_2026_challenge_task_instances",
        only=_2026,
    ),
    *_rows(
        "bddl config",
        "function",
        "the problem's text, for its rooms",
        "get_definition_filename(behavior_activity instance)",
        only=_2025,
    ),
)

LOADING = (
    *_rows("sim", "method", "set the base's mass while stopped", "stop", "play"),
    *_rows("sim", "method", "read joint states after changes", "update_handles", only=_2026),
    *_rows("sim", "method", "settle after loading", "step_physics"),
    *_rows("robot", "attribute", "the link that gets the mass", "base_footprint_link"),
    *_rows("link", "setting", "250 kg, in 2025 if asked for; checked", "mass"),
    *_rows("camera", "setting", "field of view of the head", "horizontal_aperture"),
    *_rows("camera", "setting", "picture sizes", "image_height", "image_width", only=_2025),
    *_rows("env", "method", "after new picture sizes", "load_observation_space", only=_2025),
    *_rows("env", "attribute", "the scene", "scene", only=_2025),
    *_rows("env", "attribute", "the scenes", "scenes", only=_2026),
    *_rows("env", "method", "around loading", "reset", only=_2025),
    *_rows("env", "method", "around loading", "reset(env_indices= get_obs=)", only=_2026),
    *_rows("task", "attribute", "objects by BDDL instance", "object_scope", only=_2025),
    *_rows("task", "attribute", "objects by BDDL instance", "object_scopes", only=_2026),
    *_rows("scope entry", "attribute", "what can be held still", "is_system", only=_2025),
    *_rows(
        "bddl utils",
        "function",
        "what can be held still",
        "is_system_bddl_inst(bddl_inst)",
        only=_2026,
    ),
    *_rows("python utils", "function", "tensors", "recursively_convert_to_torch(state)"),
    *_rows("object", "method", "one state", "load_state(state serialized=)"),
    *_rows("object", "method", "settle after loading", "keep_still"),
    *_rows("entity", "key", "place of an object in its state", "root_link", only=_2026),
    *_rows("prim", "key", "place of an object in its state", "pos", only=_2026),
    *_rows("robot", "method", "a clean posture", "reset", only=_2026),
    *_rows(
        "robot",
        "method",
        "start pose",
        "set_position_orientation(position orientation)",
        only=_2025,
    ),
    *_rows(
        "robot",
        "method",
        "start pose",
        "set_position_orientation(position orientation frame=)",
        only=_2026,
    ),
    *_rows("scene", "method", "start pose of every reset", "write_task_metadata(key= data=)"),
    *_rows("scene", "method", "what a reset restores", "update_initial_file"),
    *_rows("scene", "method", "restore it", "reset", only=_2025),
    *_rows("scene", "attribute", "where scene i > 0 stands", "_scene_prim", only=_2026),
    *_rows("prim", "method", "where scene i > 0 stands", "get_position_orientation", only=_2026),
)

CHECKS = (
    *_rows("package", "attribute", "recorded", "__version__"),
    *_rows("robot", "attribute", "size of an action, controllers", "action_dim", "controllers"),
    *_rows("robot", "key", "the base's controller", "base"),
    *_rows("controllers", "class", "where the base's controller is", "ControllerView", only=_2026),
    *_rows(
        "controller view",
        "attribute",
        "where the base's controller is",
        "_controller_groups",
        only=_2026,
    ),
    *_rows("controller", "attribute", "speed of the base", "command_output_limits"),
    *_rows("camera", "attribute", "field of view", "focal_length", "image_width"),
    *_rows("camera", "key", "pictures", "rgb"),
)

RUNNING = (
    *_rows("env", "attribute", "task and robots", "task", "robots"),
    *_rows("env", "method", "a step as officially", "step(action n_render_iterations=)"),
    *_rows("env", "method", "a step unrendered", "_pre_step(action)", only=_2025),
    *_rows("env", "method", "a step unrendered", "_populate_info(info)"),
    *_rows("env", "setting", "a step unrendered", "_current_step", only=_2025),
    *_rows("env", "setting", "a step unrendered", "_current_steps", only=_2026),
    *_rows("env", "attribute", "counted by the simulator", "episode_steps"),
    *_rows("env", "method", "pictures", "get_obs", only=_2025),
    *_rows("env", "method", "pictures", "get_obs(env_indices=)", only=_2026),
    *_rows("sim", "method", "physics, pictures", "step", "render"),
    *_rows("sim", "method", "physics without a picture", "render_on_step(value)"),
    *_rows("sim", "setting", "put back after an error", "_render_on_step"),
    *_rows("task", "method", "termination", "step(env action)"),
    *_rows("task", "attribute", "the goal's literals", "ground_goal_state_options"),
    *_rows("task", "method", "their truth", "get_goal_option_satisfaction(env_idx)", only=_2026),
    *_rows(
        "task",
        "method",
        "their truth, where they are too many for that",
        "_evaluate_predicate(env_idx predicate_name entity)",
        only=_2026,
    ),
    *_rows("task", "key", "termination conditions", "timeout", "predicate"),
    *_rows("task base", "key", "termination", "done", "termination_conditions"),
    *_rows("literal", "attribute", "its name", "terms"),
    *_rows("literal", "method", "its truth", "evaluate", only=_2025),
    *_rows("literal", "method", "its truth", "evaluate(evaluate_fn)", only=_2026),
    *_rows("scope entry", "attribute", "what is in it", "exists", "wrapped_obj", only=_2025),
    *_rows("robot", "method", "a step unrendered", "apply_action(action)", only=_2026),
    *_rows("robot", "method", "proprioception, pose", "get_proprioception"),
    *_rows("robot", "method", "pose of the base", "get_position_orientation"),
    *_rows("robot", "method", "position of a hand", "get_eef_position(arm)"),
    *_rows("robot", "method", "what it holds", "is_grasping(arm candidate_obj)"),
    *_rows("robot", "attribute", "cameras by name", "sensors"),
    *_rows("camera", "method", "pose now", "get_position_orientation"),
    *_rows("camera", "attribute", "pose in the picture", "camera_parameters", only=_2025),
    *_rows("camera", "attribute", "age of pictures, at the start", "camera_parameters", only=_2026),
    *_rows("replicator", "foreign", "pose in the picture", "cameraViewTransform"),
    *_rows("states", "class", "sub-goals", "Open", "ToggledOn", "Inside", "OnTop", "Covered"),
    *_rows("states", "class", "task progress", "NextTo", "Under", "Touching", "AttachedTo"),
    *_rows("states", "class", "task progress", "OnFire", "Contains", "Filled", "Cooked", "Frozen"),
    *_rows("object", "attribute", "sub-goals", "states", "root_link"),
    *_rows("object", "attribute", "task progress", "links", "name"),
    *_rows("object", "method", "task progress", "get_position_orientation"),
    *_rows("robot", "attribute", "objects that BDDL does not name", "scene"),
    *_rows("scene", "attribute", "objects that BDDL does not name", "object_registry"),
    *_rows("state", "method", "sub-goals", "get_value"),
    *_rows("open state", "attribute", "how far something is open", "relevant_joints_info"),
    *_rows("joint", "attribute", "how far something is open", "lower_limit", "upper_limit"),
    *_rows("joint", "method", "how far something is open", "get_state"),
    *_rows("link", "attribute", "distance to an object", "aabb"),
    *_rows("link", "method", "task progress", "get_position_orientation"),
)

TOUCHPOINTS: tuple[Touchpoint, ...] = (
    *APPLICATION,
    *CONFIG,
    *DATA,
    *LOADING,
    *CHECKS,
    *RUNNING,
)
