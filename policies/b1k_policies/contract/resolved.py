"""A contract that was found, how it came about, and how it can fail to.

`resolving.resolve` makes these values; run.json records them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from b1k_envs.errors import ContractMismatchError
from b1k_policies.contract.contract import EvalContract
from b1k_policies.contract.fields import FIELDS, json_value
from b1k_policies.contract.reading import Statement

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
    """Fields that a figure a file may state (`intrinsics.head`) follows from, its own first."""
    return _FIELDS_OF_FIGURE.get(name.split(".")[0], ())


def as_text(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """A JSON value for a cell of a table."""
    if value is None:
        return "none"
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(entry, (str, int, float)) for entry in value):
        return ", ".join(str(entry) for entry in value)
    return json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One row of the table of a conflict.

    Attributes:
        name: Field, or figure that follows from fields.
        stated: What a file of the checkpoint says (JSON value).
        where: `FILE:key` that says so.
        other: What would be sent, or what another key says (JSON value).
        other_where: Where that comes from.
    """

    name: str
    stated: Any
    where: str
    other: Any
    other_where: str

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

    def __init__(self, folder: str, differences: Sequence[Difference], advice: str) -> None:
        self.differences = tuple(differences)
        self._told = (folder, self.differences, advice)
        rows = "".join(f"\n  {difference};" for difference in differences)
        count = f"{len(differences)} field{'s' if len(differences) != 1 else ''}"
        super().__init__(f"{folder}: contract and checkpoint disagree on {count}:{rows}\n{advice}")

    def __reduce__(self) -> tuple[Any, ...]:  # pickled by the arguments, not by the finished text
        return type(self), self._told


@dataclass(frozen=True, kw_only=True)
class FieldSource:
    """Where the value of a field came from.

    Attributes:
        source: `EVAL_CONTRACT.json:key`, `config.json:key`, `preset v17`, `--contract FILE` or
            `--set`.
        confirmed_by: Other places that say the same.
        forced: Whether it overrules the checkpoint's own files.
        by_default: Whether nobody asked for this value: neither a file nor `--set` spells it out.
            It comes from a preset or a base, however that one was chosen.
    """

    source: str
    confirmed_by: tuple[str, ...] = ()
    forced: bool = False
    by_default: bool = False


@dataclass(frozen=True, kw_only=True)
class ResolvedContract:
    """A contract and how it came about; `to_dict` goes into run.json.

    Attributes:
        contract: The contract.
        sources: Per field, where its value came from.
        understood: What the checkpoint's files state, in order.
        not_understood: `FILE:key: value` of keys that may concern the contract and say nothing to
            this version.
        remarks: What a person should read before trusting a result.
        remarks_by_field: Those of `remarks` that are about one field, by field.
        forced: Fields and figures in which `--force-contract` overruled the files.
    """

    contract: EvalContract
    sources: Mapping[str, FieldSource]
    understood: tuple[Statement, ...] = ()
    not_understood: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    remarks_by_field: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    forced: tuple[Difference, ...] = ()

    @property
    def is_forced(self) -> bool:
        """Whether the run overrules the checkpoint's own files and must be marked."""
        return bool(self.forced)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
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
