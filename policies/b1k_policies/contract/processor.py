"""What the image processor's file beside the weights says of the pictures.

The library writes `preprocessor_config.json` with every checkpoint, used or not: v4's card builds
its pictures without it. So it decides where nobody else says anything, gives way to
EVAL_CONTRACT.json, config.json and what is given by hand, and what it says otherwise is remarked.

Source: transformers (`CLIPImageProcessor.to_dict`), as the public X-VLA checkpoints have it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from b1k_policies.contract import words
from b1k_policies.contract.codecs import ContractValueError
from b1k_policies.contract.fields import FIELDS, decode_value
from b1k_policies.contract.reading import Statement, read_json
from b1k_policies.contract.resolved import as_text, json_value
from b1k_policies.contract.words import Reader

PROCESSOR_FILE = "preprocessor_config.json"

_KEYS: Mapping[str, tuple[str | None, Reader]] = {
    "size": ("do_resize", words.image_size),
    "crop_size": ("do_center_crop", words.image_size),
    "resample": ("do_resize", words.resize),
    "image_mean": ("do_normalize", words.colour_triple("image_mean")),
    "image_std": ("do_normalize", words.colour_triple("image_std")),
    "num_views": (None, words.integer("view_count")),
}
"""Key: the switch that makes it count, and its reader."""


def read_processor(folder: Path | None) -> list[Statement]:
    """What the file states; nothing where there is none.

    Raises:
        ContractValueError: It is no JSON object.
    """
    if folder is None or not (folder / PROCESSOR_FILE).is_file():
        return []
    document = read_json(folder / PROCESSOR_FILE)
    statements = []
    for key, (switch, read) in _KEYS.items():
        if key not in document or document.get(switch or "", switch is None) is not True:
            continue
        for name, value in read(document[key]) or ():
            try:
                canonical = decode_value(name, value) if name in FIELDS else value
            except ContractValueError:
                continue
            where = f"{PROCESSOR_FILE}:{key}"
            statements.append(Statement(name=name, value=canonical, where=where))
    return statements


def give_way(
    processor: list[Statement], elsewhere: Callable[[str], tuple[Any, str] | None]
) -> tuple[list[Statement], list[str]]:
    """What of the file counts, and remarks on what does not.

    Args:
        processor: As `read_processor` gives it.
        elsewhere: Value of a field and who says so, where somebody with more say does.
    """
    counting, remarks = [], []
    for says in processor:
        other = elsewhere(says.name)
        if other is None or other[0] == says.value:
            counting.append(says)
            continue
        ours, theirs = (as_text(json_value(says.name, v)) for v in (other[0], says.value))
        remarks.append(
            f"{says.where} says {theirs}, {says.name} is {ours} ({other[1]}): the processor's file "
            "is taken for one that is not used"
        )
    return counting, remarks
