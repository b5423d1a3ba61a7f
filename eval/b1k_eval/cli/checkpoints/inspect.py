"""`b1k-eval inspect`: everything about a checkpoint, without running an episode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from b1k_envs.base import ProtocolYear
from b1k_envs.errors import UnavailableError, UsageError
from b1k_eval.cli.checkpoints.contract import show_contract
from b1k_eval.cli.console import err_console, out_console, print_json, say_remark
from b1k_eval.cli.options import JsonOption, Options, Typed
from b1k_eval.cli.resolving import resolve_checkpoint, resolve_settings
from b1k_eval.files import to_json, write_atomic
from b1k_eval.records.store import StorageError
from b1k_eval.report.inspect_pictures import draw_chunk, draw_seen, encode_png
from b1k_eval.run import simulators
from b1k_eval.run.launch import plan_episodes
from b1k_eval.settings import RunSettings
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.contract.resolved import ResolvedContract
from b1k_policies.inspection.findings import LEVELS, Level
from b1k_policies.inspection.geometry import Pixel
from b1k_policies.inspection.inspection import Inspection, inspect_policy
from b1k_policies.inspection.saved_observation import SavedObservation, read_npz, to_npz
from b1k_policies.registry import own_class
from b1k_policies.seeding import inference_seed
from b1k_policies.xvla.policy import XVLAPolicy

SEEN_FILE = "model_sees.png"
CHUNK_FILE = "chunk.png"
DOCUMENT_FILE = "inspect.json"
OBSERVATION_FILE = "observation.npz"

STYLES: Mapping[Level, str] = {"wrong": "bold red", "doubt": "yellow", "note": "dim"}


def inspect(
    ckpt: Annotated[
        str,
        typer.Argument(
            metavar="CKPT", help="A DA3-XVLA checkpoint: a folder or org/name[@revision]."
        ),
    ],
    observation: Annotated[
        Path | None,
        typer.Option(
            "--observation",
            metavar="FILE.npz",
            help="Ask about this observation, as --save writes it; needs no simulator.",
            show_default="the first one of the instance in the twin",
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Task by index or name.", show_default="31")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="Challenge generation, 2025 or 2026.", show_default="2026")
    ] = None,
    instance: Annotated[
        int | None, typer.Option(help="Initial state of public-test.", show_default="0")
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save",
            metavar="DIR",
            help=f"Write {SEEN_FILE}, {CHUNK_FILE}, {DOCUMENT_FILE} and {OBSERVATION_FILE}.",
            show_default="no files",
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Every field of the contract too, and its source.")
    ] = False,
    json_output: JsonOption = False,
    *,
    asked: Annotated[Typed, Options(CheckpointRequest, but=("ckpt", "compile"))],
) -> None:
    """Show a checkpoint's contract, what it is sent, what it answers, and what is wrong with it.

    Findings do not change the exit code; a contract that contradicts the checkpoint exits with 3
    unless it is forced.
    """
    request = resolve_checkpoint({"ckpt": ckpt, **asked}, None, None)
    assert request is not None  # CKPT is a required argument
    if ":" in ckpt and own_class(ckpt) is not None:
        raise UsageError(
            f"{ckpt} is a class: inspect is for checkpoints, whose contract decides what they are "
            f"sent; for a policy of your own, b1k-eval check-policy {ckpt}"
        )
    source = _question(observation, task=task, protocol=protocol, instance=instance)
    if save is not None:
        _prepare_folder(save)
    with err_console().status("loading the model, asking it once"):
        document, inspection, resolved, observed = _inspect(request, source)
    if save is not None:
        document["saved"] = _save(save, document, inspection, observed)
    if json_output:
        print_json(document)
        return
    console = out_console()
    show_inspection(console, document, inspection)
    if full:
        show_contract(console, ckpt, replace(resolved, remarks=(), forced=()))
    else:
        console.print(f"contract {resolved.contract.name}, whole with --full", soft_wrap=True)


# --- what is asked -------------------------------------------------------------------------------


def _question(
    file: Path | None, *, task: str | None, protocol: str | None, instance: int | None
) -> SavedObservation | RunSettings:
    """Return the observation of a file, or checked settings of a twin that will give one."""
    typed = {"--task": task, "--protocol": protocol, "--instance": instance}
    if file is not None:
        senseless = [name for name, value in typed.items() if value is not None]
        if senseless:
            raise UsageError(f"{', '.join(senseless)}: --observation {file} brings its own")
        return read_npz(file)
    settings = resolve_settings(
        {
            "task": task or "31",
            "protocol": protocol,
            "instances": None if instance is None else (instance,),
            "policy": "zero",
            "sim": "mujoco",
        }
    )
    simulators.check_world(settings)
    return settings


def _first_observation(settings: RunSettings) -> SavedObservation:
    """Return the observation at the start of an episode of the instance."""
    (episode,) = plan_episodes(
        settings.task_entry(), settings.instances, 1, settings.seed, settings.protocol
    )
    simulators.prepare_pictures()
    env = simulators.make_env(settings)
    try:
        env.reset(episode.instance, episode.rollout, episode.seed)
        return SavedObservation(
            observation=env.observe(),
            instruction=episode.instruction,
            seed=inference_seed(episode.seed, 0),
            origin=f"{env.info.sim}, {episode.task}, {settings.split} {episode.instance}, "
            f"protocol {episode.protocol}",
        )
    finally:
        env.close()


def _inspect(
    request: CheckpointRequest, source: SavedObservation | RunSettings
) -> tuple[dict[str, Any], Inspection, ResolvedContract, SavedObservation]:
    protocol: ProtocolYear = (
        source.protocol if isinstance(source, RunSettings) else source.observation.protocol
    )
    # A checkpoint that is overruled may well refuse what it is sent; that is worth showing, too.
    policy = XVLAPolicy(request, protocol, keep_refusal=request.force_contract)
    try:
        observed = _first_observation(source) if isinstance(source, RunSettings) else source
        inspection = inspect_policy(policy, observed)
        described = {**policy.describe(), **policy.describe_here()}
    finally:
        policy.close()
    model = {
        key: value
        for key, value in described.items()
        if key not in ("checkpoint", "contract", "remarks")
    }
    document = {
        "checkpoint": {"ckpt": request.ckpt, **described["checkpoint"]},
        "contract": described["contract"],
        "model": model,
        "observation": {
            "origin": observed.origin,
            "protocol": observed.observation.protocol,
            "task_index": observed.observation.task_index,
            "step": observed.observation.step,
            "instruction": observed.instruction,
            "seed": observed.seed,
        },
        **inspection.to_dict(),
        "saved": [],
    }
    return document, inspection, policy.resolved, observed


# --- files ---------------------------------------------------------------------------------------


def _prepare_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--save {folder}: cannot be a folder ({error.strerror})") from error


def _save(
    folder: Path, document: dict[str, Any], inspection: Inspection, observed: SavedObservation
) -> list[str]:
    """Write the files of an inspection, and return their paths."""
    name = document["model"]["name"]
    title = f"{Path(document['checkpoint']['ckpt']).name}  contract {name}  {observed.origin}"
    files = {
        OBSERVATION_FILE: to_npz(observed),
        SEEN_FILE: encode_png(draw_seen(inspection, title)),
    }
    if inspection.chunk is not None:
        try:
            files[CHUNK_FILE] = draw_chunk(inspection.chunk, title)
        except UnavailableError as error:
            say_remark(str(error))
    paths = [str(folder / name) for name in (*files, DOCUMENT_FILE)]
    files[DOCUMENT_FILE] = to_json({**document, "saved": paths}).encode()
    try:
        for name, data in files.items():
            write_atomic(folder / name, data)
    except OSError as error:
        raise StorageError(f"--save {folder}: cannot be written ({error.strerror})") from error
    return paths


# --- for people ----------------------------------------------------------------------------------


def show_inspection(console: Console, document: dict[str, Any], inspection: Inspection) -> None:
    """Print everything except the contract, with the findings first."""
    _show_findings(console, inspection)
    _show_checkpoint(console, document)
    _show_batch(console, document, inspection)
    _show_geometry(console, inspection)
    _show_answer(console, inspection)
    for path in document["saved"]:
        console.print(f"saved   {path}", soft_wrap=True)


def _show_checkpoint(console: Console, document: dict[str, Any]) -> None:
    checkpoint, model = document["checkpoint"], document["model"]
    table = _table("Files", "file", ">bytes", "sha256")
    for file in checkpoint["files"]:
        table.add_row(file["name"], f"{file['size']:,}", file["sha256"])
    console.print(table)
    device = " ".join(filter(None, (model["device"], model["device_name"])))
    for label, value in (
        ("origin", checkpoint["origin"]),
        ("revision", checkpoint["revision"] or "none: a folder"),
        ("weights", f"{checkpoint['weights_sha256']} ({checkpoint['weights_format']})"),
        ("code", checkpoint["code_sha256"]),
        ("model", f"{model['parameters']:,} parameters on {device}"),
        ("autocast", model["autocast"] or "none"),
    ):
        console.print(f"{label:<9}{value}", soft_wrap=True)


def _show_batch(console: Console, document: dict[str, Any], inspection: Inspection) -> None:
    table = _table(
        f"Batch for: {document['observation']['origin']}",
        "argument", "dtype", "shape", ">min", ">max", ">mean",
    )  # fmt: skip
    for row in inspection.batch:
        shape = ", ".join(map(str, row.shape))
        figures = (f"{value:.4g}" for value in (row.min, row.max, row.mean))
        table.add_row(row.name, row.dtype, f"[{shape}]", *figures)
    console.print(table)


def _show_geometry(console: Console, inspection: Inspection) -> None:
    if not any(image.sightings for image in inspection.images):
        return
    whose = "the checkpoint's own contract" if inspection.has_reference else "this contract"
    table = _table(
        f"Where the grippers are, by pose and K as sent, read as {whose} says [px]",
        "image", "pose sent", "arm", ">truly at", ">as sent", ">apart", "inside",
    )  # fmt: skip
    for image in inspection.images:
        for sighting in image.sightings:
            apart = "-" if sighting.distance is None else f"{sighting.distance:.1f}"
            table.add_row(
                image.view,
                image.pose_of or "none",
                sighting.arm,
                _place(sighting.truly),
                _place(sighting.as_sent),
                Text(apart, style="" if sighting.agrees else "bold red"),
                "yes" if sighting.inside else "no",
            )
    console.print(table)


def _place(pixel: Pixel | None) -> str:
    return "behind" if pixel is None else f"{pixel[0]:.0f}, {pixel[1]:.0f}"


def _show_answer(console: Console, inspection: Inspection) -> None:
    chunk, skill = inspection.chunk, inspection.skill
    if chunk is not None:
        rows = len(chunk.actions)
        skipped = f", the first {chunk.skipped} not executed" if chunk.skipped else ""
        table = _table(
            f"First chunk, absolute ({rows} rows{skipped})",
            "part", "unit", "offsets", ">min", ">max", ">step 0", ">largest", ">beyond",
        )  # fmt: skip
        for part in chunk.parts:
            steps = (
                "-" if step is None else f"{step:.3f}"
                for step in (part.first_step, part.largest_step)
            )
            table.add_row(
                part.part, part.unit, part.offsets, f"{part.low:.3f}", f"{part.high:.3f}", *steps,
                str(part.beyond_limits or "-"),
            )  # fmt: skip
        console.print(table)
        console.print(
            "step 0, largest: change from the present state; beyond: commands outside the limits",
            style="dim",
        )
    said = "none"
    if skill is not None:
        name = f" {skill.name}" if skill.name else ""
        said = f"{skill.index}{name} (probability {skill.probability:.2f})"
    console.print(f"skill    {said}")
    progress = "none" if inspection.progress is None else f"{inspection.progress:.3f}"
    if inspection.progress_head is not None:
        progress += f" (the head gave {inspection.progress_head:.3f})"
    console.print(f"progress {progress}")


def _show_findings(console: Console, inspection: Inspection) -> None:
    counts: dict[Level, int] = dict.fromkeys(LEVELS, 0)
    table = _table("Findings", "level", "about", "finding")
    for finding in inspection.findings:
        counts[finding.level] += 1
        style = STYLES[finding.level]
        texts = (finding.level, finding.field, finding.text)
        table.add_row(*(Text(text, style=style) for text in texts))
    if inspection.findings:
        console.print(table)
    worst: Level = next((level for level in LEVELS if counts[level]), "note")
    console.print(
        ", ".join(f"{count} {level}" for level, count in counts.items()), style=STYLES[worst]
    )


def _table(title: str, first: str, *others: str) -> Table:
    """Make a table whose first column is never folded; a column named `>this` is right-aligned."""
    table = Table(title=Text(title), title_justify="left")
    table.add_column(first, no_wrap=True)
    for name in others:
        right = name.startswith(">")
        table.add_column(name.lstrip(">"), justify="right" if right else "left", overflow="fold")
    return table
