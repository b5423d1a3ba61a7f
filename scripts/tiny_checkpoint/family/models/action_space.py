"""Which columns are what: 17 offsets, 6 commands, and what training hides of the proprio."""

from __future__ import annotations

ACTION_SLICE = {
    "idx_for_delta": [3, 4, 5, *range(7, 14), *range(15, 22)],
    "idx_for_abs": [0, 1, 2, 6, 14, 22],
    # Zeroed in the proprio by the handler of the family: every column that is no offset.
    "idx_for_mask_proprio": [0, 1, 2, 6, 14, 22],
}
