"""Keys of EVAL_CONTRACT.json that nothing was made of: told, or refused where that is no choice."""

from __future__ import annotations

import json

import pytest

from b1k_policies.contract.codecs import ContractValueError
from b1k_policies.contract.resolving import resolve

OWN = {"format": "b1k-eval-contract/1"}


@pytest.fixture
def folder(tmp_path):
    """Writes a checkpoint folder of 224 px with a contract file."""

    def write(contract):
        config = {"geometry_conditioning": {"da3_process_res": 224}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "EVAL_CONTRACT.json").write_text(json.dumps(contract))
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("contract", "told"),
    [
        ({"mystery": 1}, "1 key not understood (mystery)"),
        (
            {"a": {"b": 1, "c": 2}, "view_order": "head, ego", "training": {}, "name": "v17"},
            "4 keys not understood (a.b, a.c, view_order, ...)",
        ),
    ],
)
def test_keys_that_were_not_understood_are_remarked_on(folder, contract, told):
    remarks = resolve(folder(contract)).remarks
    assert f"EVAL_CONTRACT.json: {told}; see `b1k-eval contract CKPT`" in remarks


def test_a_file_that_is_understood_gets_no_such_remark(folder):
    remarks = resolve(folder({"name": "v17", "chunk_size": 30})).remarks
    assert not any("not understood" in remark for remark in remarks)


# --- this project's own format -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        ({"image_sise": 224}, "'image_sise' is no field of a contract; did you mean image_size"),
        ({"first_action": "x"}, "first_action expects a whole number from 0 up, got 'x'"),
        ({"base": "v71"}, "base 'v71' is no preset; did you mean v17?"),
        ({"training": {}}, "'training' is no field of a contract"),
        ({"format": "b1k-eval-contract/2"}, "this version reads 'b1k-eval-contract/1'"),
    ],
)
def test_a_file_of_our_own_format_is_read_strictly(folder, contract, message):
    with pytest.raises(ContractValueError) as refused:
        resolve(folder({**OWN, **contract}), force=True)
    assert str(refused.value).startswith("EVAL_CONTRACT.json: ")
    assert message in str(refused.value)


def test_a_file_of_another_format_is_read_leniently(folder):
    found = resolve(folder({"format": "theirs/3", "chunk_size": 30}))
    (told,) = found.not_understood
    assert told.startswith('EVAL_CONTRACT.json:format: "theirs/3"; if it counts, add ')
    assert found.sources["chunk_length"].source == "EVAL_CONTRACT.json:chunk_size"


# --- normalised proprio or actions ----------------------------------------------------------------

STATISTICS = [
    ({"norm_stats": {"state": {"q01": [0.0] * 23}}}, "norm_stats.state.q01"),
    ({"action_mean": [0.1] * 23}, "action_mean"),
    ({"normalization": {"actions": "q01-q99"}}, "normalization.actions"),
    ({"proprioNormalization": {"type": "z-score"}}, "proprioNormalization.type"),
    ({"action": {"unnormalize": True}}, "action.unnormalize"),
    ({"state_quantiles": [0.01, 0.99]}, "state_quantiles"),
    # Three numbers would fit the mean of a picture.
    ({"proprio": {"normalization": {"mean": [0.1, 0.2, 0.3]}}}, "proprio.normalization.mean"),
]


@pytest.mark.parametrize(("contract", "key"), STATISTICS, ids=[key for _, key in STATISTICS])
def test_normalised_proprio_or_actions_are_refused_since_no_field_says_so(folder, contract, key):
    path = folder(contract)
    with pytest.raises(ContractValueError, match="no field of a contract can express") as refused:
        resolve(path)
    assert f"EVAL_CONTRACT.json: {key} speaks of" in str(refused.value)
    assert "--force-contract" in str(refused.value)
    found = resolve(path, force=True)
    assert [r for r in found.remarks if f"{key} speaks of normalised proprio or actions" in r]
    assert found.contract.image_mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    "contract",
    [
        {"image": {"normalization": {"mean": "theirs"}}},
        {"normalization": {"type": "unknown"}},
        {"image_std": [58.4, 57.1, 57.4]},
        {"proprio_gripper_normalization": "unsigned [0, 1]"},  # that has a field
        {"action_space": "joint"},
    ],
    ids=str,
)
def test_what_is_no_normalisation_of_the_robots_numbers_is_only_told(folder, contract):
    found = resolve(folder(contract))
    assert len(found.not_understood) == 1
    assert not any("speaks of normalised" in remark for remark in found.remarks)


@pytest.mark.parametrize(
    ("contract", "field"),
    [
        ({"normalize_actions": False}, "action_normalisation"),
        ({"proprio_normalization": "none"}, "proprio_normalisation"),
        ({"action_norm": None}, "action_normalisation"),
        ({"state": {"normalization": "identity"}}, "proprio_normalisation"),
    ],
    ids=str,
)
def test_that_nothing_is_normalised_is_understood(folder, contract, field):
    found = resolve(folder(contract))
    assert found.not_understood == ()
    assert getattr(found.contract, field) is None
    assert found.sources[field].source.startswith("EVAL_CONTRACT.json:")
