"""`b1k-eval stress`: policies made for the test, whose uses and limits are known."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from doubles import ToyEnv
from proving import Fault, plant
from run_folders import settings
from typer.testing import CliRunner

from b1k_envs.base import VIEWS
from b1k_eval.cli.main import app
from b1k_eval.execution import Execution
from b1k_eval.records.run_files import STUDY_FILE
from b1k_eval.run.progress.reporter import Reporter
from b1k_eval.stress.arms import plan_curves
from b1k_eval.stress.study import Study, run_study
from b1k_policies.base import ActionChunk, Policy

ALONE = Execution(video=False, share_policy="off")
GREY = 64


class GreyEnv(ToyEnv):
    """The toy world in grey pictures, with cameras that look somewhere."""

    living: list[GreyEnv] = []  # noqa: RUF012 - of the process

    def __init__(self) -> None:
        super().__init__(max_steps=20)

    def _pictures(self):
        return {view: np.full((8, 8, 3), GREY, np.uint8) for view in VIEWS}

    def observe(self, *, images=True):
        poses = np.tile(np.array([0.1, 0.2, 1.0, 0.0, 0.0, 0.0, 1.0], np.float32), 3)
        return replace(super().observe(images=images), cam_rel_poses=poses)


class HeadAndWords(Policy):
    """Drives to the goal if it has a head picture that is not too bright, and an instruction."""

    name, chunk_length, limit = "head and words", 4, 160

    def reset(self, episode):
        self.told = bool(episode.instruction)

    def infer(self, observation):
        shade = float(observation.images["head"].mean())
        actions = np.zeros((4, 23), np.float32)
        actions[:, 0] = float(self.told and 0 < shade <= self.limit)
        return ActionChunk(actions=actions)


def study(axes, *, instances=6, doses=None, budget=None, reporter=Reporter):
    run = settings(instances=tuple(range(instances)), policy="hold", horizon=4)
    curves = plan_curves(axes, doses, sim="mujoco")
    return Study(settings=run, execution=ALONE, curves=curves, budget=budget, argv=["stress"],
                 reporter=reporter)  # fmt: skip


@pytest.fixture
def planted(monkeypatch):
    plant(monkeypatch, Fault("", "", env=GreyEnv, policy=HeadAndWords))


def test_inputs_that_are_not_used_cost_nothing_and_those_that_are_cost_all(planted, tmp_path):
    document = run_study(study(["inputs"]), tmp_path / "s")
    cost = {curve["name"]: curve["arms"][0]["difference"] for curve in document["curves"]}
    used = {"blank:head", "words-blank"}
    assert {name for name, points in cost.items() if points == -1.0} == used
    assert {name for name, points in cost.items() if points == 0.0} == cost.keys() - used
    sure = {curve["name"] for curve in document["curves"] if curve["p_corrected"] < 0.05}
    assert sure <= used
    assert document["undisturbed"]["successes"] == 6
    assert document["complete"]


@pytest.mark.parametrize("budget", [None, 80])
def test_the_planted_limit_lies_between_the_doses_that_are_named(budget, planted, tmp_path):
    planted_at = (HeadAndWords.limit - GREY) / 255
    document = run_study(study(["brightness"], instances=10, budget=budget), tmp_path / "s")
    up = next(curve for curve in document["curves"] if curve["name"] == "brightness up")
    half = up["halving"]
    assert half["low"] <= planted_at <= half["high"]
    if budget is None:
        assert (half["low"], half["high"]) == (0.3, 0.6)
    else:
        assert half["high"] - half["low"] < 0.2
        assert sum(arm["episodes"] for c in document["curves"] for arm in c["arms"]) <= 70
    down = next(curve for curve in document["curves"] if curve["name"] == "brightness down")
    assert down["halving"]["high"] is not None  # at -0.3 all is black


def test_a_new_study_says_beforehand_what_it_may_cost(planted, tmp_path):
    said = []
    run_study(study(["blur:head"]), tmp_path / "s", estimated=said.append)
    run_study(study(["blur:head"]), tmp_path / "s", estimated=said.append)
    assert len(said) == 1
    assert 0 < said[0] < 50 * 6 * 5  # steps, at most a second each


def test_the_same_command_goes_on_and_does_nothing_twice(planted, tmp_path):
    done = []

    class Counting(Reporter):
        def episode_ended(self, record):
            done.append(record.key)
            if len(done) == 9:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(study(["blur:head"], reporter=Counting), tmp_path / "s")
    document = run_study(study(["blur:head"], reporter=Counting), tmp_path / "s")
    assert len(done) == 5 * 6
    assert document == run_study(study(["blur:head"], reporter=Counting), tmp_path / "s")
    assert len(done) == 5 * 6
    assert json.loads((tmp_path / "s" / STUDY_FILE).read_text()) == document


def cli(*words):
    return CliRunner().invoke(app, ["stress", "--task", "31", *words])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--axes", "brigthness"), "there is no axis 'brigthness' to disturb; did you mean brig"),
        (("--axes", "blur", "--doses", "99"), "--doses 99 is out of the range of blur, 0 to 64 px"),
        (("--axes", "blur,light", "--doses", "1"), "--doses goes with one axis, and --axes has 2"),
        (("--axes", "blur", "--doses", "0"), "a study needs a dose that is not 0"),
        (("--axes", "blur", "--doses", "x"), "--doses 'x' must be numbers with commas between"),
        (("--axes", "blur"), "--disturb blur changes pictures, and the policy hold is shown none"),
        (("--axes", "base-scale", "--budget", "10"), "--budget 10 is less than two arms of 10"),
        (("--task", "0,31"), "a study is of one task: give a single --task"),
    ],
)
def test_what_cannot_be_is_said_before_the_first_episode(words, says, tmp_path):
    told = cli("--policy", "hold", "--out", str(tmp_path / "s"), *words)
    assert told.exit_code == 2
    assert says in told.output.replace("\n", " ")


def test_the_axes_are_listed():
    told = CliRunner().invoke(app, ["stress", "--task", "31", "--list", "--json"])
    names = {axis["name"] for axis in json.loads(told.output)["axes"]}
    assert {"brightness", "latency", "camera-turn", "words-other"} <= names


@pytest.mark.slow
def test_two_policies_are_compared_axis_by_axis(monkeypatch, tmp_path):
    for name, limit in (("dim", 80), ("bright", 250)):
        policy = type(name, (HeadAndWords,), {"name": name, "limit": limit})
        plant(monkeypatch, Fault("", "", env=GreyEnv, policy=policy))
        axes = ["brightness", "state-noise", "blank:head", "words-blank"]
        run_study(study(axes, instances=10), tmp_path / name)
    folders = [str(tmp_path / name) for name in ("dim", "bright")]
    told = CliRunner().invoke(app, ["compare", *folders, "--json"])
    assert told.exit_code == 0, told.output
    document = json.loads(told.output)
    by_name = {curve["name"]: curve for curve in document["curves"]}
    assert document["labels"] == ["dim", "bright"]
    assert by_name["brightness up"]["means"] == [0.0, 1.0]  # at 0.3 and 0.6 too bright for the one
    assert by_name["brightness up"]["p_corrected"] < 0.05
    assert by_name["state-noise"]["difference"] == 0.0
    told = CliRunner().invoke(app, ["compare", *folders])
    assert "brightness up: bright keeps more (100 points, difference" in told.output
    assert "state-noise: cannot tell (0 points" in told.output
    page = tmp_path / "page"
    told = CliRunner().invoke(app, ["report", *folders, "--out", str(page)])
    assert told.exit_code == 0, told.output
    html = (page / "report.html").read_text()
    assert "brightness up: bright keeps more" in html
    assert html.count("<figure>") == 2
    for sheet in re.findall(r'href="([^"]+\.css)"', html):
        assert (page / sheet).is_file()
    assert html.count('<th scope="row">') == 2 * (4 + 4 + 1 + 1)  # a row per arm
    told = CliRunner().invoke(app, ["report", folders[0]])
    assert "dim: undisturbed 10 of 10" in (tmp_path / "dim" / "report.html").read_text()
    told = CliRunner().invoke(app, ["compare", folders[0], f"{folders[1]}/undisturbed"])
    assert "is a study of `stress`: compare it with one other study" in told.output
