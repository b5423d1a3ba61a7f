"""The errors whose price is measured: each is one error, and the contract can say it."""

from __future__ import annotations

import ast
import inspect

import pytest
from contract_errors import _WRAPPED, ERRORS, options_of

from b1k_policies.contract.presets import V17
from b1k_policies.contract.resolving import resolve

TWIN = {"skill_progress": "previous", "base_qvel_frame": "robot"}
"""What the learned policy's contract says otherwise than v17."""


@pytest.mark.parametrize("error", [e for e in ERRORS if e.settings], ids=lambda e: e.name)
def test_an_error_sets_what_it_says_and_nothing_else(error, tmp_path):
    usual = resolve(contract="v17", settings=[f"{n}={v}" for n, v in TWIN.items()]).contract
    words = options_of(error, tmp_path, "none")
    assert words[-1] == "--force-contract"
    settings = [f"{n}={v}" for n, v in TWIN.items()] + words[1:-1:2]
    wrong = resolve(contract="v17", settings=settings).contract
    changed = {n for n, v in vars(usual).items() if vars(wrong)[n] != v}
    assert changed == {setting.partition("=")[0] for setting in error.settings}
    assert vars(V17).keys() >= changed


@pytest.mark.parametrize("error", [e for e in ERRORS if e.body], ids=lambda e: e.name)
def test_a_wrapped_model_keeps_its_signature_and_sees_the_error(error):
    class XVLA:
        def generate_actions(self, image_input, extrinsics=None):
            return image_input, extrinsics

    class Picture(tuple):
        def flip(self, axis):
            assert axis == -2
            return Picture(reversed(self))

        def clamp(self, max):
            assert max == -1.8  # black is -2.1 to -1.8 by channel
            return Picture("__")

    code = _WRAPPED.format(body=error.body)
    ast.parse(code)
    exec(code, {"XVLA": XVLA})
    assert list(inspect.signature(XVLA.generate_actions).parameters)[1:] == [
        "image_input", "extrinsics",
    ]  # fmt: skip
    model = XVLA()
    seen = [model.generate_actions(image_input=Picture("ab"), extrinsics=n) for n in (1, 2)]
    wanted = {
        "blank": [(("_", "_"), 1), (("_", "_"), 2)],
        "upside-down": [(("b", "a"), 1), (("b", "a"), 2)],
        "pose-late": [(("a", "b"), 1), (("a", "b"), 1)],
    }
    assert seen == wanted[error.name]


def test_names_are_told_apart():
    assert len({error.name for error in ERRORS}) == len(ERRORS) >= 20
