"""Machines that are not here: a driver's answer, installed packages and data, made of small files.

The packages end the process when they are imported, so that looking is all that anyone can do.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import namedtuple

from b1k_envs.mujoco_twin.rendering.gl import GlInfo
from b1k_eval.doctor import basics, examine, gpu

RTX_4090 = "NVIDIA GeForce RTX 4090, 24564, 570.124.06"
A100 = "NVIDIA A100-SXM4-80GB, 81920, 550.54.15"
H100 = "NVIDIA H100 80GB HBM3, 81559, 550.54.15"

VARIABLES = (
    "EXP_PATH",
    "CARB_APP_PATH",
    "ISAAC_PATH",
    "OMNIGIBSON_DATASET_PATH",
    "OMNIGIBSON_ASSET_PATH",
    "OMNIGIBSON_KEY_PATH",
    "OMNIGIBSON_DATA_PATH",
)

_Usage = namedtuple("_Usage", "total used free")
_Version = namedtuple("_Version", "major minor micro releaselevel serial")
_TABLE = """\
clean_boxing_gloves:
- scene_model: house_double_floor_lower
  robot_start_position: [1.0, 2.0, 0.0]
  robot_start_orientation: [0.0, 0.0, 0.0, 1.0]
"""


class FakeMachine:
    """Big and empty at first: no GPU, no OmniGibson, 64 GB of memory, 500 GB of disk."""

    def __init__(self, folder, monkeypatch):
        self.folder, self._monkeypatch = folder, monkeypatch
        self.repository = folder / "BEHAVIOR-1K"
        self.data_path = self.repository / "datasets"
        self._bin, self._site, self._pci = (folder / name for name in ("bin", "site", "pci"))
        for made in (self._bin, self._site, self._pci):
            made.mkdir()
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PATH", f"{self._bin}:/usr/bin:/bin")
        monkeypatch.setattr(gpu, "PCI_DEVICES", self._pci)
        monkeypatch.setattr(basics, "head_frame_ms", lambda: 12.34)
        info = GlInfo(backend="egl", vendor="Mesa", renderer="llvmpipe (LLVM 15)", version="4.5")
        monkeypatch.setattr(basics, "gl_info", lambda: info)
        monkeypatch.syspath_prepend(str(self._site))
        self.memory_gb(64)
        self.disk_gib(500)

    def check(self, name):
        """What doctor says about one thing here."""
        return next(check for check in examine(self.folder / "results") if check.name == name)

    # --- hardware

    def nvidia_smi(self, *lines, status=0):
        """A driver that answers so."""
        exe = self._bin / "nvidia-smi"
        text = "\n".join(lines)
        exe.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {status}\n")
        exe.chmod(0o755)

    def card_without_driver(self, kind="0x030000"):
        """Something of NVIDIA on the PCI bus, a display controller by default, and Intel's."""
        for slot, vendor, what in (("00:02", "0x8086", "0x030000"), ("01:00", "0x10de", kind)):
            (self._pci / slot).mkdir()
            (self._pci / slot / "vendor").write_text(f"{vendor}\n")
            (self._pci / slot / "class").write_text(f"{what}\n")

    def memory_gb(self, size):
        real = os.sysconf
        pages = int(size * 1e9 / 4096)
        known = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": pages, "SC_AVPHYS_PAGES": pages}
        self._monkeypatch.setattr(os, "sysconf", lambda name: known.get(name) or real(name))

    def disk_gib(self, free):
        usage = _Usage(total=2**42, used=0, free=int(free * 2**30))
        self._monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

    # --- software

    def python(self, *numbers):
        self._monkeypatch.setattr(sys, "version_info", _Version(*numbers, 0, "final", 0))

    def distribution(self, name, version):
        """Only its metadata, which shadow those of a real one."""
        info = self._site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")

    def package(self, name, version):
        self.distribution(name, version)
        self._module(self._site / name, "")

    def _module(self, folder, text):
        folder.mkdir(parents=True)
        bomb = f"raise SystemExit('{folder.name} was imported')\n"
        (folder / "__init__.py").write_text(text + bomb)
        self._monkeypatch.delitem(sys.modules, folder.name, raising=False)
        self._monkeypatch.syspath_prepend(str(folder.parent))

    def omnigibson(self, version, *, isaacsim, torch, scenes=None, robot=None):
        """A checkout that setup.sh was run in, without data."""
        package = self.repository / "OmniGibson" / "omnigibson"
        self._module(package, f'__version__ = "{version}"\n')
        (package / "envs").mkdir()
        vectorised = "def __init__(self, configs, num_envs=1): ...\n" if version > "3.9.2" else ""
        (package / "envs" / "env_base.py").write_text(vectorised)
        (package / "utils").mkdir()
        (package / "utils" / "asset_utils.py").write_text(
            (f'BEHAVIOR_1K_ASSET_VERSION = "{scenes}"\n' if scenes else "")
            + (f'MINIMUM_ROBOT_ASSETS_VERSION = "{robot}"\n' if robot else "")
        )
        self._module(self.repository / "joylo" / "gello", "")
        for part in ("isaacsim", "isaacsim-kernel"):
            self.distribution(part, isaacsim)
        self.package("bddl", "3.7.2")
        self.distribution("numpy", "1.26.4")
        self.distribution("torch", torch)

    def data(self, year, *, root=None):
        """Assets, key and instances of one year, of which task 31 has one file."""
        root = self.data_path if root is None else root
        scene, task = "house_double_floor_lower", "clean_boxing_gloves"
        for name, version in (
            ("behavior-1k-assets", "3.9.0rc9"),
            ("omnigibson-robot-assets", "3.8.2"),
        ):
            (root / name).mkdir(parents=True)
            (root / name / "VERSION").write_text(f"{version}\n")
        (root / "omnigibson.key").write_bytes(b"secret")
        instances = root / f"{year}-challenge-task-instances"
        (instances / "metadata").mkdir(parents=True)
        (instances / "metadata" / "available_tasks.yaml").write_text(_TABLE)
        folder = {"2025": "scenes", "2026": "scene_test/public"}[year]
        number = {"2025": 77, "2026": 301}[year]
        rows = ["task id,task name,instances", *["0,other,1"] * 31, f'31,{task},"{number},5"']
        (instances / "metadata" / "test_instances.csv").write_text("\n".join(rows) + "\n")
        file = (
            instances
            / folder
            / scene
            / "json"
            / f"{scene}_task_{task}_instances"
            / f"{scene}_task_{task}_0_{number}_template-tro_state.json"
        )
        file.parent.mkdir(parents=True)
        file.write_text("{}")

    def ready_2026(self):
        """A workstation on which everything of 2026 was installed by the book."""
        self.nvidia_smi(RTX_4090)
        self.python(3, 11)
        self.omnigibson(
            "3.9.3", isaacsim="5.1.0.0", torch="2.7.0+cu128", scenes="3.9.0rc9", robot="3.8.2"
        )
        self.data("2026")

    def ready_2025(self):
        """The same of 2025."""
        self.nvidia_smi(RTX_4090)
        self.python(3, 10)
        self.omnigibson("3.7.2", isaacsim="4.5.0.0", torch="2.6.0+cu124")
        self.data("2025")

    def remove(self, *parts):
        """Take something of the data away."""
        path = self.data_path.joinpath(*parts)
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def verdict_of(verdicts, subject):
    """One of `judge`'s verdicts."""
    return next(verdict for verdict in verdicts if verdict.subject == subject)
