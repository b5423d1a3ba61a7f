"""Converting pickled weights to safetensors: the same tensors and names, compared bit for bit.

The writer of safetensors refuses names that share memory, which models of the X-VLA family have.
Each gets a copy of its own here, as loading would give it anyway. The pickle is kept.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from b1k_envs.errors import UsageError
from b1k_policies.xvla.files.folder import CheckpointError, find_folder
from b1k_policies.xvla.files.weights import INDEX_FILE, WEIGHTS_FILE, find_pickles, read_pickle

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """The result of a conversion.

    Attributes:
        sources: Names of the pickles.
        path: The file that was written.
        tensors: Number of tensors in it.
        shared: Names that shared memory with another, and now have a copy.
        left_out: Entries of the pickle that are not tensors, with their types.
        executed: Whether Python had to unpickle a file, which was consented to.
    """

    sources: tuple[str, ...]
    path: Path
    tensors: int
    shared: tuple[str, ...]
    left_out: dict[str, str]
    executed: bool


def convert(ckpt: str, out: Path | None = None, *, allow_pickle: bool = False) -> Conversion:
    """Write a checkpoint's pickled weights as model.safetensors.

    Args:
        ckpt: Folder, or hub id.
        out: A new folder for a copy of the checkpoint without its pickles; None writes beside them.
        allow_pickle: Consent to unpickle what holds more than tensors.

    Raises:
        UsageError: There is nothing to convert, the place is in use, or the folder is a download,
            which nothing is written into.
        CheckpointError: The pickle cannot be used, or what was written does not read back equal.
        OSError: It cannot be written; nothing is left beside the pickle.
    """
    from safetensors.torch import load_file, save_file

    found = find_folder(ckpt, allow_pickle=allow_pickle)
    pickles = find_pickles(found.folder)
    there = [name for name in (WEIGHTS_FILE, INDEX_FILE) if (found.folder / name).is_file()]
    if there or not pickles:
        why = f"has {there[0]} already" if there else "holds no pickled weights"
        raise UsageError(f"{found.folder} {why}: there is nothing to convert")
    if out is None and found.downloaded:
        raise UsageError(
            f"{found.folder} is a download, which is left as it is: give a new folder with --out"
        )
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out} exists and is not an empty folder: choose another")
    pickled = [read_pickle(path, allow_pickle=allow_pickle) for path in pickles]
    tensors = {name: tensor for one in pickled for name, tensor in one.tensors.items()}
    shared = _sharing(tensors)
    path = (out or found.folder) / WEIGHTS_FILE
    temp = path.with_name(f".tmp-{path.name}")
    try:
        if out is not None:
            ignored = shutil.ignore_patterns(*(path.name for path in pickles), "*.bin.index.json")
            shutil.copytree(found.folder, out, ignore=ignored, dirs_exist_ok=True)
        save_file(
            {name: _own(tensor, copy=name in shared) for name, tensor in tensors.items()},
            temp,
            metadata={"format": "pt"},
        )
        wrong = _different(tensors, load_file(temp))
        if wrong:
            raise CheckpointError(
                f"{temp} did not read back as the pickle ({wrong[0]}): the disk may be at fault; "
                f"no {WEIGHTS_FILE} was made"
            )
        temp.replace(path)
    finally:
        temp.unlink(missing_ok=True)
    return Conversion(
        sources=tuple(one.name for one in pickles),
        path=path,
        tensors=len(tensors),
        shared=tuple(sorted(shared)),
        left_out={name: kind for one in pickled for name, kind in one.others.items()},
        executed=any(one.executed for one in pickled),
    )


def _sharing(tensors: dict[str, torch.Tensor]) -> set[str]:
    """Return the names that share memory with another name."""
    names: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        if tensor.numel():
            names.setdefault(tensor.untyped_storage().data_ptr(), []).append(name)
    return {name for group in names.values() if len(group) > 1 for name in group}


def _own(tensor: torch.Tensor, *, copy: bool) -> torch.Tensor:
    """Return a contiguous tensor, with `copy` in memory of its own."""
    return tensor.clone().contiguous() if copy else tensor.contiguous()


def _different(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> list[str]:
    """Return the names that read back differently, compared by bits, so that NaN equals NaN."""
    import torch

    def bits(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.contiguous().reshape(-1).view(torch.uint8)

    if before.keys() != after.keys():
        return sorted(before.keys() ^ after.keys())
    return [
        name
        for name, tensor in before.items()
        if (tensor.dtype, tensor.shape) != (after[name].dtype, after[name].shape)
        or not torch.equal(bits(tensor), bits(after[name]))
    ]
