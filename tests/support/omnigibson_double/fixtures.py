"""Pytest fixtures `og_2025` and `og_2026`: the double of a generation is installed and has data.

Import them in a conftest: `from omnigibson_double.fixtures import og_2025, og_2026`.
"""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from b1k_envs.base import ProtocolYear
from omnigibson_double import touch
from omnigibson_double.application import SET_BY_ISAAC
from omnigibson_double.data import write_data_folder
from omnigibson_double.faults import VARIABLE, Faults, faults
from omnigibson_double.sensors import STAMPED

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Installed:
    """The double as a test sees it.

    Attributes:
        generation: Which one.
        folder: Repository-like folder, with `datasets` and `joylo` in it.
        data: What OMNIGIBSON_DATA_PATH points at.
        faults: The plan of faults of this process.
        environment: Variables that other processes need to find the same double.
    """

    generation: ProtocolYear
    folder: Path
    data: Path
    faults: Faults
    environment: dict[str, str]

    def touches(self) -> frozenset[tuple[str, str]]:
        """What the adapter touched; see `touch.touches`."""
        return touch.touches()

    def rebuild(
        self, monkeypatch: pytest.MonkeyPatch, folder: Path, file: str, changes: Mapping[str, str]
    ) -> None:
        """Install another build, before anything imported this one.

        Args:
            monkeypatch: Undoes it.
            folder: An empty folder for the changed copy.
            file: File of the package in which the text differs.
            changes: For each text in it, what stands there instead.
        """
        package = shutil.copytree(_HERE / f"omnigibson_{self.generation}", folder / "package")
        text = (package / "omnigibson" / file).read_text()
        for old, new in changes.items():
            assert old in text, f"{file} has no {old}"
            text = text.replace(old, new)
        (package / "omnigibson" / file).write_text(text)
        monkeypatch.syspath_prepend(str(package))
        self.environment["PYTHONPATH"] = os.pathsep.join(
            (str(package), self.environment["PYTHONPATH"])
        )
        monkeypatch.setenv("PYTHONPATH", self.environment["PYTHONPATH"])

    def draw_pictures(self) -> None:
        """Pictures of the twin instead of stamped ones; see `sensors.STAMPED`."""
        os.environ.pop(STAMPED, None)
        self.environment.pop(STAMPED, None)


@pytest.fixture(scope="session")
def _og_data_2025(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("behavior-2025")
    write_data_folder(folder, "2025")
    return folder


@pytest.fixture(scope="session")
def _og_data_2026(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("behavior-2026")
    write_data_folder(folder, "2026")
    return folder


def install(
    monkeypatch: pytest.MonkeyPatch, folder: Path, generation: ProtocolYear
) -> Iterator[Installed]:
    """Put the double on the path of this process and of its children; undo all of it."""
    package = str(_HERE / f"omnigibson_{generation}")
    above = str(_HERE.parent)
    monkeypatch.syspath_prepend(package)
    inherited = os.environ.get("PYTHONPATH")
    paths = [package, above, *([inherited] if inherited else [])]
    environment = {
        "PYTHONPATH": os.pathsep.join(paths),
        "OMNIGIBSON_DATA_PATH": str(folder / "datasets"),
        STAMPED: "1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for name in (VARIABLE, *SET_BY_ISAAC):
        monkeypatch.delenv(name, raising=False)
    handler, arguments = signal.getsignal(signal.SIGINT), list(sys.argv)
    level = logging.getLogger().level
    _purge()
    faults.clear()
    touch.forget()
    collecting = gc.isenabled()
    yield Installed(generation, folder, folder / "datasets", faults, environment)
    faults.clear()
    signal.signal(signal.SIGINT, handler)
    sys.argv = arguments
    logging.getLogger().setLevel(level)
    for name in SET_BY_ISAAC:
        os.environ.pop(name, None)
    if collecting:
        gc.enable()
    _purge()


def _purge() -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] in ("omnigibson", "warp")]:
        del sys.modules[name]


@pytest.fixture
def og_2025(monkeypatch: pytest.MonkeyPatch, _og_data_2025: Path) -> Iterator[Installed]:
    """OmniGibson 3.7.2 is installed."""
    yield from install(monkeypatch, _og_data_2025, "2025")


@pytest.fixture
def og_2026(monkeypatch: pytest.MonkeyPatch, _og_data_2026: Path) -> Iterator[Installed]:
    """OmniGibson 3.9.3 is installed."""
    yield from install(monkeypatch, _og_data_2026, "2026")
