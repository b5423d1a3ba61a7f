"""Instances, statistics and what is on the disk, from a made-up data folder of either year."""

import json

import pytest

from b1k_envs.errors import UnavailableError, UsageError
from b1k_envs.omnigibson.setup import data
from b1k_envs.omnigibson.setup.data import (
    assets_present,
    assets_version,
    check_index,
    describe_installation,
    find_data_path,
    find_task_data,
    instance_files_present,
    key_present,
)
from b1k_envs.omnigibson.setup.generation import GENERATIONS
from b1k_envs.tasks.table import get_task

GLOVES = get_task(31)
SCENE = "house_single_floor"
PUBLIC_IDS = [11, 47, 52, 60, 78, 101, 122, 145, 160, 199]
TABLE = f"""
clean_boxing_gloves:
  0:
    robot_start_orientation: [-0.0009, 0.0001, 0.1601, 0.9871]
    robot_start_position: [23.09, 1.15, 0.005]
    scene_model: {SCENE}
  7:
    robot_start_orientation: [0, 0, 0, 1]
    robot_start_position: [0, 0, 0]
    scene_model: another_house
"""


def episode(index, length):
    return {
        "episode_index": index,
        "length": length,
        "distance_traveled": length / 300,
        "left_eef_displacement": length / 200,
        "right_eef_displacement": length / 100,
    }


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A data folder with everything that is not an instance file."""
    path = tmp_path / "datasets"
    for name in ("behavior-1k-assets", "omnigibson-robot-assets"):
        (path / name).mkdir(parents=True)
    (path / "omnigibson.key").write_text("key")
    usd = path / "behavior-1k-assets" / "objects" / "washer" / "ynwamu" / "usd"
    usd.mkdir(parents=True)
    (usd / "ynwamu.encrypted.usd").write_bytes(b"")
    for year in ("2025", "2026"):
        metadata = path / f"{year}-challenge-task-instances" / "metadata"
        metadata.mkdir(parents=True)
        (metadata / "available_tasks.yaml").write_text(TABLE)
    old = path / "2025-challenge-task-instances" / "metadata"
    rows = [f'{i},task_{i},"{i}"' for i in range(50)]
    rows[31] = '31,clean_boxing_gloves,"{}"'.format(", ".join(map(str, PUBLIC_IDS)))
    (old / "test_instances.csv").write_text("\n".join(["index,task,ids", *rows]) + "\n")
    lines = [episode(300_010, 1), *(episode(310_000 + 10 * n, 100 + n) for n in (5, 3, 120, 299))]
    (old / "episodes.jsonl").write_text("\n".join(map(json.dumps, [*lines, episode(320_010, 1)])))
    stats = {"task_name": GLOVES.name, "task_index": 31, **episode(0, 8235.5)}
    (path / "2026-challenge-task-instances" / "metadata" / "task.jsonl").write_text(
        json.dumps(stats) + "\n"
    )
    monkeypatch.setenv("OMNIGIBSON_DATA_PATH", str(path))
    return path


def of(protocol, split="public-test"):
    return find_task_data(GENERATIONS[protocol], GLOVES, split)


# --- instance numbers -----------------------------------------------------------------------


def test_2025_public_ids_are_those_of_the_tasks_row(root):
    assert [of("2025").instance_id(index) for index in range(10)] == PUBLIC_IDS


def test_2025_train_ids_come_from_the_demonstrations_in_their_order(root):
    assert [of("2025", "train").instance_id(index) for index in range(4)] == [5, 3, 120, 299]


def test_2025_hidden_ids_are_the_indices(root):
    assert [of("2025", "hidden-test").instance_id(index) for index in (0, 9)] == [0, 9]


def test_2026_test_ids_count_from_301_and_from_321(root):
    assert [of("2026").instance_id(index) for index in (0, 1, 19)] == [301, 302, 320]
    hidden = of("2026", "hidden-test")
    assert [hidden.instance_id(index) for index in (0, 1, 19)] == [321, 322, 340]


def test_2026_train_indices_are_ids(root):
    assert [of("2026", "train").instance_id(index) for index in (0, 1, 299)] == [0, 1, 299]


@pytest.mark.parametrize(
    ("protocol", "split", "index", "span"),
    [
        ("2025", "public-test", 10, "0-9"),
        ("2025", "public-test", -1, "0-9"),
        ("2025", "hidden-test", 10, "0-9"),
        ("2025", "train", 200, "0-199"),
        ("2026", "public-test", 20, "0-19"),
        ("2026", "train", -1, "0 and up"),
    ],
)
def test_indices_outside_a_split_are_refused(root, protocol, split, index, span):
    for call in (of(protocol, split).instance_id, of(protocol, split).instance_file):
        with pytest.raises(UsageError, match=f"instance {index} is out of range.*{span}"):
            call(index)


def test_the_documentations_hidden_indices_are_refused_with_the_reason():
    for index in (20, 39):
        with pytest.raises(UsageError, match=r"0-19; the documentation says 20-39"):
            check_index(GENERATIONS["2026"], "hidden-test", index)


def test_a_train_index_beyond_the_demonstrations_is_refused(root):
    with pytest.raises(UsageError, match="has instances 0-3 in these data"):
        of("2025", "train").instance_id(4)


def test_a_row_of_another_task_is_not_taken(root):
    file = root / "2025-challenge-task-instances" / "metadata" / "test_instances.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], *lines[2:]]))
    with pytest.raises(UnavailableError, match=r"test_instances\.csv, row 32.*clean_boxing_gloves"):
        of("2025").instance_id(0)


# --- instance files -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "split", "index", "path"),
    [
        (
            "2025",
            "public-test",
            1,
            "2025-challenge-task-instances/scenes/house_single_floor/json/house_single_floor_task_"
            "clean_boxing_gloves_instances/house_single_floor_task_clean_boxing_gloves_0_47_"
            "template-tro_state.json",
        ),
        (
            "2025",
            "hidden-test",
            3,
            "2025-challenge-test-instances/clean_boxing_gloves/house_single_floor_task_"
            "clean_boxing_gloves_0_3_template-tro_state.json",
        ),
        (
            "2026",
            "train",
            12,
            "2026-challenge-task-instances/scenes/house_single_floor/json/house_single_floor_task_"
            "clean_boxing_gloves_instances/house_single_floor_task_clean_boxing_gloves_0_12_"
            "template-tro_state.json",
        ),
        (
            "2026",
            "public-test",
            0,
            "2026-challenge-task-instances/scene_test/public/house_single_floor/json/"
            "house_single_floor_task_clean_boxing_gloves_instances/"
            "house_single_floor_task_clean_boxing_gloves_0_301_template-tro_state.json",
        ),
        (
            "2026",
            "hidden-test",
            19,
            "2026-challenge-task-instances/scene_test/private/house_single_floor/json/"
            "house_single_floor_task_clean_boxing_gloves_instances/"
            "house_single_floor_task_clean_boxing_gloves_0_340_template-tro_state.json",
        ),
    ],
)
def test_instance_files_are_where_the_evaluator_looks(root, protocol, split, index, path):
    with pytest.raises(UnavailableError, match=r"template-tro_state\.json is missing") as absent:
        of(protocol, split).instance_file(index)
    assert str(root / path) in str(absent.value)
    (root / path).parent.mkdir(parents=True)
    (root / path).write_text("{}")
    assert of(protocol, split).instance_file(index) == root / path


def test_a_missing_file_names_what_downloads_it(root):
    for protocol in ("2025", "2026"):
        download = rf"asset_utils\.download_{protocol}_challenge_task_instances\(\)"
        with pytest.raises(UnavailableError, match=download):
            of(protocol, "train").instance_file(0)
    with pytest.raises(UnavailableError, match="organisers keep the hidden"):
        of("2026", "hidden-test").instance_file(0)


# --- the entry ------------------------------------------------------------------------------


def test_the_entry_is_that_of_instance_0(root):
    entry = of("2026").entry
    assert entry.scene_model == SCENE
    assert entry.robot_start_position == (23.09, 1.15, 0.005)
    assert entry.robot_start_orientation == (-0.0009, 0.0001, 0.1601, 0.9871)
    assert entry.load_room_instances is None


def test_2025_reads_the_table_of_joylo_first(root, tmp_path, monkeypatch):
    (tmp_path / "OmniGibson" / "omnigibson").mkdir(parents=True)
    (tmp_path / "OmniGibson" / "omnigibson" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path / "OmniGibson"))
    table = tmp_path / "joylo" / "sampled_task" / "available_tasks.yaml"
    table.parent.mkdir(parents=True)
    table.write_text(TABLE.replace("23.09", "9.0"))
    assert of("2025").entry.robot_start_position[0] == 9.0
    assert of("2025").entry_file == table
    assert of("2026").entry.robot_start_position[0] == 23.09


def test_joylo_is_found_where_gello_is_installed_from(root, tmp_path, monkeypatch):
    joylo = tmp_path / "elsewhere" / "joylo"
    (joylo / "gello").mkdir(parents=True)
    (joylo / "gello" / "__init__.py").write_text("raise RuntimeError('imported')")
    (joylo / "sampled_task").mkdir()
    (joylo / "sampled_task" / "available_tasks.yaml").write_text(TABLE)
    monkeypatch.syspath_prepend(str(joylo))
    assert of("2025").entry_file == joylo / "sampled_task" / "available_tasks.yaml"


def test_an_early_table_with_a_list_is_read_too(root):
    file = root / "2026-challenge-task-instances" / "metadata" / "available_tasks.yaml"
    file.write_text(
        "clean_boxing_gloves:\n- scene_model: house\n  robot_start_position: [1, 2, 3]\n"
        "  robot_start_orientation: [0, 0, 0, 1]\n  load_room_instances: [a_0, b_0]\n"
    )
    assert of("2026").entry.scene_model == "house"
    assert of("2026").entry.load_room_instances == ("a_0", "b_0")


@pytest.mark.parametrize(
    "text",
    ["{}", "clean_boxing_gloves: {1: {}}", "a: [", TABLE.replace("23.09, ", ""), TABLE + "  x"],
)
def test_a_table_without_a_usable_entry_is_refused(root, text):
    (root / "2026-challenge-task-instances" / "metadata" / "available_tasks.yaml").write_text(text)
    with pytest.raises(UnavailableError, match=r"available_tasks\.yaml has no usable entry"):
        of("2026")


def test_without_a_table_every_place_that_was_looked_in_is_named(root):
    file = root / "2026-challenge-task-instances" / "metadata" / "available_tasks.yaml"
    file.unlink()
    with pytest.raises(UnavailableError, match="comes with BEHAVIOR-1K") as missing:
        of("2026")
    assert str(file) in str(missing.value)


def test_a_2026_task_is_refused_in_2025(root):
    with pytest.raises(UsageError, match="not in the 2025 challenge"):
        find_task_data(GENERATIONS["2025"], get_task(60), "train")


def test_the_task_whose_lights_the_evaluator_switches_itself_is_refused(root):
    task = get_task("turning_out_all_lights_before_sleep")
    with pytest.raises(UnavailableError, match="lights anew at every step"):
        find_task_data(GENERATIONS["2026"], task, "train")


# --- statistics and the limit ---------------------------------------------------------------


def test_2025_statistics_are_means_over_the_tasks_demonstrations(root):
    stats = of("2025").human_stats
    lengths = [105, 103, 220, 399]
    assert stats.length == sum(lengths) / 4
    assert stats.distance_traveled == pytest.approx(sum(lengths) / 4 / 300)
    assert stats.left_eef_displacement == pytest.approx(sum(lengths) / 4 / 200)
    assert stats.right_eef_displacement == pytest.approx(sum(lengths) / 4 / 100)


def test_the_time_limit_is_twice_the_mean_in_2025_and_half_again_in_2026(root):
    assert of("2025").default_max_steps() == 413  # 206.75 * 2 = 413.5
    assert of("2026").default_max_steps() == 12353  # 8235.5 * 1.5 = 12353.25


def test_missing_statistics_name_the_file_and_what_downloads_it(root):
    for protocol, name in (("2025", "episodes.jsonl"), ("2026", "task.jsonl")):
        of(protocol).human_stats_file.unlink()
        assert of(protocol).human_stats_file.name == name
        with pytest.raises(UnavailableError, match=f"{name} is missing: download it"):
            _ = of(protocol).human_stats


def test_demonstrations_of_other_tasks_only_are_no_statistics(root):
    of("2025").human_stats_file.write_text(json.dumps(episode(300_010, 1)))
    with pytest.raises(UnavailableError, match="no demonstration of task 31"):
        _ = of("2025").human_stats


@pytest.mark.parametrize("line", ["{", "[]", '{"task": 1}'])
def test_demonstrations_that_cannot_be_read_are_told(root, line):
    of("2025").human_stats_file.write_text(line)
    with pytest.raises(UnavailableError, match=r"episodes\.jsonl is not as v3\.7\.2 reads it"):
        of("2025", "train").instance_id(0)


def test_a_demonstration_without_a_figure_is_told(root):
    line = episode(310_010, 5)
    del line["left_eef_displacement"]
    of("2025").human_stats_file.write_text(json.dumps(line))
    with pytest.raises(UnavailableError, match="left_eef_displacement"):
        _ = of("2025").human_stats


def test_ids_that_are_no_numbers_are_told(root):
    file = root / "2025-challenge-task-instances" / "metadata" / "test_instances.csv"
    file.write_text(file.read_text().replace("11, 47", "11; 47"))
    with pytest.raises(UnavailableError, match=r"test_instances\.csv is not as v3\.7\.2 reads it"):
        of("2025").instance_id(0)


# --- what is on the disk --------------------------------------------------------------------


def test_the_data_path_is_the_variable_or_beside_the_package(tmp_path, monkeypatch):
    monkeypatch.delenv("OMNIGIBSON_DATA_PATH", raising=False)
    assert find_data_path() is None
    package = tmp_path / "OmniGibson" / "omnigibson"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(package.parent))
    assert find_data_path() == tmp_path / "datasets"
    monkeypatch.setenv("OMNIGIBSON_DATA_PATH", "here")
    assert find_data_path() == package / "here"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OMNIGIBSON_DATA_PATH", "~/data")
    assert find_data_path() == tmp_path / "data"


def test_what_is_there_is_described_in_json_values(root):
    described = json.loads(json.dumps(describe_installation()))
    assert described["data_path"] == str(root)
    assert described["data_path_exists"] is True
    assert described["package"] is None
    assert described["assets"] == {"behavior-1k-assets": True, "omnigibson-robot-assets": True}
    assert described["key"] is True
    assert described["instances"] == {
        "2025-challenge-task-instances": True,
        "2026-challenge-task-instances": True,
    }


def test_nothing_there_is_described_without_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("OMNIGIBSON_DATA_PATH", str(tmp_path / "nowhere"))
    assert describe_installation()["data_path_exists"] is False
    assert set(assets_present().values()) == {False}
    assert not key_present()
    assert not instance_files_present(GENERATIONS["2026"])


def test_versions_are_read_from_the_assets_and_from_the_text_of_the_package(
    root, tmp_path, monkeypatch
):
    code = tmp_path / "OmniGibson" / "omnigibson" / "utils" / "asset_utils.py"
    code.parent.mkdir(parents=True)
    (code.parents[1] / "__init__.py").write_text("raise RuntimeError('imported')")
    code.write_text(
        'BEHAVIOR_1K_ASSET_VERSION = "3.9.0rc9"\nOMNIGIBSON_ROBOT_ASSETS_VERSION = "3.8.3"\n'
        'MINIMUM_ROBOT_ASSETS_VERSION = "3.8.2"\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path / "OmniGibson"))
    (root / "behavior-1k-assets" / "VERSION").write_text("3.7.2rc1\n")
    assert assets_version() == {
        "behavior-1k-assets": {"installed": "3.7.2rc1", "wanted": "3.9.0rc9"},
        "omnigibson-robot-assets": {"installed": None, "wanted": "3.8.2"},
    }


@pytest.mark.parametrize(
    ("name", "download"),
    [
        ("behavior-1k-assets", r"download_behavior_1k_assets\(accept_license=True\)"),
        ("omnigibson-robot-assets", r"download_omnigibson_robot_assets\(\)"),
        ("omnigibson.key", r"download_behavior_1k_assets\(accept_license=True\)"),
        ("2026-challenge-task-instances", r"download_2026_challenge_task_instances\(\)"),
    ],
)
def test_what_a_run_needs_is_refused_before_it_starts(root, name, download):
    (root / name).rename(root / "away")
    with pytest.raises(UnavailableError, match=f"{name} is missing: .*{download}"):
        of("2026")


def test_assets_that_are_not_encrypted_need_no_key(root):
    (root / "omnigibson.key").unlink()
    (root / "behavior-1k-assets" / "objects").rename(root / "away")
    assert of("2026").root == root


def test_no_data_path_says_which_variable_to_set(tmp_path, monkeypatch):
    monkeypatch.setenv("OMNIGIBSON_DATA_PATH", str(tmp_path / "nowhere"))
    with pytest.raises(UnavailableError, match="set OMNIGIBSON_DATA_PATH"):
        data.require_data(GENERATIONS["2026"])
