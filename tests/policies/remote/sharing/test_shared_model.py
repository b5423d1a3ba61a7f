"""One model for all workers: loaded once, the same answers, and no death of it loses anything."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from doubles import ToyEnv
from shared_toy import Fate, make_walk

from b1k_envs.base import Worlds, make_several
from b1k_envs.errors import ContractMismatchError, HostFaultError
from b1k_envs.tasks.table import get_task, human_stats
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.loop.driver import Infer, drive
from b1k_eval.records.run_files import read_episodes
from b1k_eval.records.store import open_run
from b1k_eval.run.episode import Assembly
from b1k_eval.run.launch import launch, plan_episodes
from b1k_eval.run.progress.reporter import Reporter
from b1k_policies.base import ActionChunk, Policy, Query
from b1k_policies.remote.sharing.model import SharedHandle, SharedModel, share_model
from b1k_policies.seeding import inference_seed

TASK = get_task(31)
PLAN = plan_episodes(TASK, range(6), 1, seed=3, protocol="2026")
RECORD = {"format": 1, "identity": {"settings": {}}, "sessions": [{}]}


def run(folder, make_policy, *, workers=1, num_envs=1):
    assembly = Assembly(
        make_worlds=partial(make_several, ToyEnv, num_envs),
        num_envs=num_envs,
        make_policy=make_policy,
        make_chunking=partial(RecedingHorizon, 4),
        human=human_stats(TASK),
        max_steps=50,
    )
    store = open_run(folder, RECORD, resume=True)
    try:
        launch(assembly, PLAN, store, reporter=Reporter(), workers=workers)
    finally:
        store.close()
    return read_episodes(folder)


def traces(folder):
    found = {}
    for file in sorted(folder.glob("episodes/*/trace.parquet")):
        found[file.parent.name] = pd.read_parquet(file)
    return found


def same_but_for_time(one, other):
    assert list(one) == list(other)
    for name, expected in other.items():
        columns = [c for c in expected if c not in ("latency_s", "wait_s")]
        pd.testing.assert_frame_equal(one[name][columns], expected[columns], check_exact=True)


@pytest.fixture
def shared():
    """Starts models, and ends them."""
    started = []

    def start(fate, clients=4, **options):
        models = share_model(partial(make_walk, fate), "2026", clients=clients, **options)
        started.extend(models.values())
        return models

    yield start
    for model in started:
        pid = model.process_id
        model.close()
        if pid is not None:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


@pytest.mark.slow
def test_workers_with_one_model_that_is_killed_half_way_play_what_one_plays_alone(shared, tmp_path):
    trap = tmp_path / "trap"
    trap.touch()
    alone = run(tmp_path / "alone", partial(make_walk, Fate(diary=tmp_path / "other")))
    fate = Fate(diary=tmp_path / "diary", trap=trap)
    models = shared(fate)
    (model,) = models.values()
    said = []
    model.note = said.append
    model.serve()
    handle = SharedHandle(models)
    assert (handle.name, handle.chunk_length, handle.needs_images) == ("walk", 8, False)
    assert handle.describe_here() == {"shared_copies": 1}
    together = run(tmp_path / "shared", handle.elsewhere(), workers=2, num_envs=2)
    assert not trap.exists()  # the model's process killed itself, with questions under way
    assert said == ["the process of the shared model died: it is started again"]
    # Loaded once for all workers, and once more after its death.
    assert len((tmp_path / "diary").read_text().split()) == model.starts == 2
    assert list(together) == list(alone)
    assert {line["outcome"] for line in together.values()} == {"success"}
    same_but_for_time(traces(tmp_path / "shared"), traces(tmp_path / "alone"))
    for key, trace in traces(tmp_path / "shared").items():
        asked = trace[trace["inference"]]
        assert (asked["latency_s"] > 0).all(), key
        assert (asked["wait_s"] >= 0).all(), key
        assert trace.loc[~trace["inference"], "wait_s"].isna().all()
    lost = [trace["wait_s"].max() for trace in traces(tmp_path / "shared").values()]
    assert max(lost) > 0.2  # no process starts faster; the time is in the wait of who waited
    assert traces(tmp_path / "alone")[f"{TASK.name}-0-0"]["wait_s"].isna().all()


@pytest.mark.slow
def test_a_question_that_kills_the_model_is_an_error_and_one_that_it_cannot_answer_a_failure(
    shared, tmp_path
):
    deadly, wrong = (inference_seed(PLAN[n].seed, 1) for n in (2, 4))
    models = shared(Fate(diary=tmp_path / "diary", deadly=deadly, wrong=wrong), clients=1)
    (model,) = models.values()
    model.serve()
    lines = list(run(tmp_path / "run", SharedHandle(models).elsewhere()).values())
    assert [line["outcome"] for line in lines] == [
        "success", "success", "error", "success", "failure", "success",
    ]  # fmt: skip
    assert "it seems to kill the model's process" in lines[2]["message"]
    assert lines[4]["failure_reason"] == "policy_invalid_action"
    assert lines[4]["message"] == "the server reports: ActionError: actions[0, 3] is nan"


def test_a_model_that_cannot_be_loaded_says_why_with_its_own_error(tmp_path):
    with pytest.raises(ContractMismatchError, match="the checkpoint was swapped") as raised:
        SharedModel(partial(make_walk, Fate(diary=tmp_path / "diary", loads=0)), "2026", clients=1)
    assert "make_walk" in str(raised.value.__cause__)  # the traceback of the other process


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_again_ends_the_run(shared, tmp_path):
    trap = tmp_path / "trap"
    trap.touch()
    models = shared(Fate(diary=tmp_path / "diary", trap=trap, loads=1), clients=1)
    (model,) = models.values()
    model.serve()
    model._watcher.join(0)
    os.kill(model.process_id, 9)
    model._watcher.join()
    assert isinstance(model.failed, HostFaultError)
    assert str(model.failed) == (
        "the shared model could not be loaded again, 3 times in a row (the checkpoint was "
        "swapped): fix that, then --resume"
    )
    assert len((tmp_path / "diary").read_text().split()) == 4


def test_policies_that_compute_elsewhere_are_asked_at_the_same_time():
    meeting = threading.Barrier(3, timeout=60)

    class Waiting(Policy):
        name, chunk_length, computes_elsewhere = "waiting", 1, True

        def reset(self, episode):
            pass

        def infer(self, observation):
            raise AssertionError

        def infer_batch(self, queries):
            meeting.wait()  # until all three are asked
            return [ActionChunk(actions=np.full((1, 23), queries[0].seed, np.float32))]

    seen = ToyEnv().observe(images=False)

    def loop(seed):
        query = Query(observation=seen, instruction="wash", seed=seed)
        had = yield Infer(Waiting(), query)
        return float(had.value.actions[0, 0])

    answers = {}
    drive({n: loop(n) for n in range(3)}, Worlds([ToyEnv()] * 3), answers.__setitem__)
    assert answers == {0: 0.0, 1: 1.0, 2: 2.0}


def test_the_key_is_in_no_command_line(shared, tmp_path):
    (model,) = shared(Fate(diary=tmp_path / "diary")).values()
    command = Path(f"/proc/{model.process_id}/cmdline").read_bytes()
    assert model._key.encode() not in command
    assert len(model._key) == 32


def test_there_is_a_copy_per_gpu_and_a_worker_asks_that_of_its_own(shared, tmp_path):
    fate = Fate(diary=tmp_path / "diary")
    models = shared(fate, gpus=(2, 5, 2))
    assert list(models) == [2, 5]
    # The first was tried on the default GPU, and then loaded where it belongs.
    assert len(fate.diary.read_text().split()) == 3
    for model in models.values():
        model.serve()
    ports = {gpu: model.port for gpu, model in models.items()}
    make = SharedHandle(models).elsewhere()
    for gpu in (2, 5):
        policy = make(gpu=gpu)
        assert policy.address.port == ports[gpu]
        policy.close()


@pytest.mark.slow
def test_the_models_process_does_not_outlive_a_run_that_is_killed(tmp_path):
    words = (
        "import sys, time; from functools import partial; from pathlib import Path;"
        "from shared_toy import Fate, make_walk;"
        "from b1k_policies.remote.sharing.model import SharedModel;"
        "fate = Fate(diary=Path(sys.argv[1]));"
        "model = SharedModel(partial(make_walk, fate), '2026', clients=1);"
        "model.serve(); print(model.process_id, flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", words, tmp_path / "diary"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    while Path(f"/proc/{pid}").exists():  # for ever, if it stays
        time.sleep(0.05)
