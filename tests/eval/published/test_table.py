"""The table of published scores, and a user's rows."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from b1k_envs.errors import UsageError
from b1k_envs.tasks.table import TASKS
from b1k_eval.cli.main import app
from b1k_eval.published.table import COLUMNS, published_scores, scores_of, shipped_scores

HEAD = "task,policy,metric,value,sim,episodes,source\n"
ROW = "31,ours,success,60%,omnigibson,20,a paper\n"


@pytest.fixture
def cli():
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, [str(each) for each in arguments])


@pytest.fixture
def written(tmp_path):
    def write(text):
        file = tmp_path / "ours.csv"
        file.write_text(text, encoding="utf-8")
        return file

    return write


@pytest.mark.parametrize(
    ("task", "policy", "metric", "value"),
    [
        # As printed in the README of Isaac-GR00T's examples/BEHAVIOR at 40cbe71d.
        ("clean_boxing_gloves", "gr00t-n1.6", "task_progress", 0.2727),
        ("clean_boxing_gloves", "pi0.5", "task_progress", 0.1091),
        ("turning_on_radio", "gr00t-n1.6", "task_progress", 0.4333),
        ("turning_on_radio", "pi0.5", "task_progress", 0.1667),
        ("turning_on_radio", "gr00t-n1.6-one-task", "task_progress", 0.8056),
        ("turning_on_radio", "gr00t-n1.6-one-task", "q_score", 0.7),
        ("0-49", "gr00t-n1.6", "task_progress", 0.263),
        ("0-49", "pi0.5", "task_progress", 0.113),
    ],
)
def test_the_table_has_what_was_printed(task, policy, metric, value):
    (score,) = [
        each
        for each in scores_of(shipped_scores(), policy)
        if (each.task, each.metric) == (task, metric)
    ]
    assert score.value == value


@pytest.mark.parametrize("policy", ["gr00t-n1.6", "pi0.5"])
def test_all_tasks_of_2025_are_there_and_give_the_printed_average(policy):
    scores = scores_of(shipped_scores(), policy)
    of_one = {score.task: score.value for score in scores if len(score.tasks) == 1}
    assert [*of_one] == [task.name for task in TASKS[:50]]
    (average,) = [score for score in scores if len(score.tasks) == 50]
    # Half a digit, and two more values that are rounded.
    assert sum(of_one.values()) / 50 == pytest.approx(average.value, abs=1e-4)


def test_what_should_not_be_compared_says_why():
    doubted = {score.task for score in scores_of(shipped_scores(), "gr00t-n1.6") if score.doubt}
    # docs/yardsticks.md: twelve lists of checks that differ, and two values that fit none.
    assert len(doubted - {"0-49"}) == 14
    assert {"cook_hot_dogs", "slicing_vegetables", "picking_up_trash"} < doubted
    assert not {"clean_boxing_gloves", "turning_on_radio"} & doubted


def test_nothing_unstated_is_filled_in():
    (score,) = [
        each for each in scores_of(shipped_scores(), "pi0.5") if each.task == "turning_on_radio"
    ]
    assert (score.base_mass_kg, score.picture_px, score.variant) == (None, None, None)
    assert all(score.source for score in shipped_scores())


def test_a_users_rows_come_below_the_shipped_ones(written):
    file = written(HEAD + ROW + "0,ours,q_score,0.35,mujoco,,a page\n")
    *shipped, gloves, radio = published_scores(file)
    assert tuple(shipped) == shipped_scores()
    assert (gloves.task, gloves.value, gloves.successes) == ("clean_boxing_gloves", 0.6, 12)
    assert (radio.sim, radio.episodes, radio.split) == ("mujoco", None, None)
    assert (gloves.rounding, radio.rounding) == (0.005, pytest.approx(0.005))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task,policy,metric,value,sim\n", "no column source: task, policy, metric, value, sim"),
        ("tasks," + HEAD, "no column 'tasks': did you mean task"),
        ("task," + HEAD, "two columns task"),
        (HEAD + "31,ours,success\n", "line 2: it does not have 7 cells"),
        (HEAD + "31,ours,success,60%,omnigibson,20,a,b\n", "line 2: it does not have 7 cells"),
        (HEAD + ROW.replace("31", "131"), r"line 2: task is '131': give tasks that there are"),
        (HEAD + ROW.replace("ours", "o u r s"), "policy is 'o u r s': give a name of letters"),
        (HEAD + ROW.replace("success", "sr"), "metric is 'sr': give one of task_progress, success"),
        (HEAD + ROW.replace("60%", "60"), "value is '60': give a share in"),
        (HEAD + ROW.replace("60%", "101%"), "value is '101%': give a share in"),
        (HEAD + ROW.replace("60%", "nan"), "value is 'nan'"),
        (HEAD + ROW.replace("60%", "-0.1"), "value is '-0.1'"),
        (HEAD + ROW.replace("60%", ""), "line 2: value is empty"),
        (HEAD + ROW.replace("60%", "62%"), "62 % of 20 episodes is 12.4 successes, no whole"),
        (HEAD + ROW.replace("20", "0"), "episodes is '0': give a whole number above 0"),
        (HEAD + ROW.replace("omnigibson", "isaac"), "sim is 'isaac': give one of"),
        (HEAD + ROW + ROW, "line 3: .*line 2 has ours's success on clean_boxing_gloves already"),
        (
            HEAD.replace(",source", ",protocol,split,source")
            + "31,gr00t-n1.6,task_progress,1%,omnigibson,10,2025,hidden-test,me\n",
            "the table of this package has gr00t-n1.6's task_progress .* another name",
        ),
        (
            HEAD.replace("episodes", "variant") + ROW.replace("20", "roots-symbol"),
            "a variant is of task_progress, not of success",
        ),
        (HEAD.replace("episodes", "time_limit") + ROW.replace("20", "2 x"), "time_limit is '2 x'"),
        (HEAD.replace("episodes", "instances") + ROW.replace("20", "9-0"), "instances is '9-0'"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_used_is_refused_by_line_and_column(written, text, message):
    with pytest.raises(UsageError, match=message):
        published_scores(written(text))


def test_a_file_that_is_none_is_refused(tmp_path, written):
    with pytest.raises(UsageError, match=r"--published-file .*no\.csv cannot be read"):
        published_scores(tmp_path / "no.csv")
    file = written("")
    file.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UsageError, match="cannot be read"):
        published_scores(file)
    with pytest.raises(UsageError, match="no column task"):
        published_scores(written(""))


def test_a_name_that_is_nobodys_is_refused_with_those_there_are():
    with pytest.raises(UsageError, match=r"'groot-n1.6' is known. Did you mean gr00t-n1.6\? There"):
        scores_of(shipped_scores(), "groot-n1.6")


# --- the verb -------------------------------------------------------------------------------------


def test_the_verb_lists_a_task_with_sources_and_notes(cli):
    result = cli("published", "45")
    assert result.exit_code == 0, result.output
    assert "0.28 %" in result.stdout
    assert "[1] NVIDIA/Isaac-GR00T examples/BEHAVIOR/README.md@40cbe71d" in result.stdout
    assert "(a) not to be compared: as printed it fits no number of checks" in result.stdout
    document = json.loads(cli("published", "45", "--json").stdout)
    assert [each["value"] for each in document["scores"]] == [0.0028, 0.2385]
    assert set(document["scores"][0]) == set(COLUMNS)


def test_the_verb_takes_a_users_file_and_says_where_nothing_is_known(cli, written):
    file = written(HEAD + "99,ours,success,60%,omnigibson,20,a paper\n")
    listed = cli("published", "99", "--published-file", file)
    assert "ours" in listed.stdout
    assert "60 %" in listed.stdout
    assert len(json.loads(cli("published", "--json").stdout)["scores"]) == len(shipped_scores())
    nothing = cli("published", "99")
    assert nothing.exit_code == 2
    assert "no published score of 99 is known" in nothing.stderr
