"""A policy of the user's own in a run: recorded, resumed, in workers, shared and served."""

from __future__ import annotations

import json
import sys
from functools import partial

import pandas as pd
import pytest
from doubles import ToyEnv, make_toy_env
from typer.testing import CliRunner

from b1k_envs.base import make_several
from b1k_envs.errors import EndsRunError, UsageError
from b1k_envs.tasks.table import get_task, human_stats
from b1k_eval.challenge.rules import _other_policy
from b1k_eval.cli.checkpoints.serve import _Wanted
from b1k_eval.cli.main import app, command
from b1k_eval.cli.running import smoke
from b1k_eval.cli.running.qualify import _published
from b1k_eval.comparison.comparable import source_facts
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.records.loading import read_run_data
from b1k_eval.records.store import open_run
from b1k_eval.run import policies, session, simulators
from b1k_eval.run.episode import Assembly
from b1k_eval.run.launch import launch, plan_episodes
from b1k_eval.run.progress.reporter import Reporter
from b1k_policies.registry import make_policy
from b1k_policies.remote.sharing.model import SharedHandle, share_model

TASK = get_task(31)
PLAN = plan_episodes(TASK, range(3), 1, seed=3, protocol="2026")
RECORD = {"format": 1, "identity": {"settings": {}}, "sessions": [{}]}

POLICY = """\
import numpy as np

from b1k_policies.base import ActionChunk, Policy
from own_gains import GAIN


class Nudge(Policy):
    name = "nudge"
    chunk_length = 5
    needs_images = False
    stateless = {stateless}

    def __init__(self, scale: float, *, way: str = "on"):
        self.scale = scale

    def reset(self, episode):
        pass

    def infer(self, observation):
        raise AssertionError("asked in batches only")

    def infer_batch(self, queries):
        return [self.answer(query) for query in queries]

    def answer(self, query):
        rows = np.random.default_rng(query.seed).uniform(0, GAIN, (5, 23)).astype(np.float32)
        return ActionChunk(actions=rows * np.float32(self.scale))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nudge.py").write_text(POLICY.format(stateless=True))
    (tmp_path / "own_gains.py").write_text("GAIN = 0.1\n")
    yield tmp_path
    sys.modules.pop("own_gains", None)


def invoke(*words, code=0):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return done


def traces(folder):
    """What was done and when the policy was asked, by episode."""
    found = {}
    for file in sorted(folder.glob("episodes/*/trace.parquet")):
        trace = pd.read_parquet(file)
        found[file.parent.name] = trace.drop(columns=["latency_s", "wait_s"])
    return found


RUN = ["run", "--task", "31", "--max-steps", "6", "--no-video"]
NUDGE = ["--policy", "nudge.py:Nudge", "--policy-arg", "scale=0.5"]


def test_its_identity_is_recorded_and_a_changed_file_is_not_resumed(folder, monkeypatch):
    monkeypatch.setattr(simulators, "make_env", make_toy_env)
    invoke(*RUN, *NUDGE, "--out", "r")
    record = json.loads((folder / "r" / "run.json").read_text())
    identity = record["identity"]
    assert identity["settings"]["policy"] == f"{folder.resolve()}/nudge.py:Nudge"
    assert identity["settings"]["policy_args"] == ["scale=0.5"]
    found = identity["policy"]["source"]
    assert (found["module"], found["class"], found["package"]) == ("nudge.py", "Nudge", None)
    assert found["arguments"] == {"scale": 0.5, "way": "on"}
    assert sorted(found["files"]) == ["nudge.py", "own_gains.py"]
    assert record["sessions"][0]["policy"] == {"source_commit": None, "source_dirty": None}
    assert read_run_data(folder / "r").label == "nudge (scale=0.5)"
    # Nothing typed: the run's own policy and arguments. From another folder too.
    (folder / "away").mkdir()
    monkeypatch.chdir(folder / "away")
    invoke("run", "--resume", "--out", "../r", "--no-video")
    monkeypatch.chdir(folder)
    (folder / "own_gains.py").write_text("GAIN = 0.2\n")
    again = invoke("run", "--resume", "--out", "r", "--no-video", code=2).stderr
    assert "cannot be resumed with these: policy.source.files.own_gains.py" in again
    (folder / "own_gains.py").write_text("GAIN = 0.1\n")
    other = invoke(*RUN, *NUDGE[:-1], "scale=2", "--out", "r", "--resume", code=2).stderr
    assert 'settings.policy_args ["scale=0.5"] -> ["scale=2"]' in other
    assert "policy.source.arguments.scale 0.5 -> 2.0" in other


def test_compare_and_export_name_what_differs_between_two_of_its_kind(folder, monkeypatch):
    monkeypatch.setattr(simulators, "make_env", make_toy_env)
    invoke(*RUN, *NUDGE, "--out", "old")
    (folder / "own_gains.py").write_text("GAIN = 0.2\n")
    invoke(*RUN, *NUDGE[:-1], "scale=2", "--out", "new")
    told = " ".join(invoke("compare", "old", "new").stdout.split())
    for words in (
        "nudge (scale=0.5)",
        "nudge (scale=2)",
        "policy's argument scale: 0.5 against 2.0",
        "policy's file own_gains.py: ",
    ):
        assert words in told
    assert "policy's file nudge.py" not in told
    old, new = (read_run_data(folder / name) for name in ("old", "new"))
    assert source_facts(old.identity["policy"]).keys() == {
        "policy's class",
        "policy's package",
        "policy's argument scale",
        "policy's argument way",
        "policy's file nudge.py",
        "policy's file own_gains.py",
    }
    assert (_other_policy(old, old), _other_policy(old, new)) == (
        None,
        "policy's argument scale 0.5 against 2.0",
    )


def test_the_results_folder_is_named_after_the_class(folder, monkeypatch):
    monkeypatch.setattr(simulators, "make_env", make_toy_env)
    invoke(*RUN, *NUDGE)
    (made,) = (folder / "results").iterdir()
    assert made.name.endswith("-clean_boxing_gloves-Nudge")


def test_what_is_wrong_with_it_is_wrong_usage_and_what_it_lacks_is_unavailable(folder, monkeypatch):
    monkeypatch.setattr(simulators, "make_env", make_toy_env)
    wrong = invoke(*RUN, "--policy", "nudge.py:Nudge", code=2).stderr
    assert "error: --policy-arg scale=... is missing: Nudge(scale: float, way: str = 'on')" in wrong
    both = invoke(*RUN, "--ckpt", "twin-v17", "--policy-arg", "a=1", code=2).stderr
    assert "error: --policy-arg a=1 is for a policy that is a class: not --ckpt" in both
    (folder / "nudge.py").write_text("import no_such_package\n")
    lacks = invoke(*RUN, *NUDGE, code=4).stderr
    assert "No module named 'no_such_package'" in lacks
    (inspected,) = invoke("inspect", "nudge.py:Nudge", code=2).stderr.splitlines()
    assert inspected.endswith("b1k-eval check-policy nudge.py:Nudge")


def test_a_stateless_class_is_shared_by_workers_and_another_is_not(folder, monkeypatch):
    """What `--workers` does with it; one copy answers, or each worker has its own."""
    asked = []

    class Sharing(Exception):  # noqa: N818
        pass

    def share(make, *_, **__):
        asked.append(make().name)
        raise Sharing

    monkeypatch.setattr(policies, "share_model", share)
    monkeypatch.setattr(simulators, "make_env", make_toy_env)
    monkeypatch.setattr(session, "launch", lambda *_, **__: None)
    for words in (["--workers", 1], ["--workers", 2, "--share-policy", "off"]):
        invoke(*RUN, *NUDGE, *words)
    with pytest.raises(Sharing):
        CliRunner().invoke(app, [*RUN, *NUDGE, "--workers", "2"], catch_exceptions=False)
    assert asked == ["nudge"]
    (folder / "nudge.py").write_text(POLICY.format(stateless=False))
    invoke(*RUN, *NUDGE, "--workers", 2)
    assert asked == ["nudge"]


def test_a_file_that_changes_during_a_run_ends_it(folder, monkeypatch):
    monkeypatch.setattr(simulators, "make_env", make_toy_env)
    assemblies = []
    monkeypatch.setattr(session, "launch", lambda assembly, *_, **__: assemblies.append(assembly))
    invoke(*RUN, *NUDGE)
    make = assemblies[0].make_policy
    assert make().name == "nudge"
    (folder / "own_gains.py").write_text("GAIN = 0.2\n")
    with pytest.raises(EndsRunError) as caught:
        make()
    assert str(caught.value) == (
        "the policy's code has changed since this run was started: own_gains.py; restore it and "
        "--resume, or start another run"
    )


def test_every_verb_that_takes_a_policy_takes_its_arguments(folder, monkeypatch):
    for verb in ("run", "smoke", "qualify", "serve", "check-policy"):
        options = [each.opts for each in command(verb).params]
        assert ["--policy-arg"] in options, verb
    words = None, "nudge.py:Nudge", ("scale=0.5",)
    engine = _Wanted.checked(*words, task=None, prompt=None, protocol="auto").load()
    assert (engine.policy.scale, engine.most_together) == (0.5, None)
    asked = []

    def resolve(typed):
        asked.append(typed)
        raise UsageError("enough")

    monkeypatch.setattr(smoke, "resolve_settings", resolve)
    invoke("smoke", *NUDGE, code=2)
    assert asked[0]["policy_args"] == ["scale=0.5"]
    typed = {"policy": "nudge.py:Nudge", "policy_args": ["scale=0.5"]}
    assert _published("12/20", typed, None) is not None
    with pytest.raises(UsageError, match="--policy and --ckpt: give one of them"):
        _published("12/20", {**typed, "ckpt": "x"}, None)


@pytest.mark.slow
def test_workers_and_a_shared_copy_give_the_traces_of_one_process(folder):
    spec = f"{folder}/nudge.py:Nudge"
    make = partial(make_policy, spec, None, "2026", None, ("scale=0.5",))
    found = {}
    for name, workers in (("one", 1), ("apart", 2), ("shared", 2)):
        models = share_model(make, "2026", clients=2) if name == "shared" else {}
        for model in models.values():
            model.serve()
        assembly = Assembly(
            make_worlds=partial(make_several, ToyEnv),
            make_policy=SharedHandle(models).elsewhere() if models else make,
            make_chunking=partial(RecedingHorizon, 4),
            human=human_stats(TASK),
            max_steps=30,
        )
        store = open_run(folder / name, RECORD, resume=False)
        try:
            launch(assembly, PLAN, store, reporter=Reporter(), workers=workers)
        finally:
            store.close()
            for model in models.values():
                model.close()
        found[name] = traces(folder / name)
    assert len(found["one"]) == len(PLAN)
    for name in ("apart", "shared"):
        assert list(found[name]) == list(found["one"])
        for episode, trace in found["one"].items():
            pd.testing.assert_frame_equal(found[name][episode], trace, check_exact=True)
