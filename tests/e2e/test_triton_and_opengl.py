"""A checkpoint whose code loads triton, on the twin: in this process, and in workers.

The stand-in for triton dies as the real one does; see `crashing_triton`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from crashing_triton import environment_with_it

WANTED = """
        try:
            import triton
        except ImportError:
            print("triton was wanted")
"""
COMMAND = [sys.executable, "-c", "from b1k_eval.cli.main import main; main()"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "options"),
    [
        ("run", ("--max-steps", "2", "--out", "run")),
        ("run", ("--max-steps", "2", "--out", "run", "--workers", "2", "--instances", "0-1")),
        ("inspect", ()),
    ],
    ids=["run", "workers", "inspect"],
)
def test_no_process_dies(tmp_path, tiny_v17, verb, options):
    folder = shutil.copytree(tiny_v17, tmp_path / "checkpoint")
    code = folder / "code" / "da3_xvla" / "models" / "modeling_xvla.py"
    first = "        self._check(image_input"
    code.write_text(code.read_text().replace(first, f"{WANTED}{first}", 1))
    words = {
        "run": ("run", "--task", "31", "--no-video", "--ckpt", str(folder)),
        "inspect": ("inspect", str(folder)),
    }
    done = subprocess.run(
        [*COMMAND, *words[verb], "--device", "cpu", "--json", *options],
        env=environment_with_it(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "triton was wanted" in done.stderr
    document = json.loads(done.stdout)
    if verb == "run":
        assert document["counts"]["error"] == 0
