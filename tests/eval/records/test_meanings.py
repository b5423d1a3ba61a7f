"""docs/results.md has every field of a run's files, in the words of the code, and no other."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from b1k_envs.base import EnvInfo
from b1k_envs.r1pro import ACTION_DIM, ACTION_NAMES, ACTION_SLICES
from b1k_envs.tasks.table import HumanStats
from b1k_eval.diagnosis.failures import Failure
from b1k_eval.execution import Execution
from b1k_eval.loop.events import EpisodeTiming
from b1k_eval.records.columns import CALLED, COLUMNS
from b1k_eval.records.episode import EpisodeRecord
from b1k_eval.records.provenance import Provenance
from b1k_eval.records.scoring import BODIES, FAILED, TIPS, efficiency
from b1k_eval.settings import RunSettings
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.options import declared

PAGE = Path(__file__).parents[3] / "docs" / "results.md"
README = PAGE.parents[1] / "README.md"


def tables() -> dict[str, dict[str, list[str]]]:
    """The cells of each row by its first cell, by heading; `|` within a cell is not split at."""
    found: dict[str, dict[str, list[str]]] = {}
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ").replace("`", "")
        elif line.startswith("| `"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
            found.setdefault(heading, {})[cells[0].strip("`")] = cells[1:]
    return found


@pytest.fixture(scope="module")
def page():
    return tables()


def names(kind) -> set[str]:
    return {each.name for each in fields(kind)}


def test_every_field_is_on_the_page_and_none_is_made_up(page):
    assert page["result.json"].keys() == {"format", *names(EpisodeRecord)}
    failure = Failure(episode="e", label="never_moved", step=1, seen="so")
    assert page["diagnosis"].keys() == failure.as_json().keys()
    assert page["timing"].keys() == names(EpisodeTiming)
    assert page["identity.env"].keys() == names(EnvInfo)
    assert page["identity.human"].keys() == names(HumanStats)
    assert page["sessions"].keys() == names(Provenance)
    made = efficiency(1, dict.fromkeys(BODIES, 1.0), HumanStats(length=1.0))
    inner = {f"{block}.{next(iter(made[block]))}" for block in made if "distance" in block}
    inner |= {f"time.{name}" for name in made["time"]} | {"notes"}
    assert page["efficiency"].keys() == inner


def test_every_cell_of_a_figure_says_something(page):
    for heading in ("result.json", "efficiency", "timing"):
        for name, cells in page[heading].items():
            assert len(cells) == 4, name
            assert all(cells), name


@pytest.mark.parametrize(
    ("heading", "kind", "more"),
    [
        ("identity.settings", RunSettings, {"action_noise_resolved"}),
        ("identity.settings.checkpoint", CheckpointRequest, set()),
        ("sessions.execution", Execution, set()),
    ],
)
def test_settings_are_explained_in_the_words_of_their_options(page, heading, kind, more):
    assert page[heading].keys() == declared(kind).keys() | more
    for name, each in declared(kind).items():
        if each.option is not None:
            said = page[heading][name][0].replace("\\|", "|")
            assert said == each.option.help.rstrip("."), name


def test_every_column_of_the_trace_is_explained_in_its_own_words(page):
    grouped = {f"{c.name}{'*' if c.ends or c.truths else ''}": c for c in COLUMNS}
    actions = [f"action_{number}" for number in range(ACTION_DIM)]
    assert list(page["trace.parquet"]) == [*grouped, *actions]
    for name, column in grouped.items():
        assert page["trace.parquet"][name] == [column.kind, column.meaning], name
    for name, called in zip(actions, ACTION_NAMES, strict=True):
        assert page["trace.parquet"][name][0] == f"`{called}`"
        assert CALLED[name] == called


def test_the_names_of_the_action_are_in_the_order_of_its_parts():
    of_parts = {part: ACTION_NAMES[where] for part, where in ACTION_SLICES.items()}
    assert of_parts["base"] == ("base_vx", "base_vy", "base_wz")
    assert of_parts["arm_right"][0] == "right_arm_joint1"
    assert of_parts["gripper_left"] == ("left_gripper",)
    assert of_parts["gripper_right"] == ("right_gripper",)
    assert len(set(ACTION_NAMES)) == ACTION_DIM


def test_the_tooltips_are_those_of_the_page_and_the_readme_has_the_q_score_in_a_sentence(page):
    assert {name: cells[0] for name, cells in page["The figures of tables and page"].items()} == (
        dict(TIPS)
    )
    sentence = "1 if the goal was reached, else the share of the goal's predicates"
    for text in (PAGE, README):
        assert sentence in " ".join(text.read_text("utf-8").split()), text.name


def test_a_robot_that_stood_still_does_not_look_faster_than_people():
    human = HumanStats(length=8235.0, distance_traveled=28.6)
    stood = efficiency(301, {"base": 2.5e-9, "left": 0.0, "right": 0.0}, human, failed=True)
    assert stood["time"]["normalized_time"] is None
    assert stood["normalized_agent_distance"] == dict.fromkeys(BODIES)
    assert stood["notes"] == [FAILED]
    assert "not meaningful, failed" in FAILED
    won = efficiency(301, {"base": 2.5e-9, "left": 0.0, "right": 0.0}, human)
    assert won["time"]["normalized_time"] > 27
