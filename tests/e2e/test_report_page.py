"""The report in a browser: from disk, without a network, the way a person uses it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from report_runs import PICTURE, TASK, TalkingPolicy, make_run, read_stripes
from typer.testing import CliRunner

from b1k_eval.cli.main import app

pytestmark = pytest.mark.slow

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
if BROWSER is None:
    pytest.skip("no Chromium here: apt-get install chromium", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")

LAPTOP, PHONE = {"width": 1366, "height": 820}, {"width": 390, "height": 844}
EVIL = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'
FIRST = f"{TASK}-0-0"
LENGTH = 640  # steps of an episode that reaches the goal
TIMEOUT_MS = 60_000


def report(*arguments: object) -> None:
    result = CliRunner().invoke(app, ["report", *map(str, arguments)])
    assert result.exit_code == 0, result.output


def two_runs(folder: Path) -> None:
    policy = TalkingPolicy(name="quick", vx=1 / 64)
    quick = make_run(folder / "a", policy=policy, instances="0-3", max_steps=700, breaks={3: 40})
    policy = TalkingPolicy(name="late", vx=1 / 256)
    late = make_run(folder / "b", policy=policy, instances="0-1", max_steps=301, fps=10)
    report(quick, late, "--mix", "--out", folder / "out")


@pytest.fixture(scope="module")
def out(made_once) -> Path:
    """Two runs: 21 s at 15 pictures a second with an error in it, and 10 s at 10 that time out."""
    return made_once("page", two_runs) / "out"


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    # Not longer: while it is open its event loop runs, and no other test can run one of its own.
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


CURSOR = "Number(document.querySelector('[role=slider]').getAttribute('aria-valuenow'))"


class Tab:
    """A page that records what goes wrong and whatever is asked of a network."""

    def __init__(self, browser, *, size=LAPTOP, colours="light"):
        self.context = browser.new_context(viewport=size, color_scheme=colours)
        self.context.set_default_timeout(TIMEOUT_MS)
        self.wrong, self.asked = [], []
        self.page = self.context.new_page()
        self.page.route("**/*", self._request)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", self._dialog)

    def _request(self, route):
        if route.request.url.startswith("file:"):
            route.continue_()
        else:
            self.asked.append(route.request.url)
            route.abort()

    def _console(self, message):
        if message.type in ("error", "warning"):
            self.wrong.append(message.text)

    def _dialog(self, dialog):
        self.wrong.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def open(self, folder, address=""):
        self.page.goto("about:blank")  # or a new part behind # would not load it anew
        self.page.goto(f"{(folder / 'report.html').as_uri()}#{address}")
        self.page.wait_for_selector("main section:not([hidden])")

    def episode(self, folder, address):
        self.open(folder, f"episode/{address}")
        self.page.wait_for_selector(".transport")
        self.settled()

    def until(self, condition):
        """Wait for a condition; the browser's own way to wait is what the page's policy forbids."""
        met = self.page.evaluate(
            """async ([limit]) => {
                const start = performance.now();
                while (!(CONDITION)) {
                    if (performance.now() - start > limit) return false;
                    await new Promise(requestAnimationFrame);
                }
                return true;
            }""".replace("CONDITION", condition),
            [TIMEOUT_MS],
        )
        assert met, condition

    def settled(self):
        """Every video shows the picture that was asked for."""
        self.until(
            "[...document.querySelectorAll('video')].every("
            "v => v.readyState >= 2 && !v.seeking && v.dataset.frame !== undefined)"
        )

    def cursor(self):
        """The step at which each timeline's cursor stands."""
        return self.page.eval_on_selector_all(
            "[role=slider]", "all => all.map(s => Number(s.getAttribute('aria-valuenow')))"
        )

    def at(self, step):
        self.until(f"{CURSOR} === {step}")
        self.settled()

    def shown(self, number=0):
        """The step that the pixels of a video on the screen say."""
        import cv2

        video = self.page.locator("video").nth(number)
        video.scroll_into_view_if_needed()
        data = np.frombuffer(video.screenshot(), np.uint8)
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
        height, width = picture.shape[:2]
        scale = min(height / PICTURE[0], width / PICTURE[1])
        margins = [
            round((n - scale * m) / 2) for n, m in zip((height, width), PICTURE, strict=True)
        ]
        top, left = margins
        return read_stripes(picture[top : height - top or None, left : width - left or None])

    def see(self, step, number=0):
        """Wait until the screen shows the picture of a step; the compositor may be a frame late."""
        for _ in range(50):
            if self.shown(number) == step:
                return
            self.page.evaluate("new Promise(requestAnimationFrame)")
        assert self.shown(number) == step

    def click_at(self, share, lane=".axis-ticks"):
        box = self.page.locator(lane).first.bounding_box()
        self.page.mouse.click(box["x"] + share * box["width"], box["y"] + box["height"] / 2)

    def rows(self):
        return self.page.eval_on_selector_all(
            ".episodes tbody tr", "rows => rows.map(row => row.dataset.id)"
        )

    def close(self):
        self.context.close()
        assert self.asked == []
        assert self.wrong == []


@pytest.fixture
def tab(browser) -> Iterator[Tab]:
    """A tab in which nothing may go wrong."""
    tab = Tab(browser)
    yield tab
    tab.close()


# --- the video and the timelines ----------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.1, 0.333, 0.5, 0.777, 1.0])
def test_a_click_on_the_timeline_shows_the_picture_of_that_very_step(tab, out, share):
    tab.episode(out, f"0/{FIRST}")
    tab.click_at(0.2)  # a jump from anywhere
    tab.click_at(share)
    (step,) = tab.cursor()
    assert abs(step - share * LENGTH) <= 2
    tab.see(step - step % 2)
    time = tab.page.eval_on_selector("video", "v => v.currentTime")
    assert abs(time - step / 30) <= 1.5 / 15 + 1e-3  # the verdict comes after the last step


def test_dragging_moves_the_video_along(tab, out):
    tab.episode(out, f"0/{FIRST}")
    box = tab.page.locator(".lane.skill .plot").bounding_box()
    tab.page.mouse.move(box["x"] + 5, box["y"] + 5)
    tab.page.mouse.down()
    for share in (0.1, 0.2, 0.35, 0.4):
        tab.page.mouse.move(box["x"] + share * box["width"], box["y"] + 5)
    tab.page.mouse.up()
    (step,) = tab.cursor()
    assert abs(step - 0.4 * LENGTH) <= 2
    tab.see(step - step % 2)


def test_the_arrow_keys_move_by_one_picture_and_with_shift_by_a_second(tab, out):
    tab.episode(out, f"0/{FIRST}?step=100")
    tab.see(100)
    press = tab.page.keyboard.press
    for key, step in (
        ("ArrowRight", 102),
        ("ArrowRight", 104),
        ("ArrowLeft", 102),
        ("Shift+ArrowRight", 132),
        ("Shift+ArrowLeft", 102),
        ("End", LENGTH),
        ("ArrowLeft", LENGTH),  # the last step has two pictures: without the verdict, and with it
        ("ArrowLeft", LENGTH - 2),
        ("Home", 0),
        ("ArrowLeft", 0),
    ):
        press(key)
        tab.at(step)
        tab.see(step)


def test_playing_moves_the_cursor_with_the_picture_and_stops_at_the_end(tab, out):
    tab.episode(out, f"0/{FIRST}?step=560")
    pairs = tab.page.evaluate(
        """async () => {
            const video = document.querySelector("video"), pairs = [];
            const slider = document.querySelector("[role=slider]");
            document.querySelector(".transport .primary").click();
            while (!video.ended) {
                await new Promise(requestAnimationFrame);
                const step = Number(slider.getAttribute("aria-valuenow"));
                pairs.push([Number(video.dataset.frame), step]);
            }
            return pairs;
        }"""
    )
    steps = [step for _, step in pairs]
    assert steps == sorted(steps)
    assert len(set(steps)) > 15
    # The cursor follows at the next repaint: it is at the picture shown, or at the one before.
    shown = [min(2 * frame, LENGTH) for frame, _ in pairs]
    for before, now, step in zip(shown, shown[1:], steps[1:], strict=False):
        assert step in (before, now)
    tab.at(LENGTH)
    tab.see(LENGTH)
    assert tab.page.get_by_role("button", name="Play").is_visible()


def test_the_values_beside_the_timelines_are_those_of_the_trace_at_the_cursor(tab, out):
    import pandas as pd

    source = json.loads(
        re.search(r'"src":("[^"]*")', (out / "report" / "data" / "r0" / "e0.js").read_text())[1]
    )
    trace = pd.read_parquet((out / source).parent / "trace.parquet").set_index("step")
    for step in (1, 77, 320, 321, LENGTH):
        tab.episode(out, f"0/{FIRST}?step={step}")
        values = tab.page.eval_on_selector_all(
            ".lane[data-lane]",
            "all => Object.fromEntries(all.map(lane => "
            "[lane.dataset.lane, lane.querySelector('.lane-value').textContent]))",
        )
        line = trace.loc[step]
        assert values["q_score"] == f"{line['q_score']:.2f}"
        assert values["progress"] == f"{line['progress']:.2f}"
        assert values["skill"].startswith(line["skill"])
        for name in trace.columns:
            if name.startswith(("subgoal:", "predicate:")):
                assert values[name] == ("yes" if line[name] else "no")
        assert values["inference"] == str(trace["inference"].loc[:step].sum())


def test_zooming_keeps_the_cursor_and_clicks_still_find_their_step(tab, out):
    tab.episode(out, f"0/{FIRST}?step=320")
    for _ in range(3):
        tab.page.keyboard.press("+")
    assert tab.cursor() == [320]
    tab.click_at(0.5)
    assert abs(tab.cursor()[0] - 320) <= 2
    tab.click_at(1.0)  # an eighth of all steps is shown, half of it after the middle
    assert abs(tab.cursor()[0] - (320 + LENGTH / 16)) <= 2
    tab.page.keyboard.press("0")
    tab.click_at(1.0)
    assert tab.cursor() == [LENGTH]


# --- two runs beside each other -----------------------------------------------------------------

DRIFT = """async (until) => {
    const [one, two] = document.querySelectorAll("video"), apart = [];
    while (one.currentTime < until && !two.ended) {
        await new Promise(requestAnimationFrame);
        apart.push(Number(one.dataset.frame) / 15 - Number(two.dataset.frame) / 10);
    }
    return apart;
}"""


def test_two_runs_play_together_within_a_picture_and_come_back_when_one_falls_behind(tab, out):
    tab.episode(out, f"0/{FIRST}?vs=1&step=30")
    assert tab.page.locator("video").count() == 2
    tab.see(30, 0)
    tab.see(30, 1)
    told = "[...document.querySelectorAll('video')].map(v => v.dataset.frame).join()"
    tab.until(f"{told} === '15,10'")  # what the browser says of a picture can lag behind it
    tab.page.keyboard.press(" ")
    apart = tab.page.evaluate(DRIFT, 4.0)
    assert len(apart) > 30
    assert max(map(abs, apart)) <= 1 / 10 + 1 / 15  # what is shown is up to a picture old, in both
    assert abs(np.mean(apart)) <= 1 / 15
    # Far behind it is set anew; by its speed alone it would take 15 s to come back from 3 s.
    tab.page.evaluate("document.querySelectorAll('video')[1].currentTime -= 3")
    tab.until(
        "Math.abs(document.querySelectorAll('video')[0].currentTime"
        " - document.querySelectorAll('video')[1].currentTime) < 1 / 15"
    )
    assert tab.page.eval_on_selector("video", "v => v.currentTime") < 8
    tab.click_at(0.3)  # while they play
    apart = tab.page.evaluate(DRIFT, 8.0)
    # Under load either video shows a picture late, so this bound is that of the maximum above.
    assert np.median(np.abs(apart)) <= 1 / 10 + 1 / 15
    tab.page.keyboard.press(" ")
    tab.settled()
    first, second = tab.cursor()
    assert first == second
    tab.see(first - first % 2, 0)
    tab.see(second - second % 3, 1)


def test_the_shorter_one_stays_as_it_ended_while_the_longer_one_plays_on(tab, out):
    tab.episode(out, f"0/{FIRST}?vs=1&step=290")
    tab.page.keyboard.press(" ")
    tab.until("document.querySelectorAll('video')[0].currentTime > 11")
    tab.page.keyboard.press(" ")
    tab.settled()
    first, second = tab.cursor()
    assert first > 320
    assert second == 302
    tab.see(302, 1)
    assert tab.page.locator(".pair .pane").count() == 2


def test_next_and_previous_keep_the_run_beside(tab, out):
    tab.episode(out, f"0/{FIRST}?vs=1")
    tab.page.keyboard.press("n")
    tab.until(f"location.hash.includes('{TASK}-1-0?vs=1')")
    tab.settled()
    tab.page.keyboard.press("n")  # the other run has no third
    tab.until(f"location.hash.endsWith('{TASK}-2-0')")
    tab.page.keyboard.press("p")
    tab.until(f"location.hash.includes('{TASK}-1-0')")


def test_the_cursors_place_is_not_written_into_an_address_that_leads_elsewhere(tab, out):
    tab.episode(out, f"0/{FIRST}?vs=1&step=30")
    tab.page.evaluate(
        """async () => {
            const late = [], { setTimeout } = window;
            window.setTimeout = (call) => late.push(call);
            const press = (key) => document.body.dispatchEvent(
                new KeyboardEvent("keydown", { key, bubbles: true }));
            press("ArrowRight");
            await new Promise((done) => setTimeout(done, 300));
            if (!late.length) throw new Error("the cursor's place is not on its way");
            press("n");
            late.forEach((call) => call());  // before the page is told of its new address
            window.setTimeout = setTimeout;
        }"""
    )
    tab.until("document.querySelector('.episode-head h1')?.textContent.includes('Instance 1')")
    tab.until(f"location.hash.includes('{TASK}-1-0?vs=1')")


# --- the list -----------------------------------------------------------------------------------


def test_the_filters_and_the_order_are_kept_in_the_address(tab, out):
    tab.open(out, "episodes")
    everything = tab.rows()
    assert everything == ["r0/e0", "r0/e1", "r0/e2", "r0/e3", "r1/e0", "r1/e1"]
    page = tab.page
    page.get_by_role("button", name="failure").click()
    assert tab.rows() == ["r1/e0", "r1/e1"]
    page.get_by_role("button", name="error").click()
    assert tab.rows() == ["r0/e3", "r1/e0", "r1/e1"]
    page.get_by_label("Search").fill("fell over")
    assert tab.rows() == ["r0/e3"]
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("Instances").fill("1-2")
    assert tab.rows() == ["r0/e1", "r0/e2", "r1/e1"]
    page.locator("#filter-run").select_option("0")
    page.get_by_role("button", name="Instance", exact=True).click()
    page.get_by_role("button", name="Instance", exact=True).click()
    assert tab.rows() == ["r0/e2", "r0/e1"]
    assert page.locator("#shown").inner_text() == "2 of 6 episodes"
    page.reload()
    page.wait_for_selector(".episodes tbody tr")
    assert tab.rows() == ["r0/e2", "r0/e1"]
    assert page.get_by_label("Instances").input_value() == "1-2"


def test_the_keyboard_alone_gets_from_the_list_through_the_episodes_and_back(tab, out):
    tab.open(out, "episodes?run=0")
    press, page = tab.page.keyboard.press, tab.page
    press("ArrowDown")
    press("ArrowDown")
    press("Enter")
    tab.until(f"location.hash.includes('{TASK}-1-0')")
    page.wait_for_selector(".transport")
    press("p")
    tab.until(f"location.hash.includes('{FIRST}')")
    page.wait_for_selector(".transport")
    press("?")
    assert page.get_by_role("dialog", name="Keys").is_visible()
    press("Escape")
    assert not page.get_by_role("dialog", name="Keys").is_visible()
    press("Escape")
    tab.until("location.hash === '#episodes?run=0'")
    page.locator("#list").wait_for()
    press("/")
    page.keyboard.type("n?")  # no longer keys, but text
    assert page.get_by_label("Search").input_value() == "n?"
    assert tab.rows() == []


def test_two_hundred_episodes_open_quickly(tab, out, tmp_path, record_property):
    source, run = out.parent / "a", tmp_path / "run"
    (run / "episodes").mkdir(parents=True)
    record = json.loads((source / "run.json").read_text())
    record["identity"]["settings"]["instances"] = list(range(200))
    (run / "run.json").write_text(json.dumps(record))
    lines = []
    for instance in range(200):
        original = source / "episodes" / f"{TASK}-{instance % 4}-0"
        copy = Path(shutil.copytree(original, run / "episodes" / f"{TASK}-{instance}-0"))
        result = json.loads((copy / "result.json").read_text())
        result["instance"] = instance
        (copy / "result.json").write_text(json.dumps(result))
        lines.append(json.dumps(result) + "\n")
    (run / "episodes.jsonl").write_text("".join(lines))
    report(run)
    tab.open(run, "episodes")
    tab.page.wait_for_selector(".episodes tbody tr")
    ready_ms = tab.page.evaluate("performance.now()")
    record_property("ready_ms", ready_ms)
    assert ready_ms < 10_000
    assert tab.page.locator("#shown").inner_text() == "200 episodes"
    assert len(tab.rows()) < 200  # the rest is drawn when it comes into view
    tab.until(
        "scrollTo(0, document.body.scrollHeight),"
        " document.querySelectorAll('.episodes tbody tr').length === 200"
    )


# --- looks --------------------------------------------------------------------------------------

VIEWS = ("overview", "episodes", "runs", f"episode/0/{FIRST}", f"episode/0/{FIRST}?vs=1")


@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_no_view_is_wider_than_the_screen(browser, out, size):
    tab = Tab(browser, size=size)
    for view in VIEWS:
        tab.open(out, view)
        if view.startswith("episode/"):
            tab.page.wait_for_selector(".transport")
        width = tab.page.evaluate("document.documentElement.scrollWidth")
        assert width <= size["width"], view
        outside = tab.page.evaluate(
            """() => [...document.querySelectorAll("main button, main select, main input, main a")]
                .filter(e => e.offsetParent && !e.closest(".scroll"))
                .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
                .map(e => e.outerHTML)"""
        )
        assert outside == [], view
    tab.close()


def luminance(tab):
    colour = tab.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3


def test_colours_follow_the_system_until_they_are_chosen_and_then_stay(browser, out):
    for colours, bright in (("light", True), ("dark", False)):
        tab = Tab(browser, colours=colours)
        tab.open(out)
        assert (luminance(tab) > 128) is bright
        button = tab.page.get_by_role("button", name="Colours")
        for word, expected in (("light", True), ("dark", False)):
            button.click()
            assert button.get_attribute("aria-label") == f"Colours: {word}"
            assert (luminance(tab) > 128) is expected
        tab.page.reload()
        assert luminance(tab) < 128
        tab.close()


def test_whatever_can_be_operated_has_a_name(tab, out):
    for view in VIEWS:
        tab.open(out, view)
        if view.startswith("episode/"):
            tab.page.wait_for_selector(".transport")
        nameless = tab.page.evaluate(
            """() => [...document.querySelectorAll(
                    "button, a, select, input, summary, video, [role=slider], [role=img]")]
                .filter(e => !(e.getAttribute("aria-label") || e.textContent.trim()
                    || (e.labels && e.labels.length)))
                .map(e => e.outerHTML)"""
        )
        assert nameless == []
        assert tab.page.locator("h1:visible, h1.visually-hidden").count() >= 1


# --- what is missing ----------------------------------------------------------------------------


def test_an_episode_without_a_video_plays_by_its_timelines(browser, out, tmp_path):
    run = Path(shutil.copytree(out.parent / "a", tmp_path / "run"))
    (run / "episodes" / FIRST / "video.mp4").unlink()
    trace = run / "episodes" / f"{TASK}-1-0" / "trace.parquet"
    trace.write_bytes(b"PAR1")
    report(run)
    tab = Tab(browser)
    tab.open(run, f"episode/0/{FIRST}")
    tab.page.wait_for_selector(".transport")
    assert tab.page.get_by_text("This episode has no video.").is_visible()
    tab.page.keyboard.press(" ")
    tab.until(f"{CURSOR} > 20")
    tab.page.keyboard.press(" ")
    tab.page.keyboard.press("n")
    tab.page.locator("#view-episode").get_by_text(str(trace)).wait_for()
    tab.settled()
    tab.click_at(0.5)  # the video is there, the trace is not
    tab.see(320)
    tab.close()


def test_data_that_are_gone_are_told_where_they_would_be(browser, out, tmp_path):
    run = Path(shutil.copytree(out.parent / "a", tmp_path / "run"))
    report(run)
    (run / "report" / "data" / "r0" / "e1.js").unlink()
    tab = Tab(browser)
    tab.open(run, f"episode/0/{TASK}-1-0")
    tab.page.wait_for_selector("text=Keep the folder")
    tab.page.keyboard.press("Escape")
    tab.open(run, f"episode/0/{FIRST}")
    tab.page.wait_for_selector(".transport")
    assert [text for text in tab.wrong if "ERR_FILE_NOT_FOUND" not in text] == []
    tab.wrong.clear()
    tab.close()


def test_texts_from_outside_stay_texts(tab, out, tmp_path):
    run = Path(shutil.copytree(out.parent / "a", tmp_path / "a#b <i>%20"))
    record = json.loads((run / "run.json").read_text())
    record["identity"]["policy"]["name"] = EVIL
    (run / "run.json").write_text(json.dumps(record))
    file = run / "episodes" / f"{TASK}-3-0" / "result.json"
    result = {**json.loads(file.read_text()), "message": EVIL, "traceback": EVIL}
    file.write_text(json.dumps(result))
    report(run)
    tab.open(run)
    assert tab.page.locator("tbody .name").first.inner_text() == EVIL
    tab.open(run, "episodes")
    assert EVIL in tab.page.locator("tbody tr").last.inner_text()
    tab.open(run, f"episode/0/{TASK}-3-0")
    tab.page.wait_for_selector(".transport")
    tab.settled()
    assert tab.page.locator("pre").text_content() == EVIL
    assert tab.page.locator("main img, .why i, pre *").count() == 0
