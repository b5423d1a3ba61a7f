"""A data set of the twin: pictures, states and outcome come back from its actions alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_dataset import KEYS, content, decoded, episodes_of, rows_of
from typer.testing import CliRunner

import b1k_eval
from b1k_envs.base import VIEWS
from b1k_envs.errors import UsageError
from b1k_envs.mujoco_twin.env import TwinEnv
from b1k_envs.tasks.table import get_task
from b1k_eval.cli.main import app
from b1k_eval.execution import Execution
from b1k_eval.qualify.demos import find_demos, read_demo
from b1k_eval.run.session import ReadyRun
from b1k_eval.settings import RunSettings

STEPS = 10
OPTIONS = {"max_steps": STEPS, "video": False, "action_noise": "0.02"}


@pytest.mark.slow
def test_actions_reproduce_pictures_states_and_outcome(tmp_path):
    run = b1k_eval.evaluate(
        "expert", 0, 3, out=tmp_path / "run", record=f"lerobot:{tmp_path}/data", **OPTIONS
    )
    rows, (episode,) = rows_of(tmp_path / "data"), [*episodes_of(tmp_path / "data").itertuples()]
    assert (episode.outcome, episode.length) == ("failure", STEPS + 1)
    films = [decoded(tmp_path / "data/videos" / key / "chunk-000/file-000.mp4") for key in KEYS]
    env = TwinEnv(get_task(0), protocol="2026", split="public-test", max_steps=STEPS)
    try:
        env.reset(episode.instance, episode.rollout, episode.seed)
        for at, row in rows.iterrows():
            seen = env.observe()
            assert np.array_equal(seen.proprio, row["observation.state"])
            assert np.array_equal(seen.cam_rel_poses, row["observation.cam_rel_poses"])
            for view, film in zip(VIEWS, films, strict=True):
                apart = np.abs(film[at].astype(float) - seen.images[view])
                assert apart.mean() < 2.5, (view, at)
            env.step(row.action)
            assert env.goal().q_score == row["next.q_score"]
    finally:
        env.close()
    assert run.episodes.loc[0, "outcome"] == "failure"

    # The same from a run that was not recorded, executed again; and as a demonstration.
    b1k_eval.evaluate("expert", 0, 3, out=tmp_path / "plain", **OPTIONS)
    words = ["record", str(tmp_path / "plain"), "--to", str(tmp_path / "again"), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["outcomes"] == {"failure": 1}
    one, two = content(tmp_path / "data"), content(tmp_path / "again")
    assert one.keys() == two.keys()
    assert all(one[name] == two[name] for name in one)
    (entry,) = find_demos(tmp_path / "again", get_task(0)).entries
    assert entry.number == episode.raw_episode_id
    assert np.array_equal(read_demo(entry).actions, np.stack(rows.action))


def test_record_says_what_it_cannot_do(tmp_path):
    done = CliRunner().invoke(app, ["record", str(tmp_path), "--to", str(tmp_path / "data")])
    assert isinstance(done.exception, UsageError) or done.exit_code == 2
    words = ["record", str(tmp_path), "--to", str(tmp_path / "d"), "--record-only", "wins"]
    done = CliRunner().invoke(app, words)
    assert "choose one of all, success" in done.output + str(done.exception)


def test_omnigibson_is_recorded_with_every_step_rendered_only(tmp_path):
    settings = RunSettings(
        task="clean_boxing_gloves",
        policy="hold",
        sim="omnigibson",
        protocol="2026",
        instances=(0,),
        max_steps=9,
    )
    how = Execution(record=f"lerobot:{tmp_path}/data")
    with pytest.raises(UsageError, match="--record needs the pictures of every step"):
        ReadyRun([settings], how, tmp_path / "run", argv=())
    assert not (tmp_path / "run").exists()
