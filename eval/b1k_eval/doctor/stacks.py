"""The software that OmniGibson needs in each generation, and the commands that install it.

Sources, repository StanfordVL/BEHAVIOR-1K: `setup.sh`@0328ed53 and `OmniGibson/setup.py` (2026),
`macros.py`@00be39f7; for 2025 the container of a working port of v3.7.2 (allenai's
vla-evaluation-harness, docker/Dockerfile.behavior1k, e1ee9ad). The size of the data is theirs too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from b1k_envs.base import ProtocolYear
from b1k_envs.omnigibson.setup.data import DOWNLOADS
from b1k_envs.omnigibson.setup.generation import Generation
from b1k_eval.doctor.checks import Subject

DATA_GB = 38
"""Disk space of the assets, nearly all of it `behavior-1k-assets` [GB], 35 GiB."""


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The software that one generation needs.

    Attributes:
        python: The only Python version it runs on.
        isaacsim: First two numbers of Isaac Sim's version.
    """

    python: tuple[int, int]
    isaacsim: tuple[int, int]


STACKS: Mapping[ProtocolYear, Stack] = MappingProxyType(
    {
        "2025": Stack(python=(3, 10), isaacsim=(4, 5)),
        "2026": Stack(python=(3, 11), isaacsim=(5, 1)),
    }
)

OLD_VARIABLES = ("OMNIGIBSON_DATASET_PATH", "OMNIGIBSON_ASSET_PATH", "OMNIGIBSON_KEY_PATH")
"""Variables from before OmniGibson moved into BEHAVIOR-1K; nothing reads them any more."""

DATA_VARIABLE = "OMNIGIBSON_DATA_PATH"


def subject(generation: Generation) -> Subject:
    """Return the verdict's subject for a generation."""
    return "omnigibson-2025" if generation.protocol == "2025" else "omnigibson-2026"


def dotted(numbers: tuple[int, ...]) -> str:
    """Return (3, 10) as `3.10`."""
    return ".".join(map(str, numbers))


def install_command(generation: Generation) -> str:
    """Return the command that installs a generation: Python, Isaac Sim, OmniGibson, data."""
    return (
        f"git clone -b {generation.tag} https://github.com/StanfordVL/BEHAVIOR-1K.git && cd "
        "BEHAVIOR-1K && ./setup.sh --new-env --omnigibson --bddl --joylo --dataset --eval && conda "
        "activate behavior && pip install 'CHECKOUT[numpy1]'"
    )


def download_command(folder: str, root: Path) -> str:
    """Return the command that downloads one folder of the data; the scenes bring the key.

    OmniGibson does not start without the data path, so the command makes it. Downloads do not
    change what exists.

    Args:
        folder: A key of `DOWNLOADS`.
        root: The data path.
    """
    first = "" if root.is_dir() else f"mkdir -p {root} && "
    return (
        f"{first}OMNI_KIT_ACCEPT_EULA=YES python -c 'from omnigibson.utils import asset_utils; "
        f"asset_utils.{DOWNLOADS[folder]}'"
    )


def replace_command(folder: str, root: Path) -> str:
    """Return the command that downloads a folder anew and keeps the old one beside it."""
    return f"mv {root / folder} {root / folder}.old && {download_command(folder, root)}"
