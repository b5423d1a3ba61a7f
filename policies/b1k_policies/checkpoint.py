"""What a command line asks of a checkpoint, whatever family it is of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from b1k_envs.errors import UsageError
from b1k_policies.contract.presets import PRESETS
from b1k_policies.options import POLICY, Option, at_home

AUTOCASTS: tuple[str, ...] = ("bfloat16", "float16")

_HEADING = "Checkpoint"
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


@dataclass(frozen=True, kw_only=True)
class CheckpointRequest:
    """A checkpoint as the command line asks for it.

    Raises:
        UsageError: A value is not valid for any checkpoint.
    """

    ckpt: Annotated[
        str,
        Option(
            help="In place of --policy: a DA3-XVLA checkpoint, a folder or org/name@revision.",
            heading=POLICY,
            default="none",
            metavar="PATH|HUB_ID",
            parse=at_home,
        ),
    ]
    contract: Annotated[
        str | None,
        Option(
            help="Evaluate the checkpoint under this contract.",
            default="what its files say",
            metavar=f"{'|'.join(PRESETS)}|FILE",
            heading=_HEADING,
            parse=at_home,
        ),
    ] = None
    settings: Annotated[
        tuple[str, ...],
        Option(
            help="Set one field of the contract; may be repeated.",
            flag="--set",
            metavar="FIELD=VALUE",
            heading=_HEADING,
        ),
    ] = ()
    force_contract: Annotated[
        bool,
        Option(
            help="Overrule the checkpoint's own files (for ablations; the run is marked).",
            heading=_HEADING,
        ),
    ] = False
    code_dir: Annotated[
        str | None,
        # A path may be absolute, or relative to the current directory or to the checkpoint.
        Option(
            help="The model's own code, the package da3_xvla.",
            default="code/ in the checkpoint",
            metavar="DIR",
            heading=_HEADING,
            parse=at_home,
        ),
    ] = None
    trust_code: Annotated[
        bool,
        Option(
            help="Execute code that came with a download.",
            flag="--trust-checkpoint-code",
            heading=_HEADING,
            consent=True,
        ),
    ] = False
    allow_pickle: Annotated[
        bool,
        Option(
            help="Load pickles that hold more than tensors, which can execute code.",
            heading=_HEADING,
            consent=True,
        ),
    ] = False
    device: Annotated[str, Option(help="cpu, cuda or cuda:N.", heading=_HEADING)] = "auto"
    autocast: Annotated[
        str | None,
        Option(
            help="bfloat16 or float16 arithmetic over the weights as they are (--set dtype= casts "
            "the weights).",
            default="none",
            metavar="DTYPE",
            heading=_HEADING,
        ),
    ] = None
    compile: Annotated[bool, Option(help="torch.compile the model.", heading=_HEADING)] = False
    skill_id: Annotated[
        int | None,
        Option(
            help="Force this skill on the model.",
            default="its classifier's",
            heading=_HEADING,
        ),
    ] = None
    skill_progress: Annotated[
        float | None,
        Option(
            help="Tell the model this progress within the skill, 0 to 1.",
            default="none",
            heading=_HEADING,
        ),
    ] = None

    def __post_init__(self) -> None:
        if not self.ckpt:
            raise UsageError("--ckpt needs the folder of a checkpoint, or a hub id (org/name)")
        if self.code_dir == "":
            raise UsageError("--code-dir needs the folder of the package da3_xvla")
        if _DEVICE.fullmatch(self.device) is None:
            raise UsageError(
                f"--device {self.device!r} is unknown; choose from auto, cpu, cuda, cuda:N"
            )
        if self.autocast is not None and self.autocast not in AUTOCASTS:
            raise UsageError(
                f"--autocast {self.autocast!r} is unknown; choose from {', '.join(AUTOCASTS)}"
            )
        if self.skill_id is not None and self.skill_id < 0:
            raise UsageError(f"--skill-id {self.skill_id} must be 0 or more")
        if self.skill_progress is not None and not 0.0 <= self.skill_progress <= 1.0:
            raise UsageError(f"--skill-progress {self.skill_progress:g} must lie in [0, 1]")
