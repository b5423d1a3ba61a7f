"""The build folder of a Docker image that serves the checkpoint of a submission.

    Dockerfile          installs what follows, and serves the checkpoint on 0.0.0.0:8000
    b1k-eval/           this package as it is installed here, with the dependencies of serving
    requirements.txt    packages in the versions that the runs recorded
    checkpoint/, code/  weights, config, tokenizer and code, with the hashes that the runs recorded
    robot.yaml, wrapper.py, README.md   as beside the results

Source: StanfordVL/BEHAVIOR-1K, `docs/challenge/submission.md`@28ee2dfb: the image serves the
policy, the simulator asks it from outside its container, on one GPU of 24 GB.

What a pass does not prove: that Docker builds it, or that the model fits the organisers' GPU.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from string import Template
from typing import Any

import b1k_envs
import b1k_eval
import b1k_policies
from b1k_envs.errors import UnavailableError, UsageError
from b1k_eval.files import TEMP_PREFIX
from b1k_eval.records.loading import RunData
from b1k_eval.records.store import START_AGAIN, storing
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.contract.presets import PRESETS
from b1k_policies.options import declared
from b1k_policies.xvla.files.checkpoint import PACKAGE, Checkpoint, locate

_EXTRAS = ("xvla", "server")
_PLACED = ("ckpt", "contract", "code_dir", "device")
"""Options whose values are other ones in the image."""
_HASHES = ("weights_sha256", "code_sha256", "files")

_DOCKERFILE = Template("""\
# Serves the checkpoint of the submitted runs on port 8000; README.md has the commands.
FROM python:$python-slim-bookworm

RUN apt-get update \\
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \\
    && rm -rf /var/lib/apt/lists/*

# A package that the checkpoint's code needs and the runs did not record is to be added here.
COPY requirements.txt /src/requirements.txt
COPY b1k-eval /src/b1k-eval
RUN pip install --no-cache-dir -r /src/requirements.txt /src/b1k-eval

RUN useradd --create-home policy
USER policy
WORKDIR /home/policy
$copies
# Nothing is fetched at run time.
ENV HF_HUB_OFFLINE=1$variables

EXPOSE 8000
ENTRYPOINT $command
""")

_PYPROJECT = Template("""\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "b1k-eval"
version = "$version"
license = "Apache-2.0"
requires-python = ">=3.10"
dependencies = $dependencies

[project.scripts]
b1k-eval = "b1k_eval.cli.main:main"

[tool.hatch.build.targets.wheel]
packages = ["b1k_envs", "b1k_policies", "b1k_eval"]
""")


@dataclass(frozen=True)
class Serving:
    """What an image serves, and how: equal for all runs of an entry.

    Attributes:
        asked: The recorded `CheckpointRequest`, JSON values.
        hashes: Of the recorded checkpoint: weights, code and other files.
        variables: Environment variables that its code reads.
        protocol: Challenge year, which is that of the proprioception.
        horizon: Actions executed of each chunk.
    """

    asked: Mapping[str, Any]
    hashes: Mapping[str, Any]
    variables: Mapping[str, str]
    protocol: str
    horizon: int | None

    @classmethod
    def of(cls, runs: Sequence[RunData]) -> Serving:
        """Read it from runs.

        Raises:
            UsageError: A run is of no checkpoint, or executed it as no server does; or two differ.
        """
        found = [cls._of(run) for run in runs]
        for run, other in zip(runs, found, strict=True):
            if other != found[0]:
                raise UsageError(
                    f"--docker: {runs[0].path} and {run.path} are of different checkpoints or "
                    "options, and an image serves one: export them apart"
                )
        return found[0]

    @classmethod
    def _of(cls, run: RunData) -> Serving:
        settings, policy = run.identity["settings"], run.identity["policy"]
        if settings.get("checkpoint") is None or policy.get("checkpoint") is None:
            raise UsageError(
                f"--docker writes the image of a checkpoint (--ckpt), and {run.path} is of "
                f"{run.label}: see docs/container.md for another policy's"
            )
        if settings["chunking"] != "receding" or settings.get("mode", "sync") != "sync":
            raise UsageError(
                f"--docker: {run.path} was run with --chunking {settings['chunking']} and --mode "
                f"{settings.get('mode', 'sync')}, and a server plays receding chunks in sync"
            )
        return cls(
            asked=settings["checkpoint"],
            hashes={name: policy["checkpoint"].get(name) for name in _HASHES},
            variables=policy.get("variables", {}),
            protocol=settings["protocol"],
            horizon=settings["horizon"],
        )

    def command(self, *, own_code: bool) -> list[str]:
        """Return the command line in the image; `own_code` if the code lies in the checkpoint."""
        words = ["b1k-eval", "serve", "--ckpt", "/checkpoint", "--device", "cuda"]
        words += ["--host", "0.0.0.0", "--port", "8000", "--no-key", "--protocol", self.protocol]
        words += [] if self.horizon is None else ["--horizon", str(self.horizon)]
        words += [] if own_code else ["--code-dir", "/code"]
        contract = self.asked.get("contract")
        if contract is not None:
            words += ["--contract", contract if contract in PRESETS else "/contract.json"]
        for name, each in declared(CheckpointRequest).items():
            value = self.asked.get(name)
            if name in _PLACED or value is None or value is False:
                continue
            for one in value if isinstance(value, list) else [value]:
                words += [each.flag] if one is True else [each.flag, str(one)]
        return words


def image_tag(team: str) -> str:
    """Return the image's name: the team's, in the letters that Docker allows."""
    return "-".join(re.findall("[a-z0-9]+", team.lower())) or "policy"


def check_place(folder: Path) -> None:
    """Check that the build folder can be made.

    Raises:
        UsageError: It exists.
    """
    if folder.exists():
        raise UsageError(f"--docker {folder} already exists: remove it, or choose another folder")


def write_image(
    runs: Sequence[RunData],
    folder: Path,
    beside: Mapping[str, str],
    wrote: Callable[[str], None] = lambda name: None,
) -> None:
    """Write the build folder, whole or not at all.

    Args:
        runs: The runs of the entry.
        folder: Is made.
        beside: Text by name of the files that lie beside the results as well.
        wrote: Called with the name of every part written.

    Raises:
        UsageError: See `Serving.of`; the checkpoint is not where the run had it, or not the same.
        StorageError: Something cannot be written.
    """
    serving = Serving.of(runs)
    found = _located(runs[0], serving)
    temp = folder.with_name(f"{TEMP_PREFIX}{folder.name}")
    try:
        with storing(folder, START_AGAIN):
            shutil.rmtree(temp, ignore_errors=True)
            temp.mkdir(parents=True)
            _copy_package(temp / "b1k-eval")
            wrote("b1k-eval")
            own_code = _copy_checkpoint(found, temp)
            wrote("checkpoint")
            contract = serving.asked.get("contract")
            if contract is not None and contract not in PRESETS:
                shutil.copyfile(contract, temp / "contract.json")
        _require_same(temp, runs[0], serving, own_code=own_code)
        texts = {
            **beside,
            "requirements.txt": _requirements(runs[0]),
            "Dockerfile": _dockerfile(runs[0], temp, serving, own_code=own_code),
        }
        with storing(folder, START_AGAIN):
            for name, text in texts.items():
                (temp / name).write_text(text, encoding="utf-8")
            temp.replace(folder)
    except BaseException:
        shutil.rmtree(temp, ignore_errors=True)
        raise


def _located(run: RunData, serving: Serving) -> Checkpoint:
    """Find the checkpoint; its code is only copied here, and the run's user has trusted it."""
    asked = serving.asked
    try:
        return locate(
            CheckpointRequest(ckpt=asked["ckpt"], code_dir=asked.get("code_dir"), trust_code=True)
        )
    except (UsageError, UnavailableError) as error:
        raise UsageError(
            f"--docker: the checkpoint of {run.path} cannot be found: {error}"
        ) from error


def _copy_package(folder: Path) -> None:
    for package in (b1k_envs, b1k_policies, b1k_eval):
        source = Path(str(package.__file__)).parent
        unwanted = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, folder / package.__name__, ignore=unwanted)
    text = _PYPROJECT.substitute(
        version=b1k_eval.__version__, dependencies=json.dumps(_dependencies(), indent=2)
    )
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")


def _dependencies() -> list[str]:
    """Return the requirements of this package and of the extras that serving needs."""
    found = []
    for line in metadata.requires("b1k-eval") or ():
        requirement, _, marker = line.partition(";")
        extra = re.search(r"""extra == ['"]([^'"]+)""", marker)
        if extra is None or extra[1] in _EXTRAS:
            found.append(requirement.strip())
    return found


def _copy_checkpoint(found: Checkpoint, folder: Path) -> bool:
    """Copy what decides what the model does; return whether its code lies among it."""
    (folder / "checkpoint").mkdir()
    for name, _, _ in found.files():
        shutil.copyfile(found.folder / name, folder / "checkpoint" / name)
    root = found.code_root
    own = root.resolve().is_relative_to(found.folder.resolve())
    inside = root.resolve().relative_to(found.folder.resolve()) if own else Path(PACKAGE)
    target = folder / ("checkpoint" if own else "code") / inside
    for path in found.code_files():
        copy = target / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    return own


def _require_same(folder: Path, run: RunData, serving: Serving, *, own_code: bool) -> None:
    code = None if own_code else str(folder / "code")
    copy = locate(CheckpointRequest(ckpt=str(folder / "checkpoint"), code_dir=code)).to_dict()
    for name in _HASHES:
        recorded = serving.hashes[name]
        if recorded is not None and copy[name] != recorded:
            raise UsageError(
                f"--docker: {serving.asked['ckpt']} is not the checkpoint that {run.path} was run "
                f"with ({name} differs): put that one back in its place"
            )


def _requirements(run: RunData) -> str:
    """Pin what the run recorded: packages of this one's dependencies, and of the model's code."""
    session = run.sessions[-1]
    ours = {re.split(r"[^\w-]", each, maxsplit=1)[0].lower() for each in _dependencies()}
    versions = {n: v for n, v in session.get("versions", {}).items() if n.lower() in ours}
    versions |= run.identity["policy"].get("packages", {})
    # Without the local part: PyPI has torch 2.8.0, with CUDA, and no 2.8.0+cpu or +cu128.
    return "".join(f"{name}=={v.partition('+')[0]}\n" for name, v in sorted(versions.items()))


def _dockerfile(run: RunData, folder: Path, serving: Serving, *, own_code: bool) -> str:
    python = re.match(r"\d+\.\d+", run.sessions[-1].get("python", ""))
    parts = [name for name in ("checkpoint", "code", "contract.json") if (folder / name).exists()]
    return _DOCKERFILE.substitute(
        python="3.11" if python is None else python[0],
        copies="".join(f"COPY {name} /{name}\n" for name in parts),
        variables="".join(f" {n}={shlex.quote(v)}" for n, v in serving.variables.items()),
        command=json.dumps(serving.command(own_code=own_code)),
    )
