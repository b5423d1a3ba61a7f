"""What a person should read of a contract that was found, before trusting a result."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from b1k_policies.contract import EvalContract
from b1k_policies.contract_fields import FIELDS
from b1k_policies.contract_reading import CONFIG_FILE, CONTRACT_FILE, Reading
from b1k_policies.contract_resolved import FieldSource, json_value

# What the cards say of config.json that no batch depends on. A departure is worth a remark: the
# size alone chose the preset, and this may be another model of that size.
_CARD_CONFIG: Mapping[str, Mapping[str, Any]] = {
    "v4": {
        "skill_classifier_weight": 0.1,
        "geometry_conditioning.da3_model_name": "depth-anything/DA3-BASE",
        "geometry_conditioning.num_geometry_tokens": 32,
    },
    "v17": {
        "skill_classifier_weight": 0.5,
        "geometry_conditioning.da3_model_name": "depth-anything/DA3-LARGE",
        "geometry_conditioning.num_geometry_tokens": 240,
    },
}


def find_remarks(
    contract: EvalContract,
    sources: Mapping[str, FieldSource],
    *,
    base: EvalContract | None,
    base_source: str,
    by_size: bool,
    by_hand: Sequence[str],
    contract_file: Reading,
    config: Reading,
) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Remarks on a contract.

    Args:
        contract: As it was found.
        sources: Where each field came from.
        base: What filled in the fields that nobody stated; None if every field was stated.
        base_source: What to call it.
        by_size: Whether it was chosen by what the files say, not by hand.
        by_hand: Fields that were spelt out by hand.
        contract_file: What EVAL_CONTRACT.json says.
        config: What config.json says.

    Returns:
        (all of them in order, those that are about one field by field).
    """
    by_field: dict[str, tuple[str, ...]] = {
        name: (text,) for name in by_hand if (text := _departure(name, contract, sources, base))
    }
    departures = [text for texts in by_field.values() for text in texts]
    rows = tuple(_crossed_rows(contract))
    if rows:
        by_field["extrinsics_rows"] = (*by_field.get("extrinsics_rows", ()), *rows)
    remarks = []
    if config.document and not contract_file.document:
        remarks.append(f"the checkpoint has no {CONTRACT_FILE}")
    remarks += _unread(contract_file)
    if by_size and sources["name"].by_default:
        remarks.append(f"taken for {contract.name} by its image size; no file names it")
    remarks += [*departures, *_not_the_cards(config, base), *rows]
    if contract.misaligned_deltas:
        columns = ", ".join(map(str, contract.misaligned_deltas))
        remarks.append(f"offsets of columns {columns} are added to another joint's position")
    defaults = [n for n, info in FIELDS.items() if info.sure == "open" and sources[n].by_default]
    if defaults:
        remarks.append(f"open, and taken from {base_source} unproven: {', '.join(defaults)}")
    return tuple(remarks), by_field


def _unread(contract_file: Reading) -> Iterator[str]:
    unread = contract_file.unread
    if unread:
        count = f"{len(unread)} key{'s' if len(unread) != 1 else ''}"
        first = ", ".join(each.key for each in unread[:3]) + (", ..." if len(unread) > 3 else "")
        yield f"{CONTRACT_FILE}: {count} not understood ({first}); see `b1k-eval contract CKPT`"
    statistics = ", ".join(each.key for each in unread if each.statistics)
    if statistics:
        yield (
            f"{CONTRACT_FILE}: {statistics} speaks of normalised proprio or actions: not honoured, "
            "the numbers are sent and executed without"
        )


def _departure(
    name: str,
    contract: EvalContract,
    sources: Mapping[str, FieldSource],
    base: EvalContract | None,
) -> str | None:
    """What is said of a field that was set by hand to something else than the base's."""
    info, value = FIELDS[name], getattr(contract, name)
    firm = info.effect != "label" and info.sure in ("card", "public")
    if base is None or not firm or value == getattr(base, name):
        return None
    ours = json.dumps(json_value(name, value))
    theirs = json.dumps(json_value(name, getattr(base, name)))
    return f"{name} is {ours} ({sources[name].source}), against {theirs} of {base.name}"


def _not_the_cards(config: Reading, base: EvalContract | None) -> Iterator[str]:
    if base is None:
        return
    for key, wanted in _CARD_CONFIG.get(base.name, {}).items():
        found = config.value(key)
        if found is not None and found != wanted:
            yield (
                f"{CONFIG_FILE}:{key} is {json.dumps(found)}, the card of {base.name} says "
                f"{json.dumps(wanted)}: perhaps another model of the same image size"
            )


def _crossed_rows(contract: EvalContract) -> Iterator[str]:
    for row, (image, pose) in enumerate(
        zip(contract.view_order, contract.extrinsics_rows, strict=True)
    ):
        if image != pose:
            yield f"extrinsics row {row} has the pose of {pose}, image {row} is {image}"
