"""Measure how soon a browser paints the page that `view` serves of a long run.

    python scripts/bench_view.py [--episodes 2000]

The run's episodes are copies of one result without a video. Told are the CPU time of making the
page, and the browser's own first contentful paint (Paint Timing), from a fresh Chromium each time,
of the overview and of the list of episodes.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import threading
from pathlib import Path
from time import process_time

import typer
from bench_load_run import make_run
from playwright.sync_api import sync_playwright

from b1k_eval.report.live.pages import LivePages
from b1k_eval.report.live.server import PageServer

PAINT = "() => performance.getEntriesByName('first-contentful-paint').map(e => e.startTime)[0]"
REPEATS = 5


def main(episodes: int = 2000) -> None:
    """Make the run, serve it, look."""
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder), episodes)
        before = process_time()
        pages = LivePages([run], mix=False)
        print(f"{episodes} episodes: page made in {process_time() - before:.1f} s of CPU time")
        with PageServer(pages, 0) as server, sync_playwright() as playwright:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            for view in ("overview", "episodes"):
                paints = []
                for _ in range(REPEATS):
                    browser = playwright.chromium.launch(
                        executable_path=browser_path, args=["--no-sandbox"]
                    )
                    page = browser.new_page()
                    page.goto(f"{server.url}#{view}")
                    page.wait_for_selector("main section:not([hidden])")
                    paints.append(page.evaluate(PAINT))
                    browser.close()
                worst = max(paints)
                median = statistics.median(paints)
                print(f"#{view}: first paint {median:.0f} ms, at most {worst:.0f} of {REPEATS}")
            server.shutdown()
        pages.close()


if __name__ == "__main__":
    typer.run(main)
