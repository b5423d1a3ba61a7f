"""`b1k-eval export RUN [RUN...]`: the challenge's result folder."""

from __future__ import annotations

import datetime
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from b1k_envs.errors import UsageError
from b1k_envs.tracks import Track
from b1k_eval.cli.console import err_console, out_console, print_json, say_remark
from b1k_eval.cli.options import JsonOption


def export(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN [RUN...]", help="Run folders, or folders of run folders: one per task."
        ),
    ],
    team: Annotated[str, typer.Option(help="Name of the team.")],
    affiliation: Annotated[str, typer.Option(help="Where the team is from.")],
    track: Annotated[str, typer.Option(help="standard or privileged.")] = "standard",
    date: Annotated[
        str | None, typer.Option(help="Of the submission, YYYY-MM-DD.", show_default="today")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where the folder goes.", show_default="submissions; drafts for a draft"),
    ] = None,
    several_policies: Annotated[
        bool,
        typer.Option(
            "--several-policies",
            help="Different tasks may be of different checkpoints, of one model family.",
        ),
    ] = False,
    docker: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Also write the build folder of a Docker image that serves the runs' checkpoint.",
            show_default="none",
        ),
    ] = None,
    force_draft: Annotated[
        bool,
        typer.Option(
            "--force-draft",
            help="Write a watermarked draft of a run that cannot be submitted.",
        ),
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Write runs' results as the BEHAVIOR challenge's scorer reads them.

    All runs go into one folder. A run that is no submission (the twin's, a privileged one, one
    with errors, ...) is refused with every reason.
    """
    from b1k_eval.challenge.export import export_runs, read_runs
    from b1k_eval.challenge.image import image_tag
    from b1k_eval.challenge.rules import TEST_SETS, Entry

    if track not in get_args(Track):
        raise UsageError(
            f"--track {track!r} is unknown: choose one of {', '.join(get_args(Track))}"
        )
    data = read_runs(runs)
    split = data[0].identity["settings"]["split"]
    entry = Entry(
        track=track,  # type: ignore[arg-type]  # just checked
        # A train split is refused below; a draft of it still needs a name.
        testset=TEST_SETS.get(split, "public"),
        team=team,
        affiliation=affiliation,
        date=_date(date),
    )
    done = export_runs(
        data,
        entry,
        out,
        draft=force_draft,
        several_policies=several_policies,
        image=docker,
        wrote=lambda name: err_console().print(name, style="dim"),
    )
    for remark in done.remarks:
        say_remark(remark)
    if json_output:
        print_json(_document(asdict(done)))
        return
    console = out_console()
    if done.objections:
        console.print("a draft, not a submission:", style="yellow")
        for reason in done.objections:
            console.print(f"  - {reason}")
    console.print(f"{done.files} rollouts in {done.folder}")
    if docker is not None:
        console.print(f"image of the policy: docker build -t {image_tag(team)} {docker}")


def _document(done: dict[str, Any]) -> dict[str, Any]:
    image = done["image"]
    return {
        **done,
        "folder": str(done["folder"]),
        "image": None if image is None else str(image),
    }


def _date(text: str | None) -> datetime.date:
    if text is None:
        return datetime.datetime.now(datetime.timezone.utc).date()
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"--date {text!r} is no date: give YYYY-MM-DD") from error
