"""Options that every verb with a checkpoint has, and what they make together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from b1k_envs.errors import UsageError
from b1k_eval.cli.options import at_home
from b1k_eval.run.settings import CONSENTS
from b1k_policies.contract.contract import PRESETS
from b1k_policies.xvla.files.checkpoint import CODE_FOLDER, CheckpointRequest, package_in

_PANEL = "Checkpoint"

ContractOption = Annotated[
    str | None,
    typer.Option(
        "--contract",
        metavar=f"{'|'.join(PRESETS)}|FILE",
        help="Evaluate the checkpoint under this contract.",
        show_default="what its files say",
        rich_help_panel=_PANEL,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Set one field of the contract; may be repeated.",
        rich_help_panel=_PANEL,
    ),
]
ForceOption = Annotated[
    bool | None,
    typer.Option(
        "--force-contract",
        help="Overrule the checkpoint's own files (for ablations; the run is marked).",
        rich_help_panel=_PANEL,
    ),
]
CodeDirOption = Annotated[
    str | None,
    typer.Option(
        "--code-dir",
        metavar="DIR",
        help="The model's own code, the package da3_xvla.",
        show_default="code/ in the checkpoint",
        rich_help_panel=_PANEL,
    ),
]
TrustOption = Annotated[
    bool | None,
    typer.Option(
        "--trust-checkpoint-code",
        help="Execute code that came with a download.",
        rich_help_panel=_PANEL,
    ),
]
PickleOption = Annotated[
    bool | None,
    typer.Option(
        "--allow-pickle",
        help="Load pickles that hold more than tensors, which can execute code.",
        rich_help_panel=_PANEL,
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device", help="cpu, cuda or cuda:N.", show_default="auto", rich_help_panel=_PANEL
    ),
]
AutocastOption = Annotated[
    str | None,
    typer.Option(
        "--autocast",
        metavar="DTYPE",
        help="bfloat16 or float16 arithmetic over the weights as they are (--set dtype= casts "
        "the weights).",
        show_default="none",
        rich_help_panel=_PANEL,
    ),
]
CompileOption = Annotated[
    bool | None,
    typer.Option("--compile", help="torch.compile the model.", rich_help_panel=_PANEL),
]
SkillIdOption = Annotated[
    int | None,
    typer.Option(
        "--skill-id",
        help="Force this skill on the model.",
        show_default="its classifier's",
        rich_help_panel=_PANEL,
    ),
]
SkillProgressOption = Annotated[
    float | None,
    typer.Option(
        "--skill-progress",
        help="Tell the model this progress within the skill, 0 to 1.",
        show_default="none",
        rich_help_panel=_PANEL,
    ),
]

PATHS: tuple[str, ...] = ("ckpt", "contract", "code_dir")
"""Fields of `CheckpointRequest` that may be paths."""

_OPTIONS: Mapping[str, str] = {
    "ckpt": "--ckpt",
    "settings": "--set",
    "trust_code": "--trust-checkpoint-code",
}
"""Fields of `CheckpointRequest` whose option is not simply their name."""


def typed_only(options: Mapping[str, Any]) -> dict[str, Any]:
    """What was typed, by field of `CheckpointRequest`.

    The checkpoint's folder and a contract's file become absolute: a run may be resumed from
    elsewhere. An empty word stays one, for `CheckpointRequest` to refuse.
    """
    typed = {name: value for name, value in options.items() if value not in (None, [])}
    typed |= {name: at_home(typed[name]) for name in PATHS if name in typed}
    ckpt, contract = typed.get("ckpt"), typed.get("contract")
    if ckpt and Path(ckpt).is_dir():
        typed["ckpt"] = str(Path(ckpt).resolve())
    if contract and contract not in PRESETS and Path(contract).is_file():
        typed["contract"] = str(Path(contract).resolve())
    return typed


def complete_checkpoint(
    typed: Mapping[str, Any], recorded: Mapping[str, Any] | None, policy: str | None
) -> CheckpointRequest | None:
    """The request, completed by that of a run that is resumed; None for no checkpoint.

    Consent is never completed: a file that came from elsewhere must not give it.

    Args:
        typed: As `typed_only` gives it.
        recorded: `checkpoint` of the run's recorded settings; None for none.
        policy: What was typed as --policy; None if nothing was.

    Raises:
        UsageError: Both a policy and a checkpoint, or options of a checkpoint without one; or a
            value that cannot be meant.
    """
    if recorded is None and "ckpt" not in typed:
        if typed:
            names = ", ".join(option_of(name) for name in typed)
            raise UsageError(f"{names} only mean something with --ckpt")
        return None
    if policy is not None:
        raise UsageError("--policy and --ckpt both name a policy: give one of them")
    before = {name: value for name, value in (recorded or {}).items() if name not in CONSENTS}
    values = {**before, **typed}
    values["settings"] = tuple(values.get("settings", ()))
    if typed.get("code_dir"):
        values["code_dir"] = _code_dir(typed["code_dir"], values["ckpt"])
    return CheckpointRequest(**values)


def _code_dir(word: str, ckpt: str) -> str:
    """`--code-dir`, absolute if only one folder can be meant by it.

    Else as it was typed, and `locate` says what is wrong. That includes a place where the card has
    the code, for a checkpoint whose files are still on the hub.
    """
    places = [Path(word), Path(ckpt) / word]
    if not Path(ckpt).is_dir() and Path(word).parts[:1] == Path(CODE_FOLDER).parts[:1]:
        return word
    holding = {place.resolve() for place in places if package_in(place) is not None}
    return str(holding.pop()) if len(holding) == 1 else word


def option_of(field: str) -> str:
    """The command line's name of a field of `CheckpointRequest`."""
    return _OPTIONS.get(field, "--" + field.replace("_", "-"))
