"""What a checkpoint's code needs is read from its sources, and told before the model is built."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec

import pytest
from spoilt import MODEL, Spoilt, one_thread  # noqa: F401 - a fixture

from b1k_envs.errors import UnavailableError
from b1k_policies.xvla.code.imports import read_code
from b1k_policies.xvla.code.required_packages import check_packages

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = """
from transformers import PretrainedConfig
class XVLAConfig(PretrainedConfig):
    pass
"""
TRANSFORMERS = version("transformers")
FAMILY = {"contract": "v17", "force_contract": True}
ABSENT = {
    "PIL": "pillow",
    "cv2": "opencv-python",
    "yaml": "pyyaml",
    "json_numpy": "json-numpy",
    "depth_anything_3": "depth-anything-3",
    "einops": "einops",
}


@pytest.fixture
def code(tmp_path):
    """Writes a package from {path: source}; its folder."""

    def write(modeling, **files):
        root = tmp_path / "code" / "da3_xvla"
        files = {f"models/{name}.py": text for name, text in files.items()}
        files |= {"models/configuration_xvla.py": CONFIG, "models/modeling_xvla.py": modeling}
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return root

    return write


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Writes a top-level module with metadata, importable in this test only."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    made = []

    def write(name, source, version="1.2.3", requires=()):
        (site / f"{name}.py").write_text(source)
        info = site / f"{name}-{version}.dist-info"
        info.mkdir()
        lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {r}" for r in requires)]
        (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *lines, ""]))
        made.append(name)

    yield write
    for name in made:
        sys.modules.pop(name, None)


def tops(root):
    return {one.top for one in read_code(root, "da3_xvla").imports} - {"torch", "transformers"}


def refusal(root):
    with pytest.raises(UnavailableError) as caught:
        check_packages(root, "da3_xvla")
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
    assert "of one checkpoint" not in str(caught.value)
    return str(caught.value).replace(str(root), "CODE")


# --- reading the sources


def test_imports_count_where_loading_or_inference_can_come_to_them(code):
    root = code(
        "import one\n"
        "from . import parts\n"
        "from .helpers import help\n"
        "class XVLA:\n"
        "    def __init__(self):\n"
        "        from two.deep import Thing\n"
        "        self.part = parts.Part()\n"
        "    def generate_actions(self):\n"
        "        return help()\n"
        "    def run(self):\n"
        "        import never_server\n"
        "    @property\n"
        "    def unused(self):\n"
        "        import never_unused\n",
        parts="class Part:\n    def forward(self):\n        import three\n"
        "class Other:\n    def __init__(self):\n        import never_other\n",
        helpers="def help():\n    import four\n    return _more()\n"
        "def _more():\n    import five\n"
        "def train():\n    import never_training\n",
        unread="import never_imported\n",
    )
    assert tops(root) == {"one", "two", "three", "four", "five"}


def test_what_is_guarded_or_conditional_is_not_demanded(code):
    root = code(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import never_types\n"
        "try:\n    import never_tried\nexcept ImportError:\n    import never_instead\n"
        "from transformers.utils import is_flash_attn_2_available\n"
        "if is_flash_attn_2_available():\n    from flash_attn import never_flash\n"
        "try:\n    import one\nexcept KeyError:\n    pass\n"
        "class XVLA:\n    pass\n"
    )
    assert tops(root) == {"one"}


def test_a_try_that_raises_another_error_demands_what_it_imports(code):
    """As the public family does around the geometry encoder's package."""
    root = code(
        "class XVLA:\n"
        "    def __init__(self):\n"
        "        try:\n            from one.api import One\n"
        "        except Exception as error:\n            raise ImportError('no one') from error\n"
    )
    assert tops(root) == {"one"}


ENCODERS = {
    "modeling": "import missing_b1k\n"
    "class XVLA:\n"
    "    def __init__(self, kind):\n"
    "        if kind == 'other':\n            from .other import Other\n            Other()\n"
    "        else:\n            from .usual import Usual\n            Usual()\n",
    "other": "from other_b1k import Part\nclass Other:\n    pass\n",
    "usual": "class Usual:\n    def __init__(self):\n        import usual_b1k\n",
}


def test_one_of_several_encoders_is_not_demanded_but_named_with_what_is_missing(code):
    root = code(**ENCODERS)
    assert tops(root) == {"missing_b1k"}
    text = refusal(root)
    assert text.endswith(
        "; pip install missing-b1k; perhaps also other-b1k (other_b1k, models/other.py:1), "
        "usual-b1k (usual_b1k, models/usual.py:3)"
    )
    code(**{**ENCODERS, "modeling": ENCODERS["modeling"].replace("import missing_b1k\n", "")})
    check_packages(root, "da3_xvla")


def test_what_is_known_to_be_used_is_demanded_under_a_condition_too(code):
    with pytest.raises(UnavailableError) as caught:
        check_packages(code(**ENCODERS), "da3_xvla", used=["usual_b1k"])
    assert str(caught.value).endswith(
        "pip install missing-b1k usual-b1k; perhaps also other-b1k (other_b1k, models/other.py:1)"
    )


def test_each_import_is_placed(code):
    root = code("import torch\n\nimport einops\nclass XVLA:\n    pass\n")
    (one,) = [found for found in read_code(root, "da3_xvla").imports if found.top == "einops"]
    assert one.place == "models/modeling_xvla.py:3"


def test_the_public_familys_stand_in_asks_for_nothing_that_inference_leaves_alone(tiny_family):
    assert tops(tiny_family / "code" / "da3_xvla") == {"huggingface_hub", "safetensors"}


# --- what is missing or unfit


def test_all_missing_packages_are_named_at_once_as_they_are_published(code, monkeypatch):
    for name in ("PIL", "cv2", "yaml"):  # some are here
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *rest: None if name in ABSENT else find_spec(name, *rest),
    )
    lines = "".join(f"import {name}\n" for name in ABSENT)
    text = refusal(code(f"{lines}class XVLA:\n    pass\n"))
    for name, published in ABSENT.items():
        assert f"{published} ({name}, models/modeling_xvla.py:" in text
    assert "addict (imported by depth_anything_3)" in text
    command = text.rpartition("; ")[2]
    assert command.startswith("pip install ")
    assert set(command.split()[2:]) == {*ABSENT.values(), "addict"}


def test_a_package_that_does_not_import_is_told_in_its_own_words(code, installed):
    installed("lib_b1k", "raise OSError('libb1k.so.1: cannot open shared object file')\n")
    text = refusal(code("import lib_b1k\nclass XVLA:\n    pass\n"))
    assert text == (
        "the checkpoint's code (CODE) imports what cannot be imported here: the installed lib-b1k "
        "1.2.3 (models/modeling_xvla.py:1): OSError: libb1k.so.1: cannot open shared object file; "
        "mend lib-b1k, whose own words these are, or install another version of it"
    )


def test_what_a_package_itself_lacks_is_named_with_all_that_it_requires(code, installed):
    stated = ("inner-b1k", "other-b1k>=2", "numpy", "x; extra == 'y'")
    installed("outer_b1k", "import inner_b1k\n", requires=stated)
    text = refusal(code("from outer_b1k import api\nclass XVLA:\n    pass\n"))
    assert "inner-b1k (imported by outer_b1k)" in text
    assert "other-b1k (required by outer-b1k)" in text
    assert "numpy" not in text
    assert text.endswith("; pip install inner-b1k other-b1k")


def test_a_package_without_what_the_code_takes_from_it_is_unfit(code, installed):
    installed("short_b1k", "present = 1\n")
    text = refusal(code("from short_b1k import present, absent\nclass XVLA:\n    pass\n"))
    assert text == (
        "the checkpoint's code (CODE) does not fit what is installed: the installed short-b1k "
        "1.2.3 has no short_b1k.absent (models/modeling_xvla.py:1); "
        "pip install --upgrade short-b1k"
    )


@pytest.mark.skipif(TRANSFORMERS < "5", reason="4 has it")
def test_a_transformers_without_what_the_code_takes_is_named_with_versions_that_ran(code):
    text = refusal(
        code("from transformers.modeling_attn_mask_utils import X\nclass XVLA:\n    pass\n")
    )
    assert f"the installed transformers {TRANSFORMERS} has no " in text
    assert "transformers.modeling_attn_mask_utils (models/modeling_xvla.py:1)" in text
    assert text.endswith("; pip install 'transformers>=4.46,<4.54'")


@pytest.mark.parametrize(("number", "fits"), [("4.53.3", True), ("4.54.1", False), ("5.0", False)])
def test_a_property_that_transformers_reads_too_early_is_told(code, monkeypatch, number, fits):
    from b1k_policies.xvla.code import required_packages

    monkeypatch.setattr(required_packages, "_number", lambda _: number)
    root = code(
        "class XVLA:\n    @property\n    def _supports_sdpa(self):\n"
        "        return self.language_model._supports_sdpa\n"
    )
    if fits:
        check_packages(root, "da3_xvla")
        return
    assert refusal(root) == (
        "the checkpoint's code (CODE) does not fit what is installed: the installed transformers "
        f"{number} reads _supports_sdpa (models/modeling_xvla.py:3) before the model is there; "
        "pip install 'transformers>=4.46,<4.54'"
    )


def test_a_property_that_asks_no_part_of_the_model_is_none_of_that(code):
    check_packages(
        code("class XVLA:\n    @property\n    def _supports_sdpa(self):\n        return True\n"),
        "da3_xvla",
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "raise OSError('libcudart.so.12: cannot open shared object file')",
            "error: torch or transformers is installed and cannot be imported (OSError: "
            "libcudart.so.12: cannot open shared object file): mend what it names, or install "
            "another build of it\n",
        ),
        ("import no_such_b1k", "error: checkpoints need no_such_b1k: pip install "),
    ],
)
def test_a_torch_that_is_there_and_does_not_import_is_told_in_its_own_words(
    tiny_v17, tmp_path, source, said
):
    (tmp_path / "torch.py").write_text(f"{source}\n")
    verb = ["run", "--task", "31", "--ckpt", str(tiny_v17), "--no-video"]
    done = subprocess.run(
        [sys.executable, "-c", "from b1k_eval.cli.main import main; main()", *verb],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert done.stderr.startswith(said)


# --- from the request


def test_a_checkpoint_is_refused_before_its_model_is_built(tiny_family, tmp_path):
    spoilt = Spoilt(tiny_family, tmp_path / "family")
    spoilt.edit(
        "        self.eval()\n",
        "        self.eval()\n        import json_numpy_b1k\n        import einops_b1k\n",
    )
    built = "        super().__init__("
    spoilt.edit(built, f"        raise RuntimeError\n{built}")
    code, message = spoilt.refused(**FAMILY)
    assert code == 4
    assert "; pip install einops-b1k json-numpy-b1k" in message


def test_what_only_a_condition_imports_is_told_when_it_fails(tiny_family, tmp_path):
    spoilt = Spoilt(tiny_family, tmp_path / "family")
    path = spoilt.folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "vision_tower": "davit"}))
    spoilt.edit("from einops", "from einops_b1k", "models/vision_tower.py")
    code, message = spoilt.refused(**FAMILY)
    assert code == 4
    assert message.startswith(
        "the model in FOLDER cannot be built (ModuleNotFoundError: No module named 'einops_b1k'); "
        "pip install einops-b1k; "
    )


def test_what_is_missing_in_the_trial_inference_is_told_likewise(tiny_family, tmp_path):
    spoilt = Spoilt(tiny_family, tmp_path / "family")
    spoilt.edit(
        "        self.eval()\n",
        "        self.eval()\n        __import__('einops_b1k')\n",
        MODEL,
    )
    code, message = spoilt.refused(**FAMILY)
    assert code == 4
    assert message.endswith("No module named 'einops_b1k'; pip install einops-b1k")
