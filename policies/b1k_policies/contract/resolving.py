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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from b1k_envs.errors import UsageError
from b1k_policies.contract.codecs import ContractValueError, near_miss
from b1k_policies.contract.contract import EvalContract
from b1k_policies.contract.fields import FIELDS, decode_value, field_info, json_value
from b1k_policies.contract.fitting import fit_preset, how_it_fits, presets_of
from b1k_policies.contract.presets import PRESETS, read_fields
from b1k_policies.contract.reading import (
    CONFIG_FILE,
    CONTRACT_FILE,
    Reading,
    Statement,
    read_config,
    read_contract_file,
    read_json,
    read_processor,
)
from b1k_policies.contract.resolved import (
    ConflictRow,
    ContractConflictError,
    FieldSource,
    ResolvedContract,
    as_text,
    fields_of_figure,
    find_remarks,
)
from b1k_policies.contract.statistics import find_statistics, refuse_unsettled

_SIZES = ("image_size", "geometry_size")
INTRINSICS_TOLERANCE = 0.1
"""Largest distance of a stated K from the one to be sent [px]; the cards round to 0.1."""


@dataclass(kw_only=True)
class _ByHand:
    """What `--contract` and `--set` say: the fields they spell out, and the preset they name."""

    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    base: EvalContract | None = None
    base_source: str = ""


@dataclass(frozen=True, kw_only=True)
class _Base:
    """The contract that fills in the fields that nobody states.

    Attributes:
        contract: Its values; None where every field is stated.
        source: What to call it.
        standing: `named` by hand, `own` (the checkpoint's file names it and departs from it on
            purpose), or `fitted` (chosen here, so the files must agree with it).
    """

    contract: EvalContract | None
    source: str
    standing: Literal["named", "own", "fitted"]

    def value(self, name: str) -> Any:  # noqa: ANN401 - the field's own type
        return None if self.contract is None else getattr(self.contract, name)


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
    unsettled = statistics.left(by_hand.values)
    if not force:
        refuse_unsettled(folder, unsettled)
    statements = (*contract_file.statements, *config.statements, *statistics.statements)
    processor, overruled = _give_way(read_processor(folder), statements, by_hand)
    statements += tuple(processor)
    # Reversed, so that the first statement of a field stands: files come in order of authority.
    stated = {s.name: s for s in reversed(statements)}
    base = _find_base(folder, stated, by_hand, config)
    conflicts = _among_themselves(statements)
    values: dict[str, Any] = {}
    sources: dict[str, FieldSource] = {}
    for name in FIELDS:
        value, source, conflict = _choose(name, by_hand, stated.get(name), base)
        agreeing = [s.where for s in statements if s.name == name and s.value == value]
        if conflict is not None:
            conflicts.append(conflict)
        if base.contract is not None and base.value(name) == value:
            agreeing.append(base.source)
        values[name] = value
        confirmed = tuple(where for where in agreeing if where != source.source)
        sources[name] = replace(source, confirmed_by=confirmed, forced=conflict is not None)
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
        base=base.contract,
        base_source=base.source,
        fitted=how_it_fits(stated) if base.standing == "fitted" else None,
        by_hand=[*by_hand.values],
        contract_file=contract_file,
        config=config,
        unsettled=unsettled,
        also=overruled,
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
    name: str, by_hand: _ByHand, says: Statement | None, base: _Base
) -> tuple[Any, FieldSource, ConflictRow | None]:
    """Return a field's value, where it comes from, and the conflict it causes, if any."""
    of_base = FieldSource(source=base.source, by_default=True)
    if name in by_hand.values:
        value, source = by_hand.values[name], by_hand.sources[name]
        free = FIELDS[name].sure == "choice" or FIELDS[name].effect == "label"
        allowed = says is None or says.value == value or free
        conflict = None if allowed else _difference(says, value, source)
        return value, FieldSource(source=source), conflict
    if says is None:
        return base.value(name), of_base, None
    own = FieldSource(source=says.where)
    agreed = base.standing == "own" or base.contract is None or base.value(name) == says.value
    if agreed or FIELDS[name].sure in ("open", "choice"):
        return says.value, own, None
    conflict = _difference(says, base.value(name), base.source)
    if base.standing == "named":
        return base.value(name), of_base, conflict
    return says.value, own, conflict  # when forced, the files win over a preset nobody named


def _give_way(
    processor: Sequence[Statement], statements: Sequence[Statement], by_hand: _ByHand
) -> tuple[list[Statement], list[str]]:
    """Return the statements of the processor's file that count, and remarks on the others.

    The library writes that file with every checkpoint, used or not; v4's card makes its pictures
    without it.
    """
    counting, remarks = [], []
    for says in processor:
        firmer = _firmer(says.name, statements, by_hand)
        if firmer is None or firmer[0] == says.value:
            counting.append(says)
            continue
        ours, theirs = (as_text(json_value(says.name, v)) for v in (firmer[0], says.value))
        remarks.append(
            f"{says.where} says {theirs}, {says.name} is {ours} ({firmer[1]}): the processor's "
            "file is taken for one that is not used"
        )
    return counting, remarks


def _firmer(name: str, statements: Sequence[Statement], by_hand: _ByHand) -> tuple[Any, str] | None:
    """Return what is said of a field by hand, or else by a file other than the processor's."""
    if name in by_hand.values:
        return by_hand.values[name], by_hand.sources[name]
    says = next((s for s in statements if s.name == name), None)
    if says is not None:
        return says.value, says.where
    if by_hand.base is None or name not in FIELDS:
        return None
    return getattr(by_hand.base, name), by_hand.base_source


def _find_base(
    folder: Path | None, stated: Mapping[str, Statement], by_hand: _ByHand, config: Reading
) -> _Base:
    if by_hand.base is not None:
        return _Base(contract=by_hand.base, source=by_hand.base_source, standing="named")
    missing = [n for n in FIELDS if n not in stated and n not in by_hand.values]
    if folder is None or set(by_hand.values) >= set(FIELDS):
        if missing:
            raise ContractValueError(
                f"the contract lacks {', '.join(missing)}; say them, or name a base, as in "
                f'"base": "v17"'
            )
        return _Base(contract=None, source="", standing="named")
    names = ", ".join(PRESETS)
    called = stated.get("name")
    if called is not None and called.value not in PRESETS:
        based = stated.get("base")
        if based is not None:
            return _Base(
                contract=PRESETS[based.value], source=f"base {based.value}", standing="own"
            )
        if not missing:
            return _Base(contract=None, source="", standing="own")
        raise ContractValueError(
            f"{folder}: {called.where} says {called.value!r}, which is none of the presets "
            f"({names}), and nothing states {', '.join(missing)}; say them in {CONTRACT_FILE}, or "
            f'a base ("base": "v17"), or pass --contract'
        )
    chosen = fit_preset(folder, stated, config, by_hand.values.get("image_size"))
    return _Base(contract=PRESETS[chosen], source=f"preset {chosen}", standing="fitted")


def _by_hand(contract: str | None, settings: Sequence[str], *, alone: bool) -> _ByHand:
    by_hand = _ByHand()
    if contract is not None:
        preset = PRESETS.get(contract)
        if preset is not None:
            by_hand.base = preset
            by_hand.base_source = f"preset {contract}" if alone else f"--contract {contract}"
        else:
            _read_hand_file(contract, by_hand, contract if alone else f"--contract {contract}")
    for text in settings:
        name, value = parse_setting(text)
        by_hand.values[name], by_hand.sources[name] = value, "--set"
    return by_hand


def _read_hand_file(word: str, by_hand: _ByHand, source: str) -> None:
    path = Path(word)
    if not path.is_file():
        raise ContractValueError(
            f"--contract {word!r} is neither a preset nor a file{near_miss(word, [*PRESETS])}"
        )
    document = read_json(path)
    if "sources" in document and isinstance(document.get("contract"), Mapping):
        document = document["contract"]  # the output of `b1k-eval contract ... --json`
    try:
        base, fields = read_fields(document)
    except ContractValueError as error:
        raise ContractValueError(f"{source}: {error}") from error
    if base is not None:
        by_hand.base, by_hand.base_source = PRESETS[base], f"{source} (base {base})"
    by_hand.values.update(fields)
    by_hand.sources.update(dict.fromkeys(fields, source))


def read_folder(folder: Path | None) -> tuple[Reading, Reading]:
    """Read EVAL_CONTRACT.json and config.json of a folder; without a folder both are empty.

    Raises:
        UsageError: The folder does not exist or has no config.json.
        ContractValueError: A file does not hold a JSON object.
    """
    if folder is None:
        return Reading(), Reading()
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; give the folder of a checkpoint")
    if not (folder / CONFIG_FILE).is_file():
        there = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"
        raise UsageError(
            f"{folder} has no {CONFIG_FILE}, so it is no checkpoint folder; it holds {there}"
        )
    contract_path = folder / CONTRACT_FILE
    contract_file = (
        read_contract_file(read_json(contract_path)) if contract_path.is_file() else Reading()
    )
    return contract_file, read_config(read_json(folder / CONFIG_FILE))


# --- conflicts and advice --------------------------------------------------------------------


def _difference(says: Statement | None, other: Any, other_where: str) -> ConflictRow | None:  # noqa: ANN401
    if says is None:
        return None
    return ConflictRow(
        name=says.name,
        stated=json_value(says.name, says.value),
        where=says.where,
        other=json_value(says.name, other),
        other_where=other_where,
    )


def _among_themselves(statements: Sequence[Statement]) -> list[ConflictRow]:
    first: dict[str, Statement] = {}
    found = []
    for says in statements:
        before = first.setdefault(says.name, says)
        free = says.name in FIELDS and FIELDS[says.name].sure == "choice"
        difference = _difference(before, says.value, says.where)
        if says.name in FIELDS and before.value != says.value and not free and difference:
            found.append(difference)
    return found


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
        found.append(
            ConflictRow(
                name=says.name,
                stated=says.value,
                where=says.where,
                other=ours,
                other_where=f"{about} ({source.source})",
            )
        )
    return found


def _advice(stated: Mapping[str, Statement], by_hand: _ByHand, base: _Base) -> str:
    marked = "pass --force-contract for an ablation (the run is then marked)"
    sizes = [stated[name].value if name in stated else None for name in _SIZES]
    fitting = [] if sizes == [None, None] else presets_of(*sizes)
    if by_hand.base is not None or by_hand.values:
        fits = f" (by size the files fit {' or '.join(fitting)})" if fitting else ""
        return f"Leave out what --contract or --set says against the files{fits}, or {marked}."
    if base.standing == "fitted":
        return (
            f"If this checkpoint is not {base.source.removeprefix('preset ')}, describe it in "
            f"{CONTRACT_FILE} under a name of its own (docs/contract.md); else correct the files, "
            f"or {marked}."
        )
    return f"Correct the files, or {marked}."
