"""A run is resumed as what it was: by what decides its results, whatever words were recorded."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict

import pytest

from b1k_envs.errors import UsageError
from b1k_eval.comparison.comparable import _contracts, _surroundings
from b1k_eval.records.identity import check_identity
from b1k_eval.settings import RunSettings, settled
from b1k_policies.contract.presets import V17

NEWER = (
    "geometry_size", "base_qvel_frame", "proprio_normalisation", "proprio_mask",
    "action_normalisation", "steps_per_row", "gripper_threshold",
)  # fmt: skip


def record(**policy):
    contract = {"contract": V17.to_dict(), "sources": {"a": "b"}, "remarks": ["x"], "derived": {}}
    described = {
        "name": "v17", "contract": contract, "remarks": ["as it is said today"],
        "variables": {"XVLA_POSED_DA3": "1"}, "packages": {"torch": "2.7.1", "timm": "1.0"},
        **policy,
    }  # fmt: skip
    return {"identity": {"settings": {}, "policy": described}}


@pytest.fixture
def old():
    """As the first versions recorded it: fewer fields, other words, nothing of the surroundings."""
    first = record(remarks=["as it was said then"])
    policy = first["identity"]["policy"]
    for name in NEWER:
        del policy["contract"]["contract"][name]
    policy["contract"]["sources"] = {"c": "d"}
    del policy["variables"], policy["packages"]
    return first


def test_a_run_of_before_the_newer_fields_is_taken_up(tmp_path, old):
    check_identity(tmp_path, old, record())


def test_a_run_of_before_an_option_is_taken_up_at_its_default(tmp_path):
    made = RunSettings(
        task="t", policy="hold", sim="mujoco", protocol="2026", split="train", instances=(0,),
        horizon=10, max_steps=5,
    )  # fmt: skip
    now = record()
    now["identity"]["settings"] = asdict(made)
    later = settled({})
    assert {"policy_args", "shard"} <= later.keys()
    for name in later:
        then = json.loads(json.dumps(now))
        del then["identity"]["settings"][name]
        check_identity(tmp_path, then, now)


def test_but_not_under_another_contract(tmp_path, old):
    now = record()
    now["identity"]["policy"]["contract"]["contract"]["base_qvel_frame"] = "world"
    with pytest.raises(UsageError, match=r'contract.base_qvel_frame "as_recorded" -> "world"'):
        check_identity(tmp_path, old, now)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"variables": {}}, r'policy.variables.XVLA_POSED_DA3 "1" -> null'),
        ({"packages": {"torch": "2.8.0", "timm": "1.0"}}, r'packages.torch "2.7.1" -> "2.8.0"'),
    ],
)
def test_another_switch_or_package_is_named_on_resume(tmp_path, changed, told):
    check_identity(tmp_path, record(), copy.deepcopy(record()))
    with pytest.raises(UsageError, match=told):
        check_identity(tmp_path, record(), record(**changed))


def test_compare_names_another_switch_or_package_and_is_silent_on_what_was_not_recorded(old):
    one = record()["identity"]["policy"]
    two = record(variables={}, packages={"torch": "2.8.0"})["identity"]["policy"]
    assert [str(d) for d in _surroundings(one, two)] == [
        "variable XVLA_POSED_DA3: 1 against none",
        "version of timm: 1.0 against none",
        "version of torch: 2.7.1 against 2.8.0",
    ]
    assert _surroundings(one, one) == []
    assert _surroundings(one, old["identity"]["policy"]) == []


def test_compare_takes_fields_that_came_later_as_they_held_then(old):
    assert _contracts(record()["identity"], old["identity"]) == []
