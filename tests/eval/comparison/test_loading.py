"""Reading runs for analysis: everything usable, and every damage named."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from doubles import PREDICATES, SUBGOALS, BreakingEnv, DrivePolicy, RaisingPolicy, ToyEnv

from b1k_envs.base import make_several
from b1k_envs.errors import UnavailableError, UsageError
from b1k_envs.tasks.table import get_task, human_stats
from b1k_eval.loop.strategy import build_chunking
from b1k_eval.records.episode import EpisodeKey, EpisodeRecord
from b1k_eval.records.loading import policy_label, read_run_data, read_trace
from b1k_eval.records.store import open_run
from b1k_eval.records.trace_reading import DamagedTraceError
from b1k_eval.run.episode import Assembly
from b1k_eval.run.executor import Assignment, Executor
from b1k_eval.run.launch import plan_episodes
from b1k_policies.base import ActionChunk, Skill

TASK = get_task("clean_boxing_gloves")


class Sparing(DrivePolicy):
    """Says nothing of itself at its first inference, and no name at its last."""

    def infer(self, observation):
        chunk = super().infer(observation)
        skill = {0: None, 4: chunk.skill, 8: Skill(index=5)}[observation.step]
        progress = chunk.progress if observation.step else None
        return ActionChunk(actions=chunk.actions, skill=skill, progress=progress)


ENDINGS = {
    0: (lambda: ToyEnv(max_steps=20), lambda: Sparing(vx=1.0)),  # succeeds after ten steps
    1: (lambda: ToyEnv(max_steps=7), lambda: DrivePolicy(vx=0.7)),  # half way: 0.7 m after 8
    2: (lambda: ToyEnv(max_steps=20), lambda: RaisingPolicy(hook="infer")),
    3: (lambda: BreakingEnv(hook="step", at_step=4), lambda: DrivePolicy()),
}
"""Env and policy by instance."""


def record(**identity):
    settings = {"task": TASK.name, "instances": [0, 1, 2, 3], "rollouts": 1}
    known = {
        "settings": settings,
        "policy": {"name": "drive", "chunk_length": 8},
        "privileged": False,
    }
    return {
        "format": 1,
        "identity": {**known, **identity},
        "sessions": [{"started_at": "now", "argv": ["b1k-eval"]}],
    }


@pytest.fixture
def path(tmp_path):
    """A run with one episode of each ending, by the real runner; committed out of order."""
    run = open_run(tmp_path / "run-7", record(), resume=False)
    plan = plan_episodes(TASK, range(4), 1, 5, "2026")
    for episode in reversed(plan):
        make_env, make_policy = ENDINGS[episode.instance]
        assembly = Assembly(
            make_worlds=partial(make_several, make_env),
            make_policy=make_policy,
            make_chunking=partial(build_chunking, "receding", 4, None, None, 0),
            human=human_stats(TASK),
            max_steps=20,
        )
        key = EpisodeKey(episode.task, episode.instance, episode.rollout)
        folder = run.begin(key)
        heard = []
        Executor(assembly).run_batch(
            [Assignment(episode, folder)],
            lambda _, what, heard=heard: heard.append(what),
        )
        run.commit(folder, heard[-1].record)
    run.close()
    return tmp_path / "run-7"


def folder_of(path: Path, instance: int) -> Path:
    return path / "episodes" / f"{TASK.name}-{instance}-0"


def edit_lines(path: Path, change) -> None:
    """Lines as a list of texts, in and out."""
    file = path / "episodes.jsonl"
    file.write_text("".join(change(file.read_text().splitlines(keepends=True))))


def edit_result(path: Path, instance: int, **changes) -> None:
    file = folder_of(path, instance) / "result.json"
    result = json.loads(file.read_text())
    result.update(changes)
    file.write_text(json.dumps(result))


def by_instance(run):
    return {episode.key.instance: episode for episode in run.episodes}


# --- the run --------------------------------------------------------------------------------


def test_a_run_is_read_in_the_order_of_its_plan_with_all_three_outcomes(path):
    run = read_run_data(path)
    assert [episode.key for episode in run.episodes] == [
        EpisodeKey(TASK.name, instance, 0) for instance in range(4)
    ]
    assert [episode.outcome for episode in run.episodes] == [
        "success",
        "failure",
        "failure",
        "error",
    ]
    assert dict(run.counts) == {"success": 1, "failure": 2, "error": 1}
    assert [episode.key.instance for episode in run.scored] == [0, 1, 2]
    assert (run.name, run.task, run.label, run.privileged) == ("run-7", TASK.name, "drive", False)
    assert run.sessions[0]["argv"] == ["b1k-eval"]
    assert (run.pending, run.damaged) == ((), ())


def test_an_episode_is_what_its_result_says(path):
    for episode in read_run_data(path).episodes:
        written = json.loads((episode.folder / "result.json").read_text())
        assert EpisodeRecord.to_json(episode) == written
        assert episode.trace == episode.folder / "trace.parquet"
        assert episode.video is None


def test_what_the_endings_mean_is_kept(path):
    episodes = by_instance(read_run_data(path))
    assert (episodes[0].success, episodes[0].q_score, episodes[0].steps) == (True, 1.0, 10)
    assert dict(episodes[0].subgoals) == dict(zip(SUBGOALS, (1, 5, 10), strict=True))
    assert (episodes[1].success, episodes[1].q_score) == (False, 0.5)
    assert episodes[1].truncated
    assert episodes[1].subgoals["there"] is None
    assert episodes[1].predicates[PREDICATES[0]]
    assert (episodes[2].failure_reason, episodes[2].q_score) == ("policy_error", 0.0)
    assert (episodes[3].success, episodes[3].q_score, episodes[3].efficiency) == (None, None, None)
    assert "the simulator fell over" in str(episodes[3].message)


def test_nothing_read_can_be_changed(path):
    run = read_run_data(path)
    episode = run.episodes[0]
    with pytest.raises(TypeError):
        run.identity["policy"] = {}
    with pytest.raises(TypeError):
        episode.subgoals["moved"] = 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        episode.steps = 0
    with pytest.raises(ValueError, match="read-only"):
        read_trace(episode).read("q_score")["q_score"][0] = 1.0


def test_a_run_being_written_has_pending_episodes_and_no_damage(path):
    def half_written(lines):
        return [*lines[:2], lines[2][:40]]  # instances 3, 2, and a part of 1

    edit_lines(path, half_written)
    run = read_run_data(path)
    assert [episode.key.instance for episode in run.episodes] == [2, 3]
    assert [key.instance for key in run.pending] == [0, 1]
    assert run.damaged == ()


def test_a_run_without_any_episode_yet_is_all_pending(path):
    (path / "episodes.jsonl").unlink()
    run = read_run_data(path)
    assert run.episodes == ()
    assert run.pending == run.plan
    assert dict(run.counts) == {"success": 0, "failure": 0, "error": 0}


def test_every_rollout_of_every_instance_is_planned(tmp_path):
    settings = {"task": TASK.name, "instances": [2, 5], "rollouts": 2}
    open_run(tmp_path / "run", record(settings=settings), resume=False).close()
    keys = [(key.instance, key.rollout) for key in read_run_data(tmp_path / "run").plan]
    assert keys == [(2, 0), (2, 1), (5, 0), (5, 1)]


@pytest.mark.parametrize(
    ("identity", "label"),
    [
        ({"privileged": True, "policy": {"name": "expert"}}, "expert (privileged)"),
        (
            {
                "policy": {
                    "name": "v17",
                    "checkpoint": {"origin": "ckpt50000"},
                    "contract": {"contract": {"name": "v17"}, "forced": []},
                    "forced": False,
                    "forced_skill_id": None,
                    "forced_skill_progress": None,
                }
            },
            "ckpt50000, contract v17",
        ),
        (
            {
                "policy": {
                    "name": "v4 (forced)",
                    "checkpoint": {"origin": "ckpt50000"},
                    "contract": {"contract": {"name": "v4"}, "forced": ["image_size 224 -> 504"]},
                    "forced": True,
                    "forced_skill_id": 0,
                    "forced_skill_progress": 0.25,
                }
            },
            "ckpt50000, contract v4 (forced, skill_id forced to 0, skill_progress forced to 0.25)",
        ),
    ],
)
def test_the_label_says_policy_contract_and_what_is_special(path, identity, label):
    (path / "run.json").write_text(json.dumps(record(**identity)))
    assert read_run_data(path).label == label


@pytest.mark.slow
def test_the_label_of_a_real_checkpoints_description(path, tiny_v17):
    from b1k_policies.checkpoint import CheckpointRequest
    from b1k_policies.registry import make_policy

    policy = make_policy("checkpoint", CheckpointRequest(ckpt=str(tiny_v17), skill_id=4), "2026")
    described = json.loads(json.dumps(policy.describe()))
    policy.close()
    (path / "run.json").write_text(json.dumps(record(policy=described)))
    assert read_run_data(path).label == "tiny_v17, contract v17 (skill_id forced to 4)"


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match=re.escape(f"{tmp_path} holds no run: it has no run.json")):
        read_run_data(tmp_path)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"settings": {"task": TASK.name, "instances": [0]}}, "KeyError 'rollouts'"),
        ({"settings": {"task": TASK.name, "instances": 4, "rollouts": 1}}, "TypeError "),
        ({"policy": {}}, "KeyError 'name'"),
        ({"policy": {"name": "v4", "checkpoint": {}}}, "KeyError 'contract'"),
    ],
)
def test_an_identity_that_says_too_little_is_refused(path, changes, text):
    (path / "run.json").write_text(json.dumps(record(**changes)))
    with pytest.raises(
        UsageError, match=re.escape(f"run.json is damaged (in its identity: {text}")
    ):
        read_run_data(path)


# --- damage ---------------------------------------------------------------------------------


def left_out(path: Path, instance: int, text: str) -> None:
    """Exactly that episode is left out, for that reason; the others are all there."""
    run = read_run_data(path)
    assert [(entry.name, text in entry.why) for entry in run.damaged] == [
        (f"{TASK.name}-{instance}-0", True)
    ], run.damaged
    assert sorted(by_instance(run)) == [i for i in range(4) if i != instance]
    assert run.pending == ()


def test_a_result_that_is_gone_leaves_out_its_episode_alone(path):
    (folder_of(path, 1) / "result.json").unlink()
    left_out(path, 1, "result.json cannot be read (No such file or directory)")


def test_a_truncated_result_leaves_out_its_episode_alone(path):
    file = folder_of(path, 0) / "result.json"
    file.write_bytes(file.read_bytes()[:200])
    left_out(path, 0, "it is not JSON")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"steps": 9}, "its line has steps 10, its result.json 9"),
        ({"outcome": "failure"}, "its line has outcome 'success', its result.json 'failure'"),
        ({"rollout": 1}, "its line has rollout 0, its result.json 1"),
        ({"q_score": 1.5}, "q_score 1.5"),
        ({"q_score": None}, "q_score None"),
        ({"q_score": True}, "'q_score' is True"),
        ({"success": False}, "success False"),
        ({"subgoals": None}, "'subgoals' is None"),
        ({"timing": "long"}, "'timing' is 'long'"),
        ({"seed": 0.5}, "'seed' is 0.5"),
        ({"q_score": float("nan")}, "it has NaN"),
    ],
)
def test_a_result_that_cannot_be_true_leaves_out_its_episode_alone(path, changes, text):
    edit_result(path, 0, **changes)
    left_out(path, 0, text)


def test_a_result_without_a_field_leaves_out_its_episode_alone(path):
    file = folder_of(path, 2) / "result.json"
    result = json.loads(file.read_text())
    del result["inferences"]
    file.write_text(json.dumps(result))
    left_out(path, 2, "'inferences' is missing")


def test_a_line_that_is_no_json_is_named_by_its_number(path):
    edit_lines(path, lambda lines: [*lines[:2], lines[2].replace("{", "{{"), lines[3]])
    run = read_run_data(path)
    assert [entry.name for entry in run.damaged] == ["line 3"]
    assert "it is not JSON" in run.damaged[0].why
    assert [key.instance for key in run.pending] == [1]
    assert sorted(by_instance(run)) == [0, 2, 3]


def test_an_episode_that_is_listed_twice_is_left_out_as_nobody_knows_which_counts(path):
    edit_lines(path, lambda lines: [*lines, lines[0].replace("error", "failure")])
    left_out(path, 3, "lines 1 and 5 both list it")


def test_an_episode_that_is_not_of_the_plan_is_named_and_left_out(path):
    settings = {"task": TASK.name, "instances": [0, 1, 2], "rollouts": 1}
    (path / "run.json").write_text(json.dumps(record(settings=settings)))
    left_out(path, 3, "line 1 lists it, and run.json does not")


def test_an_outcome_nobody_knows_leaves_out_its_episode_alone(path):
    edit_lines(path, lambda lines: [lines[0].replace('"error"', '"crash"'), *lines[1:]])
    left_out(path, 3, "'outcome' is 'crash', expected one of success, failure, error")


def test_an_error_whose_files_are_being_replaced_stays_an_error(path):
    """A retry has taken its files away, or put its own there, before the line is rewritten."""
    edit_result(path, 3, outcome="success", success=True, q_score=1.0)
    retried = by_instance(read_run_data(path))[3]
    (folder_of(path, 3) / "result.json").unlink()
    gone = by_instance(read_run_data(path))[3]
    for episode in (retried, gone):
        assert (episode.outcome, episode.success, episode.q_score) == ("error", None, None)
        assert "the simulator fell over" in str(episode.message)
        assert dict(episode.subgoals) == {}


# --- traces ---------------------------------------------------------------------------------


def test_the_columns_are_those_that_pandas_reads(path):
    episode = by_instance(read_run_data(path))[0]
    table = pd.read_parquet(episode.trace)
    trace = read_trace(episode)
    assert list(trace.names) == list(table.columns)
    columns = trace.read(*trace.names)
    for name in ("step", "time", "action_0", "q_score", "inference", "base_x", "right_eef_z"):
        np.testing.assert_array_equal(columns[name], table[name].to_numpy(), err_msg=name)
    for name in (*(f"predicate:{p}" for p in PREDICATES), "subgoal:half_way"):
        np.testing.assert_array_equal(columns[name], table[name].to_numpy(), err_msg=name)
        assert columns[name].dtype == np.bool_
    assert (columns["step"].dtype, columns["q_score"].dtype) == (np.int64, np.float64)


def test_what_the_policy_did_not_say_is_told_from_what_it_said(path):
    trace = read_trace(by_instance(read_run_data(path))[0])
    columns = trace.read("skill", "skill_index", "skill_prob", "progress", "latency_s")
    assert columns["skill"].tolist() == [None] * 4 + ["move to"] * 4 + [None] * 2
    assert columns["skill_index"].tolist() == [-1] * 4 + [0] * 4 + [5] * 2
    assert np.isnan(columns["skill_prob"]).tolist() == [True] * 4 + [False] * 4 + [True] * 2
    np.testing.assert_allclose(columns["progress"][4:], [0.04] * 4 + [0.08] * 2, rtol=1e-6)
    assert np.isnan(columns["progress"][:4]).all()
    assert np.isnan(columns["latency_s"]).tolist() == [i % 4 != 0 for i in range(10)]


def test_a_column_that_an_older_version_did_not_write_is_read_as_nulls(path):
    episode = by_instance(read_run_data(path))[0]
    columns = pq.read_table(episode.trace)
    pq.write_table(columns.drop_columns(["not_finite"]), episode.trace)
    assert read_trace(episode).read("not_finite")["not_finite"].tolist() == [-1] * 10
    pq.write_table(columns.drop_columns(["q_score"]), episode.trace)
    with pytest.raises(DamagedTraceError, match="has no column 'q_score'"):
        read_trace(episode).read("q_score")


def test_subgoals_come_under_their_own_names(path):
    truths = read_trace(by_instance(read_run_data(path))[0]).subgoals()
    assert list(truths) == list(SUBGOALS)
    assert truths["half_way"].tolist() == [False] * 4 + [True] * 6


def test_an_episode_that_broke_off_before_its_first_step_has_an_empty_trace(path):
    episode = by_instance(read_run_data(path))[2]
    assert episode.steps == 0
    assert read_trace(episode).subgoals()["moved"].shape == (0,)


def test_only_the_columns_that_are_asked_for_are_read(path):
    """The others may be unreadable."""
    episode = by_instance(read_run_data(path))[0]
    group = pq.read_metadata(episode.trace).row_group(0)
    spoilt = next(
        group.column(i)
        for i in range(group.num_columns)
        if group.column(i).path_in_schema == "action_3"
    )
    start = spoilt.dictionary_page_offset or spoilt.data_page_offset
    data = bytearray(episode.trace.read_bytes())
    data[start : start + spoilt.total_compressed_size] = b"\xff" * spoilt.total_compressed_size
    episode.trace.write_bytes(data)
    trace = read_trace(episode)
    assert trace.read("step")["step"].tolist() == list(range(1, 11))
    with pytest.raises(DamagedTraceError, match=re.escape(f"{episode.trace} cannot be read (")):
        trace.read("action_3")


def test_traces_are_not_opened_with_the_run(path):
    for file in path.glob("episodes/*/trace.parquet"):
        file.write_bytes(b"spoilt")
    assert len(read_run_data(path).episodes) == 4


def spoilt_trace(path: Path, change, text: str) -> None:
    episode = by_instance(read_run_data(path))[0]
    change(episode.trace)
    with pytest.raises(DamagedTraceError, match=re.escape(text)):
        read_trace(by_instance(read_run_data(path))[0]).subgoals()


def test_a_trace_that_is_not_there_is_reported(path):
    spoilt_trace(path, Path.unlink, f"{folder_of(path, 0)} has no trace.parquet")


def test_a_truncated_trace_is_reported(path):
    text = f"{folder_of(path, 0) / 'trace.parquet'} cannot be read ("
    spoilt_trace(path, lambda file: file.write_bytes(file.read_bytes()[:-100]), text)


def test_a_trace_of_another_length_than_the_episode_is_reported(path):
    def shorten(file):
        pq.write_table(pq.read_table(file).slice(0, 9), file)

    spoilt_trace(path, shorten, "has 9 rows, the episode 10 steps")


def test_a_trace_with_other_subgoals_than_the_result_is_reported(path):
    def drop(file):
        pq.write_table(pq.read_table(file).drop_columns(["subgoal:there"]), file)

    spoilt_trace(
        path, drop, "has the sub-goals ['moved', 'half_way'], the result ['moved', 'half_way', "
    )


def test_truths_that_are_unknown_are_reported(path):
    def blank(file):
        table = pq.read_table(file)
        place = table.column_names.index("subgoal:there")
        blanks = pa.array([None] * table.num_rows, pa.bool_())
        pq.write_table(table.set_column(place, "subgoal:there", blanks), file)

    spoilt_trace(path, blank, "'subgoal:there' has nulls")


def test_a_column_that_is_missing_is_named(path):
    trace = read_trace(by_instance(read_run_data(path))[0])
    with pytest.raises(DamagedTraceError, match=r"has no column 'wish'$"):
        trace.read("step", "wish")


def test_without_pyarrow_a_trace_says_how_to_get_it(path, monkeypatch):
    episode = by_instance(read_run_data(path))[0]
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UnavailableError, match="neither written nor read, pyarrow does not import"):
        read_trace(episode)


def test_two_checkpoints_under_one_contract_are_told_apart_by_where_they_come_from():
    def of(origin):
        checkpoint = {"checkpoint": {"origin": origin}, "contract": {"contract": {"name": "v17"}}}
        marks = {"forced": False, "forced_skill_id": None, "forced_skill_progress": None}
        return policy_label(
            {"policy": {"name": "v17", **checkpoint, **marks}, "privileged": False, "settings": {}}
        )

    assert of("step-4000") == "step-4000, contract v17"
    assert of("step-4000") != of("step-8000")
