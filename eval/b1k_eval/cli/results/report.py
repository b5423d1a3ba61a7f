"""`b1k-eval report RUN [RUN...]`: the page, tables and figures."""

from __future__ import annotations

import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, cast

import typer

from b1k_envs.errors import UsageError
from b1k_eval.cli.console import err_console, out_console, print_json, say_remark
from b1k_eval.files import dated_folder, make_new_folder
from b1k_eval.records.run_files import STUDY_FILE, runs_there
from b1k_eval.records.store import START_AGAIN, storing


def report(
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="RUN...", help="Run folders, finished or not.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for report.html and what it loads.",
            show_default="the run's; of several: results/report-<time>",
        ),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    copy_videos: Annotated[
        bool,
        typer.Option("--copy-videos", help="Copy the videos, so that the report can be moved."),
    ] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Tables as CSV.")] = False,
    parquet: Annotated[bool, typer.Option("--parquet", help="Tables as parquet.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Tables as Markdown.")] = False,
    figures: Annotated[
        str | None, typer.Option(help="Figures as files: svg or png.", show_default="none")
    ] = None,
    mix: Annotated[
        bool,
        typer.Option("--mix", help="Show different experiments on one page, which says so."),
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Make a page of runs: figures, every episode's video and timelines, contracts.

    It opens from disk, without a network. Episodes that cannot be read are named on it. Runs of
    different simulators, protocols, tasks, instances or time limits are refused unless --mix is
    given, as by `compare`.
    """
    # Imported here, because importing the statistics takes a second that `--help` should not take.
    from b1k_eval.records.loading import read_tasks
    from b1k_eval.report.page import Extras, FigureKind, write_page
    from b1k_eval.report.tables import Kind
    from b1k_eval.report.task_pages import write_task_pages

    if not runs:
        raise UsageError(f"report needs a run or several: b1k-eval report RUN; {runs_there()}")
    if figures not in (None, "svg", "png"):
        raise UsageError(f"--figures {figures} is none that can be written: svg or png")
    if (runs[0] / STUDY_FILE).exists():
        from b1k_eval.stress.page import write_study_page

        with err_console().status("drawing the page"), _folder(runs, out) as folder:
            page_of_study = write_study_page(runs, folder, mix=mix)
        out_console().print(str(page_of_study), soft_wrap=True)
        if open_page:
            webbrowser.open(page_of_study.resolve().as_uri())
        return
    wanted: dict[Kind, bool] = {"csv": csv, "parquet": parquet, "markdown": markdown}
    extras = Extras(
        copy_videos=copy_videos,
        tables=tuple(kind for kind, asked in wanted.items() if asked),
        figures=cast("FigureKind | None", figures),
        mix=mix,
    )
    with err_console().status("reading the runs, drawing the page"), _folder(runs, out) as folder:
        read = [read_tasks(run) for run in runs]
        if any(len(run) > 1 for run in read):
            written, files, document, pages = write_task_pages(read, folder, extras)
        else:
            page = write_page([run[0] for run in read], folder, extras)
            written, files, document, pages = page.page, page.files, page.found.document, (page,)
    for run in (run for page in pages for run in page.found.runs):
        for entry in run.data.damaged:
            say_remark(f"{run.data.path}: {entry.name} is left out: {entry.why}")
        for episode in run.episodes:
            for problem in episode.row["problems"]:
                say_remark(f"{run.data.path}: {episode.row['name']}: {problem}")
    if json_output:
        print_json(
            {
                "page": str(written),
                "files": [str(path) for path in files],
                **document,
            }
        )
    else:
        console = out_console()
        for path in (written, *files):
            console.print(str(path), soft_wrap=True)
    if open_page:
        webbrowser.open(written.resolve().as_uri())


@contextmanager
def _folder(runs: list[Path], out: Path | None) -> Iterator[Path]:
    """Give the folder of the page; one that was made for it is removed if no page was written."""
    if out is not None or len(runs) == 1:
        yield runs[0] if out is None else out
        return
    proposed = dated_folder("report")
    with storing(proposed, START_AGAIN):
        folder = make_new_folder(proposed)
    try:
        yield folder
    except BaseException:
        with suppress(OSError):
            folder.rmdir()
        raise
