"""Finding what a checkpoint's files say about normalised proprio or actions.

A model that was trained on normalised numbers and is sent raw ones gives wrong actions without an
error. So plain statistics per column of a named kind become a statement of the contract, and
anything else is refused unless whoever runs it settles it with `--set`. Searched are
EVAL_CONTRACT.json, config.json (`normalization_mapping`, `use_quantile_norm`), files of statistics
beside the weights, LeRobot's policy processors, and safetensors buffers whose names begin with
`normalize_` or `unnormalize_`. Pickles are not read here; `preflight` looks at the loaded model.

Sources: openpi (`norm_stats.json`: state, actions; mean, std, q01, q99); LeRobot (`stats.json`,
`policy_preprocessor.json`, `normalization_mapping` with its modes).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from b1k_policies.contract.codecs import ContractValueError
from b1k_policies.contract.fields import decode_value
from b1k_policies.contract.normalisation import OPENPI_EPSILON, STATISTICS, Kind
from b1k_policies.contract.reading import (
    CONFIG_FILE,
    CONTRACT_FILE,
    Reading,
    Statement,
    Unread,
    read_json,
)
from b1k_policies.contract.spellings import snake

_VECTORS: Mapping[str, frozenset[str]] = MappingProxyType({
    "proprio_normalisation": frozenset(("proprio", "proprioception", "state", "states")),
    "action_normalisation": frozenset(("action", "actions")),
})  # fmt: skip
"""The words by which files name the vector that a field is about."""
FIELDS_OF_STATISTICS = tuple(_VECTORS)
BUFFERS = re.compile(r"(?:^|\.)(?:un)?normali[sz]e_\w+\.")
"""Names of the tensors in which an older LeRobot model keeps its statistics."""

_LEROBOT_EPSILON = 1e-8
_BESIDE = re.compile(r"(?i).*(norm|stats|statistics).*\.json")
_PROCESSORS = ("policy_preprocessor.json", "policy_postprocessor.json")
_MODES: Mapping[str, Kind | None] = MappingProxyType(
    {
        **dict.fromkeys(("identity", "none"), None),
        **dict.fromkeys(("meanstd", "zscore", "gaussian", "standard"), "mean_std"),
        **dict.fromkeys(("quantile", "quantiles", "q01q99"), "quantiles"),
        **dict.fromkeys(("minmax", "bounds"), "min_max"),
    }
)
"""Names of the modes, reduced to letters and digits."""
_STATISTICS = re.compile(
    r"(un|de)?norm(ali[sz]\w*)?|means?|stds?|stdev|q\d\d|quantiles?|stats?|statistics"
)
_PICTURES = {
    "image", "images", "img", "pixels", "rgb", "imagenet", "color", "colour", "vision", "visual",
    "depth",
}  # fmt: skip
_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


@dataclass(frozen=True, kw_only=True)
class _Table:
    """The statistics that one place has of the columns of one vector.

    Attributes:
        field: Field of the contract that they are about.
        where: `FILE:key.of.key`.
        numbers: A list of numbers for each name of a statistic.
        epsilon: What the code that reads such files adds to the divisor.
        kept_by_model: Whether the model itself has them, and may apply them.
    """

    field: str
    where: str
    numbers: Mapping[str, Any]
    epsilon: float
    kept_by_model: bool = False

    def kinds(self) -> list[Kind]:
        return [kind for kind, names in STATISTICS.items() if set(names) <= set(self.numbers)]

    def value(self, kind: Kind) -> dict[str, Any]:
        names = STATISTICS[kind]
        return {"kind": kind, **{n: self.numbers[n] for n in names}, "epsilon": self.epsilon}


@dataclass(frozen=True, kw_only=True)
class _Mode:
    """How a file says that a vector is normalised; kind None means that it is not."""

    field: str
    where: str
    kind: Kind | None


@dataclass(frozen=True, kw_only=True)
class Unsettled:
    """A mention of normalised numbers that gives no value for a field.

    Attributes:
        field: Field of the contract that it is about.
        where: `FILE: key`.
        why: What is missing.
    """

    field: str
    where: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What a checkpoint's files say about the two fields of normalisation.

    Attributes:
        statements: Values of the two fields.
        unsettled: Mentions that give no value.
        tables: All statistics that were found.
    """

    statements: tuple[Statement, ...] = ()
    unsettled: tuple[Unsettled, ...] = ()
    tables: tuple[_Table, ...] = ()

    def spelt_out(self, setting: str) -> str:
        """Complete `proprio_normalisation=mean_std` with the numbers of the checkpoint's files.

        Raises:
            ContractValueError: No file has the numbers, or several files have different ones.
        """
        name, _, word = (part.strip() for part in setting.partition("="))
        if name not in FIELDS_OF_STATISTICS or word not in STATISTICS:
            return setting
        kind = cast("Kind", word)
        tables = [t for t in self.tables if t.field == name and kind in t.kinds()]
        values = {json.dumps(table.value(kind)) for table in tables}
        if len(values) != 1:
            found = ", ".join(t.where for t in tables) or "none"
            raise ContractValueError(
                f"--set {setting}: needs {' and '.join(STATISTICS[kind])} from exactly one file of "
                f'the checkpoint, found {found}; give them: --set \'{name}={{"kind": "{kind}", '
                f'"{STATISTICS[kind][0]}": [...], "{STATISTICS[kind][1]}": [...]}}\''
            )
        return f"{name}={values.pop()}"

    def left(self, by_hand: Collection[str]) -> list[Unsettled]:
        """Return the mentions that neither a file nor a field given by hand settles."""
        settled = {statement.name for statement in self.statements} | {*by_hand}
        return [each for each in self.unsettled if each.field not in settled]


def find_statistics(folder: Path | None, contract_file: Reading, config: Reading) -> Statistics:
    """Search a checkpoint's folder for statistics.

    Args:
        folder: The folder, or None.
        contract_file: What EVAL_CONTRACT.json says; keys that are understood here are removed from
            its unread ones.
        config: What config.json says.
    """
    if folder is None:
        return Statistics()
    modes = [*_modes(CONTRACT_FILE, contract_file.document), *_modes(CONFIG_FILE, config.document)]
    tables = list(_tables(CONTRACT_FILE, contract_file.document, OPENPI_EPSILON))
    unsettled: list[Unsettled] = []
    for file in _beside(folder):
        name, document = file.relative_to(folder).as_posix(), read_json(file)
        if file.name in _PROCESSORS:
            for step in _steps(document):
                eps = step["config"].get("eps", _LEROBOT_EPSILON)
                modes += _modes(name, {"normalization_mapping": step["config"].get("norm_map")})
                state = folder / str(step.get("state_file"))
                tables += _tables(state.name, _nested(_tensors(state)), eps)
            continue
        modes += _modes(name, document)
        tables += _tables(name, document, OPENPI_EPSILON)
        if _pairs(document):
            why = "whose numbers they are is not said"
            unsettled += [Unsettled(field=f, where=name, why=why) for f in FIELDS_OF_STATISTICS]
    for file in sorted(folder.glob("*.safetensors")):
        tables += [
            replace(table, kept_by_model=True)
            for table in _tables(file.name, _nested(_tensors(file, BUFFERS)), _LEROBOT_EPSILON)
        ]
    statements: list[Statement] = []
    for field in FIELDS_OF_STATISTICS:
        for found in _settle(
            field, [m for m in modes if m.field == field], [t for t in tables if t.field == field]
        ):
            if isinstance(found, Statement):
                statements.append(found)
            else:
                unsettled.append(found)
    unsettled += _unread(contract_file, {statement.name for statement in statements})
    return Statistics(
        statements=tuple(statements), unsettled=tuple(unsettled), tables=tuple(tables)
    )


def refuse_unsettled(folder: Path | None, left: Sequence[Unsettled]) -> None:
    """Stop if a checkpoint normalises in a way no field expresses: it would be sent raw numbers.

    Raises:
        ContractValueError: The text says what was found and what can be done.
    """
    if not left:
        return
    fields = " and ".join(dict.fromkeys(each.field for each in left))
    raise ContractValueError(
        f"{folder}: {_told(left)}. The state would be sent, and the actions executed, without. Say "
        f"what is meant of {fields} by --set FIELD=mean_std, quantiles or min_max, for which the "
        "numbers are taken from the checkpoint's files, or --set FIELD=none where nothing is "
        "normalised, or the model does it by itself; anything else needs code (docs/contract.md); "
        "--force-contract goes on without it"
    )


def not_honoured(left: Sequence[Unsettled]) -> list[str]:
    """Return the remark on mentions that are ignored, if there are any."""
    text = f"{_told(left)}: not honoured, numbers are sent and executed without"
    return [text] if left else []


def _told(left: Sequence[Unsettled]) -> str:
    whys = (f"{each.where} speaks of normalised proprio or actions, {each.why}" for each in left)
    return "; ".join(dict.fromkeys(whys))


# --- settling --------------------------------------------------------------------------------


def _settle(
    field: str, modes: Sequence[_Mode], tables: Sequence[_Table]
) -> Iterator[Statement | Unsettled]:
    """Yield the values that files state for a field, and the mentions that give none."""
    kinds = list(dict.fromkeys(mode.kind for mode in modes))
    for mode in modes:
        if mode.kind is None:
            yield Statement(name=field, value=None, where=mode.where)
        elif not any(mode.kind in table.kinds() for table in tables):
            why = f"and no file has {' and '.join(STATISTICS[mode.kind])}"
            yield Unsettled(field=field, where=mode.where, why=why)
    for table in tables:
        possible = [kind for kind in kinds if kind in table.kinds()] or table.kinds()
        if table.kept_by_model:
            why = "as buffers of the model, which may apply them by itself"
        elif kinds == [None]:
            continue  # the files have statistics, and say that they are not used
        elif len(possible) != 1:
            why = f"and has {' and '.join(possible)}: which of them is used is not said"
        else:
            try:
                value = decode_value(field, table.value(possible[0]))
            except ContractValueError as error:
                why = f"not as one number a column ({error})"
            else:
                yield Statement(name=field, value=value, where=table.where)
                continue
        yield Unsettled(field=field, where=table.where, why=why)


def _unread(contract_file: Reading, settled: Collection[str]) -> Iterator[Unsettled]:
    """Yield unread keys of EVAL_CONTRACT.json about a normalisation, and drop the settled ones."""
    still = []
    for each in contract_file.unread:
        fields = _fields_of(each.key.split(".")) if _is_statistics(each) else ()
        if fields and set(fields) <= set(settled):
            continue
        still.append(each)
        for field in fields:
            why = "which no field of a contract can express"
            yield Unsettled(field=field, where=f"{CONTRACT_FILE}: {each.key}", why=why)
    contract_file.unread[:] = still


def _is_statistics(unread: Unread) -> bool:
    """Whether a key is about the normalisation of numbers, and about no other field."""
    words = "_".join(map(snake, unread.key.split("."))).split("_")
    return (
        unread.field in (None, *FIELDS_OF_STATISTICS)
        and unread.value not in (None, False, [], "")
        and any(map(_STATISTICS.fullmatch, words))
        and not _PICTURES & set(words)
    )


# --- finding ---------------------------------------------------------------------------------


def _fields_of(path: Sequence[str]) -> tuple[str, ...]:
    """Return the fields that the last segment of a path that names a vector is about."""
    for words in ({*snake(segment).split("_")} for segment in reversed(path)):
        if words & _PICTURES:
            return ()
        found = tuple(field for field, names in _VECTORS.items() if words & names)
        if found:
            return found
    return ()


def _modes(file: str, document: Mapping[str, Any]) -> Iterator[_Mode]:
    mapping = document.get("normalization_mapping")
    for key, mode in mapping.items() if isinstance(mapping, Mapping) else ():
        word = re.sub(r"[^a-z0-9]", "", str(mode).lower().rpartition(".")[2])
        if word in _MODES:
            for field in _fields_of([str(key)]):
                where = f"{file}:normalization_mapping.{key}"
                yield _Mode(field=field, where=where, kind=_MODES[word])
    for key in ("use_quantile_norm", "use_quantiles"):
        if isinstance(document.get(key), bool):
            kind: Kind = "quantiles" if document[key] else "mean_std"
            for field in FIELDS_OF_STATISTICS:
                yield _Mode(field=field, where=f"{file}:{key}", kind=kind)


def _pairs(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the statistics directly in a node, if they contain a complete pair of some kind."""
    known = {name for names in STATISTICS.values() for name in names}
    found = {k: v for k, v in node.items() if k in known and isinstance(v, list)}
    return found if any(set(names) <= set(found) for names in STATISTICS.values()) else {}


def _tables(
    file: str, node: Mapping[str, Any], epsilon: float, path: tuple[str, ...] = ()
) -> Iterator[_Table]:
    numbers = _pairs(node)
    if numbers:
        for field in _fields_of(path):
            where = f"{file}:{'.'.join(path)}"
            yield _Table(field=field, where=where, numbers=numbers, epsilon=epsilon)
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _tables(file, value, epsilon, (*path, str(key)))


def _beside(folder: Path) -> list[Path]:
    places = [*folder.glob("*.json"), *folder.glob("assets/**/*.json"), *folder.glob("meta/*.json")]
    wanted = [p for p in places if _BESIDE.fullmatch(p.name) or p.name in _PROCESSORS]
    return sorted(path for path in wanted if path.is_file())


def _steps(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for step in document.get("steps") or ():
        whole = isinstance(step, dict) and isinstance(step.get("config"), dict)
        if whole and str(step.get("registry_name")).endswith("normalizer_processor"):
            yield step


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Turn `{"a.b.mean": v}` into `{"a.b": {"mean": v}}`."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        nested.setdefault(name.rpartition(".")[0], {})[name.rpartition(".")[2]] = value
    return nested


def _tensors(path: Path, wanted: re.Pattern[str] = re.compile("")) -> dict[str, Any]:
    """Read the wanted tensors of a safetensors file as lists; a damaged file gives nothing.

    The safetensors package is not needed; `checkpoint.locate` checks that the weights are whole.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                return {}
            header = json.loads(file.read(length))
            found = {}
            for name, entry in header.items():
                if name == "__metadata__" or not wanted.search(name):
                    continue
                start, end = entry["data_offsets"]
                file.seek(8 + length + start)
                found[name] = _list(file.read(end - start), entry["dtype"], entry["shape"])
            return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _list(data: bytes, dtype: str, shape: Sequence[int]) -> Any:  # noqa: ANN401 - a JSON value
    if dtype == "BF16":
        # numpy has no bfloat16, which is the upper half of a float32.
        values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    elif dtype in _NUMPY:
        values = np.frombuffer(data, _NUMPY[dtype])
    else:
        return None
    return values.astype(np.float64).reshape(shape).tolist()
