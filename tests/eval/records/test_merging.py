"""Shards are made one run, equal to the whole one; what does not belong together is refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from doubles import make_toy_env
from run_folders import contents, finished_run
from typer.testing import CliRunner

from b1k_envs.claims import claim
from b1k_envs.errors import UsageError
from b1k_eval.cli.main import app
from b1k_eval.records.loading import read_run_data
from b1k_eval.records.merging import merge_runs
from b1k_eval.records.run_files import read_episodes
from b1k_eval.run import simulators
from b1k_eval.selection import share

EPISODES = range(7)


def shard(folder: Path, number: int, count: int = 3, **changes) -> Path:
    """A finished shard of a run of seven instances, of which the odd ones are successes."""
    name = f"{number}/{count}"
    outcomes = {n: "success" if n % 2 else "failure" for n in share(EPISODES, name)}
    made = finished_run(folder / f"shard-{number}-{count}", outcomes)
    record = json.loads((made / "run.json").read_text())
    record["identity"]["settings"].update(shard=name, instances=list(EPISODES), **changes)
    record["sessions"] = [{"execution": {}, "host": name}]
    (made / "run.json").write_text(json.dumps(record))
    return made


def refused(*paths, **options) -> str:
    with pytest.raises(UsageError) as caught:
        merge_runs(paths, paths[0].parent / "all", **options)
    assert not (paths[0].parent / "all").exists()
    return str(caught.value)


@pytest.mark.parametrize(("plan", "count"), [(7, 3), (40, 5), (3, 8), (0, 2), (1000, 999)])
def test_shares_cover_a_plan_once_and_are_as_equal_as_can_be(plan, count):
    shares = [share(range(plan), f"{number}/{count}") for number in range(count)]
    assert [each for part in shares for each in part] == list(range(plan))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert share(range(plan), None) == range(plan)


def test_shards_become_one_run_in_the_order_of_the_plan(tmp_path):
    shards = [shard(tmp_path, number) for number in (2, 0, 1)]
    merged = merge_runs(shards, tmp_path / "all")
    assert merged.missing == ()
    run = read_run_data(tmp_path / "all")
    assert [key.instance for key in run.plan] == list(EPISODES)
    assert [(each.instance, each.outcome) for each in run.episodes] == [
        (n, "success" if n % 2 else "failure") for n in EPISODES
    ]
    assert (run.pending, run.damaged) == ((), ())
    assert [session["host"] for session in run.sessions] == ["0/3", "1/3", "2/3"]
    for number, folder in zip((2, 0, 1), shards, strict=True):
        assert [e.instance for e in read_run_data(folder).episodes] == list(
            share(EPISODES, f"{number}/3")
        )


def test_what_is_missing_is_said_and_allowed_with_partial(tmp_path):
    first, last = shard(tmp_path, 0), shard(tmp_path, 2)
    lines = (last / "episodes.jsonl").read_text().splitlines(keepends=True)
    (last / "episodes.jsonl").write_text("".join(lines[1:]))
    missing = (
        "no folder was given for shard 1/3",
        f"{last} (shard 2/3) lacks 1 of its 3 episodes, which `b1k-eval run --resume --out {last}` "
        "does",
    )
    assert refused(first, last) == (
        f"the run is not complete: {'; '.join(missing)}. Finish that, or merge what is there with "
        "--partial"
    )
    merged = merge_runs([first, last], tmp_path / "all", partial=True)
    assert merged.missing == missing
    assert [key.instance for key in read_run_data(tmp_path / "all").pending] == [2, 3, 4]


def test_shards_of_different_settings_are_refused_by_name(tmp_path):
    first, other = shard(tmp_path, 0), shard(tmp_path, 1, seed=5, horizon=3)
    assert refused(first, other) == (
        f"{first} and {other} are not shares of one run: settings.horizon 10 -> 3; "
        "settings.seed 0 -> 5"
    )


def test_overlapping_shards_are_refused(tmp_path):
    first, other = shard(tmp_path, 0), shard(tmp_path, 0, 4)
    assert refused(first, other) == (
        f"{first} is shard 0/3 and {other} shard 0/4: shares of different divisions overlap; "
        "merge those of one"
    )
    assert refused(first, first) == (
        f"{first} and {first} are both shard 0/3: their episodes are the same; leave one of them "
        "out"
    )


def test_a_whole_run_a_damaged_one_and_one_that_is_being_written_are_refused(tmp_path):
    whole = finished_run(tmp_path / "whole", {0: "success"})
    assert refused(whole) == f"{whole} is a whole run, not a share of one (--shard): leave it out"
    first = shard(tmp_path, 0)
    held = claim(first / ".lock")
    assert refused(first).startswith(f"{first} is being written by process ")
    held.close()
    (first / "episodes" / "clean_boxing_gloves-1-0" / "result.json").write_text("{}")
    assert refused(first).startswith(f"{first}: clean_boxing_gloves-1-0 is damaged (")
    assert refused(tmp_path / "none") == f"{tmp_path / 'none'} holds no run: it has no run.json"


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("/", "--shard '/': give I/N, such as 0/5 for the first of five shares (in a Slurm array "
         "job $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT)"),
        ("5/5", "--shard 5/5: shares are counted from 0, so that N=5 has I from 0 to 4 (in Slurm "
         "--array=0-4)"),
        ("0/0", "--shard 0/0: N must be at least 1"),
    ],
)  # fmt: skip
def test_what_is_no_shard_is_refused(word, told):
    result = CliRunner().invoke(app, ["run", "--task", "31", "--policy", "hold", "--shard", word])
    assert (result.exit_code, result.stderr) == (2, f"error: {told}\n")


SLOW = Path(__file__).parents[2] / "support" / "stopped_verb.py"
RUN = ["run", "--task", "31,0", "--policy", "random", "--no-video", "--max-steps", "30"]


@pytest.mark.slow
def test_five_shards_of_which_one_is_killed_and_resumed_equal_the_whole_run(tmp_path, monkeypatch):
    monkeypatch.setattr(simulators, "make_env", make_toy_env)
    monkeypatch.chdir(tmp_path)

    def b1k_eval(*words: str) -> str:
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
        return result.stdout

    run = [*RUN, "--instances", "0-1", "--rollouts", "2"]
    b1k_eval(*run, "--out", "whole")
    shards = [f"shard-{number}" for number in range(5)]
    for number, folder in enumerate(shards):
        words = [*run, "--shard", f"{number}/5", "--out", folder, "--resume"]
        if number == 3:
            slow = subprocess.Popen(
                [sys.executable, str(SLOW), *words], stderr=subprocess.PIPE, text=True
            )
            for line in slow.stderr or ():
                if line.startswith("episode 1 of 2: "):
                    slow.kill()
            assert slow.wait() == -signal.SIGKILL
            assert len(read_episodes(Path(folder))) == 1
        b1k_eval(*words)
    document = json.loads(b1k_eval("merge", *shards, "--out", "all", "--json"))
    assert document["missing"] == []
    assert sum(document["counts"].values()) == 8
    whole, merged = contents(Path("whole")), contents(Path("all"))
    assert [each["shard"] for each in merged["run.json"].pop("merged_from")] == [
        f"{number}/5" for number in range(5)
    ]
    assert merged == whole
    b1k_eval("run", "--resume", "--out", "all")  # it is a run like any other
    merged = contents(Path("all"))
    merged["run.json"].pop("merged_from")
    assert merged == whole
