"""Try the README's install lines in fresh environments: what loads, runs and renders together.

    python scripts/check_installs.py FOLDER [--python 3.10 --python 3.11] [--only WORD] [--uv]

Each line is installed into an environment of its own below FOLDER, with the torch that the index
gives (gigabytes: with CUDA), and tried there from outside the checkout: a smoke episode; a tiny
checkpoint over twelve steps, with pictures; a server of it that answers our own client, and
openpi's where that is installed. Results are kept in FOLDER, and a line with a result is not tried
again; an environment is removed after it was tried.

A pass proves that versions work together; that answers are right is for the tests.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

ROOT = Path(__file__).resolve().parents[1]
LINES: tuple[tuple[str, ...], ...] = (
    (".",),
    (".[numpy1]",),
    (".[xvla]",),
    (".[xvla,numpy1]",),
    (".[xvla,server]",),
    (".[xvla,server,numpy1]",),
    (".[xvla,server]", "openpi-client"),
    (".[xvla,server,numpy1]", "openpi-client"),
    (".[xvla,server]", "depth-anything-3"),
    (".[da3,server]",),
    (".[da3,server]", "openpi-client"),
)
"""Arguments of `pip install`, one environment each."""
PACKAGES = ("numpy", "pyarrow", "torch", "triton", "transformers", "websockets")
ENCODER = "import depth_anything_3.api"
OPENPI = """
import sys, numpy as np
from openpi_client.websocket_client_policy import WebsocketClientPolicy
client = WebsocketClientPolicy(sys.argv[1], int(sys.argv[2]))
views = {"left_realsense_link": 480, "right_realsense_link": 480, "zed_link": 720}
picture = {f"robot_r1::robot_r1:{link}:Camera:0::rgb": np.zeros((size, size, 4), np.uint8)
           for link, size in views.items()}
poses = np.tile(np.array([0, 0, 1, 0, 0, 0, 1], np.float32), 3)
answer = client.infer({**picture, "robot_r1::proprio": np.zeros(61, np.float32),
                       "robot_r1::cam_rel_poses": poses, "task_id": np.array([31])})
assert np.asarray(answer["action"]).shape[-1] == 23, answer
"""
LIMIT_S = 900.0
LISTENS_S = 300.0
"""Time for a server to start, mostly the import of torch: minutes on a busy machine [s]."""


class Environment:
    """An environment, and the trials in it; a trial returns None, or what went wrong."""

    def __init__(self, folder: Path, python: str, *, uv: bool) -> None:
        self.folder, self.uv = folder, uv
        self.bin, self.tiny = folder / "bin", folder / "tiny"
        if uv:
            _run("uv", "venv", "--clear", "--quiet", "--python", _interpreter(python), folder)
        else:
            _run(_interpreter(python), "-m", "venv", "--clear", folder)
            _run(self.bin / "pip", "install", "--quiet", "--upgrade", "pip")

    def install(self, requirements: tuple[str, ...]) -> str | None:
        """Install the requirements; returns the installer's last line if that failed."""
        words = [str(ROOT) + word[1:] if word.startswith(".") else word for word in requirements]
        pip = ["uv", "pip", "install", "--python", self.bin / "python"]
        return _tried(*(pip if self.uv else [self.bin / "pip", "install"]), "--quiet", *words)

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages that matter, from their metadata."""
        code = (
            "import json, importlib.metadata as m\n"
            f"have = {{d.metadata['Name'].lower(): d.version for d in m.distributions()}}\n"
            f"print(json.dumps({{name: have.get(name) for name in {PACKAGES}}}))"
        )
        return json.loads(_run(self.bin / "python", "-c", code).stdout)

    def try_smoke(self) -> str | None:
        """Try the twin, its video and the run folder."""
        return _tried(self.bin / "b1k-eval", "smoke")

    def try_checkpoint(self) -> str | None:
        """Try torch, transformers and OpenGL in one process."""
        maker = ROOT / "scripts" / "make_tiny_checkpoint.py"
        made = _tried(self.bin / "python", maker, "v17", self.tiny)
        return made or self._short_run("--ckpt", self.tiny)

    def try_server(self) -> str | None:
        """Try a server of the checkpoint with our own client."""
        with self._serving() as (port, problem):
            return problem or self._short_run("--policy", f"ws://127.0.0.1:{port}")

    def try_openpi(self) -> str | None:
        """Try the same server with openpi's client."""
        with self._serving() as (port, problem):
            return problem or _tried(self.bin / "python", "-c", OPENPI, "127.0.0.1", port)

    def try_encoder(self) -> str | None:
        """Try what the public code needs of its geometry encoder."""
        return _tried(self.bin / "python", "-c", ENCODER)

    def _short_run(self, *policy: object) -> str | None:
        out = self.folder / "runs" / str(policy[0]).strip("-")
        steps = ("--max-steps", 12, "--no-video", "--out", out)  # the video is tried by smoke
        return _tried(self.bin / "b1k-eval", "run", "--task", 31, *policy, *steps)

    @contextmanager
    def _serving(self) -> Iterator[tuple[int, str | None]]:
        """Run a server of the tiny checkpoint; gives its port, and why it did not start, if so."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [self.bin / "b1k-eval", "serve", "--ckpt", self.tiny, "--port", port]
        with (self.folder / "serve.log").open("w+", encoding="utf-8") as log:
            server = subprocess.Popen([*map(str, command)], stdout=log, stderr=log, cwd=self.folder)
            try:
                until = time.monotonic() + LISTENS_S
                problem: str | None = f"it did not listen within {LISTENS_S:g} s"
                while time.monotonic() < until and server.poll() is None:
                    if socket.socket().connect_ex(("127.0.0.1", port)) == 0:
                        problem = None
                        break
                    time.sleep(0.5)
                if server.poll() is not None:
                    log.seek(0)
                    problem = _last_line(log.read(), server.returncode)
                yield port, problem
            finally:
                server.terminate()
                server.wait(30)


def _interpreter(python: str) -> str:
    """Find an interpreter such as Python 3.10, on PATH or in pyenv."""
    for name in (f"python{python}", *Path.home().glob(f".pyenv/versions/{python}*/bin/python")):
        found = subprocess.run(
            [str(name), "-c", "import sys; print(sys.executable)"],
            capture_output=True,
            text=True,
            check=False,
        )
        if found.returncode == 0:
            return found.stdout.strip()
    sys.exit(f"there is no Python {python} here")


def _run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, words)], check=True, capture_output=True, text=True)


def _tried(*words: object) -> str | None:
    """Run a command outside the checkout; returns its last line if it failed, else None."""
    done = subprocess.run(
        [*map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        cwd="/",
        env={**os.environ, "COLUMNS": "10000"},
    )
    return None if done.returncode == 0 else _last_line(done.stderr, done.returncode)


def _last_line(text: str, code: int) -> str:
    said = [line.strip(" │") for line in text.splitlines() if any(map(str.isalpha, line))]
    return f"exit {code}: {said[-1][:400] if said else 'says nothing'}"


def examine(folder: Path, python: str, line: tuple[str, ...], *, uv: bool) -> dict[str, Any]:
    """Install one line, and try everything that it promises."""
    environment = Environment(folder, python, uv=uv)
    found: dict[str, Any] = {"python": python, "line": line, "by": "uv" if uv else "pip"}
    found["install"] = environment.install(line)
    if found["install"] is not None:
        return found
    found["versions"] = environment.versions()
    found["smoke"] = environment.try_smoke()
    if "xvla" in line[0] or "da3" in line[0]:
        found["checkpoint"] = environment.try_checkpoint()
    if "server" in line[0]:
        found["server"] = environment.try_server()
    if "openpi-client" in line:
        found["openpi"] = environment.try_openpi()
    if "da3" in line[0] or "depth-anything-3" in line:
        found["encoder"] = environment.try_encoder()
    return found


def table(results: list[dict[str, Any]]) -> str:
    """Return Markdown: a row per environment, and below it the messages of what did not work."""
    tries = ("smoke", "checkpoint", "server", "openpi", "encoder")
    heads = ("Python", "`pip install`", *PACKAGES, *tries)
    rows = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    notes: list[str] = []
    for found in results:
        cells = [found["python"], "`" + " ".join(f"'{word}'" for word in found["line"]) + "`"]
        versions = found.get("versions", {})
        cells += [(versions.get(name) or "").partition("+")[0] for name in PACKAGES]
        for name in ("install", *tries):
            said = found.get(name)
            mark = "" if name not in found else "yes" if said is None else f"no ({len(notes) + 1})"
            if said is not None:
                notes.append(f"{len(notes) + 1}. {name}: {said}")
            if name != "install" or said is not None:
                cells.append(mark)
        cells += [""] * (len(heads) - len(cells))
        rows.append("| " + " | ".join(cells[: len(heads)]) + " |")
    return "\n".join([*rows, "", *notes])


def main(
    folder: Path,
    python: Annotated[list[str] | None, typer.Option(help="Versions; both by default.")] = None,
    only: Annotated[str, typer.Option(help="Lines that contain this.")] = "",
    uv: Annotated[bool, typer.Option("--uv", help="Install by uv in place of pip.")] = False,
) -> None:
    """Try every line on every Python, and print the table."""
    results = []
    folder.mkdir(parents=True, exist_ok=True)
    for version in python or ["3.10", "3.11"]:
        for line in LINES:
            if only not in " ".join(line):
                continue
            name = f"{version}-{'-'.join(line)}".replace("/", "_")
            kept = folder / f"{name}.json"
            if not kept.exists():
                Console(stderr=True).print(f"{version}: pip install {' '.join(line)}", markup=False)
                place = folder / "environment"
                found = examine(place.absolute(), version, line, uv=uv)
                kept.write_text(json.dumps(found), encoding="utf-8")
                shutil.rmtree(place)
            results.append(json.loads(kept.read_text(encoding="utf-8")))
    print(table(results))


if __name__ == "__main__":
    typer.run(main)
