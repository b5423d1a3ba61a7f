"""Writing the page: `report.html`, and beside it the folder `report` with what it loads.

The folder is made anew each time and renamed when it is complete. The page refers to the runs'
videos by a relative path, unless they are copied.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from b1k_envs.errors import UsageError
from b1k_eval import frames
from b1k_eval.files import TEMP_PREFIX, spelled_out, write_atomic
from b1k_eval.records.loading import RunData
from b1k_eval.records.scoring import TIPS
from b1k_eval.records.store import StorageError
from b1k_eval.report.context import page_context
from b1k_eval.report.episodes import EpisodePage
from b1k_eval.report.figures import Drawing
from b1k_eval.report.looks import ON_PAGE, ON_PAPER, as_page_svg, as_svg, drawing, missing
from b1k_eval.report.overview import Findings, RunFindings, drawings, find
from b1k_eval.report.tables import Kind, write_table

PAGE = "report.html"
FOLDER = "report"
SCRIPTS: tuple[str, ...] = (
    "dom.js",
    "list.js",
    "lanes.js",
    "player.js",
    "episode.js",
    "app.js",
)
"""Scripts in the order in which they are loaded; the data come after them."""

STYLES: tuple[str, ...] = ("base.css", "overview.css", "episodes.css", "narrow.css")
"""Style sheets in the order in which they are loaded."""

_INDEX = Path("data") / "index.js"
_PNG_DPI = 200

FigureKind = Literal["svg", "png"]


@dataclass(frozen=True, kw_only=True)
class Extras:
    """Options for what is written besides the page.

    Attributes:
        copy_videos: Copy the videos, so that page and folder can be moved together.
        tables: Kinds of tables.
        figures: Kind of figure files; None for none.
        mix: Show runs together that are different experiments; the page says so.
    """

    copy_videos: bool = False
    tables: tuple[Kind, ...] = ()
    figures: FigureKind | None = None
    mix: bool = False


@dataclass(frozen=True, kw_only=True)
class Written:
    """The written page, the files of tables and figures, and the findings that they show."""

    page: Path
    files: tuple[Path, ...]
    found: Findings


def write_page(
    runs: Sequence[RunData], out: Path, extras: Extras, home: str | None = None
) -> Written:
    """Write page and folder.

    Args:
        runs: At least one.
        out: Folder for both; made if needed. An earlier page is replaced.
        extras: What else to write.
        home: Address of a page to link back to, relative to `out`; None for none.

    Raises:
        UsageError: The runs are not comparable, see `find`; or `out` has a folder `report` of
            something else.
        UnavailableError: A package of the extra is missing.
        StorageError: The disk is full or cannot be written.
    """
    _check_extra()
    final, temp = out / FOLDER, out / f"{TEMP_PREFIX}{FOLDER}"
    if final.exists() and not (final / _INDEX).is_file():
        raise UsageError(f"{final} is not of an earlier report: move it, or choose another --out")
    found = find(runs, mix=extras.mix)
    figures = drawings(found)
    try:
        out.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temp, ignore_errors=True)
        _write_data(temp, out, found, copy_videos=extras.copy_videos)
        names = _write_tables(temp, found, extras.tables)
        names += _write_figures(temp, figures, extras.figures)
        html = page_html(found, figures, names, home)
        if final.exists():
            shutil.rmtree(final)
        temp.replace(final)
        write_atomic(out / PAGE, spelled_out(html).encode("utf-8"))
    except OSError as error:
        raise StorageError(
            f"the report cannot be written, {error.filename or out}: {error.strerror}; free some "
            "space, or choose another --out"
        ) from error
    finally:
        shutil.rmtree(temp, ignore_errors=True)  # renamed already if all went well
    return Written(page=out / PAGE, files=tuple(final / name for name in names), found=found)


def _check_extra() -> None:
    try:
        import jinja2  # noqa: F401 - checks that it is installed
    except ImportError as error:
        raise missing("jinja2", error) from error
    with drawing(ON_PAGE):  # the same for matplotlib
        pass


# --- data ---------------------------------------------------------------------------------------


def _write_data(temp: Path, out: Path, found: Findings, *, copy_videos: bool) -> None:
    """Write the scripts of the list and of every episode, and copy the page's assets."""
    shutil.copytree(Path(__file__).parent / "assets", temp / "assets")
    ids = [[f"r{n}/e{place}" for place in range(len(run.episodes))] for n, run in _numbered(found)]
    for number, run in _numbered(found):
        (temp / "data" / f"r{number}").mkdir(parents=True)
        for name, page, data in zip(ids[number], run.episodes, run.data.episodes, strict=True):
            source = None
            if page.video is not None and data.video is not None:
                source = _copy(data.video, temp, name) if copy_videos else _link(data.video, out)
            detail = detail_of(page, source)
            write_script(temp / "data" / f"{name}.js", "detail", name, detail)
    write_script(temp / _INDEX, "start", index_of(found, ids))


def _numbered(found: Findings) -> list[tuple[int, RunFindings]]:
    return list(enumerate(found.runs))


def detail_of(page: EpisodePage, source: str | None) -> dict[str, Any]:
    """Return what the page loads of one episode; `source` is the address of its video."""
    return {**page.detail, "video": _video(page, source)}


def index_of(found: Findings, ids: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Return what the page loads of all episodes, whose ids are given by run."""
    return {
        "folder": FOLDER,
        "tips": dict(TIPS),
        "runs": [{"name": run.name, "folder": run.data.name} for run in found.runs],
        "skills": sorted(
            {
                name
                for run in found.runs
                for page in run.episodes
                for _, _, name, _ in (page.detail["course"] or {"skills": []})["skills"]
                if name is not None
            }
        ),
        "episodes": [
            {"id": name, "run": number, **page.row}
            for number, run in _numbered(found)
            for name, page in zip(ids[number], run.episodes, strict=True)
        ],
    }


def _video(page: EpisodePage, source: str | None) -> dict[str, Any] | None:
    if page.video is None or source is None:
        return None
    video = page.video
    return {"src": source, "fps": video.fps, "frames": video.frames, "every": video.every}


def _link(video: Path, out: Path) -> str:
    """Return a video's address relative to the page, quoted so that no name looks like a scheme."""
    return quote(os.fsencode(os.path.relpath(video.resolve(), out.resolve())))


def _copy(video: Path, temp: Path, name: str) -> str:
    place = Path("videos") / f"{name}.mp4"
    (temp / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(video, temp / place)
    return f"{FOLDER}/{place}"


def write_script(path: Path, function: str, *values: Any) -> None:  # noqa: ANN401 - JSON values
    """Write a script that calls a function of the page with JSON values."""
    path.write_text(script(function, *values), encoding="ascii")


def script(function: str, *values: Any) -> str:  # noqa: ANN401 - JSON values
    """Return a script that calls a function of the page with JSON values."""
    return f"B1K.{function}({','.join(script_json(value) for value in values)});\n"


def script_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return JSON that is safe in a script within HTML: it cannot contain `</script>`."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))  # ASCII only
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


# --- tables and figures -------------------------------------------------------------------------


def _write_tables(temp: Path, found: Findings, kinds: Sequence[Kind]) -> list[str]:
    """Write the tables, and return their names within the folder."""
    if not kinds:
        return []
    rows = [[page.row for page in run.episodes] for run in found.runs]
    tables = {
        "runs": frames.runs(found.document["runs"]),
        "episodes": frames.labelled_episodes(found.names, [run.data for run in found.runs], rows),
        "subgoals": frames.subgoals(found.names, [run.funnel for run in found.runs]),
    }
    folder = temp / "tables"
    folder.mkdir()
    return [
        f"tables/{write_table(folder, name, table, kind).name}"
        for kind in kinds
        for name, table in tables.items()
    ]


def _write_figures(temp: Path, figures: Sequence[Drawing], kind: FigureKind | None) -> list[str]:
    """Write the figures, and return their names within the folder."""
    if kind is None:
        return []
    folder = temp / "figures"
    folder.mkdir()
    names = []
    for figure in figures:
        path = folder / f"{figure.name}.{kind}"
        with drawing(ON_PAPER, salt=figure.name):
            drawn = figure.draw(ON_PAPER)
            if kind == "svg":
                path.write_bytes(as_svg(drawn))
            else:
                drawn.savefig(path, dpi=_PNG_DPI, facecolor="white", transparent=False)
        names.append(f"figures/{path.name}")
    return names


def page_html(
    found: Findings,
    figures: Sequence[Drawing],
    files: Sequence[str] = (),
    home: str | None = None,
    *,
    live: bool = False,
) -> str:
    """Return the page; `live` if it is served and follows its runs."""
    drawn = []
    for figure in figures:
        with drawing(ON_PAGE, salt=figure.name):
            svg = as_page_svg(figure.draw(ON_PAGE), figure.description)
        drawn.append({"title": figure.title, "svg": svg, "of_one_run": figure.of_one_run})
    return rendered(
        "report.html",
        **page_context(found),
        folder=FOLDER,
        home=home,
        scripts=(*SCRIPTS, "live.js") if live else SCRIPTS,
        live=live,
        figures=drawn,
        files=[
            {"name": name.rpartition("/")[2], "href": f"{FOLDER}/{quote(name)}"} for name in files
        ],
    )


def rendered(template: str, **context: Any) -> str:  # noqa: ANN401 - whatever it shows
    """Return a page of the report from its template; every text is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,  # a misspelt name is an error, not an empty text
        trim_blocks=True,
    )
    return environment.get_template(template).render(
        **context,
        styles=STYLES,
        made_at=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )
