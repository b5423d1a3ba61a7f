"""What is logged of a run, by a tracker that only remembers, and by processes of stand-ins."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict
from time import monotonic

import pytest
from run_folders import TASK, finished_run
from typer.testing import CliRunner

from b1k_envs.errors import UnavailableError, UsageError
from b1k_eval.cli.main import app
from b1k_eval.cli.resolving import resolve_execution
from b1k_eval.execution import Execution
from b1k_eval.trackers import starting
from b1k_eval.trackers.adapters import Tracker
from b1k_eval.trackers.following import LEDGER_FILE, follow
from b1k_eval.trackers.starting import check_trackers, logging_to

OUTCOMES = {0: "success", 1: "error", 2: "failure", 3: "success"}


class Remembering(Tracker):
    """Keeps what it is told; raises at the n-th log if asked to."""

    def __init__(self, breaks_at=None):
        self.what, self.logged, self.videos, self.tables = None, [], [], []
        self.complete, self.breaks_at = None, breaks_at

    def start(self, what):
        self.what = what

    def log(self, values, step):
        if len(self.logged) == self.breaks_at:
            raise ConnectionError("no route")
        self.logged.append((step, values))

    def video(self, name, path, step):
        self.videos.append((name, path.read_text(), step))

    def table(self, name, rows, step):
        self.tables.append((name, rows, step))

    def text(self, name, text, step):
        raise AssertionError("a run has no text")

    def finish(self, *, complete):
        self.complete = complete


@pytest.fixture
def run(tmp_path):
    """A run of four episodes, of which a test shows as many as it likes."""
    return Growing(finished_run(tmp_path / "run", OUTCOMES))


class Growing:
    def __init__(self, folder):
        self.folder = folder
        self.lines = (folder / "episodes.jsonl").read_text().splitlines(keepends=True)
        self.show(0)
        for number in range(4):
            folder.joinpath("episodes", f"{TASK}-{number}-0", "video.mp4").write_text(f"{number}")

    def show(self, count):
        (self.folder / "episodes.jsonl").write_text("".join(self.lines[:count]))

    def follow(self, *counts, tracker=None, videos=0):
        """Let the run grow to these numbers of lines while it is followed."""
        tracker, left = tracker or Remembering(), list(counts)

        def over():
            self.show(left.pop(0))
            return not left

        follow("wandb", tracker, self.folder, videos, over)
        return tracker


def curve(tracker):
    return [(step, values["instance"]) for step, values in tracker.logged if "instance" in values]


def test_each_scored_episode_is_a_step_and_an_error_is_none(run):
    told = run.follow(1, 1, 3, 4, videos=2)
    assert curve(told) == [(0, 0.0), (1, 2.0), (2, 3.0)]
    first, second = told.logged[0][1], told.logged[1][1]
    assert (first["success"], first["success_rate"], first["q_score"]) == (1.0, 1.0, 1.0)
    assert (second["success"], second["success_rate"], second["mean_q_score"]) == (0.0, 0.5, 0.5)
    assert first["latency_s"] == pytest.approx(0.1)
    assert "distance_m" not in first  # this run's results have none
    assert told.videos == [(f"{TASK}-0-0", "0", 0), (f"{TASK}-2-0", "2", 1)]
    assert told.complete
    step, counts = told.logged[-1]
    assert (step, counts) == (
        2,
        {"count/success": 2, "count/failure": 1, "count/error": 1, "count/planned": 4},
    )
    ((name, rows, _),) = told.tables
    assert (name, [row["outcome"] for row in rows]) == ("episodes", list(OUTCOMES.values()))


def test_settings_and_policy_are_logged_as_plain_values(run):
    settings = run.follow(4).what.settings
    assert settings["policy"] == "other"
    assert (settings["settings.sim"], settings["settings.max_steps"]) == ("mujoco", 50)
    assert settings["settings.instances"] == "[0, 1, 2, 3]"
    assert settings["tasks"] == TASK


def test_a_resumed_run_goes_on_in_the_same_tracker_run_with_the_next_step(run):
    one, two = run.follow(2, videos=2), run.follow(4, videos=2)
    assert (one.what.id, one.complete) == (two.what.id, False)
    assert curve(one) + curve(two) == [(0, 0.0), (1, 2.0), (2, 3.0)]
    assert two.logged[0][1]["success_rate"] == 0.5
    assert [name for name, _, _ in one.videos + two.videos] == [f"{TASK}-0-0", f"{TASK}-2-0"]
    again = run.follow(4)
    assert (again.logged, again.tables, again.complete) == ([], [], True)


def test_a_moved_run_keeps_its_id_and_another_run_of_the_same_second_has_its_own(run, tmp_path):
    before = run.follow(1).what.id
    other = finished_run(tmp_path / "other", OUTCOMES)
    assert Growing(other).follow(1).what.id != before
    run.folder = run.folder.rename(tmp_path / "moved")
    assert run.follow(2).what.id == before


def test_an_error_that_was_retried_is_logged_once_it_is_scored(run):
    run.follow(2)
    result = run.folder / "episodes" / f"{TASK}-1-0" / "result.json"
    now = {"outcome": "success", "success": True, "q_score": 1.0}
    result.write_text(json.dumps(json.loads(result.read_text()) | now))
    run.lines[1] = json.dumps(json.loads(run.lines[1]) | now) + "\n"
    assert curve(run.follow(2)) == [(1, 1.0)]


def test_what_a_broken_tracker_has_missed_is_logged_by_the_next_session(run):
    with pytest.raises(ConnectionError):
        run.follow(4, tracker=Remembering(breaks_at=1))
    # The episode of the call that broke may be there or not: never twice.
    assert curve(run.follow(4)) == [(2, 3.0)]


def test_a_torn_line_of_the_ledger_is_no_line(run):
    run.follow(2)
    with (run.folder / LEDGER_FILE).open("a") as file:
        file.write('{"tracker": "wandb", "episode": "clean_box')
    (run.folder / LEDGER_FILE).open("a").write("\n")
    assert curve(run.follow(4)) == [(1, 2.0), (2, 3.0)]


# --- processes ----------------------------------------------------------------------------------


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Writes a package `mlflow` that does what a test says when it is imported."""

    def write(source):
        place = tmp_path / "packages"
        place.mkdir(exist_ok=True)
        (place / "mlflow.py").write_text(textwrap.dedent(source))
        monkeypatch.setenv("PYTHONPATH", str(place))
        monkeypatch.syspath_prepend(str(place))

    return write


def test_a_tracker_that_cannot_be_reached_is_a_remark_and_left_at_the_end(
    stand_in, run, monkeypatch
):
    stand_in("import time; time.sleep(1000)")
    monkeypatch.setattr(starting, "_IMPORT_S", 0.5)
    monkeypatch.setattr(starting, "_UNSTARTED_S", 0.2)
    said = []
    with logging_to(["mlflow"], run.folder, 0, said.append) as remarks:
        run.show(4)
    assert remarks[0].startswith("mlflow has not taken everything by the end: --resume logs what")
    assert said == [f"note: {remarks[0]}"]


def test_a_tracker_that_is_imported_and_does_not_begin_is_left_soon(stand_in, run, monkeypatch):
    stand_in("import time\ndef __getattr__(name): time.sleep(1000)")  # of the module: its client
    monkeypatch.setattr(starting, "_BEGIN_S", 0.5)
    monkeypatch.setattr(starting, "_UNSTARTED_S", 0.2)
    began = monotonic()
    with logging_to(["mlflow"], run.folder, 0, lambda _: None) as remarks:
        run.show(4)
    assert remarks[0].startswith("mlflow has not taken everything by the end: --resume logs what")
    assert monotonic() - began < starting._IMPORT_S / 2


def test_a_tracker_that_raises_is_a_remark_with_its_words(stand_in, run):
    stand_in("raise ConnectionError('no key\\nfor wandb')")
    with logging_to(["mlflow"], run.folder, 0, lambda _: None) as remarks:
        run.show(4)
    assert remarks == ["mlflow is not logged to any more: ConnectionError: no key for wandb"]


def test_a_run_whose_tracker_fails_is_a_run_and_says_so(stand_in, tmp_path, monkeypatch):
    from doubles import ToyEnv

    from b1k_eval.run import session, simulators

    stand_in("raise ConnectionError('offline')")
    monkeypatch.setattr(session.simulators, "make_worlds", _worlds(ToyEnv))
    monkeypatch.setattr(simulators, "prepare_pictures", lambda: None)
    out = tmp_path / "out"
    words = ["run", "--task", "31", "--policy", "hold", "--max-steps", "5", "--no-video"]
    result = CliRunner().invoke(app, [*words, "--out", str(out), "--log-to", "mlflow", "--json"])
    assert result.exit_code == 0, result.output
    remark = "mlflow is not logged to any more: ConnectionError: offline"
    assert remark in json.loads(result.stdout)["remarks"]
    record = json.loads((out / "run.json").read_text())
    assert record["sessions"][0]["execution"]["log_to"] == ["mlflow"]
    assert remark in record["sessions"][0]["remarks"]


def _worlds(kind):
    from b1k_envs.base import make_several

    return lambda settings, count, **_: make_several(kind, count)


def test_a_missing_package_is_said_before_the_run(monkeypatch):
    monkeypatch.setattr(starting, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match=r"--log-to wandb needs .* '\.\[wandb\]'"):
        check_trackers(["wandb"])


def test_trackers_are_words_with_commas_and_off_ends_those_of_a_resumed_run():
    assert resolve_execution({"log_to": "wandb, mlflow"}).log_to == ("wandb", "mlflow")
    before = {**asdict(Execution()), "log_to": ["wandb"], "gpus": []}
    recorded = {"sessions": [{"execution": before}]}
    assert resolve_execution({}, recorded).log_to == ("wandb",)
    assert resolve_execution({"log_to": "off"}, recorded).log_to == ()
    with pytest.raises(UsageError, match="'comet' is unknown: choose from wandb, trackio"):
        resolve_execution({"log_to": "comet"})
