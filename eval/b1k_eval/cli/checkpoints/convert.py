"""`b1k-eval convert CKPT`: pickled weights as safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from b1k_eval.cli.console import err_console, out_console, print_json, say_remark
from b1k_eval.cli.options import JsonOption, Options, Typed
from b1k_eval.records.store import StorageError
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.options import at_home


def convert(
    ckpt: Annotated[
        str,
        typer.Argument(metavar="CKPT", help="A checkpoint's folder, or ORG/NAME[@REVISION]."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="A new folder for a copy of the checkpoint without the pickle.",
            show_default="beside the pickle",
        ),
    ] = None,
    *,
    asked: Annotated[Typed, Options(CheckpointRequest, "allow_pickle")],
    json_output: JsonOption = False,
) -> None:
    """Write a checkpoint's pickled weights as safetensors, compared to the last bit.

    Nothing of the pickle is executed where it holds tensors only. It is left as it is.
    """
    from b1k_policies.xvla.files.converting import convert as converted
    from b1k_policies.xvla.loading.model import require_torch

    require_torch()
    try:
        with err_console().status("reading the pickle, writing and comparing each tensor"):
            done = converted(at_home(ckpt), out, allow_pickle="allow_pickle" in asked)
    except OSError as error:
        raise StorageError(
            f"the weights of {ckpt} cannot be written ({error.strerror or error}): free some "
            "space, or give a new folder elsewhere with --out"
        ) from error
    left = ", ".join(f"{name} ({kind})" for name, kind in done.left_out.items())
    remarks = [f"left out, as no tensors: {left}"] if left else []
    for text in remarks:
        say_remark(text)
    if json_output:
        document = {
            "path": str(done.path),
            "sources": list(done.sources),
            "tensors": done.tensors,
            "shared": list(done.shared),
            "left_out": done.left_out,
            "executed": done.executed,
            "remarks": remarks,
        }
        print_json(document)
        return
    shared = f", {len(done.shared)} of which shared memory" if done.shared else ""
    out_console().print(
        f"{done.path}: {done.tensors} tensors{shared}, equal to {', '.join(done.sources)}",
        soft_wrap=True,
    )
