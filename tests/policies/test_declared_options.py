"""An option is declared once: checked, recorded, read back and completed from where it stands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from b1k_envs.errors import UsageError
from b1k_policies.options import Option, check, completed, flag, parsed, read, record


def numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def then(recorded: Mapping[str, Any]) -> str:
    return "small" if recorded.get("count") == 1 else "large"


@dataclass(frozen=True, kw_only=True)
class Inner:
    place: Annotated[str, Option(help="Where.")]
    trust: Annotated[bool, Option(help="Whether.", flag="--trust-it", consent=True)] = False
    depth: Annotated[int | None, Option(help="How deep.", before="default")] = 3


@dataclass(frozen=True, kw_only=True)
class Request:
    count: Annotated[int, Option(help="How many.", minimum=1)]
    gpus: Annotated[tuple[int, ...], Option(help="Which.", parse=numbers)] = ()
    size: Annotated[Literal["small", "large"], Option(help="How large.", before=then)] = "large"
    rate: Annotated[float, Option(help="How fast.")] = 1.0
    inner: Inner | None = None

    def __post_init__(self) -> None:
        check(self)


WHOLE = Request(count=2, gpus=(0, 1), size="small", inner=Inner(place="x", trust=True, depth=None))


def stored(request):
    return json.loads(json.dumps(record(request)))


def test_what_was_recorded_is_read_back_without_consent():
    values = read(Request, stored(WHOLE), "here", others=False)
    inner = values.pop("inner")
    assert inner == {"place": "x", "depth": None}
    assert Request(**values, inner=Inner(**inner, trust=True)) == WHOLE


def test_a_record_that_is_older_than_an_option_gets_what_held_then():
    old = {"count": 1, "gpus": [], "rate": 2, "inner": {"place": "x"}}
    assert completed(Request, old) == {**old, "size": "small", "inner": {"place": "x", "depth": 3}}
    assert read(Request, {**old, "count": 2}, "here", others=False)["size"] == "large"
    assert "size" not in old


@pytest.mark.parametrize(
    ("changes", "damage"),
    [
        ({"count": True}, "here.count is True"),
        ({"gpus": [0, "1"]}, "here.gpus is [0, '1']"),
        ({"size": "huge"}, "here.size is 'huge'"),
        ({"rate": "1"}, "here.rate is '1'"),
        ({"inner": {"depth": 1}}, "here.inner lacks 'place'"),
        ({"inner": {"place": "x", "colour": 1}}, "here.inner has an unknown 'colour'"),
        ({"colour": 1}, "here has an unknown 'colour'"),
    ],
)
def test_damage_is_named(changes, damage):
    with pytest.raises(UsageError) as caught:
        read(Request, {**stored(WHOLE), **changes}, "here", others=False)
    assert str(caught.value).startswith(f"run.json is damaged ({damage}): restore the file")


def test_a_field_that_every_run_has_may_not_be_missing():
    with pytest.raises(UsageError, match="here lacks 'count'"):
        read(Request, {"inner": None}, "here", others=True)


def test_values_that_cannot_be_meant_are_refused_by_the_options_name():
    with pytest.raises(UsageError, match=r"^--count 0 must be at least 1$"):
        Request(count=0)
    with pytest.raises(UsageError, match=r"^--size 'huge' is unknown: choose one of small, large$"):
        Request(count=1, size="huge")
    assert flag(Inner, "trust") == "--trust-it"


def test_words_become_values_and_values_stay():
    assert parsed(Request, {"gpus": "0,2", "count": 1, "rate": None, "other": 1}) == {
        "gpus": (0, 2),
        "count": 1,
    }
    assert parsed(Request, {"gpus": (3,)}) == {"gpus": (3,)}
