"""The real packages in their offline or local ways, read back; each where it is installed."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import struct
import subprocess
import sys
import textwrap
from time import sleep

import pytest
from run_folders import TASK, finished_run
from typer.testing import CliRunner

from b1k_eval.cli.main import app
from b1k_eval.trackers.following import LEDGER_FILE, Ledger
from b1k_eval.trackers.starting import logging_to

pytestmark = pytest.mark.slow

OUTCOMES = {0: "success", 1: "failure", 2: "error", 3: "success", 4: "failure"}
STEPS = {0: 1.0, 1: 0.5, 2: 2 / 3, 3: 0.5}  # success rate so far, without the error
RUNS = """
import sys, time
from pathlib import Path
from b1k_eval.trackers.starting import logging_to
with logging_to([sys.argv[1]], Path(sys.argv[2]), 0, print):
    time.sleep(1000)
"""


def of_tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def read(place):
        found = EventAccumulator(str(place))
        found.Reload()
        return found

    run = read(folder / "tensorboard")
    said = list((folder / "tensorboard").glob("compare-*"))
    verdict = read(said[0]).Tensors("verdict")[0].tensor_proto.string_val[0] if said else b""
    curve = [(event.step, event.value) for event in run.Scalars("success_rate")]
    return 1, curve, "settings" in run.Tags()["tensors"], verdict.decode()


def of_mlflow(folder):
    from mlflow import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name("mine").experiment_id
    runs = client.search_runs([experiment], "tags.b1k_eval_kind = 'run'")
    compared = client.search_runs([experiment], "tags.b1k_eval_kind = 'compare'")
    history = client.get_metric_history(runs[0].info.run_id, "success_rate")
    verdict = compared[0].data.tags["mlflow.note.content"] if compared else ""
    curve = sorted((metric.step, metric.value) for metric in history)
    return len(runs), curve, runs[0].data.params["policy"] == "other", verdict


def of_trackio(folder):
    with sqlite3.connect(folder.parent / "trackio" / "mine.db") as database:
        found = database.execute("select run_id, run_name, step, metrics from metrics").fetchall()
        (config,) = database.execute(
            "select config from configs where run_name not like 'compare-%'"
        ).fetchone()
    rows = [(*key, json.loads(metrics)) for *key, metrics in found]
    ids = {run_id for run_id, name, *_ in rows if not name.startswith("compare-")}
    curve = [(step, row["success_rate"]) for _, _, step, row in rows if "success_rate" in row]
    said = [row["verdict"] for *_, row in rows if "verdict" in row]
    return len(ids), sorted(curve), json.loads(config)["policy"] == "other", "".join(said)


def records_of_wandb(file):
    """The records of an offline file: LevelDB's log format after 7 bytes of wandb's own.

    wandb's own reader in Python is gone from its newer versions.
    """
    from wandb.proto import wandb_internal_pb2

    data, place, parts = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7:  # no head fits into the block's end
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole one, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def of_wandb(folder):
    ids, kinds, curve, settings, verdict = set(), {}, [], False, ""
    for file in sorted((folder.parent / "wandb").glob("offline-run-*/*.wandb")):
        for record in records_of_wandb(file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                kinds[record.run.run_id] = record.run.job_type
                policy = {each.key: each.value_json for each in record.run.config.update}
                settings = settings or policy.get("policy") == '"other"'
            elif kind == "history":
                row = {
                    each.key or each.nested_key[0]: json.loads(each.value_json)
                    for each in record.history.item
                }
                if "success_rate" in row:
                    curve.append((row["_step"], row["success_rate"]))
            elif kind == "summary":
                for each in record.summary.update:
                    if "verdict" in (each.key, *each.nested_key):
                        verdict = json.loads(each.value_json)
    ids = {name for name, job in kinds.items() if job == "run"}
    return len(ids), curve, settings, verdict


READ = {
    "tensorboard": of_tensorboard,
    "mlflow": of_mlflow,
    "trackio": of_trackio,
    "wandb": of_wandb,
}


@pytest.fixture
def local(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "WANDB_MODE": "offline",
        "WANDB_PROJECT": "mine",
        "TRACKIO_DIR": str(tmp_path / "trackio"),
        "TRACKIO_PROJECT": "mine",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
        "MLFLOW_EXPERIMENT_NAME": "mine",
    }.items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.mark.parametrize("name", READ)
def test_killed_and_resumed_it_is_one_run_with_every_step_once(local, name):
    pytest.importorskip(name)
    run = finished_run(local / "run", OUTCOMES)
    lines = (run / "episodes.jsonl").read_text().splitlines(keepends=True)
    (run / "episodes.jsonl").write_text("".join(lines[:2]))
    command = [sys.executable, "-c", textwrap.dedent(RUNS), name, str(run)]
    process = subprocess.Popen(command, env={**os.environ})
    while len(Ledger(run, name).episodes) < 2:
        assert process.poll() is None
        sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (run / "episodes.jsonl").write_text("".join(lines))
    with logging_to([name], run, 0, print) as remarks:  # waits for the first one's process
        while len(Ledger(run, name).episodes) < 4 and not remarks:
            sleep(0.2)
    assert remarks == [], (run / "logs" / f"{name}.log").read_text()
    runs, curve, settings, _ = READ[name](run)
    assert runs == 1
    assert [step for step, _ in curve] == list(STEPS)
    assert [value for _, value in curve] == pytest.approx(list(STEPS.values()))
    assert settings
    assert (run / LEDGER_FILE).read_text().count('"id"') == 1


@pytest.mark.parametrize("name", READ)
def test_the_verdict_of_a_comparison_is_there(local, name):
    pytest.importorskip(name)
    first = finished_run(local / "first", dict.fromkeys(range(5), "failure"))
    run = finished_run(local / "run", OUTCOMES)
    with logging_to([name], run, 0, print):
        while len(Ledger(run, name).episodes) < 4:
            sleep(0.2)
    result = CliRunner().invoke(app, ["compare", str(first), str(run), "--log-to", name, "--json"])
    assert result.exit_code == 0, result.output
    assert name not in result.stderr
    (pair,) = json.loads(result.stdout)["pairs"]
    assert READ[name](run)[3] == pair["verdict"]
    assert TASK in result.stdout
