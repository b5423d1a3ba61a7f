"""From a predicted chunk to commands and back, against a loop over single numbers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from observations import (
    CARDS,
    OFFSETS,
    decode_faults,
    executable_faults,
    expected_actions,
    random_chunk,
)

from b1k_envs.errors import ActionError
from b1k_policies.contract.presets import PRESETS, PROPRIO_GRIPPERS_LAST, V4, V17
from b1k_policies.xvla.actions import decode, encode, executable

# Columns of each part in the robot's action, written out.
ROBOT = {
    "base": (0, 1, 2),
    "trunk": (3, 4, 5, 6),
    "arm_left": (7, 8, 9, 10, 11, 12, 13),
    "gripper_left": (14,),
    "arm_right": (15, 16, 17, 18, 19, 20, 21),
    "gripper_right": (22,),
}
ABSOLUTE = (0, 1, 2, 6, 14, 22)

# Multiples of 1/1024 up to 8: their sums and differences are exact in float32.
exact = st.integers(-8192, 8192)


def chunks(batch=2, rows=30):
    return arrays(np.int16, (batch, rows, 23), elements=exact).map(
        lambda whole: whole.astype(np.float32) / 1024
    )


def proprios(batch=2):
    return arrays(np.int16, (batch, 23), elements=exact).map(
        lambda whole: whole.astype(np.float32) / 1024
    )


@st.composite
def contracts(draw):
    """V17 with any order of parts and any runs of offsets."""
    mask = draw(st.lists(st.booleans(), min_size=23, max_size=23))
    return dataclasses.replace(
        V17,
        action_parts=tuple(draw(st.permutations(list(ROBOT)))),
        delta_spec=tuple(1 if offset else -1 for offset in mask),
    ), mask


# --- decode --------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_decode_is_the_cards_column_by_column(preset):
    contract = PRESETS[preset]
    assert decode_faults(lambda predicted, proprio: decode(predicted, proprio, contract)) == []


def test_the_proprio_of_the_inference_is_the_reference_of_every_row():
    """Neither the row before nor the chunk's first action: equal offsets are equal commands."""
    predicted = np.full((1, 30, 23), 0.25, np.float32)
    proprio = np.arange(23, dtype=np.float32)[None]
    rows = decode(predicted, proprio, V17)[0]
    assert (rows == rows[0]).all()
    for column in range(23):
        want = column + 0.25 if column in OFFSETS else 0.25
        assert rows[29, column] == want


@pytest.mark.parametrize("preset", PRESETS)
def test_absolute_columns_are_passed_on_bit_for_bit(preset):
    predicted, proprio = random_chunk(3)
    actions = decode(predicted, proprio, PRESETS[preset])
    for column in range(23):
        same = np.array_equal(actions[..., column], predicted[..., column])
        assert same == (column in ABSOLUTE), column


def test_every_member_of_a_batch_has_its_own_reference():
    predicted, proprio = random_chunk(4)
    both = decode(predicted, proprio, V17)
    for i in range(2):
        alone = decode(predicted[i : i + 1], proprio[i : i + 1], V17)
        np.testing.assert_array_equal(both[i], alone[0])


def test_all_thirty_rows_come_back_and_nothing_is_clipped():
    predicted, proprio = random_chunk(5)
    predicted *= 1e6
    predicted[0, 0, 0] = np.nan  # whoever executes it must be able to see it
    actions = decode(predicted, proprio, V4)
    assert (actions.dtype, actions.shape) == (np.float32, (2, 30, 23))
    np.testing.assert_array_equal(actions, expected_actions(predicted, proprio))


@given(data=st.data(), spec=contracts())
def test_any_order_of_parts_and_any_mask_decode_as_a_loop_does(data, spec):
    contract, mask = spec
    predicted, proprio = data.draw(chunks(1)), data.draw(proprios(1))
    actions = decode(predicted, proprio, contract)
    column = 0
    for part in contract.action_parts:
        for place in ROBOT[part]:
            reference = proprio[0, column] if mask[column] else 0
            np.testing.assert_array_equal(actions[0, :, place], predicted[0, :, column] + reference)
            column += 1


def test_grippers_last_in_the_proprio_shift_what_is_added_to_the_right_arm():
    """The decode goes by column, whatever the columns of the proprio are."""
    contract = dataclasses.replace(V17, proprio_parts=PROPRIO_GRIPPERS_LAST)
    predicted, proprio = random_chunk(6)
    actions = decode(predicted, proprio, contract)
    np.testing.assert_array_equal(actions, expected_actions(predicted, proprio))


def test_without_offsets_the_prediction_is_the_action_and_any_proprio_will_do():
    contract = dataclasses.replace(
        V17, delta_spec=(-23,), proprio_parts=("eef_left_pos", "eef_right_pos")
    )
    predicted, _ = random_chunk(7)
    actions = decode(predicted, np.ones((2, 6), np.float32), contract)
    np.testing.assert_array_equal(actions, predicted)
    assert not np.shares_memory(actions, predicted)


# --- encode --------------------------------------------------------------------------------------


@given(data=st.data(), spec=contracts())
def test_encode_and_decode_undo_each_other(data, spec):
    contract, _ = spec
    chunk, proprio = data.draw(chunks()), data.draw(proprios())
    np.testing.assert_array_equal(
        decode(encode(chunk, proprio, contract), proprio, contract), chunk
    )
    np.testing.assert_array_equal(
        encode(decode(chunk, proprio, contract), proprio, contract), chunk
    )


def test_holding_still_is_encoded_as_offsets_of_zero():
    _, proprio = random_chunk(8)
    actions = np.repeat(proprio[:, None], 30, axis=1)
    predicted = encode(actions, proprio, V17)
    for column in range(23):
        want = 0 if column in OFFSETS else actions[..., column]
        np.testing.assert_array_equal(predicted[..., column], np.broadcast_to(want, (2, 30)))


# --- which rows are executed ---------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_row_0_is_dropped_for_v4_and_no_row_for_v17(preset):
    contract = PRESETS[preset]
    assert executable_faults(lambda chunk: executable(chunk, contract), CARDS[preset]) == []
    actions, _ = random_chunk()
    rows = executable(actions, contract)
    assert rows.shape == (2, {"v4": 29, "v17": 30}[preset], 23)
    np.testing.assert_array_equal(rows[:, 0], actions[:, {"v4": 1, "v17": 0}[preset]])


# --- arguments and refusals ----------------------------------------------------------------------


@pytest.mark.parametrize("convert", [decode, encode])
def test_the_arguments_are_left_as_they_were_and_not_shared(convert):
    chunk, proprio = random_chunk()
    for array in (chunk, proprio):
        array.setflags(write=False)
    converted = convert(chunk, proprio, V17)
    assert converted.flags.c_contiguous
    assert converted.flags.writeable
    for array, fresh in zip((chunk, proprio), random_chunk(), strict=True):
        assert not np.shares_memory(converted, array)
        np.testing.assert_array_equal(array, fresh)


@pytest.mark.parametrize(
    ("convert", "name"), [(decode, "the predicted chunk"), (encode, "the actions")]
)
@pytest.mark.parametrize(
    ("chunk", "came"),
    [
        (np.zeros((2, 30, 23)), "float64 [2, 30, 23]"),
        (np.zeros((2, 30, 23), np.float16), "float16 [2, 30, 23]"),
        (np.zeros((30, 23), np.float32), "float32 [30, 23]"),
        (np.zeros((2, 29, 23), np.float32), "float32 [2, 29, 23]"),
        (np.zeros((2, 30, 20), np.float32), "float32 [2, 30, 20]"),
    ],
)
def test_a_chunk_of_another_kind_is_refused(convert, name, chunk, came):
    with pytest.raises(ActionError) as refused:
        convert(chunk, np.zeros((2, 23), np.float32), V17)
    assert str(refused.value) == f"{name} must be float32 [B, 30, 23], got {came}"
    assert refused.value.reason == "policy_invalid_action"


@pytest.mark.parametrize("convert", [decode, encode])
@pytest.mark.parametrize(
    ("proprio", "came"),
    [
        (np.zeros((2, 23)), "float64 [2, 23]"),
        (np.zeros(23, np.float32), "float32 [23]"),
        (np.zeros((2, 256), np.float32), "float32 [2, 256]"),
    ],
)
def test_a_proprio_that_offsets_cannot_be_added_to_is_refused(convert, proprio, came):
    with pytest.raises(ActionError) as refused:
        convert(np.zeros((2, 30, 23), np.float32), proprio, V17)
    assert str(refused.value) == (
        f"the proprio that offsets are added to must be float32 [B, 23], got {came}"
    )


@pytest.mark.parametrize("convert", [decode, encode])
@pytest.mark.parametrize("count", [1, 3])
def test_a_proprio_of_another_batch_is_refused_not_spread_over_it(convert, count):
    """numpy would add the proprio of one environment to the chunks of all."""
    with pytest.raises(ActionError):
        convert(np.zeros((2, 30, 23), np.float32), np.zeros((count, 23), np.float32), V17)


# --- rows that last, grippers that snap ----------------------------------------------------------


def test_a_row_that_lasts_is_commanded_again_and_nothing_is_made_up_between():
    chunk, _ = random_chunk()
    contract = dataclasses.replace(V4, steps_per_row=4)
    assert (contract.executed_steps, contract.derived()["chunk_seconds"]) == (29 * 4, 4.0)
    rows = executable(chunk, contract)
    assert rows.shape == (2, 116, 23)
    for step in range(116):
        np.testing.assert_array_equal(rows[:, step], chunk[:, 1 + step // 4])


def test_grippers_snap_at_the_threshold_and_the_rest_stays():
    chunk, _ = random_chunk()
    chunk[0, :3, 14] = 0.25, 0.2499, np.nan
    before = chunk.copy()
    rows = executable(chunk, dataclasses.replace(V17, gripper_threshold=0.25))
    assert rows[0, :2, 14].tolist() == [1.0, -1.0]
    assert np.isnan(rows[0, 2, 14])  # an error of the policy's, not a command
    assert set(np.unique(rows[1, :, [14, 22]])) == {-1.0, 1.0}
    others = [c for c in range(23) if c not in (14, 22)]
    np.testing.assert_array_equal(rows[..., others], chunk[..., others])
    np.testing.assert_array_equal(chunk, before)
