"""Running a checkpoint's own package beside others of its name, and saying why it fails."""

from __future__ import annotations

import py_compile
import re
import sys

import numpy
import pytest

from b1k_policies.xvla.code.package import CodePackage
from b1k_policies.xvla.files.checkpoint import CheckpointError


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    before = list(sys.path), list(sys.meta_path), sys.dont_write_bytecode
    yield
    assert (list(sys.path), list(sys.meta_path), sys.dont_write_bytecode) == before
    assert not [name for name in sys.modules if name.partition(".")[0] == "da3_xvla"]


@pytest.fixture
def package(tmp_path):
    """Writes a package from {path: source} and makes a CodePackage of it."""

    def write(files, name="ckpt"):
        root = tmp_path / name / "code" / "da3_xvla"
        for path, source in files.items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source)
        return CodePackage(root)

    return write


def fails(package, text, submodule="models.modeling_xvla"):
    with pytest.raises(CheckpointError, match=re.escape(text)) as caught:
        package.load(submodule)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- importing -------------------------------------------------------------------------------


@pytest.mark.parametrize("init", [{}, {"__init__.py": "", "models/__init__.py": ""}])
def test_absolute_and_relative_imports_work_with_and_without_init_files(package, init):
    code = package(
        {
            **init,
            "models/modeling_xvla.py": (
                "from da3_xvla.models.parts import A\nfrom .parts import B\nfrom ..top import C\n"
            ),
            "models/parts.py": "A = 1\nB = 2\n",
            "top.py": "C = 3\n",
        }
    )
    module = code.load("models.modeling_xvla")
    assert (module.A, module.B, module.C) == (1, 2, 3)
    assert module.__name__ == "da3_xvla.models.modeling_xvla"
    assert module.__file__ == str(code.root / "models" / "modeling_xvla.py")


def test_what_lies_beside_or_inside_the_package_shadows_no_installed_package(package):
    code = package({"models/modeling_xvla.py": "import numpy\nfrom ..numpy import mine\n"})
    for folder in (code.root, code.root.parent):
        for name in ("numpy", "eval", "datasets"):
            (folder / name).mkdir()
            (folder / name / "__init__.py").write_text("mine = 'the checkpoint'\n")
    module = code.load("models.modeling_xvla")
    assert module.numpy is numpy
    assert module.mine == "the checkpoint"
    assert sys.modules["numpy"] is numpy


def test_two_packages_of_one_name_keep_their_own_modules(package):
    sources = {"models/modeling_xvla.py": "from . import parts\nclass XVLA:\n    pass\n"}
    v4 = package({**sources, "models/parts.py": "SIZE = 504\n"}, "v4")
    v17 = package({**sources, "models/parts.py": "SIZE = 224\n"}, "v17")
    old, new = v4.load("models.modeling_xvla"), v17.load("models.modeling_xvla")
    assert (old.parts.SIZE, new.parts.SIZE) == (504, 224)
    assert old.XVLA is not new.XVLA
    assert v4.load("models.modeling_xvla") is old
    assert v17.load("models.modeling_xvla") is new


def test_an_import_at_run_time_gets_the_module_of_the_active_package(package):
    late = "def size():\n    from da3_xvla.models.parts import SIZE\n    return SIZE\n"
    v4 = package({"models/m.py": late, "models/parts.py": "SIZE = 504\n"}, "v4")
    v17 = package({"models/m.py": late, "models/parts.py": "SIZE = 224\n"}, "v17")
    size_v4, size_v17 = v4.load("models.m").size, v17.load("models.m").size
    with v4.active():
        assert size_v4() == 504
        with v17.active(), v17.active():
            assert size_v17() == 224
            with v4.active():
                assert size_v4() == 504
                parts = sys.modules["da3_xvla.models.parts"]
            assert size_v17() == 224
        assert sys.modules["da3_xvla.models.parts"] is parts
        assert size_v4() == 504
    with pytest.raises(ModuleNotFoundError, match="da3_xvla"):
        size_v4()


def test_a_module_first_imported_in_a_nested_use_is_the_same_one_later(package):
    code = package({"models/m.py": "", "models/late.py": "class A:\n    pass\n"}, "v4")
    other = package({"models/m.py": ""}, "v17")
    with code.active():
        code.load("models.m")
        with other.active(), code.active():
            late = code.load("models.late")
            assert sys.modules["da3_xvla.models.m"] is code.load("models.m")
        assert sys.modules["da3_xvla.models.late"] is late
    assert code.load("models.late") is late


def test_modules_of_that_name_that_were_there_come_back(package, monkeypatch):
    code = package({"models/m.py": "X = 1\n"})
    own = {n: type(sys)(n) for n in ("da3_xvla", "da3_xvla.models", "da3_xvla_tools")}
    for name, module in own.items():
        monkeypatch.setitem(sys.modules, name, module)
    assert code.load("models.m").X == 1

    def use():
        with code.active():
            assert sys.modules["da3_xvla.models"] is not own["da3_xvla.models"]
            assert sys.modules["da3_xvla_tools"] is own["da3_xvla_tools"]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use()
    for name, module in own.items():
        assert sys.modules[name] is module
    monkeypatch.undo()


def test_no_compiled_file_is_written_and_none_that_is_there_runs(package, tmp_path):
    code = package({"models/m.py": "SAYS = 'source'\n", "models/n.py": "\n"})
    planted = tmp_path / "planted.py"
    planted.write_text("SAYS = 'planted'\n")
    cache = code.root / "models" / "__pycache__"
    pyc = cache / f"m.{sys.implementation.cache_tag}.pyc"
    # Unchecked: an ordinary import runs it whatever the source says.
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(planted), cfile=str(pyc), invalidation_mode=unchecked)
    alone = code.root / "models" / "alone.pyc"
    py_compile.compile(str(planted), cfile=str(alone), invalidation_mode=unchecked)
    assert code.load("models.m").SAYS == "source"
    code.load("models.n")
    fails(code, "No module named 'da3_xvla.models.alone'", "models.alone")
    assert sorted(code.root.rglob("*.pyc")) == sorted([pyc, alone])


def test_what_the_code_prints_at_import_goes_to_standard_error(package, capsys):
    code = package({"models/m.py": "print('hello')\n"})
    code.load("models.m")
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "hello\n")


# --- failing ---------------------------------------------------------------------------------


def test_an_exception_at_import_is_told_with_the_last_line_of_the_packages_own(package):
    code = package(
        {
            "models/modeling_xvla.py": "\nfrom . import config\n",
            "models/config.py": "import json\n\n\njson.loads('{')\n",
        }
    )
    text = fails(code, f"the checkpoint's code ({code.root}) failed at import: JSONDecodeError: ")
    assert text.endswith(f" ({code.root}/models/config.py:4)")


def test_a_syntax_error_is_told_with_its_line(package):
    code = package({"models/modeling_xvla.py": "x = 1\ny = = 2\n"})
    text = fails(code, "failed at import: SyntaxError: invalid syntax")
    assert text.endswith(f" ({code.root}/models/modeling_xvla.py:2)")


def test_leaving_at_import_is_an_error_of_the_checkpoint(package):
    code = package({"models/modeling_xvla.py": "import sys\nsys.exit(3)\n"})
    fails(code, f"failed at import: SystemExit: 3 ({code.root}/models/modeling_xvla.py:2)")


def test_an_interruption_passes_and_leaves_nothing_active(package):
    code = package({"models/modeling_xvla.py": "raise KeyboardInterrupt\n"})
    with pytest.raises(KeyboardInterrupt):
        code.load("models.modeling_xvla")


def test_a_missing_module_of_the_package_is_named_without_further_advice(package):
    code = package({"models/modeling_xvla.py": "from .transformer import X\n"})
    text = fails(code, "ModuleNotFoundError: No module named 'da3_xvla.models.transformer'")
    assert text.endswith("modeling_xvla.py:1)")


@pytest.mark.parametrize(
    ("line", "there"),
    [
        ("from models.parts import X", "da3_xvla/models"),
        ("import datasets_b1k", "datasets_b1k"),
        ("import utils_b1k", "utils_b1k"),
        # Found, but the installed one: the checkpoint means its own.
        ("from numpy.b1k import X", "da3_xvla/numpy"),
        ("from numpy import b1k", "da3_xvla/numpy"),
    ],
)
def test_an_import_of_what_lies_there_is_told_to_be_relative(package, line, there):
    code = package({"models/modeling_xvla.py": f"{line}\n", "numpy/b1k.py": "X = 1\n"})
    (code.root.parent / "datasets_b1k").mkdir()
    (code.root.parent / "utils_b1k.py").write_text("")
    fails(
        code,
        f"{code.root.parent / there} is there, but only the package da3_xvla is imported, so an "
        f"import of what lies in it must be relative",
    )


def test_a_missing_package_of_others_is_told_with_how_to_install_it(package):
    code = package({"models/modeling_xvla.py": "import no_such_b1k.part\n"})
    fails(
        code,
        f"ModuleNotFoundError: No module named 'no_such_b1k' ({code.root}/models/modeling_xvla.py"
        ":1); pip install no-such-b1k",
    )


@pytest.mark.parametrize("line", ["import numpy.no_such_part", "from numpy import no_such_part"])
def test_what_an_installed_package_lacks_is_told_with_its_version(package, line):
    code = package({"models/modeling_xvla.py": f"{line}\n"})
    fails(code, f"; the installed numpy {numpy.__version__} lacks it: the code needs another")


def test_after_a_failure_a_corrected_package_loads(package):
    code = package({"models/modeling_xvla.py": "1 / 0\n"})
    fails(code, "ZeroDivisionError: division by zero")
    package({"models/modeling_xvla.py": "X = 1\n"})
    assert code.load("models.modeling_xvla").X == 1
