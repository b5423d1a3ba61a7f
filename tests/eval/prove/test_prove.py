"""`b1k-eval prove`: six planted faults are found by the column that they change first."""

from __future__ import annotations

import json
import re

import pytest
from proving import FAULTS, LENGTH, Fault, HeedfulPolicy, RememberingPolicy, SeenEnv, plant
from run_folders import settings
from typer.testing import CliRunner

from b1k_envs.errors import B1kEvalError, EnvError
from b1k_eval.cli.main import app
from b1k_eval.execution import Execution
from b1k_eval.prove import ways
from b1k_eval.prove.certificate import prove
from b1k_eval.records.run_files import read_run

ALONE = Execution(video=False, share_policy="off")
HERE = ("again", "lanes", "order", "shards")


def proved(out, ways_, *, instances=4, rollouts=1, at_once=2):
    """The certificate's ways by name."""
    run = settings(instances=tuple(range(instances)), rollouts=rollouts, horizon=LENGTH)
    trial = ways.Trial(tasks=(run,), alone=ALONE, at_once=at_once, argv=["prove"])
    document = prove(trial, out, ways=ways_, bound=0.1, told=lambda _: None)
    found = {each["way"]: each for each in document["ways"]}
    assert document["proved"] is all(each["verdict"] == "equal" for each in found.values())
    return found


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_by_the_first_column_that_differs(name, tmp_path, monkeypatch):
    fault = FAULTS[name]
    plant(monkeypatch, fault)
    found = proved(tmp_path, ["again", fault.way])
    assert found["again"]["verdict"] == "equal"
    assert found[fault.way]["verdict"] == "different"
    assert found[fault.way]["first"]["column"] == fault.column


@pytest.mark.parametrize("policy", [HeedfulPolicy, RememberingPolicy])
def test_the_sound_tree_is_equal_in_every_way(policy, tmp_path, monkeypatch):
    plant(monkeypatch, Fault("", "", policy=policy))
    names = (*HERE, "batches") if policy.stateless else HERE
    for way, found in proved(tmp_path, names, at_once=3).items():
        assert (found["verdict"], found["equal"]) == ("equal", 4), (way, found)


@pytest.mark.slow
def test_many_short_episodes_of_the_sound_tree_are_always_equal(tmp_path, monkeypatch):
    plant(monkeypatch, Fault("", ""))
    found = proved(tmp_path, (*HERE, "batches"), instances=10, rollouts=6, at_once=8)
    assert [each["equal"] for each in found.values()] == [60] * 5


def cli(*words):
    return CliRunner().invoke(app, ["prove", "--task", "31", "--policy", "random", *words])


def test_the_command_prints_a_table_and_leaves_a_certificate(tmp_path, monkeypatch):
    plant(monkeypatch, Fault("", ""))
    monkeypatch.setattr(ways, "find_spec", lambda name: None)
    words = [*("--instances", "0-2", "--horizon", "4"), "--out", str(tmp_path / "p")]
    here = [name for name in ways.WAYS if name not in ("workers", "resume")]
    result = cli(*words, "--ways", "again,batches")
    assert result.exit_code == 0, result.output
    assert "3 episodes one by one" in result.stdout
    assert "nothing that matters differs" in result.stdout
    monkeypatch.setattr(ways, "WAYS", {name: ways.WAYS[name] for name in here})
    monkeypatch.setattr("b1k_eval.prove.certificate.WAYS", ways.WAYS)
    result = cli(*words, "--json")
    document = json.loads(result.stdout)
    kept = json.loads((tmp_path / "p" / "certificate.json").read_text())
    assert kept == {k: v for k, v in document.items() if k != "certificate"}
    assert document["not_compared"] == ["latency_s", "wait_s"]
    assert {each["way"]: each["why"] for each in document["ways"]} == {
        "again": None,
        "lanes": None,
        "batches": None,
        "shared": "the policy is no checkpoint: there is no model to share",
        "order": None,
        "shards": None,
        "ray": "Ray is not installed: pip install '.[ray]' in the checkout",
    }
    assert len(read_run(tmp_path / "p" / "again")["sessions"]) == 2  # nothing was done again
    assert not (tmp_path / "p" / "shared").exists()


def test_a_difference_is_exit_code_1_and_says_where(tmp_path, monkeypatch):
    plant(monkeypatch, FAULTS["a wrong seed"])
    words = ["--instances", "0-1", "--horizon", "4", "--ways", "batches"]
    result = cli(*words, "--out", str(tmp_path / "p"))
    assert result.exit_code == 1
    said = " ".join(result.stdout.replace("│", " ").split())
    assert "first: clean_boxing_gloves-1-0, step 1, asked_seed:" in said
    assert "not proved" in said


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--ways", "threads"], 2, "--ways: 'threads' is unknown: choose from again, workers, "),
        (["--ways", "order,order"], 2, "--ways: order is given twice"),
        (["--instances", "3"], 2, "a certificate needs at least two episodes: give more "),
        (["--bound", "1"], 2, "--bound 1 must lie between 0 and 1"),
        (["--mode", "realtime"], 2, "a measured latency is never the same twice: give --latency"),
        (["--ways", "shared"], 4, "the policy is no checkpoint: there is no model to share"),
    ],
)
def test_what_cannot_be_proved_is_refused(words, code, told, tmp_path, monkeypatch):
    plant(monkeypatch, Fault("", ""))
    result = cli("--horizon", "4", "--out", str(tmp_path / "p"), *words)
    assert (result.exit_code, told in result.stderr) == (code, True), result.stderr


class Falling(SeenEnv):
    def step(self, action):
        raise EnvError("it fell")


def test_an_episode_that_fails_alone_is_no_basis(tmp_path, monkeypatch):
    plant(monkeypatch, Fault("", "", env=Falling))
    told = "clean_boxing_gloves-0-0, run one by one, ended as error (EnvError: it fell): a cert"
    with pytest.raises(B1kEvalError, match=re.escape(told)):
        proved(tmp_path, ["again"])


@pytest.mark.slow
def test_the_twin_is_equal_in_workers_and_after_a_kill(tmp_path):
    words = ["--instances", "0-2", "--max-steps", "4", "--ways", "workers,resume", "--json"]
    result = cli(*words, "--out", str(tmp_path / "p"))
    document = json.loads(result.stdout)
    assert [each["equal"] for each in document["ways"]] == [3, 3]
    assert len(read_run(tmp_path / "p" / "resume")["sessions"]) == 2
