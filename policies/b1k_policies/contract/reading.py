"""Reading what a checkpoint's own files state about its contract, key by key.

What `spellings` does not know is listed as not understood, with the line that would say it in a
contract file of this project. config.json is read by its exact keys, since the Florence and DA3
configurations inside it use the same words for other things.

Source: transformers (`CLIPImageProcessor.to_dict`).
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from b1k_envs.errors import UsageError
from b1k_policies.contract.codecs import ContractValueError
from b1k_policies.contract.fields import FIELDS, FORMAT
from b1k_policies.contract.presets import read_fields
from b1k_policies.contract.spellings import KEYS, names_of, snake, understood

CONTRACT_FILE = "EVAL_CONTRACT.json"
CONFIG_FILE = "config.json"
PROCESSOR_FILE = "preprocessor_config.json"


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement of a file.

    Attributes:
        name: A field, a figure of `EvalContract.derived`, or `native.VIEW` ([size, fx, fy, cx,
            cy]), or `base`.
        value: The canonical value of a field; a JSON value otherwise.
        where: `FILE:key.of.key`.
    """

    name: str
    value: Any
    where: str


@dataclass(frozen=True, kw_only=True)
class Unread:
    """A key that may concern the contract and that this version does not understand.

    Attributes:
        file: Name of the file.
        key: `key.of.key`.
        value: Its JSON value.
        field: The field of which the key is a known spelling; None for none.
        why: What is wrong with the value, if that is known.
    """

    file: str
    key: str
    value: Any
    field: str | None = None
    why: str = ""

    def __str__(self) -> str:
        text = json.dumps(self.value, ensure_ascii=False)
        text = f"{self.file}:{self.key}: {text if len(text) <= 60 else f'{text[:57]}...'}"
        path = self.key.split(".")
        near = difflib.get_close_matches((names_of(path) or [snake(path[-1])])[0], KEYS, 1, 0.75)
        about = self.field or next((KEYS[key] for key in near), "")
        line, why = '"FIELD": VALUE (docs/contract.md)', self.why
        if about:
            line, why = FIELDS[about].line, "" if FIELDS[about].codec.options else why
        return f"{text}{why and f' ({why})'}; if it counts, add {line} to a --contract file"


@dataclass(kw_only=True)
class Reading:
    """What was understood of a file, and what was not.

    Attributes:
        statements: Everything stated, in the order of the file.
        unread: What was not understood, in the same order.
        document: The file as read.
    """

    statements: list[Statement] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    document: Mapping[str, Any] = field(default_factory=dict)

    @property
    def not_understood(self) -> list[str]:
        """`FILE:key: value` of each key not understood, and what to do about it."""
        return [*map(str, self.unread)]

    def value(self, dotted: str) -> Any:  # noqa: ANN401 - any JSON value
        """Return the value at a dotted key, or None."""
        found: Any = self.document
        for segment in dotted.split("."):
            found = found.get(segment) if isinstance(found, Mapping) else None
        return found


_OTHER_MODEL = ("train", "change", "diff", "previous", "prior", "legacy", "deprecated", "wrong",
                "fix", "history", "optim", "old")  # fmt: skip
"""Word beginnings that mark parts about another model, or about how this one came about."""
_CONFIG_KEYS: tuple[str, ...] = (
    "action_mode", "real_action_dim", "dim_proprio", "num_actions", "num_skills", "skill_names",
    "use_progress_head", "num_denoising_steps", "num_views", "num_image_views", "domain_id",
    "language_max_length", "tokenizer_max_length", "torch_dtype", "dtype", "da3_process_res",
    "use_posed_da3", "geometry_conditioning.da3_process_res",
    "geometry_conditioning.use_posed_da3", "idx_for_mask_proprio", "qdur", "action_hz",
    "gripper_threshold", "base_qvel_frame",
)  # fmt: skip
_PROCESSOR_KEYS: Mapping[str, tuple[str | None, str]] = MappingProxyType({
    "size": ("do_resize", "image_size"), "crop_size": ("do_center_crop", "image_size"),
    "resample": ("do_resize", "resize_filter"), "image_mean": ("do_normalize", "image_mean"),
    "image_std": ("do_normalize", "image_std"), "num_views": (None, "num_views"),
})  # fmt: skip
"""For each key of the processor's file: the switch that makes it count, and its spelling."""


# --- files ---------------------------------------------------------------------------------------


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        ContractValueError: The file cannot be read, is not JSON, or does not hold an object.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ContractValueError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # not JSON, or not UTF-8
        raise ContractValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ContractValueError(f"{path} must hold a JSON object, got {type(document).__name__}")
    return document


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


def read_contract_file(document: Mapping[str, Any]) -> Reading:
    """Read an EVAL_CONTRACT.json of any shape, or in this project's format if it says so.

    Raises:
        ContractValueError: Its `format` is this project's, and a key is unknown (the text has near
            misses), a value is not valid, or the version is another.
    """
    reading = Reading(document=document)
    if not str(document.get("format", "")).startswith(FORMAT.partition("/")[0] + "/"):
        _walk(reading, document, [])
        return reading
    try:
        base, fields = read_fields(document)
    except ContractValueError as error:
        raise ContractValueError(f"{CONTRACT_FILE}: {error}") from error
    stated = fields if base is None else {**fields, "base": base}
    reading.statements += [
        Statement(name=name, value=value, where=f"{CONTRACT_FILE}:{name}")
        for name, value in stated.items()
    ]
    return reading


def read_config(document: Mapping[str, Any]) -> Reading:
    """Read the keys of a config.json that concern the contract; the rest is the model's own."""
    reading = Reading(document=document)
    for key in _CONFIG_KEYS:
        value = reading.value(key)
        if value is not None:
            _take(reading, CONFIG_FILE, key, value, key.rsplit(".", 1)[-1])
    return reading


def read_processor(folder: Path | None) -> list[Statement]:
    """Read what the image processor's file states about the pictures; nothing if there is no file.

    Raises:
        ContractValueError: The file does not hold a JSON object.
    """
    if folder is None or not (folder / PROCESSOR_FILE).is_file():
        return []
    reading = Reading(document=read_json(folder / PROCESSOR_FILE))
    for key, (switch, spelling) in _PROCESSOR_KEYS.items():
        if key in reading.document and reading.document.get(switch or "", not switch) is True:
            _take(reading, PROCESSOR_FILE, key, reading.document[key], spelling)
    return reading.statements


def _walk(reading: Reading, node: Mapping[str, Any], path: list[str]) -> None:
    for key, value in node.items():
        here = [*path, str(key)]
        if any(word.startswith(_OTHER_MODEL) for word in snake(str(key)).split("_")):
            why = "not read, it may speak of another model"
            unread = Unread(file=CONTRACT_FILE, key=".".join(here), value=value, why=why)
            reading.unread.append(unread)
            continue
        spelling = next((name for name in names_of(here) if name in KEYS), None)
        before = len(reading.unread)
        _take(reading, CONTRACT_FILE, ".".join(here), value, spelling)
        # An object that is not understood as a whole is read key by key instead.
        if len(reading.unread) > before and isinstance(value, Mapping):
            del reading.unread[before:]
            _walk(reading, value, here)


def _take(reading: Reading, file: str, key: str, value: Any, spelling: str | None) -> None:  # noqa: ANN401
    about, why = None, ""
    if spelling is not None:
        try:
            found = understood(spelling, value)
        except ValueError as error:
            about, why = KEYS[spelling] or None, str(error)
        else:
            where = f"{file}:{key}"
            reading.statements += [Statement(name=n, value=v, where=where) for n, v in found]
            return
    if isinstance(value, str) and key.startswith(("_", "$")):
        return  # keys like `_comment` and `$schema` are about the file, not the model
    reading.unread.append(Unread(file=file, key=key, value=value, field=about, why=why))
