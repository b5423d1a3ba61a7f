"""A verb's command line comes from where its options are declared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer.testing import CliRunner

from b1k_eval.cli.main import command
from b1k_eval.cli.options import JsonOption, Options, Typed, spelled_out
from b1k_eval.execution import Execution
from b1k_eval.settings import RunSettings
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.options import declared


def parameters(verb):
    return {each.name: each for each in command(verb).params}


def test_run_has_every_option_that_is_recorded_with_its_help():
    shown = parameters("run")
    for kind in (RunSettings, Execution, CheckpointRequest):
        for name, each in declared(kind).items():
            if each.option is not None:
                assert (shown[name].help, shown[name].opts[0]) == (
                    each.option.help,
                    each.flag.partition("/")[0],
                )


def test_verbs_with_a_checkpoint_have_the_same_options_of_it():
    run = parameters("run")
    for verb, missing in (("serve", set()), ("inspect", {"compile"})):
        for name in declared(CheckpointRequest).keys() - {"ckpt"} - missing:
            other = parameters(verb)[name]
            assert (other.opts, other.help) == (run[name].opts, run[name].help), (verb, name)


def test_a_verb_gets_what_was_typed_and_nothing_else(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    got = []

    def try_it(
        out: Path | None = None,
        *,
        asked: Annotated[
            Typed, Options(RunSettings, but=("task", "settings"), seed={"preset": 7, "help": "S."})
        ],
        how: Annotated[Typed, Options(Execution, "video", "gpus")],
        json_output: JsonOption = False,
    ) -> None:
        got.append((out, asked, how, json_output))

    app = typer.Typer()
    app.command()(spelled_out(try_it))

    def run(*words):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        return got.pop()

    assert run() == (None, {"seed": 7}, {}, False)
    words = ("--no-video", "--rollouts", "2", "--human-stats", "~/x", "--ckpt", "a", "--out", "~/r")
    stats = tmp_path / "x"
    asked = {"seed": 7, "rollouts": 2, "human_stats": stats, "ckpt": "a"}
    assert run(*words) == (tmp_path / "r", asked, {"video": False}, False)
    refused = CliRunner().invoke(app, ["--workers", "2"])
    assert refused.exit_code == 2
    assert "seed" in CliRunner().invoke(app, ["--help"]).output
