"""Starting the application: what must be set before what, shown on a double that locks macros."""

import errno
import fcntl
import gc
import importlib
import json
import logging
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from omnigibson_double import touch
from omnigibson_double.application import SET_BY_ISAAC

from b1k_envs.errors import EnvError, UnavailableError
from b1k_envs.omnigibson.setup import application
from b1k_envs.omnigibson.setup.application import Application, grasp_window, launch
from b1k_envs.omnigibson.setup.generation import GENERATIONS, installed_generation


@pytest.fixture(autouse=True)
def own_appdata(tmp_path, monkeypatch):
    monkeypatch.setenv("OMNIGIBSON_APPDATA_PATH", str(tmp_path / "appdata"))
    for name in ("OMNIGIBSON_GPU_ID", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


def macros():
    return importlib.import_module("omnigibson.macros")


# --- macros ---------------------------------------------------------------------------------


@pytest.mark.parametrize("year", ["og_2025", "og_2026"])
def test_the_application_starts_with_the_evaluators_macros(year, request):
    request.getfixturevalue(year)
    started = launch(installed_generation())
    settings = started.og.app.settings
    wanted = {
        "HEADLESS": True,
        "USE_GPU_DYNAMICS": False,
        "ENABLE_TRANSITION_RULES": True,
        "ENABLE_OBJECT_STATES": True,
        "RENDER_VIEWER_CAMERA": False,
    } | ({"ENABLE_FLATCACHE": True} if year == "og_2025" else {})
    assert {name: settings[name] for name in wanted} == wanted
    # Two of them are the defaults, too, which an official run does not rely on.
    written = {name for owner, name in touch.writes() if owner == "macros.globals"}
    assert written == set(wanted) - {"ENABLE_OBJECT_STATES"}


def test_a_window_is_opened_if_asked_for(og_2026):
    started = launch(installed_generation(), headless=False)
    assert started.og.app.settings["HEADLESS"] is False
    assert "RENDER_VIEWER_CAMERA" not in started.applied["macros"]


def test_a_naive_start_that_sets_macros_afterwards_fails(og_2026):
    og = importlib.import_module("omnigibson")
    og.launch(
        physics_dt=1 / 120,
        rendering_dt=1 / 30,
        sim_step_dt=1 / 30,
        device="cpu",
        viewer_width=1280,
        viewer_height=720,
    )
    assert og.app.settings["HEADLESS"] is False
    with pytest.raises(AttributeError, match="already been used"):
        macros().gm.HEADLESS = True


def test_a_macro_that_is_read_too_early_ends_the_start(og_2026, monkeypatch):
    real = importlib.import_module

    def reads_early(name, *rest):
        module = real(name, *rest)
        if name == "omnigibson.macros":
            _ = module.gm.HEADLESS
        return module

    monkeypatch.setattr(application.importlib, "import_module", reads_early)
    with pytest.raises(EnvError, match="macro HEADLESS was read before it could be set"):
        launch(installed_generation())


def test_the_2025_grasp_window_is_shortened_and_the_2026_one_left_alone(og_2025):
    started = launch(installed_generation())
    assert macros().macros.robots.manipulation_robot.GRASP_WINDOW == 0.75
    assert started.applied["macros"]["robots.manipulation_robot.GRASP_WINDOW"] == 0.75


def test_the_2026_grasp_window_is_left_alone_and_recorded(og_2026):
    started = launch(installed_generation())
    assert macros().macros.robots.robot.GRASP_WINDOW == 0.3
    assert started.applied["macros"]["robots.robot.GRASP_WINDOW"] == 0.3
    assert "manipulation_robot" not in macros().macros.robots
    assert "GRASP_WINDOW" not in {name for _, name in touch.writes()}


def test_the_module_of_the_grasp_window_is_imported_before_it_is_set(og_2025, monkeypatch):
    real, imported = importlib.import_module, []

    window = ("macros.robots.manipulation_robot", "GRASP_WINDOW")

    def note(name, *rest):
        imported.append((name, window in touch.writes()))
        return real(name, *rest)

    monkeypatch.setattr(application.importlib, "import_module", note)
    launch(installed_generation())
    assert ("omnigibson.robots.manipulation_robot", False) in imported
    assert window in touch.writes()


def test_a_naive_write_to_the_other_years_path_changes_nothing_and_is_refused(og_2026):
    """Reading a path that is not there makes an empty group: no error, and no effect."""
    tree = macros().macros
    with tree.unlocked():
        tree.robots.manipulation_robot.GRASP_WINDOW = 0.75
    assert grasp_window(tree, GENERATIONS["2026"].grasp_window) == 0.3


def test_a_grasp_window_that_is_not_there_is_an_error(og_2026):
    importlib.import_module("omnigibson.robots.robot")
    with pytest.raises(EnvError, match=r"no macro robots\.manipulation_robot\.GRASP_WINDOW"):
        grasp_window(macros().macros, GENERATIONS["2025"].grasp_window)
    assert "manipulation_robot" not in macros().macros.robots


def test_a_naive_grasp_window_set_before_its_module_is_imported_is_lost(og_2025, monkeypatch):
    """The module writes its default when it is imported, over whatever stood there."""
    launch(installed_generation())
    tree = macros().macros
    monkeypatch.delitem(sys.modules, "omnigibson.robots.manipulation_robot")
    with tree.unlocked():
        tree.robots.manipulation_robot.GRASP_WINDOW = 0.1
        importlib.import_module("omnigibson.robots.manipulation_robot")
    assert tree.robots.manipulation_robot.GRASP_WINDOW != 0.1


# --- rules, collector, seeds ----------------------------------------------------------------


@pytest.mark.parametrize("year", ["og_2025", "og_2026"])
def test_three_rules_are_off_and_the_washers_is_on(year, request):
    request.getfixturevalue(year)
    started = launch(installed_generation())
    rules = importlib.import_module("omnigibson.transition_rules")
    off = ["ToggleableMachineRule", "MixingToolRule", "CookingSystemRule"]
    assert [getattr(rules, name).ENABLED for name in off] == [False] * 3
    assert rules.WasherRule.ENABLED
    assert started.applied["disabled_transition_rules"] == off


def test_a_naive_start_leaves_the_garbage_collector_off(og_2026, monkeypatch):
    with monkeypatch.context() as naive:
        naive.setattr(application.gc, "enable", lambda: None)
        launch(installed_generation())
        assert not gc.isenabled()
    gc.enable()


def test_a_start_leaves_the_garbage_collector_on(og_2025):
    gc.disable()
    assert launch(installed_generation()).applied["gc_enabled"] is True
    assert gc.isenabled()


def test_python_numpy_and_torch_are_seeded_as_the_evaluator_does(og_2026):
    torch = pytest.importorskip("torch")
    launch(installed_generation())
    drawn = (random.random(), np.random.rand(), torch.rand(1).item())
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    assert drawn == (random.random(), np.random.rand(), torch.rand(1).item())


# --- the process around it ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["EXP_PATH", "CARB_APP_PATH", "ISAAC_PATH"])
def test_the_variables_of_another_isaac_sim_are_refused(og_2026, monkeypatch, name):
    monkeypatch.setenv(name, "/opt/isaac")
    with pytest.raises(UnavailableError, match=f"{name} must not be set: unset them"):
        launch(installed_generation())
    assert "omnigibson" not in sys.modules


def test_a_second_start_in_a_process_is_refused(og_2026):
    launch(installed_generation())
    with pytest.raises(EnvError, match="imported already"):
        launch(GENERATIONS["2026"])


def test_missing_data_are_told_before_the_import(og_2026, monkeypatch, tmp_path):
    monkeypatch.setenv("OMNIGIBSON_DATA_PATH", str(tmp_path / "nowhere"))
    with pytest.raises(UnavailableError, match="set OMNIGIBSON_DATA_PATH"):
        launch(installed_generation())
    assert "omnigibson" not in sys.modules


def test_a_broken_installation_is_told_with_its_own_words(tmp_path, og_2026, monkeypatch):
    broken = tmp_path / "broken" / "omnigibson"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text('__version__ = "3.9.3"\nimport isaacsim_is_missing\n')
    monkeypatch.syspath_prepend(str(broken.parent))
    with pytest.raises(UnavailableError, match=r"cannot be imported.*isaacsim_is_missing"):
        launch(installed_generation())


@pytest.mark.parametrize(
    ("argument", "variables", "chosen"),
    [
        (None, {}, "0"),
        (2, {"OMNIGIBSON_GPU_ID": "1", "CUDA_VISIBLE_DEVICES": "3"}, "2"),
        (None, {"OMNIGIBSON_GPU_ID": "1", "CUDA_VISIBLE_DEVICES": "3"}, "1"),
        (None, {"CUDA_VISIBLE_DEVICES": "3"}, "3"),
        (None, {"CUDA_VISIBLE_DEVICES": "3,4"}, "0"),
    ],
)
def test_one_gpu_is_pinned(og_2026, monkeypatch, argument, variables, chosen):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    started = launch(installed_generation(), gpu=argument)
    assert started.og.app.settings["GPU_ID"] == chosen
    assert started.applied["environment"]["OMNIGIBSON_GPU_ID"] == chosen
    assert dict(os.environ) == before | SET_BY_ISAAC


def test_two_starts_never_share_a_folder_and_a_later_one_finds_the_first_ones(tmp_path):
    claims = [application._claim_appdata() for _ in range(2)]
    folders = [Path(claim.name).parent for claim in claims]
    base = tmp_path / "appdata"
    assert folders == [base / "process-0", base / "process-1"]
    claims[0].close()
    assert Path(application._claim_appdata().name).parent == folders[0]
    claims[1].close()


def test_without_flock_two_starts_do_not_share_a_folder_either(tmp_path, monkeypatch, caplog):
    def no_flock(_file, _how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_flock)
    claims = [application._claim_appdata() for _ in range(2)]
    folders = [Path(claim.name).parent.name for claim in claims]
    assert folders == ["process-0", "process-1"]
    assert "is on a file system without flock (No locks available)" in caplog.text
    for claim in claims:
        claim.close()


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_a_folder_that_cannot_be_claimed_is_said_and_not_tried_for_ever(monkeypatch, code):
    def broken(*_arguments):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(application, "claim", broken)
    with pytest.raises(UnavailableError, match=r"can be had below .*: set OMNIGIBSON_APPDATA_PATH"):
        application._claim_appdata()


def test_a_place_for_folders_that_cannot_be_made_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OMNIGIBSON_APPDATA_PATH", str(tmp_path / "file" / "appdata"))
    with pytest.raises(UnavailableError, match=r"below .*file/appdata \(Not a directory\): set"):
        application._claim_appdata()


def test_the_application_gets_its_own_folder(og_2026, tmp_path):
    started = launch(installed_generation())
    assert started.og.app.settings["APPDATA_PATH"] == str(tmp_path / "appdata" / "process-0")


def test_handlers_arguments_and_log_level_are_ours_again(og_2026, monkeypatch):
    def handler(number, frame):
        raise AssertionError("not to be called")

    logging.getLogger().setLevel(logging.INFO)  # put back by the double
    level = logging.getLogger().level
    monkeypatch.setattr(sys, "argv", ["b1k-eval", "run"])
    before = signal.signal(signal.SIGINT, handler)
    try:
        launch(installed_generation())
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert sys.argv == ["b1k-eval", "run"]
    assert logging.getLogger().level == level


def test_a_naive_start_loses_arguments_handler_and_log_level(og_2026, monkeypatch):
    """What the start takes, so that the test above shows something."""
    monkeypatch.setattr(sys, "argv", ["b1k-eval", "run"])
    og = importlib.import_module("omnigibson")
    taken = signal.getsignal(signal.SIGINT)
    logging.getLogger().setLevel(logging.INFO)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    og.launch(
        physics_dt=1 / 120,
        rendering_dt=1 / 30,
        sim_step_dt=1 / 30,
        device="cpu",
        viewer_width=1280,
        viewer_height=720,
    )
    assert sys.argv[0] == "--portable-root"
    assert logging.getLogger().level == logging.WARNING
    assert signal.getsignal(signal.SIGINT) is taken is not signal.default_int_handler


def test_off_the_main_thread_setting_a_handler_is_no_error():
    outcome = []

    def work():
        try:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        except ValueError:
            outcome.append("refused")
        with application._own_signals():
            outcome.append(signal.signal(signal.SIGINT, signal.SIG_DFL))
        outcome.append(signal.signal)

    real = signal.signal
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert outcome == ["refused", None, real]


def test_what_was_applied_is_json(og_2025):
    applied = launch(installed_generation()).applied
    assert json.loads(json.dumps(applied)) == applied
    assert applied["generation"] == "v3.7.2"
    assert applied["installation"]["version"] == "3.7.2"


# --- the end --------------------------------------------------------------------------------


def test_a_shutdown_that_returns_leaves_the_process_alone(og_2026):
    started = launch(installed_generation())
    started.shutdown()
    assert started.og.app.closed
    assert started.appdata.closed


def test_a_shutdown_that_raises_is_logged_and_no_more(og_2026, caplog):
    started = launch(installed_generation())
    og_2026.faults.plan("shutdown", "crash")
    started.shutdown()
    assert "closing OmniGibson failed" in caplog.text


def test_a_shutdown_without_an_application_does_not_exit(og_2026, tmp_path):
    og = importlib.import_module("omnigibson")
    with pytest.raises(SystemExit):
        og.shutdown()
    Application(og=og, applied={}, appdata=(tmp_path / "in-use").open("w")).shutdown()


SHUTDOWN = """
import sys, time
from pathlib import Path
from b1k_envs.omnigibson.setup.application import Application
import b1k_envs.omnigibson.setup.application as application

class og:
    @staticmethod
    def shutdown():
        print("closing", flush=True)
        {hang}

Application(og=og, applied={{}}, appdata=Path(sys.argv[1]).open("w")).shutdown(0.2, exit_code=7)
print("came back")
"""
# The second never lets another thread run, as a call into a library may.
HANGS = {7: "time.sleep(3600)", 1: "import ctypes; ctypes.PyDLL(None).sleep(3600)"}


@pytest.mark.slow
@pytest.mark.parametrize("code", HANGS)
def test_a_shutdown_that_hangs_ends_the_process_in_time(tmp_path, code):
    script = textwrap.dedent(SHUTDOWN).format(hang=HANGS[code])
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "in-use")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == code, ended.stderr
    assert ended.stdout == "closing\n"
