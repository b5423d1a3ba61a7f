"""The task table against figures the challenge publishes beside it, and every error text."""

import json
import re

import pytest

from b1k_envs.errors import UsageError
from b1k_envs.tasks.table import TASKS, check_protocol, get_task, human_stats, load_human_stats

GLOVES = TASKS[31]


def test_the_table_has_a_hundred_tasks_each_at_its_index():
    assert [task.index for task in TASKS] == list(range(100))
    assert len({task.name for task in TASKS}) == 100
    assert [task.in_2025 for task in TASKS] == [True] * 50 + [False] * 50


def test_human_durations_add_up_to_the_published_totals():
    assert sum(task.human_seconds for task in TASKS) == 35023
    assert sum(task.human_seconds for task in TASKS[:50]) == 19854
    by_duration = sorted(TASKS, key=lambda task: task.human_seconds)
    assert (by_duration[0].name, by_duration[0].human_seconds) == ("installing_a_modem", 63)
    assert (by_duration[-1].name, by_duration[-1].human_seconds) == ("assembling_gift_baskets", 869)


@pytest.mark.parametrize(
    ("index", "name"),
    [
        (0, "turning_on_radio"),
        (6, "hiding_Easter_eggs"),
        (32, "wash_a_baseball_cap"),
        (49, "make_pizza"),
        (50, "freeze_fruit"),
        (53, "tidying_living_room"),
        (54, "putting_away_toys"),
        (55, "re_shelving_library_books"),
        (70, "thawing_frozen_food"),
        (81, "packing_meal_for_delivery"),
        (99, "sorting_books_on_shelf"),
    ],
)
def test_indices_seen_in_challenge_material_have_their_names(index, name):
    assert get_task(index).name == name


def test_every_task_but_one_is_an_activity_of_bddl_3_6():
    activities = pytest.importorskip("bddl.activity").get_all_activities()
    missing = {task.name for task in TASKS} - set(activities)
    assert missing <= {"put_together_a_basic_pruning_kit"}


def test_task_31_is_the_boxing_gloves():
    assert get_task(31) is get_task("31") is get_task("clean_boxing_gloves") is GLOVES
    assert GLOVES.rooms == ("utility_room",)
    assert GLOVES.instruction_exact
    assert GLOVES.instruction == (
        "Wash the two dusty boxing gloves from the countertop in the utility room in the washer "
        "until they are no longer covered with dust."
    )
    assert (GLOVES.human_seconds, GLOVES.human_steps) == (275, 8235)
    assert GLOVES.human_steps_exact
    assert GLOVES.max_steps("2025") == 16470
    assert GLOVES.max_steps("2026") == 12352


def test_other_tasks_say_that_steps_and_instruction_are_stand_ins():
    radio = get_task("turning_on_radio")
    assert (radio.human_steps, radio.human_steps_exact) == (2160, False)
    assert (radio.instruction, radio.instruction_exact) == ("turning on radio", False)
    assert (radio.max_steps("2025"), radio.max_steps("2026")) == (4320, 3240)
    assert [task.index for task in TASKS if task.human_steps_exact] == [31]
    assert get_task(13).rooms == ("living_room", "garage")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (100, "there is no task 100: indices run from 0 to 99; `b1k-eval tasks` lists them"),
        ("-1", "there is no task -1: indices run from 0 to 99; `b1k-eval tasks` lists them"),
        (
            "clean_boxing_glove",
            "there is no task 'clean_boxing_glove'. Did you mean clean_boxing_gloves? Give a "
            "name or an index from 0 to 99; `b1k-eval tasks` lists them",
        ),
        (
            "hiding-easter-eggs",
            "there is no task 'hiding-easter-eggs'. Did you mean hiding_Easter_eggs? Give a "
            "name or an index from 0 to 99; `b1k-eval tasks` lists them",
        ),
        (
            "xyzzy",
            "there is no task 'xyzzy'. Give a name or an index from 0 to 99; `b1k-eval tasks` "
            "lists them",
        ),
    ],
)
def test_an_unknown_task_gets_the_range_and_the_near_misses(given, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$") as caught:
        get_task(given)
    assert caught.value.exit_code == 2


def test_a_task_of_2026_does_not_exist_under_2025():
    check_protocol(get_task(49), "2025")
    check_protocol(get_task(50), "2026")
    message = (
        "task 50 freeze_fruit is not in the 2025 challenge, which has tasks 0 to 49: use "
        "--protocol 2026"
    )
    with pytest.raises(UsageError, match=f"^{message}$"):
        check_protocol(get_task(50), "2025")
    with pytest.raises(UsageError, match=f"^{message}$"):
        get_task(50).max_steps("2025")


def test_an_unknown_protocol_gets_the_choices():
    with pytest.raises(
        UsageError, match=r"^there is no protocol '2024': choose one of 2025, 2026$"
    ):
        check_protocol(GLOVES, "2024")


# --- Human statistics -----------------------------------------------------------------------

FIGURES = {
    "length": 8234.6,
    "distance_traveled": 28.61,
    "left_eef_displacement": 70.5,
    "right_eef_displacement": 81,
}


def write_lines(path, *lines):
    path.write_text(
        "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    )
    return path


def test_published_statistics_leave_out_what_is_not_published():
    stats = human_stats(GLOVES)
    assert (stats.length, stats.distance_traveled) == (8235.0, 28.6)
    assert stats.left_eef_displacement is None
    assert stats.right_eef_displacement is None
    assert human_stats(TASKS[0]).distance_traveled is None


@pytest.mark.parametrize("key", [{"task_name": "clean_boxing_gloves"}, {"task_index": 31}])
def test_official_statistics_are_matched_on_name_or_index(tmp_path, key):
    other = {**FIGURES, "task_name": "make_pizza", "task_index": 49, "length": 1}
    path = write_lines(tmp_path / "task.jsonl", other, "", {**FIGURES, **key})
    stats = load_human_stats(path, GLOVES, "2026")
    assert stats.length == 8234.6
    assert stats.distance_traveled == 28.61
    assert stats.left_eef_displacement == 70.5
    assert stats.right_eef_displacement == 81.0


def test_statistics_of_an_absent_file_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read human statistics from .*nowhere\.jsonl"):
        load_human_stats(tmp_path / "nowhere.jsonl", GLOVES, "2026")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{**FIGURES, "task_index": 30}], "has 0 lines for task 31 clean_boxing_gloves"),
        ([{**FIGURES, "task_index": 31}] * 2, "has 2 lines for task 31 clean_boxing_gloves"),
        (["{not json"], "line 1 is not JSON"),
        ([{"task_index": 0}, "[1, 2]"], "line 2 must hold a JSON object, got list"),
        (
            [{**FIGURES, "task_index": 31, "task_name": "make_pizza"}],
            "line 1 has task_name 'make_pizza' and task_index 31, but task 31 is "
            "clean_boxing_gloves",
        ),
        (
            [{"task_index": 31, "length": 8235}],
            "line 1 lacks 'distance_traveled'; it has length, task_index",
        ),
        (
            [{**FIGURES, "task_index": 31, "length": "long"}],
            "line 1: 'length' must be a positive number, got 'long'",
        ),
        (
            [{**FIGURES, "task_index": 31, "left_eef_displacement": float("nan")}],
            "line 1: 'left_eef_displacement' must be a positive number, got nan",
        ),
        (
            [{**FIGURES, "task_index": 31, "length": 0}],
            "line 1: 'length' must be a positive number, got 0",
        ),
    ],
)
def test_damaged_statistics_are_refused_by_file_and_line(tmp_path, lines, message):
    path = write_lines(tmp_path / "task.jsonl", *lines)
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        load_human_stats(path, GLOVES, "2026")
    assert str(path) in str(caught.value)


def demonstration(index, length, **changes):
    distances = dict.fromkeys(set(FIGURES) - {"length"}, length / 100)
    return {"episode_index": index, "tasks": ["?"], "length": length, **distances, **changes}


def test_2025_statistics_are_the_means_over_the_demonstrations_of_the_task(tmp_path):
    others = [demonstration(300_010, 1), demonstration(320_000, 1)]
    mine = [demonstration(310_010, 8000), demonstration(319_990, 9000)]
    path = write_lines(tmp_path / "episodes.jsonl", others[0], *mine, "", others[1])
    stats = load_human_stats(path, GLOVES, "2025")
    assert (stats.length, stats.right_eef_displacement) == (8500.0, 85.0)


def test_a_hand_that_one_demonstration_did_not_use_counts_as_zero_in_the_mean(tmp_path):
    still = demonstration(310_020, 100, left_eef_displacement=0)
    path = write_lines(tmp_path / "e.jsonl", demonstration(310_010, 100), still)
    assert load_human_stats(path, GLOVES, "2025").left_eef_displacement == 0.5
    path = write_lines(tmp_path / "e.jsonl", still)
    with pytest.raises(UsageError, match="the mean: 'left_eef_displacement' must be a positive"):
        load_human_stats(path, GLOVES, "2025")


@pytest.mark.parametrize(
    ("year", "line", "message"),
    [
        ("2026", demonstration(310_010, 5), "statistics of 2025 (episodes.jsonl): protocol 2026"),
        ("2025", {**FIGURES, "task_index": 31}, "statistics of 2026 (task.jsonl): protocol 2025"),
        ("2025", demonstration(10, 5), "has no demonstration of task 31 clean_boxing_gloves"),
        ("2025", {"length": 5}, "line 1 lacks 'episode_index'; it has length"),
        ("2025", demonstration("31", 5), "'episode_index' must be a whole number, got '31'"),
        ("2025", demonstration(310_010, -5), "'length' must be a number from 0 on, got -5"),
    ],
)
def test_statistics_of_the_other_year_and_damaged_ones_of_2025_are_told(
    tmp_path, year, line, message
):
    path = write_lines(tmp_path / "file.jsonl", line)
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        load_human_stats(path, GLOVES, year)
    assert str(path) in str(caught.value)
