"""One process at a time: with flock, and on file systems that have none."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest

from b1k_envs import claims
from b1k_envs.claims import ClaimedError, claim

NO_FLOCK = """
import errno, fcntl, os, sys
def no_flock(file, how):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
fcntl.flock = no_flock
"""
CLAIM = """
from pathlib import Path
from b1k_envs.claims import ClaimedError, claim
try:
    held = claim(Path(sys.argv[1]))
except ClaimedError as error:
    sys.stdout.write(f"no: {error.owner}, {error.remove}")
    sys.exit()
sys.stdout.write("claimed")
sys.stdout.flush()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".lock"


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP])
def no_flock(request, monkeypatch):
    """A mount without locks, as the system says it."""

    def refuse(_file, _how):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.fixture
def no_locks(monkeypatch):
    def refuse(_file, _how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)


def another(path, then="", *, flock=False):
    """A process that claims the file too; it has begun, and said whether it could."""
    code = (NO_FLOCK if not flock else "import sys") + CLAIM + textwrap.dedent(then)
    command = [sys.executable, "-c", code, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


def test_a_file_is_claimed_by_one_process_until_it_lets_go(path):
    held = claim(path)
    assert held.remark is None
    assert path.read_text() == f"process {os.getpid()} on {os.uname().nodename}\n"
    told, _ = another(path, flock=True).communicate(timeout=60)
    assert told == f"no: process {os.getpid()} on {os.uname().nodename}, None"
    held.close()
    held.close()
    told, _ = another(path, flock=True).communicate(timeout=60)
    assert told == "claimed"
    assert [file.name for file in path.parent.iterdir()] == [".lock"]


def test_without_flock_a_file_keeps_others_out_and_is_gone_afterwards(path, no_flock):
    held = claim(path)
    assert "is on a file system without flock (" in held.remark
    told, _ = another(path).communicate(timeout=60)
    assert told == f"no: process {os.getpid()} on {os.uname().nodename}, None"
    held.close()
    assert [file.name for file in path.parent.iterdir()] == [".lock"]
    claim(path).close()


def test_without_flock_a_killed_process_does_not_keep_its_claim(path, no_locks):
    process = another(path, "input()")
    assert process.stdout.read(7) == "claimed"
    with pytest.raises(ClaimedError, match=f"claimed by process {process.pid} on "):
        claim(path)
    process.send_signal(signal.SIGKILL)
    while (state := claims._started(process.pid)) not in (claims._ENDED, None):
        assert state  # dying; it is not waited for, so it stays as a zombie
    claim(path).close()
    process.communicate()
    assert [file.name for file in path.parent.iterdir()] == [".lock"]


def test_without_flock_a_number_that_another_process_got_since_is_no_owner(path, no_locks):
    owner = claims._Owner.this()
    owned = path.with_name(".lock.owner")
    owned.write_text(json.dumps({**owner.__dict__, "started": owner.started - 1}))
    claim(path).close()


@pytest.mark.parametrize(
    ("change", "who"),
    [
        ({"boot": "another", "host": "node7"}, "process {pid} on node7"),
        ({"namespace": 1}, "process {pid} on {host}"),
        (None, "another process"),
    ],
)
def test_without_flock_what_cannot_be_seen_from_here_is_left_to_a_person(
    path, no_locks, change, who
):
    owner = claims._Owner.this().__dict__
    owned = path.with_name(".lock.owner")
    owned.write_text("" if change is None else json.dumps({**owner, **change}))
    with pytest.raises(ClaimedError) as error:
        claim(path)
    assert error.value.owner == who.format(**owner)
    assert error.value.remove == owned
    error.value.remove.unlink()  # as it says
    claim(path).close()


@pytest.mark.parametrize("content", ['{"pid": 1}', "[]", '{"host": "h", "boot": "b", '])
def test_without_flock_a_file_that_names_no_process_is_left_to_a_person(path, no_locks, content):
    path.with_name(".lock.owner").write_text(content)
    with pytest.raises(ClaimedError, match="claimed by another process"):
        claim(path)


def test_without_flock_one_of_many_gets_it_however_often_the_last_one_was_killed(path, no_locks):
    """Several processes at once find an owner that is gone; each round kills the one that won."""
    for _ in range(5):
        some = [another(path, "input()") for _ in range(6)]
        with ThreadPoolExecutor(len(some)) as pool:
            said = list(pool.map(lambda process: process.stdout.read(7), some))
        winners = [process for process, word in zip(some, said, strict=True) if word == "claimed"]
        assert len(winners) == 1, said
        for process in some:
            process.kill()
            process.communicate()
    claim(path).close()


def test_another_refusal_is_not_taken_for_another_process(path, monkeypatch):
    def broken(_file, _how):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="Input/output error"):
        claim(path)


def test_a_file_that_is_removed_while_it_is_claimed_is_not_claimed(path, monkeypatch):
    real = fcntl.flock

    def late(file, how):
        real(file, how)
        path.unlink()
        path.write_text("another file of this name")

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(ClaimedError, match="has removed it meanwhile"):
        claim(path)
