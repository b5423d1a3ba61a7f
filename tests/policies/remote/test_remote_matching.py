"""Servers that say more than they are asked: every action is the answer to its own question.

The first number of an observation's proprio is its number, and so is the first of the action that
answers it, so that an answer to another question is seen.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from doubles import ToyEnv, make_toy_env
from foreign_server import DiesError, foreign_server, row
from omnigibson_double.fixtures import _og_data_2026, og_2026  # noqa: F401
from typer.testing import CliRunner

from b1k_envs.errors import EndsRunError, PolicyFaultError
from b1k_eval.cli.main import app
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.loop.runner import run_episode
from b1k_eval.run import simulators
from b1k_policies.remote.client import RemotePolicy

SETTLE_S = 0.15
LATE_S = 3 * SETTLE_S
"""Later than is waited for after a reset: the question has been sent by then."""
PLAIN = [{}, {"reset": True}, {"status": "ok"}, {"action": None}, "reset successful"]
ZERO = {"action": np.zeros(23, np.float32)}


@pytest.fixture(autouse=True)
def _no_key_little_waiting(monkeypatch):
    monkeypatch.delenv("B1K_EVAL_API_KEY", raising=False)
    monkeypatch.setattr("b1k_policies.remote.wire.dialogue.SETTLE_S", SETTLE_S)


def numbered(message):
    return {"action": row(float(message["robot_r1::proprio"].ravel()[0]))}


def after(delay_s, *messages):
    """What a server sends that takes its time over it."""

    def send(_):
        time.sleep(delay_s)
        return list(messages)

    return send


def question(number):
    seen = ToyEnv().observe()
    proprio = seen.proprio.copy()
    proprio[0] = number
    return replace(seen, proprio=proprio)


def answers(policy, *numbers):
    """The first number of the action that each question is answered by."""
    return [float(policy.infer(question(number)).actions[0, 0]) for number in numbers]


def three_episodes(server, episode):
    """Answers of three episodes of four questions, and the remarks on each episode."""
    policy = RemotePolicy(server.address)
    found, remarks = [], []
    for start in (0, 10, 20):
        policy.reset(episode)
        found += answers(policy, *range(start, start + 4))
        remarks.append(policy.episode_remarks)
    policy.close()
    return found, remarks


RIGHT = [0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0, 20.0, 21.0, 22.0, 23.0]


# --- resets that are answered ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("acknowledgement", "delay_s"),
    [*((each, 0.0) for each in PLAIN), ({"status": "ok"}, LATE_S)],
    ids=[*map(str, PLAIN), "after the question"],
)
def test_an_acknowledgement_without_an_action_is_passed_over_and_nothing_asked_again(
    acknowledgement, delay_s, episode
):
    with foreign_server(numbered, on_reset=after(delay_s, acknowledgement)) as server:
        found, remarks = three_episodes(server, episode)
    assert found == RIGHT
    assert server.kinds == ["connect", *["reset", *["observation"] * 4] * 3]
    for each in remarks:
        (remark,) = each
        assert remark.startswith(f"{server.address}: the server answers a reset, with ")
        assert "an official evaluator does not expect that, and would play every" in remark


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [0.0, LATE_S], ids=["at once", "after the question"])
def test_an_acknowledgement_with_an_action_is_told_from_an_answer(delay_s, episode):
    with foreign_server(numbered, on_reset=after(delay_s, ZERO)) as server:
        found, remarks = three_episodes(server, episode)
    assert found == RIGHT
    assert server.kinds.count("observation") == 12
    assert all("answers a reset, with an action, which is passed over" in r for (r,) in remarks)


@pytest.mark.slow
def test_one_with_an_action_that_cannot_be_told_ends_the_run_at_the_next_reset(episode):
    """Both it and the first answer come later than is waited for."""

    def slow(message):
        time.sleep(LATE_S)
        return numbered(message)

    with foreign_server(slow, on_reset=after(LATE_S, ZERO)) as server:
        policy = RemotePolicy(server.address)
        policy.reset(episode)
        assert answers(policy, 1, 2) == [0.0, 1.0]
        time.sleep(2 * LATE_S)  # the episode's end takes its time, too
        with pytest.raises(EndsRunError, match="an action that nobody asked for: its answers cann"):
            policy.reset(episode)
        policy.close()


def test_a_server_that_stops_acknowledging_with_an_action_ends_the_run(episode):
    rest = [[ZERO]]
    with foreign_server(numbered, on_reset=lambda _: rest.pop() if rest else []) as server:
        policy = RemotePolicy(server.address, query_timeout_s=1.0)
        policy.reset(episode)
        assert answers(policy, 1) == [1.0]
        with pytest.raises(EndsRunError, match="answered earlier resets with an action, and this"):
            policy.reset(episode)
        policy.close()


@pytest.mark.parametrize("text", ["Traceback (most recent call last):\nKeyError: 'reset'", "no"])
def test_an_error_about_a_reset_is_what_the_first_question_gets(text, episode):
    with foreign_server(numbered, on_reset=lambda _: [text]) as server:
        policy = RemotePolicy(server.address)
        policy.reset(episode)
        with pytest.raises(PolicyFaultError, match=r"the server reports: (KeyError: 'reset'|no)$"):
            answers(policy, 1)
        policy.close()
    assert server.kinds == ["connect", "reset"]


def test_a_server_that_hangs_up_on_resets_is_asked_on_a_new_connection(episode):
    """Without another reset, as the rules have it after a reconnection."""
    with foreign_server(numbered, on_reset=lambda _: [DiesError]) as server:
        policy = RemotePolicy(server.address)
        policy.reset(episode)
        assert answers(policy, 1, 2) == [1.0, 2.0]
        policy.close()
    assert server.kinds == ["connect", "reset", "connect", "observation", "observation"]


@pytest.mark.slow
def test_a_silent_server_is_waited_for_once_and_its_latency_is_its_own(episode, monkeypatch):
    monkeypatch.setattr("b1k_policies.remote.wire.dialogue.SETTLE_S", 1.0)
    with foreign_server(numbered) as server:
        policy = RemotePolicy(server.address)
        begun = time.perf_counter()
        policy.reset(episode)
        latency = policy.infer(question(0)).latency_s
        first = time.perf_counter() - begun
        begun = time.perf_counter()
        for _ in range(3):
            policy.reset(episode)
            answers(policy, 0, 1, 2)
        assert policy.episode_remarks == ()
        policy.close()
    assert first >= 2.0
    assert latency < 1.0
    assert time.perf_counter() - begun < 2.0


# --- answers too many -----------------------------------------------------------------------------


def test_metadata_sent_twice_are_passed_over(episode):
    with foreign_server(numbered, metadata={"model": "x"}, greetings=2) as server:
        found, remarks = three_episodes(server, episode)
    assert found == RIGHT
    assert remarks[0] == (f"{server.address}: the server sent its metadata again: passed over",)
    assert remarks[1:] == [(), ()]


def test_metadata_sent_twice_and_an_acknowledgement_are_both_passed_over(episode):
    with foreign_server(
        numbered, metadata={"model": "x"}, greetings=2, on_reset=lambda _: [{}]
    ) as server:
        found, remarks = three_episodes(server, episode)
    assert found == RIGHT
    assert len(remarks[0]) == 2


def test_a_message_without_an_action_after_each_answer_is_passed_over(episode):
    def and_status(message):
        return [numbered(message), {"status": "idle"}]

    with foreign_server(and_status) as server:
        policy = RemotePolicy(server.address)
        policy.reset(episode)
        for number in range(5):
            assert answers(policy, number) == [number]
            time.sleep(SETTLE_S)  # it has arrived when the next question is sent
        assert "sent {'status': 'idle'}, which nobody asked for" in policy.episode_remarks[0]
        policy.close()
    assert server.kinds.count("observation") == 5


def test_a_server_that_answers_twice_ends_the_run_at_its_second_answer(episode):
    def twice(message):
        return [numbered(message)] * 2

    with foreign_server(twice) as server:
        policy = RemotePolicy(server.address)
        policy.reset(episode)
        assert answers(policy, 1) == [1.0]
        with pytest.raises(EndsRunError, match="sent an action that nobody asked for"):
            answers(policy, 2)
        policy.close()


def test_a_server_of_ours_that_answers_what_was_not_asked_ends_the_run(episode, monkeypatch):
    """And it is not waited for: ours answer questions and nothing else."""
    monkeypatch.setattr("b1k_policies.remote.wire.dialogue.SETTLE_S", 30.0)
    block = {
        "protocol_version": 1, "episode": True, "name": "toy", "chunk_length": 1,
        "skipped_rows": 0, "images": "native", "remarks": [],
    }  # fmt: skip

    def twice(message):
        answer = numbered(message)
        return [{**answer, "action_chunk": answer["action"][None]}] * 2

    def slowly(policy):
        for step in range(50):
            answers(policy, step)
            time.sleep(0.02)  # a second answer that is still on its way is not seen

    with foreign_server(twice, metadata={"b1k_eval": block}) as server:
        policy = RemotePolicy(server.address)
        begun = time.perf_counter()
        policy.reset(episode)
        with pytest.raises(EndsRunError, match="sent an action that nobody asked for"):
            slowly(policy)
        policy.close()
    assert time.perf_counter() - begun < 30.0


def test_a_connection_lost_after_the_answer_loses_no_answer(episode):
    """While it is listened whether something else comes."""

    def and_gone(message):
        return [numbered(message), DiesError]

    with foreign_server(and_gone) as server:
        policy = RemotePolicy(server.address)
        policy.reset(episode)
        assert answers(policy, 1, 2, 3) == [1.0, 2.0, 3.0]
        policy.close()
    assert server.kinds == ["connect", "reset", "observation", *["connect", "observation"] * 2]


# --- questions that are sent again ----------------------------------------------------------------


def test_both_answers_to_a_question_sent_again_are_one(episode):
    """Something else came before the answer: it looks like an answer without an action."""

    def and_first_something_else(message):
        return [{"status": "thinking"}, numbered(message)]

    with foreign_server(and_first_something_else, on_reset=lambda _: [{}]) as server:
        policy = RemotePolicy(server.address)
        policy.reset(episode)
        assert answers(policy, *range(4)) == [0.0, 1.0, 2.0, 3.0]
        assert "went on answering a question that was sent again" in policy.episode_remarks[1]
        policy.close()


def test_what_may_have_been_an_acknowledgement_and_was_an_answer_is_asked_again(
    episode, monkeypatch
):
    """As the evaluator would, but for the time that is waited for the answer proper."""
    monkeypatch.setattr("b1k_policies.remote.wire.dialogue.PATIENCE_S", 0.2)
    rest = [{}]

    def warming_up(message):
        return rest.pop() if rest else numbered(message)

    with foreign_server(warming_up) as server:
        policy = RemotePolicy(server.address)
        policy.reset(episode)
        assert answers(policy, *range(4)) == [0.0, 1.0, 2.0, 3.0]
        policy.close()
    assert server.kinds == ["connect", "reset", *["observation"] * 5]


def test_an_answer_that_takes_longer_than_the_patience_after_an_acknowledgement_counts_once(
    episode, monkeypatch
):
    monkeypatch.setattr("b1k_policies.remote.wire.dialogue.PATIENCE_S", 0.1)
    slow = [0.5]

    def compiling(message):
        time.sleep(slow.pop() if slow else 0.0)
        return numbered(message)

    with foreign_server(compiling, on_reset=after(LATE_S, {"reset": True})) as server:
        policy = RemotePolicy(server.address)
        policy.reset(episode)
        assert answers(policy, *range(4)) == [0.0, 1.0, 2.0, 3.0]
        policy.close()


# --- what becomes of a run ------------------------------------------------------------------------


@pytest.fixture
def cli(monkeypatch, tmp_path):
    monkeypatch.setattr(simulators, "make_env", make_toy_env)
    monkeypatch.chdir(tmp_path)

    def run(server, *more):
        words = ["run", "--task", "31", "--policy", server.address, "--horizon", "1", "--no-video"]
        return CliRunner().invoke(app, [*words, "--max-steps", "5", "--out", "r", "--json", *more])

    return run


def test_the_run_says_that_a_server_acknowledges_resets(cli, tmp_path):
    with foreign_server(numbered, on_reset=lambda _: [{"reset": True}]) as server:
        result = cli(server, "--instances", "0-2")
    assert result.exit_code == 0, result.output
    (remark,) = json.loads(result.stdout)["remarks"]
    assert "the server answers a reset, with {'reset': True}" in remark
    assert result.stderr.count("note: ") == 1
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    assert record["sessions"][0]["remarks"] == [remark]
    for file in (tmp_path / "r" / "episodes").glob("*/result.json"):
        assert json.loads(file.read_text())["remarks"] == [remark]


def test_a_run_ends_with_the_reason_when_answers_cannot_be_matched(cli, tmp_path):
    with foreign_server(lambda message: [numbered(message)] * 2) as server:
        result = cli(server, "--instances", "0-4")
    assert result.exit_code == 1
    error = json.loads(result.stdout)["error"]
    assert error["message"].startswith("the run ends here: EndsRunError: the server sent an action")
    lines = (tmp_path / "r" / "episodes.jsonl").read_text().splitlines()
    assert [json.loads(line)["outcome"] for line in lines] == ["error"]


def test_an_episode_whose_answers_cannot_be_matched_is_no_evidence_either_way(episode):
    with foreign_server(lambda message: [numbered(message)] * 2) as server:
        policy = RemotePolicy(server.address)
        result = run_episode(ToyEnv(), policy, episode, RecedingHorizon(1, 1))
        policy.close()
    assert (result.outcome, result.failure_reason, result.ends_run) == ("error", None, True)


@pytest.mark.slow
def test_a_run_in_workers_ends_with_the_reason_as_well(og_2026, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    with foreign_server(lambda message: [numbered(message)] * 2) as server:
        words = ["run", "--task", "31", "--sim", "omnigibson", "--policy", server.address]
        words += ["--horizon", "1", "--max-steps", "5", "--no-video", "--instances", "0-3"]
        result = CliRunner().invoke(app, [*words, "--out", "r", "--json"])
    assert result.exit_code == 1
    error = json.loads(result.stdout)["error"]
    assert error["message"].startswith("the run ends here: EndsRunError: the server sent an action")
    assert error["type"] == "EndsRunError"
    lines = (tmp_path / "r" / "episodes.jsonl").read_text().splitlines()
    assert [json.loads(line)["outcome"] for line in lines] == ["error"]
