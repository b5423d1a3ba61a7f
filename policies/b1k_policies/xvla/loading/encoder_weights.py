"""Weights of the frozen geometry encoder that a checkpoint does not hold: proven, or refused.

The family freezes Depth Anything 3 and takes it from the hub's snapshot after loading
(`da3_inline.reload_pretrained_weights()`), so a checkpoint may lack some or all of its tensors. The
library then leaves random numbers or old memory in their place. So each of them is compared, whole
and by name, with the file of the snapshot in the hub's cache. Code that has a reload method is
asked first; code that has none gets the snapshot's tensors. Nothing is downloaded.

A pass does not prove that the cache holds what the hub has, nor that the encoder was frozen, which
is taken from config.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b1k_policies.xvla.code.package import CodePackage
from b1k_policies.xvla.code.required_packages import words
from b1k_policies.xvla.files.checkpoint import CheckpointError
from b1k_policies.xvla.silence import quietly

if TYPE_CHECKING:
    import torch

RELOAD = "reload_pretrained_weights"
SNAPSHOT_FILE = "model.safetensors"
_DEPTH = 4
"""Number of leading modules in which the names of model and snapshot may differ."""


@dataclass(frozen=True)
class Snapshot:
    """A published encoder on this machine.

    Attributes:
        name: Its hub id, or the folder in which it was found.
        path: The file of its weights.
    """

    name: str
    path: Path

    @property
    def title(self) -> str:
        """The name, with the commit where there is one."""
        folder = self.path.parent
        commit = folder.name if folder.parent.name == "snapshots" else None
        return self.name if commit is None else f"{self.name} at {commit[:12]}"


def some(names: Sequence[str]) -> str:
    """Return the first few of many names."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def is_elsewhere(name: str) -> bool:
    """Whether a `da3_model_name` is a path that does not exist on this machine."""
    is_path = name.startswith(("/", "~", "./", "../")) or "\\" in name
    return is_path and not Path(name).expanduser().exists()


def machine_path_advice(name: str, folder: Path) -> str:
    """Say what to set when `da3_model_name` is a path that does not exist here."""
    last = Path(name.replace("\\", "/")).name
    return (
        f"geometry_conditioning.da3_model_name in {folder}/config.json is {name}, a path on "
        f"another machine: set it to the encoder's hub id (depth-anything/{last}?) or to a folder "
        "here"
    )


def find_snapshot(name: str | None, folder: Path) -> Snapshot:
    """Find the encoder that config.json names on this machine.

    Args:
        name: `geometry_conditioning.da3_model_name`.
        folder: The checkpoint's folder, for messages.

    Raises:
        CheckpointError: It is not here; the text says what to do.
    """
    if not name:
        raise CheckpointError(
            f"geometry_conditioning.da3_model_name in {folder}/config.json names no encoder: set "
            "it, or store the encoder's weights with the checkpoint"
        )
    place = Path(name).expanduser()
    if (place / SNAPSHOT_FILE).is_file():
        return Snapshot(name, place / SNAPSHOT_FILE)
    if is_elsewhere(name):
        raise CheckpointError(machine_path_advice(name, folder))
    from huggingface_hub import constants, try_to_load_from_cache

    found = try_to_load_from_cache(name, SNAPSHOT_FILE)
    if not isinstance(found, str):
        raise CheckpointError(
            f"the snapshot {name} is not in the hub's cache ({constants.HF_HUB_CACHE}): run "
            f"`hf download {name}` where there is a network and copy the cache, or store the "
            "encoder's weights with the checkpoint"
        )
    return Snapshot(name, Path(found))


def complete(
    model: torch.nn.Module,
    missing: Sequence[str],
    stored: Sequence[str],
    snapshot: Snapshot,
    code: CodePackage,
) -> None:
    """Give the encoder its published weights, and prove that it has them.

    Args:
        model: The loaded model, on the CPU; the tensors in `missing` may hold anything.
        missing: Names of the encoder's tensors that the checkpoint does not hold.
        stored: Names of all tensors that it holds.
        snapshot: The weights that the tensors must have.
        code: The model's own code.

    Raises:
        CheckpointError: A tensor is not in the snapshot or does not become equal to it, or the
            stored tensors show that the encoder was trained.
    """
    import torch
    from safetensors import safe_open

    state = model.state_dict()
    with safe_open(snapshot.path, framework="pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        keys = _keys(state, missing, shapes)
        # Stored tensors of the encoder must equal the snapshot's, or the encoder was trained.
        present = {name: key for name, key in keys.items() if name in set(stored)}
        trained = [n for n, key in present.items() if not _near(state[n], file.get_tensor(key))]
        if trained:
            raise CheckpointError(
                f"of its {len(present)} tensors that are stored {len(trained)} differ from "
                f"{snapshot.title} ({some(trained)}), so it was trained and the others cannot be "
                "had from there: save the checkpoint with all of its encoder"
            )
        unknown = [name for name in missing if name not in keys]
        if _reload(model, missing, code):
            state = model.state_dict()
        elif not unknown:
            with torch.no_grad():
                for name in missing:
                    state[name].copy_(file.get_tensor(keys[name]))
        # Code that loads the tensors itself may have its own names for them.
        unknown = [n for n in unknown if not _is_any(state[n], file, shapes)]
        if unknown:
            raise CheckpointError(
                f"{_count(unknown)} not in {snapshot.title} either: {some(unknown)}; the model "
                "would have random numbers there: save the checkpoint with all of its encoder"
            )
        wrong = [n for n in missing if n in keys and not _is(state[n], file.get_tensor(keys[n]))]
        wrong += [n for n, key in present.items() if not _near(state[n], file.get_tensor(key))]
    if wrong:
        raise CheckpointError(
            f"{_count(wrong)} not that of {snapshot.title} after {RELOAD}(): {some(wrong)}; the "
            "code loads another encoder than config.json names"
        )


def _reload(model: torch.nn.Module, missing: Sequence[str], code: CodePackage) -> bool:
    """Have the code load its encoder over values that cannot pass for weights.

    The family's method also resets trained layers around the encoder to where training began, so
    the stored tensors are put back afterwards.

    Returns:
        Whether the code has such a method.
    """
    import torch

    parts = [part for part in model.modules() if callable(getattr(part, RELOAD, None))]
    if not parts:
        return False
    state, lacking = model.state_dict(), set(missing)
    inside = {id(tensor) for part in parts for tensor in part.state_dict(keep_vars=True).values()}
    held = model.state_dict(keep_vars=True)
    kept = {n: t.detach().clone() for n, t in held.items() if id(t) in inside and n not in lacking}
    with torch.no_grad():
        for name in missing:
            # NaN stays visible if the code does not load the tensor.
            if state[name].is_floating_point():
                state[name].fill_(torch.nan)
    try:
        with code.active(), quietly():
            for part in parts:
                getattr(part, RELOAD)()
    except (Exception, SystemExit) as error:
        raise CheckpointError(f"the code's {RELOAD}() failed: {words(error)}") from error
    after = model.state_dict()
    with torch.no_grad():
        for name, tensor in kept.items():
            after[name].copy_(tensor)
    return True


def _keys(
    state: Mapping[str, torch.Tensor], missing: Sequence[str], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, str]:
    """Map names of the model's tensors to those of the snapshot, by one change of prefix.

    The change that fits most of the missing tensors by name and shape is applied to all.
    """

    def under(ours: str, theirs: str, names: Sequence[str]) -> dict[str, str]:
        found = {}
        for name in names:
            key = theirs + name.removeprefix(ours)
            if name.startswith(ours) and shapes.get(key) == tuple(state[name].shape):
                found[name] = key
        return found

    changes = [(a, b) for a in _prefixes(missing[:1]) for b in _prefixes(list(shapes))]
    ours, theirs = max(changes, key=lambda change: len(under(change[0], change[1], missing)))
    return under(ours, theirs, list(state))


def _prefixes(names: Sequence[str]) -> list[str]:
    """Return the dotted prefixes of the names, shortest first, with the empty one."""
    parts = [name.split(".")[:-1][:_DEPTH] for name in names]
    found = {".".join([*p[:end], ""]) if end else "" for p in parts for end in range(len(p) + 1)}
    return sorted(found, key=lambda prefix: (prefix.count("."), prefix))


def _is(tensor: torch.Tensor, published: torch.Tensor) -> bool:
    """Whether a whole tensor equals the published one, to the last bit of its dtype."""
    from torch import equal

    return not tensor.is_meta and equal(tensor, published.to(tensor.dtype))


def _near(tensor: torch.Tensor, published: torch.Tensor) -> bool:
    """Whether a stored tensor equals the published one; it may have only 8 bits of mantissa."""
    from torch import allclose

    return allclose(tensor.float(), published.to(tensor.dtype).float(), rtol=0.01, atol=1e-8)


def _is_any(tensor: torch.Tensor, file: Any, shapes: Mapping[str, tuple[int, ...]]) -> bool:  # noqa: ANN401 - of safetensors
    """Whether a tensor equals any of the published ones."""
    alike = [key for key, shape in shapes.items() if shape == tuple(tensor.shape)]
    return any(_is(tensor, file.get_tensor(key)) for key in alike)


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} tensor{' is' if len(names) == 1 else 's are'}"
