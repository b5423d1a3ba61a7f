"""`b1k_eval.evaluate`, on a point that a policy drives along a line."""

from __future__ import annotations

import inspect
import io
import re
import sys
import threading
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from doubles import BreakingEnv, DrivePolicy, ToyEnv
from typer.testing import CliRunner

import b1k_eval
from b1k_envs.errors import ActionError, B1kEvalError, UsageError
from b1k_eval.cli.main import app, command
from b1k_eval.run import simulators
from b1k_policies.base import PrivilegedPolicy

SHORT = {"task": 31, "max_steps": 20, "video": False}


@pytest.fixture(autouse=True)
def toys(monkeypatch, tmp_path):
    """Every world of the twin is a line, and runs land in a folder of the test's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(simulators, "make_env", lambda s: ToyEnv(max_steps=s.max_steps))
    monkeypatch.setattr(simulators, "prepare_pictures", lambda: None)


def outcomes(run):
    return run.episodes.outcome.tolist()


def test_an_object_is_run_as_it_is_again_and_again_and_never_closed():
    policy = DrivePolicy(vx=1.0)
    thread, threads = threading.get_ident(), set()
    infer = policy.infer
    policy.infer = lambda seen: threads.add(threading.get_ident()) or infer(seen)
    first = b1k_eval.evaluate(policy, instances=range(2), **SHORT)
    policy.vx = 0.01  # as a training step changes a model
    second = b1k_eval.evaluate(policy, instances=range(2), **SHORT)
    assert (outcomes(first), outcomes(second)) == (["success"] * 2, ["failure"] * 2)
    assert (first.success_rate, second.success_rate) == (1.0, 0.0)
    assert first.path != second.path
    assert re.fullmatch(r"results/\d{8}-\d{6}-clean_boxing_gloves-DrivePolicy", str(first.path))
    assert not policy.closed
    assert threads == {thread}
    assert len(policy.episodes) == 4
    settings = first.data[0].identity["settings"]
    assert settings["policy"] == "object:doubles.DrivePolicy"
    assert first.data[0].label == "drive"


def test_an_error_keeps_the_object_and_is_no_exception(monkeypatch):
    monkeypatch.setattr(simulators, "make_env", lambda s: BreakingEnv(hook="step", at_step=3))
    policy = DrivePolicy()
    run = b1k_eval.evaluate(policy, instances=[0, 1], **SHORT)
    assert outcomes(run) == ["error", "error"]
    assert run.success_rate != run.success_rate  # NaN: nothing was scored
    assert "the simulator fell over" in run.episodes.message[0]
    assert not policy.closed


def test_a_stateless_object_serves_several_worlds_at_once():
    policy = DrivePolicy(vx=1.0)
    policy.stateless = True
    run = b1k_eval.evaluate(policy, instances=range(3), num_envs=2, **SHORT)
    assert outcomes(run) == ["success"] * 3


def test_names_and_addresses_are_policies_and_folders_are_checkpoints(tmp_path):
    assert b1k_eval.evaluate("hold", **SHORT).data[0].identity["settings"]["policy"] == "hold"
    (tmp_path / "mine").mkdir()
    refused = [
        ("expret", "--policy 'expret' is unknown; did you mean expert?"),
        ("http://here", "is not the address of a policy server"),
        ("mine", "mine"),
        (Path("mine"), "mine"),
        (DrivePolicy, "DrivePolicy.*is no b1k_policies.base.Policy.*: give an object of it"),
        (3, "policy 3 is no b1k_policies.base.Policy, name, checkpoint or address"),
        (None, r"the policy is missing: --policy NAME \(expert, zero"),
        ("here.py", "--policy here.py: name its class as well"),
    ]
    for policy, words in refused:
        with pytest.raises(B1kEvalError, match=words):
            b1k_eval.evaluate(policy, **SHORT)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_step": 3}, "evaluate has no option 'max_step': did you mean max_steps or"),
        ({"checkpoint": "x"}, "no option 'checkpoint': did you mean"),
        ({"zzz": 1}, "no option 'zzz': choose from policy, task, .*video_fps"),
        ({"seed": "x"}, "--seed 'x' is not of type int"),
        ({"seed": -1}, "--seed -1 must be at least 0"),
        ({"video": "no"}, "--video/--no-video 'no' is not of type bool"),
        ({"horizon": 2.5}, "--horizon 2.5 is not of type int"),
        ({"mode": "slow"}, "--mode 'slow' is unknown: choose one of sync, realtime"),
        ({"instances": [1, 1]}, "--instances '1,1': 1 is given twice"),
        ({"instances": range(0)}, "--instances ''"),
        ({"workers": 2}, "the policy object drive is in this process, which is one worker"),
        ({"num_envs": 2}, "--num-envs 2 needs a policy for each world"),
        ({"sim": "omnigibson"}, "--sim mujoco|OmniGibson"),
        ({"resume": True}, "--resume needs --out RUN"),
        ({"task": None}, "--task is missing"),
        ({"contract": "v17"}, "--contract only mean something with --ckpt"),
        ({"set": "a=b"}, "--set only mean something with --ckpt"),
        ({"policy_arg": {"n": 3}}, "--policy-arg n=3 is for a policy that is a class"),
        ({"until_decided": True}, "--until-decided and --against RUN go together"),
    ],
)
def test_wrong_options_are_errors_in_the_words_of_the_command_line(options, words, tmp_path):
    with pytest.raises(B1kEvalError, match=words):
        b1k_eval.evaluate(DrivePolicy(), **{**SHORT, **options})
    assert not list(tmp_path.iterdir())  # refused before anything was written


def test_every_option_of_run_is_one_of_evaluate_by_the_same_name():
    flags = {
        each.opts[0].removeprefix("--").replace("-", "_")
        for each in command("run").params
        if each.name not in ("help", "json_output", "fail_under")
    }
    assert flags == {*inspect.signature(b1k_eval.evaluate).parameters} - {"progress"}


def test_numbers_lists_and_paths_mean_what_their_words_mean(tmp_path):
    stats = tmp_path / "task.jsonl"
    run = b1k_eval.evaluate(
        DrivePolicy(),
        task=np.int64(31),
        instances=np.arange(2),
        max_steps=np.int32(5),
        video=False,
        action_noise=0.01,
        mode="realtime",
        latency=100,
        out=tmp_path / "r",
    )
    settings = run.data[0].identity["settings"]
    found = {name: settings[name] for name in ("instances", "max_steps", "action_noise", "latency")}
    assert found == {
        "instances": [0, 1],
        "max_steps": 5,
        "action_noise": "0.01",
        "latency": "100",
    }
    assert "instances=0,1" in run.data[0].sessions[0]["argv"]
    with pytest.raises(UsageError, match=re.escape(str(stats))):
        b1k_eval.evaluate(DrivePolicy(), **SHORT, human_stats=stats)


def test_it_runs_until_it_is_decided_against_a_run():
    lazy = b1k_eval.evaluate(DrivePolicy(vx=0.01), instances=range(12), **SHORT)
    run = b1k_eval.evaluate(
        DrivePolicy(vx=1.0), instances=range(12), against=lazy, until_decided=True, **SHORT
    )
    assert 0 < len(run.episodes) < 12
    assert set(run.episodes.outcome) == {"success"}
    assert b1k_eval.compare(lazy, run).decided


def test_it_says_nothing_unless_asked(capfd):
    b1k_eval.evaluate(DrivePolicy(), **SHORT)
    assert capfd.readouterr() == ("", "")
    b1k_eval.evaluate(DrivePolicy(), **SHORT, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "episode 1 of 1: clean_boxing_gloves-0-0 success" in err


def test_in_a_notebook_whose_stream_calls_itself_a_terminal_progress_is_lines(monkeypatch):
    class Stream(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    for kernel in (False, True):
        monkeypatch.setattr(sys, "stderr", Stream())
        if kernel:
            monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
        b1k_eval.evaluate(DrivePolicy(), **SHORT, progress=True)
        assert ("\x1b" in sys.stderr.getvalue()) != kernel
    assert sys.stderr.getvalue().startswith("1 episode\nepisode 1 of 1: clean_boxing_gloves-0-0 ")


def test_ctrl_c_leaves_a_run_to_resume_from_python_and_not_from_the_command_line():
    policy = DrivePolicy(vx=1.0)
    calls = iter(range(100))
    infer = policy.infer

    def interrupted(seen):
        if next(calls) == 3:  # in the second episode: an episode is two inferences
            raise KeyboardInterrupt
        return infer(seen)

    policy.infer = interrupted
    with pytest.raises(KeyboardInterrupt, match=r"go on with b1k_eval.evaluate\(..., out='r', re"):
        b1k_eval.evaluate(policy, instances=range(3), out="r", **SHORT)
    assert outcomes(b1k_eval.load_run("r")) == ["success"]
    refused = CliRunner().invoke(app, ["run", "--resume", "--out", "r"])
    assert refused.exit_code == 2
    assert "was an object of a Python program, doubles.DrivePolicy: go on from Python" in (
        refused.stderr
    )
    run = b1k_eval.evaluate(policy, out="r", resume=True)
    assert outcomes(run) == ["success"] * 3
    policy.chunk_length = 7
    with pytest.raises(UsageError, match=r"policy\.chunk_length 8 -> 7"):
        b1k_eval.evaluate(policy, out=run, resume=True)


def test_a_policy_that_raises_fails_and_the_loop_goes_on():
    policy = DrivePolicy()

    def broken(_):
        raise ActionError("no idea")

    policy.infer = broken
    run = b1k_eval.evaluate(policy, **SHORT)
    assert outcomes(run) == ["failure"]
    assert "no idea" in run.episodes.message[0]


def test_an_object_that_reads_the_state_is_marked_as_ever():
    class Knowing(DrivePolicy, PrivilegedPolicy):
        def bind(self, privileged_state):
            self.state = privileged_state

    run = b1k_eval.evaluate(Knowing(vx=1.0), **SHORT)
    assert bool(run.summary.privileged[0])
    with pytest.raises(UsageError, match="reads the simulator's state"):
        b1k_eval.evaluate(Knowing(), **SHORT, track="standard")


def test_it_runs_in_any_thread():
    found = []
    thread = threading.Thread(
        target=lambda: found.append(b1k_eval.evaluate(DrivePolicy(vx=1.0), **SHORT))
    )
    thread.start()
    thread.join()
    assert outcomes(found[0]) == ["success"]


def test_an_object_without_a_name_is_told():
    policy = DrivePolicy()
    del policy.name, policy.chunk_length
    with pytest.raises(UsageError, match=r"doubles.DrivePolicy has no name and no chunk_length"):
        b1k_eval.evaluate(policy, **SHORT)


def test_what_the_package_gives_is_listed_and_a_slip_is_an_error():
    assert {"evaluate", "load_run", "compare", "Run", "Comparison"} <= {*dir(b1k_eval)}
    with pytest.raises(AttributeError, match="no attribute 'evaluat'"):
        b1k_eval.evaluat  # noqa: B018 - looking it up is the point
