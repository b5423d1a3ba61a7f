"""A run on a Ray cluster: what is lost is done again, and nothing comes out differently."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cluster_run
import killed_run
import pytest
from ray_double import RayDouble
from run_folders import contents
from typer.testing import CliRunner

from b1k_envs.errors import UnavailableError
from b1k_eval.cli.main import app
from b1k_eval.records.run_files import read_episodes
from b1k_eval.records.store import open_run
from b1k_eval.run.crew import slot
from b1k_eval.run.crew.cluster import Cluster, connect, room
from b1k_eval.run.launch import launch
from b1k_eval.run.progress.reporter import Reporter

ENDED = " steps, "  # of the line about an episode that has ended
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed")


@pytest.fixture(scope="module")
def three_nodes() -> Iterator[tuple[Any, Any]]:
    """A cluster of three nodes, simulated on this machine, and the one called left."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "node_name": "head", "include_dashboard": False},
    )
    left, _ = (cluster.add_node(num_cpus=2, node_name=name) for name in ("left", "right"))
    yield cluster, left
    cluster.shutdown()


def driver(folder: Path, address: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, cluster_run.__file__, str(folder), address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(process: subprocess.Popen[str], seen: list[str], word: str, times: int = 1) -> None:
    """Read what it says until a word has come so many more times."""
    assert process.stderr is not None
    for line in process.stderr:
        seen.append(line)
        times -= word in line
        if times == 0:
            return
    raise AssertionError("".join(seen))


@needs_ray
@pytest.mark.slow
def test_a_lost_node_a_dead_worker_and_a_killed_driver_change_nothing(tmp_path, three_nodes):
    cluster, left = three_nodes
    folder, seen = tmp_path / "run", []
    first = driver(folder, cluster.address)
    until(first, seen, ENDED, 4)
    until(first, seen, "started on left")
    cluster.remove_node(left, allow_graceful=False)
    until(first, seen, ENDED, 20)
    said = "".join(seen)
    assert {f"started on {name}" in said for name in ("head", "left", "right")} == {True}
    assert " begins again: left was lost (" in said, said
    assert "error, q -, 0 steps, 0 s: the worker process died (exit code -9) on " in said
    first.kill()
    first.communicate()
    done = len(read_episodes(folder))
    assert 24 <= done < 40
    second = driver(folder, cluster.address)
    told, errors = second.communicate(timeout=240)
    assert (second.returncode, told) == (0, ""), errors
    assert not list(folder.rglob(".tmp-*"))
    cluster_run.make_run(tmp_path / "alone", address=None, reporter=Reporter())
    assert contents(folder) == contents(tmp_path / "alone")
    assert len(read_episodes(folder)) == 40


class Notes(Reporter):
    """Keeps what is said of places."""

    def __init__(self):
        self.places, self.dropped = set(), []

    def episode_started(self, key, where=None):
        self.places.add(where)

    def episode_dropped(self, key, why):
        self.dropped.append((key.instance, why))


def run_on_double(folder, monkeypatch, *, losing, retries):
    """Four episodes, one worker at a time, none of whose files this process could read."""
    double = RayDouble(losing)
    monkeypatch.setitem(sys.modules, "ray", double)
    monkeypatch.setattr(slot, "_reads", lambda *_: False)
    assembly, notes = killed_run.make_assembly(), Notes()
    store = open_run(folder, killed_run.RECORD, resume=True)
    crew = Cluster(assembly, folder, 0.0, notes.note)
    plan = killed_run.PLAN[:4]
    launch(assembly, plan, store, reporter=notes, workers=1, crew=crew, retries=retries)
    store.close()
    return double, notes


@pytest.mark.slow
def test_files_of_a_node_without_the_disk_arrive_and_a_lost_node_is_made_up_for(
    tmp_path, monkeypatch
):
    double, notes = run_on_double(tmp_path / "far", monkeypatch, losing=1, retries=1)
    assert notes.places == {"rack-7"}
    ((instance, why),) = notes.dropped
    assert (instance, why) == (0, "rack-7 was lost (Its node has died.)")
    assert double.names == ["far: worker 0 (start 1)", "far: worker 0 (start 2)"]
    store = open_run(tmp_path / "near", killed_run.RECORD, resume=True)
    launch(killed_run.make_assembly(), killed_run.PLAN[:4], store, reporter=Reporter())
    store.close()
    assert contents(tmp_path / "far") == contents(tmp_path / "near")
    assert not any(actor.made.home.exists() for actor in double.actors)


@pytest.mark.slow
def test_an_episode_that_loses_its_node_too_often_is_an_error(tmp_path, monkeypatch):
    _, notes = run_on_double(tmp_path / "run", monkeypatch, losing=2, retries=1)
    assert [instance for instance, _ in notes.dropped] == [0]
    lines = {key.instance: line for key, line in read_episodes(tmp_path / "run").items()}
    assert lines[0]["outcome"] == "error"
    assert lines[0]["message"] == "rack-7 was lost (Its node has died.)"
    assert "error" not in {lines[n]["outcome"] for n in (1, 2, 3)}


def test_an_address_where_nothing_listens_is_told_at_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", RayDouble())
    with pytest.raises(
        UnavailableError, match=r"^--ray 127.0.0.1:1: no cluster answers \(\[Errno "
    ):
        connect("127.0.0.1:1")


@pytest.mark.skipif(find_spec("ray") is not None, reason="ray is installed")
def test_without_ray_one_line_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["run", "--task", "31", "--policy", "hold", "--ray", "auto"])
    assert result.exit_code == 4
    assert result.stderr == (
        "error: --ray needs Ray, which does not import here (No module named 'ray'); install it "
        "with: pip install '.[ray]' in the checkout\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--workers", "0"], "--workers 0 must be at least 1 (without --ray)"),
        (["--gpus-per-worker", "0.5"], "--gpus-per-worker goes with --ray: add that, or leave it "
         "out"),
        (["--ray", "auto", "--gpus", "0"], "--gpus and --ray do not go together: Ray counts "
         "--gpus-per-worker"),
    ],
)  # fmt: skip
def test_options_that_contradict_each_other_are_refused(words, told):
    result = CliRunner().invoke(app, ["run", "--task", "31", "--policy", "hold", *words])
    assert (result.exit_code, result.stderr) == (2, f"error: {told}\n")


def test_room_counts_whole_workers_on_each_node(monkeypatch):
    class FakeRay:
        @staticmethod
        def nodes():
            big = {"CPU": 64.0, "GPU": 3.0}
            return [
                {"Alive": True, "Resources": big},
                {"Alive": True, "Resources": {"CPU": 5.0, "GPU": 4.0}},
                {"Alive": False, "Resources": big},
                {"Alive": True, "Resources": {"memory": 1.0}},
            ]

    monkeypatch.setitem(sys.modules, "ray", FakeRay)
    assert [room(gpus) for gpus in (0.0, 0.5, 1.0, 2.0, 8.0)] == [69, 11, 7, 3, 1]
