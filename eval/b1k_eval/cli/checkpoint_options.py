"""Options that every verb with a checkpoint has, and what they make together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from b1k_envs.errors import UsageError
from b1k_policies.checkpoint import CheckpointRequest

_PANEL = "Checkpoint"

ContractOption = Annotated[
    str | None,
    typer.Option(
        "--contract",
        metavar="v4|v17|FILE",
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
        help="Load weights that are pickles, which can execute code.",
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

_OPTIONS: Mapping[str, str] = {
    "ckpt": "--ckpt",
    "settings": "--set",
    "trust_code": "--trust-checkpoint-code",
}
"""Fields of `CheckpointRequest` whose option is not simply their name."""


def typed_only(options: Mapping[str, Any]) -> dict[str, Any]:
    """What was typed, by field of `CheckpointRequest`; a folder becomes absolute."""
    typed = {name: value for name, value in options.items() if value not in (None, [])}
    if "ckpt" in typed and Path(typed["ckpt"]).is_dir():
        typed["ckpt"] = str(Path(typed["ckpt"]).resolve())
    return typed


def complete_checkpoint(
    typed: Mapping[str, Any], recorded: Mapping[str, Any] | None, policy: str | None
) -> CheckpointRequest | None:
    """The request, completed by that of a run that is resumed; None for no checkpoint.

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
            names = ", ".join(_option(name) for name in typed)
            raise UsageError(f"{names} only mean something with --ckpt")
        return None
    if policy is not None:
        raise UsageError("--policy and --ckpt both name a policy: give one of them")
    values = {**(recorded or {}), **typed}
    values["settings"] = tuple(values.get("settings", ()))
    return CheckpointRequest(**values)


def _option(field: str) -> str:
    return _OPTIONS.get(field, "--" + field.replace("_", "-"))
