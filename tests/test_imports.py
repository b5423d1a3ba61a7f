"""Nothing heavy is loaded before it is used: by no module's import, and by no `--help`."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from b1k_eval.cli.main import VERBS, function_name, module_name

PACKAGES = ("b1k_envs", "b1k_policies", "b1k_eval")
HEAVY = {"omnigibson", "isaacsim", "omni", "carb", "torch", "transformers", "mujoco"}
GRAPHICS = {"OpenGL", "glfw", "cv2", "rerun", "matplotlib"}
NUMERICS = {"numpy", "scipy", "pandas", "pyarrow", "bddl", "jinja2"}

# What a process loaded, told by the interpreter's own table and by the kernel's.
TELL = """
import json, os, sys
files = {line.split("/")[-1] for line in open("/proc/self/maps") if ".so" in line}
print(json.dumps({"modules": sorted(sys.modules), "libraries": sorted(files),
                  "environment": dict(os.environ)}))
"""
IMPORT_ALL = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    for heavy in ("mujoco", "torch", "omnigibson"):
        assert heavy not in sys.modules, f"{name} imports {heavy}"
"""
HELP = """
import sys
from b1k_eval.cli.main import app
sys.stdout = open(os.devnull, "w")
try:
    app(sys.argv[1:])
except SystemExit as done:
    assert not done.code, done.code
sys.stdout = sys.__stdout__
"""
HELP_OF_EACH = """
import sys
from b1k_eval.cli.main import app
sys.stdout = open(os.devnull, "w")
for verb in sys.argv[2:]:
    try:
        app([verb, "--help"])
    except SystemExit as done:
        assert not done.code, (verb, done.code)
    loaded = {*sys.argv[1].split()} & {name.partition(".")[0] for name in sys.modules}
    assert not loaded, f"{verb} --help loads {loaded}"
sys.stdout = sys.__stdout__
"""


def every_module():
    """Names by the files there are, so that none can hide behind a package that fails."""
    for package in PACKAGES:
        root = Path(importlib.import_module(package).__file__).parent
        for file in sorted(root.rglob("*.py")):
            parts = file.relative_to(root.parent).with_suffix("").parts
            # A shipped checkpoint's own code is loaded as that of any other checkpoint.
            if parts[-1] != "__main__" and "shipped" not in parts:
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def loaded_by(code, *arguments, **environment):
    """What a fresh interpreter has loaded once it ran `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"import os\n{code}\n{TELL}", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def roots(seen):
    return {name.partition(".")[0] for name in seen["modules"]}


def test_importing_every_module_loads_no_simulator_no_torch_and_no_graphics():
    names = list(every_module())
    assert {
        "b1k_envs.mujoco_twin.env",
        "b1k_policies.expert.policy",
        "b1k_eval.cli.running.run",
    } < {*names}
    # With MUJOCO_GL set, `import mujoco` would load EGL as well.
    seen = loaded_by(IMPORT_ALL, *names, MUJOCO_GL="egl")
    assert set(names) <= set(seen["modules"])
    assert not roots(seen) & (HEAVY | GRAPHICS)
    heavy = ("libGL", "libEGL", "libOSMesa", "libOpenGL", "libmujoco", "libtorch", "libcuda")
    assert not [name for name in seen["libraries"] if name.startswith(heavy)]


@pytest.mark.slow
def test_importing_every_module_leaves_the_environment_as_it_was():
    unset = "os.environ.pop('MUJOCO_GL', None)\n"
    before = loaded_by(unset)["environment"]
    assert loaded_by(unset + IMPORT_ALL, *every_module())["environment"] == before


def test_this_test_would_see_mujoco_and_its_library():
    seen = loaded_by("from b1k_envs.mujoco_twin.engine import mujoco; mujoco.MjSpec()")
    assert "mujoco" in roots(seen)
    assert any(name.startswith("libmujoco") for name in seen["libraries"])


def test_the_twins_mujoco_is_mujoco_and_misses_what_mujoco_misses():
    import mujoco as real

    from b1k_envs.mujoco_twin.engine import mujoco

    assert mujoco.mj_step is real.mj_step
    assert mujoco.__version__ == real.__version__
    with pytest.raises(AttributeError, match="mj_stepp"):
        mujoco.mj_stepp  # noqa: B018 - looking it up is the point


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_and_version_load_neither_numerics_nor_any_verb(arguments):
    seen = loaded_by(HELP, *arguments)
    assert not roots(seen) & (HEAVY | GRAPHICS | NUMERICS)
    assert not {module_name(verb) for verb in VERBS} & set(seen["modules"])
    assert "b1k_policies" not in roots(seen)


def test_a_verbs_help_loads_no_simulator_no_graphics_and_no_statistics():
    """All of them in one process: what one loaded would be seen in those that follow too."""
    forbidden = HEAVY | GRAPHICS | {"scipy", "pandas", "jinja2"}
    seen = loaded_by(HELP_OF_EACH, " ".join(forbidden), *VERBS, MUJOCO_GL="egl")
    assert {module_name(verb) for verb in VERBS} <= {*seen["modules"]}
    assert not roots(seen) & forbidden


def test_importing_the_package_imports_nothing_that_it_gives():
    seen = loaded_by("import b1k_eval")
    assert not roots(seen) & (HEAVY | GRAPHICS | NUMERICS | {"typer", "rich", "b1k_policies"})
    asked = loaded_by("import b1k_eval; b1k_eval.evaluate, b1k_eval.load_run, b1k_eval.compare")
    assert not roots(asked) & (HEAVY | GRAPHICS | {"pandas", "scipy", "jinja2"})


def test_pandas_is_imported_in_one_module():
    for_types = re.compile(r"^if TYPE_CHECKING:\n(?: +.*\n)+", re.MULTILINE)
    roots = [Path(importlib.import_module(package).__file__).parent for package in PACKAGES]
    files = [file for root in roots for file in root.rglob("*.py")]
    code = {file: for_types.sub("", file.read_text()) for file in files}
    importing = {f.name for f, text in code.items() if re.search(r"(?m)^ *import pandas", text)}
    assert importing == {"frames.py"}


@pytest.mark.parametrize("verb", VERBS)
def test_the_summary_in_the_list_of_verbs_is_that_of_the_verbs_own_help(verb):
    function = getattr(importlib.import_module(module_name(verb)), function_name(verb))
    assert VERBS[verb] == " ".join(function.__doc__.split("\n\n")[0].split())


def test_every_verb_that_has_a_module_is_in_the_list():
    modules = {name for name in every_module() if name.startswith("b1k_eval.cli.")}
    verbs = {
        name
        for name in modules
        if callable(getattr(importlib.import_module(name), name.rpartition(".")[2], None))
    } - {"b1k_eval.cli.main"}
    assert verbs == {module_name(verb) for verb in VERBS}
