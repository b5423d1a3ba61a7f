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
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b1k_eval.compare.summary import summarise_runs
from b1k_eval.diagnosis.failures import label_failure
from b1k_eval.records.loading import read_run_data
from b1k_policies.contract.presets import PROPRIO_GRIPPERS_LAST
from b1k_policies.options import at_home
from b1k_policies.xvla.files.folder import find_folder

MAX_STEPS = 1800
"""Successes take 1,200 to 1,500; what is wrong for longer than this stays wrong."""
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


def command(verb: str, *words: str) -> list[str]:
    """The command line of a verb, of this environment."""
    return [str(Path(sys.executable).with_name("b1k-eval")), verb, *words]


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


def run(error: ClientError, arguments: argparse.Namespace) -> tuple[Path, str]:
    """Run it, or what of it is missing: (folder, why there is no run)."""
    folder = arguments.out / "runs" / error.name
    note = folder.with_suffix(".refused")
    if note.exists():
        return folder, note.read_text("utf-8")
    options = options_of(error, arguments.out, arguments.ckpt)
    words = ["--task", "31", "--ckpt", arguments.ckpt, "--instances", arguments.instances]
    words += ["--max-steps", str(MAX_STEPS), "--no-video", "--workers", str(arguments.workers)]
    words += ["--out", str(folder), *options]
    if folder.exists():
        words = ["--out", str(folder), "--resume"]
    done = subprocess.run(command("run", *words), capture_output=True, text=True, check=False)
    if done.returncode in (3, 4):
        note.write_text(done.stderr.strip().splitlines()[-1], "utf-8")
        return folder, note.read_text("utf-8")
    if done.returncode not in (0, 1):
        raise SystemExit(f"{error.name}: {done.stderr}")
    return folder, ""


def told_by_inspect(error: ClientError, arguments: argparse.Namespace) -> list[str]:
    """What `inspect` says of it, but for notes."""
    options = options_of(error, arguments.out, arguments.ckpt)
    words = command("inspect", arguments.ckpt, "--json", *options)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    findings = json.loads(done.stdout)["findings"] if done.returncode == 0 else []
    return [f"{f['level']}: {f['text']}" for f in findings if f["level"] != "note"]


def figures(baseline: Path, folder: Path) -> dict[str, Any]:
    """Points lost, with interval, and where it ends."""
    runs = [read_run_data(baseline), read_run_data(folder)]
    document = summarise_runs(runs, mix=True)
    failures = [label_failure(e) for e in runs[1].episodes if e.outcome == "failure"]
    labels = Counter(f.words for f in failures if f is not None)
    return {
        "run": document["runs"][1],
        "pair": document["pairs"][0],
        "failures": dict(labels.most_common()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--ckpt", type=at_home, required=True)
    parser.add_argument("--instances", default="0-19", help="of public-test (default 0-19)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="names of errors")
    arguments = parser.parse_args()
    (arguments.out / "runs").mkdir(parents=True, exist_ok=True)
    baseline, why = run(BASELINE, arguments)
    if why:
        raise SystemExit(why)
    usual = told_by_inspect(BASELINE, arguments)
    rows = []
    for error in ERRORS:
        if arguments.only and error.name not in arguments.only:
            continue
        folder, refused = run(error, arguments)
        row = {"name": error.name, "words": error.words, "refused": refused}
        if not refused:
            row |= figures(baseline, folder)
        told = [text for text in told_by_inspect(error, arguments) if text not in usual]
        rows.append(row | {"inspect": told})
        print(json.dumps(rows[-1])[:300], flush=True)
        (arguments.out / "contract_errors.json").write_text(json.dumps(rows, indent=1), "utf-8")


if __name__ == "__main__":
    main()
