"""What the maker of tiny checkpoints states, for contracts other than the two known ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from b1k_policies.contract.presets import V17


def test_poses_mask_and_gripper_are_stated_as_the_contract_has_them(tiny_maker):
    contract = replace(
        V17,
        name="v4",  # a name decides none of them
        extrinsics_rows=("right_wrist", "head", "left_wrist"),
        delta_spec=(-3, 11, -1, 7, -1),
        gripper_proprio="fraction",
    )
    stated = tiny_maker.contract_json(contract)
    # The blocks as recorded are those of the left wrist, the right wrist and the head.
    assert stated["extrinsics"]["parquet_to_view"] == [2, 0, 1]
    assert stated["action"]["delta_mask"] == "make_bool_mask(-3, 11, -1, 7, -1)"
    assert stated["proprio"]["gripper"] == "(q1+q2)/0.10"


@pytest.mark.parametrize(("version", "rows"), [("v4", [0, 1, 2]), ("v17", [1, 2, 0])])
def test_the_known_ones_are_stated_in_the_words_of_their_cards(tiny_maker, version, rows):
    stated = tiny_maker.contract_json(tiny_maker.PRESETS[version])
    assert stated["extrinsics"]["parquet_to_view"] == rows
    assert stated["action"]["delta_mask"] == "make_bool_mask(-3, 3, -1, 7, -1, 7, -1)"
    assert stated["proprio"]["gripper"] == "2*(q1+q2)/0.10 - 1"
