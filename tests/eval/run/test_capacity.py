"""`--workers auto`: cores, memory, GPUs and episodes say how many."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from doubles import make_toy_env
from run_folders import settings
from typer.testing import CliRunner

from b1k_eval.cli.main import app
from b1k_eval.records.run_files import read_run
from b1k_eval.run import capacity, simulators
from b1k_eval.run.capacity import workers_here


@pytest.fixture
def machine(monkeypatch, tmp_path):
    def have(cores, memory_gb):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
        told = tmp_path / "meminfo"
        told.write_text(f"MemTotal: 9 kB\nMemAvailable: {int(memory_gb * 1e9 / 1024)} kB\n")
        monkeypatch.setattr(capacity, "_MEMINFO", told)

    return have


def count(*, num_envs=1, gpus=(), **changes):
    return workers_here([settings(**changes)], num_envs, gpus)[0]


def test_twins_are_one_per_core_as_far_as_memory_and_episodes_go(machine):
    machine(8, 64)
    assert count() == 8
    assert count(num_envs=4) == 3  # ten episodes
    assert count(shard="0/5") == 2
    machine(8, 3.5)
    assert count() == 3
    machine(8, 0.2)
    assert count() == 1
    words = workers_here([settings()], 1, ())[1]
    assert words == "--workers auto: 1 (8 cores, 0 GB of free memory, 10 with an episode)"


def test_omnigibson_has_one_per_gpu_of_gpus(machine):
    machine(64, 512)
    world = replace(settings(), sim="omnigibson")
    assert workers_here([world], 1, (0, 2))[0] == 2
    assert workers_here([world], 1, ())[0] == 1


def test_a_run_says_how_many_and_records_the_number(machine, monkeypatch, tmp_path):
    machine(1, 8)
    monkeypatch.setattr(simulators, "make_env", make_toy_env)
    words = ["run", "--task", "31", "--policy", "random", "--no-video", "--workers"]
    told = CliRunner().invoke(app, [*words, "auto", "--out", str(tmp_path / "r")])
    assert told.exit_code == 0, told.output
    assert "note: --workers auto: 1 (1 core, 8 GB of free memory, 1 with" in told.stderr
    assert read_run(tmp_path / "r")["sessions"][0]["execution"]["workers"] == 1
    told = CliRunner().invoke(app, [*words, "many"])
    assert told.stderr == "error: --workers 'many': give a number or auto\n"
    told = CliRunner().invoke(app, [*words, "auto", "--ray", "auto"])
    assert "--workers auto is for this machine: with --ray 0 is for all places" in told.stderr
