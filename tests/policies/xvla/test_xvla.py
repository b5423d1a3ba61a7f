"""The policy itself, on the tiny checkpoints: what the model says reaches the runner unchanged.

Heads and raw chunks are captured by hooks of the tests' own. What a pass does not prove: anything
of trained weights.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from observations import CARDS, OFFSETS, expected_proprio, made_observation, natural_pictures
from spoilt import Spoilt, one_thread  # noqa: F401 - a fixture

from b1k_envs.errors import ActionError, B1kEvalError, HostFaultError
from b1k_envs.r1pro import PROPRIO_LAYOUTS
from b1k_policies.base import EpisodeInfo, Query
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.registry import CHECKPOINT, make_policy
from b1k_policies.seeding import inference_seed, seeded
from b1k_policies.xvla.files.checkpoint import CheckpointError

pytestmark = pytest.mark.usefixtures("one_thread")

EPISODE = EpisodeInfo(
    task="clean_boxing_gloves",
    task_index=31,
    instruction="clean the boxing gloves",
    instance=0,
    rollout=0,
    seed=7,
    protocol="2026",
)
SEEN = made_observation(0, "2026")


def load(folder, **options):
    request = CheckpointRequest(ckpt=str(folder), device="cpu", **options)
    return make_policy(CHECKPOINT, request)


@pytest.fixture(scope="module")
def tiny_folders(tiny_v4, tiny_v17):
    return {"v4": tiny_v4, "v17": tiny_v17}


@pytest.fixture(scope="module", params=["v4", "v17"])
def version(request):
    return request.param


@pytest.fixture(scope="module")
def policy(version, tiny_folders):
    loaded = load(tiny_folders[version])
    yield loaded
    loaded.close()


@pytest.fixture
def spoilt(tiny_v17, tmp_path):
    return Spoilt(tiny_v17, tmp_path / "spoilt")


def queries(count):
    """Other poses, proprio, pictures and noise each."""
    return [
        Query(
            observation=made_observation(
                number,
                "2026",
                {view: np.roll(p, 90 * number, axis=1) for view, p in natural_pictures().items()},
            ),
            instruction="clean the boxing gloves",
            seed=10 + number,
        )
        for number in range(count)
    ]


def captured(policy, module_name):
    """Outputs of a head from now on, float64, by a hook of this file."""
    outputs = []
    module = policy.model.model.get_submodule(module_name)
    handle = module.register_forward_hook(
        lambda _module, _inputs, output: outputs.append(output.double().numpy().copy())
    )
    return outputs, handle


def chunk_of(policy, seed=7, inferences=1):
    """The last of so many chunks of an episode."""
    policy.reset(replace(EPISODE, seed=seed))
    return [policy.infer(SEEN) for _ in range(inferences)][-1]


# --- heads -----------------------------------------------------------------------------------


def test_the_skill_is_the_likeliest_and_its_probability_the_softmax(policy):
    outputs, handle = captured(policy, "skill_classifier")
    skills = [chunk.skill for chunk in policy.infer_batch(queries(3))]
    handle.remove()
    (logits,) = outputs
    assert logits.shape == (3, 34)
    for row, skill in zip(logits, skills, strict=True):
        likeliest = max(range(34), key=lambda index: row[index])
        assert skill.index == likeliest
        assert skill.name is None
        by_hand = 1 / sum(np.exp(value - row[likeliest]) for value in row)
        assert skill.probability == pytest.approx(by_hand, rel=1e-6)


def test_progress_is_one_sigmoid_of_a_logit_and_none_of_a_probability(policy, version):
    outputs, handle = captured(policy, "progress_head")
    progress = [chunk.progress for chunk in policy.infer_batch(queries(3))]
    handle.remove()
    (given,) = outputs
    assert given.shape == (3, 1)
    expected = given[:, 0] if version == "v4" else 1 / (1 + np.exp(-given[:, 0]))
    assert progress == pytest.approx(expected.tolist(), rel=1e-6)
    assert len(set(progress)) == 3


# --- chunks ----------------------------------------------------------------------------------


def test_a_chunk_is_the_models_rows_that_are_still_to_come_and_absolute(policy, version):
    """v4's row 0 was commanded at the current frame already; v17's is the next one."""
    first = CARDS[version].first_action
    (query,) = queries(1)
    prediction = policy.predict(policy.prepare([query]), [query.seed])
    (chunk,) = policy.infer_batch([query])
    assert prediction.actions.shape == (1, 30, 23)
    assert chunk.actions.shape == (30 - first, 23)
    assert (policy.chunk_length, policy.skipped_rows) == (30 - first, first)
    absolute = prediction.actions[0, first:].astype(np.float64)
    absolute[:, list(OFFSETS)] += expected_proprio(query.observation)[list(OFFSETS)]
    np.testing.assert_allclose(chunk.actions, absolute, rtol=0, atol=1e-6)
    assert not chunk.actions.flags.writeable


def test_a_chunk_is_a_function_of_seed_and_inference(policy):
    first, second = chunk_of(policy), chunk_of(policy, inferences=2)
    assert np.array_equal(chunk_of(policy).actions, first.actions)
    assert np.array_equal(chunk_of(policy, inferences=2).actions, second.actions)
    for other in (second, chunk_of(policy, seed=8)):
        assert np.abs(other.actions - first.actions).max() > 1e-3
    seeds = {inference_seed(seed, n) for seed in range(50) for n in range(50)}
    assert len(seeds) == 2500
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_another_draw_of_torchs_generator_changes_nothing(policy):
    import torch

    first = chunk_of(policy)
    torch.manual_seed(12345)
    state = torch.get_rng_state()
    assert np.array_equal(chunk_of(policy).actions, first.actions)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_fresh_policy_gives_the_same_chunk(policy, version, tiny_folders):
    fresh = load(tiny_folders[version])
    assert np.array_equal(chunk_of(fresh).actions, chunk_of(policy).actions)
    fresh.close()


def test_a_batch_gives_what_its_observations_give_alone(policy):
    asked = queries(3)
    together = policy.infer_batch(asked)
    for query, chunk in zip(asked, together, strict=True):
        (alone,) = policy.infer_batch([query])
        np.testing.assert_allclose(chunk.actions, alone.actions, rtol=0, atol=1e-5)
        assert chunk.skill.index == alone.skill.index
        assert chunk.progress == pytest.approx(alone.progress, abs=1e-5)
    (other,) = policy.infer_batch([replace(asked[0], seed=99)])  # so that equal noise matters
    assert np.abs(other.actions - together[0].actions).max() > 1e-3


@pytest.mark.slow
def test_two_checkpoints_taken_in_turn_give_what_each_gives_alone(tiny_folders):
    alone = {}
    for name, folder in tiny_folders.items():
        policy = load(folder)
        alone[name] = [chunk_of(policy, inferences=n).actions for n in (1, 2)]
        policy.close()
    both = {name: load(folder) for name, folder in tiny_folders.items()}
    for policy in both.values():
        policy.reset(EPISODE)
    for number in range(2):
        for name, policy in both.items():
            assert np.array_equal(policy.infer(SEEN).actions, alone[name][number])


def test_infer_before_reset_is_a_bug_of_the_caller(tiny_v17):
    with pytest.raises(RuntimeError, match="infer before reset"):
        load(tiny_v17).infer(SEEN)


# --- noise -----------------------------------------------------------------------------------

DRAWS = {
    "numbers": lambda torch, n: torch.randn(n, 5, 7),
    "tuple": lambda torch, n: torch.randn((n, 5, 7)),
    "size": lambda torch, n: torch.randn(size=(n, 5, 7)),
    "bfloat16": lambda torch, n: torch.randn(n, 40, dtype=torch.bfloat16, device="cpu"),
    "like": lambda torch, n: torch.randn_like(torch.zeros(n, 5, 7)),
    "second": lambda torch, n: (torch.randn(n, 3), torch.randn_like(torch.zeros(n, 20)))[1],
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_noise_of_a_batch_is_the_noise_of_its_singles(draw):
    import torch

    cpu = torch.device("cpu")
    with seeded([5, 6, 7], cpu):
        together = draw(torch, 3)
    for row, seed in zip(together, (5, 6, 7), strict=True):
        with seeded([seed], cpu):
            alone = draw(torch, 1)
        assert alone.dtype == together.dtype
        assert torch.equal(row, alone[0])
    generator = torch.Generator().manual_seed(5)  # and a single one is torch's own
    if together.shape == (3, 5, 7):
        assert torch.equal(together[0], torch.randn(5, 7, generator=generator))


@pytest.mark.parametrize("seeds", [[5], [5, 6, 7]])
def test_the_global_generator_is_afterwards_as_it_was(seeds):
    import torch

    torch.manual_seed(1)
    before = torch.get_rng_state()
    with seeded(seeds, torch.device("cpu")):
        torch.rand(10)
        torch.randn(len(seeds), 4)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ZeroDivisionError), seeded(seeds, torch.device("cpu")):
        raise ZeroDivisionError(torch.rand(10))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(torch.randn(3, 4), torch.randn(3, 4, generator=_generator(1)))


def _generator(seed):
    import torch

    return torch.Generator().manual_seed(seed)


# --- options ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_forced_skill_and_progress_reach_the_model(spoilt):
    spoilt.begins("self.asked = skill_id, skill_progress")
    free = spoilt.policy()
    chunk = chunk_of(free)
    assert free.model.model.asked == (None, None)
    other = (chunk.skill.index + 1) % 34
    forced = spoilt.policy(skill_id=other, skill_progress=0.25)
    changed = chunk_of(forced)
    skill_id, skill_progress = forced.model.model.asked
    assert (str(skill_id.dtype), skill_id.tolist()) == ("torch.int64", [other])
    assert (str(skill_progress.dtype), skill_progress.tolist()) == ("torch.float32", [0.25])
    assert changed.skill.index == chunk.skill.index  # what the classifier says stays told
    assert np.abs(changed.actions - chunk.actions).max() > 1e-3
    described = forced.describe()
    assert (described["forced_skill_id"], described["forced_skill_progress"]) == (other, 0.25)


@pytest.mark.slow
def test_a_model_is_told_its_own_progress_of_the_inference_before(spoilt):
    spoilt.unsaid("EVAL_CONTRACT.json", "skill_progress")
    spoilt.begins("self.told = None if skill_progress is None else skill_progress.tolist()")
    policy = spoilt.policy(settings=("skill_progress=previous",))
    policy.reset(EPISODE)
    first = policy.infer(SEEN)
    assert policy.model.model.told == [0.0]
    policy.infer(SEEN)
    assert policy.model.model.told == [np.float32(first.progress)]
    policy.reset(EPISODE)
    assert np.array_equal(policy.infer(SEEN).actions, first.actions)
    # In a batch each query has its own.
    queries = [
        Query(observation=SEEN, instruction="wash", seed=0, progress=p) for p in (None, 0.25)
    ]
    policy.infer_batch(queries)
    assert policy.model.model.told == [0.0, 0.25]
    fixed = spoilt.policy(settings=("skill_progress=0.5",))
    fixed.infer_batch(queries)
    assert fixed.model.model.told == [0.5, 0.5]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "weights", "pictures"),
    [
        ({"autocast": "bfloat16"}, "float32", "float32"),
        ({"settings": ("dtype=bfloat16",)}, "bfloat16", "bfloat16"),
    ],
)
def test_bfloat16_runs_and_leaves_the_poses_exact(spoilt, options, weights, pictures):
    exact = chunk_of(spoilt.policy())
    spoilt.unsaid("EVAL_CONTRACT.json", "dtype")
    spoilt.begins("self.sent = image_input, extrinsics, intrinsics")
    policy = spoilt.policy(**options)
    chunk = chunk_of(policy)
    dtypes = {str(p.dtype).removeprefix("torch.") for p in policy.model.model.parameters()}
    assert dtypes == {weights}
    image, extrinsics, intrinsics = policy.model.model.sent
    assert str(image.dtype) == f"torch.{pictures}"
    assert intrinsics[0, 0, 0, 0].item() == pytest.approx(95.2, abs=1e-5)  # bfloat16 has 95
    assert extrinsics[0].numpy().tolist() == [
        SEEN.camera_to_base[view].tolist() for view in ("head", "left_wrist", "right_wrist")
    ]
    difference = np.abs(chunk.actions - exact.actions).max()
    assert 1e-6 < difference < 0.05
    assert chunk.actions.dtype == np.float32


def test_weights_are_those_of_the_file_to_the_bit_whatever_config_json_says(spoilt, tiny_v17):
    """transformers 5 would round them to the `torch_dtype` there first."""
    import torch
    from safetensors.torch import load_file

    path = spoilt.folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "torch_dtype": "bfloat16"}))
    state = spoilt.policy(settings=("dtype=float32",)).model.model.state_dict()
    assert all(
        torch.equal(state[k], t) for k, t in load_file(tiny_v17 / "model.safetensors").items()
    )


@pytest.mark.slow
def test_compiled_it_gives_the_eager_chunks_or_says_that_it_cannot_be(tiny_v17):
    few = {"settings": ("denoising_steps=1",), "force_contract": True}
    eager = load(tiny_v17, **few)
    try:
        compiled = load(tiny_v17, compile=True, **few)
    except CheckpointError as error:
        assert "failed in a trial inference (compiled; try without --compile)" in str(error)  # noqa: PT017
        return
    for query in queries(2):  # one by one: each size of a batch is compiled anew
        (chunk,), (wanted,) = compiled.infer_batch([query]), eager.infer_batch([query])
        np.testing.assert_allclose(chunk.actions, wanted.actions, rtol=0, atol=1e-4)
    assert compiled.describe()["compiled"] is True


# --- the record, and the end -------------------------------------------------------------------


def test_the_record_is_json_and_holds_what_decides_the_actions(policy, version, tiny_folders):
    record = json.loads(json.dumps(policy.describe(), allow_nan=False))
    content = (tiny_folders[version] / "model.safetensors").read_bytes()
    files = {file["name"]: file for file in record["checkpoint"]["files"]}
    assert files["model.safetensors"] == {
        "name": "model.safetensors",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    assert {"config.json", "EVAL_CONTRACT.json", "tokenizer.json"} <= set(files)
    assert len(record["checkpoint"]["code_sha256"]) == 64
    assert record["contract"]["contract"]["name"] == record["name"] == version
    assert record["parameters"] == sum(p.numel() for p in policy.model.model.parameters())
    assert (record["device"], record["forced"]) == ("cpu", False)
    assert policy.describe_here() == {"device_name": None, "torch_threads": 1}
    assert record["remarks"] == list(policy.remarks)


def test_nothing_is_trained(policy):
    chunk_of(policy)
    assert not policy.model.model.training
    assert all(not p.requires_grad and p.grad is None for p in policy.model.model.parameters())


def test_closing_takes_the_hooks_off_and_may_be_done_twice(tiny_v17):
    policy = load(tiny_v17)
    model = policy.model.model
    assert len(model.skill_classifier._forward_hooks) == 1
    policy.close()
    policy.close()
    assert not model.skill_classifier._forward_hooks
    assert not model.progress_head._forward_hooks


def test_a_request_that_cannot_be_met_leaves_nothing_behind(spoilt):
    """A second try in the same process, after the folder was mended, works."""
    spoilt.returns("None")
    with pytest.raises(B1kEvalError):
        spoilt.policy()
    spoilt.edit("        return None\n", "        return chunk\n")
    assert chunk_of(spoilt.policy()).actions.shape == (30, 23)


@pytest.mark.parametrize("kind", ["lost", "full", "memory"])
def test_what_the_machine_does_is_not_the_models_fault(tiny_v17, monkeypatch, kind):
    import torch

    error = {
        "lost": RuntimeError("CUDA error: an illegal memory access was encountered"),
        "full": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        "memory": MemoryError("no memory"),
    }[kind]
    policy = load(tiny_v17)

    def broken(**arguments):
        raise error

    monkeypatch.setattr(policy, "generate", broken)
    policy.reset(EPISODE)
    with pytest.raises(HostFaultError, match=type(error).__name__):
        policy.infer(SEEN)
    policy.close()


def test_an_observation_that_cannot_be_sent_is_not_the_models_fault(policy):
    policy.reset(EPISODE)
    blind = replace(SEEN, images={})
    with pytest.raises(HostFaultError, match="the observation has no picture of head"):
        policy.infer(blind)


def test_a_state_that_is_not_finite_is_sent_and_only_its_own_answer_is_none(policy):
    """The model sees what the simulator gives; what it makes of that is its own fault."""
    lost = SEEN.proprio.copy()
    lost[PROPRIO_LAYOUTS[SEEN.protocol]["trunk_qpos"]] = np.nan
    spoilt = replace(SEEN, proprio=lost)
    policy.reset(EPISODE)
    with pytest.raises(ActionError, match=r"^actions\[0, \d+\] is nan$"):
        policy.infer(spoilt)
    assert np.isfinite(policy.infer(SEEN).actions).all(), "nothing of it is left behind"


def test_a_self_report_that_is_no_number_is_left_out_and_costs_no_episode(tiny_v17, monkeypatch):
    policy = load(tiny_v17)
    predict = policy.predict

    def babbling(batch, seeds):
        nothing = np.full((1, 34), np.nan, np.float32)
        return replace(predict(batch, seeds), skill_logits=nothing, progress=nothing[:, :1])

    monkeypatch.setattr(policy, "predict", babbling)
    policy.reset(EPISODE)
    chunk = policy.infer(SEEN)
    assert (chunk.skill, chunk.progress) == (None, None)
    policy.close()


@pytest.mark.slow
def test_float16_weights_are_still_those_of_the_file(tiny_v17):
    """Around 0 they have steps of 6e-8, which is many per cent of a small weight."""
    from torch import float16

    policy = load(tiny_v17, settings=("dtype=float16",))
    assert next(policy.model.model.parameters()).dtype == float16
    policy.close()
