"""From a verified checkpoint to a model in memory: its own code, its weights, a device.

The classes and calls are those of the model card of DA3-XVLA v17: `XVLAConfig.from_pretrained`,
`XVLA.from_pretrained(folder, config=config)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b1k_envs.errors import B1kEvalError, UnavailableError
from b1k_policies.checkpoint import Checkpoint, CheckpointError
from b1k_policies.code_package import CodePackage
from b1k_policies.contract import EvalContract
from b1k_policies.contract_reading import CONFIG_FILE, read_config, read_json
from b1k_policies.quiet import quietly

if TYPE_CHECKING:
    import torch

INSTALL = "pip install 'b1k-eval[xvla]'"


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModel:
    """A model ready for inference.

    Attributes:
        model: In eval mode, on `device`, weights of the contract's dtype.
        code: Its code; inference happens inside `code.active()`.
        device: Where it is.
        parameters: How many.
        remarks: What a person should read before trusting a result.
    """

    model: torch.nn.Module
    code: CodePackage
    device: torch.device
    parameters: int
    remarks: tuple[str, ...]


def require_torch() -> None:
    """Check that the extra is installed.

    Raises:
        UnavailableError: It is not; with the command.
    """
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise UnavailableError(f"checkpoints need {error.name}: {INSTALL}") from error


def pick_device(word: str) -> torch.device:
    """The device a word names.

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
        checkpoint: Verified, its code trusted.
        contract: Gives the dtype of the weights.
        device: Where to put it.

    Raises:
        CheckpointError: Code, configuration or weights cannot be used; or the code asks for
            weights of the geometry encoder that are not on this machine.
    """
    import torch

    code = CodePackage(checkpoint.code_root)
    folder = checkpoint.folder
    config_class = _class(code, "models.configuration_xvla", "XVLAConfig")
    model_class = _class(code, "models.modeling_xvla", "XVLA")
    options: dict[str, Any] = {}
    if hasattr(model_class, "_load_pretrained_model"):  # of transformers, not a class of its own
        options["local_files_only"] = True
        options["use_safetensors"] = checkpoint.weights_format == "safetensors"
    try:
        with code.active(), quietly():
            config = config_class.from_pretrained(str(folder))
            model: torch.nn.Module = model_class.from_pretrained(
                str(folder), config=config, **options
            )
    except B1kEvalError:
        raise
    except Exception as error:
        raise _explained(error, folder) from error
    remarks = () if checkpoint.weights_format == "pickle" else _compare(model, checkpoint)
    dtype: torch.dtype = getattr(torch, contract.dtype)
    model = model.to(device=device, dtype=dtype).eval()
    model.requires_grad_(False)
    return LoadedModel(
        model=model,
        code=code,
        device=device,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        remarks=remarks,
    )


def _class(code: CodePackage, module: str, name: str) -> Any:  # noqa: ANN401 - a class of their code
    found = getattr(code.load(module), name, None)
    if found is None:
        raise CheckpointError(f"{code.root}/{module.replace('.', '/')}.py defines no {name}")
    return found


def _compare(model: torch.nn.Module, checkpoint: Checkpoint) -> tuple[str, ...]:
    """Hold the model's tensors to those in the files; a weight left random is no checkpoint."""
    from safetensors import safe_open

    stored: set[str] = set()
    for path in checkpoint.weights:
        with safe_open(path, framework="pt") as file:
            stored.update(file.keys())
    state = model.state_dict()
    shared = {tensor.data_ptr() for name, tensor in state.items() if name in stored}
    missing = [
        name
        for name, tensor in state.items()
        if name not in stored and tensor.data_ptr() not in shared
    ]
    # The frozen geometry encoder may be fetched by the code itself instead of being stored.
    fetched = [name for name in missing if "da3" in name.lower()]
    lost = [name for name in missing if name not in fetched]
    if lost:
        raise CheckpointError(
            f"{checkpoint.folder}: {len(lost)} of the model's tensors are not in the weights, so "
            f"they would be random: {_some(lost)}; weights and code do not belong together"
        )
    remarks = []
    if fetched:
        remarks.append(
            f"{len(fetched)} tensors of the geometry encoder are not in the checkpoint's weights; "
            f"its code has to have got them elsewhere: {_some(fetched)}"
        )
    unused = sorted(stored - set(state))
    if unused:
        remarks.append(f"{len(unused)} stored tensors are not used: {_some(unused)}")
    return tuple(remarks)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _explained(error: Exception, folder: Path) -> CheckpointError:
    """The error a person can act on."""
    if any(_wants_the_hub(link) for link in _chain(error)):
        from huggingface_hub import constants

        key = "geometry_conditioning.da3_model_name"
        encoder = read_config(read_json(folder / CONFIG_FILE)).value(key)
        return CheckpointError(
            f"the code of {folder} asks the hub for weights that are neither in the checkpoint nor "
            f"in the cache ({constants.HF_HUB_CACHE}) and cannot be fetched here; config.json "
            f"names {encoder} as {key}: run `hf download {encoder}` where there is a network and "
            "copy the cache"
        )
    said = " ".join(str(error).split())
    return CheckpointError(
        f"the model in {folder} cannot be built ({type(error).__name__}: {said[:300]}); weights, "
        "config.json and code have to be of one checkpoint"
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _wants_the_hub(error: BaseException) -> bool:
    from huggingface_hub import errors

    hub = (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, errors.HfHubHTTPError)
    return isinstance(error, hub) or type(error).__module__.partition(".")[0] in (
        "httpx",
        "httpx2",
        "requests",
        "urllib3",
    )
