"""The table of everything that is touched of OmniGibson, held against code and double."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import get_args

import pytest
from accesses import accesses, foreign_names
from lib.og_touchpoints import (
    APPLICATION,
    CHECKS,
    LOADING,
    OWNERS,
    RUNNING,
    TOUCHPOINTS,
    Touchpoint,
)
from omnigibson_bench import PUBLIC, TASK, Double, drive, start_anew
from omnigibson_double import touch

from b1k_envs.base import ProgressVariant, ProtocolYear
from b1k_envs.omnigibson import world
from b1k_envs.omnigibson.dialects import dialect_2026
from b1k_envs.omnigibson.world import OmniGibsonWorld, RenderMode

PACKAGE = Path(world.__file__).parent
TEXTS = {
    path.stem: path.read_text(encoding="utf-8")
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.stem != "__init__"
}
TREES = {name: ast.parse(text) for name, text in TEXTS.items()}

PLAIN = {"cpu", "detach", "get", "items", "lower", "numpy", "rpartition", "values"}
"""Names of tensors, strings and dictionaries."""

BY_PATTERN = {"BEHAVIOR_1K_ASSET_VERSION"}
"""Found in the text of OmniGibson by a pattern that fits two spellings."""

DOUBLES = {
    "BDDLEntity": ("scope entry", "object"),
    "BehaviorTask": ("task",),
    "Controller": ("controller",),
    "ControllerView": ("controller view",),
    "CookingSystemRule": ("rule",),
    "DatasetObject": ("object",),
    "Environment": ("env",),
    "GroundHead": ("literal",),
    "JointPrim": ("joint",),
    "Link": ("link",),
    "MixingToolRule": ("rule",),
    "ObjectState": ("state",),
    "Open": ("state", "open state"),
    "Robot": ("robot", "object"),
    "Scene": ("scene",),
    "ScenePrim": ("prim",),
    "Simulator": ("sim",),
    "System": ("object",),
    "ToggleableMachineRule": ("rule",),
    "VisionSensor": ("camera",),
    "XFormPrim": ("prim",),
    "camera_parameters": ("replicator",),
    "macros": ("macro dict",),
    "macros.globals": ("macros",),
    "macros.robots.manipulation_robot": ("robot macros",),
    "macros.robots.robot": ("robot macros",),
    "omnigibson": ("package",),
    "omnigibson.controllers": ("controllers",),
    "omnigibson.macros": ("macros",),
    "omnigibson.object_states": ("states",),
    "omnigibson.transition_rules": ("rules",),
    "omnigibson.utils.bddl_utils": ("bddl utils",),
    "omnigibson.utils.python_utils": ("python utils",),
}
"""Owners in the table of what the double calls by the names of its classes. An object that a
`BDDLEntity` wraps answers through it, and the robot is an object of the scene."""

ASKED_FOR = {("2025", "Environment", "scenes")}
"""Which generation it is, is asked by what an environment of the other one has."""

NOT_RECORDED = {
    ("package", "shutdown"),  # ends the process
    ("package", "__version__"),  # the double leaves such names out
    ("sim", "__init__"),  # launch passes its arguments on
    ("macro dict", "unlocked"),  # a method, which the double's macros do not record
    ("literal", "terms"),  # of 2025 they are bddl's own
    ("literal", "evaluate"),
    # No sub-goal and no check of the task asks these.
    *(("states", name) for name in ("NextTo", "Under", "Touching", "AttachedTo", "OnFire")),
    *(("states", name) for name in ("Contains", "Filled", "Cooked", "Frozen")),
    ("robot", "scene"),
    ("scene", "object_registry"),
    ("object", "name"),
    ("rules", "WasherRule"),
}
"""Rows of which no run on the double can tell that they are touched."""


def declared(protocol: ProtocolYear) -> set[tuple[str, str]]:
    return {(row.owner, row.member) for row in TOUCHPOINTS if protocol in row.generations}


def names_of(row: Touchpoint) -> list[str]:
    """The names that the code must contain: the member, or what is passed to a constructor."""
    if row.member != "__init__":
        return [row.member]
    required = {"name", "control_freq", "control_limits", "dof_idx", "relative_prim_path"}
    return [name[:-1] for name in row.arguments if name[:-1] not in required]


# --- The table itself -------------------------------------------------------------------------


def test_every_row_has_an_owner_in_each_of_its_generations():
    for row in TOUCHPOINTS:
        assert row.generations
        for protocol in row.generations:
            assert protocol in OWNERS[row.owner], row


def test_no_owner_is_there_for_nothing():
    assert set(OWNERS) == {row.owner for row in TOUCHPOINTS}


def test_no_row_is_there_twice():
    rows = [(r.owner, r.member, r.kind, r.arguments, p) for r in TOUCHPOINTS for p in r.generations]
    assert len(rows) == len(set(rows))


# --- Against the code -------------------------------------------------------------------------


@pytest.mark.parametrize("name", TREES)
def test_every_name_that_the_code_reads_of_omnigibson_has_a_row(name):
    members = {row.member for row in TOUCHPOINTS}
    package = foreign_names(TREES.values())
    unknown = {
        f"line {access.line}: {access.name}"
        for access in accesses(TREES[name], package)
        if access.name not in members | PLAIN
    }
    assert not unknown, f"{name}.py touches what og_touchpoints.py does not declare"


def test_a_new_touch_without_a_row_would_be_noticed():
    """The rule is no sieve: what an adapter might add is seen, whichever way it is reached."""
    text = """
def f(self, env: Any, own: str):
    env.first
    robot = env.robots[0]
    for link in robot.links.values():
        link.second = own
    a, b = env.pair
    (lambda: a.third)()
    with env.context() as inner:
        inner["fourth"]
    getattr(self._og.sim, "fifth")
    importlib.import_module("omnigibson.utils").sixth(own)
    [each.seventh for each in robots_of(env)]
    state = env if own else None
    state.eighth
    self.robot(0).ninth
    env.info.get("tenth")
    "eleventh" in env.info
    own.never
"""
    package = foreign_names([*TREES.values(), ast.parse(text)])
    seen = {access.name for access in accesses(ast.parse(text), package)}
    numbers = {"first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth"}
    assert numbers | {"ninth", "tenth", "eleventh"} <= seen
    assert "never" not in seen


@pytest.mark.parametrize("row", TOUCHPOINTS, ids=lambda row: f"{row.owner}-{row.member}")
def test_nothing_is_declared_that_the_code_does_not_name(row):
    for name in names_of(row):
        found = name in BY_PATTERN or any(
            re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) for text in TEXTS.values()
        )
        assert found, f"no module of the package names {name}"


OWN_OBJECTS = {"super()", "self._application", "self._dialect", "subgoals", "task_progress"}
"""Objects of ours with methods named like some of OmniGibson's."""


CALLED = {row.member for row in TOUCHPOINTS if row.kind in ("method", "function")}


def forms(member: str) -> set[tuple[int, frozenset[str]]]:
    """How a method may be called: number of positional arguments, and keywords."""
    member = "__init__" if member == "launch" else member  # which passes everything on
    rows = (r for r in TOUCHPOINTS if r.member == member and r.kind in ("method", "function"))
    return {
        (
            sum(not argument.endswith("=") for argument in row.arguments),
            frozenset(argument[:-1] for argument in row.arguments if argument.endswith("=")),
        )
        for row in rows
        if row.member != "__init__" or row.owner == "sim"
    }


@pytest.mark.parametrize("name", TREES)
def test_a_call_passes_what_its_row_says(name):
    for node in ast.walk(TREES[name]):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        spread = any(isinstance(argument, ast.Starred) for argument in node.args)
        own = ast.unparse(node.func.value) in OWN_OBJECTS
        if spread or own or node.func.attr not in CALLED:
            continue
        keywords = {keyword.arg for keyword in node.keywords} - {None}
        assert any(
            count == len(node.args) and keywords <= declared_
            for count, declared_ in forms(node.func.attr)
        ), f"{name}.py:{node.lineno}: {ast.unparse(node)}"


def test_pure_modules_import_nothing_of_omnigibson():
    """Nothing is imported while a module is: what is touched, is touched by a call."""
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                module = getattr(node, "module", None) or node.names[0].name
                assert module.partition(".")[0] not in ("omnigibson", "isaacsim", "bddl")


# --- Against the config -----------------------------------------------------------------------

DROPPED = {"debug_object_sampling"}
"""Passed as the evaluators pass it; OmniGibson drops what no class takes."""

CONTROLLERS = {
    "JointController": "joint controller",
    "MultiFingerGripperController": "gripper controller",
    "HolonomicBaseJointController": "base controller",
    "NullJointController": None,  # is given nothing
}


@pytest.mark.slow
def test_every_key_of_the_config_has_a_row(double: Double, monkeypatch: pytest.MonkeyPatch):
    configs = []
    build = world.build_config
    monkeypatch.setattr(
        world, "build_config", lambda *a, **k: configs.append(build(*a, **k)) or configs[-1]
    )
    run(double.protocol, "on-demand", num_envs=1)
    (config,) = configs
    rows = [row for row in TOUCHPOINTS if double.protocol in row.generations]

    def takes(owner: str) -> set[str]:
        passed = (r.arguments for r in rows if r.owner == owner and r.member == "__init__")
        return {argument.rstrip("=") for arguments in passed for argument in arguments}

    keys = {(row.owner, row.member) for row in rows if row.kind == "key"}
    of_env = {member for owner, member in keys if owner == "env"}
    task, (robot,) = config["task"], config["robots"]
    assert {*config, *config["env"]} <= of_env
    assert {*config["scene"]} <= takes("scene") | of_env
    assert {*task} <= takes("task") | of_env | DROPPED
    assert {*task["termination_config"], *task["reward_config"]} <= {m for o, m in keys}
    assert {*robot} <= takes("robot") | of_env
    for sensor in robot["sensor_config"].values():
        assert {*sensor["sensor_kwargs"]} <= takes("camera")
    for controller in robot["controller_config"].values():
        owner = CONTROLLERS[controller["name"]]
        assert {*controller} - {"name"} <= (takes(owner) if owner else set())


# --- Against a run ----------------------------------------------------------------------------


def run(protocol: ProtocolYear, render: RenderMode, num_envs: int) -> None:
    """A short episode in a process that has not started OmniGibson yet."""
    start_anew()
    world = OmniGibsonWorld(
        TASK,
        protocol=protocol,
        render=render,
        gpu=None,
        num_envs=num_envs,
        heavy_base=protocol == "2025",
        **PUBLIC,
    )
    envs = range(num_envs)
    world.load({index: index for index in envs})
    goals = [world.start_goal(index) for index in envs]
    for step in range(2):
        world.advance({index: drive(step) for index in envs})
    for index in envs:
        world.look(index)
        world.camera_poses(index)
        world.proprio(index)
        world.agent(index)
        world.goal_status(index, goals[index], None)
        world.subgoals(index)
        for variant in get_args(ProgressVariant):
            world.checks(index, variant)
        world.episode_steps(index)
    world.advance({0: drive(2)})  # the others, if any, hold still


def owners_of(name: str) -> tuple[str, ...]:
    return DOUBLES.get(name.lstrip("_"), (name,))


def touched(protocol: ProtocolYear) -> set[tuple[str, str]]:
    """What was touched, in the words of the table."""
    pairs = set()
    groups = {path for path in DOUBLES if path.startswith("macros.")}
    for owner, name in touch.touches():
        path = f"{owner}.{name}"
        if owner == "import" or any(path == g or g.startswith(f"{path}.") for g in groups):
            continue
        if (protocol, owner.lstrip("_"), name) in ASKED_FOR:
            continue
        member = name.strip("[]")
        options = [(each, member) for each in owners_of(owner)]
        pairs.add(next((o for o in options if o in declared(protocol)), options[0]))
    return pairs


@pytest.mark.parametrize("render", ["on-demand", "every-step"])
def test_an_episode_touches_nothing_that_is_not_declared(double: Double, render: RenderMode):
    run(double.protocol, render, num_envs=1)
    assert touched(double.protocol) <= declared(double.protocol)


def test_a_module_that_is_imported_is_one_of_an_owner(double: Double):
    run(double.protocol, "on-demand", num_envs=1)
    paths = {path for paths in OWNERS.values() for path in paths.values()}
    for owner, name in touch.touches():
        if owner == "import":
            assert any(path == name or path.startswith(f"{name}.") for path in paths), name


@pytest.mark.slow
def test_what_is_declared_for_running_is_touched_by_a_run(
    double: Double, monkeypatch: pytest.MonkeyPatch
):
    run(double.protocol, "on-demand", num_envs=2 if double.protocol == "2026" else 1)
    monkeypatch.setattr(dialect_2026, "MAX_LITERALS_OF_ALL_OPTIONS", 1)  # the goal has two
    run(double.protocol, "every-step", num_envs=1)
    expected = {
        (row.owner, row.member)
        for row in (*APPLICATION, *LOADING, *CHECKS, *RUNNING)
        if double.protocol in row.generations and row.kind != "key"
    }
    assert expected - touched(double.protocol) - NOT_RECORDED == set()


def test_what_is_declared_as_a_setting_is_assigned(double: Double):
    run(double.protocol, "on-demand", num_envs=1)
    written = {
        (owner, name.strip("[]"))
        for double_, name in touch.writes()
        for owner in owners_of(double_)
    }
    for row in TOUCHPOINTS:
        if row.kind == "setting" and double.protocol in row.generations:
            assert (row.owner, row.member) in written, row
