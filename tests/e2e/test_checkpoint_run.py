"""`b1k-eval run --ckpt` on the real twin, with made checkpoints and without a network."""

from __future__ import annotations

import json
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from b1k_eval.cli.main import app
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.xvla.policy import XVLAPolicy

EPISODE = "clean_boxing_gloves-0-0"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any connection out of this process is the test's failure."""

    def refuse(*arguments: object) -> None:
        raise AssertionError(f"a connection was tried: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def run(*arguments: object, expect: int = 0) -> dict:
    words = ["run", "--task", "31", "--json", *map(str, arguments)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == expect, result.output
    return json.loads(result.stdout)


def trace(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "episodes" / EPISODE / "trace.parquet")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "horizon", "steps"),
    [("v4", 1, 4), ("v4", 30, 32), ("v17", 10, 12), ("v17", 30, 32)],
)
def test_a_checkpoint_runs_end_to_end_with_skill_and_progress_in_its_trace(
    version, horizon, steps, request, tmp_path
):
    """With a horizon of 30, more than one whole chunk."""
    out = tmp_path / "run"
    document = run(
        "--ckpt", request.getfixturevalue(f"tiny_{version}"), "--horizon", horizon,
        "--max-steps", steps - 1, "--no-video", "--out", out,
    )  # fmt: skip
    assert document["policy"] == version
    (episode,) = document["episodes"]
    assert (episode["outcome"], episode["failure_reason"]) == ("failure", None)
    rows = trace(out)
    assert len(rows) == steps
    every = 29 if version == "v4" and horizon == 30 else horizon
    assert list(rows.index[rows["inference"]]) == list(range(0, steps, every))
    assert rows["skill_index"].between(0, 33).all()
    assert rows["skill_prob"].between(1 / 34, 1).all()
    assert rows["progress"].between(0, 1).all()
    assert rows["latency_s"].notna().equals(rows["inference"])


@pytest.mark.slow
def test_the_same_seed_gives_the_same_trace_and_another_seed_another(tiny_v17, tmp_path):
    traces = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(
            "--ckpt", tiny_v17, "--seed", seed, "--max-steps", 11,
            "--no-video", "--out", tmp_path / name,
        )  # fmt: skip
        traces.append(trace(tmp_path / name).drop(columns="latency_s"))
    pd.testing.assert_frame_equal(traces[0], traces[1], check_exact=True)
    actions = [f"action_{column}" for column in range(23)]
    assert not np.allclose(traces[0][actions], traces[2][actions])


@pytest.mark.slow
def test_the_executed_actions_are_the_rows_of_the_policys_chunk(
    tiny_v4, twin_2026, episode, tmp_path
):
    run("--ckpt", tiny_v4, "--horizon", 5, "--max-steps", 4, "--no-video", "--out", tmp_path / "r")
    record = json.loads((tmp_path / "r" / "episodes" / EPISODE / "result.json").read_text())
    policy = XVLAPolicy(CheckpointRequest(ckpt=str(tiny_v4)))
    policy.reset(replace(episode, seed=record["seed"]))
    twin_2026.reset(0, 0, record["seed"])
    chunk = policy.infer(twin_2026.observe())
    policy.close()
    rows = trace(tmp_path / "r")
    executed = rows[[f"action_{column}" for column in range(23)]].to_numpy(np.float32)
    np.testing.assert_array_equal(executed, chunk.actions[:5])


@pytest.mark.slow
def test_the_video_says_skill_and_progress(tiny_v17, tmp_path):
    run("--ckpt", tiny_v17, "--max-steps", 20, "--out", tmp_path / "r")
    assert (tmp_path / "r" / "episodes" / EPISODE / "video.mp4").stat().st_size > 10_000


@pytest.mark.slow
def test_two_workers_and_a_resumed_run_give_what_one_process_gives(tiny_v17, tmp_path):
    common = ("--ckpt", tiny_v17, "--max-steps", 12, "--no-video")
    run(*common, "--instances", "0-2", "--out", tmp_path / "one")
    # Each with a copy of the model: in a shared one sums may round differently.
    alone = ("--workers", 2, "--share-policy", "off")
    run(*common, "--instances", "0-2", *alone, "--out", tmp_path / "two")
    lines = (tmp_path / "one" / "episodes.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "one" / "episodes.jsonl").write_text("".join(lines[:1]))
    for folder in (tmp_path / "one" / "episodes").iterdir():
        if folder.name != EPISODE:
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
    run("--resume", "--out", tmp_path / "one")
    for instance in range(3):
        name = f"episodes/clean_boxing_gloves-{instance}-0/trace.parquet"
        pd.testing.assert_frame_equal(
            *(
                pd.read_parquet(tmp_path / which / name).drop(columns="latency_s")
                for which in ("one", "two")
            ),
            check_exact=True,
        )


@pytest.mark.slow
def test_episodes_that_share_a_call_are_those_of_one_at_a_time_but_for_rounding(tiny_v17, tmp_path):
    common = ("--ckpt", tiny_v17, "--max-steps", 12, "--no-video", "--instances", "0-2")
    run(*common, "--out", tmp_path / "one")
    document = run(*common, "--num-envs", 3, "--out", tmp_path / "three")
    assert any("several episodes in one call" in text for text in document["remarks"])
    for instance in range(3):
        name = f"episodes/clean_boxing_gloves-{instance}-0/trace.parquet"
        one, three = (pd.read_parquet(tmp_path / which / name) for which in ("one", "three"))
        for column in [f"action_{number}" for number in range(23)]:
            np.testing.assert_allclose(three[column], one[column], atol=1e-3, err_msg=column)


@pytest.mark.slow
def test_run_json_names_contract_hashes_and_sources(tiny_v17, tmp_path):
    run("--ckpt", tiny_v17, "--max-steps", 2, "--no-video", "--out", tmp_path / "r")
    identity = json.loads((tmp_path / "r" / "run.json").read_text())["identity"]
    policy = identity["policy"]
    assert policy["contract"]["contract"]["image_size"] == 224
    assert policy["contract"]["sources"]["image_size"]["source"].startswith("EVAL_CONTRACT.json:")
    assert len(policy["checkpoint"]["weights_sha256"]) == 64
    assert len(policy["checkpoint"]["code_sha256"]) == 64
    assert identity["settings"]["checkpoint"]["ckpt"] == str(tiny_v17)


@pytest.mark.slow
def test_changed_weights_cannot_be_resumed(tiny_v17, tmp_path):
    copy = tmp_path / "ckpt"
    shutil.copytree(tiny_v17, copy)
    run("--ckpt", copy, "--max-steps", 2, "--no-video", "--out", tmp_path / "r")
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    document = run("--resume", "--instances", 0, "--out", tmp_path / "r", expect=2)
    assert "weights_sha256" in document["error"]["message"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--policy", "hold", "--contract", "v17"), "--contract only mean something with --ckpt"),
        (("--ckpt", "{v17}", "--policy", "hold"), "--policy and --ckpt both name a policy"),
        (("--ckpt", "{v17}", "--device", "tpu"), "--device 'tpu' is unknown"),
        (("--ckpt", "{v17}", "--skill-progress", "2"), "--skill-progress 2 must lie in [0, 1]"),
        (("--ckpt", "{v17}", "--set", "image_siz=3"), "did you mean image_size"),
        (("--ckpt", "{v4}", "--horizon", "31"), "--horizon 31"),
    ],
)  # fmt: skip
def test_wrong_options_of_a_checkpoint_are_refused(words, text, tiny_v4, tiny_v17, tmp_path):
    words = [word.format(v4=tiny_v4, v17=tiny_v17) for word in words]
    document = run(*words, "--out", tmp_path / "r", expect=2)
    assert text in document["error"]["message"]
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_a_v4_client_on_a_v17_folder_is_refused_and_a_forced_one_is_marked(tiny_v17, tmp_path):
    out = tmp_path / "r"
    document = run("--ckpt", tiny_v17, "--contract", "v4", "--out", out, expect=3)
    for field in ("image_size", "extrinsics_rows", "first_action", "progress_output"):
        assert field in document["error"]["message"]
    assert not out.exists()
    document = run(
        "--ckpt", tiny_v17, "--contract", "v4", "--force-contract", "--max-steps", 2,
        "--no-video", "--out", out,
    )  # fmt: skip
    assert document["policy"] == "v4 (forced)"
    identity = json.loads((out / "run.json").read_text())["identity"]
    assert any("image_size" in line for line in identity["policy"]["contract"]["forced"])
