"""The result of looking for a contract: where each field came from, or what contradicts.

`resolving.resolve` makes these values; run.json records them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from b1k_envs.errors import ContractMismatchError
from b1k_policies.contract.contract import EvalContract
from b1k_policies.contract.fields import FIELDS, json_value
from b1k_policies.contract.fitting import Base
from b1k_policies.contract.presets import CARD_CONFIG
from b1k_policies.contract.reading import CONFIG_FILE, CONTRACT_FILE, Reading, Statement

_FIELDS_OF_FIGURE: Mapping[str, tuple[str, ...]] = {
    "intrinsics": ("native_intrinsics", "scale_intrinsics", "image_size"),
    "native": ("native_intrinsics",),
    "view_count": ("view_order",),
    "proprio_dim": ("proprio_parts",),
    "action_dim": ("action_parts",),
    "progress_head": ("progress_output",),
    "row_seconds": ("steps_per_row",),
    "chunk_seconds": ("steps_per_row", "chunk_length"),
    "gripper_binarised": ("gripper_threshold",),
}


def fields_of_figure(name: str) -> tuple[str, ...]:
    """Return the fields from which a stated figure (`intrinsics.head`) follows, main one first."""
    return _FIELDS_OF_FIGURE.get(name.split(".")[0], ())


@dataclass(frozen=True, kw_only=True)
class ConflictRow:
    """One row of a conflict's table.

    Attributes:
        name: Field, or figure that follows from fields.
        stated: JSON value that a file of the checkpoint states.
        where: `FILE:key` that states it.
        other: JSON value that would be sent, or that another key states.
        other_where: Where that value comes from.
    """

    name: str
    stated: Any
    where: str
    other: Any
    other_where: str

    @classmethod
    def between(cls, says: Statement, other: Statement) -> ConflictRow:
        """Return the row of a file's statement and of another one about the same."""
        return cls(
            name=says.name,
            stated=json_value(says.name, says.value),
            where=says.where,
            other=json_value(says.name, other.value),
            other_where=other.where,
        )

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.where} says {json.dumps(self.stated)}, "
            f"{self.other_where} says {json.dumps(self.other)}"
        )


class ContractConflictError(ContractMismatchError):
    """The checkpoint's files contradict each other or what would be sent. Exit code 3.

    Attributes:
        differences: The table, one row a field.
    """

    def __init__(self, folder: str, differences: Sequence[ConflictRow], advice: str) -> None:
        self.differences = tuple(differences)
        self._told = (folder, self.differences, advice)
        rows = "".join(f"\n  {difference};" for difference in differences)
        count = f"{len(differences)} field{'s' if len(differences) != 1 else ''}"
        super().__init__(f"{folder}: contract and checkpoint disagree on {count}:{rows}\n{advice}")

    # Exceptions pickle by `args`, which is the finished text; the constructor needs its arguments.
    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._told


@dataclass(frozen=True, kw_only=True)
class FieldSource:
    """Where the value of a field came from.

    Attributes:
        source: `EVAL_CONTRACT.json:key`, `config.json:key`, `preset v17`, `--contract FILE` or
            `--set`.
        confirmed_by: Other places that state the same value.
        forced: Whether it overrules the checkpoint's own files.
        by_default: Whether neither a file nor `--set` spells the value out, so that it comes from
            a preset or a base, however that one was chosen.
    """

    source: str
    confirmed_by: tuple[str, ...] = ()
    forced: bool = False
    by_default: bool = False


@dataclass(frozen=True, kw_only=True)
class ResolvedContract:
    """A contract and how it was found; `to_dict` goes into run.json.

    Attributes:
        contract: The contract.
        sources: Where the value of each field came from.
        understood: What the checkpoint's files state, in order.
        not_understood: `FILE:key: value` of keys that may concern the contract and that this
            version does not understand.
        remarks: What a person should read before trusting a result.
        remarks_by_field: The remarks that are about one field, by field.
        forced: Fields and figures in which `--force-contract` overruled the files.
    """

    contract: EvalContract
    sources: Mapping[str, FieldSource]
    understood: tuple[Statement, ...] = ()
    not_understood: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    remarks_by_field: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    forced: tuple[ConflictRow, ...] = ()

    @property
    def is_forced(self) -> bool:
        """Whether the run overrules the checkpoint's own files and must be marked."""
        return bool(self.forced)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "contract": self.contract.to_dict(),
            "sources": {
                name: {
                    "source": source.source,
                    "confirmed_by": list(source.confirmed_by),
                    "forced": source.forced,
                    "by_default": source.by_default,
                    "effect": FIELDS[name].effect,
                    "sure": FIELDS[name].sure,
                }
                for name, source in self.sources.items()
            },
            "derived": self.contract.derived(),
            "understood": [
                {"where": s.where, "states": s.name, "value": json_value(s.name, s.value)}
                for s in self.understood
            ],
            "not_understood": list(self.not_understood),
            "remarks": list(self.remarks),
            "forced": [str(difference) for difference in self.forced],
        }


# --- what a person should read before trusting a result ------------------------------------------


def find_remarks(
    contract: EvalContract,
    sources: Mapping[str, FieldSource],
    base: Base,
    *,
    by_hand: Iterable[str],
    contract_file: Reading,
    config: Reading,
    also: Sequence[str],
) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Collect what a person should read about a contract.

    Args:
        contract: The contract that was found.
        sources: Where each field came from.
        base: What filled in the fields that nobody stated.
        by_hand: Fields that were spelt out by hand.
        contract_file: What EVAL_CONTRACT.json says.
        config: What config.json says.
        also: Remarks that were made earlier.

    Returns:
        (all remarks in order, the remarks about one field by field).
    """
    departures = {n: (text,) for n in by_hand if (text := _departure(n, contract, sources, base))}
    rows = tuple(_crossed_rows(contract))
    remarks = []
    if config.document and not contract_file.document:
        remarks.append(f"the checkpoint has no {CONTRACT_FILE}")
    remarks += [*_unread(contract_file), *also]
    if base.fitted_by and sources["name"].by_default:
        remarks.append(f"taken for {contract.name} by {base.fitted_by}")
    remarks += [text for (text,) in departures.values()]
    remarks += [*_not_the_cards(config, base), *rows]
    if contract.misaligned_deltas:
        columns = ", ".join(map(str, contract.misaligned_deltas))
        remarks.append(f"offsets of columns {columns} are added to another joint's position")
    defaults = [n for n, row in FIELDS.items() if row.sure == "open" and sources[n].by_default]
    if defaults:
        remarks.append(f"open, and taken from {base.source} unproven: {', '.join(defaults)}")
    by_field: dict[str, tuple[str, ...]] = {**departures}
    if rows:
        by_field["extrinsics_rows"] = (*departures.get("extrinsics_rows", ()), *rows)
    return tuple(remarks), by_field


def _unread(contract_file: Reading) -> Iterator[str]:
    unread = contract_file.unread
    if unread:
        count = f"{len(unread)} key{'s' if len(unread) != 1 else ''}"
        first = ", ".join(each.key for each in unread[:3]) + (", ..." if len(unread) > 3 else "")
        yield f"{CONTRACT_FILE}: {count} not understood ({first}); see `b1k-eval contract CKPT`"


def _departure(
    name: str, contract: EvalContract, sources: Mapping[str, FieldSource], base: Base
) -> str | None:
    """Return the remark on a field that was set by hand to another value than the base's."""
    row, value, usual = FIELDS[name], getattr(contract, name), base.says(name)
    firm = row.effect != "label" and row.sure in ("card", "public")
    if usual is None or base.contract is None or not firm or value == usual.value:
        return None
    ours, theirs = (json.dumps(json_value(name, each)) for each in (value, usual.value))
    return f"{name} is {ours} ({sources[name].source}), against {theirs} of {base.contract.name}"


def _not_the_cards(config: Reading, base: Base) -> Iterator[str]:
    name = "" if base.contract is None else base.contract.name
    for key, wanted in CARD_CONFIG.get(name, {}).items():
        found = config.value(key)
        if found is not None and found != wanted:
            yield (
                f"{CONFIG_FILE}:{key} is {json.dumps(found)}, the card of {name} says "
                f"{json.dumps(wanted)}: perhaps another model of the same image size"
            )


def _crossed_rows(contract: EvalContract) -> Iterator[str]:
    for row, (image, pose) in enumerate(
        zip(contract.view_order, contract.extrinsics_rows, strict=True)
    ):
        if image != pose:
            yield f"extrinsics row {row} has the pose of {pose}, image {row} is {image}"
