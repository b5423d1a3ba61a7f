"""Finding the contract under which a checkpoint is evaluated, and where each field came from.

Order of reading: EVAL_CONTRACT.json, config.json, statistics and the image processor's file, then
the preset that fits. What the files state and what would be sent must agree, or
`ContractConflictError` (exit code 3) lists the differences. For a field that the model card leaves
open the preset has only a default, so there the files win. What is given by hand (`--contract`,
`--set`) may fill in and may depart from a preset, but contradicts the checkpoint's own files only
when forced, and the result is then marked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from b1k_policies.contract.codecs import ContractValueError, as_text, near_miss
from b1k_policies.contract.contract import EvalContract
from b1k_policies.contract.fields import FIELDS, decode_value, field_info, json_value
from b1k_policies.contract.fitting import Base, find_base, presets_of
from b1k_policies.contract.presets import PRESETS, read_fields
from b1k_policies.contract.reading import (
    CONTRACT_FILE,
    Statement,
    read_folder,
    read_json,
    read_processor,
)
from b1k_policies.contract.resolved import (
    ConflictRow,
    ContractConflictError,
    FieldSource,
    ResolvedContract,
    fields_of_figure,
    find_remarks,
)
from b1k_policies.contract.statistics import find_statistics, not_honoured, refuse_unsettled

_SIZES = ("image_size", "geometry_size")
INTRINSICS_TOLERANCE = 0.1
"""Largest distance of a stated K from the one to be sent [px]; the cards round to 0.1."""


@dataclass(frozen=True, kw_only=True)
class _ByHand:
    """What `--contract` and `--set` say: the fields they spell out, and the base they name."""

    fields: Mapping[str, Statement]
    base: Base | None


def parse_setting(text: str) -> tuple[str, Any]:
    """Split `field=value` into a field's name and its canonical value.

    Raises:
        ContractValueError: There is no `=` or no such field (with near misses), or a bad value.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise ContractValueError(f"--set {text!r}: expects field=value, as in image_size=504")
    try:
        info = field_info(name.strip())
        return info.name, decode_value(info.name, info.codec.from_text(value.strip()))
    except ContractValueError as error:
        raise ContractValueError(f"--set {text}: {error}") from error


def resolve(
    folder: Path | None = None,
    *,
    contract: str | None = None,
    settings: Sequence[str] = (),
    force: bool = False,
) -> ResolvedContract:
    """Find the contract of a checkpoint, or the one that a name or a file alone describes.

    Args:
        folder: Folder of the checkpoint; None for `contract` alone.
        contract: Value of `--contract`: `v4`, `v17`, or a JSON file as `to_dict` writes it, whole
            or with a `base` (`{"base": "v17", "name": "v18", "first_action": 1}`).
        settings: Values of `--set`; later ones win.
        force: Whether what is given by hand may contradict the files. The result is then marked,
            and a normalisation that no field can express gets a remark instead of an error.

    Raises:
        ContractConflictError: The files contradict each other or what would be sent (exit 3).
        UsageError: There is no such folder or file, no preset fits, a value is not valid, or the
            checkpoint states what no field can express (exit 2).
    """
    contract_file, config = read_folder(folder)
    statistics = find_statistics(folder, contract_file, config)
    settings = [statistics.spelt_out(text) for text in settings]
    by_hand = _by_hand(contract, settings, alone=folder is None)
    unsettled = statistics.left(by_hand.fields)
    if not force:
        refuse_unsettled(folder, unsettled)
    statements = (*contract_file.statements, *config.statements, *statistics.statements)
    processor, overruled = _give_way(read_processor(folder), statements, by_hand)
    statements += tuple(processor)
    # Reversed, so that the first statement of a field stands: files come in order of authority.
    stated = {s.name: s for s in reversed(statements)}
    base = by_hand.base or find_base(folder, stated, by_hand.fields, config)
    conflicts = _among_themselves(statements)
    values: dict[str, Any] = {}
    sources: dict[str, FieldSource] = {}
    for name in FIELDS:
        usual = base.says(name)
        chosen, against = _choose(by_hand.fields.get(name), stated.get(name), usual, base)
        conflicts += against
        agreeing = [
            s.where
            for s in (*statements, *([usual] if usual else ()))
            if s.name == name and s.value == chosen.value and s.where != chosen.where
        ]
        values[name] = chosen.value
        sources[name] = FieldSource(
            source=chosen.where,
            confirmed_by=tuple(agreeing),
            forced=bool(against),
            by_default=chosen is usual,
        )
    try:
        result = EvalContract(**values)
    # The fields cannot hold together: which files disagree is the more useful message.
    except ContractValueError as error:
        if conflicts and not force:
            advice = _advice(stated, by_hand, base)
            raise ContractConflictError(str(folder), conflicts, advice) from error
        raise ContractValueError(f"{folder}: {error}" if folder else str(error)) from error
    conflicts += _check_figures(statements, result, sources)
    if conflicts and not force:
        raise ContractConflictError(str(folder), conflicts, _advice(stated, by_hand, base))
    remarks, by_field = find_remarks(
        result,
        sources,
        base,
        by_hand=by_hand.fields,
        contract_file=contract_file,
        config=config,
        also=[*not_honoured(unsettled), *overruled],
    )
    return ResolvedContract(
        contract=result,
        sources=sources,
        understood=statements,
        not_understood=(*contract_file.not_understood, *config.not_understood),
        remarks=remarks,
        remarks_by_field=by_field,
        forced=tuple(conflicts),
    )


def _choose(
    hand: Statement | None, says: Statement | None, usual: Statement | None, base: Base
) -> tuple[Statement, list[ConflictRow]]:
    """Return which statement of a field stands, and the conflict that this causes, if any.

    Args:
        hand: What is given by hand.
        says: What the checkpoint's files state.
        usual: What the base has.
        base: The base.
    """
    if says is None:
        chosen = hand or usual
        assert chosen is not None  # `find_base` refuses a contract that lacks a field
        return chosen, []
    row, other = FIELDS[says.name], hand or usual
    if hand is not None:
        free = row.sure == "choice" or row.effect == "label"
    else:
        free = base.own or row.sure in ("open", "choice")
    if other is None or other.value == says.value or free:
        return hand or says, []
    # When forced, the files win over a preset nobody named.
    chosen = says if other is usual and base.fitted_by else other
    return chosen, [ConflictRow.between(says, other)]


def _give_way(
    processor: Sequence[Statement], statements: Sequence[Statement], by_hand: _ByHand
) -> tuple[list[Statement], list[str]]:
    """Return the statements of the processor's file that count, and remarks on the others.

    The library writes that file with every checkpoint, used or not; v4's card makes its pictures
    without it.
    """
    counting, remarks = [], []
    for says in processor:
        others = [by_hand.fields.get(says.name)]
        others += [s for s in statements if s.name == says.name][:1]
        others += [by_hand.base.says(says.name)] if by_hand.base else []
        firmer = next(filter(None, others), says)
        if firmer.value == says.value:
            counting.append(says)
            continue
        ours, theirs = (as_text(json_value(says.name, s.value)) for s in (firmer, says))
        remarks.append(
            f"{says.where} says {theirs}, {says.name} is {ours} ({firmer.where}): the processor's "
            "file is taken for one that is not used"
        )
    return counting, remarks


# --- what is given by hand -------------------------------------------------------------------


def _by_hand(contract: str | None, settings: Sequence[str], *, alone: bool) -> _ByHand:
    source = f"--contract {contract}"
    named, fields, base = contract, {}, None
    if contract is not None and contract not in PRESETS:
        source = contract if alone else source
        named, values = _read_hand_file(contract, source)
        fields = {n: Statement(name=n, value=value, where=source) for n, value in values.items()}
        where = f"{source} (base {named})"
    else:
        where = f"preset {contract}" if alone else source
    if named is not None:
        base = Base(contract=PRESETS[named], source=where)
    for name, value in map(parse_setting, settings):
        fields[name] = Statement(name=name, value=value, where="--set")
    return _ByHand(fields=fields, base=base)


def _read_hand_file(word: str, source: str) -> tuple[str | None, dict[str, Any]]:
    path = Path(word)
    if not path.is_file():
        raise ContractValueError(
            f"--contract {word!r} is neither a preset nor a file{near_miss(word, [*PRESETS])}"
        )
    document = read_json(path)
    if "sources" in document and isinstance(document.get("contract"), Mapping):
        document = document["contract"]  # the output of `b1k-eval contract ... --json`
    try:
        return read_fields(document)
    except ContractValueError as error:
        raise ContractValueError(f"{source}: {error}") from error


# --- conflicts and advice --------------------------------------------------------------------


def _among_themselves(statements: Sequence[Statement]) -> list[ConflictRow]:
    first: dict[str, Statement] = {}
    return [
        ConflictRow.between(first[says.name], says)
        for says in statements
        if says.name in FIELDS
        and first.setdefault(says.name, says).value != says.value
        and FIELDS[says.name].sure != "choice"
    ]


def _check_figures(
    statements: Sequence[Statement], contract: EvalContract, sources: dict[str, FieldSource]
) -> list[ConflictRow]:
    """Compare stated figures with those that follow from the fields; `sources` is updated."""
    figures = contract.derived()
    for camera in contract.native_intrinsics:
        centre = camera.size / 2
        figures[f"native.{camera.view}"] = [
            camera.size, camera.focal, camera.focal, centre, centre,
        ]  # fmt: skip
    found = []
    for says in statements:
        if says.name in FIELDS or says.name == "base":
            continue
        ours = figures.get(says.name)
        if isinstance(says.value, list) and isinstance(ours, list):
            same = all(
                abs(a - b) <= INTRINSICS_TOLERANCE + 1e-9
                for a, b in zip(says.value, ours, strict=True)
            )
        else:
            same = says.value == ours
        about = fields_of_figure(says.name)[0]
        source = sources[about]
        if same:
            confirmed = (*source.confirmed_by, says.where)
            sources[about] = replace(source, confirmed_by=tuple(dict.fromkeys(confirmed)))
            continue
        sources[about] = replace(source, forced=True)
        where = f"{about} ({source.source})"
        found.append(ConflictRow.between(says, Statement(name=says.name, value=ours, where=where)))
    return found


def _advice(stated: Mapping[str, Statement], by_hand: _ByHand, base: Base) -> str:
    marked = "pass --force-contract for an ablation (the run is then marked)"
    sizes = [stated[name].value if name in stated else None for name in _SIZES]
    fitting = [] if sizes == [None, None] else presets_of(*sizes)
    if by_hand.base is not None or by_hand.fields:
        fits = f" (by size the files fit {' or '.join(fitting)})" if fitting else ""
        return f"Leave out what --contract or --set says against the files{fits}, or {marked}."
    if base.fitted_by:
        return (
            f"If this checkpoint is not {base.source.removeprefix('preset ')}, describe it in "
            f"{CONTRACT_FILE} under a name of its own (docs/contract.md); else correct the files, "
            f"or {marked}."
        )
    return f"Correct the files, or {marked}."
