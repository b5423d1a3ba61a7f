"""Loading a verified checkpoint into memory: its own code, its weights, a device.

The classes and calls are those of the model card of DA3-XVLA v17: `XVLAConfig.from_pretrained`,
`XVLA.from_pretrained(folder, config=config)`.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b1k_envs.errors import B1kEvalError, UnavailableError
from b1k_policies.contract.contract import EvalContract
from b1k_policies.xvla.code.imports import ENTRIES
from b1k_policies.xvla.code.package import CodePackage
from b1k_policies.xvla.code.required_packages import (
    chain,
    check_packages,
    failed_import,
    is_here,
    package_advice,
    words,
)
from b1k_policies.xvla.encoder_weights import (
    complete,
    find_snapshot,
    is_elsewhere,
    machine_path_advice,
)
from b1k_policies.xvla.files.checkpoint import Checkpoint, CheckpointError
from b1k_policies.xvla.files.folder import INSTALL
from b1k_policies.xvla.files.weights import CONVERT, loadable, read_pickle
from b1k_policies.xvla.silence import quietly

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModel:
    """A model ready for inference.

    Attributes:
        model: In eval mode, on `device`, weights of the contract's dtype.
        code: Its code; inference happens inside `code.active()`.
        device: The device it is on.
        parameters: Number of its parameters.
        fetched_sha256: SHA-256 over the tensors that came from elsewhere than the checkpoint's
            weights; None if there are none.
        remarks: What a person should read before trusting a result.
    """

    model: torch.nn.Module
    code: CodePackage
    device: torch.device
    parameters: int
    fetched_sha256: str | None
    remarks: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Sample:
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


def require_torch() -> None:
    """Check that the extra is installed, and can be imported.

    Raises:
        UnavailableError: It is not installed (the text has the command), or it cannot be
            imported (the text has its own words).
    """
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except (ImportError, OSError) as error:
        lacking = failed_import(error)
        if lacking is not None and not is_here(lacking):
            raise UnavailableError(f"checkpoints need {lacking}: {INSTALL}") from error
        raise UnavailableError(
            f"torch or transformers is installed and cannot be imported ({words(error)}): mend "
            "what it names, or install another build of it"
        ) from error


def pick_device(word: str) -> torch.device:
    """Return the device that a word names.

    Raises:
        UnavailableError: This machine or this torch has no such device.
    """
    import torch

    if word == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(word)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise UnavailableError(
                f"--device {word}: torch {torch.__version__} sees {count} CUDA devices here; "
                "use --device cpu, or install a torch that fits the driver"
            )
    return device


def load_model(checkpoint: Checkpoint, contract: EvalContract, device: torch.device) -> LoadedModel:
    """Build the model from its own code and weights.

    Args:
        checkpoint: A verified checkpoint whose code is trusted.
        contract: Gives the dtype of the weights.
        device: Where to put the model.

    Raises:
        CheckpointError: Code, configuration or weights cannot be used; or the code asks for
            weights of the geometry encoder that are not on this machine.
        UnavailableError: Packages that the code needs are missing or do not fit; all are named.
    """
    import torch

    code = CodePackage(checkpoint.code_root)
    with quietly():
        used = ("depth_anything_3",) if checkpoint.geometry_model is not None else ()
        check_packages(code.root, code.name, used)
    folder = checkpoint.folder
    config_class = _class(code, "configuration_xvla")
    model_class = _class(code, "modeling_xvla")
    dtype: torch.dtype = getattr(torch, contract.dtype)
    stored, executed = _stored(checkpoint)
    options: dict[str, Any] = {}
    # Only a model class of transformers takes these options; the code may have its own class.
    if hasattr(model_class, "_load_pretrained_model"):
        options["local_files_only"] = True
        options["use_safetensors"] = checkpoint.weights_format == "safetensors"
        options["ignore_mismatched_sizes"] = True  # `_compare` names them all at once
        if executed:
            options["weights_only"] = False
        # Without it, version 5 first rounds the weights to the torch_dtype of config.json.
        options["dtype" if _transformers_version() >= 5 else "torch_dtype"] = dtype
    try:
        with code.active(), quietly():
            config = config_class.from_pretrained(str(folder))
            model: torch.nn.Module = model_class.from_pretrained(
                str(folder), config=config, **options
            )
    except B1kEvalError:
        raise
    except Exception as error:
        raise _explained(error, checkpoint) from error
    fetched, remarks = _compare(model, stored, checkpoint, code)
    encoder = checkpoint.geometry_model
    if encoder is not None and is_elsewhere(encoder):
        remarks += (f"not used here: {machine_path_advice(encoder, folder)}",)
    remarks += _set_unstored_buffers(model, lambda: model_class(config), code)
    fetched_sha256 = _digest(model, fetched) if fetched else None
    model = model.to(device=device, dtype=dtype).eval()
    model.requires_grad_(False)
    return LoadedModel(
        model=model,
        code=code,
        device=device,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        fetched_sha256=fetched_sha256,
        remarks=remarks,
    )


def _class(code: CodePackage, entry: str) -> Any:  # noqa: ANN401 - a class of their code
    module, name = code.module_of(entry), ENTRIES[entry]
    found = getattr(code.load(module), name, None)
    if found is None:
        raise CheckpointError(f"{code.root}/{module.replace('.', '/')}.py defines no {name}")
    return found


def _transformers_version() -> int:
    import transformers

    return int(transformers.__version__.partition(".")[0])


def _stored(checkpoint: Checkpoint) -> tuple[dict[str, _Sample], bool]:
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
            name: _Sample(tuple(tensor.shape), (tensor[:1] if tensor.ndim > 1 else tensor).clone())
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
                samples[name] = _Sample(shape, values)
    return samples, False


def _compare(
    model: torch.nn.Module,
    stored: Mapping[str, _Sample],
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


def _set_unstored_buffers(
    model: torch.nn.Module, build: Callable[[], torch.nn.Module], code: CodePackage
) -> tuple[str, ...]:
    """Set buffers that no file stores to the values that the code gives them, and say so.

    transformers 5 builds models without memory and leaves such buffers unset.
    """
    import torch

    if _transformers_version() < 5:  # these set them, and building the model again takes a while
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


def _digest(model: torch.nn.Module, names: Sequence[str]) -> str:
    """Return the SHA-256 over names and contents of tensors that no hashed file holds, hex."""
    digest, state = hashlib.sha256(), model.state_dict()
    for name in sorted(names):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()


def _check_values(
    state: Mapping[str, torch.Tensor], stored: Mapping[str, _Sample], folder: Path
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


def _explained(error: Exception, checkpoint: Checkpoint) -> CheckpointError:
    """Return the error as one that a person can act on."""
    encoder = checkpoint.geometry_model
    elsewhere = encoder is not None and is_elsewhere(encoder)
    if encoder is not None and elsewhere and any(encoder in str(link) for link in chain(error)):
        return CheckpointError(
            f"the model in {checkpoint.folder} cannot be built ({words(error)}); "
            f"{machine_path_advice(encoder, checkpoint.folder)}"
        )
    if any(_wants_the_hub(link) for link in chain(error)):
        from huggingface_hub import constants

        return CheckpointError(
            f"the code of {checkpoint.folder} asks the hub for weights that are neither in the "
            f"checkpoint nor in the cache ({constants.HF_HUB_CACHE}) and cannot be fetched here; "
            f"config.json names {encoder} as geometry encoder: run `hf download {encoder}` where "
            "there is a network and copy the cache"
        )
    advice = package_advice(error) or "weights, config.json and code have to be of one checkpoint"
    if checkpoint.weights_format == "pickle":
        folder = shlex.quote(str(checkpoint.folder))
        advice += f"; `{CONVERT} {folder}` writes the weights as safetensors"
    return CheckpointError(
        f"the model in {checkpoint.folder} cannot be built ({words(error)}); {advice}"
    )


def _wants_the_hub(error: BaseException) -> bool:
    from huggingface_hub import utils as _utils

    utils: Any = _utils  # has the errors in every version, which `huggingface_hub.errors` has not
    hub = (utils.LocalEntryNotFoundError, utils.OfflineModeIsEnabled, utils.HfHubHTTPError)
    return isinstance(error, hub) or type(error).__module__.partition(".")[0] in (
        "httpx",
        "httpx2",
        "requests",
        "urllib3",
    )
