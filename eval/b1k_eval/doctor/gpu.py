"""Checking NVIDIA cards by the output of `nvidia-smi`, or by the PCI bus without it.

Cards without ray-tracing cores draw BEHAVIOR scenes with severe artefacts, and Hopper cards need
driver 570 or newer for them (RLinf, docs on BEHAVIOR). OmniGibson's documented minimum is 8 GB; a
process takes 10 to 12 GiB, 8.2 when slimmed (RLinf). Policies run on any of them.

What a pass does not prove: that the driver's Vulkan, with which Isaac Sim draws, works.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from b1k_eval.doctor.checks import BOTH_YEARS, Check, release

PCI_DEVICES = Path("/sys/bus/pci/devices")
HOPPER_DRIVER = 570
MIN_GIB, USUAL_GIB = 7.5, 12.0  # 7.5, because a card of 8 GB reports a little less
_NVIDIA, _DISPLAY = "0x10de", "0x03"

# Chips for computing have no ray-tracing cores: Volta, the big Ampere, Hopper and the big
# Blackwell. GeForce 16 and older have none either.
_WITHOUT_RT = re.compile(
    r"\b(P4|P40|P100|V100S?|GV100|TITAN V|A30X?|A100X?|A800|G?H100|H800|G?H20|G?H200|H200|"
    r"G?B100|G?B200|G?B300|GTX \d+)\b"
)
_WITH_RT = re.compile(r"\b(RTX|T4|A2|A10G?|A16|A40|L2|L4|L20|L40S?|L40G)\b")
_HOPPER = re.compile(r"\b(H100|H200|H800|H20|GH200)\b")

_GET_ONE = "run OmniGibson on a machine with an NVIDIA RTX GPU"
_GET_DRIVER = (
    "install NVIDIA's driver (Ubuntu: sudo ubuntu-drivers install; sudo reboot) until nvidia-smi "
    "lists the card; in a container, start it with --gpus all"
)


@dataclass(frozen=True, kw_only=True)
class Card:
    """A graphics card.

    Attributes:
        name: Its name, by the driver.
        memory_gib: Its memory [GiB]; None if the driver does not say.
        driver: Version of the driver.
    """

    name: str
    memory_gib: float | None
    driver: str

    @property
    def ray_tracing(self) -> bool | None:
        """Whether it has ray-tracing cores; None for an unknown name."""
        if _WITHOUT_RT.search(self.name):
            return False
        return True if _WITH_RT.search(self.name) else None

    @property
    def hopper(self) -> bool:
        """Whether it is of the Hopper generation."""
        return _HOPPER.search(self.name) is not None


class NoCardError(Exception):
    """There is no usable card; the text says what was found instead, `advice` what to do."""

    def __init__(self, found: str, advice: str) -> None:
        super().__init__(found)
        self.advice = advice


def gpu_checks() -> tuple[Check, Check, Check, Check]:
    """Check the cards, their driver, their ray tracing and their memory."""
    try:
        cards = list_cards()
    except NoCardError as error:
        missing = Check(
            name="nvidia gpu",
            state="absent",
            detail=str(error),
            advice=error.advice,
            concerns=BOTH_YEARS,
        )
        driver, rays, memory = (
            Check(name=name, state="skipped", detail="no NVIDIA GPU answers")
            for name in ("gpu driver", "ray tracing", "gpu memory")
        )
        return missing, driver, rays, memory
    names = "; ".join(
        card.name if card.memory_gib is None else f"{card.name}, {card.memory_gib:.1f} GiB"
        for card in cards
    )
    return (
        Check(name="nvidia gpu", state="ok", detail=names, concerns=BOTH_YEARS),
        _driver(cards),
        _ray_tracing(cards),
        _memory(cards),
    )


def list_cards() -> tuple[Card, ...]:
    """Ask the driver for the cards; the first is GPU 0.

    Raises:
        NoCardError: There is no card, or the driver does not answer.
    """
    exe = shutil.which("nvidia-smi")
    if exe is None:
        if _on_pci_bus():
            raise NoCardError("an NVIDIA card is on the PCI bus, but no driver for it", _GET_DRIVER)
        raise NoCardError("no nvidia-smi, and no NVIDIA card on the PCI bus", _GET_ONE)
    query = "--query-gpu=name,memory.total,driver_version"
    try:
        done = subprocess.run(
            [exe, query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoCardError(f"nvidia-smi: {error}", _GET_DRIVER) from error
    cards = [_card(line) for line in done.stdout.splitlines() if line.count(",") >= 2]
    if done.returncode != 0 or not cards:
        said = (done.stdout or done.stderr).strip().split("\n")[0]
        raise NoCardError(f"nvidia-smi: {said or f'status {done.returncode}'}", _GET_DRIVER)
    return tuple(cards)


def _card(line: str) -> Card:
    # From the right, so that a comma in a card's name does no harm.
    name, memory_mib, driver = (part.strip() for part in line.rsplit(",", 2))
    return Card(
        name=name,
        memory_gib=int(memory_mib) / 1024 if memory_mib.isdigit() else None,
        driver=driver,
    )


def _on_pci_bus() -> bool:
    try:
        devices = list(PCI_DEVICES.iterdir())
        return any(
            (device / "vendor").read_text().strip() == _NVIDIA
            and (device / "class").read_text().startswith(_DISPLAY)
            for device in devices
        )
    except OSError:  # there is no such bus, or it may not be read
        return False


def _driver(cards: Sequence[Card]) -> Check:
    found = cards[0].driver
    old = any(card.hopper for card in cards) and release(found)[:1] < (HOPPER_DRIVER,)
    return Check(
        name="gpu driver",
        state="absent" if old else "ok",
        detail=f"{found}, too old for OmniGibson on a Hopper card" if old else found,
        advice=f"install driver {HOPPER_DRIVER} or newer" if old else None,
        concerns=BOTH_YEARS,
    )


def _ray_tracing(cards: Sequence[Card]) -> Check:
    able = [index for index, card in enumerate(cards) if card.ray_tracing]
    doubtful = [card.name for card in cards if card.ray_tracing is None]
    without = [card.name for card in cards if card.ray_tracing is False]
    if able and len(able) < len(cards):
        return Check(
            name="ray tracing",
            state="note",
            detail=f"GPU {', '.join(map(str, able))} of {len(cards)} only",
            advice=f"keep OmniGibson on such a card: export OMNIGIBSON_GPU_ID={able[0]}",
            concerns=BOTH_YEARS,
        )
    if without:
        return Check(
            name="ray tracing",
            state="note",
            detail=f"{without[0]} has no ray-tracing cores: OmniGibson's pictures are unreliable",
            advice=f"use this card for policies, and {_GET_ONE}",
            concerns=BOTH_YEARS,
        )
    if doubtful:
        return Check(
            name="ray tracing",
            state="note",
            detail=f"not known of {doubtful[0]}",
            advice="OmniGibson's pictures need ray-tracing cores: look the card up",
            concerns=BOTH_YEARS,
        )
    return Check(name="ray tracing", state="ok", detail="yes", concerns=BOTH_YEARS)


def _memory(cards: Sequence[Card]) -> Check:
    sizes = [card.memory_gib for card in cards if card.memory_gib is not None]
    if not sizes:
        return Check(name="gpu memory", state="skipped", detail="the driver does not say")
    most = max(sizes)
    detail = f"{most:.1f} GiB" if len(sizes) == 1 else f"{most:.1f} GiB on the largest"
    if most < MIN_GIB:
        advice: str | None = "OmniGibson's documented minimum is 8 GB"
    elif most < USUAL_GIB:
        advice = "a process of OmniGibson takes 10 to 12 GiB, 8.2 when slimmed"
    else:
        advice = None
    return Check(
        name="gpu memory",
        state="ok" if advice is None else "note",
        detail=detail,
        advice=advice,
        concerns=BOTH_YEARS,
    )
