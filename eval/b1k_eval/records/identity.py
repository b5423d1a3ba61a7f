"""What of a run may not change between its sessions, and what older versions recorded less of.

`identity` in run.json holds everything that decides a result, and words that explain it: where a
field of a contract came from, remarks. Only the former is compared, so that a version that says
the same in other words takes up the run.
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
"""Keys of a policy's description that explain and decide nothing."""
_NEWER = ("variables", "packages")
"""Keys of it that the first runs did not have; what held then is not known."""


def check_identity(path: Path, known: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Hold a run that is to be resumed to what it was started as.

    Args:
        path: The run folder, for the message.
        known: Its run.json.
        asked: The record of this session.

    Raises:
        UsageError: They differ; names every difference.
    """
    now = json.loads(to_json(asked["identity"]))  # tuples and lists are the same thing on disk
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
    """A policy's description without words, and without what the other side cannot know."""
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
        for name in {**old, **new}:
            inner = f"{prefix}.{name}" if prefix else name
            yield from _differences(inner, old.get(name), new.get(name))
    elif old != new:
        yield prefix, json.dumps(old), json.dumps(new)
