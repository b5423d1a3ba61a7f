"""Evaluation contracts side by side, differing fields first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from b1k_eval.records.loading import RunData
from b1k_eval.report.figures import letter
from b1k_policies.contract.codecs import as_text
from b1k_policies.contract.fields import FIELDS, completed


def contracts_context(runs: Sequence[RunData]) -> dict[str, Any]:
    """Return the tables of contracts for the templates.

    Returns:
        `columns`, the runs that have a contract; `differing` and `equal`, rows of `name`,
        `meaning` and `cells`; `without`, a line on runs that have none.
    """
    documents = {}
    for number, run in enumerate(runs):
        if "contract" in run.identity["policy"]:
            found = run.identity["policy"]["contract"]
            documents[number] = {**found, "contract": completed(found["contract"])}
    names = dict.fromkeys(name for found in documents.values() for name in found["contract"])
    rows: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for name in names:
        if name != "format":
            values = [found["contract"].get(name) for found in documents.values()]
            differs = any(value != values[0] for value in values)
            rows[differs].append(_row(name, list(documents.values())))
    missing = [letter(number) for number in range(len(runs)) if number not in documents]
    return {
        "columns": [f"{letter(number)}: {runs[number].label}" for number in documents],
        "differing": rows[True],
        "equal": rows[False],
        "without": [f"Without a contract, as no checkpoint was run: {', '.join(missing)}."]
        if missing
        else [],
    }


def _row(name: str, documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "meaning": FIELDS[name].meaning if name in FIELDS else "",
        "cells": [
            {
                "value": as_text(found["contract"].get(name)),
                "source": _source(found.get("sources", {}).get(name, {})),
            }
            for found in documents
        ],
    }


def _source(source: Mapping[str, Any]) -> str:
    return f"{source.get('source', '')}{' FORCED' if source.get('forced') else ''}"
