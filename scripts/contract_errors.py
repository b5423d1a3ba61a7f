#!/usr/bin/env python3
"""What each error of a client costs: a checkpoint, run with one thing wrong at a time.

    python scripts/contract_errors.py OUT --ckpt CKPT [--instances 0-19] [--only NAME ...]

Most errors are one field of the contract (`--set FIELD=VALUE --force-contract`). What no field
says, pictures upside down and poses of the inference before, is done to the batch by a copy of the
model's code. Every error is a run of its own in OUT/runs, compared instance by instance with the
run without one. OUT/contract_errors.json has the figures. The same command goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import prices

from b1k_policies.contract.presets import PROPRIO_GRIPPERS_LAST
from b1k_policies.options import at_home
from b1k_policies.xvla.files.folder import find_folder

_WRAPPED = """

import functools as _functools

_right = XVLA.generate_actions


@_functools.wraps(_right)
def _wrong(self, *arguments, **batch):
    {body}
    return _right(self, *arguments, **batch)


XVLA.generate_actions = _wrong
"""


@dataclass(frozen=True)
class ClientError:
    """One error.

    Attributes:
        name: Of its run.
        words: For the table.
        settings: Fields of the contract, as `--set` takes them.
        body: Instead of these, what is done to the dict `batch` before the model sees it.
    """

    name: str
    words: str
    settings: tuple[str, ...] = ()
    body: str = ""


BASELINE = ClientError("none", "the checkpoint as it is")
ERRORS = (
    ClientError("bgr", "pictures BGR", ("colour_order=bgr",)),
    ClientError("not-normalised", "mean and std missing", ("image_mean=0,0,0", "image_std=1,1,1")),
    ClientError("size", "pictures of 504 px", ("image_size=504",)),
    ClientError("no-antialias", "no antialiasing", ("resize_antialias=false",)),
    ClientError(
        "blank", "pictures black",
        body='batch["image_input"] = batch["image_input"].clamp(max=-1.8)',
    ),
    ClientError(
        "upside-down", "pictures upside down",
        body='batch["image_input"] = batch["image_input"].flip(-2)',
    ),
    ClientError("views", "wrist views swapped", ("view_order=head,right_wrist,left_wrist",)),
    ClientError("pose-rows", "poses in the order recorded (the card's fault 6)",
                ("extrinsics_rows=left_wrist,right_wrist,head",)),
    ClientError("pose-inverse", "poses base to camera", ("extrinsics_direction=base_to_camera",)),
    ClientError("pose-axes", "poses with OpenCV axes", ("camera_axes=opencv",)),
    ClientError(
        "pose-late", "poses of the inference before",
        body='now = batch["extrinsics"]; batch["extrinsics"] = getattr(self, "_late", now); '
        "self._late = now",
    ),
    ClientError("no-poses", "neither poses nor K", ("posed=false",)),
    ClientError("k-native", "K of the native pictures", ("scale_intrinsics=false",)),
    ClientError("proprio", "proprio with both grippers last",
                (f"proprio_parts={','.join(PROPRIO_GRIPPERS_LAST)}",)),
    ClientError("gripper", "gripper's proprio as a fraction", ("gripper_proprio=fraction",)),
    ClientError("base-frame", "base velocity in the world's frame", ("base_qvel_frame=world",)),
    ClientError("no-deltas", "offsets taken for commands", ("delta_spec=-23",)),
    ClientError("delta-columns", "offsets in the columns of another layout",
                ("delta_spec=-3 3 -1 6 -1 8 -1",)),
    ClientError("first-1", "first row skipped", ("first_action=1",)),
    ClientError("row-period", "each row executed twice", ("steps_per_row=2",)),
    ClientError("instruction", "another task's instruction",
                ("prompt=Turn on the radio that is on the table in the living room.",)),
    ClientError("tokens", "instruction cut to 8 tokens", ("language_length=8",)),
    ClientError("no-progress", "last progress not handed back", ("skill_progress=none",)),
    ClientError("sigmoid", "progress with one sigmoid missing", ("progress_output=probability",)),
)  # fmt: skip


def options_of(error: ClientError, out: Path, ckpt: str) -> list[str]:
    """What the command line of an error has beside the checkpoint."""
    if error == BASELINE:
        return []
    if not error.body:
        return [*(w for s in error.settings for w in ("--set", s)), "--force-contract"]
    code = out / "code" / error.name / "da3_xvla"
    if not code.exists():
        shutil.copytree(find_folder(ckpt).folder / "code" / "da3_xvla", code)
        with (code / "models" / "modeling_xvla.py").open("a", encoding="utf-8") as file:
            file.write(_WRAPPED.format(body=error.body))
    return ["--code-dir", str(code.parent), "--trust-checkpoint-code"]


def told_by_inspect(error: ClientError, arguments: argparse.Namespace) -> list[str]:
    """What `inspect` says of it, but for notes."""
    options = options_of(error, arguments.out, arguments.ckpt)
    words = prices.command("inspect", arguments.ckpt, "--json", *options)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    findings = json.loads(done.stdout)["findings"] if done.returncode == 0 else []
    told = (f for f in findings if f["level"] != "note")
    return [f"{f['level']}, {f['field']}: {f['text']}" for f in told]


def page(rows: list[prices.Row], where: Path) -> None:
    """Put table, figure and data under docs."""
    lines = []
    for row in rows:
        first, *more = row["inspect"] or ["nothing"]
        # The table says where a field is stated in the contract's own words; that is in the data.
        said = first.split(" (--set), EVAL_CONTRACT.json:")[0]
        said += f" (and {len(more)} more)" if more else ""
        if row["refused"]:
            lines.append([row["words"], "refused", "", "", "", row["refused"]])
            continue
        q = f"{row['run']['q_score']['mean']:.2f}"
        lines.append([row["words"], prices.rate(row), prices.lost(row), q, prices.ends(row), said])
    columns = ("wrong", "success", "points [95 %]", "q", "most are lost", "`inspect` says")
    title = "One error of the client at a time"
    prices.publish(where, "contract-errors", title, rows, columns, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--ckpt", type=at_home, required=True)
    parser.add_argument("--instances", default="0-19", help="of public-test (default 0-19)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="names of errors")
    parser.add_argument("--docs", type=Path, help="folder whose page, figure and data are renewed")
    arguments = parser.parse_args()
    (arguments.out / "runs").mkdir(parents=True, exist_ok=True)

    def run(error: ClientError) -> str:
        words = ["--ckpt", arguments.ckpt, "--instances", arguments.instances]
        words += options_of(error, arguments.out, arguments.ckpt)
        return prices.run(arguments.out / "runs" / error.name, words, arguments.workers)

    why = run(BASELINE)
    if why:
        raise SystemExit(why)
    usual = told_by_inspect(BASELINE, arguments)
    rows = []
    for error in (BASELINE, *ERRORS):
        if arguments.only and error.name not in arguments.only:
            continue
        refused = run(error)
        row = {"name": error.name, "words": error.words, "refused": refused}
        if not refused:
            runs = arguments.out / "runs"
            row |= prices.figures(runs / BASELINE.name, runs / error.name)
        told = [text for text in told_by_inspect(error, arguments) if text not in usual]
        rows.append(row | {"inspect": told})
        print(json.dumps(rows[-1])[:300], flush=True)
        (arguments.out / "contract_errors.json").write_text(json.dumps(rows, indent=1), "utf-8")
    if arguments.docs:
        page(rows, arguments.docs)


if __name__ == "__main__":
    main()
