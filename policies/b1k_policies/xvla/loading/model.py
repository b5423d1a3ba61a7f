"""Loading a verified checkpoint into memory: its own code, its weights, a device.

The classes and calls are those of the model card of DA3-XVLA v17: `XVLAConfig.from_pretrained`,
`XVLA.from_pretrained(folder, config=config)`.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
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
from b1k_policies.xvla.files.checkpoint import Checkpoint, CheckpointError
from b1k_policies.xvla.files.folder import INSTALL
from b1k_policies.xvla.files.weights import CONVERT
from b1k_policies.xvla.loading.encoder_weights import is_elsewhere, machine_path_advice
from b1k_policies.xvla.loading.stored import (
    compare,
    digest_of,
    read_samples,
    set_unstored_buffers,
    transformers_version,
)
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
    stored, executed = read_samples(checkpoint)
    options: dict[str, Any] = {}
    # Only a model class of transformers takes these options; the code may have its own class.
    if hasattr(model_class, "_load_pretrained_model"):
        options["local_files_only"] = True
        options["use_safetensors"] = checkpoint.weights_format == "safetensors"
        options["ignore_mismatched_sizes"] = True  # `compare` names them all at once
        if executed:
            options["weights_only"] = False
        # Without it, version 5 first rounds the weights to the torch_dtype of config.json.
        options["dtype" if transformers_version() >= 5 else "torch_dtype"] = dtype
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
    fetched, remarks = compare(model, stored, checkpoint, code)
    encoder = checkpoint.geometry_model
    if encoder is not None and is_elsewhere(encoder):
        remarks += (f"not used here: {machine_path_advice(encoder, folder)}",)
    remarks += set_unstored_buffers(model, lambda: model_class(config), code)
    fetched_sha256 = digest_of(model, fetched) if fetched else None
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
