"""`b1k-eval view RUN [RUN...]`: the page from a server of this machine, following the runs."""

from __future__ import annotations

import os
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from b1k_envs.errors import UsageError
from b1k_eval.cli.console import err_console, out_console, print_json
from b1k_eval.cli.options import JsonOption
from b1k_eval.records.run_files import runs_there


def view(
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="RUN...", help="Run folders, finished or not.")
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port; 0 for any.", show_default="any")
    ] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
    mix: Annotated[
        bool, typer.Option("--mix", help="Show different experiments on one page, which says so.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Open the page of runs from a server of this machine, and follow runs that are going on.

    New episodes appear by themselves. Nothing is written, and only this machine can reach it. Until
    Ctrl-C. What needs every trace, like the policy's self-reports, is on the page of `report`.
    """
    # Imported here, because importing the statistics takes a second that `--help` should not take.
    from b1k_eval.report.live.pages import LivePages
    from b1k_eval.report.live.server import PageServer

    if not runs:
        raise UsageError(f"view needs a run or several: b1k-eval view RUN; {runs_there()}")
    with err_console().status("reading the runs"):
        pages = LivePages(runs, mix=mix)
    try:
        with PageServer(pages, port) as server:
            if json_output:
                print_json({"url": server.url, "runs": [str(run) for run in runs]})
            else:
                out_console().print(f"{server.url}  until Ctrl-C", soft_wrap=True)
            typer.get_text_stream("stdout").flush()
            if not no_open and {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
                webbrowser.open(server.url)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                if json_output:
                    raise SystemExit(0) from None
    finally:
        pages.close()
