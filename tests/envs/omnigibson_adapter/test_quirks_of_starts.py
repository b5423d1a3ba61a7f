"""What the evaluators set before the first instance: ours has it, and a naive variant has not."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from naive_variants import assert_catches, put
from omnigibson_bench import Double, start_anew

from b1k_envs.errors import UsageError
from b1k_envs.omnigibson import config, world
from b1k_envs.omnigibson.generation import installed_generation
from omnigibson_double import touch
from omnigibson_double.names import ROOMS, TASK_ROOMS


@pytest.fixture(autouse=True)
def _cheap(request: pytest.FixtureRequest) -> None:
    for name in ("double", "double_2025", "double_2026"):
        if name in request.fixturenames:
            request.getfixturevalue(name).installed.stamp_pictures()


# --- The flat cache of 2025 ------------------------------------------------------------------


def test_2025_starts_on_the_flat_cache_as_its_evaluator_does(double_2025: Double):
    def check() -> None:
        start_anew()
        env = double_2025.env()
        assert double_2025.app.settings["ENABLE_FLATCACHE"] is True
        assert env.info.settings["applied"]["macros"]["ENABLE_FLATCACHE"] is True
        checks = {each.name: each for each in env.findings}
        assert checks["macro ENABLE_FLATCACHE"].ok

    bare = replace(installed_generation(), macros={})
    assert_catches(check, put(world, "installed_generation", lambda protocol: bare))


def test_the_flat_cache_cannot_be_had_later(double_2025: Double):
    bare = replace(installed_generation(), macros={})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "installed_generation", lambda protocol: bare)
        double_2025.env()
    with pytest.raises(AttributeError, match="already been used"):
        double_2025.macros.gm.ENABLE_FLATCACHE = True


def test_2026_leaves_the_flat_cache_alone(double_2026: Double):
    env = double_2026.env()
    assert ("macros.globals", "ENABLE_FLATCACHE") not in touch.touches()
    assert "ENABLE_FLATCACHE" not in env.info.settings["applied"]["macros"]


# --- House and base --------------------------------------------------------------------------


def test_2025_loads_the_whole_house(double_2025: Double):
    """The organisers' own runs left `partial_scene_load` false."""

    def check() -> None:
        start_anew()
        env = double_2025.env(heavy_base=False)
        assert double_2025.sim.scenes[0].loaded_rooms == ROOMS
        assert env.info.settings["rooms"] == {"load_room_types": None, "load_room_instances": None}

    real = config.scene_rooms
    assert_catches(
        check,
        put(config, "scene_rooms", lambda *given, partial: real(*given, partial=True)),
    )


def test_2025_leaves_the_base_its_own_mass(double_2025: Double):
    """Only one of its wrappers sets 250 kg, and it is not the default."""

    def check() -> None:
        start_anew()
        env = double_2025.env(heavy_base=False)
        assert env.info.settings["applied"]["base_mass_kg"] == pytest.approx(47.63)
        assert double_2025.physics().base_mass == pytest.approx(47.63)

    heavy = partial(world.prepare_environment, heavy_base=True)
    naive = put(world, "prepare_environment", lambda *given, heavy_base: heavy(*given))
    assert_catches(check, naive)


def test_2025_has_the_rooms_of_the_task_and_250_kg_where_asked(double_2025: Double):
    env = double_2025.env(partial_scene=True, heavy_base=True)
    assert double_2025.sim.scenes[0].loaded_rooms == ("utility_room_0",)
    assert env.info.settings["rooms"]["load_room_types"] == ["utility_room"]
    assert env.info.settings["applied"]["base_mass_kg"] == 250.0
    assert [each for each in env.findings if not each.ok] == []


def test_2026_has_neither_choice_and_always_both(double_2026: Double):
    for choice in ("partial_scene", "heavy_base"):
        with pytest.raises(UsageError, match=r"v3\.9\.3 always loads .* in 2025 alone"):
            double_2026.env(**{choice: True})
    env = double_2026.env()
    assert double_2026.sim.scenes[0].loaded_rooms == TASK_ROOMS
    assert env.info.settings["rooms"]["load_room_instances"] == list(TASK_ROOMS)
    assert double_2026.physics().base_mass == 250.0
