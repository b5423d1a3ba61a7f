"""Comparing a loaded model's tensors with the stored ones: no weight may be left random.

Only the first row of each tensor is compared; that the code uses the tensors rightly is not proven.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from b1k_policies.xvla.code.package import CodePackage
from b1k_policies.xvla.files.checkpoint import Checkpoint, CheckpointError
from b1k_policies.xvla.files.weights import loadable, read_pickle
from b1k_policies.xvla.loading.encoder_weights import complete, find_snapshot
from b1k_policies.xvla.silence import quietly

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Sample:
    """The shape and the first row of a stored tensor (all of it if it has one axis)."""

    shape: tuple[int, ...]
    values: torch.Tensor

    def is_in(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor of this shape starts with these values, to 8 bits of mantissa."""
        from torch import allclose

        start = tensor[:1] if tensor.ndim > 1 else tensor
        # Rounded to the model's dtype first: float16 has steps of 6e-8 around 0. Frozen parts may
        # come from the hub in another precision than they were stored in.
        stored = self.values.to(start.dtype).float()
        return allclose(start.float(), stored, rtol=0.01, equal_nan=True)


def read_samples(checkpoint: Checkpoint) -> tuple[dict[str, Sample], bool]:
    """Return (samples of the stored tensors by name, whether Python had to unpickle a file).

    Raises:
        CheckpointError: See `weights.read_weights`.
    """
    from safetensors import safe_open

    if checkpoint.weights_format == "pickle":
        pickled = [
            read_pickle(path, allow_pickle=checkpoint.allow_pickle) for path in checkpoint.weights
        ]
        tensors = loadable(checkpoint.weights, pickled)
        samples = {
            name: Sample(tuple(tensor.shape), (tensor[:1] if tensor.ndim > 1 else tensor).clone())
            for name, tensor in tensors.items()
        }
        return samples, any(one.executed for one in pickled)
    samples = {}
    for path in checkpoint.weights:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - no dict
                part = file.get_slice(name)
                shape = tuple(part.get_shape())
                values = part[:1] if len(shape) > 1 else file.get_tensor(name)
                samples[name] = Sample(shape, values)
    return samples, False


def compare(
    model: torch.nn.Module,
    stored: Mapping[str, Sample],
    checkpoint: Checkpoint,
    code: CodePackage,
) -> tuple[list[str], tuple[str, ...]]:
    """Compare the model's tensors with those in the files; no weight may be left random.

    Returns:
        (tensors that come from the geometry encoder's snapshot, remarks).
    """
    folder = checkpoint.folder
    state = model.state_dict()
    # Tied weights are stored under one of their names. 0 is the address of an empty tensor.
    shared = {tensor.data_ptr() for name, tensor in state.items() if name in stored} - {0}
    missing = [
        name
        for name, tensor in state.items()
        if name not in stored and tensor.data_ptr() not in shared
    ]
    fetched = _of_frozen_encoder(model, missing)
    lost = [name for name in missing if name not in fetched]
    if lost:
        raise CheckpointError(
            f"{folder}: {_tensors(lost)} not in the weights, so the model would have random "
            f"numbers there: {_some(lost)}; weights and code do not belong together"
        )
    remarks = []
    if fetched:
        try:
            snapshot = find_snapshot(checkpoint.geometry_model, folder)
            complete(model, fetched, list(stored), snapshot, code)
        except CheckpointError as error:
            raise CheckpointError(
                f"{folder}: {_tensors(fetched)} not in the weights, all of the frozen geometry "
                f"encoder: {_some(fetched)}; {error}"
            ) from error
        state = model.state_dict()
        remarks.append(
            f"{len(fetched)} tensors of the geometry encoder are not in the checkpoint's weights; "
            f"each is that of {snapshot.title}, compared number by number"
        )
    _check_values(state, stored, folder)
    unused = sorted(set(stored) - set(state))
    if unused:
        remarks.append(f"stored, but not used: {_some(unused)} ({len(unused)} in all)")
    return fetched, tuple(remarks)


def _of_frozen_encoder(model: torch.nn.Module, missing: Sequence[str]) -> list[str]:
    """Return the missing tensors that may be the frozen geometry encoder's, from its snapshot.

    Trained tensors are always stored, so if the code freezes any of these, only frozen ones count.
    """
    geometry = getattr(getattr(model, "config", None), "geometry_conditioning", None)
    if isinstance(geometry, Mapping) and geometry.get("freeze_da3") is False:
        return []
    named = [name for name in missing if "da3" in name.lower()]
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    frozen = [name for name in named if name not in trained]
    parameters = {name for name, _ in model.named_parameters()}
    return frozen if parameters & set(frozen) else named


def set_unstored_buffers(
    model: torch.nn.Module, build: Callable[[], torch.nn.Module], code: CodePackage
) -> tuple[str, ...]:
    """Set buffers that no file stores to the values that the code gives them, and say so.

    transformers 5 builds models without memory and leaves such buffers unset.
    """
    import torch

    if transformers_version() < 5:  # these set them, and building the model again takes a while
        return ()
    stored = set(model.state_dict())
    unstored = {name: buffer for name, buffer in model.named_buffers() if name not in stored}
    if not unstored:
        return ()
    # Building draws random weights, which must not move torch's own generator.
    with code.active(), quietly(), torch.random.fork_rng(devices=[]):
        fresh = dict(build().named_buffers())
    unset = [name for name, buffer in unstored.items() if not _same(buffer, fresh[name])]
    with torch.no_grad():
        for name in unset:
            unstored[name].copy_(fresh[name])
    if not unset:
        return ()
    return (
        f"{_tensors(unset)} stored nowhere and were not as the code makes them after loading; "
        f"set anew: {_some(unset)}",
    )


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    from torch import allclose

    return allclose(one.double(), other.to(one.dtype).double(), rtol=0.0, atol=0.0, equal_nan=True)


def digest_of(model: torch.nn.Module, names: Sequence[str]) -> str:
    """Return the SHA-256 over names and contents of tensors that no hashed file holds, hex."""
    digest, state = hashlib.sha256(), model.state_dict()
    for name in sorted(names):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()


def _check_values(
    state: Mapping[str, torch.Tensor], stored: Mapping[str, Sample], folder: Path
) -> None:
    """Check that every stored tensor has reached the model.

    Versions of transformers from before 2025 rename tensors with `gamma` or `beta` in their names,
    and the scales of DA3's layers then silently keep their initial values.
    """
    sized = [
        f"{name} {list(stored[name].shape)}, in the model {list(tensor.shape)}"
        for name, tensor in state.items()
        if name in stored and tuple(tensor.shape) != stored[name].shape
    ]
    if sized:
        raise CheckpointError(
            f"{folder}: {_tensors(sized)} of another shape in the weights: {_some(sized)}; "
            "weights, config.json and code do not belong together"
        )
    changed = [
        name for name, tensor in state.items() if name in stored and not stored[name].is_in(tensor)
    ]
    if changed:
        import transformers

        raise CheckpointError(
            f"{folder}: {_tensors(changed)} not in the model as in the weights: {_some(changed)}; "
            f"transformers {transformers.__version__} or the checkpoint's code does not load them: "
            "install another version of transformers"
        )


def _tensors(names: list[str]) -> str:
    return f"{len(names)} tensor{' is' if len(names) == 1 else 's are'}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def transformers_version() -> int:
    """Return the major version of the transformers that are installed."""
    import transformers

    return int(transformers.__version__.partition(".")[0])
