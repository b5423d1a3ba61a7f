"""The power button and the washing rule, as pure state machines.

The truth tables are written down by hand from OmniGibson's object_states/toggle.py and
transition_rules.py; no physics takes part.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.rules import WasherRule
from b1k_envs.mujoco_twin.toggle import TOGGLE_STEPS, Toggle


def press(toggle: Toggle, pattern: str) -> str:
    """Feed a pattern: x touched, . not touched, o touched while open, _ open; on/off as 1/0."""
    seen = ""
    for letter in pattern:
        toggle.update(touched=letter in "xo", owner_open=letter in "o_")
        seen += "1" if toggle.on else "0"
    return seen


def test_the_evaluator_counts_five_steps():
    assert TOGGLE_STEPS == 5


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        pytest.param("xxxx....", "00000000", id="four steps are not enough"),
        pytest.param("xxxxx", "00001", id="it flips on the fifth step, not before"),
        pytest.param("xxxx.xxxx", "000000000", id="one miss resets the count"),
        pytest.param("xxxx.xxxxx", "0000000001", id="a fresh touch counts from one"),
        pytest.param("xxxxxxxxxxxxxxxxxxxx", "00001111111111111111", id="holding on does nothing"),
        pytest.param("xxxxx.xxxxx", "00001111110", id="a second touch flips it back"),
        pytest.param("xxxxx.xxxx.", "00001111111", id="a short second touch leaves it on"),
        pytest.param("xxxxx_", "000010", id="opening forces it off"),
        pytest.param("ooooooo", "0000000", id="it cannot be switched on while open"),
        pytest.param("xxxxoxxxx", "000000000", id="a moment of open resets the count"),
        pytest.param("xxxx_xxxxx", "0000000001", id="after closing it counts from one"),
        pytest.param("xxxxx_.....", "00001000000", id="closing does not switch it on again"),
        pytest.param("xxxxxoxxxx.", "00001000000", id="an open door forgets the finger on it"),
    ],
)
def test_toggle_follows_the_table(pattern: str, expected: str):
    assert press(Toggle(), pattern) == expected


def test_reset_of_a_toggle_forgets_value_and_count():
    toggle = Toggle()
    press(toggle, "xxxxx.xxxx")
    toggle.reset()
    assert not toggle.on
    assert press(toggle, "xxxx.") == "00000"


class Washer:
    """Drives a rule; `dusty` and `lying` are what the drum would answer."""

    def __init__(self, *, lying: Iterable[str] = ("a", "b"), dust: bool = True) -> None:
        self.rule = WasherRule()
        self.lying = list(lying)
        self.dust = dust

    def step(self, *, on: bool, is_open: bool = False) -> tuple[str, ...]:
        return self.rule.update(
            on=on,
            is_open=is_open,
            dust_in_drum=lambda: self.dust,
            in_drum=lambda: self.lying,
        )


def test_switching_on_with_the_door_closed_cleans_what_lies_in_the_drum():
    washer = Washer(lying=["a"])
    assert washer.step(on=False) == ()
    assert washer.step(on=True) == ("a",)


def test_it_fires_on_the_change_only_and_not_while_it_goes_on_running():
    washer = Washer()
    washer.step(on=False)
    washer.step(on=True)
    assert [washer.step(on=True) for _ in range(10)] == [()] * 10


@pytest.mark.parametrize(("on", "is_open"), [(False, False), (False, True), (True, True)])
def test_it_does_not_fire_unless_both_on_and_closed(on: bool, is_open: bool):
    assert Washer().step(on=on, is_open=is_open) == ()


def test_closing_the_door_of_a_washer_that_is_on_is_a_change_too():
    washer = Washer()
    assert washer.step(on=True, is_open=True) == ()
    assert washer.step(on=True, is_open=False) == ("a", "b")


@pytest.mark.parametrize("interruption", [{"on": False}, {"on": True, "is_open": True}])
def test_it_fires_again_after_the_condition_was_false(interruption: dict[str, bool]):
    washer = Washer()
    assert washer.step(on=True) == ("a", "b")
    assert washer.step(**interruption) == ()
    assert washer.step(on=True) == ("a", "b")


def test_without_a_dust_particle_in_the_drum_it_is_skipped():
    assert Washer(dust=False).step(on=True) == ()


def test_a_skipped_firing_is_used_up():
    washer = Washer(dust=False)
    washer.step(on=True)
    washer.dust = True  # dust that comes in later waits for the next change
    assert washer.step(on=True) == ()
    washer.step(on=False)
    assert washer.step(on=True) == ("a", "b")


def test_the_drum_is_asked_only_on_the_change():
    def never() -> bool:
        raise AssertionError("asked without a change")

    rule = WasherRule()
    for on, is_open in ((False, False), (True, True), (False, True)):
        rule.update(on=on, is_open=is_open, dust_in_drum=never, in_drum=list)
    rule.update(on=True, is_open=False, dust_in_drum=lambda: True, in_drum=lambda: ["a"])
    rule.update(on=True, is_open=False, dust_in_drum=never, in_drum=list)


def test_reset_of_a_rule_makes_it_ready_to_fire():
    washer = Washer()
    washer.step(on=True)
    washer.rule.reset()
    assert washer.step(on=True) == ("a", "b")
