"""The commands in the documentation have verbs and options that exist."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from b1k_eval.cli.main import VERBS, command

ROOT = Path(__file__).parents[3]
CLUSTER = ROOT / "docs" / "cluster.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> list[list[str]]:
    """Words of each `b1k-eval` command in a block of code."""
    text = re.sub(r"\\\n\s*", " ", page.read_text(encoding="utf-8"))
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    typed = [shlex.split(line, comments=True) for line in lines if line.startswith("b1k-eval ")]
    return typed + [json.loads(words) for words in re.findall(r"^CMD (\[.*\])$", text, re.M)]


def known(verb: str) -> set[str]:
    """Options of a verb."""
    parameters = command(verb).params
    return {option for each in parameters for option in (*each.opts, *each.secondary_opts)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_exist(page: Path) -> None:
    for _, verb, *words in commands(page):
        assert verb in VERBS, f"{page.name}: {verb}"
        unknown = {word.partition("=")[0] for word in words if word.startswith("--")} - known(verb)
        assert not unknown, f"{page.name}: b1k-eval {verb} {' '.join(words)}"


def test_commands_are_found_at_all() -> None:
    served = commands(ROOT / "docs" / "container.md")
    assert ["b1k-eval", "serve", "--policy"] in [words[:3] for words in served]
    assert len(commands(ROOT / "docs" / "omnigibson.md")) >= 8


STANDINS = {
    "srun": 'exec "$@"',
    "b1k-eval": 'printf "%s\\n" "$@" > words; exit "$CODE"',
    "scontrol": 'echo "$@" > requeued',
}


@pytest.mark.parametrize(("code", "requeued"), [(0, None), (1, None), (138, "requeue 77_3\n")])
@pytest.mark.parametrize("again", [False, True])
def test_the_batch_script_of_the_cluster_page_does_its_share(tmp_path, code, requeued, again):
    (script,) = re.findall(r"^```sbatch\n(.*?)^```", CLUSTER.read_text("utf-8"), re.M | re.S)
    for name, text in STANDINS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    surroundings = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "CODE": str(code),
        "CKPT": "/checkpoints/v 17",
        "SLURM_ARRAY_JOB_ID": "77",
        "SLURM_ARRAY_TASK_ID": "3",
        # A task that is submitted alone is counted alone.
        **({"SLURM_ARRAY_TASK_COUNT": "1", "SHARDS": "10"} if again else {}),
        **({} if again else {"SLURM_ARRAY_TASK_COUNT": "10"}),
    }
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=surroundings, check=False)
    assert done.returncode == code
    verb, *words = (tmp_path / "words").read_text().splitlines()
    assert verb == "run"
    assert {word for word in words if word.startswith("--")} <= known("run")
    asked = dict(pairwise(words))
    assert asked["--shard"] == "3/10"
    assert asked["--out"] == "results/gloves/shard-3"
    assert asked["--ckpt"] == "/checkpoints/v 17"
    assert "--resume" in words
    told = tmp_path / "requeued"
    assert (told.read_text() if told.exists() else None) == requeued


def test_the_ray_job_of_the_cluster_page_passes_the_warning_on(tmp_path):
    (script,) = re.findall(r"^```sbatch-ray\n(.*?)^```", CLUSTER.read_text("utf-8"), re.M | re.S)
    standins = {
        "srun": 'echo "$@" >> started',
        "sleep": ":",
        "scontrol": 'echo "node-1"; echo "node-2"',
        "b1k-eval": 'trap "exit 138" USR1; printf "%s\\n" "$@" > words; mv words words.txt\n'
        "while :; do /bin/sleep 0.02; done",
    }
    for name, text in standins.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    surroundings = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "CKPT": "/checkpoints/v17",
        "SLURM_JOB_NODELIST": "node-[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
    }
    job = subprocess.Popen(["bash", "-c", script], cwd=tmp_path, env=surroundings)
    words = tmp_path / "words.txt"
    while not words.exists():
        assert job.poll() is None
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=60) == 138
    said = words.read_text().splitlines()
    assert said[said.index("--ray") + 1] == "node-1:6379"
    assert {word for word in said if word.startswith("--")} <= known("run")
    head, others = sorted((tmp_path / "started").read_text().splitlines(), key=len)
    assert head == "--nodes=1 --ntasks=1 --nodelist=node-1 ray start --head --port=6379 --block"
    assert others == (
        "--nodes=1 --ntasks=1 --exclude=node-1 ray start --address=node-1:6379 --block"
    )
