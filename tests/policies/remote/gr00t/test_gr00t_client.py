"""A server of GR00T's protocol, as its text has it, driven by our client."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from doubles import ToyEnv
from foreign_gr00t import (
    DIMENSIONS,
    PARTS,
    PICTURES,
    WORDS,
    GoesError,
    Gr00tServer,
    HangsError,
    action_of,
    config_of,
    gr00t_server,
)
from foreign_server import foreign_server

from b1k_envs.base import VIEWS, Worlds
from b1k_envs.errors import HostFaultError, PolicyFaultError, UnavailableError, UsageError
from b1k_envs.r1pro import PROPRIO_2025
from b1k_envs.tasks.table import get_task
from b1k_envs.tracks import mask
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.loop.driver import drive
from b1k_eval.loop.runner import episode_loop, run_episode
from b1k_policies.base import Query
from b1k_policies.registry import make_policy
from b1k_policies.remote.gr00t.client import Gr00tPolicy

TASK = get_task(31)


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.delenv("B1K_EVAL_API_KEY", raising=False)


@pytest.fixture
def told(episode):
    return replace(episode, protocol="2025", instruction=TASK.instruction)


def worlds_of(observation):
    words = observation[WORDS] if WORDS in observation else observation["language"][WORDS]
    return len(words)


def forward(observation):
    """Full speed ahead in every world; column i of row t is t + i / 100 otherwise."""
    rows = np.zeros((worlds_of(observation), 32, 23), np.float32)
    rows[:] = np.arange(32)[:, None] + np.arange(23) / 100
    rows[..., 0] = 1.0
    return [action_of(rows, flat=WORDS in observation), {}]


def seen_of_2025():
    """An observation whose 256 numbers are 0 to 255, and whose pictures have a colour each."""
    env = ToyEnv(protocol="2025")
    seen = env.observe()
    pictures = {
        view: np.full((size, size, 3), 60 * (1 + n), np.uint8)
        for n, (view, size) in enumerate(zip(VIEWS, (720, 480, 480), strict=True))
    }
    return replace(seen, images=pictures, proprio=np.arange(256, dtype=np.float32))


# --- a whole episode ----------------------------------------------------------------------------


@pytest.mark.parametrize(("wrapped", "tries"), [(True, 1), (False, 2)])
def test_a_whole_episode_by_the_protocols_text(wrapped, tries, told):
    env = ToyEnv(protocol="2025")
    with gr00t_server(forward, wrapped=wrapped) as server:
        policy = make_policy(server.address, protocol="2025")
        assert policy.chunk_length == 32
        result = run_episode(env, policy, told, RecedingHorizon(8, policy.chunk_length))
        policy.close()
        policy.close()
    assert (result.outcome, result.steps, result.inferences) == ("success", 10, 2)
    asked = ["get_action"] * tries
    assert server.endpoints == ["get_modality_config", *asked, "reset", "get_action", "get_action"]
    assert server.requests[-3]["data"] == {"options": None}
    assert set(server.requests[-1]["data"]) == {"observation", "options"}
    assert server.requests[-1]["data"]["options"] is None
    assert all("api_token" not in request for request in server.requests)


def test_the_flat_observation_has_what_the_text_says(told):
    seen = seen_of_2025()
    with gr00t_server(forward) as server:
        policy = make_policy(server.address, protocol="2025")
        policy.reset(told)
        chunk = policy.infer(seen)
        policy.close()
    sent = server.observations[-1]
    assert set(sent) == {
        *(f"video.{key}" for key in PICTURES), *(f"state.{name}" for name in DIMENSIONS), WORDS,
    }  # fmt: skip
    assert sent[WORDS] == ["Clean boxing gloves."]
    for n, key in enumerate(PICTURES):
        picture = sent[f"video.{key}"]
        assert (picture.dtype, picture.shape) == (np.uint8, (1, 1, 256, 256, 3))
        assert (picture == 60 * (1 + n)).all()
    assert sum(DIMENSIONS.values()) == 82
    for name, size in DIMENSIONS.items():
        state = sent[f"state.{name}"]
        assert (state.dtype, state.shape) == (np.float32, (1, 1, size))
        assert state[0, 0, 0] == PROPRIO_2025[name].start
    # Places of their 258, less the grasps before them.
    assert sent["state.eef_right_quat"].ravel().tolist() == [229 - 1 + n for n in range(4)]
    assert sent["state.trunk_qpos"].ravel().tolist() == [238 - 2 + n for n in range(4)]
    expected = forward(sent)[0]
    for name, (a, b) in PARTS.items():
        np.testing.assert_array_equal(chunk.actions[:, a:b], expected[f"action.{name}"][0])


def test_the_nested_observation_is_the_same_by_other_keys(told):
    seen = seen_of_2025()
    sent = {}
    for form in ("flat", "nested"):
        with gr00t_server(forward, wrapped=form == "flat") as server:
            policy = make_policy(f"{server.address}?keys={form}", protocol="2025")
            assert server.endpoints == ["get_modality_config", "get_action"]
            policy.reset(told)
            policy.infer(seen)
            policy.close()
        sent[form] = server.observations[-1]
    flat, nested = sent["flat"], sent["nested"]
    assert set(nested) == {"video", "state", "language"}
    assert nested["language"] == {WORDS: [["Clean boxing gloves."]]}
    for modality in ("video", "state"):
        for name, array in nested[modality].items():
            np.testing.assert_array_equal(array, flat[f"{modality}.{name}"])
    assert len(nested["video"]) + len(nested["state"]) + 1 == len(flat)


@pytest.mark.parametrize(
    ("index", "sentence"),
    [(0, "Turning on radio."), (2, "Putting away halloween decorations."),
     (45, "Cook hot dogs.")],
)  # fmt: skip
def test_the_sentence_is_the_tasks_name(index, sentence, told):
    task = get_task(index)
    with gr00t_server(forward) as server:
        policy = make_policy(server.address, protocol="2025")
        policy.reset(replace(told, instruction=task.instruction))
        policy.infer(replace(seen_of_2025(), task_index=index))
        policy.reset(replace(told, instruction="something else"))
        policy.infer(replace(seen_of_2025(), task_index=index))
        policy.close()
    assert [seen[WORDS] for seen in server.observations[1:]] == [[sentence], ["something else"]]


def test_a_token_of_the_environment_is_sent_and_never_recorded(told, monkeypatch):
    monkeypatch.setenv("B1K_EVAL_API_KEY", "secret-and-long-enough")
    with gr00t_server(forward, token="secret-and-long-enough") as server:
        policy = make_policy(server.address, protocol="2025")
        policy.reset(told)
        policy.infer(seen_of_2025())
        assert "secret" not in str(policy.describe())
        policy.close()
        for key, said in (("", "was not given any"), ("another", "not the one it was given")):
            monkeypatch.setenv("B1K_EVAL_API_KEY", key)
            with pytest.raises(UnavailableError, match=f"wants a token, and .*{said}"):
                make_policy(server.address, protocol="2025")


# --- lanes --------------------------------------------------------------------------------------


def test_all_worlds_that_wait_are_in_one_question(told):
    """Three worlds that start at different places, with rows by where they are."""

    def by_place(observation):
        places = observation["state.robot_pos"][:, 0, 0]
        rows = np.zeros((len(places), 32, 23), np.float32)
        rows[..., 0] = 1.0
        rows[..., 1] = places[:, None]
        return [action_of(rows), {}]

    seen = [
        replace(seen_of_2025(), proprio=np.full(256, place, np.float32), task_index=index)
        for place, index in ((0.25, 31), (0.5, 0), (0.75, 31))
    ]
    queries = [Query(observation=one, instruction=get_task(one.task_index).instruction, seed=0)
               for one in seen]  # fmt: skip
    with gr00t_server(by_place) as server:
        policy = make_policy(server.address, protocol="2025")
        assert policy.stateless
        policy.reset(told)
        chunks = policy.infer_batch(queries)
        policy.close()
    assert len(server.observations) == 2  # the first is the trial
    assert server.observations[-1][WORDS] == [
        "Clean boxing gloves.", "Turning on radio.", "Clean boxing gloves.",
    ]  # fmt: skip
    assert server.observations[-1][f"video.{PICTURES[1]}"].shape == (3, 1, 256, 256, 3)
    assert [chunk.actions[0, 1] for chunk in chunks] == [0.25, 0.5, 0.75]


def test_lanes_of_one_process_run_their_episodes_together(told):
    envs = [ToyEnv(protocol="2025") for _ in range(3)]
    results = []
    with gr00t_server(forward) as server:
        policy = make_policy(server.address, protocol="2025")
        loops = {
            n: episode_loop(env, policy, replace(told, instance=n), RecedingHorizon(8, 32))
            for n, env in enumerate(envs)
        }
        drive(loops, Worlds(envs), lambda _, result: results.append(result))
        policy.close()
    assert [result.outcome for result in results] == ["success"] * 3
    assert {worlds_of(seen) for seen in server.observations[1:]} == {3}


# --- what cannot be provided --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (config_of(video=("ego_view",)), "it wants the pictures ego_view, and there are those as"),
        (config_of(action=("arm",)), "its actions are arm, and the robot's base, torso"),
        (config_of(state=("trunk_qpos", "grasp_left", "hand")), "state grasp_left, hand, which"),
        (config_of(steps={"video": [-5, 0]}),
         r"the video of the steps \[-5, 0\], and gets that of \[0\]"),
        (config_of(steps={"action": [0, 2, 4]}), "its chunk is not of consecutive steps"),
        ({"state": config_of()["state"]}, "its actions are none"),
        ({}, "it wants no state; its actions are none"),
    ],
)  # fmt: skip
def test_what_cannot_be_provided_is_named_and_refused(config, said):
    with (
        gr00t_server(forward, config=config) as server,
        pytest.raises(UnavailableError, match=said),
    ):
        make_policy(server.address, protocol="2025")
    assert server.endpoints == ["get_modality_config"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ([], "must be a map, got a list"),
        ({"video": 3}, "the modality video must be a map"),
        ({"state": {"modality_keys": [1], "delta_indices": [0]}}, "has no list of names"),
        ({"state": {"modality_keys": ["a", "a"], "delta_indices": [0]}}, "has no list of names"),
        ({"state": {"modality_keys": ["a"], "delta_indices": [0.5]}}, "has no list of steps"),
        ({"__ModalityConfig_class__": True, "as_json": "{}"}, "must have a map as 'as_json'"),
        ({"error": "boom"}, "gives no modality config: boom"),
    ],
)
def test_a_modality_config_that_is_none_is_refused(config, said):
    with (
        gr00t_server(forward, config=config) as server,
        pytest.raises(UnavailableError, match=said),
    ):
        make_policy(server.address, protocol="2025")


def test_in_2026_the_missing_state_is_named():
    with gr00t_server(forward) as server, pytest.raises(UsageError) as caught:
        make_policy(server.address, protocol="2026")
    text = str(caught.value)
    for name in ("robot_pos", "robot_2d_ori", "robot_lin_vel", "arm_left_qpos_sin"):
        assert f"no {name}" in text
    for name in ("no trunk_qpos", "no eef_left_pos", "no arm_left_qpos,"):
        assert name not in text
    assert "--protocol 2025" in text


def test_in_2026_a_server_that_reads_less_is_asked(told):
    config = config_of(state=("trunk_qpos", "arm_left_qpos", "arm_right_qpos"))
    with gr00t_server(forward, config=config) as server:
        policy = make_policy(server.address, protocol="2026")
        result = run_episode(ToyEnv(), policy, told, RecedingHorizon(8, 32))
        policy.close()
    assert result.outcome == "success"
    assert policy.remarks == ()
    policy.check_masked(lambda proprio: mask(proprio, "2026"))


def test_it_is_of_the_privileged_track_and_says_so():
    with gr00t_server(forward) as server:
        policy = make_policy(server.address, protocol="2025")
        policy.close()
    (remark,) = policy.remarks
    assert "the robot's pose in the house (robot_pos, robot_ori_cos" in remark
    assert "privileged track" in remark
    with pytest.raises(UsageError, match="which --track standard hides"):
        policy.check_masked(lambda proprio: mask(proprio, "2025"))


def test_a_server_that_sees_nothing_gets_no_pictures(told):
    config = config_of()
    del config["video"]
    with gr00t_server(forward, config=config) as server:
        policy = make_policy(server.address, protocol="2025")
        assert not policy.needs_images
        policy.reset(told)
        policy.infer(ToyEnv(protocol="2025").observe(images=False))
        policy.close()
    assert not any(key.startswith("video") for key in server.observations[-1])


def test_without_pyzmq_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "zmq", None)
    with pytest.raises(UnavailableError, match=r"pyzmq .*pip install '.\[gr00t\]'"):
        make_policy("gr00t://127.0.0.1:5555", protocol="2025")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("gr00t://127.0.0.1", "evaluators take port 5555"),
        ("gr00t://127.0.0.1:1?chunk=3", "choose from wait, timeout, keys"),
        ("gr00t://127.0.0.1:1?keys=both", "must be flat or nested"),
        ("ws://127.0.0.1:1?keys=flat", "choose from chunk, wait, timeout, batch, depth"),
    ],
)
def test_addresses_that_are_none_are_refused(spec, said):
    with pytest.raises(UsageError, match=said):
        make_policy(spec, protocol="2025")


# --- faults -------------------------------------------------------------------------------------


def episode_with(server, told, after=None, **options):
    waited = []
    options.setdefault("sleep", waited.append)
    policy = Gr00tPolicy(server.address, "2025", **options)
    if after is not None:
        after(policy)
    result = run_episode(ToyEnv(protocol="2025"), policy, told, RecedingHorizon(8, 32))
    policy.close()
    return result, waited


def in_turn(*answers):
    """`forward` for the trial, then one after the other."""
    rest = [forward, *answers]

    def script(observation):
        answer = rest.pop(0)
        if isinstance(answer, type):
            raise answer
        return answer(observation) if callable(answer) else answer

    return script


def rows(value=0.0, worlds=1, length=32):
    return np.full((worlds, length, 23), value, np.float32)


def test_nobody_there_is_said_with_what_to_do():
    with pytest.raises(UnavailableError) as caught:
        make_policy("gr00t://127.0.0.1:1?wait=0", protocol="2025")
    assert "refused" in str(caught.value)
    assert "run_gr00t_server.py or `b1k-eval serve --protocol gr00t`" in str(caught.value)


def test_a_server_of_another_protocol_is_not_waited_for_long(monkeypatch):
    """It hangs up, or waits for the rest of a request that never comes."""
    monkeypatch.setattr("b1k_policies.remote.gr00t.link.OPEN_TIMEOUT_S", 1.0)
    with (
        foreign_server(lambda _: {}) as server,
        pytest.raises(UnavailableError, match=r"does not speak ZeroMQ|the connection broke"),
    ):
        make_policy(f"gr00t://127.0.0.1:{server.port}?wait=0", protocol="2025")


def test_a_server_that_starts_later_is_waited_for():
    server = Gr00tServer(forward)
    server.start()
    server.stop()  # a port that is free

    def start(_):
        server.start()

    policy = Gr00tPolicy(server.address, "2025", sleep=start)
    policy.close()
    server.stop()
    assert server.endpoints == ["get_modality_config", "get_action"]


def test_a_server_that_dies_and_is_back_costs_nothing(told):
    with gr00t_server(in_turn(forward, GoesError, forward)) as server:
        result, _ = episode_with(server, told, sleep=lambda _: server.listening.wait(20))
    assert (result.outcome, result.steps) == ("success", 10)
    assert server.endpoints.count("reset") == 1
    assert server.frames[-1] == server.frames[-3]  # the same question, byte for byte


def test_a_server_that_does_not_come_back_is_tried_three_times_with_pauses(told):
    with gr00t_server(in_turn(forward, GoesError), back=False) as server:
        result, waited = episode_with(server, told, retry_wait_s=0.25)
    assert (result.outcome, result.failure_reason) == ("failure", "policy_connection_lost")
    assert "3 reconnections in this episode are used up" in result.message
    assert waited == [0.25, 0.25]
    assert result.steps == 8


def test_an_episode_for_which_no_server_is_there_is_not_the_policys_failure(told):
    with gr00t_server(forward) as server:
        policy = Gr00tPolicy(server.address, "2025", sleep=lambda _: None)
    result = run_episode(ToyEnv(protocol="2025"), policy, told, RecedingHorizon(8, 32))
    policy.close()
    assert (result.outcome, result.failure_reason, result.steps) == ("error", None, 0)
    assert "no server for this episode" in result.message


def test_a_server_that_is_back_for_the_next_episode_is_used_again(told):
    with gr00t_server(in_turn(GoesError, forward), back=False) as server:
        policy = Gr00tPolicy(server.address, "2025", sleep=lambda _: None)
        policy.reset(told)
        with pytest.raises(PolicyFaultError) as caught:
            policy.infer(seen_of_2025())
        assert caught.value.reason == "policy_connection_lost"
        with pytest.raises(HostFaultError, match="no server for this episode"):
            policy.reset(told)
        server.start()
        policy.reset(told)
        policy.infer(seen_of_2025())
        policy.close()
    assert server.endpoints[-3:] == ["get_modality_config", "reset", "get_action"]


def test_a_server_that_comes_back_as_another_is_no_evidence_either_way(told):
    def change_and_go(_):
        server.config = config_of(rows=16)
        raise GoesError

    with gr00t_server(in_turn(forward, change_and_go)) as server:
        result, _ = episode_with(server, told, sleep=lambda _: server.listening.wait(20))
    assert result.outcome == "error"
    assert "came back as something else" in result.message


def test_a_server_that_is_slow_beyond_the_deadline_is_a_timeout(told):
    def soon(policy):
        policy._query_timeout_s = 0.5

    with gr00t_server(in_turn(HangsError)) as server:
        result, _ = episode_with(server, told, soon)
    assert (result.outcome, result.failure_reason) == ("failure", "policy_query_timeout")
    assert result.message.endswith(f"no answer from {server.address} within 0.5 s")


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(told):
    server = Gr00tServer(lambda _: [action_of(rows(1)), {}])

    def slow(_):
        server.released.wait(20)
        return [action_of(rows(2)), {}]

    answers = iter([server.script, slow, server.script])
    server.script = lambda observation: next(answers)(observation)
    server.start()
    policy = Gr00tPolicy(server.address, "2025")
    policy.reset(told)
    policy._query_timeout_s = 0.3
    with pytest.raises(PolicyFaultError) as caught:
        policy.infer(seen_of_2025())
    assert caught.value.reason == "policy_query_timeout"
    server.released.set()
    policy._query_timeout_s = 60.0
    policy.reset(told)
    assert (policy.infer(seen_of_2025()).actions == 1).all()
    policy.close()
    server.stop()


def without(name):
    answer = action_of(rows())
    del answer[name]
    return [answer, {}]


def with_part(name, value):
    return [action_of(rows()) | {name: value}, {}]


@pytest.mark.parametrize(
    ("answer", "reason", "text"),
    [
        ({"error": "CUDA out of memory\nmore"}, "policy_error",
         "the server reports: CUDA out of memory"),
        ({"error": ""}, "policy_error", "the server reports: (nothing)"),
        (b"\xc1", "policy_error", "answer cannot be read: byte 0 is 0xc1"),
        (b"", "policy_error", "answer cannot be read: byte 0"),
        (b"ERROR", "policy_error", "answer cannot be read"),
        ({}, "policy_error", "must be a list of actions and info, got a dict"),
        ([{}], "policy_error", "must be a list of actions and info, got a list"),
        ([{}, {}], "policy_error", "has no action.base, no action.torso"),
        (without("action.left_arm"), "policy_error", "has no action.left_arm (it has: action."),
        (action_of(rows(), flat=False), "policy_error", "must be a list"),
        ([action_of(rows(), flat=False), {}], "policy_error", "it has: base, torso"),
        ([action_of(rows(length=31)), {}], "policy_invalid_action", "got float32 [1, 31, 3]"),
        ([action_of(rows(worlds=2)), {}], "policy_invalid_action", "got float32 [2, 32, 3]"),
        ([action_of(rows(np.nan)), {}], "policy_invalid_action", "actions[0, 0] is nan"),
        ([action_of(rows(np.inf)), {}], "policy_invalid_action", "actions[0, 0] is inf"),
        ([action_of(rows().astype(np.complex64)), {}], "policy_error", "cannot be read"),
        (with_part("action.torso", [0.0] * 4), "policy_invalid_action", "an array, got list"),
        (with_part("action.base", np.full((1, 32, 3), 1e300)), "policy_invalid_action", "is inf"),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_the_policys_fault(answer, reason, text, told):
    with gr00t_server(in_turn(forward, answer)) as server:
        result, _ = episode_with(server, told)
    assert (result.outcome, result.failure_reason) == ("failure", reason)
    assert text in result.message
    assert "more" not in result.message
    assert result.steps == 8


@pytest.mark.parametrize(
    ("answer", "text"),
    [({"error": "no memory"}, "reports: no memory"), (b"\xc1", "to a reset cannot be read")],
)
def test_a_reset_that_fails_is_the_policys_fault(answer, text, told):
    with gr00t_server(forward, on_reset=answer) as server:
        result, _ = episode_with(server, told)
    assert (result.outcome, result.failure_reason) == ("failure", "policy_error")
    assert text in result.message
    assert result.steps == 0


def test_an_answer_above_the_limit_is_not_read(told):
    with gr00t_server(in_turn(forward, bytes(17 * 2**20))) as server:
        result, _ = episode_with(server, told)
    assert result.failure_reason == "policy_error"
    assert "larger than 16777216 bytes" in result.message


def test_after_an_error_the_same_server_is_asked_on(told):
    with gr00t_server(in_turn({"error": "busy"}, forward)) as server:
        policy = make_policy(server.address, protocol="2025")
        policy.reset(told)
        with pytest.raises(PolicyFaultError, match="busy"):
            policy.infer(seen_of_2025())
        policy.infer(seen_of_2025())
        policy.close()
    assert server.endpoints.count("get_modality_config") == 1


def test_a_trial_that_fails_both_ways_is_no_policy():
    with (
        gr00t_server(lambda _: {"error": "no model"}) as server,
        pytest.raises(UnavailableError, match="flat keys: no model; nested keys: Observation"),
    ):
        make_policy(server.address, protocol="2025")


def test_an_inference_before_a_reset_is_a_bug():
    with gr00t_server(forward) as server:
        policy = make_policy(server.address, protocol="2025")
        with pytest.raises(RuntimeError, match="infer before reset"):
            policy.infer(seen_of_2025())
        policy.close()
