"""Reading a Dockerfile: as much of its language as this project's have, and nothing is guessed.

Source: Docker's Dockerfile reference. Known are comments, lines that end with a backslash, ARG and
ENV as NAME=VALUE, and CMD and ENTRYPOINT as JSON. Anything else is an error, so that a check of a
Dockerfile never passes over a line that it does not know.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

WORDS = ("FROM", "RUN", "COPY", "ARG", "ENV", "WORKDIR", "USER", "EXPOSE", "ENTRYPOINT", "CMD")


@dataclass(frozen=True)
class Step:
    """One instruction: its word, and the rest of its line."""

    word: str
    text: str

    def pairs(self) -> dict[str, str]:
        """Return the values by name of an ENV or ARG."""
        return {
            name: value for name, _, value in (w.partition("=") for w in shlex.split(self.text))
        }

    def listed(self) -> list[str]:
        """Return the words of a CMD or ENTRYPOINT."""
        return list(json.loads(self.text))


def steps(text: str) -> list[Step]:
    """Read a Dockerfile.

    Raises:
        ValueError: A line is none that is known here.
    """
    lines = [
        line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    found = []
    for line in re.sub(r"\s*\\\n\s*", " ", "\n".join(lines)).splitlines():
        word, _, rest = line.partition(" ")
        if word not in WORDS or "<<" in rest or (word == "COPY" and "--" in rest):
            raise ValueError(f"this line is not known here: {line}")
        found.append(Step(word, " ".join(rest.split()) if word != "RUN" else rest.strip()))
    if not found or found[0].word != "FROM":
        raise ValueError("it does not begin with FROM")
    return found


def command(instructions: list[Step]) -> list[str]:
    """Return what a container executes if nothing is added: ENTRYPOINT and CMD."""
    last = {step.word: step.listed() for step in instructions if step.word in ("ENTRYPOINT", "CMD")}
    return last.get("ENTRYPOINT", []) + last.get("CMD", [])


def context(folder: Path) -> Iterator[Path]:
    """Yield the files of a build folder that Docker is sent, relative to it: see .dockerignore."""
    ignore = folder / ".dockerignore"
    text = ignore.read_text("utf-8") if ignore.exists() else ""
    rules = [line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"]
    for top in sorted(folder.iterdir()):
        name = top.relative_to(folder)
        if _ignored(name, rules) and not any(rule.startswith(f"!{name}/") for rule in rules):
            continue  # rather than to look through an environment of 100,000 files
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            relative = path.relative_to(folder)
            if path.is_file() and not _ignored(relative, rules):
                yield relative


def copied(step: Step, folder: Path) -> list[tuple[Path, str]]:
    """Return the files of a COPY, relative to the build folder, and where each goes.

    Raises:
        ValueError: A source is not there, or not sent to Docker.
    """
    *sources, target = step.text.split()
    sent, found = list(context(folder)), []
    for source in sources:
        within = [path for path in sent if path.is_relative_to(source)]
        if not within:
            raise ValueError(f"COPY {source}: there is no such file, or .dockerignore keeps it out")
        for path in within:
            inside = path.relative_to(source).as_posix()
            name = path.name if inside == "." and target.endswith("/") else inside
            found.append((path, target if name == "." else f"{target.rstrip('/')}/{name}"))
    return found


def _ignored(path: Path, rules: list[str]) -> bool:
    """Say whether the last rule that fits a path, or a folder above it, leaves it out."""
    names = [path.as_posix(), *(above.as_posix() for above in path.parents if above.name)]
    out = False
    for rule in rules:
        pattern = rule.lstrip("!")
        anywhere = pattern.removeprefix("**/") if pattern.startswith("**/") else None
        fits = any(
            fnmatchcase(name.rpartition("/")[2], anywhere)
            if anywhere is not None
            else "/" not in name and fnmatchcase(name, pattern)
            for name in names
        )
        out = (not rule.startswith("!")) if fits else out
    return out
