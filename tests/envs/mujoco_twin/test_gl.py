"""The choice of an OpenGL backend: each case in a process of its own, since it is made once."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import textwrap
from importlib.metadata import version

import pytest
from crashing_triton import environment_with_it

# Stands for a machine without these libraries: every way to load one ends in ctypes.CDLL.
WITHOUT_LIBRARIES = """
import ctypes
_init = ctypes.CDLL.__init__
def _refuse(self, name=None, *args, **kwargs):
    if any(part in str(name) for part in {missing!r}):
        raise OSError(f"{{name}}: cannot open shared object file: No such file or directory")
    _init(self, name, *args, **kwargs)
ctypes.CDLL.__init__ = _refuse
"""

CHOOSE = """
import json, os, sys
from b1k_envs.errors import UnavailableError
from b1k_envs.mujoco_twin.rendering.gl import gl_info
try:
    info = gl_info()
    answer = {"backend": info.backend, "renderer": info.renderer, "env": os.environ["MUJOCO_GL"]}
except UnavailableError as error:
    answer = {"error": str(error), "exit_code": error.exit_code}
    answer["env"] = os.environ.get("MUJOCO_GL"), os.environ.get("PYOPENGL_PLATFORM")
print(json.dumps(answer))
"""

RENDER = """
import mujoco
model = mujoco.MjModel.from_xml_string(
    "<mujoco><visual><headlight ambient='1 1 1' diffuse='0 0 0' specular='0 0 0'/></visual>"
    "<worldbody><geom type='sphere' size='.2' rgba='1 0 0 1'/>"
    "<camera name='c' pos='0 -1 0' xyaxes='1 0 0 0 0 1'/></worldbody></mujoco>"
)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
def picture():
    renderer = mujoco.Renderer(model, 32, 32)
    renderer.update_scene(data, "c")
    pixels = renderer.render()
    renderer.close()
    return [pixels[16, 16].tolist(), pixels[0, 0].tolist()]
"""


def python(code, missing=(), **environment):
    """What a fresh interpreter prints as its last line, as JSON."""
    env = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LIBRARIES.format(missing=missing) + textwrap.dedent(code)],
        env=env | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def loadable(library):
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


needs_egl = pytest.mark.skipif(not loadable("libEGL.so.1"), reason="no libEGL on this machine")
needs_osmesa = pytest.mark.skipif(
    not loadable("libOSMesa.so.8"), reason="no libOSMesa on this machine"
)


@needs_egl
def test_egl_comes_first_and_child_processes_learn_of_it():
    answer = python(CHOOSE)
    assert answer["backend"] == "egl"
    assert answer["env"] == "egl"
    assert answer["renderer"]


def test_importing_the_module_loads_no_mujoco_no_opengl_and_leaves_the_environment():
    code = """
        import json, os, sys
        before = dict(os.environ)
        import b1k_envs.mujoco_twin.rendering.gl
        loaded = [name for name in sys.modules if name.split(".")[0] in ("mujoco", "OpenGL")]
        print(json.dumps({"loaded": loaded, "same": before == dict(os.environ)}))
    """
    assert python(code) == {"loaded": [], "same": True}


@needs_egl
@pytest.mark.parametrize("early", ["", "import mujoco"], ids=["gl first", "mujoco first"])
def test_mujoco_renders_with_it_whether_it_was_imported_before_or_after(early):
    code = early + CHOOSE + RENDER + "print(json.dumps(picture()))"
    centre, corner = python(code)
    assert centre[0] > 200
    assert centre[1:] == [0, 0]
    assert corner == [0, 0, 0]


@pytest.mark.slow
@needs_egl
def test_each_thread_may_have_a_context_of_its_own():
    code = """
        import threading
        shown = [picture()]
        threads = [threading.Thread(target=lambda: shown.append(picture())) for _ in range(2)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(json.dumps(shown))
    """
    main, *others = python(CHOOSE + RENDER + textwrap.dedent(code))
    assert main[0][0] > 200
    assert others == [main, main]


def test_without_any_library_both_reasons_and_the_packages_are_named():
    answer = python(CHOOSE, missing=("libEGL", "libOSMesa"))
    assert answer["error"] == (
        "no OpenGL: egl: libEGL.so.1 not found; osmesa: libOSMesa.so.8 not found; install with: "
        "apt-get install libegl1 libgl1-mesa-dri libgl1 (EGL) or libosmesa6 (OSMesa), "
        "or set MUJOCO_GL"
    )
    assert answer["exit_code"] == 4
    assert answer["env"] == [None, None]


def test_a_backend_that_was_asked_for_is_the_only_one_tried():
    answer = python(CHOOSE, missing=("libOSMesa",), MUJOCO_GL="osmesa")
    assert answer["error"].startswith(
        "no OpenGL (MUJOCO_GL=osmesa): osmesa: libOSMesa.so.8 not found; install with: apt-get"
    )
    assert "egl:" not in answer["error"]
    assert answer["env"] == ["osmesa", None]


@needs_egl
def test_egl_without_a_driver_behind_it_is_not_taken_for_one():
    # libglvnd's own switch for where vendors register; Mesa and NVIDIA both come through it.
    answer = python(
        CHOOSE, missing=("libOSMesa",), __EGL_VENDOR_LIBRARY_FILENAMES="/nonexistent.json"
    )
    assert answer["error"].startswith("no OpenGL: egl: no context (")
    assert answer["env"] == [None, None]


@needs_osmesa
def test_osmesa_takes_over_where_egl_is_missing_or_dead():
    dead = python(CHOOSE, __EGL_VENDOR_LIBRARY_FILENAMES="/nonexistent.json")
    missing = python(CHOOSE + RENDER + "print(json.dumps(picture()))", missing=("libEGL",))
    assert dead["backend"] == "osmesa"
    assert missing[0][0] > 200


def test_libegl_without_libgl_names_what_is_missing():
    answer = python(CHOOSE, missing=("libOpenGL", "libGL.so"), MUJOCO_GL="egl")
    if not loadable("libEGL.so.1"):
        assert "libEGL.so.1 not found" in answer["error"]
    else:
        assert "egl: libOpenGL.so.0 not found" in answer["error"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("metal", "MUJOCO_GL='metal' is no backend; unset it, or set it to one of egl, osmesa, gl"),
        ("off", "MUJOCO_GL=off switches MuJoCo's rendering off; unset it, or set it to egl or os"),
    ],
)
def test_a_setting_that_cannot_render_is_told_as_such(value, message):
    answer = python(CHOOSE, MUJOCO_GL=value)
    assert answer["error"].startswith(f"no OpenGL: {message}")
    assert answer["exit_code"] == 4


IMPORT_MUJOCO = """
import json, os, sys
from b1k_envs.errors import UnavailableError
from b1k_envs.mujoco_twin.rendering.gl import before_mujoco_import
try:
    before_mujoco_import()
    early = "OpenGL" in sys.modules
    import mujoco
    answer = {"mujoco": mujoco.__version__, "opengl before mujoco": early}
except UnavailableError as error:
    answer = {"error": str(error)}
print(json.dumps(answer))
"""


@pytest.mark.parametrize("value", ["egl", "osmesa"])
def test_a_backend_set_but_missing_is_a_sentence_where_importing_mujoco_would_break(value):
    answer = python(IMPORT_MUJOCO, missing=("libEGL", "libOSMesa"), MUJOCO_GL=value)
    assert answer["error"].startswith(f"no OpenGL (MUJOCO_GL={value}): {value}: lib")


@pytest.mark.parametrize("value", ["", "off"])
def test_a_run_without_pictures_needs_no_opengl_at_all(value):
    answer = python(IMPORT_MUJOCO, missing=("libEGL", "libOSMesa"), MUJOCO_GL=value)
    assert answer == {"mujoco": version("mujoco"), "opengl before mujoco": False}


# --- a native library that crashes when it comes after a context


@needs_egl
def test_what_crashes_after_opengl_is_loaded_before_it(tmp_path):
    environment = environment_with_it(tmp_path)
    naive = "import mujoco.egl; mujoco.egl.GLContext(16, 16)"
    ours = "from b1k_envs.mujoco_twin.rendering.gl import ensure_gl; ensure_gl()"
    wanted = "\ntry:\n    import triton\nexcept ImportError:\n    print('end')"
    died, lived = (
        subprocess.run(
            [sys.executable, "-c", code + wanted],
            env={**environment, "MUJOCO_GL": "egl"},
            capture_output=True,
            text=True,
            check=False,
        )
        for code in (naive, ours)
    )
    assert died.returncode == -signal.SIGSEGV
    assert (lived.returncode, lived.stdout) == (0, "end\n"), lived.stderr


@needs_egl
def test_one_that_cannot_be_imported_is_left_to_those_who_need_it(tmp_path):
    (tmp_path / "triton.py").write_text("raise OSError('libcuda.so.1: cannot open')\n")
    assert python(CHOOSE, PYTHONPATH=str(tmp_path))["backend"] == "egl"
