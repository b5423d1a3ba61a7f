"""What a person should read of a contract that was found, before trusting a result."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from b1k_policies.contract.contract import EvalContract
from b1k_policies.contract.fields import FIELDS, json_value
from b1k_policies.contract.presets import CARD_CONFIG
from b1k_policies.contract.reading import CONFIG_FILE, CONTRACT_FILE, Reading
from b1k_policies.contract.resolved import FieldSource
from b1k_policies.contract.statistics import Unsettled, told


def find_remarks(
    contract: EvalContract,
    sources: Mapping[str, FieldSource],
    *,
    base: EvalContract | None,
    base_source: str,
    fitted: str | None,
    by_hand: Sequence[str],
    contract_file: Reading,
    config: Reading,
    unsettled: Sequence[Unsettled] = (),
    also: Sequence[str] = (),
) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Remarks on a contract.

    Args:
        contract: As it was found.
        sources: Where each field came from.
        base: What filled in the fields that nobody stated; None if every field was stated.
        base_source: What to call it.
        fitted: By what it was chosen, in words, where nobody named it.
        by_hand: Fields that were spelt out by hand.
        contract_file: What EVAL_CONTRACT.json says.
        config: What config.json says.
        unsettled: What speaks of normalised numbers and is not honoured.
        also: Remarks that were made on the way.

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
    if unsettled:
        remarks.append(f"{told(unsettled)}: not honoured, numbers are sent and executed without")
    remarks += also
    if fitted is not None and sources["name"].by_default:
        remarks.append(f"taken for {contract.name} by {fitted}")
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
    for key, wanted in CARD_CONFIG.get(base.name, {}).items():
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
