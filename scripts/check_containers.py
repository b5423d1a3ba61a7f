"""Execute the steps of this project's Dockerfiles in a bare Debian tree: there is no Docker here.

    python scripts/check_containers.py FOLDER [--wheels DIR] [--only twin|submission]

Wants root, Debian's mmdebstrap, ip and nsenter, and a network that reaches Debian and PyPI. `twin`
is the Dockerfile at the root: it is built, then smoke runs in it, as its user and as one whom the
tree does not know. `submission` is what `b1k-eval export --docker` writes of a short run of
twin-v17: it is built, its server started without any network but a loopback of its own, and asked
from outside its tree by openpi's client, with the keys of the official evaluators, at 127.0.0.2: a
server that listens on 127.0.0.1 alone would refuse. Then it gets SIGTERM as process 1.

What a pass does not prove: that Docker builds these files. For `python:3.11-slim-bookworm` stands
Debian bookworm's own Python 3.11 and its older pip, in an environment at /usr/local, where that
image has its Python.
With --wheels, packages in DIR go before those of PyPI, as a torch without CUDA does; --device cpu
is appended to the server's command.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Annotated

import typer
from check_installs import OPENPI
from dockerfile import Step, command, copied, steps

ROOT = Path(__file__).resolve().parents[1]
BASE = "python:3.11-slim-bookworm"
PACKAGES = "python3,python3-venv,ca-certificates"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
STARTS_S = 300.0
ADDRESS, PORT = "127.0.0.2", 8000
STRANGER = "4321:4321"


class Tree:
    """A root file system to which a Dockerfile's steps are done."""

    def __init__(self, folder: Path, base: Path, wheels: Path | None) -> None:
        self.folder, self.wheels = folder, wheels
        self.env: dict[str, str] = {}
        self.arguments: dict[str, str] = {}
        self.workdir, self.user = "/", "0:0"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        subprocess.run(["tar", "xf", base, "-C", folder], check=True)
        shutil.copyfile("/etc/resolv.conf", folder / "etc/resolv.conf")
        # This machine may reach PyPI through a proxy that signs for itself.
        shutil.copyfile(CERTIFICATES, folder / str(CERTIFICATES).lstrip("/"))
        self.run(["python3", "-m", "venv", "/usr/local"])
        if wheels is not None:
            shutil.copytree(wheels, folder / "wheels")

    def build(self, instructions: list[Step], context: Path) -> list[str]:
        """Do every step; return the command of a container."""
        for step in instructions:
            since = time.monotonic()
            if step.word == "FROM" and step.text != BASE:
                raise ValueError(f"FROM {step.text}: only {BASE} has a stand-in here")
            if step.word == "ARG":
                self.arguments |= step.pairs()
            elif step.word == "ENV":
                self.env |= step.pairs()
            elif step.word == "USER":
                self.user = step.text
            elif step.word == "WORKDIR":
                self.workdir = step.text
                self._inside(step.text).mkdir(parents=True, exist_ok=True)
            elif step.word == "COPY":
                for source, target in copied(step, context):
                    place = self._inside(target)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(context / source, place)
            elif step.word == "RUN":
                extra = {**self.arguments, "PIP_CERT": str(CERTIFICATES), "PIP_QUIET": "1"}
                if self.wheels is not None:
                    extra["PIP_FIND_LINKS"] = "/wheels"
                self.run(["sh", "-c", step.text], extra)
            _say(f"{step.word} {step.text[:60]}", since)
        return command(instructions)

    def run(self, words: list[str], extra: dict[str, str] | None = None, **user: str) -> None:
        """Run a command in the tree; raises if it fails."""
        subprocess.run(self.prepared(words, extra or {}, **user), check=True)

    def prepared(
        self, words: list[str], extra: dict[str, str], *, user: str = "", alone: bool = False
    ) -> list[str]:
        """Return a command line that runs another in the tree, as process 1 of its own processes.

        Args:
            words: The command.
            extra: Environment beside that of the Dockerfile.
            user: In place of the Dockerfile's.
            alone: Whether it has no network but a loopback of its own.
        """
        user = user or self.user
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": self._home(user)}
        given = [f"{name}={value}" for name, value in {**env, **self.env, **extra}.items()]
        where = ["sh", "-c", 'cd "$0" && exec "$@"', self.workdir]
        chroot = ["chroot", f"--userspec={user}", self.folder, "env", "-i", *given, *where]
        prepare = f"mount -t proc proc {self.folder}/proc && mount --rbind /dev {self.folder}/dev"
        prepare += " && ip link set lo up" if alone else ""
        spaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        spaces += ["--net"] if alone else []
        return [*map(str, [*spaces, "sh", "-c", f'{prepare} && exec "$@"', "sh", *chroot, *words])]

    def _inside(self, path: str) -> Path:
        return self.folder / path.lstrip("/")

    def _home(self, user: str) -> str:
        lines = (self.folder / "etc/passwd").read_text("utf-8").splitlines()
        known = (line.split(":") for line in lines)
        name = user.partition(":")[0]
        return next((each[5] for each in known if name in (each[0], each[2])), "/")


def check(
    folder: Annotated[Path, typer.Argument(help="For the trees: some gigabytes.")],
    wheels: Annotated[Path | None, typer.Option(help="Packages that go before PyPI's.")] = None,
    only: Annotated[str | None, typer.Option(help="twin or submission.")] = None,
) -> None:
    """Execute the steps of each Dockerfile, and use what they make."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    base = folder / "base.tar"
    if not base.exists():
        made = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", "bookworm"]
        part = folder / "part.tar"  # a name that does not end with tar would become a folder
        subprocess.run([*made, part], check=True)
        part.rename(base)
    if only in (None, "twin"):
        check_twin(Tree(folder / "twin", base, wheels))
    if only in (None, "submission"):
        check_submission(Tree(folder / "submission", base, wheels), folder / "made")
    print("all steps were executed, and what they made works")


def check_twin(tree: Tree) -> None:
    """Build the Dockerfile at the root, and run smoke in it."""
    words = tree.build(steps((ROOT / "Dockerfile").read_text("utf-8")), ROOT)[:1]
    for user in ("", STRANGER):
        since = time.monotonic()
        subprocess.run(tree.prepared([*words, "smoke"], {}, user=user, alone=True), check=True)
        _say(f"{words[0]} smoke, as user {user or tree.user}", since)


def check_submission(tree: Tree, made: Path) -> None:
    """Export a short run of twin-v17 with its image, build that, and ask its server."""
    shutil.rmtree(made, ignore_errors=True)
    verb = [Path(sys.executable).with_name("b1k-eval")]
    short = ["--task", "31", "--ckpt", "twin-v17", "--max-steps", "3", "--no-video"]
    subprocess.run([*verb, "run", *short, "--out", made / "run"], check=True)
    names = ["--team", "A Team", "--affiliation", "Here", "--force-draft", "--out", made / "drafts"]
    image = made / "image"
    subprocess.run([*verb, "export", made / "run", *names, "--docker", image], check=True)
    words = tree.build(steps((image / "Dockerfile").read_text("utf-8")), image)
    since = time.monotonic()
    server = subprocess.Popen(tree.prepared([*words, "--device", "cpu"], {}, alone=True))
    try:
        there = ["nsenter", f"--net=/proc/{server.pid}/ns/net", sys.executable]
        waiting = [*there, __file__, "await", ADDRESS, str(PORT)]
        subprocess.run(waiting, check=True)
        _say(f"the server answers http://{ADDRESS}:{PORT}/healthz", since)
        subprocess.run([*there, "-c", OPENPI, ADDRESS, str(PORT)], check=True)
        print("openpi's client got an action of 23 numbers")
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text("ascii")
        os.kill(int(children), signal.SIGTERM)
        if server.wait(60) != 0:
            raise SystemExit(f"after SIGTERM the server ended with {server.returncode}, not 0")
        print("after SIGTERM the server ended with 0")
    finally:
        server.kill()
        server.wait()


def await_server(address: str, port: int) -> None:
    """Ask for health as the official evaluators do, until the answer is 200."""
    until = time.monotonic() + STARTS_S
    while True:
        try:
            with urllib.request.urlopen(f"http://{address}:{port}/healthz", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            if time.monotonic() > until:
                raise
        time.sleep(0.5)


def _say(what: str, since: float) -> None:
    print(f"{time.monotonic() - since:6.1f} s  {what}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["await"]:
        await_server(sys.argv[2], int(sys.argv[3]))
    else:
        typer.run(check)
