"""Finding a checkpoint's weights, and reading them without running what is in them.

Weights are safetensors, or a pickle that holds tensors by name and nothing else. torch reads such a
pickle without executing it (`weights_only`), so no consent is needed. One that holds more needs
consent (`--allow-pickle`), because loading it can run code. Finding weights imports no torch.
"""

from __future__ import annotations

import json
import pickle
import re
import shlex
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from b1k_envs.errors import UnavailableError
from b1k_policies.xvla.files.folder import INSTALL, PICKLES, CheckpointError

if TYPE_CHECKING:
    import torch

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PICKLE_FILE = "pytorch_model.bin"
PICKLE_INDEX_FILE = "pytorch_model.bin.index.json"
CONVERT = "b1k-eval convert"

_LFS_POINTER = b"version https://git-lfs"


def find_weights(folder: Path) -> tuple[tuple[Path, ...], Literal["safetensors", "pickle"]]:
    """Find the files of a checkpoint's weights; safetensors are preferred to pickles.

    Raises:
        UnavailableError: safetensors is not installed.
        CheckpointError: There are none, they are cut short, or several sets are possible.
    """
    single, index = folder / WEIGHTS_FILE, folder / INDEX_FILE
    if single.is_file() or index.is_file():  # in the order in which transformers looks
        weights = (single,) if single.is_file() else _shards(index)
        for path in weights:
            _check_safetensors(path)
        return weights, "safetensors"
    pickles = find_pickles(folder)
    if not pickles:
        there = ", ".join(sorted(entry.name for entry in folder.iterdir()))
        raise CheckpointError(
            f"{folder} holds no weights: neither {WEIGHTS_FILE} nor {INDEX_FILE}; it holds {there}"
        )
    return pickles, "pickle"


def find_pickles(folder: Path) -> tuple[Path, ...]:
    """Find the files of pickled weights, even beside safetensors; () for none.

    Raises:
        CheckpointError: Several sets are possible, or a shard is missing.
    """
    index = folder / PICKLE_INDEX_FILE
    if index.is_file():
        return _shards(index)
    pickles = sorted(p for pattern in PICKLES for p in folder.glob(pattern) if p.is_file())
    usual = [path for path in pickles if path.name == PICKLE_FILE] or pickles
    if len(usual) > 1:
        names = ", ".join(path.name for path in pickles)
        raise CheckpointError(
            f"{folder} holds several pickles ({names}), none of them {PICKLE_FILE}: which one "
            "is the weights cannot be known; give that one this name"
        )
    return tuple(usual)


# --- what is in a pickle ---------------------------------------------------------------------


@dataclass(frozen=True)
class Pickled:
    """The content of one pickle.

    Attributes:
        tensors: Its tensors by name, mapped from the file where its form allows that.
        under: The key under which they lie; None at the top.
        others: Entries beside them that are not tensors, with their types.
        executed: Whether Python had to unpickle it, which can run code.
    """

    tensors: dict[str, torch.Tensor]
    under: str | None
    others: dict[str, str]
    executed: bool


def read_pickle(path: Path, *, allow_pickle: bool) -> Pickled:
    """Read the tensors of a pickle, without running it if it holds nothing else.

    Raises:
        CheckpointError: It holds more and nobody consented, or it is not a pickle of tensors.
    """
    executed = False
    try:
        loaded = _load(path, weights_only=True)
    except pickle.UnpicklingError as error:
        what = _what_is_wrong(path)
        if what is not None:
            raise CheckpointError(f"{path} cannot be used: {what}") from error
        if not allow_pickle:
            raise CheckpointError(
                f"{path} is a pickle that holds more than tensors{_foreign(error)}, so loading it "
                "can run code: pass --allow-pickle if you trust the file"
            ) from error
        executed = True
        try:
            loaded = _load(path, weights_only=False)
        except Exception as second:
            raise _unreadable(path, second) from second
    except Exception as error:
        raise _unreadable(path, error) from error
    return _tensors_in(path, loaded, executed)


def loadable(paths: Sequence[Path], pickled: Sequence[Pickled]) -> dict[str, torch.Tensor]:
    """Return the tensors of pickled weights, if the model's code can load them as they are.

    Raises:
        CheckpointError: They lie beside or below other entries.
    """
    tensors: dict[str, torch.Tensor] = {}
    for path, one in zip(paths, pickled, strict=True):
        if one.under is not None or one.others:
            beside = ", ".join(f"{name} ({kind})" for name, kind in one.others.items())
            where = f"below {one.under!r}" if one.under is not None else f"beside {beside}"
            folder = shlex.quote(str(path.parent))
            raise CheckpointError(
                f"{path} holds its tensors {where}: `{CONVERT} {folder}` writes them, and nothing "
                "else, as safetensors"
            )
        tensors |= one.tensors
    return tensors


def _load(path: Path, *, weights_only: bool) -> Any:  # noqa: ANN401 - whatever is in it
    import torch

    # Files that torch wrote before 2020 cannot be mapped.
    mapped = zipfile.is_zipfile(path)
    return torch.load(path, map_location="cpu", weights_only=weights_only, mmap=mapped)


def _tensors_in(path: Path, loaded: Any, executed: bool) -> Pickled:  # noqa: ANN401
    from torch import Tensor

    def tensors(value: Any) -> dict[str, Tensor]:  # noqa: ANN401
        if not isinstance(value, Mapping):
            return {}
        return {str(name): one.detach() for name, one in value.items() if isinstance(one, Tensor)}

    places: dict[str | None, Any] = {None: loaded}
    if isinstance(loaded, Mapping) and not tensors(loaded):
        places = {str(key): value for key, value in loaded.items() if tensors(value)}
    found = {key: tensors(value) for key, value in places.items()}
    if len(found) != 1 or not next(iter(found.values())):
        what = ", ".join(map(str, loaded)) if isinstance(loaded, Mapping) else type(loaded).__name__
        raise CheckpointError(
            f"{path} is no file of weights: it holds {what[:200] or 'nothing'}, not one set of "
            "tensors by name"
        )
    ((key, named),) = found.items()
    others = {str(n): type(v).__name__ for n, v in places[key].items() if str(n) not in named}
    return Pickled(named, key, others, executed)


def _foreign(error: Exception) -> str:
    """Return ` (NAME)`, the type that torch's safe reader refused, if it says which."""
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f" ({found[1]})" if found else ""


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    said = " ".join(str(error).split())[:200]
    return CheckpointError(
        f"{path} is no complete file of torch's ({_what_is_wrong(path) or said}): download or copy "
        "it again"
    )


def _shards(index: Path) -> tuple[Path, ...]:
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        plain = names != [] and all(Path(name).name == name for name in names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{index} is no index of shards ({type(error).__name__}: {error}): download or copy it "
            f"again"
        ) from error
    if not plain:
        raise CheckpointError(f"{index} must name shards that lie beside it, got {names}")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{index.parent} lacks {', '.join(missing)}, named by {index.name}: download or copy "
            f"the missing files"
        )
    return tuple(index.parent / name for name in names)


def _check_safetensors(path: Path) -> None:
    """Check the file's length against its header, without reading a tensor."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise UnavailableError(
            f"a checkpoint needs safetensors, which is not installed: {INSTALL}"
        ) from error
    try:
        with safe_open(path, framework="np"):
            pass
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    except SafetensorError as error:
        what = _what_is_wrong(path) or _what_is_cut(path) or error
        raise CheckpointError(
            f"{path} is not a complete safetensors file ({what}): download or copy it again"
        ) from error


def _what_is_wrong(path: Path) -> str | None:
    """Say why a file holds no weights, in words a person can act on; None if not known."""
    with path.open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            return "it is a git-lfs pointer; `git lfs pull` fetches the file"
    return None


def _what_is_cut(path: Path) -> str | None:
    """Say why a file is not a safetensors file; None if not known."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        header = int.from_bytes(start[:8], "little")
        if size < 8 or 8 + header > size:
            return f"{size} bytes, shorter than its own header"
        file.seek(8)
        try:
            entries = json.loads(file.read(header))
            end = max(e["data_offsets"][1] for k, e in entries.items() if k != "__metadata__")
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return None
    return f"{size} bytes, its header says {8 + header + end}" if 8 + header + end != size else None
