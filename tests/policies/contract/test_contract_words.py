"""Words that could be misread: what they state, or that they state nothing."""

from __future__ import annotations

import pytest

from b1k_policies.contract import words


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("BICUBIC to 224x224, antialias", 224),
        ("bicubic 224\N{MULTIPLICATION SIGN}224", 224),
        ("bicubic to 224.", 224),
        ("bicubic -> [224, 224]", 224),
        ("bicubic, 720x720 \N{RIGHTWARDS ARROW} 224", 224),
        ("bicubic, scaled by 1/255", None),
        ("bicubic, divided by 255", None),
        ("bicubic, scaled to 1/255", None),
        ("bicubic", None),
    ],
)
def test_a_resize_states_a_size_only_where_it_resizes_to_one(text, size):
    stated = dict(words.resize(text))
    assert stated["resize_filter"] == "bicubic"
    assert stated.get("image_size") == size


@pytest.mark.parametrize("text", ["bicubic to 224x504", "bicubic, 224x224 or 504x504"])
def test_a_resize_to_two_sizes_is_not_understood(text):
    assert words.resize(text) is None


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("signed", "signed"),
        ("[-1, 1]", "signed"),
        ("2*(q1+q2)/0.10 - 1", "signed"),
        ("[0, 1]", "fraction"),
        ("(q1 + q2) / 0.1", "fraction"),
        ("raw sum", "sum"),
        ("unsigned [0, 1]", None),
        ("unsigned", None),
        ("not signed", None),
        ("[-1, 1] mapped to [0, 1]", None),
        ("sum / 0.10", None),
    ],
)
def test_a_grippers_scaling_is_stated_only_where_one_form_is_meant(text, form):
    assert words.gripper(text) == (form and [("gripper_proprio", form)])


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("bare Linear", "logit"),
        ("bare Linear, no sigmoid", "logit"),
        ("probability", "probability"),
        ("Sigmoid inside the head", "probability"),
        ("raw value, not a probability", None),
        ("isn't a logit", None),
        ("no probability is given", None),
        ("Linear (not Sequential(Linear, Sigmoid))", None),
    ],
)
def test_what_a_progress_head_is_not_says_nothing_of_what_it_is(text, output):
    assert words.progress(text) == (output and [("progress_output", output)])


def test_a_negation_is_not_read_as_its_opposite():
    assert words.normalisation("not ImageNet") is None
    assert words.reference("the first action, not the proprio") is None
    assert words.reference("proprio at inference") == [("delta_reference", "proprio")]
