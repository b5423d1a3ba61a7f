"""Claims that let only one process at a time use a folder, made on a file that stands for it.

A claim is the file's `flock`, which the kernel drops when the process ends, however it ends. Some
mounts have no locks (Lustre without `-o flock`, NFS whose lock service is down, file systems in
user space): flock(2) and open(2) of Linux name ENOLCK, ENOSYS, EOPNOTSUPP and EINVAL. There the
claim is a second file, created only if it does not exist (`O_EXCL`, exclusive over NFS from version
3 on), which says which process made it. It is taken over only from a process that is provably gone:
one of this machine, boot and process namespace that /proc no longer has. About any other process
nothing can be known from here, and a person is asked.

What a pass does not prove: that no process on another machine has the claim, if that machine's
mount of the folder has locks, or has locks that only it sees.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import IO

OWNER_SUFFIX = ".owner"
"""Ending of the second file's name, which begins with the claimed file's name."""

_TAKEOVER_SUFFIX = ".takeover"
_TAKEN = (errno.EWOULDBLOCK, errno.EACCES)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
_ATTEMPTS = 10
_ENDED = 0

_LOOK_S = 0.05
"""How long a taken lock is asked for again [s]: `held` takes it for some microseconds."""


class ClaimedError(Exception):
    """Another process has the file.

    Attributes:
        owner: The other process, in words.
        remove: The file that holds the claim of a process that may have ended long ago. Whoever
            knows that it has ended may remove the file. None where the process is known to run.
    """

    def __init__(self, owner: str, remove: Path | None = None) -> None:
        super().__init__(f"claimed by {owner}")
        self.owner = owner
        self.remove = remove


@dataclass(frozen=True, kw_only=True)
class _Owner:
    """What tells a process from every other one.

    Attributes:
        host: Name of its machine, for people.
        boot: Id of the machine's present boot, which also identifies the machine.
        namespace: Id of the namespace of its process number; a container has its own.
        pid: Its process number.
        started: Its start, in ticks since boot, because process numbers are used again.
    """

    host: str
    boot: str
    namespace: int
    pid: int
    started: int

    @classmethod
    def this(cls) -> _Owner:
        return cls(
            host=os.uname().nodename,
            boot=_boot(),
            namespace=_namespace(),
            pid=os.getpid(),
            started=_started(os.getpid()) or _ENDED,
        )

    def lives(self) -> bool | None:
        """Return whether the process still runs; None where that cannot be known from here."""
        near = (self.boot, self.namespace) == (_boot(), _namespace())
        if not (self.boot and self.started and near):
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # it exists but is another user's, and /proc may hide it
            pass
        started = _started(self.pid)
        return None if started is None else started == self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Claim:
    """A claimed file, until `close`.

    Attributes:
        name: Path of the file.
        remark: Something unusual about the claim that a person should know, or None.
    """

    def __init__(self, file: IO[str], owned: Path | None = None, remark: str | None = None) -> None:
        """Use `claim`."""
        self.name = file.name
        self.remark = remark
        self._file = file
        self._owned = owned

    @property
    def closed(self) -> bool:
        """Whether the claim was released."""
        return self._file.closed

    def close(self) -> None:
        """Release the claim; safe to call twice."""
        if not self._file.closed and self._owned is not None:
            with suppress(OSError):
                self._owned.unlink()
        self._file.close()


def claim(path: Path) -> Claim:
    """Claim a file, create it if necessary, and write into it which process has it.

    Raises:
        ClaimedError: Another process has it.
        OSError: The file system fails in another way.
    """
    file = path.open("a+", encoding="utf-8")
    try:
        try:
            _lock(file)
        except OSError as error:
            # Only a taken lock means another process; ENOLCK and the like mean that there are none.
            if error.errno in _TAKEN:
                file.seek(0)
                raise ClaimedError(file.read().strip() or "another process") from error
            if error.errno not in _NO_LOCKS:
                raise
            owned = path.with_name(path.name + OWNER_SUFFIX)
            _own(owned)
            remark = (
                f"{path.parent} is on a file system without flock ({error.strerror}): the file "
                f"{owned.name} keeps other processes out, and stays behind if this one is killed"
            )
            return Claim(file, owned, remark)
        # The lock is on the open file: if the path names another file by now, it protects nothing.
        if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
            raise ClaimedError("another process, which has removed it meanwhile")
        with suppress(OSError):  # the text is for people only, and the disk may be full
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"{_Owner.this()}\n".encode())
        return Claim(file)
    except BaseException:
        file.close()
        raise


def held(path: Path) -> bool | None:
    """Return whether a process has the file; None where that cannot be known from here.

    Nothing is written. What it says may be over when it is read.
    """
    owner = _read(path.with_name(path.name + OWNER_SUFFIX))
    if owner is not None:
        return owner.lives()
    try:
        with path.open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError as error:
        return True if error.errno in _TAKEN else None
    return False


def _lock(file: IO[str]) -> None:
    until = monotonic() + _LOOK_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _TAKEN or monotonic() > until:
                raise
            sleep(_LOOK_S / 10)
        else:
            return


def _own(path: Path) -> None:
    """Create the file that says who has the claim, or take it over from a process that is gone.

    Raises:
        ClaimedError: Another process has it, or is taking it over.
        OSError: It cannot be created.
    """
    me = _Owner.this()
    for _ in range(_ATTEMPTS):
        if _create(path, me):
            return
        owner = _read(path)
        if owner is None:
            if path.exists():  # being written, or left so by a machine that lost power
                raise ClaimedError("another process", path)
            continue
        lives = owner.lives()
        if lives is not False:
            raise ClaimedError(str(owner), None if lives else path)
        # Two processes may find it abandoned. Only the one that creates the successor replaces it;
        # a process that comes too late finds another owner in the file.
        successor = path.with_name(path.name + _TAKEOVER_SUFFIX)
        if not _create(successor, me):
            raise ClaimedError("another process", successor)
        if _read(path) == owner:
            successor.replace(path)
            return
        successor.unlink()
    raise ClaimedError("other processes, which come and go", path)


def _create(path: Path, owner: _Owner) -> bool:
    """Write the owner's file; return False where it already exists."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(asdict(owner)) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise
    return True


def _read(path: Path) -> _Owner | None:
    """Read which process a file names; None where there is no file, or it names none."""
    try:
        owner = _Owner(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    numbers = (owner.namespace, owner.pid, owner.started)
    whole = all(type(number) is int and 0 <= number < 1 << 63 for number in numbers)
    return owner if whole and 0 < owner.pid < 1 << 31 else None


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _namespace() -> int:
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0


def _started(pid: int) -> int | None:
    """Read when a process was started, field 22 of proc(5)'s stat.

    Returns:
        Ticks since boot; `_ENDED` for a zombie, which has ended and not been waited for; None
        where it cannot be read.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # Split after the last bracket, because the process's name may have spaces and brackets.
    state, *numbers = text.rpartition(")")[2].split()
    return _ENDED if state in "ZX" else int(numbers[18])
