"""Terminals and pipes that are not Unicode, and texts that are no text: nothing crashes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_folders import finished_run

from b1k_eval.cli import console as output
from b1k_eval.cli import doctor
from b1k_eval.cli.checkpoints import contract
from b1k_eval.cli.main import VERBS
from b1k_eval.cli.results import compare
from b1k_eval.cli.results.pairs import show_pair
from b1k_eval.cli.running import run, smoke
from b1k_eval.comparison.summary import summarise_runs
from b1k_eval.doctor import Check, Verdict
from b1k_eval.files import to_json
from b1k_eval.records.episode import EpisodeKey, EpisodeRecord
from b1k_eval.records.loading import read_run_data
from b1k_eval.run.progress.displays import LiveReporter, PlainReporter
from b1k_eval.run.progress.snapshot import EpisodeProgress
from b1k_eval.streams import take_every_text
from b1k_policies.contract.resolved import ConflictRow
from b1k_policies.contract.resolving import resolve

ENCODINGS = ["ascii", "latin-1", "utf-8"]

# Any code point at all, those that stand for a byte of a path, and what consoles give a meaning to.
ODD = "[/] [/x] [bold] :smile: \\ \x1b[31m \r \0 é … ━ 💥 \udcff"
texts = st.one_of(
    st.text(st.characters(), max_size=30),
    st.text(st.sampled_from("\udc80\udcff\ud800é…━💥[/]:\\\x1b"), max_size=30),
    st.sampled_from(ODD.split(" ")),
    st.just(ODD),
)

single = texts.filter(lambda text: not re.search("[\ud800-\udbff][\udc00-\udfff]", text))
"""Without two halves of one character, which JSON takes for that character."""


@contextlib.contextmanager
def terminal(encoding):
    """Both streams of an encoding, as the entry point sets them; gives standard output's bytes."""
    out, err = io.BytesIO(), io.BytesIO()
    before = sys.stdout, sys.stderr
    sys.stdout = io.TextIOWrapper(out, encoding=encoding, write_through=True)
    sys.stderr = io.TextIOWrapper(err, encoding=encoding, write_through=True)
    try:
        take_every_text()
        yield out
    finally:
        sys.stdout.detach()
        sys.stderr.detach()
        sys.stdout, sys.stderr = before


def line(text):
    """A line of episodes.jsonl with a text wherever it has one."""
    return {
        "task": text, "task_index": 31, "instance": 0, "rollout": 0, "seed": 0,
        "outcome": "failure", "success": False, "q_score": 0.0, "privileged": False, "steps": 1,
        "simulated_s": 1.0, "failure_reason": text, "message": text,
        "timing": {"wall_s": 1.0},
    }  # fmt: skip


def spoilt(value, text):
    """A document with a text in place of every text in it."""
    if isinstance(value, dict):
        return {name: spoilt(inner, text) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [spoilt(inner, text) for inner in value]
    return text if isinstance(value, str) else value


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """What `compare` shows of two runs."""
    folder = tmp_path_factory.mktemp("runs")
    outcomes = {number: "success" if number % 3 else "failure" for number in range(6)}
    runs = [read_run_data(finished_run(folder / name, outcomes)) for name in ("a", "b")]
    document = summarise_runs(runs, seed=0, level=0.95, mix=False)
    document["funnels"] = [None, None]
    for row in document["runs"]:
        row["failures"] = {"dropped": 1}
    return document


def print_everything(text, comparison):
    """Every table and text of the verbs, with `text` in each place that is not ours."""
    console = output.out_console()
    output.say_remark(text)
    output.report_error(text, text, 2, wants_json=False)
    difference = ConflictRow(name=text, where=text, stated=text, other_where=text, other=text)
    output.show_differences(console, [difference])
    checks = [smoke.SmokeCheck(name=text, passed=True, detail=text, seconds=1.0)]
    smoke._report(checks, json_output=False)
    doctor._show(
        console,
        (Check(name=text, state="missing", detail=text, advice=text),),
        (Verdict(subject="mujoco", ready=False, text=text, steps=(text,), remarks=(text,)),),
    )
    resolved = resolve(None, contract="v4")
    contract.show_contract(console, text, replace(resolved, remarks=(text,)))
    document = spoilt(comparison, text)
    console.print(compare._runs_table(document))
    for pair in document["pairs"]:
        show_pair(console, pair)
    for row in document["runs"]:
        for remark in compare._warnings(row):
            output.say_remark(remark)

    key = EpisodeKey(text, 0, 0)
    task = SimpleNamespace(
        task=text,
        track=text,
        sim="mujoco",
        protocol=text,
        split=text,
        checkpoint=None,
        rollouts=2,
        max_steps=1,
    )
    shown = SimpleNamespace(
        store=SimpleNamespace(
            path=Path("/" + re.sub("[\0\ud800-\udc7f\udd00-\udfff]", "-", text)),
            record={"identity": {"privileged": True}, "sessions": [{}]},
            episodes={key: line(text)},
        ),
        settings=task,
        plan=[SimpleNamespace(task=text)],
        policy=SimpleNamespace(name=text),
        written=None,
        label=text,
        remarks=(text,),
        standing=lambda: None,
    )
    read = SimpleNamespace(
        key=key, outcome="failure", failure_reason=None, message=text, diagnosis={"words": text},
        reached="0 of 1", subgoals={text: None},
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        # A folder cannot have every text in its name.
        patch.setattr(run, "read_tasks", lambda _: [SimpleNamespace(episodes=[read])])
        for tasks, json_output in product(([task], [task, task]), (False, True)):
            shown.tasks = tasks
            run._conclude(shown, json_output=json_output, stop=output.Terminated())
    for reporter in (
        PlainReporter(output.err_console()),
        LiveReporter(output.err_console()),
    ):
        reporter.run_started(1, 0, 10, 1)
        reporter.episode_started(key)
        reporter.step(key, EpisodeProgress(3, 0.5, text, 0.5))
        if isinstance(reporter, LiveReporter):
            console.print(reporter._render())
        reporter.note(text)
        reporter.episode_ended(EpisodeRecord.from_json(line(text), line=True))
        reporter.close()


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ENCODINGS)
@given(text=texts)
@settings(max_examples=12, deadline=None)
def test_every_table_and_text_takes_every_character(comparison, encoding, text):
    with terminal(encoding) as out:
        print_everything(text, comparison)
    out.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(text=single)
@settings(max_examples=100, deadline=None)
def test_the_document_is_json_on_every_stream_and_has_the_text_as_it_was(encoding, text):
    with terminal(encoding) as out:
        output.print_json({"path": text, text: 1})
    assert json.loads(out.getvalue().decode(encoding)) == {"path": text, text: 1}


@given(text=single)
def test_a_file_of_ours_has_every_text_as_it_was(text):
    data = to_json({"path": text}).encode("utf-8")
    assert json.loads(data.decode("utf-8")) == {"path": text}


def test_names_with_brackets_and_colons_are_printed_as_they_are():
    with terminal("utf-8") as out:
        output.out_console().print("a[/b] [bold]c :smile: d\\[e]")
    assert out.getvalue().decode().rstrip() == "a[/b] [bold]c :smile: d\\[e]"


COMMANDS = [
    *(([verb, "--help"], 0) for verb in VERBS),
    (["--help"], 0),
    (["tasks"], 0),
    (["tasks", "--json"], 0),
    (["contract", "v4"], 0),
    (["contract", "diff", "v4", "v17"], 0),
    (["run", "--task", "é…"], 2),
    (["run", "--é"], 2),
    (["ü"], 2),
    (["published"], 0),
    (["compare", "é", "ü"], 2),
    (["compare", "é", "published:ü"], 2),
    (["replay", "é", "[/]"], 2),
    (["run", "--task", "31", "--policy", "replay:\udcff[/b].npy", "--json"], 2),
    (["run", "--task", "31", "--policy", "hold", "--out", "taken", "--json"], 2),
    (["report", "\udce9"], 2),
    (["import", "\udce9", "--json"], 2),
    (["export", "\udce9", "--track", "standard", "--team", "é", "--affiliation", "A"], 2),
    (["inspect", "\udce9", "--json"], 2),
    (["contract", "\udce9/ü"], 2),
    (["smoke", "--policy", "é"], 2),
    (["serve", "--policy", "replay:\udce9"], 2),
]
ALL_OF_THEM = """
import ast, sys
from b1k_eval.cli.main import main
for words in ast.literal_eval(sys.argv[1]):
    sys.argv = ["b1k-eval", *words]
    try:
        main()
    except SystemExit as end:
        sys.stderr.write(f"ended with {end.code}\\n")
"""


@pytest.mark.slow
def test_every_verb_speaks_to_a_terminal_that_is_not_unicode(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thésis.tex").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", ALL_OF_THEM, ascii([words for words, _ in COMMANDS])],
        cwd=tmp_path,
        env=os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        capture_output=True,
        check=False,
        timeout=300,
    )
    said, errors = done.stdout.decode("ascii"), done.stderr.decode("ascii")
    assert done.returncode == 0, errors
    assert "Traceback" not in errors
    codes = [int(code) for code in re.findall(r"^ended with (\d+)$", errors, re.MULTILINE)]
    assert codes == [code for _, code in COMMANDS], errors
    assert '"index": 31' in said
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
