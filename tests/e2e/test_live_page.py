"""The page that `view` serves, in a browser, while a run goes on."""

from __future__ import annotations

import shutil
import threading
import urllib.error
import urllib.request

import pytest
from report_runs import TASK, make_run

from b1k_envs.claims import claim
from b1k_envs.errors import UsageError
from b1k_eval.records.episode import EpisodeKey
from b1k_eval.report.live.pages import LivePages
from b1k_eval.report.live.server import PageServer
from b1k_eval.run.progress.reporter import Reporter
from b1k_eval.run.progress.telling import Telling

pytestmark = pytest.mark.slow

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
TIMEOUT_MS = 60_000


def three_episodes(folder):
    make_run(folder / "run", instances="0-2", breaks={2: 31})


@pytest.fixture
def run(made_once, tmp_path):
    """A run of three episodes, the last an error, of which the lines are taken away."""
    run = shutil.copytree(made_once("live", three_episodes) / "run", tmp_path / "run")
    return Going(run)


class Going:
    def __init__(self, folder):
        self.folder = folder
        self.lines = (folder / "episodes.jsonl").read_text().splitlines(keepends=True)
        self.show(1)
        self.lock = claim(folder / ".lock")
        self.telling = Telling(Reporter(), folder)
        self.telling.run_started(3, 1, 700, 1)
        self.telling.episode_started(EpisodeKey(TASK, 1, 0))

    def show(self, count):
        (self.folder / "episodes.jsonl").write_text("".join(self.lines[:count]))


@pytest.fixture
def served(run):
    pages = LivePages([run.folder], mix=False)
    with PageServer(pages, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
    pages.close()


def test_new_episodes_appear_without_a_reload_and_a_killed_run_is_shown_as_such(run, served):
    if BROWSER is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    wrong = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(f"{served.url}#episodes")
        page.wait_for_selector("tbody tr[data-id]")
        assert page.locator("tbody tr[data-id]").count() == 1
        page.wait_for_selector("#live >> text=run: running, 1 of 3 episodes.")
        assert f"{TASK}-1-0: step 0" in page.inner_text("#live")
        page.evaluate("() => { window.same = true; }")
        run.show(3)
        page.wait_for_selector(f'tr[data-id="r0/{TASK}-2-0"]')
        assert page.locator("tbody tr[data-id]").count() == 3
        assert page.inner_text("#episode-count") == "3"
        counts = "● success 2 ✕ failure 0 ! error 1"
        assert " ".join(page.inner_text("#filter-outcomes").split()) == counts
        assert page.evaluate("() => window.same") is True  # the page was never loaded anew
        page.goto(f"{served.url}#episode/0/{TASK}-1-0")  # its trace and video, on demand
        page.wait_for_selector(".transport")
        page.wait_for_selector("video[data-frame]")  # it shows the picture that was asked for
        run.show(2)
        run.lock.close()  # as when it is killed: its last words stay
        page.wait_for_selector("#live >> text=killed, 2 of 3 episodes. b1k-eval run --resume")
        browser.close()
    assert wrong == []


def status(url, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, b""


def test_only_what_the_page_needs_is_served_and_only_to_this_machine(run, served):
    assert status(served.url)[0] == 200
    assert status(served.url, Host="example.org:80")[0] == 403
    for path in ("report/assets/../page.py", "report/assets/..%2fpage.py", "run.json", "videos/x"):
        assert status(served.url + path)[0] == 404, path
    video = (run.folder / "episodes" / f"{TASK}-0-0" / "video.mp4").read_bytes()
    address = f"{served.url}videos/r0/{TASK}-0-0.mp4"
    assert status(address) == (200, video)
    assert status(address, Range="bytes=5-8") == (206, video[5:9])
    assert status(address, Range=f"bytes={len(video) - 3}-") == (206, video[-3:])
    assert status(address, Range=f"bytes={len(video)}-")[0] == 416


def test_a_port_that_is_taken_is_wrong_usage(served):
    with pytest.raises(UsageError, match=r"--port .* cannot be used"):
        PageServer(served.pages, served.server_port)
