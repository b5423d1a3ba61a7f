"""--policy-arg: what the constructor's annotations make of a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Optional

import pytest

from b1k_envs.errors import UsageError
from b1k_policies.own.arguments import all_arguments, typed_arguments
from b1k_policies.registry import make_policy

if TYPE_CHECKING:
    from collections import OrderedDict


class Many:
    def __init__(
        self,
        a: bool = False,
        b: int = 1,
        c: float = 0.5,
        d: str = "x",
        e: Path = Path("here"),
        f: Optional[int] = 3,  # noqa: UP045 - the older spelling
        g: Literal["slow", "fast", 2] = "slow",
        h: list[float] = [0.0],  # noqa: B006
        i: str | None = "y",
        j: Sequence[Literal["l", "r"]] = (),
        k: tuple[int, ...] = (1, 2),
    ): ...


class Strict:
    def __init__(self, ckpt: Path, *, steps: int, scale: float = 1.0, **more: Any): ...


class Odd:
    def __init__(
        self, bare=1, table: dict[str, int] | None = None, late: OrderedDict | None = None
    ): ...


@dataclass
class Data:
    gain: float
    views: list[str] | None = None


@pytest.mark.parametrize(
    ("word", "value"),
    [
        *((f"a={text}", True) for text in ("true", "True", "yes", "1")),
        *((f"a={text}", False) for text in ("false", "no", "0")),
        ("b=-7", -7),
        ("c=1e-3", 1e-3),
        ("c=2", 2.0),
        ("d=", ""),
        ("d=a=b,c", "a=b,c"),
        ("f=none", None),
        ("f=4", 4),
        ("g=fast", "fast"),
        ("g=2", 2),
        ("h=0.5,1", [0.5, 1.0]),
        ("h=", []),
        ("i=none", None),
        ("i=None!", "None!"),
        ("j=l,r,l", ["l", "r", "l"]),
        ("k=4,5,6", (4, 5, 6)),
    ],
)
def test_a_text_is_read_as_the_annotation_says(word, value):
    (found,) = typed_arguments(Many, [word]).values()
    assert found == value
    assert type(found) is type(value)


def test_paths_are_absolute_and_know_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert typed_arguments(Many, ["e=w/a.pt"]) == {"e": tmp_path / "w/a.pt"}
    assert typed_arguments(Many, ["e=~/a.pt"]) == {"e": Path("/home/me/a.pt")}


def test_dataclasses_and_built_in_policies_take_arguments_too():
    assert typed_arguments(Data, ["gain=2", "views=head,left_wrist"]) == {
        "gain": 2.0,
        "views": ["head", "left_wrist"],
    }
    policy = make_policy("hold", arguments=["chunk_length=7"])
    assert policy.chunk_length == 7


STRICT = "Strict(ckpt: Path, steps: int, scale: float = 1.0)"


@pytest.mark.parametrize(
    ("cls", "words", "message"),
    [
        (Strict, ["scal=2"], f"scal: {STRICT} has no argument scal; did you mean scale?"),
        (Strict, ["width=2"], f"width: {STRICT} has no argument width"),
        (
            Strict,
            [],
            f"ckpt=... is missing: {STRICT} needs ckpt (Path), steps (int)",
        ),
        (Strict, ["ckpt=a"], f"steps=... is missing: {STRICT} needs steps (int)"),
        (
            Strict,
            ["ckpt=a", "steps=1.5"],
            f"steps=1.5: {STRICT} takes int there",
        ),
        (
            Data,
            ["gain=high"],
            "gain=high: Data(gain: float, views: list[str] | None = None) takes float there",
        ),
        (Strict, ["steps"], "'steps': give KEY=VALUE, such as scale=0.5"),
        (Strict, ["steps=1", "steps=2"], "steps is given twice: 1 and 2"),
        (
            Odd,
            ["bare=2"],
            "bare=2: Odd(bare: no type = 1, table: dict[str, int] | None = None, late: no type = "
            "None) has no type there that can be typed (bool, int, float, str, Path, Literal, "
            "Optional, and lists of those)",
        ),
    ],
)
def test_what_does_not_fit_is_named_with_its_type_and_the_constructor(cls, words, message):
    with pytest.raises(UsageError) as caught:
        typed_arguments(cls, words)
    assert str(caught.value) == f"--policy-arg {message}"


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("a=maybe", "bool"),
        ("g=quick", "slow or fast or 2"),
        ("h=1,x", "list[float]"),
        ("f=x", "int | None"),
        ("j=m", "Sequence[l or r]"),
    ],
)
def test_a_value_that_does_not_convert_names_the_type(word, kind):
    with pytest.raises(UsageError, match=rf" takes {kind}".replace("[", r"\[").replace("|", r"\|")):
        typed_arguments(Many, [word])


@pytest.mark.parametrize("word", ["table=1", "late=1"])
def test_what_cannot_be_typed_says_so(word):
    with pytest.raises(UsageError, match="has no type there that can be typed"):
        typed_arguments(Odd, [word])


def test_arguments_are_for_classes():
    with pytest.raises(
        UsageError, match=r"^--policy-arg a=1 is for a policy that is a class: not "
    ):
        make_policy("ws://localhost:1", arguments=["a=1"])
    with pytest.raises(UsageError, match=r"ZeroPolicy\(chunk_length: int = 30\) has no argument x"):
        make_policy("zero", arguments=["x=1"])


def test_every_argument_is_recorded_defaults_included():
    found = all_arguments(Many, typed_arguments(Many, ["b=2", "h=1,2"]))
    assert found == {
        "a": False, "b": 2, "c": 0.5, "d": "x", "e": "here", "f": 3, "g": "slow",
        "h": [1.0, 2.0], "i": "y", "j": [], "k": [1, 2],
    }  # fmt: skip
