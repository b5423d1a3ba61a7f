"""Replaying: what is executed again, what is noticed, and what the Rerun file holds."""

from __future__ import annotations

import json
import resource
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from doubles import PREDICATES, BreakingEnv, DrivePolicy, ToyEnv
from run_folders import TASK, finished_run
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from b1k_envs.errors import EnvError, UnavailableError, UsageError
from b1k_envs.r1pro import ACTION_SLICES, CAMERAS
from b1k_eval.cli.main import app
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.loop.runner import run_episode
from b1k_eval.records.loading import read_run_data
from b1k_eval.records.scoring import ScoreKeeper
from b1k_eval.records.store import StorageError
from b1k_eval.records.trace import Trace
from b1k_eval.records.trace_reading import DamagedTraceError
from b1k_eval.replay.recorded import Recorded, find_episode, read_recorded, world_settings
from b1k_eval.replay.retrace import compare, execute
from b1k_eval.replay.rrd import RrdWriter, check_target
from b1k_policies.base import EpisodeInfo

VIEWS = ("head", "left_wrist", "right_wrist")
STEPS = 41  # the limit and one more


def b1k_eval(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def make_run(folder: Path, *options: object) -> Path:
    common = ("--task", 31, "--policy", "expert", "--max-steps", STEPS - 1, "--no-video")
    made = b1k_eval("run", *common, "--out", folder, *options)
    assert made.exit_code == 0, made.stderr
    return folder


@pytest.fixture(scope="module")
def expert_run(tmp_path_factory) -> Path:
    """For reading only; the expert drives off at once."""
    return make_run(tmp_path_factory.mktemp("runs") / "expert")


@pytest.fixture(scope="module")
def noisy_run(tmp_path_factory) -> Path:
    """Two rollouts of a policy that holds still, disturbed: all motion is the noise's."""
    folder = tmp_path_factory.mktemp("runs") / "noisy"
    return make_run(folder, "--policy", "hold", "--action-noise", "0.05", "--rollouts", 2)


def trace_of(run: Path, rollout: int = 0) -> Path:
    return run / "episodes" / f"{TASK}-0-{rollout}" / "trace.parquet"


def tampered(run: Path, tmp_path: Path, column: str, step: int, change) -> Path:
    """A copy whose trace has another value after a step."""
    copy = shutil.copytree(run, tmp_path / "tampered")
    table = pq.read_table(trace_of(copy))
    values = table.column(column).to_pylist()
    values[step - 1] = change(values[step - 1])
    place = table.schema.get_field_index(column)
    field = table.schema.field(column)
    table = table.set_column(place, field, pa.array(values, field.type))
    pq.write_table(table, trace_of(copy))
    return copy


def replayed(run: Path, episode: object = 0, *options: object):
    result = b1k_eval("replay", run, episode, "--json", *options)
    return result.exit_code, json.loads(result.stdout)


# --- the check -------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_episode_of_the_expert_comes_out_again_bit_for_bit(expert_run):
    code, document = replayed(expert_run)
    assert code == 0
    assert document["equal"] is True
    assert document["steps"] == document["replayed_steps"] == STEPS
    assert document["largest_position_m"] == 0.0
    assert document["remarks"] == []
    base = pd.read_parquet(trace_of(expert_run))["base_x"]
    assert abs(base.iloc[-1] - base.iloc[0]) > 0.1  # it would not, had nothing been executed


@pytest.mark.slow
def test_with_noise_the_executed_actions_are_replayed_and_not_the_commands(noisy_run):
    tables = [pd.read_parquet(trace_of(noisy_run, rollout)) for rollout in (0, 1)]
    ends = [table["left_eef_x"].iloc[-1] for table in tables]
    assert abs(ends[0] - ends[1]) > 1e-3  # what one rollout's actions lead to is not the other's
    assert (tables[1]["action_3"] != tables[1]["command_3"]).any()
    for name in ("0-0", "0-1"):
        code, document = replayed(noisy_run, name)
        assert (code, document["equal"]) == (0, True)
        assert document["episode"].endswith(name[-4:])


@pytest.mark.slow
def test_the_first_step_whose_position_differs_is_reported_with_both_values(expert_run, tmp_path):
    run = tampered(expert_run, tmp_path, "right_eef_z", 21, lambda z: z + 0.25)
    code, document = replayed(run)
    assert code == 1
    assert document["equal"] is False
    assert document["first_step"] == 21
    assert document["differing_states"] == 1
    assert document["largest_position_m"] == pytest.approx(0.25)
    (difference,) = document["first"]
    assert difference["what"] == "right_eef_z"
    assert difference["recorded"] - difference["replayed"] == pytest.approx(0.25)
    said = b1k_eval("replay", run, 0)
    assert said.exit_code == 1
    assert f"{TASK}-0-0: from step 21 on, in 1 of 42 states; positions by up to 2.5e-01 m" in (
        said.stdout
    )
    assert "right_eef_z" in said.stdout


@pytest.mark.slow
def test_positions_may_differ_by_a_micrometre_and_no_more(expert_run, tmp_path):
    run = tampered(expert_run, tmp_path / "less", "base_y", 5, lambda y: y + 0.9e-6)
    code, document = replayed(run)
    assert (code, document["equal"]) == (0, True)
    assert document["largest_position_m"] == pytest.approx(0.9e-6)
    run = tampered(expert_run, tmp_path / "more", "base_y", 5, lambda y: y + 1.1e-6)
    assert replayed(run)[0] == 1


@pytest.mark.slow
@pytest.mark.parametrize("column", ["subgoal:near_washer", "q_score"])
def test_goal_and_subgoals_have_to_be_equal(expert_run, tmp_path, column):
    run = tampered(expert_run, tmp_path, column, STEPS, lambda value: type(value)(1 - value))
    code, document = replayed(run)
    assert (code, document["first_step"]) == (1, STEPS)
    assert [difference["what"] for difference in document["first"]] == [column]


def test_another_action_leads_to_another_course_from_that_step_on(expert_run, tmp_path):
    run = tampered(expert_run, tmp_path, "action_0", 12, lambda vx: vx - 0.5)
    code, document = replayed(run)
    assert (code, document["first_step"]) == (1, 12)
    assert document["differing_states"] == STEPS - 11


@pytest.mark.slow
def test_a_goal_that_started_otherwise_differs_at_step_0(expert_run, tmp_path):
    copy = shutil.copytree(expert_run, tmp_path / "copy")
    file = trace_of(copy).with_name("result.json")
    result = json.loads(file.read_text())
    name = next(iter(result["initial_predicates"]))
    result["initial_predicates"][name] = True
    file.write_text(json.dumps(result))
    code, document = replayed(copy)
    assert (code, document["first_step"]) == (1, 0)
    assert document["first"] == [{"what": f"predicate:{name}", "recorded": True, "replayed": False}]


@pytest.mark.slow
def test_other_versions_than_those_of_the_run_are_remarked(expert_run, tmp_path):
    copy = shutil.copytree(expert_run, tmp_path / "copy")
    record = json.loads((copy / "run.json").read_text())
    record["identity"]["env"]["sim_version"] = "0.1"
    record["identity"]["env"]["settings"]["physics_hz"] = 50
    record["sessions"][0]["cpu"] = "abacus"
    (copy / "run.json").write_text(json.dumps(record))
    _, document = replayed(copy)
    said = "\n".join(document["remarks"])
    assert "MuJoCo was 0.1, is " in said
    assert "physics_hz was 50, is " in said
    assert "the processor was abacus, is " in said
    assert len(document["remarks"]) == 3


# --- against a world that a test can break ---------------------------------------------------


def record(env: ToyEnv, episode: EpisodeInfo, folder: Path) -> Recorded:
    """Drive the toy to its end, and read what a run folder keeps of that."""
    trace, keeper = Trace(), ScoreKeeper()
    policy = DrivePolicy(vx=1.0)
    chunking = RecedingHorizon(4, policy.chunk_length)
    driven = run_episode(env, policy, episode, chunking, subscribers=[trace, keeper])
    run = finished_run(folder, {0: "success"})
    trace.write(trace_of(run))
    file = trace_of(run).with_name("result.json")
    result = json.loads(file.read_text())
    result["steps"] = driven.steps
    result["initial_predicates"] = keeper.initial_predicates
    result["subgoals"] = keeper.subgoal_steps
    file.write_text(json.dumps(result))
    lines = run / "episodes.jsonl"
    lines.write_text(lines.read_text().replace('"steps": 10', f'"steps": {driven.steps}'))
    return read_recorded(read_run_data(run).episodes[0])


@pytest.fixture
def toy_recorded(toy_env, episode, tmp_path) -> Recorded:
    """Ten steps: half way after five, there after ten."""
    return record(toy_env, episode, tmp_path / "run")


def test_a_replay_executes_the_recorded_actions_from_a_reset_world(toy_recorded):
    env = ToyEnv()
    seen: list[int] = []
    replay = execute(env, toy_recorded, watch=seen.append)
    assert env.calls == ["reset"] + ["step"] * 10
    np.testing.assert_array_equal(np.array(env.actions)[:, 0], np.ones(10))
    assert seen == list(range(11))
    assert compare(toy_recorded.states, replay).equal
    np.testing.assert_array_equal(replay.states.numbers["base_x"], np.arange(1, 11) * 0.125)
    half_way = replay.states.truths[f"predicate:{PREDICATES[0]}"]
    assert half_way.tolist() == [False] * 5 + [True] * 6


def test_what_held_at_the_start_is_no_difference(episode, tmp_path):
    recorded = record(ToyEnv(start=1.0), episode, tmp_path / "run")
    assert len(recorded.actions) == 2
    assert compare(recorded.states, execute(ToyEnv(start=1.0), recorded)).equal
    found = compare(recorded.states, execute(ToyEnv(start=0.5), recorded))
    assert found.first_step == 0
    assert {(d.what, d.recorded, d.replayed) for d in found.first} == {
        (f"predicate:{PREDICATES[0]}", True, False),
        ("subgoal:half_way", True, False),
    }


def test_a_world_that_fails_in_the_replay_differs_there(toy_recorded):
    replay = execute(BreakingEnv(hook="step", at_step=6), toy_recorded)
    found = compare(toy_recorded.states, replay)
    assert (found.first_step, found.replayed_steps, found.differing_states) == (7, 6, 4)
    (difference,) = found.first
    assert (difference.what, difference.replayed) == ("world", "the simulator fell over")


def test_a_difference_before_the_world_fails_comes_first(toy_recorded):
    class Shifted(BreakingEnv):
        def reset(self, instance: int, rollout: int, seed: int) -> None:
            super().reset(instance, rollout, seed)
            self.x = 0.125

    found = compare(toy_recorded.states, execute(Shifted(hook="step", at_step=6), toy_recorded))
    assert (found.first_step, found.differing_states) == (1, 10)
    assert {difference.what for difference in found.first} == {
        "base_x",
        "left_eef_x",
        "right_eef_x",
    }
    assert found.largest_position_m == 0.125


def test_a_goal_of_other_predicates_differs_at_step_0(toy_recorded):
    class Renamed(ToyEnv):
        def subgoals(self) -> dict[str, bool]:
            held = super().subgoals()
            return {"arrived" if name == "there" else name: v for name, v in held.items()}

    found = compare(toy_recorded.states, execute(Renamed(), toy_recorded))
    assert found.first_step == 0
    assert {(d.what, d.recorded, d.replayed) for d in found.first} == {
        ("subgoal:there", False, None),
        ("subgoal:arrived", None, False),
    }


# --- which episode ---------------------------------------------------------------------------


def test_an_episode_is_found_by_all_its_names(tmp_path):
    run = read_run_data(finished_run(tmp_path / "run", {3: ["success", "failure"], 12: "error"}))
    for name, expected in (
        ("3", (3, 0)),
        ("3-1", (3, 1)),
        (f"{TASK}-3-1", (3, 1)),
        ("31-3-1", (3, 1)),
        ("12", (12, 0)),
    ):
        found = find_episode(run, name)
        assert (found.key.instance, found.key.rollout) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("4", r"no episode clean_boxing_gloves-4-0: .* instances are 3, 12, its rollouts 0 to 1"),
        ("30-3-0", r"no episode .*-3-0: its task is clean_boxing_gloves"),
        ("12-1", r"clean_boxing_gloves-12-1 has no result yet; finish it with --resume"),
        ("3-1", r"clean_boxing_gloves-3-1 cannot be used: result.json cannot be read"),
        ("first", r"EPISODE 'first' is not of the form TASK-INSTANCE-ROLLOUT"),
        ("boxing-3-0", r"there is no task"),
    ],
)
def test_an_episode_that_is_not_there_is_said_with_the_reason(tmp_path, name, message):
    folder = finished_run(tmp_path / "run", {3: ["success", "failure"], 12: "success"})
    (folder / "episodes" / f"{TASK}-3-1" / "result.json").unlink()
    with pytest.raises(UsageError, match=message):
        find_episode(read_run_data(folder), name)


def test_a_run_of_another_simulator_is_refused(expert_run, tmp_path):
    run = read_run_data(finished_run(tmp_path / "run", {0: "success"}, sim="omnigibson"))
    with pytest.raises(UsageError, match=r"was run in omnigibson: only runs of the MuJoCo twin"):
        world_settings(run)
    refused = b1k_eval("replay", run.path, 0)
    assert refused.exit_code == 2


def test_an_episode_without_a_step_or_a_trace_has_nothing_to_execute(tmp_path):
    folder = finished_run(tmp_path / "run", {0: "error", 1: "success"})
    for name in ("episodes.jsonl", f"episodes/{TASK}-0-0/result.json"):
        file = folder / name
        file.write_text(file.read_text().replace('"steps": 10', '"steps": 0', 1))
    none, traceless = read_run_data(folder).episodes
    with pytest.raises(UsageError, match="ended before its first step"):
        read_recorded(none)
    with pytest.raises(DamagedTraceError, match=r"has no trace\.parquet"):
        read_recorded(traceless)


def test_an_action_that_is_not_finite_is_damage(expert_run, tmp_path):
    run = tampered(expert_run, tmp_path, "action_4", 3, lambda value: float("nan"))
    with pytest.raises(DamagedTraceError, match=r"column 'action_4' has a value that is not"):
        read_recorded(read_run_data(run).episodes[0])


# --- the Rerun file --------------------------------------------------------------------------


@pytest.mark.slow
def test_without_rerun_the_check_works_and_the_file_says_how_to_get_it(
    expert_run, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "rerun", None)
    assert replayed(expert_run)[0] == 0
    refused = b1k_eval("replay", expert_run, 0, "--rerun", tmp_path / "x.rrd")
    assert refused.exit_code == 4
    assert "pip install '.[rerun]' in the checkout" in refused.stderr
    assert not list(tmp_path.iterdir())


def test_a_rerun_that_hides_a_full_disk_is_too_old(tmp_path, monkeypatch):
    pytest.importorskip("rerun")
    monkeypatch.setattr(metadata, "version", lambda name: "0.25.1")
    with pytest.raises(UnavailableError, match=r"rerun-sdk 0\.26 or later, here is 0\.25\.1"):
        check_target(tmp_path / "x.rrd")


def test_senseless_options_are_refused(expert_run, tmp_path):
    refused = b1k_eval("replay", expert_run, 0, "--every", 3)
    assert (refused.exit_code, "only means something with --rerun" in refused.stderr) == (2, True)
    refused = b1k_eval("replay", expert_run, 0, "--rerun", tmp_path / "x.mp4")
    assert (refused.exit_code, "must end in .rrd" in refused.stderr) == (2, True)


EVERY = 10
PICTURES = [0, 10, 20, 30, 40, STEPS]


class Read:
    """A file as rerun itself reads it: tables by entity, what is at all times apart."""

    def __init__(self, path: Path) -> None:
        chunk = pytest.importorskip("rerun.chunk")
        self.tables: dict[str, pa.Table] = {}
        self.fixed: dict[str, dict[str, list]] = {}
        found: dict[str, list[pa.RecordBatch]] = {}
        for part in chunk.RrdReader(path).store().stream():
            batch = part.to_record_batch()
            if part.is_static:
                self.fixed.setdefault(part.entity_path, {}).update(batch.to_pydict())
            else:
                assert set(part.timeline_names) == {"step", "time"}, part.entity_path
                found.setdefault(part.entity_path, []).append(batch)
        for entity, batches in found.items():
            columns = [name for name in batches[0].schema.names if "RowId" not in name]
            table = pa.concat_tables(
                [pa.Table.from_batches([b]).select(columns) for b in batches]
            ).replace_schema_metadata(None)
            self.tables[entity] = table.sort_by("step")

    def steps(self, entity: str) -> list[int]:
        return self.tables[entity].column("step").to_pylist()

    def column(self, entity: str, name: str) -> np.ndarray:
        """Values, one or several a row."""
        return np.array(self.tables[entity].column(name).to_pylist())

    def pose(self, entity: str, row: int) -> np.ndarray:
        """In the parent's frame, [4, 4]."""
        matrix = np.eye(4)
        quaternion = self.column(entity, "Transform3D:quaternion")[row, 0]
        matrix[:3, :3] = Rotation.from_quat(quaternion).as_matrix()
        matrix[:3, 3] = self.column(entity, "Transform3D:translation")[row, 0]
        return matrix


@pytest.fixture(scope="module")
def rrd(noisy_run, tmp_path_factory) -> Read:
    """Of the second rollout of the disturbed run."""
    utils = pytest.importorskip("rerun.error_utils")
    file = tmp_path_factory.mktemp("rrd") / "new" / "replay.rrd"
    with warnings.catch_warnings():
        warnings.simplefilter("error", utils.RerunWarning)  # wrong use is only warned of
        code, document = replayed(noisy_run, "0-1", "--rerun", file, "--every", EVERY)
    assert code == 0
    assert document["rerun"] == str(file)
    assert [entry.name for entry in file.parent.iterdir()] == ["replay.rrd"]
    return Read(file)


@pytest.mark.slow
def test_the_file_has_every_entity_with_its_steps(rrd):
    before_on, after = list(range(STEPS + 1)), list(range(1, STEPS + 1))
    parts = ("trunk", "arm_left", "arm_right", "gripper_left", "gripper_right")
    expected = {
        "/world/base": before_on,
        **{f"/world/base/{arm}_eef": before_on for arm in ("left", "right")},
        **{f"/world/base/cameras/{view}": before_on for view in VIEWS},
        **{f"/world/base/cameras/{view}/picture": PICTURES for view in VIEWS},
        **{f"/joints/{part}": before_on for part in parts},
        **{f"/{kind}/{part}": after for kind in ("action", "command") for part in ACTION_SLICES},
        "/goal/q_score": after,
        "/goal/predicates": before_on,
        "/goal/subgoals": before_on,
    }
    found = {entity: rrd.steps(entity) for entity in rrd.tables}
    latency = found.pop("/policy/latency")
    assert latency == list(range(1, STEPS + 1, 10))  # asked before every tenth action
    assert found == expected


def test_both_timelines_tell_the_same_instant(rrd):
    for entity, table in rrd.tables.items():
        seconds = np.array([time.total_seconds() for time in table.column("time").to_pylist()])
        np.testing.assert_allclose(seconds, np.array(rrd.steps(entity)) / 30, atol=1e-6)


def test_actions_commands_and_joints_are_those_of_the_episode(rrd, noisy_run):
    trace = pd.read_parquet(trace_of(noisy_run, 1))
    for kind in ("action", "command"):
        rows = trace[[f"{kind}_{i}" for i in range(23)]].to_numpy()
        for part, columns in ACTION_SLICES.items():
            values = rrd.column(f"/{kind}/{part}", "Scalars:scalars")
            np.testing.assert_array_equal(values, rows[:, columns])
    # Held still, the joints follow what the disturbed actions ask for.
    trunk = rrd.column("/joints/trunk", "Scalars:scalars")
    np.testing.assert_allclose(trunk[0], [1.025, -1.45, -0.47, 0.0], atol=0.02)
    assert rrd.fixed["/joints/arm_left"]["SeriesLines:names"][0][2] == "left_arm_joint3"


def test_the_hands_are_in_the_world_where_the_trace_has_them(rrd, noisy_run):
    trace = pd.read_parquet(trace_of(noisy_run, 1))
    for row in (1, 17, STEPS):
        base = rrd.pose("/world/base", row)
        np.testing.assert_allclose(
            base[:3, 3], trace.loc[row - 1, ["base_x", "base_y", "base_z"]].tolist(), atol=1e-6
        )
        for arm in ("left", "right"):
            hand = (base @ rrd.pose(f"/world/base/{arm}_eef", row))[:3, 3]
            where = [trace.loc[row - 1, f"{arm}_eef_{axis}"] for axis in "xyz"]
            np.testing.assert_allclose(hand, where, atol=1e-5)


def test_pictures_poses_and_lenses_are_those_of_the_cameras(rrd, twin_2026):
    rr = pytest.importorskip("rerun")
    observation = twin_2026.observe()  # of the same instance, before the first action
    for view in VIEWS:
        entity = f"/world/base/cameras/{view}"
        np.testing.assert_allclose(rrd.pose(entity, 0), observation.camera_to_base[view], atol=1e-6)
        lens = rrd.fixed[entity]
        k = np.array(lens["Pinhole:image_from_camera"][0][0]).reshape(3, 3).T  # by columns
        np.testing.assert_allclose(k, CAMERAS[view].intrinsics)
        assert lens["Pinhole:resolution"][0][0] == [CAMERAS[view].size] * 2
        axes = [rr.components.ViewCoordinates.ViewDir[d].value for d in ("Right", "Up", "Back")]
        assert list(lens["Pinhole:camera_xyz"][0][0]) == axes
        blob = rrd.tables[f"{entity}/picture"].column("EncodedImage:blob")[0].as_py()[0]
        picture = cv2.imdecode(np.asarray(blob, dtype=np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
        seen = observation.images[view]
        assert picture.shape == seen.shape
        error = np.abs(picture.astype(float) - seen).mean()
        swapped = np.abs(picture[:, :, ::-1].astype(float) - seen).mean()
        assert error < 4.0
        assert error < swapped


def test_the_file_says_what_it_is(rrd):
    (text,) = rrd.fixed["/episode"]["TextDocument:text"][0]
    assert text.startswith(f"# {TASK}-0-1\n")
    assert "- run: noisy, hold, public-test\n" in text
    assert "- outcome: failure\n" in text
    assert "- check: the replay equals its trace" in text


def test_words_of_the_policy_subgoals_and_differences_are_logged(expert_run, tmp_path):
    run = tampered(expert_run, tmp_path, "base_x", 30, lambda x: x + 1.0)
    file = tmp_path / "x.rrd"
    code, _ = replayed(run, 0, "--rerun", file, "--every", 1000)
    assert code == 1
    found = Read(file)
    assert found.steps("/world/base/cameras/head/picture") == [0, STEPS]
    trace = pd.read_parquet(trace_of(expert_run))
    skill = trace["skill"]
    changes = [i + 1 for i in range(STEPS) if i == 0 or skill[i] != skill[i - 1]]
    assert found.steps("/policy/skill") == changes
    assert found.column("/policy/skill", "TextLog:text")[0, 0] == skill[0]
    np.testing.assert_allclose(
        found.column("/policy/progress", "Scalars:scalars")[:, 0], trace["progress"]
    )
    assert "/policy/skill_probability" not in found.tables  # the expert gives none
    assert found.steps("/events") == [30]
    assert found.column("/events", "TextLog:text")[0, 0] == "not as recorded: base_x"
    (text,) = found.fixed["/episode"]["TextDocument:text"][0]
    assert "**the replay is not as recorded from step 30 on**" in text


@pytest.fixture
def writer(expert_run, twin_2026, tmp_path):
    pytest.importorskip("rerun")

    def make() -> RrdWriter:
        recorded = read_recorded(read_run_data(expert_run).episodes[0])
        return RrdWriter(tmp_path / "x.rrd", twin_2026, recorded, title="test")

    return make


def test_a_replay_that_breaks_off_leaves_no_file(writer, tmp_path):
    begun = writer()
    begun.watch(0)
    assert [entry.name for entry in tmp_path.iterdir()] == [".tmp-x.rrd"]
    begun.close()
    begun.close()
    assert not list(tmp_path.iterdir())


def test_a_world_that_fails_in_the_first_step_still_gives_a_file(
    writer, twin_2026, expert_run, tmp_path, monkeypatch
):
    def fall_over(action: object) -> None:
        raise EnvError("the physics diverged")

    recorded = read_recorded(read_run_data(expert_run).episodes[0])
    monkeypatch.setattr(twin_2026, "step", fall_over)
    begun = writer()
    replay = execute(twin_2026, recorded, watch=begun.watch)
    begun.finish(replay, compare(recorded.states, replay))
    begun.close()
    found = Read(tmp_path / "x.rrd")
    assert found.steps("/world/base") == [0]
    assert found.steps("/events") == [1]
    assert "/goal/q_score" not in found.tables


@pytest.fixture
def size_limit() -> Iterator[Callable[[int], None]]:
    """Files cannot outgrow this many bytes, as on a disk that fills up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_is_an_error_and_leaves_no_file(
    writer, twin_2026, expert_run, tmp_path, size_limit
):
    recorded = read_recorded(read_run_data(expert_run).episodes[0])
    begun = writer()
    replay = execute(twin_2026, recorded)
    begun.watch(0)
    size_limit(50_000)
    with pytest.raises(StorageError, match=r"x\.rrd cannot be written"):
        begun.finish(replay, compare(recorded.states, replay))
    begun.close()
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_from_the_start_is_an_error(writer, tmp_path):
    (tmp_path / ".tmp-x.rrd").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"x\.rrd cannot be written .*No space left"):
        writer()
    assert not list(tmp_path.iterdir())
