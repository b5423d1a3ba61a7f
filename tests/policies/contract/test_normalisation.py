"""Normalised numbers: against numpy written out, and from every file that may speak of them."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from observations import expected_proprio, made_observation, random_chunk, tokens
from safetensors.numpy import save_file

from b1k_policies.contract.codecs import ContractValueError
from b1k_policies.contract.presets import V17
from b1k_policies.contract.resolved import ContractConflictError
from b1k_policies.contract.resolving import resolve
from b1k_policies.xvla.actions import decode, encode
from b1k_policies.xvla.batch import build_batch, extract_proprio, shown_proprio

OFFSETS = (3, 4, 5, *range(7, 14), *range(15, 22))
NAMES = {"mean_std": ("mean", "std"), "quantiles": ("q01", "q99"), "min_max": ("min", "max")}


def statistics(seed=0):
    """All six, per column, as a file has them."""
    random = np.random.default_rng(seed)
    low, high = np.sort(random.uniform(-2, 2, (2, 23)), axis=0)
    rows = {"mean": random.uniform(-1, 1, 23), "std": random.uniform(0.1, 2, 23),
            "q01": low, "q99": high, "min": low - 0.5, "max": high + 0.5}  # fmt: skip
    return {name: values.tolist() for name, values in rows.items()}


def some(kind, seed=0, epsilon=1e-6):
    numbers = statistics(seed)
    return {"kind": kind, **{name: numbers[name] for name in NAMES[kind]}, "epsilon": epsilon}


# --- the arithmetic ----------------------------------------------------------------------------


def test_the_proprio_is_sent_normalised():
    seen = made_observation()
    x, s = expected_proprio(seen), {k: np.array(v) for k, v in statistics().items()}
    want = {
        "mean_std": (x - s["mean"]) / (s["std"] + 1e-6),
        "quantiles": (x - s["q01"]) / (s["q99"] - s["q01"] + 1e-6) * 2.0 - 1.0,
        "min_max": (x - s["min"]) / (s["max"] - s["min"] + 1e-6) * 2.0 - 1.0,
    }
    for kind, values in want.items():
        contract = dataclasses.replace(V17, proprio_normalisation=some(kind))
        sent = build_batch([seen], contract, tokens(1))["proprio"].numpy()[0]
        np.testing.assert_allclose(sent, values, rtol=2e-5, atol=2e-6)
        np.testing.assert_allclose(extract_proprio(seen, contract), x, rtol=1e-6, atol=1e-6)


def test_actions_are_taken_back_before_the_physical_state_is_added():
    predicted, state = random_chunk()
    s = {k: np.array(v) for k, v in statistics(1).items()}
    want = {
        "mean_std": predicted * (s["std"] + 1e-6) + s["mean"],
        "quantiles": (predicted + 1.0) / 2.0 * (s["q99"] - s["q01"] + 1e-6) + s["q01"],
        "min_max": (predicted + 1.0) / 2.0 * (s["max"] - s["min"] + 1e-6) + s["min"],
    }
    for kind, values in want.items():
        for column in OFFSETS:
            values[..., column] += state[:, None, column]
        contract = dataclasses.replace(
            V17, action_normalisation=some(kind, 1), proprio_normalisation=some(kind)
        )
        given = predicted.copy()
        np.testing.assert_allclose(decode(given, state, contract), values, atol=2e-6)
        np.testing.assert_array_equal(given, predicted)
        np.testing.assert_allclose(
            encode(decode(predicted, state, contract), state, contract), predicted, atol=3e-5
        )


def test_a_masked_column_is_sent_as_zero_and_offsets_are_added_to_what_it_was():
    seen, columns = made_observation(), (0, 1, 2, 3, 14)
    contract = dataclasses.replace(V17, proprio_mask=columns)
    state = extract_proprio(seen, contract)
    want = expected_proprio(seen)
    want[list(columns)] = 0
    sent = build_batch([seen], contract, tokens(1))["proprio"].numpy()[0]
    np.testing.assert_allclose(sent, want, atol=1e-6, rtol=1e-6)
    np.testing.assert_array_equal(sent, shown_proprio(state, contract))
    chunk = np.zeros((1, 30, 23), np.float32)
    assert decode(chunk, state[None], contract)[0, 0, 3] == state[3] != 0


# --- where it is stated ------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """Writes a folder of 224 px with JSON files, and safetensors where the name says so."""

    def write(config=None, **files):
        config = {"geometry_conditioning": {"da3_process_res": 224}, **(config or {})}
        (tmp_path / "config.json").write_text(json.dumps(config))
        for name, content in files.items():
            path = tmp_path / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".safetensors":
                save_file({k: np.array(v, np.float32) for k, v in content.items()}, path)
            else:
                path.write_text(json.dumps(content))
        return tmp_path

    return write


def only(*names, seed=0):
    return {name: statistics(seed)[name] for name in names}


OPENPI = {"norm_stats": {"state": only("mean", "std"), "actions": only("mean", "std", seed=1)}}


def test_statistics_of_one_kind_beside_the_weights_are_the_contracts(folder):
    path = folder(**{"assets__b1k__norm_stats.json": OPENPI})
    with pytest.raises(ContractConflictError, match="action_normalisation: assets/b1k/norm_st"):
        resolve(path)  # the card of v17 decodes without
    found = resolve(path, settings=["action_normalisation=mean_std"])
    assert (
        found.contract.action_normalisation
        == dataclasses.replace(V17, action_normalisation=some("mean_std", 1)).action_normalisation
    )
    state = found.sources["proprio_normalisation"]
    assert state.source == "assets/b1k/norm_stats.json:norm_stats.state"
    assert found.contract.proprio_normalisation.kind == "mean_std"
    assert not found.is_forced


def test_a_checkpoint_with_a_contract_of_its_own_needs_no_option(folder):
    own = {"name": "v18", "base": "v17", "norm_stats": OPENPI["norm_stats"]}
    found = resolve(folder(**{"EVAL_CONTRACT.json": own}))
    assert found.contract.action_normalisation.kind == "mean_std"
    assert found.sources["action_normalisation"].source == "EVAL_CONTRACT.json:norm_stats.actions"
    assert found.not_understood == ()
    assert not any("speaks of normalised" in remark for remark in found.remarks)


def test_which_of_two_kinds_is_meant_is_asked(folder):
    both = {"norm_stats": {"state": statistics()}}
    path = folder(**{"norm_stats.json": both})
    with pytest.raises(ContractValueError) as refused:
        resolve(path)
    assert "has mean_std and quantiles and min_max: which of them is used is not" in str(
        refused.value
    )
    assert "--set FIELD=mean_std" in str(refused.value)
    for kind in NAMES:
        found = resolve(path, settings=[f"proprio_normalisation={kind}"])
        assert found.contract.proprio_normalisation.kind == kind
    assert resolve(path, settings=["proprio_normalisation=none"]).contract == V17
    with pytest.raises(ContractValueError, match=r"from exactly one file of the chec.* found no"):
        resolve(path, settings=["action_normalisation=mean_std"])
    forced = resolve(path, force=True)
    assert any("not honoured, numbers are sent and executed without" in r for r in forced.remarks)


def test_use_quantile_norm_says_which(folder):
    path = folder(
        {"use_quantile_norm": True}, **{"stats.json": {"observation.state": statistics()}}
    )
    with pytest.raises(
        ContractValueError, match=r"config.json:use_quantile_norm speaks of .*no file"
    ):
        resolve(path)  # of the actions, whose numbers are nowhere
    found = resolve(path, settings=["action_normalisation=none"])
    assert found.contract.proprio_normalisation.kind == "quantiles"


LEROBOT = {"STATE": "MEAN_STD", "ACTION": "IDENTITY", "VISUAL": "IDENTITY"}


def test_a_normalization_mapping_without_numbers_is_refused_and_identity_is_none(folder):
    with pytest.raises(ContractValueError) as refused:
        resolve(folder({"normalization_mapping": LEROBOT}))
    assert "config.json:normalization_mapping.STATE speaks of" in str(refused.value)
    assert "and no file has mean and std" in str(refused.value)
    found = resolve(folder({"normalization_mapping": {**LEROBOT, "STATE": "IDENTITY"}}))
    assert found.contract == V17
    where = "config.json:normalization_mapping.ACTION"
    assert found.sources["action_normalisation"].confirmed_by + (
        found.sources["action_normalisation"].source,
    ) == ("preset v17", where)


def test_lerobots_processors_have_the_numbers_in_a_file_of_their_own(folder):
    step = {"registry_name": "normalizer_processor", "state_file": "pre_0.safetensors",
            "config": {"eps": 1e-8, "norm_map": LEROBOT}}  # fmt: skip
    path = folder(
        **{
            "policy_preprocessor.json": {"name": "x", "steps": [{"registry_name": "x"}, step]},
            "pre_0.safetensors": {
                f"observation.state.{n}": v for n, v in only("mean", "std", "min", "max").items()
            },
        }
    )
    found = resolve(path).contract.proprio_normalisation
    assert (found.kind, found.epsilon) == ("mean_std", 1e-8)
    np.testing.assert_allclose(found.second, statistics()["std"], rtol=1e-6)


def test_buffers_that_normalise_are_not_silent(folder):
    path = folder(
        **{
            "model.safetensors": {
                "model.head.weight": [[1.0]],
                "normalize_inputs.buffer_observation_state.mean": statistics()["mean"],
                "normalize_inputs.buffer_observation_state.std": statistics()["std"],
            }
        }
    )
    with pytest.raises(ContractValueError, match=r"as buffers of the model, which may apply them"):
        resolve(path)
    assert resolve(path, settings=["proprio_normalisation=none"]).contract == V17
    found = resolve(path, settings=["proprio_normalisation=mean_std"]).contract
    np.testing.assert_allclose(found.proprio_normalisation.first, statistics()["mean"], rtol=1e-6)


def test_numbers_that_do_not_fit_the_robots_are_refused(folder):
    wide = {"norm_stats": {"state": {"mean": [0.0] * 32, "std": [1.0] * 32}}}
    with pytest.raises(ContractValueError, match="proprio_normalisation has 32 columns, the"):
        resolve(folder(**{"norm_stats.json": wide}))
    rows = {"norm_stats": {"state": {"mean": [[0.0] * 23], "std": [[1.0] * 23]}}}
    with pytest.raises(ContractValueError, match="not as one number a column"):
        resolve(folder(**{"norm_stats.json": rows}))


def test_files_with_different_numbers_contradict_each_other(folder):
    other = {"norm_stats": {"state": only("mean", "std", seed=5)}}
    files = {"assets__a__norm_stats.json": {"state": only("mean", "std")},
             "assets__b__norm_stats.json": other}  # fmt: skip
    with pytest.raises(ContractConflictError, match="proprio_normalisation: assets/a/norm_stats"):
        resolve(folder(**files))


def test_statistics_of_pictures_and_times_are_nobodys_business(folder):
    stats = {"observation.images.head": only("mean", "std"), "timestamp": only("min", "max")}
    assert resolve(folder(**{"meta__stats.json": stats})).contract == V17
