"""Locating a checkpoint, and checking that its files can be used.

Nothing of a checkpoint is executed here, and neither torch nor transformers is imported: a missing
shard, a file cut short or code that nobody vouched for is found before minutes go into loading. A
pass does not prove that the weights belong to the code; `preflight` asks the model.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from b1k_envs.errors import UsageError
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.contract.reading import CONFIG_FILE, read_json
from b1k_policies.xvla.files.folder import (
    CheckpointError,
    CheckpointFolder,
    download_of,
    find_folder,
    is_clone,
)
from b1k_policies.xvla.files.weights import find_weights

__all__ = ["Checkpoint", "CheckpointError", "locate", "package_in"]

PACKAGE = "da3_xvla"
"""Name under which a checkpoint's code imports itself."""
CODE_FOLDER = f"code/{PACKAGE}"
"""Place of that package inside a checkpoint, by the model card."""
PACKAGE_MARK = "models/modeling_xvla.py"
"""The folder that holds this file is the package."""
FLAT_MARK = "modeling_xvla.py"
"""The folder that holds this is, too: a plain X-VLA upload has its modules beside config.json."""

_RECORDED = ("*.json", "*.txt", "*.model")  # beside the weights: config, contract, tokenizer
_BLOCK = 4 << 20


@dataclass(frozen=True, kw_only=True)
class Checkpoint(CheckpointFolder):
    """A checkpoint whose files exist, are complete, and may be used.

    Attributes:
        weights: Files of the weights, by name.
        weights_format: `safetensors` or `pickle`.
        allow_pickle: Whether unpickling was consented to.
        code_root: The folder of the package `da3_xvla` itself.
    """

    weights: tuple[Path, ...]
    weights_format: Literal["safetensors", "pickle"]
    allow_pickle: bool
    code_root: Path

    def files(self) -> list[tuple[str, int, str]]:
        """List the files other than code that decide what the model does, in order of names.

        Returns:
            (name relative to the folder, size [bytes], SHA-256 in hex) for the weights,
            config.json, EVAL_CONTRACT.json and the tokenizer's files.

        Raises:
            CheckpointError: A file cannot be read.
        """
        return list(self._files)

    @cached_property
    def _files(self) -> tuple[tuple[str, int, str], ...]:  # cached, because it reads gigabytes
        beside = [path for pattern in _RECORDED for path in self.folder.glob(pattern)]
        paths = {path.name: path for path in (*self.weights, *beside) if path.is_file()}
        return tuple((name, *_digest(paths[name])) for name in sorted(paths))

    @property
    def weights_sha256(self) -> str:
        """SHA-256 over the names and contents of the weights, hex."""
        names = {path.name for path in self.weights}
        lines = (f"{name} {digest}\n" for name, _, digest in self._files if name in names)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def geometry_model(self) -> str | None:
        """Hub id of the geometry encoder that config.json names, which the code may fetch."""
        geometry = read_json(self.folder / CONFIG_FILE).get("geometry_conditioning")
        return geometry.get("da3_model_name") if isinstance(geometry, dict) else None

    @cached_property
    def code_sha256(self) -> str:
        """SHA-256 over the names and contents of the package's files, hex."""
        return _code_digest(self.code_root)

    def code_files(self) -> Iterator[Path]:
        """Yield the files of its code that count."""
        return _code_files(self.code_root)

    @property
    def changed_code(self) -> tuple[str, ...]:
        """Files in which the code is not that of the checkpoint's folder; () if that has none."""
        own = _own_code(self.folder)
        if own is None or own.resolve() == self.code_root.resolve():
            return ()
        ours, theirs = _code_digests(self.code_root), _code_digests(own)
        return tuple(n for n in sorted(ours | theirs) if ours.get(n) != theirs.get(n))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values for run.json, without paths: a moved checkpoint is the same one."""
        return {
            "origin": self.origin,
            "repo": self.repo,
            "revision": self.revision,
            "weights_format": self.weights_format,
            "weights_sha256": self.weights_sha256,
            "code_sha256": self.code_sha256,
            "files": [
                {"name": name, "size": size, "sha256": digest} for name, size, digest in self._files
            ],
        }


def locate(request: CheckpointRequest) -> Checkpoint:
    """Find a checkpoint, and check that it can be loaded and may be run.

    Raises:
        UsageError: See `folder.find_folder`; or a relative `code_dir` fits two folders.
        UnavailableError: huggingface_hub or safetensors is not installed.
        CheckpointError: See `folder.find_folder` and `weights.find_weights`; or the code is
            missing, or was downloaded and nobody has said that it is trusted.
    """
    found = find_folder(request.ckpt, allow_pickle=request.allow_pickle)
    weights, weights_format = find_weights(found.folder)
    code_root = _find_code(found, request.code_dir)
    # Before anything of it is imported: importing would already run it.
    if not request.trust_code and _is_downloaded(found, code_root):
        raise CheckpointError(
            f"{found.origin}: the code in {code_root} (sha256 {_code_digest(code_root)}) was "
            f"downloaded and would run with your rights; read it and pass "
            f"--trust-checkpoint-code, or pass --code-dir with your own copy"
        )
    return Checkpoint(
        **vars(found),
        weights=weights,
        weights_format=weights_format,
        allow_pickle=request.allow_pickle,
        code_root=code_root,
    )


# --- the code --------------------------------------------------------------------------------


def package_in(folder: Path) -> Path | None:
    """Return the package `da3_xvla` that a folder is or contains, or None."""
    for place in (folder, folder / PACKAGE, folder.parent):
        if (place / PACKAGE_MARK).is_file() and (place != folder.parent or folder.name == "models"):
            return place
    return folder if (folder / FLAT_MARK).is_file() else None


def _own_places(folder: Path) -> list[Path]:
    return [folder / CODE_FOLDER, folder]


def _own_code(folder: Path) -> Path | None:
    """Return the package in a checkpoint's folder, or None."""
    return next(filter(None, map(package_in, _own_places(folder))), None)


def _find_code(found: CheckpointFolder, code_dir: str | None) -> Path:
    if code_dir is None:
        looked = _own_places(found.folder)
        own = _own_code(found.folder)
        packages = [] if own is None else [own]
    else:  # the card writes `--code-dir code/da3_xvla`, which is relative to the checkpoint
        bases = [Path(code_dir).absolute(), found.folder / code_dir]
        looked = [place for base in bases for place in (base, base / PACKAGE)]
        packages = [place for place in map(package_in, bases) if place is not None]
    if not packages:
        raise CheckpointError(
            f"no code for {found.origin}: looked for {PACKAGE_MARK} in "
            f"{', '.join(map(str, dict.fromkeys(looked)))}; pass --code-dir with the folder of the "
            f"package {PACKAGE}"
        )
    if len({place.resolve() for place in packages}) > 1:
        raise UsageError(
            f"--code-dir {code_dir} can mean {packages[0]} (from the current directory) or "
            f"{packages[1]} (in the checkpoint): give the absolute path of the one that is meant"
        )
    return packages[0]


def _is_downloaded(found: CheckpointFolder, code_root: Path) -> bool:
    real = code_root.resolve()
    if found.downloaded and real.is_relative_to(found.folder.resolve()):
        return True
    # The clone is CLONE in CLONE/da3_xvla and CLONE/code/da3_xvla.
    cloned = any(map(is_clone, real.parents[:2]))
    return cloned or download_of(code_root) is not None


def _code_files(root: Path) -> Iterator[Path]:
    """Yield every file of the package except compiled ones, which `CodePackage` never runs.

    Of a flat package, whose folder holds the weights as well, only the sources.
    """
    if not (root / PACKAGE_MARK).is_file():
        yield from (path for path in root.rglob("*.py") if path.is_file())
        return
    seen = set()
    for parent, folders, names in os.walk(root, followlinks=True):
        real = Path(parent).resolve()
        if real in seen:  # a link to a folder above would never end
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(parent, name) for name in names if not name.endswith(".pyc"))


def _code_digests(root: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of the package, by its path in it."""
    return {path.relative_to(root).as_posix(): _digest(path)[1] for path in _code_files(root)}


def _code_digest(root: Path) -> str:
    lines = (f"{name}\0{digest}\n" for name, digest in sorted(_code_digests(root).items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _digest(path: Path) -> tuple[int, str]:
    """Return (size [bytes], SHA-256 in hex) of a file."""
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
                size += len(block)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    return size, digest.hexdigest()
