"""Checking that a resumed run has the settings it was started with.

`identity` in run.json holds everything that decides a result, and texts that explain it, such as
remarks and the source of a contract's fields. Only what decides is compared, so that a version
with other texts can resume the run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from b1k_envs.errors import UsageError
from b1k_eval.files import to_json
from b1k_eval.settings import settled
from b1k_policies.contract.fields import completed

_WORDS = ("remarks",)
"""Keys of a policy's description that only explain."""
_NEWER = ("variables", "packages")
"""Keys that the first runs did not record; not compared with those runs."""


def check_identity(path: Path, known: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Compare a run that is to be resumed with this session.

    Args:
        path: The run folder, for the message.
        known: Its run.json.
        asked: The record of this session.

    Raises:
        UsageError: They differ; the message names every difference.
    """
    now = json.loads(to_json(asked["identity"]))  # tuples become lists, as on disk
    then = dict(known["identity"])
    for side in (then, now):
        if isinstance(side.get("settings"), dict):
            side["settings"] = settled(side["settings"])
    if isinstance(then.get("policy"), dict) and isinstance(now.get("policy"), dict):
        unknown = [name for name in _NEWER if name not in then["policy"]]
        then["policy"] = _deciding(then["policy"], unknown)
        now["policy"] = _deciding(now["policy"], unknown)
    differences = list(_differences("", then, now))
    if differences:
        listed = "; ".join(f"{name} {old} -> {new}" for name, old, new in differences)
        raise UsageError(
            f"{path} was made with other settings and cannot be resumed with these: {listed}. "
            "Repeat the old ones, or choose another --out"
        )


def _deciding(policy: Mapping[str, Any], unknown: list[str]) -> dict[str, Any]:
    """Return a policy's description without texts and without keys unknown to the other side."""
    left_out = (*_WORDS, *unknown)
    deciding = {name: value for name, value in policy.items() if name not in left_out}
    found = deciding.get("contract")
    if isinstance(found, dict) and isinstance(found.get("contract"), dict):
        deciding["contract"] = completed(found["contract"])
    return deciding


def _differences(
    prefix: str,
    old: Any,  # noqa: ANN401 - JSON values
    new: Any,  # noqa: ANN401 - JSON values
) -> Iterator[tuple[str, str, str]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in {**old, **new}:  # what only one side has is compared with null
            inner = f"{prefix}.{name}" if prefix else name
            yield from _differences(inner, old.get(name), new.get(name))
    elif old != new:
        yield prefix, json.dumps(old), json.dumps(new)
