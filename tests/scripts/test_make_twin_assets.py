"""The files that the twin ships are those that the script draws from the code beside it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from make_twin_assets import make

from b1k_envs.mujoco_twin.looks import ASSETS


def numbers(text: str) -> np.ndarray | None:
    try:
        return np.array(text.split(), dtype=np.float64)
    except ValueError:
        return None


def assert_same_mjcf(made: Path, shipped: Path) -> None:
    """Numbers may differ by a rounding: sines are not the same to the bit on every processor."""
    pairs = zip(ElementTree.parse(made).iter(), ElementTree.parse(shipped).iter(), strict=True)
    for ours, theirs in pairs:
        where = f"{shipped.name}: {ours.tag} {ours.get('name')}"
        assert (ours.tag, list(ours.attrib)) == (theirs.tag, list(theirs.attrib)), where
        for key, text in ours.attrib.items():
            mine, other = numbers(text), numbers(theirs.attrib[key])
            if mine is None or other is None:
                assert text == theirs.attrib[key], f"{where} {key}"
            else:
                np.testing.assert_allclose(mine, other, rtol=0, atol=1e-6, err_msg=f"{where} {key}")


@pytest.mark.slow
def test_the_shipped_assets_are_what_the_script_makes(tmp_path: Path):
    make(tmp_path)
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == sorted(path.name for path in ASSETS.iterdir() if path.suffix in (".xml", ".png"))
    for name in made:
        if name.endswith(".xml"):
            assert_same_mjcf(tmp_path / name, ASSETS / name)
        else:
            pictures = [cv2.imread(str(folder / name)) for folder in (tmp_path, ASSETS)]
            np.testing.assert_array_equal(*pictures, err_msg=name)


def test_a_changed_number_or_word_is_noticed(tmp_path: Path):
    text = (ASSETS / "robot.xml").read_text("utf-8")
    for old, new in (('name="r1pro_grey"', 'name="grey"'), ('rgba="0.9 ', 'rgba="0.91 ')):
        assert old in text
        (tmp_path / "robot.xml").write_text(text.replace(old, new), "utf-8")
        with pytest.raises(AssertionError):
            assert_same_mjcf(tmp_path / "robot.xml", ASSETS / "robot.xml")
