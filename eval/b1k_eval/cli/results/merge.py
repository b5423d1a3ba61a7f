"""`b1k-eval merge DIR...`: the shards of a run made one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from b1k_eval.cli.console import err_console, out_console, print_json, say_remark, show_limits
from b1k_eval.cli.options import JsonOption


def merge(
    shards: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Run folders made with --shard I/N.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the whole run.", show_default="merged, beside the first DIR"),
    ] = None,
    partial: Annotated[
        bool,
        typer.Option("--partial", help="Merge what is there, although episodes are missing."),
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Make one run of the shards of a run, equal to the whole run."""
    from b1k_eval.records.merging import merge_runs
    from b1k_eval.run.session import summarise

    folder = shards[0].resolve().parent / "merged" if out is None else out
    with err_console().status("copying the shards' episodes"):
        merged = merge_runs(shards, folder, partial=partial, beside=out is None)
    for text in merged.missing:
        say_remark(f"not complete: {text}")
    store, summary = merged.store, summarise(merged.store.episodes)
    if json_output:
        print_json({"run": str(store.path), "missing": list(merged.missing), **summary})
        return
    counts = ", ".join(f"{count} {outcome}" for outcome, count in summary["counts"].items())
    console, identity = out_console(), store.record["identity"]
    console.print(f"{store.path}: {counts}", soft_wrap=True)
    marked = [identity["policy"]["name"]] if identity["privileged"] else []
    show_limits(console, identity["settings"]["sim"], marked)
