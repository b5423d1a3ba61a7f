"""The files that the twin ships are those that the script draws from the code beside it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from make_twin_assets import make

from b1k_envs.mujoco_twin.looks import ASSETS


def assert_same(made: Path, shipped: Path) -> None:
    """Compare two files; only numbers that sines go into may differ, and by a rounding."""
    if made.suffix == ".png":
        np.testing.assert_array_equal(cv2.imread(str(made)), cv2.imread(str(shipped)))
    elif made.suffix == ".txt":
        np.testing.assert_allclose(np.loadtxt(made), np.loadtxt(shipped), rtol=0, atol=1e-9)
    else:
        trees = [ElementTree.parse(path).iter() for path in (made, shipped)]
        for ours, theirs in zip(*trees, strict=True):
            where = f"{ours.tag} {ours.get('name')}"
            assert (ours.tag, list(ours.attrib)) == (theirs.tag, list(theirs.attrib)), where
            for key, text in ours.attrib.items():
                assert_same_value(text, theirs.attrib[key], f"{where} {key}")


def assert_same_value(ours: str, theirs: str, where: str) -> None:
    try:
        pair = [np.array(text.split(), dtype=np.float64) for text in (ours, theirs)]
    except ValueError:
        assert ours == theirs, where
    else:
        np.testing.assert_allclose(*pair, rtol=0, atol=1e-6, err_msg=where)


@pytest.mark.slow
def test_the_shipped_assets_are_what_the_script_makes(tmp_path: Path):
    make(tmp_path)
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {path.name for path in ASSETS.iterdir() if path.is_file()}
    for name in made:
        assert_same(tmp_path / name, ASSETS / name)


def test_a_changed_number_or_word_is_noticed(tmp_path: Path):
    text = (ASSETS / "robot.xml").read_text("utf-8")
    for old, new in (('name="r1pro_grey"', 'name="grey"'), ('rgba="0.9 ', 'rgba="0.91 ')):
        assert old in text
        (tmp_path / "robot.xml").write_text(text.replace(old, new), "utf-8")
        with pytest.raises(AssertionError):
            assert_same(tmp_path / "robot.xml", ASSETS / "robot.xml")
