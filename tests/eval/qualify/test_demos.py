"""LeRobot data sets of demonstrations, written and read."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from demo_files import TASK, made_demo

from b1k_envs.errors import UsageError
from b1k_envs.tasks.table import get_task
from b1k_eval.qualify.demos import find_demos, read_demo


@pytest.fixture(params=["v2.1", "v3.0"])
def layout(request):
    return request.param


def edit_info(folder, **changes):
    path = folder / "meta" / "info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("states", ["2025", "2026"])
def test_what_is_written_is_read_in_both_layouts(recordings, tmp_path, layout, states):
    made = [made_demo(instance, steps=5 + instance, layout=states) for instance in (7, 1, 120)]
    recordings.write(made, tmp_path / "set", TASK, layout)
    found = find_demos(tmp_path / "set", TASK)
    assert found.remarks == ()
    assert [entry.instance_id for entry in found.entries] == [1, 7, 120]
    assert [entry.name for entry in found.entries][:1] == ["episode_00310010"]
    for entry in found.entries:
        demo = read_demo(entry)
        (was,) = [each for each in made if each.entry.instance_id == entry.instance_id]
        assert demo.layout == states
        assert np.array_equal(demo.actions, was.actions)
        assert np.array_equal(demo.states, was.states)
        assert demo.sha256 == was.sha256


def test_files_of_both_layouts_lie_where_the_published_data_sets_have_them(recordings, tmp_path):
    made = [made_demo(instance) for instance in (1, 2, 3)]
    for layout in ("v2.1", "v3.0"):
        recordings.write(made, tmp_path / layout, TASK, layout)
    assert (tmp_path / "v2.1" / "data" / "task-0031" / "episode_00310020.parquet").is_file()
    table = pq.read_table(tmp_path / "v3.0" / "data" / "chunk-031" / "file-000.parquet")
    assert set(table.column("episode_index").to_pylist()) == {0, 1}  # counted through, as there
    rows = pq.read_table(tmp_path / "v3.0" / "meta" / "episodes" / "chunk-031").to_pylist()
    assert [row["raw_episode_id"] for row in rows] == [310010, 310020, 310030]


def test_a_folder_that_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"is no LeRobot data set: .*info\.json cannot be read"):
        find_demos(tmp_path, TASK)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fps": 10}, "has fps 10; the demonstrations of BEHAVIOR-1K have 30"),
        ({"codebase_version": "v1.6"}, "codebase_version 'v1.6'; LeRobot data sets of v2.x and"),
    ],
)
def test_another_rate_or_version_is_refused(recordings, tmp_path, layout, changes, message):
    recordings.write([made_demo(1)], tmp_path / "set", TASK, layout)
    edit_info(tmp_path / "set", **changes)
    with pytest.raises(UsageError, match=message):
        find_demos(tmp_path / "set", TASK)


def test_a_data_set_of_other_tasks_says_of_which(recordings, tmp_path, layout):
    recordings.write([made_demo(1), made_demo(2)], tmp_path / "set", TASK, layout)
    with pytest.raises(
        UsageError,
        match=r"no episode of task 0 turning_on_radio, but of clean_boxing_gloves \(31\): 2: "
        "choose its --task",
    ):
        find_demos(tmp_path / "set", get_task(0))


def test_an_empty_data_set_is_refused(recordings, tmp_path):
    recordings.write([made_demo(1)], tmp_path / "set", TASK, "v2.1")
    (tmp_path / "set" / "data" / "task-0031" / "episode_00310010.parquet").unlink()
    with pytest.raises(UsageError, match="no episode is in it"):
        find_demos(tmp_path / "set", TASK)


def test_files_that_were_not_downloaded_are_left_out_and_told(recordings, tmp_path):
    recordings.write([made_demo(i) for i in (1, 2, 3)], tmp_path / "set", TASK, "v3.0")
    files = tmp_path / "set" / "data" / "chunk-031"
    (files / "file-001.parquet").unlink()
    found = find_demos(tmp_path / "set", TASK)
    assert [entry.instance_id for entry in found.entries] == [1, 2]
    assert found.remarks == ("1 episodes have no data file here",)
    (files / "file-000.parquet").unlink()
    with pytest.raises(UsageError, match=r"no data file is there, such as data/chunk-031/file-000"):
        find_demos(tmp_path / "set", TASK)


def rewrite_episodes(folder, change):
    (file,) = (folder / "meta" / "episodes").rglob("*.parquet")
    rows = [change(row) for row in pq.read_table(file).to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows), file)


def test_episodes_that_are_counted_through_do_not_say_their_initial_state(recordings, tmp_path):
    made = [made_demo(i) for i in range(1, 14)]
    recordings.write(made, tmp_path / "set", TASK, "v3.0")

    def without(row, first=0):
        del row["raw_episode_id"], row["task_instance_id"]
        return {**row, "episode_index": row["episode_index"] + first}

    rewrite_episodes(tmp_path / "set", without)
    with pytest.raises(UsageError, match="are counted through from 0 and do not say which initial"):
        find_demos(tmp_path / "set", TASK)
    # Nor do those from the middle of such a data set: 13 tries of one initial state are none.
    recordings.write(made, tmp_path / "later", TASK, "v3.0")
    rewrite_episodes(tmp_path / "later", lambda row: without(row, first=310_200))
    with pytest.raises(UsageError, match="counted through from 310200"):
        find_demos(tmp_path / "later", TASK)


def test_the_stated_instance_is_believed_and_a_contradiction_told(recordings, tmp_path):
    recordings.write([made_demo(1), made_demo(2)], tmp_path / "set", TASK, "v3.0")
    rewrite_episodes(tmp_path / "set", lambda row: {**row, "task_instance_id": 40})
    found = find_demos(tmp_path / "set", TASK)
    assert [entry.instance_id for entry in found.entries] == [40, 40]
    assert "2 episodes have a task_instance_id that is not the instance" in found.remarks[0]


def test_a_damaged_episode_is_told_with_its_file(recordings, tmp_path):
    recordings.write([made_demo(1)], tmp_path / "set", TASK, "v2.1")
    file = tmp_path / "set" / "data" / "task-0031" / "episode_00310010.parquet"
    whole = pq.read_table(file)
    (entry,) = find_demos(tmp_path / "set", TASK).entries
    pq.write_table(whole.drop(["observation.state"]), file)
    with pytest.raises(UsageError, match=r"00310010\.parquet has no column 'observation.state'"):
        read_demo(entry)
    pq.write_table(whole.slice(1), file)
    with pytest.raises(UsageError, match="must have frame_index 0 to N - 1, has 5 rows from 1 to"):
        read_demo(entry)
    short = pa.array([[0.0] * 22] * 6, pa.list_(pa.float32()))
    pq.write_table(whole.set_column(whole.column_names.index("action"), "action", short), file)
    with pytest.raises(UsageError, match=r"expected action \[23\] .*found \[22\]"):
        read_demo(entry)
    nan = pa.array([[0.0] * 22 + [float("nan")]] * 6, pa.list_(pa.float32()))
    pq.write_table(whole.set_column(whole.column_names.index("action"), "action", nan), file)
    with pytest.raises(UsageError, match="action is not finite in frame 0"):
        read_demo(entry)
    file.write_bytes(b"PAR1")
    with pytest.raises(UsageError, match="cannot be read as a demonstration"):
        read_demo(entry)
