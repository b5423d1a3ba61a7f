"""scripts/check_omnigibson_api.py on small trees written here, whose truth is plain to see."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from lib.og_touchpoints import Touchpoint
from typer.testing import CliRunner, Result

ROOT = Path(__file__).parents[2]

TREE = {
    "OmniGibson/omnigibson/__init__.py": """
from omnigibson.envs import Environment
from omnigibson.simulator import _launch_simulator as launch
from omnigibson.gone import Lost
sim = None
""",
    "OmniGibson/omnigibson/eval/evaluator.py": "",
    "OmniGibson/omnigibson/macros.py": "gm = object()\ngm.HEADLESS = False\n",
    "OmniGibson/omnigibson/simulator.py": """
import omnigibson.lazy as lazy
def _launch_simulator(*args, **kwargs):
    class Simulator(lazy.isaacsim.SimulationContext):
        def __init__(self, physics_dt=None):
            self._render_on_step = True
        def step(self): ...
""",
    "OmniGibson/omnigibson/envs/__init__.py": "from .env_base import *\n",
    "OmniGibson/omnigibson/envs/env_base.py": '''
from omnigibson.utils.bases import Loud as Base
class Environment(Base):
    """Has a key "only in prose"."""
    def __init__(self, configs):
        self.steps, self._count = 0, 0
        configs.foreign = 1
        self.config = {"num_envs": 1, **dict(action_frequency=30)}
    def step(self, action, n_render_iterations=1): ...
    @property
    def task(self): ...
    @property
    def mass(self): ...
    @mass.setter
    def mass(self, value): ...
    @staticmethod
    def parse(text): ...
    @classmethod
    def make(cls, text): ...
''',
    "OmniGibson/omnigibson/utils/__init__.py": "",
    "OmniGibson/omnigibson/utils/bases.py": """
class Deep:
    RATE = 30
    def __init__(self, name, *, size, colour=None, **kwargs): ...
    def reset(self, get_obs=True, **kwargs): ...
class Loud(Deep):
    def reset(self, **kwargs): ...
    def talk(self, *words, loud): ...
class Robot(Deep):
    def __init__(self, model, **kwargs): ...
class Wrapper:
    def __getattr__(self, name): ...
class Entity(Wrapper): ...
class Dynamic:
    def __init__(self, names):
        for name in names:
            setattr(self, name, 0)
""",
    "OmniGibson/omnigibson/robots/robot.py": """
from omnigibson.macros import create_module_macros
m = create_module_macros(module_path=__file__)
m.GRASP_WINDOW = 3.0
n = object()
n.OTHER = 1
""",
    "bddl3/bddl/__init__.py": "",
    "bddl3/bddl/config.py": "def get_definition_filename(activity, instance): ...\n",
}

PACKAGE = "OmniGibson/omnigibson/"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.removeprefix("\n"), encoding="utf-8")
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write(tmp_path / "BEHAVIOR-1K", TREE)


@pytest.fixture
def script() -> ModuleType:
    """The script, imported as it imports its neighbours."""
    return importlib.import_module("check_omnigibson_api")


@pytest.fixture
def ask(script: ModuleType, tree: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Looks one row up: `ask(owner, member, kind, *arguments)`."""

    def answer(owner: str, member: str, kind: str, *arguments: str) -> Any:
        monkeypatch.setattr(script, "OWNERS", {"x": {"2026": owner}})
        row = Touchpoint(owner="x", member=member, kind=kind, arguments=arguments, use="here")
        return script.look_up(script.SourceTree(tree), row, "2026")

    return answer


@pytest.fixture
def run(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command with rows of its own."""
    app = typer.Typer()
    app.command()(script.main)

    def command(*options: str, rows: tuple[Touchpoint, ...] = ()) -> Result:
        monkeypatch.setattr(script, "TOUCHPOINTS", rows)
        monkeypatch.setattr(script, "OWNERS", {"env": dict.fromkeys(("2025", "2026"), ENV)})
        return CliRunner().invoke(app, list(options))

    return command


ENV = "omnigibson.envs.env_base.Environment"
BASES = "omnigibson.utils.bases"
STEP = Touchpoint(owner="env", member="step", kind="method", arguments=("action",), use="here")


def line_of(name: str, text: str) -> str:
    lines = TREE[name].removeprefix("\n").splitlines()
    (number,) = (i for i, line in enumerate(lines, 1) if text in line)
    return f"{name}:{number}"


# --- What is there ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "member", "kind", "file", "line"),
    [
        (ENV, "step", "method", "envs/env_base.py", "def step"),
        (ENV, "talk", "method", "utils/bases.py", "def talk"),
        (ENV, "RATE", "attribute", "utils/bases.py", "RATE"),
        (ENV, "_count", "setting", "envs/env_base.py", "self.steps, self._count"),
        (ENV, "task", "attribute", "envs/env_base.py", "def task"),
        (ENV, "num_envs", "key", "envs/env_base.py", "num_envs"),
        (ENV, "action_frequency", "key", "envs/env_base.py", "num_envs"),
        ("omnigibson", "Environment", "class", "envs/env_base.py", "class Environment"),
        ("omnigibson", "launch", "function", "simulator.py", "def _launch_simulator"),
        ("omnigibson", "sim", "attribute", "__init__.py", "sim = None"),
        ("omnigibson.simulator.Simulator", "step", "method", "simulator.py", "def step"),
        ("omnigibson.macros", "HEADLESS", "macro", "macros.py", "HEADLESS"),
        ("omnigibson.robots.robot", "GRASP_WINDOW", "macro", "robots/robot.py", "GRASP_WINDOW"),
    ],
)
def test_what_is_there_is_found_with_file_and_line(
    ask: Callable[..., Any], owner: str, member: str, kind: str, file: str, line: str
) -> None:
    arguments = {"talk": ("loud=",), "step": ("action",) if owner == ENV else ()}.get(member, ())
    answer = ask(owner, member, kind, *arguments)
    assert (answer.status, answer.place) == ("ok", line_of(PACKAGE + file, line))


def test_a_neighbouring_package_of_the_checkout_is_found(ask: Callable[..., Any]) -> None:
    answer = ask("bddl.config", "get_definition_filename", "function", "activity", "instance")
    assert (answer.status, answer.place) == ("ok", "bddl3/bddl/config.py:1")


@pytest.mark.parametrize("kind", ["attribute", "setting"])
def test_a_property_with_a_setter_can_be_read_and_set(ask: Callable[..., Any], kind: str) -> None:
    assert ask(ENV, "mass", kind).status == "ok"


# --- What is not ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "member", "kind"),
    [
        (ENV, "render_mode", "attribute"),
        (ENV, "foreign", "attribute"),
        (ENV, "only in prose", "key"),
        ("omnigibson", "Evaluator", "class"),
        ("omnigibson.macros", "DEBUG", "macro"),
        ("omnigibson.robots.robot", "OTHER", "macro"),
        ("omnigibson.envs.env_base.Gone", "step", "method"),
    ],
)
def test_what_its_file_does_not_have_is_missing(
    ask: Callable[..., Any], owner: str, member: str, kind: str
) -> None:
    answer = ask(owner, member, kind)
    assert answer.status == "missing"
    assert not answer.place
    assert ".py" in answer.reason


@pytest.mark.parametrize(
    ("owner", "member", "kind"),
    [
        ("omnigibson.utils.bddl_utils", "is_system", "function"),
        ("omnigibson", "Lost", "class"),
        ("omnigibson.tasks.task.Task", "step", "method"),
        ("omnigibson.tasks.task", "done", "key"),
        ("omnigibson.robots.gone", "GRASP_WINDOW", "macro"),
    ],
)
def test_a_file_that_is_not_there_is_told_from_a_file_that_lacks_something(
    ask: Callable[..., Any], owner: str, member: str, kind: str
) -> None:
    assert ask(owner, member, kind).status == "not in this tree"


@pytest.mark.parametrize(
    ("owner", "member", "kind", "word"),
    [
        ("omnigibson.simulator.Simulator", "is_playing", "method", "SimulationContext"),
        ("omnigibson.simulator.Simulator", "rate", "key", "SimulationContext"),
        (f"{BASES}.Entity", "load_state", "method", "__getattr__"),
        (f"{BASES}.Dynamic", "name", "attribute", "computed names"),
        ("omni.replicator", "cameraViewTransform", "foreign", "Isaac Sim"),
    ],
)
def test_what_only_a_running_program_can_tell_is_unknown_and_says_why(
    ask: Callable[..., Any], owner: str, member: str, kind: str, word: str
) -> None:
    answer = ask(owner, member, kind)
    assert answer.status == "unknown"
    assert word in answer.reason


def test_a_method_where_an_attribute_is_read_differs(ask: Callable[..., Any]) -> None:
    assert ask(ENV, "step", "attribute").status == "differs"
    assert ask(ENV, "task", "method").status == "differs"


def test_a_property_without_a_setter_cannot_be_set(ask: Callable[..., Any]) -> None:
    answer = ask(ENV, "task", "setting")
    assert answer.status == "differs"
    assert "setter" in answer.reason


# --- Calls ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "member", "arguments"),
    [
        (ENV, "step", ("action", "n_render_iterations=")),
        (ENV, "step", ("action", "n_render_iterations")),
        (ENV, "parse", ("text",)),
        (ENV, "make", ("text",)),
        (ENV, "talk", ("a", "b", "c", "loud=")),
        (f"{BASES}.Robot", "__init__", ("model=", "name=", "size=", "colour=")),
        (ENV, "reset", ("get_obs=",)),
    ],
)
def test_a_call_that_fits_is_accepted(
    ask: Callable[..., Any], owner: str, member: str, arguments: tuple[str, ...]
) -> None:
    assert ask(owner, member, "method", *arguments).status == "ok"


@pytest.mark.parametrize(
    ("owner", "member", "arguments", "word"),
    [
        (ENV, "step", ("action", "render="), "no parameter render"),
        (ENV, "step", ("action", "n", "more"), "2 arguments by position, 3"),
        (ENV, "step", (), "needs action"),
        (ENV, "parse", (), "needs text"),
        (ENV, "make", ("cls", "text"), "1 arguments by position, 2"),
        (ENV, "talk", ("a",), "needs loud"),
        (f"{BASES}.Deep", "__init__", ("name=",), "needs size"),
    ],
)
def test_a_call_that_would_fail_differs_and_says_where_it_fails(
    ask: Callable[..., Any], owner: str, member: str, arguments: tuple[str, ...], word: str
) -> None:
    answer = ask(owner, member, "method", *arguments)
    assert answer.status == "differs"
    assert word in answer.reason
    assert ".py:" in answer.place


def test_a_keyword_that_no_base_class_names_either_is_unknown(ask: Callable[..., Any]) -> None:
    answer = ask(f"{BASES}.Robot", "__init__", "method", "model=", "wheels=")
    assert answer.status == "unknown"
    assert "wheels goes into **kwargs" in answer.reason


# --- The command ------------------------------------------------------------------------------


def test_the_exit_code_is_0_when_everything_is_there(
    run: Callable[..., Result], tree: Path
) -> None:
    result = run("--source", str(tree), rows=(STEP,))
    assert result.exit_code == 0, result.output
    assert "OmniGibson 2026" in result.output
    assert "1 ok" in result.output


def test_something_renamed_upstream_makes_the_exit_code_1(
    run: Callable[..., Result], tree: Path
) -> None:
    file = tree / PACKAGE / "envs" / "env_base.py"
    file.write_text(file.read_text().replace("def step(", "def advance("))
    result = run("--source", str(tree), rows=(STEP,))
    assert result.exit_code == 1
    assert "missing" in result.output
    assert "Environment.step" in result.output


def test_an_unknown_alone_is_no_failure(run: Callable[..., Result], tree: Path) -> None:
    file = tree / PACKAGE / "envs" / "env_base.py"
    file.write_text("import gym\nclass Environment(gym.Env): ...\n")
    result = run("--source", str(tree), rows=(STEP,))
    assert result.exit_code == 0, result.output
    assert "1 unknown" in result.output


def test_rows_of_another_generation_are_left_out(run: Callable[..., Result], tree: Path) -> None:
    old = Touchpoint(
        owner="env", member="_pre_step", kind="method", generations=("2025",), use="here"
    )
    assert run("--source", str(tree), rows=(STEP, old)).exit_code == 0
    assert run("--source", str(tree), "--generation", "2025", rows=(STEP, old)).exit_code == 1


def test_the_folder_of_the_package_is_a_tree_too(run: Callable[..., Result], tree: Path) -> None:
    result = run("--source", str(tree / "OmniGibson"), rows=(STEP,))
    assert result.exit_code == 0, result.output


def test_json_has_every_answer_with_its_place(run: Callable[..., Result], tree: Path) -> None:
    result = run("--source", str(tree), "--json", rows=(STEP,))
    report = json.loads(result.output)
    assert report["generation"] == "2026"
    (answer,) = report["answers"]
    assert answer["owner"] == ENV
    assert answer["member"] == "step"
    assert answer["status"] == "ok"
    assert answer["place"] == line_of(PACKAGE + "envs/env_base.py", "def step")


def test_wrong_usage_makes_the_exit_code_2(
    run: Callable[..., Result], tree: Path, tmp_path: Path
) -> None:
    assert run("--source", str(tmp_path / "nowhere")).exit_code == 2
    assert run("--source", str(tmp_path)).exit_code == 2
    assert run("--source", str(tree), "--generation", "2024").exit_code == 2


def test_a_tree_without_an_evaluator_has_to_be_told_its_generation(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    files = {name: text for name, text in TREE.items() if "/eval/" not in name}
    bare = write(tmp_path / "bare", files)
    assert run("--source", str(bare), rows=(STEP,)).exit_code == 2
    assert run("--source", str(bare), "--generation", "2026", rows=(STEP,)).exit_code == 0


def test_nothing_of_the_tree_is_run(run: Callable[..., Result], tree: Path, tmp_path: Path) -> None:
    file = tree / PACKAGE / "envs" / "env_base.py"
    trap = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    file.write_text(trap + file.read_text())
    assert run("--source", str(tree), rows=(STEP,)).exit_code == 0
    assert not (tmp_path / "ran").exists()
