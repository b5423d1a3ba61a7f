"""Checkpoints that load, and whose model then takes or gives something else than it should.

Each is the tiny v17 checkpoint with one thing changed, from the request to the policy; some go from
the command line to the exit code.
"""

from __future__ import annotations

import pyarrow.parquet
import pytest
from doubles import make_toy_env
from spoilt import DA3, Spoilt, one_thread  # noqa: F401 - a fixture

from b1k_eval.run import simulators
from b1k_policies.contract.presets import V17
from b1k_policies.xvla.base_frame import frame_doubt

OPEN = "open, and taken from preset v17 unproven: skill_names"
VELOCITY = frame_doubt(V17, "2026")
BATCH = "input_ids, image_input, image_mask, proprio, domain_id, extrinsics, intrinsics"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def spoilt(tiny_v17, tmp_path):
    return Spoilt(tiny_v17, tmp_path / "spoilt")


@pytest.fixture
def toy_world(monkeypatch, tmp_path):
    """`b1k-eval run` gets the toy env, in a folder of its own."""
    monkeypatch.setattr(simulators, "make_env", make_toy_env)
    monkeypatch.setattr(simulators, "prepare_pictures", lambda: None)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("toy_world")
def test_the_checkpoint_is_good_before_it_is_spoilt(spoilt):
    code, document, _ = spoilt.run()
    assert code == 0
    assert document["remarks"] == [OPEN, VELOCITY]
    (episode,) = document["episodes"]
    assert (episode["outcome"], episode["failure_reason"], episode["steps"]) == (
        "failure",
        None,
        26,
    )


# --- what generate_actions returns -----------------------------------------------------------

WANTED = "expected float32 [1, 30, 23] (or bfloat16, float16)"


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("chunk[:, :29]", f"generate_actions returned float32 [1, 29, 23], {WANTED}"),
        ("chunk[0]", f"generate_actions returned float32 [30, 23], {WANTED}"),
        ("chunk.double()", f"generate_actions returned float64 [1, 30, 23], {WANTED}"),
        ("chunk * float('nan')", "actions[0, 0] is nan"),
        ("chunk + float('inf')", "actions[0, 0] is inf"),
        (
            "chunk.to('meta')",
            "generate_actions returned a tensor on meta, but model and inputs are on cpu",
        ),
        ("(chunk, None)", "generate_actions returned a tuple, expected a tensor [1, 30, 23]"),
        ("None", "generate_actions returned a NoneType, expected a tensor [1, 30, 23]"),
        ("chunk.numpy()", "generate_actions returned a ndarray, expected a tensor [1, 30, 23]"),
    ],
)
def test_what_is_no_chunk_is_found_in_the_trial_inference(spoilt, expression, message):
    spoilt.returns(expression)
    assert spoilt.refused() == (4, f"spoilt: trial inference: {message}")


def test_a_model_that_raises_is_found_in_the_trial_inference(spoilt):
    spoilt.begins("raise ValueError('not\\n  today')")
    assert spoilt.refused() == (
        4,
        "spoilt: generate_actions failed in a trial inference: ValueError: not today",
    )


@pytest.mark.usefixtures("toy_world")
def test_nan_from_the_second_inference_on_fails_that_episode_and_not_the_run(spoilt, tmp_path):
    spoilt.begins("self.calls = getattr(self, 'calls', -2) + 1  # two trials, to 0")
    spoilt.returns("chunk if self.calls < 2 else chunk * float('nan')")
    code, document, _ = spoilt.run("--horizon", "10", "--instances", "0-1")
    assert code == 0
    assert document["counts"] == {"success": 0, "failure": 2, "error": 0}
    told = [(e["failure_reason"], e["message"], e["steps"]) for e in document["episodes"]]
    assert told[0] == ("policy_invalid_action", "actions[0, 0] is nan", 10)
    assert told[1] == ("policy_invalid_action", "actions[0, 0] is nan", 0)
    assert [e["q_score"] for e in document["episodes"]] == [0.0, 0.0]


# --- what generate_actions takes -------------------------------------------------------------


def without_poses(spoilt):
    spoilt.edit(
        "        extrinsics: torch.Tensor | None = None,\n"
        "        intrinsics: torch.Tensor | None = None,\n",
        "",
    )
    spoilt.begins("extrinsics = intrinsics = None")


def without_steps(spoilt):
    spoilt.edit("        steps: int = 10,\n", "")
    spoilt.begins("steps = 10")


NO_POSES = (
    "the contract sends extrinsics, intrinsics, which generate_actions(input_ids, image_input, "
    "image_mask, proprio, domain_id, skill_id, skill_progress, steps) does not take; a model "
    "without poses has --set posed=false"
)


def test_poses_that_the_model_does_not_take_are_a_conflict(spoilt):
    without_poses(spoilt)
    assert spoilt.refused() == (3, NO_POSES)


def test_a_model_without_poses_runs_without_them_when_its_files_leave_it_open(spoilt):
    without_poses(spoilt)
    spoilt.edit('geometry.get("use_posed_da3", True)', "False", DA3)
    spoilt.unsaid("config.json", "geometry_conditioning", "use_posed_da3")
    for key in ("use_posed_da3", "extrinsics", "intrinsics"):
        spoilt.unsaid("EVAL_CONTRACT.json", key)
    assert spoilt.refused() == (3, NO_POSES)
    policy = spoilt.policy(settings=("posed=false",))
    assert policy.contract.posed is False


def test_a_model_without_image_mask_is_not_sent_one_and_that_is_told(spoilt):
    spoilt.edit("        image_mask: torch.Tensor,\n", "")
    spoilt.begins("image_mask = torch.ones(image_input.shape[:2], dtype=torch.bool)")
    assert spoilt.remarks() == (
        OPEN,
        "generate_actions does not take image_mask: not passed",
        VELOCITY,
    )


def test_an_argument_that_the_contract_does_not_send_is_a_conflict(spoilt):
    spoilt.edit("        domain_id: torch.Tensor,\n", "        domain_id, object_masks,\n")
    assert spoilt.refused() == (
        3,
        f"generate_actions wants object_masks, which the contract does not send (it sends {BATCH})",
    )


def test_a_model_that_takes_no_number_of_steps_keeps_its_own_unless_one_is_asked_for(spoilt):
    without_steps(spoilt)
    spoilt.unsaid("EVAL_CONTRACT.json", "denoising_steps")
    own = "generate_actions takes no number of denoising steps: the model's own"
    assert spoilt.remarks() == (OPEN, own, VELOCITY)
    assert spoilt.refused(settings=("denoising_steps=5",)) == (
        3,
        f"denoising_steps is 5, but generate_actions({BATCH}, skill_id, skill_progress) takes no "
        "number of steps (none of steps, num_steps, denoising_steps, num_denoising_steps, "
        "num_inference_steps)",
    )


def test_a_model_without_generate_actions_is_a_conflict(spoilt):
    spoilt.edit("def generate_actions(", "def act(")
    assert spoilt.refused() == (3, "XVLA has no generate_actions")


# --- heads -----------------------------------------------------------------------------------

SKILL_HEAD = "nn.Linear(width, config.num_skills)"
SIGMOID = (
    "progress_head ends in a Sigmoid, so it gives a probability, but the contract says "
    "progress_output is logit: a second sigmoid would squeeze it into [0.5, 0.73]"
)


def with_sigmoid(spoilt):
    spoilt.edit("sigmoid = config.progress_head_sigmoid", "sigmoid = True")
    spoilt.tensors(
        lambda tensors: {
            name.replace("progress_head.", "progress_head.0."): t for name, t in tensors.items()
        }
    )


@pytest.mark.slow
@pytest.mark.usefixtures("toy_world")
@pytest.mark.parametrize(
    ("old", "new", "remark", "empty", "full"),
    [
        (
            f"{SKILL_HEAD} if config.num_skills else None",
            "None",
            "the model has no skill_classifier: the skill columns stay empty",
            ["skill", "skill_index", "skill_prob"],
            ["progress"],
        ),
        (
            "if config.use_progress_head:",
            "if False:",
            "the model has no progress_head: the progress column stays empty",
            ["progress"],
            ["skill_index", "skill_prob"],
        ),
        (
            "            self.progress_head(pooled)",
            "            pass",
            "generate_actions does not call progress_head: nothing to read",
            ["progress"],
            ["skill_index", "skill_prob"],
        ),
    ],
)
def test_a_head_that_is_not_there_is_told_once_and_its_columns_stay_empty(
    spoilt, tmp_path, old, new, remark, empty, full
):
    spoilt.edit(old, new)
    code, document, errors = spoilt.run("--instances", "0-1")
    assert code == 0
    assert document["remarks"].count(remark) == 1
    assert errors.count(remark) == 1
    for episode in document["episodes"]:
        trace = pyarrow.parquet.read_table(tmp_path / episode["folder"] / "trace.parquet")
        assert [trace[name].null_count for name in empty] == [len(trace)] * len(empty)
        assert [trace[name].null_count for name in full] == [0] * len(full)


def test_a_sigmoid_where_the_contract_says_logit_is_a_conflict(spoilt):
    with_sigmoid(spoilt)
    assert spoilt.refused() == (3, f"spoilt: {SIGMOID}")


def test_what_is_forced_past_the_heads_is_remarked_and_marks_the_name(spoilt):
    with_sigmoid(spoilt)
    policy = spoilt.policy(force_contract=True)
    assert policy.remarks == (OPEN, f"forced: {SIGMOID}", VELOCITY)
    assert policy.name == "v17 (forced)"
    assert policy.describe()["forced"] is True


def test_a_skill_classifier_of_another_width_is_a_conflict(spoilt):
    spoilt.edit(SKILL_HEAD, "nn.Linear(width, 12)")
    spoilt.tensors(
        lambda tensors: {
            name: t[:12].clone() if name.startswith("skill_classifier") else t
            for name, t in tensors.items()
        }
    )
    assert spoilt.refused() == (
        3,
        "spoilt: skill_classifier has 12 classes, the contract says skill_count is 34",
    )


# --- on the command line -----------------------------------------------------------------------


@pytest.mark.usefixtures("toy_world")
@pytest.mark.parametrize(
    ("spoil", "options", "kind", "exit_code", "message"),
    [
        (
            lambda s: (s.folder / "config.json").unlink(), (), "UsageError", 2,
            "FOLDER has no config.json, so it is no checkpoint folder; it holds EVAL_CONTRACT.json,"
            " README.md, code, merges.txt, model.safetensors, special_tokens_map.json, "
            "tokenizer.json, tokenizer_config.json",
        ),
        (without_poses, (), "ContractMismatchError", 3, NO_POSES),
        (with_sigmoid, (), "ContractMismatchError", 3, f"spoilt: {SIGMOID}"),
        (
            lambda s: s.returns("chunk[:, :29]"), (), "CheckpointError", 4,
            "spoilt: trial inference: generate_actions returned float32 [1, 29, 23], " + WANTED,
        ),
        (
            lambda s: s.edit("import torch\n", "raise SystemExit('bye')\n"), (), "CheckpointError",
            4, "the checkpoint's code (FOLDER/code/da3_xvla) failed at import: SystemExit: bye "
            "(FOLDER/code/da3_xvla/models/modeling_xvla.py:6)",
        ),
        (
            lambda _: None, ("--skill-id", "34"), "ContractMismatchError", 3,
            "--skill-id 34: the contract has 34 skills, 0 to 33",
        ),
    ],
)  # fmt: skip
def test_the_command_line_gives_the_message_as_json_and_its_exit_code(
    spoilt, tmp_path, spoil, options, kind, exit_code, message
):
    spoil(spoilt)
    code, document, errors = spoilt.run(*options)
    message = message.replace("FOLDER", str(spoilt.folder))
    assert document == {"error": {"type": kind, "message": message, "exit_code": exit_code}}
    assert code == exit_code
    assert errors.splitlines() == [f"error: {message}"]
    assert not (tmp_path / "r").exists()


@pytest.mark.usefixtures("toy_world")
def test_what_the_code_prints_stays_out_of_the_document(spoilt):
    spoilt.edit("import torch\n", "import torch\nprint('heard at import')\n")
    spoilt.edit(
        "        self.post_init()", "        print('heard in building')\n        self.post_init()"
    )
    spoilt.begins("print('heard in inference')")
    code, document, errors = spoilt.run("--horizon", "10")
    assert code == 0
    assert document["counts"]["failure"] == 1
    heard = [line for line in errors.splitlines() if line.startswith("heard")]
    assert heard == ["heard at import", "heard in building"] + 5 * ["heard in inference"]
