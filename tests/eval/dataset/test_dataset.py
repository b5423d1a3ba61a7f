"""The data set of a run: what is in it, held against what the world showed and was told."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import recorded_run
from killed_run import RECORD

from b1k_envs.base import VIEWS
from b1k_envs.errors import EnvError, UsageError
from b1k_eval.cli.resolving import resolve_execution
from b1k_eval.dataset import writing
from b1k_eval.dataset.choosing import choose, write_recorded
from b1k_eval.dataset.features import COUNTED, FEATURES, picture_key
from b1k_eval.dataset.film import Film
from b1k_eval.dataset.recorder import FRAMES_FILE, film_file
from b1k_eval.dataset.statistics import of_numbers, of_pictures, together
from b1k_eval.execution import Execution, _parse_record
from b1k_eval.records.loading import read_tasks
from b1k_eval.selection import share
from b1k_policies.options import record

KEYS = [picture_key(view) for view in VIEWS]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run, its data set, and what was written."""
    folder = tmp_path_factory.mktemp("recorded")
    written = recorded_run.make_run(folder / "run", folder / "data")
    return folder / "run", folder / "data", written


def rows_of(dataset):
    files = sorted((dataset / "data").rglob("*.parquet"))
    return pd.concat([pq.read_table(file).to_pandas() for file in files], ignore_index=True)


def episodes_of(dataset):
    return pq.read_table(dataset / "meta/episodes/chunk-000/file-000.parquet").to_pandas()


def content(dataset):
    """All that is in a data set, by path; without the folders of its runs."""
    files = sorted(path for path in dataset.rglob("*") if path.is_file())
    found = {str(path.relative_to(dataset)): path.read_bytes() for path in files}
    found.pop("meta/runs.json")
    return found


def decoded(video):
    """A video's pictures, uint8 [N, H, W, 3] RGB, by OpenCV and its own ffmpeg."""
    capture, pictures = cv2.VideoCapture(str(video)), []
    while (got := capture.read())[0]:
        pictures.append(got[1][:, :, ::-1])
    capture.release()
    return np.array(pictures)


def test_rows_are_what_was_seen_before_and_what_was_executed(made):
    run, dataset, written = made
    rows, place = rows_of(dataset), 0
    assert written.outcomes == {"failure": 4, "success": 2}
    for number, episode in enumerate(read_tasks(run)[0].episodes):
        mine = rows[rows.episode_index == number]
        trace = pq.read_table(episode.folder / "trace.parquet").to_pandas()
        count = len(trace)
        assert [*mine["index"]] == [*range(place, place + count)]
        assert [*mine.frame_index] == [*range(count)]
        assert mine.timestamp.to_numpy() == pytest.approx(np.arange(count) / 30)
        # What the toy world writes into the proprio is the number of steps before.
        assert [state[0] for state in mine["observation.state"]] == [*range(count)]
        for kind, name in (("action", "action"), ("command", "commanded_action")):
            wanted = trace[[f"{kind}_{i}" for i in range(23)]].to_numpy()
            assert np.array_equal(np.stack(mine[name]), wanted)
        assert [*mine["next.done"]] == [False] * (count - 1) + [True]
        assert [*mine["next.success"]] == [False] * (count - 1) + [episode.success]
        assert mine["next.reward"].sum() == float(episode.success)
        assert np.array_equal(mine["next.q_score"].to_numpy(), trace.q_score.to_numpy())
        names = [name for name in trace if name.startswith("subgoal:")]
        assert np.array_equal(np.stack(mine["next.subgoals"]), trace[names].to_numpy())
        assert {*mine.outcome} == {episode.outcome}
        assert {*mine["policy.skill"]} == {"move to"}
        place += count
    noisy = np.stack(rows.action) - np.stack(rows.commanded_action)
    assert np.abs(noisy).max() > 0.01
    assert len(rows) == place == written.frames


def test_pictures_come_back_in_their_order(made):
    run, dataset, _ = made
    for number, episode in enumerate(read_tasks(run)[0].episodes[:2]):
        for place, key in enumerate(KEYS):
            seen = decoded(dataset / "videos" / key / "chunk-000" / f"file-{number:03d}.mp4")
            wanted = [recorded_run.picture(place, step) for step in range(episode.steps)]
            assert seen.shape == (episode.steps, 48, 64, 3)
            assert np.abs(seen.astype(float) - wanted).mean() < 3.0


def test_meta_says_where_everything_is(made):
    run, dataset, written = made
    info = json.loads((dataset / "meta/info.json").read_bytes())
    episodes = episodes_of(dataset)
    assert (info["codebase_version"], info["fps"], info["robot_type"]) == ("v3.0", 30, "R1Pro")
    assert info["total_episodes"] == len(episodes) == written.episodes == 6
    assert info["total_frames"] == episodes.length.sum() == len(rows_of(dataset))
    assert [*info["features"]] == [*KEYS, *(each.name for each in FEATURES), *COUNTED]
    assert [*rows_of(dataset).columns] == [*info["features"]][3:]
    for name, each in info["features"].items():
        names = each["names"]
        assert each["dtype"] == "video" or names is None or [len(names)] == each["shape"], name
    assert [*episodes.dataset_to_index[:-1]] == [*episodes.dataset_from_index[1:]]
    assert [*episodes.outcome] == [each.outcome for each in read_tasks(run)[0].episodes]
    assert [*episodes.raw_episode_id] == [
        310000 + 10 * number for number in episodes.task_instance_id
    ]
    for key in KEYS:
        ends = episodes[f"videos/{key}/to_timestamp"] * 30
        assert ends.to_numpy() == pytest.approx(episodes.length.to_numpy())
    tasks = pd.read_parquet(dataset / "meta/tasks.parquet")
    assert (
        [*tasks.index] == [episodes.tasks[0][0]] == [recorded_run.SETTINGS.task_entry().instruction]
    )
    assert [*tasks.task_index] == [0]
    (one,) = json.loads((dataset / "meta/runs.json").read_bytes())
    assert one["identity"]["settings"]["action_noise"] == "0.05,0.3,1"


def test_statistics_of_all_are_those_of_the_rows(made):
    _, dataset, _ = made
    stats = json.loads((dataset / "meta/stats.json").read_bytes())
    rows = rows_of(dataset)
    for name in ("action", "observation.state", "next.subgoals"):
        values = np.stack(rows[name]).astype(np.float64)
        assert stats[name]["mean"] == pytest.approx(values.mean(axis=0))
        assert stats[name]["std"] == pytest.approx(values.std(axis=0), abs=1e-9)
        assert stats[name]["max"] == pytest.approx(values.max(axis=0))
        assert stats[name]["count"] == [len(rows)]
    assert "policy.skill" not in stats
    blue = np.array(stats[KEYS[1]]["mean"]).reshape(3)
    assert blue[0] == pytest.approx(60 / 255)  # the second camera's red is 60 everywhere
    assert np.array(stats[KEYS[1]]["std"]).reshape(3)[0] == pytest.approx(0, abs=1e-6)


def test_statistics_leave_out_what_is_not_a_number():
    values = np.array([[1.0, 2.0], [np.nan, 0.0], [3.0, 4.0]])
    found = of_numbers(values)
    assert found is not None
    assert [*found["mean"]] == [2.0, 3.0]
    assert [*found["count"]] == [2]
    assert of_numbers(np.full((3, 1), np.nan)) is None
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(50, 3)), rng.normal(2, 3, size=(20, 3))
    both, joined = np.concatenate((one, two)), together([of_numbers(one), of_numbers(two)])
    assert joined["std"] == pytest.approx(both.std(axis=0))
    levels = rng.integers(0, 256, (3, 1000))
    seen = of_pictures(np.stack([np.bincount(each, minlength=256) for each in levels]), 7)
    assert seen["mean"].reshape(3) == pytest.approx(levels.mean(axis=1) / 255)
    median = np.median(levels, axis=1) / 255
    assert seen["q50"].reshape(3) == pytest.approx(median, abs=1 / 255)


def test_only_successes_leave_no_pictures_of_the_others(tmp_path):
    written = recorded_run.make_run(tmp_path / "run", tmp_path / "data", only="success")
    assert written.outcomes == {"success": 2}
    for episode in read_tasks(tmp_path / "run")[0].episodes:
        films = [(episode.folder / film_file(view)).exists() for view in VIEWS]
        assert films == [episode.outcome == "success"] * 3


def test_what_was_not_recorded_is_told(made, tmp_path):
    said = []
    folder = tmp_path / "run"
    recorded_run.make_run(folder, plan=recorded_run.PLAN[:2])
    (folder / f"episodes/clean_boxing_gloves-1-0/{FRAMES_FILE}").unlink()
    written = write_recorded(folder, tmp_path / "data", "all", said.append)
    assert written.episodes == 1
    assert re.fullmatch(r"not in the data set: 1 that were run without --record; .*", said[0])
    (folder / f"episodes/clean_boxing_gloves-0-0/{FRAMES_FILE}").unlink()
    assert write_recorded(folder, tmp_path / "none", "all", said.append) is None
    assert said[-1].startswith(f"no data set in {tmp_path / 'none'}")


def test_shards_merged_and_one_run_give_the_same_data(made, tmp_path):
    from b1k_eval.records.merging import merge_runs

    for number in (0, 1):
        part = f"{number}/2"
        plan = share(recorded_run.PLAN, part)
        recorded_run.make_run(tmp_path / str(number), plan=plan, shard=part)
    merged = merge_runs([tmp_path / "0", tmp_path / "1"], tmp_path / "all").store.path
    writing.write_dataset(choose(read_tasks(merged), "all").sources, tmp_path / "data")
    one, two = content(made[1]), content(tmp_path / "data")
    assert one.keys() == two.keys()
    assert all(one[name] == two[name] for name in one)


def test_a_damaged_or_foreign_episode_is_named(made, tmp_path):
    sources = choose(read_tasks(made[0]), "all").sources
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / FRAMES_FILE).write_bytes(b"PAR1 no")
    with pytest.raises(EnvError, match=r"frames\.parquet cannot be read.*`record` again"):
        writing.write_dataset([sources[0]._replace(folder=broken)], tmp_path / "data")
    shorter = min(sources, key=lambda each: each.episode.steps)
    longer = max(sources, key=lambda each: each.episode.steps)
    with pytest.raises(EnvError, match=r"has \d+ rows, the episode \d+ steps"):
        writing.write_dataset([longer._replace(folder=shorter.folder)], tmp_path / "data")
    assert not any(tmp_path.glob("data*"))
    assert not any(tmp_path.glob(".tmp-*"))


def test_a_folder_of_something_else_is_refused(made, tmp_path):
    writing.check_target(tmp_path / "new", [])
    session = RECORD["sessions"][0] | {"started_at": str(made[0])}
    writing.check_target(made[1], [session])
    with pytest.raises(UsageError, match="holds the data set of another run"):
        writing.check_target(made[1], [])
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="is not empty and holds no data set of b1k-eval"):
        writing.check_target(tmp_path, [session])


def test_the_option_says_what_it_wants(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Execution(record=_parse_record("lerobot:some")).dataset == tmp_path / "some"
    assert _parse_record("off") == "off"
    for wrong in ("some", "lerobot:", "rlds:some"):
        with pytest.raises(UsageError, match=re.escape("give lerobot:DIR")):
            _parse_record(wrong)
    with pytest.raises(UsageError, match="--record-only goes with --record"):
        Execution(record_only="success")


def test_a_resumed_run_goes_on_recording_unless_told_otherwise(tmp_path):
    typed = {"record": f"lerobot:{tmp_path}", "record_only": "success"}
    before = {"sessions": [{"execution": record(resolve_execution(typed))}]}
    again = resolve_execution({}, before)
    assert (again.dataset, again.record_only) == (tmp_path, "success")
    off = resolve_execution({"record": "off"}, before)
    assert (off.dataset, off.record_only) == (None, "all")


def test_a_film_that_cannot_be_written_says_so(tmp_path):
    film = Film(tmp_path / "nowhere" / "film.mp4", 30)

    def shoot():
        for step in range(200):
            film.add(recorded_run.picture(0, step % 20))
        film.finish()

    with pytest.raises(EnvError, match=r"film\.mp4: ffmpeg failed: .*No such file"):
        shoot()
    film.abort()


@pytest.mark.slow
def test_two_workers_and_one_process_give_the_same_data(made, tmp_path):
    recorded_run.make_run(tmp_path / "run", tmp_path / "data", workers=2)
    one, two = content(made[1]), content(tmp_path / "data")
    assert one.keys() == two.keys()
    assert all(one[name] == two[name] for name in one)


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_it_has_every_episode_once(made, tmp_path):
    def start(name, at):
        words = [sys.executable, recorded_run.__file__, name, f"{name}-data", str(at)]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)

    whole = start("whole", 0)
    assert whole.returncode == 0, whole.stderr
    count = int(whole.stdout)
    for name, at in (("early", count // 3), ("late", count - 12)):
        killed = start(name, at)
        assert killed.returncode == -9, killed.stderr
        dataset = tmp_path / f"{name}-data"
        assert not dataset.exists()  # never a part of it
        again = start(name, 0)
        assert again.returncode == 0, again.stderr
        one, two = content(made[1]), content(dataset)
        assert one.keys() == two.keys()
        assert all(one[file] == two[file] for file in one)
        assert not [*tmp_path.glob(".tmp-*")]
