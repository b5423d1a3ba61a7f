"""What is measured at the start: all well on the double, and each thing that is spoilt found."""

import gc
import importlib
import json
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
from adapter_start import bring_up
from omnigibson_double import simulator

from b1k_envs.errors import EnvError
from b1k_envs.findings import HOLD_STEPS
from b1k_envs.omnigibson.setup import checks as startup_checks
from b1k_envs.omnigibson.setup import moving_checks
from b1k_envs.omnigibson.setup.moving_checks import TURN_STEPS

HEAD = "robot_r1:zed_link:Camera:0"


@pytest.fixture(params=["og_2025", "og_2026"])
def og(request):
    """Either generation."""
    return request.getfixturevalue(request.param)


GRASPS = {
    "2025": "0.75 s by get_sim_step_dt: 23 substeps, 6 control steps",
    "2026": "0.3 s by get_physics_dt: 36 substeps, 9 control steps",
}


def finding(adapter, name):
    found = {each.name: each for each in adapter.check()}
    return found[name]


def refused(adapter):
    with pytest.raises(EnvError, match="would give wrong numbers") as error:
        adapter.check()
    return str(error.value)


def robot_config(change):
    """A config spoilt in its robot dict."""
    return lambda config: change(config["robots"][0])


# --- all well -------------------------------------------------------------------------------


def test_an_official_set_up_passes_everything(og):
    adapter = bring_up()
    findings = adapter.check()
    assert [each for each in findings if not each.ok] == []
    assert len({each.name for each in findings}) == len(findings) > 20
    records = [asdict(each) for each in findings]
    assert json.loads(json.dumps(records)) == records


def test_every_env_is_checked(og_2026):
    adapter = bring_up(num_envs=2)
    names = [each.name for each in adapter.check()]
    for index in (0, 1):
        for name in ("action_dim", "base mass [kg]", "rgb of head", "standing still for 30 steps"):
            assert f"{name} of env {index}" in names


def test_the_checks_render_for_the_resets_and_while_the_base_turns_only(og):
    adapter = bring_up()
    sim = adapter.og.sim
    before, steps = sim.renders, sim.steps
    adapter.check()
    assert sim.steps - steps == 2 + HOLD_STEPS + TURN_STEPS
    reset, switched_on = 4, 4  # that of its step, and three; the first access to a camera's pose
    assert sim.renders - before == 2 * reset + switched_on + TURN_STEPS
    assert sim._render_on_step


def test_the_checks_leave_every_robot_where_and_as_it_was(og):
    adapter = bring_up(num_envs=2 if og.generation == "2026" else 1)
    adapter.env.reset()
    before = [robot.get_joint_positions().numpy() for robot in adapter.robots]
    adapter.check()
    for robot, joints in zip(adapter.robots, before, strict=True):
        np.testing.assert_allclose(robot.get_joint_positions().numpy(), joints, atol=1e-4)
        assert np.abs(robot.get_joint_velocities().numpy()).max() < 0.01


def test_rendering_is_on_again_where_the_simulator_fails_meanwhile(og):
    adapter = bring_up()
    og.faults.plan("step", "crash", after=3)
    with pytest.raises(RuntimeError, match="planned crash"):
        adapter.check()
    assert adapter.og.sim._render_on_step


def test_the_instance_after_the_checks_is_not_moved_by_them(og):
    adapter = bring_up()
    adapter.check()
    adapter.load({0: 2})
    first = adapter.robots[0].get_position_orientation()[0].tolist()
    adapter.load({0: 2})
    assert adapter.robots[0].get_position_orientation()[0].tolist() == pytest.approx(
        first, abs=1e-4
    )


# --- what is refused ------------------------------------------------------------------------


def test_lopsided_base_limits_are_refused(og):
    """The limits that the 2025 documentation prints: a zero command would mean +0.125 m/s."""
    og.faults.asymmetric_base_limits = True
    text = refused(bring_up())
    assert "base velocity limits: expected [[-0.75, -0.75, -1.0], [0.75, 0.75, 1.0]]" in text
    assert "found [[-0.75, -0.75, -1.0], [1.0, 1.0, 1.0]]" in text


@pytest.mark.parametrize("index", [0, 1])
def test_lopsided_limits_are_refused_in_every_env(og_2026, index):
    """In 2026 alike robots share one controller; here one robot is in a group of its own."""
    adapter = bring_up(num_envs=2)
    view = importlib.import_module("omnigibson.controllers").ControllerView
    key, number = adapter.robots[index].controllers["base"]
    assert number == index
    assert key == adapter.robots[1 - index].controllers["base"][0]
    limits = (np.float32([-0.75, -0.75, -1.0]), np.float32([1.0, 1.0, 1.0]))
    view._controller_groups["alone"] = SimpleNamespace(command_output_limits=limits)
    adapter.robots[index].controllers["base"] = ("alone", 0)
    text = refused(adapter)
    assert f"base velocity limits of env {index}: expected" in text
    assert f"base velocity limits of env {1 - index}" not in text


def test_a_naive_config_without_the_proprio_fields_is_refused(og):
    adapter = bring_up(change=robot_config(lambda robot: robot.pop("proprio_obs")))
    assert "proprio length: expected" in refused(adapter)


def test_pictures_of_another_size_are_refused(og_2026):
    def spoil(robot):
        del robot["sensor_config"]["zed_link:Camera:0"]

    adapter = bring_up(change=robot_config(spoil))
    text = refused(adapter)
    assert "rgb of head: expected ['uint8', 720, 720, 4], found ['uint8', 1080, 1080, 4]" in text


def test_a_camera_without_pictures_is_refused(og):
    adapter = bring_up(change=robot_config(lambda robot: robot.update(obs_modalities=["proprio"])))
    assert "rgb of head: expected ['uint8', 720, 720, 4], found None" in refused(adapter)


def test_quaternions_with_the_real_part_first_are_refused(og, monkeypatch):
    adapter = bring_up()
    robot = adapter.robots[0]
    real = robot.get_position_orientation

    def wxyz(frame="world"):
        position, quaternion = real(frame)
        return position, quaternion[[3, 0, 1, 2]] if frame == "world" else quaternion

    monkeypatch.setattr(robot, "get_position_orientation", wxyz)
    assert "quaternions are x, y, z, w" in refused(adapter)


def test_hands_relative_to_something_else_are_only_remarked(og, monkeypatch):
    adapter = bring_up()
    robot = adapter.robots[0]
    real = robot.get_eef_position
    monkeypatch.setattr(robot, "get_eef_position", lambda arm: real(arm) + 0.1)
    found = finding(adapter, "quaternions are x, y, z, w, and hands in the base frame")
    assert not found.ok
    assert found.found["x, y, z, w"] == pytest.approx(0.1, abs=1e-3)


def test_another_action_dimension_is_refused(og, monkeypatch):
    adapter = bring_up()
    monkeypatch.setattr(type(adapter.robots[0]), "action_dim", property(lambda self: 24))
    assert "action_dim: expected 23, found 24" in refused(adapter)


def test_all_that_is_wrong_is_told_at_once(og, monkeypatch):
    og.faults.asymmetric_base_limits = True
    adapter = bring_up()
    monkeypatch.setattr(type(adapter.robots[0]), "action_dim", property(lambda self: 24))
    text = refused(adapter)
    assert "action_dim" in text
    assert "base velocity limits" in text
    assert adapter.generation.tag in text


# --- what is only remarked ------------------------------------------------------------------


def test_a_naive_preparation_without_the_mass_is_found(og, monkeypatch):
    adapter = bring_up(prepared=False)
    monkeypatch.setattr(
        importlib.import_module("b1k_envs.omnigibson.setup.preparation"), "BASE_MASS", 50
    )
    adapter.prepare(heavy_base=True)
    found = {each.name: each for each in adapter.check(heavy_base=True)}["base mass [kg]"]
    assert (found.expected, found.found, found.ok, found.fatal) == (250.0, 50.0, False, False)


def test_a_naive_preparation_with_250_kg_in_2025_is_found(og_2025):
    """They are those of one wrapper, and not of the evaluator."""
    adapter = bring_up()
    own = finding(adapter, "base mass [kg]")
    assert own.ok
    assert own.found == pytest.approx(47.63)
    adapter.prepare(heavy_base=True)
    found = finding(adapter, "base mass [kg]")
    assert (found.expected, found.found) == ("the robot's own, not 250", 250.0)
    assert (found.ok, found.fatal) == (False, False)


def test_a_naive_preparation_without_the_aperture_is_found(og):
    adapter = bring_up()
    adapter.robots[0].sensors[HEAD].horizontal_aperture = 20.995
    findings = {each.name: each for each in adapter.check()}
    assert not findings["head aperture [mm]"].ok
    assert not findings["focal length of head [px]"].ok
    assert findings["focal length of head [px]"].found == pytest.approx(583.0, abs=0.1)


def test_fingers_that_are_closed_at_reset_are_found(og):
    """Assisted grasps would be made wrongly."""

    def close(robot):
        robot["reset_joint_pos"][-4:] = [0.0] * 4

    found = finding(bring_up(change=robot_config(close)), "fingers open at reset [m]")
    assert not found.ok
    assert found.expected == 0.05


def test_a_grasp_window_of_the_other_year_is_found(og):
    adapter = bring_up()
    window = adapter.generation.grasp_window
    macros = importlib.import_module("omnigibson.macros").macros
    with macros.unlocked():
        getattr(macros.robots, window.path[1]).GRASP_WINDOW = 1.5
    found = finding(adapter, f"macro {'.'.join(window.path)}")
    assert (found.expected, found.ok, found.fatal) == (GRASPS[og.generation], False, False)
    lasting = {"2025": "45 substeps, 12 control steps", "2026": "180 substeps, 45 control steps"}
    assert lasting[og.generation] in found.found
    assert found.found.endswith("than in the challenge's evaluation: something changed it")


def test_the_official_grasp_window_is_found_with_the_time_step_it_is_held_against(og):
    adapter = bring_up()
    found = finding(adapter, f"macro {'.'.join(adapter.generation.grasp_window.path)}")
    assert (found.expected, found.found, found.ok) == (*[GRASPS[og.generation]] * 2, True)


@pytest.mark.parametrize(
    ("changes", "lasting", "build"),
    [
        (
            {"GRASP_WINDOW = 0.3": "GRASP_WINDOW = 3.0", "get_physics_dt": "get_sim_step_dt"},
            "3 s by get_sim_step_dt: 90 substeps, 23 control steps",
            "this build is from before pull request 2072 of BEHAVIOR-1K; take a newer one",
        ),
        (
            {"GRASP_WINDOW = 0.3": "GRASP_WINDOW = 0.7"},
            "0.7 s by get_physics_dt: 84 substeps, 21 control steps",
            "between the pull requests 2072 and 2098 of BEHAVIOR-1K; take a newer one",
        ),
        (
            {"get_physics_dt": "get_sim_step_dt"},
            "0.3 s by get_sim_step_dt: 9 substeps, 3 control steps",
            "something changed it",
        ),
    ],
    ids=["before 2072", "before 2098", "only the time step"],
)
def test_a_2026_build_with_another_grasp_is_told_by_its_pull_request(
    og_2026, monkeypatch, tmp_path, changes, lasting, build
):
    og_2026.rebuild(monkeypatch, tmp_path, "robots/robot.py", changes)
    found = finding(bring_up(), "macro robots.robot.GRASP_WINDOW")
    assert not found.ok
    assert found.found.startswith(f"{lasting}. A grasp takes another time than in the challenge's")
    assert build in found.found


def test_a_2025_build_that_counts_by_the_physics_step_is_told(og_2025, monkeypatch, tmp_path):
    """Its value alone looks right."""
    changes = {"get_sim_step_dt": "get_physics_dt"}
    og_2025.rebuild(monkeypatch, tmp_path, "robots/manipulation_robot.py", changes)
    found = finding(bring_up(), "macro robots.manipulation_robot.GRASP_WINDOW")
    assert not found.ok
    assert "90 substeps, 23 control steps" in found.found
    assert "has pull request 2072 of BEHAVIOR-1K, which is not for 2025" in found.found


def test_a_time_step_that_cannot_be_read_is_told(og_2026, monkeypatch, tmp_path):
    changes = {"og.sim.get_physics_dt()": "(1 / 120)"}
    og_2026.rebuild(monkeypatch, tmp_path, "robots/robot.py", changes)
    found = finding(bring_up(), "macro robots.robot.GRASP_WINDOW")
    assert not found.ok
    assert found.found == "0.3 s; which time step counts cannot be read in omnigibson.robots.robot"


def test_a_rule_that_is_on_again_is_found(og):
    adapter = bring_up()
    importlib.import_module("omnigibson.transition_rules").MixingToolRule.ENABLED = True
    found = finding(adapter, "transition rules that must be off")
    assert found.found == ["MixingToolRule"]
    assert not found.ok


def test_macros_that_somebody_changed_are_found(og):
    adapter = bring_up()
    module = importlib.import_module("omnigibson.macros")
    with module.macros.unlocked():
        module.gm.USE_GPU_DYNAMICS = True
        module.gm.ENABLE_TILED_RENDERING = True
    findings = {each.name: each.ok for each in adapter.check()}
    assert not findings["macro USE_GPU_DYNAMICS"]
    assert not findings["macro ENABLE_TILED_RENDERING"]


@pytest.mark.parametrize(("year", "checked"), [("og_2025", True), ("og_2026", False)])
def test_a_flat_cache_that_somebody_switched_off_is_found_in_2025_and_not_read_in_2026(
    year, checked, request
):
    request.getfixturevalue(year)
    adapter = bring_up()
    module = importlib.import_module("omnigibson.macros")
    with module.macros.unlocked():
        module.gm.ENABLE_FLATCACHE = False
    findings = {each.name: each.ok for each in adapter.check()}
    assert findings.get("macro ENABLE_FLATCACHE") is (False if checked else None)


def test_a_sleeping_garbage_collector_is_found(og):
    adapter = bring_up()
    gc.disable()
    try:
        assert not finding(adapter, "garbage collector").ok
    finally:
        gc.enable()


def test_another_version_number_is_found(og, monkeypatch):
    adapter = bring_up()
    monkeypatch.setattr(adapter.og, "__version__", "3.9.2")
    found = finding(adapter, "version")
    assert (found.expected, found.found, found.ok) == (adapter.generation.tag, "3.9.2", False)


@pytest.mark.parametrize(
    ("versions", "ok"),
    [
        ({"installed": "3.9.3", "wanted": "3.9.3"}, [True, True]),
        ({"installed": "3.9.10", "wanted": "3.9.3"}, [False, True]),
        ({"installed": "3.9.1", "wanted": "3.9.3"}, [False, False]),
        ({"installed": None, "wanted": "3.9.3"}, [False, False]),
        ({"installed": "1", "wanted": None}, [True, True]),
    ],
)
def test_assets_are_of_the_version_and_the_robots_at_least(og, monkeypatch, versions, ok):
    names = ("behavior-1k-assets", "omnigibson-robot-assets")
    monkeypatch.setattr(startup_checks, "assets_version", lambda: dict.fromkeys(names, versions))
    findings = {each.name: each.ok for each in bring_up().check()}
    assert [findings[f"version of {name}"] for name in names] == ok


def hide_limits(monkeypatch, adapter):
    """A version whose controllers say nothing of limits."""
    monkeypatch.setattr(type(adapter.robots[0]), "controllers", property(lambda robot: {"base": 7}))


def test_limits_that_cannot_be_read_are_no_reason_to_refuse_a_base_that_stands(og, monkeypatch):
    adapter = bring_up()
    hide_limits(monkeypatch, adapter)
    findings = {each.name: each for each in adapter.check()}
    assert findings["base velocity limits"].found == "cannot be read here; see standing still"
    assert not findings["base velocity limits"].ok
    assert findings[f"standing still for {HOLD_STEPS} steps"].ok


def test_lopsided_limits_that_cannot_be_read_are_refused_by_their_drift(og, monkeypatch):
    og.faults.asymmetric_base_limits = True
    adapter = bring_up()
    hide_limits(monkeypatch, adapter)
    text = refused(adapter)
    assert f"standing still for {HOLD_STEPS} steps: expected base within 0.005 m" in text
    drift = float(text.partition("found [")[2].partition(",")[0])
    assert drift == pytest.approx(0.125 * np.sqrt(2), abs=0.02)  # in x and in y, in a second


def test_a_base_that_is_pushed_is_only_remarked_where_the_limits_are_known(og, monkeypatch):
    adapter = bring_up()
    robot = adapter.robots[0]
    real, sim = robot.get_position_orientation, adapter.og.sim
    middle = sim.steps + HOLD_STEPS // 2

    def pushed(frame="world"):
        position, quaternion = real(frame)
        return position + 0.1 * (sim.steps > middle), quaternion

    monkeypatch.setattr(robot, "get_position_orientation", pushed)
    still = finding(adapter, f"standing still for {HOLD_STEPS} steps")
    assert not still.ok
    assert still.found[0] == pytest.approx(0.1 * np.sqrt(3), abs=1e-3)


# --- the age of the pictures ----------------------------------------------------------------

AGE = "age of the pictures while the base turns [steps]"


def test_the_age_of_the_pictures_is_told(og):
    """The double's cameras show the state of two renders ago, and a step renders once."""
    found = finding(bring_up(), AGE)
    assert (found.found, found.expected, found.ok, found.fatal) == (2, "at most 2", True, False)


@pytest.mark.parametrize(("renders", "age", "ok"), [(1, 0, True), (2, 1, True), (5, 4, False)])
def test_pictures_of_another_age_are_found(og, monkeypatch, renders, age, ok):
    monkeypatch.setattr(simulator, "RENDERS_UNTIL_CURRENT", renders)
    found = finding(bring_up(), AGE)
    assert (found.found, found.ok) == (age, ok)


def test_a_camera_pose_that_was_never_there_is_no_age(og, monkeypatch):
    adapter = bring_up()
    camera = adapter.robots[0].sensors[HEAD]
    elsewhere = np.eye(4, dtype=np.float32).ravel()
    monkeypatch.setattr(
        type(camera), "camera_parameters", property(lambda self: {"cameraViewTransform": elsewhere})
    )
    found = finding(adapter, AGE)
    assert (found.found, found.ok, found.fatal) == (None, False, False)


def test_a_naive_zero_action_would_not_be_standing_still(og, monkeypatch):
    monkeypatch.setattr(moving_checks, "hold_action", lambda *a: np.zeros(23, dtype=np.float32))
    found = finding(bring_up(), f"standing still for {HOLD_STEPS} steps")
    assert not found.ok
    assert found.found[1] > 0.1  # the trunk on its way to 0 rad
