"""The run folder: atomic, resumable, and suspicious of what it reads."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from b1k_envs.errors import UsageError
from b1k_eval import files
from b1k_eval.records import store
from b1k_eval.records.episode import EpisodeKey, EpisodeRecord
from b1k_eval.records.run_files import read_episodes, read_run
from b1k_eval.records.store import StorageError, disk_full, open_run

TASK = "clean_boxing_gloves"
PLAN = [EpisodeKey(TASK, instance, 0) for instance in range(4)]


def record(**identity):
    return {
        "format": 1,
        "identity": {"settings": {"seed": 0, "instances": [0, 1, 2, 3], **identity}},
        "sessions": [{"started_at": "now"}],
    }


def result(key, outcome="failure", **changes):
    fields = {
        **key._asdict(),
        "task_index": 31,
        "seed": 0,
        "outcome": outcome,
        "success": None if outcome == "error" else outcome == "success",
        "q_score": None if outcome == "error" else 0.5,
        "failure_reason": None,
        "message": None,
        "steps": 3,
        "simulated_s": 0.1,
        "privileged": False,
        "timing": {"wall_s": 1.0},
    }
    return EpisodeRecord(**{**fields, **changes})


def write(run, key, outcome="failure", **changes):
    folder = run.begin(key)
    content = result(key, outcome, **changes)
    (folder / "result.json").write_text(json.dumps(content.to_json()))
    run.commit(folder, content)


def lines(path):
    return [json.loads(line) for line in (path / "episodes.jsonl").read_text().splitlines()]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results" / "run"


@pytest.fixture
def made(path):
    """A run with three episodes of four: a failure, an error, a success; closed."""
    run = open_run(path, record(), resume=False)
    write(run, PLAN[0])
    write(run, PLAN[1], "error", message="EnvError: gone")
    write(run, PLAN[2], "success")
    run.close()
    return path


def test_a_line_repeats_the_result_and_stands_for_complete_files(made):
    found = read_episodes(made)
    assert list(found) == PLAN[:3]
    assert [line["outcome"] for line in found.values()] == ["failure", "error", "success"]
    for key in found:
        assert (made / "episodes" / f"{TASK}-{key.instance}-0" / "result.json").is_file()
    assert not list(made.rglob(".tmp-*"))


def test_a_resumed_run_does_the_missing_and_the_errors_and_no_others(made):
    run = open_run(made, record(), resume=True)
    assert run.pending(PLAN) == [PLAN[1], PLAN[3]]


def test_a_retried_error_takes_the_place_of_its_line_and_its_files(made):
    run = open_run(made, record(), resume=True)
    write(run, PLAN[1], "success", steps=9)
    assert [line["outcome"] for line in lines(made)] == ["failure", "success", "success"]
    content = json.loads((made / "episodes" / f"{TASK}-1-0" / "result.json").read_text())
    assert (content["outcome"], content["steps"]) == ("success", 9)
    assert not list(made.rglob(".tmp-*"))


def test_finish_puts_the_lines_into_the_order_of_the_plan(path):
    run = open_run(path, record(), resume=False)
    for key in (PLAN[2], PLAN[0], PLAN[3], PLAN[1]):
        write(run, key)
    run.finish(PLAN)
    assert [line["instance"] for line in lines(path)] == [0, 1, 2, 3]


def test_an_existing_run_is_not_started_again(made):
    text = f"{made} already holds a run: --resume continues it, another --out starts a new one"
    with pytest.raises(UsageError, match=f"^{re.escape(text)}$"):
        open_run(made, record(), resume=False)


def test_a_folder_with_other_things_is_left_alone(path):
    path.mkdir(parents=True)
    (path / "thesis.tex").write_text("precious")
    for resume in (False, True):
        with pytest.raises(UsageError, match=r"is not empty \(it has thesis.tex\) and holds no"):
            open_run(path, record(), resume=resume)
    assert [entry.name for entry in path.iterdir()] == ["thesis.tex"]  # and no lock of ours


def test_a_file_that_is_called_as_our_folder_is_another_thing(path):
    path.mkdir(parents=True)
    (path / "episodes").write_text("S01E01")
    with pytest.raises(UsageError, match=r"is not empty \(it has episodes\) and holds no run.json"):
        open_run(path, record(), resume=False)
    assert (path / "episodes").read_text() == "S01E01"


@pytest.mark.parametrize("leftover", [".lock", ".lock.owner", ".tmp-run.json"])
def test_a_start_that_was_killed_before_run_json_can_be_repeated(path, leftover):
    path.mkdir(parents=True)
    (path / leftover).write_text("")
    (path / "episodes").mkdir()
    for resume in (True, False):
        open_run(path, record(), resume=resume).close()
        assert read_run(path)["identity"]["settings"]["seed"] == 0
        (path / "run.json").unlink()


def test_resume_clears_away_what_a_kill_left_and_nothing_else(made):
    episodes = made / "episodes"
    (episodes / ".tmp-half").mkdir()
    (episodes / ".tmp-half" / "video.mp4").write_text("half")
    (episodes / f"{TASK}-3-0").mkdir()  # renamed, but killed before its line
    (episodes / "notes").mkdir()  # somebody's own
    (made / ".tmp-run.json").write_text("{")
    whole = (made / "episodes.jsonl").read_bytes()
    with (made / "episodes.jsonl").open("ab") as file:
        file.write(b'{"task": "clean_box')  # killed in the middle of a line
    run = open_run(made, record(), resume=True)
    run.clean(PLAN)
    assert sorted(e.name for e in episodes.iterdir()) == [
        *(f"{TASK}-{i}-0" for i in range(3)),
        "notes",
    ]
    assert (made / "episodes.jsonl").read_bytes() == whole
    assert not list(made.rglob(".tmp-*"))


def test_an_error_whose_files_were_being_replaced_is_retried(made):
    (made / "episodes" / f"{TASK}-1-0").rename(made / "episodes" / ".tmp-old")
    run = open_run(made, record(), resume=True)
    run.clean(PLAN)
    assert run.pending(PLAN) == [PLAN[1], PLAN[3]]


@pytest.mark.parametrize(
    ("number", "content", "problem"),
    [
        (2, b"\x00\x00\x00", "is damaged ("),
        (1, b"{broken", "is damaged ("),
        (1, b"[1, 2]", "is damaged (it is not a JSON object)"),
        (2, b'{"task": "x"}', "is damaged (it lacks 'task_index')"),
        (3, None, f"repeats episode {TASK}-0-0"),
    ],
)
def test_any_other_damage_names_file_line_and_what_to_do(made, number, content, problem):
    file = made / "episodes.jsonl"
    content_lines = file.read_bytes().splitlines()
    content_lines[number - 1] = content_lines[0] if content is None else content
    file.write_bytes(b"\n".join(content_lines) + b"\n")
    with pytest.raises(UsageError, match=re.escape(f"{file}, line {number} {problem}")) as error:
        open_run(made, record(), resume=True)
    assert str(error.value).endswith("remove that line and --resume: its episode will be run again")


def test_an_unknown_outcome_is_damage(made):
    file = made / "episodes.jsonl"
    text = file.read_text()
    file.write_text(text.replace('"outcome": "success"', '"outcome": "sucess"'))
    with pytest.raises(UsageError, match=r"line 3 is damaged .'outcome' is 'sucess', expected one"):
        read_episodes(made)


def test_a_line_without_its_files_is_damage(made):
    (made / "episodes" / f"{TASK}-2-0" / "result.json").unlink()
    with pytest.raises(UsageError, match=f"line 3 lists episode {TASK}-2-0, whose result.json is"):
        read_episodes(made)


def test_a_line_of_an_episode_that_is_not_of_the_run_is_damage_and_kept(made):
    run = open_run(made, record(), resume=True)
    before = (made / "episodes.jsonl").read_bytes()
    (made / "episodes" / ".tmp-half").mkdir()
    text = (
        f"{made / 'episodes.jsonl'}, line 3 lists episode {TASK}-2-0, which run.json does "
        "not list: remove that line and --resume"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(text)}$"):
        run.clean(PLAN[:2])
    assert (made / "episodes.jsonl").read_bytes() == before
    assert (made / "episodes" / ".tmp-half").is_dir()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "is damaged (it is not JSON (Expecting property name"),
        ("", "is damaged (it is not JSON (Expecting value"),
        ("[]", "is damaged (it is not a JSON object)"),
        ('{"format": 7}', "has format 7, this version reads 1"),
        ('{"format": 1}', "is damaged (it lacks 'identity')"),
        (
            '{"format": 1, "identity": {"seed": NaN}, "sessions": [{}]}',
            "is damaged (it is not JSON (it has NaN",
        ),
        (
            '{"format": 1, "identity": {"seed": 0}, "sessions": [{}, "x"]}',
            "is damaged (sessions[1] is 'x', not an object)",
        ),
    ],
)
def test_a_damaged_run_json_is_refused(made, content, problem):
    (made / "run.json").write_text(content)
    with pytest.raises(UsageError, match=re.escape(f"{made / 'run.json'} {problem}")) as error:
        open_run(made, record(), resume=True)
    assert str(error.value).endswith("restore the file, or start the run again under another --out")


def test_other_settings_are_refused_with_each_difference(made):
    with pytest.raises(UsageError) as error:
        open_run(made, record(seed=1, policy="zero"), resume=True)
    assert str(error.value) == (
        f"{made} was made with other settings and cannot be resumed with these: "
        'settings.seed 0 -> 1; settings.policy null -> "zero". '
        "Repeat the old ones, or choose another --out"
    )


def test_a_session_is_added_and_the_rest_of_run_json_stays(made):
    before = read_run(made)
    open_run(made, {**record(), "sessions": [{"started_at": "later"}]}, resume=True).close()
    after = read_run(made)
    assert [s["started_at"] for s in after["sessions"]] == ["now", "later"]
    assert after["identity"] == before["identity"]


def test_two_processes_cannot_write_one_run(made):
    code = (
        "import sys; from pathlib import Path; from b1k_eval.records.store import open_run\n"
        "from b1k_envs.errors import UsageError\n"
        "try: open_run(Path(sys.argv[1]), {}, resume=True)\n"
        "except UsageError as error: sys.stdout.write(str(error))"
    )
    run = open_run(made, record(), resume=True)
    command = [sys.executable, "-c", code, str(made)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert re.match(
        f"{re.escape(str(made))} is being written by process \\d+ on .*: wait for it, or choose",
        said,
    )
    run.close()
    open_run(made, record(), resume=True).close()


SAME_NAME = """
import sys; from pathlib import Path; from b1k_eval.records.store import open_run
record = {"format": 1, "identity": {"settings": {}}, "sessions": [{}]}
sys.stdout.write("ready\\n"); sys.stdout.flush()
sys.stdin.read(1)
sys.stdout.write(str(open_run(Path(sys.argv[1]), record, resume=False, beside=True).path))
sys.stdout.flush()
sys.stdin.read(1)
"""


@pytest.mark.slow
def test_many_processes_that_propose_one_name_get_a_folder_each(path):
    command = [sys.executable, "-c", SAME_NAME, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    some = [subprocess.Popen(command, **pipes) for _ in range(8)]
    for process in some:
        assert process.stdout.readline() == "ready\n"
    for process in some:  # all at once
        process.stdin.write(".")
        process.stdin.flush()
    got = [process.communicate(".", timeout=60)[0] for process in some]
    assert sorted(got) == sorted([str(path), *(f"{path}-{n}" for n in range(2, 9))])
    assert all(read_run(Path(folder)) for folder in got)


def no_flock(_file, _how):
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def test_a_folder_without_flock_is_written_by_one_process_and_this_is_remarked(path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", no_flock)
    run = open_run(path, record(), resume=False)
    assert f"{path} is on a file system without flock (Operation not supported)" in run.remark
    with pytest.raises(UsageError, match=f"is being written by process {os.getpid()} on .*: wait"):
        open_run(path, record(), resume=True)
    write(run, PLAN[0])
    run.close()
    assert open_run(path, record(), resume=True).pending(PLAN) == PLAN[1:]


def test_a_run_without_flock_that_another_machine_began_says_what_to_remove(path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", no_flock)
    open_run(path, record(), resume=False).close()
    owner = path / ".lock.owner"
    elsewhere = {"host": "node7", "boot": "b", "namespace": 1, "pid": 7, "started": 7}
    owner.write_text(json.dumps(elsewhere))
    text = (
        f"{path} may still be written by process 7 on node7: .lock.owner says so, and whether "
        f"that has ended cannot be told from here: wait for it, remove {owner} if you know that "
        "it has ended, or choose another --out"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(text)}$"):
        open_run(path, record(), resume=True)
    owner.unlink()
    open_run(path, record(), resume=True).close()


def test_a_lock_that_fails_otherwise_is_not_another_process(path, monkeypatch):
    def broken(_file, _how):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(UsageError, match=r"cannot be written \(Input/output error\): choose ano"):
        open_run(path, record(), resume=False)


def test_an_unwritable_place_is_wrong_usage(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot be written \(Not a directory\): choose another"):
        open_run(tmp_path / "file" / "run", record(), resume=False)


def full(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("beside", [False, True])
def test_a_full_disk_is_found_before_the_first_episode_and_a_second_start_is_free(
    path, monkeypatch, beside
):
    monkeypatch.setattr(files.os, "fsync", full)
    text = (
        f"no space left to write {path}: free some space, then start again, or choose another --out"
    )
    with pytest.raises(StorageError, match=f"^{re.escape(text)}$"):
        open_run(path, record(), resume=False, beside=beside)
    assert not path.exists()
    monkeypatch.undo()
    assert open_run(path, record(), resume=False, beside=beside).path == path


def test_a_full_disk_takes_nothing_away_from_a_run_that_is_there(made, monkeypatch):
    before = {file: file.read_bytes() for file in made.rglob("*.json*")}
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StorageError, match=r"free some space, then --resume$"):
        open_run(made, record(), resume=True)
    assert {file: file.read_bytes() for file in made.rglob("*.json*")} == before
    monkeypatch.undo()
    assert open_run(made, record(), resume=True).pending(PLAN) == [PLAN[1], PLAN[3]]


def test_an_empty_folder_of_somebody_elses_stays_after_a_start_that_failed(path, monkeypatch):
    path.mkdir(parents=True)
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StorageError):
        open_run(path, record(), resume=False)
    assert path.is_dir()
    monkeypatch.undo()
    open_run(path, record(), resume=False).close()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of three megabytes; needs the right to mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("no file system may be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.parametrize("left", [0, 8192])
def test_on_a_disk_that_is_really_full_nothing_is_left_and_freeing_some_space_helps(
    small_disk, left
):
    ballast = small_disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    os.truncate(ballast, ballast.stat().st_size - left)
    for beside in (False, True):
        with pytest.raises(StorageError, match="free some space, then start again"):
            open_run(small_disk / "run", record(), resume=False, beside=beside)
    assert list(small_disk.iterdir()) == [ballast]
    ballast.unlink()
    run = open_run(small_disk / "run", record(), resume=False)
    write(run, PLAN[0])


def test_a_disk_that_fills_up_leaves_no_line(path, monkeypatch):
    run = open_run(path, record(), resume=False)
    write(run, PLAN[0])
    folder = run.begin(PLAN[1])
    (folder / "result.json").write_text("{}")
    monkeypatch.setattr(store, "_fsync_file", full)
    with pytest.raises(StorageError, match=r"free some space, then --resume$"):
        run.commit(folder, result(PLAN[1]))
    assert len(lines(path)) == 1


def test_a_line_that_is_taken_in_pieces_is_whole(path, monkeypatch):
    run = open_run(path, record(), resume=False)
    write(run, PLAN[0])
    whole_write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: whole_write(handle, data[:7]))
    write(run, PLAN[1])
    monkeypatch.undo()
    assert [line["instance"] for line in lines(path)] == [0, 1]


@pytest.mark.parametrize("taken", [0, 7])
def test_a_disk_that_takes_only_a_part_of_a_line_gives_it_back(path, monkeypatch, taken):
    run = open_run(path, record(), resume=False)
    write(run, PLAN[0])
    before = (path / "episodes.jsonl").read_bytes()
    whole_write = os.write
    answers = iter([taken])

    def short(handle, data):
        part = next(answers, None)
        return full() if part is None else whole_write(handle, data[:part])

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(StorageError, match=r"^no space left .* free some space, then --resume$"):
        write(run, PLAN[1])
    monkeypatch.undo()
    assert (path / "episodes.jsonl").read_bytes() == before
    assert list(run.episodes) == PLAN[:1]
    run.close()
    again = open_run(path, record(), resume=True)
    again.clean(PLAN)
    write(again, PLAN[1])
    assert [line["instance"] for line in lines(path)] == [0, 1]


def test_other_refusals_of_the_file_system_name_the_file(path, monkeypatch):
    run = open_run(path, record(), resume=False)

    def refuse(_file):
        raise PermissionError(errno.EACCES, "Permission denied", "/run/video.mp4")

    folder = run.begin(PLAN[0])
    (folder / "video.mp4").write_text("")
    monkeypatch.setattr(store, "_fsync_file", refuse)
    with pytest.raises(
        StorageError, match=r"^/run/video.mp4 cannot be written \(Permission denied"
    ):
        run.commit(folder, result(PLAN[0]))


def test_a_full_disk_is_recognised_behind_another_exception():
    wrapped = RuntimeError("wrapped")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert disk_full(wrapped)
    assert not disk_full(PermissionError(errno.EACCES, "no"))


def test_an_atomic_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "result.json"
    files.write_atomic(target, b"old")
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomic(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_json_without_infinity_or_nan():
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            files.to_json({"q": value})


def test_folder_names_follow_the_task():
    assert EpisodeKey("hiding_Easter_eggs", 12, 3).folder == "hiding_Easter_eggs-12-3"
    assert Path("episodes") / PLAN[0].folder == Path(f"episodes/{TASK}-0-0")
