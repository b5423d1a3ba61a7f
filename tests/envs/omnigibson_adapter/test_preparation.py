"""What is done to a fresh environment, and what a naive one that forgets it would have."""

import gc
import json

import pytest
from adapter_start import bring_up

from b1k_envs.omnigibson.setup import preparation

HEAD, LEFT, RIGHT = (
    f"robot_r1:{link}:Camera:0"
    for link in ("zed_link", "left_realsense_link", "right_realsense_link")
)


@pytest.mark.parametrize(("year", "asked"), [("og_2025", True), ("og_2026", False)])
def test_the_base_weighs_250_kg_always_in_2026_and_if_asked_in_2025(year, asked, request):
    request.getfixturevalue(year)
    adapter = bring_up(prepared=False)
    assert adapter.robots[0].base_footprint_link.mass == pytest.approx(47.63)
    applied = adapter.prepare(heavy_base=asked)
    assert adapter.robots[0].base_footprint_link.mass == 250.0
    assert (applied["base_mass_kg"], applied["base_mass_set"]) == (250.0, True)
    assert adapter.og.sim.is_playing()


def test_in_2025_the_base_keeps_its_mass_and_nothing_is_stopped(og_2025):
    adapter = bring_up(prepared=False)

    def stop():
        raise AssertionError("the simulator was stopped")

    adapter.og.sim.stop = stop
    applied = adapter.prepare()
    assert adapter.robots[0].base_footprint_link.mass == pytest.approx(47.63)
    assert applied["base_mass_kg"] == pytest.approx(47.63)
    assert applied["base_mass_set"] is False


def test_a_naive_mass_while_the_simulator_runs_is_refused_by_the_simulator(og_2026):
    adapter = bring_up(prepared=False)
    with pytest.raises(AssertionError, match="while the simulator is stopped"):
        adapter.robots[0].base_footprint_link.mass = 250.0


@pytest.mark.parametrize("year", ["og_2025", "og_2026"])
def test_only_the_heads_aperture_is_changed(year, request):
    request.getfixturevalue(year)
    sensors = bring_up().robots[0].sensors
    apertures = {name: sensor.horizontal_aperture for name, sensor in sensors.items()}
    assert apertures == {HEAD: 40.0, LEFT: 20.995, RIGHT: 20.995}


@pytest.mark.parametrize("year", ["og_2025", "og_2026"])
def test_pictures_have_the_size_of_data_collection(year, request):
    request.getfixturevalue(year)
    adapter = bring_up()
    observation = adapter.env.reset()[0]
    cameras = (observation[0] if adapter.generation.vectorised else observation)["robot_r1"]
    sizes = {name: tuple(cameras[name]["rgb"].shape) for name in (HEAD, LEFT, RIGHT)}
    assert sizes == {HEAD: (720, 720, 4), LEFT: (480, 480, 4), RIGHT: (480, 480, 4)}


def test_a_naive_resize_without_the_observation_space_makes_the_next_reset_fail(og_2025):
    adapter = bring_up(prepared=False)
    adapter.env.load_observation_space = lambda: None
    adapter.prepare()
    with pytest.raises(ValueError, match="Observation space does not match"):
        adapter.env.reset()


def test_a_2026_camera_keeps_1080_without_its_links_entry(og_2026):
    """A naive config with the size of the class only."""

    def spoil(config):
        sensors = config["robots"][0]["sensor_config"]
        for name in [name for name in sensors if name != "VisionSensor"]:
            del sensors[name]

    adapter = bring_up(change=spoil)
    rgb = adapter.env.reset()[0][0]["robot_r1"][HEAD]["rgb"]
    assert tuple(rgb.shape) == (1080, 1080, 4)


def test_the_first_reset_works_in_2026_and_would_not_without_new_handles(og_2026):
    adapter = bring_up()
    adapter.env.reset()
    adapter.og.sim.stop()
    adapter.og.sim.play()
    with pytest.raises(AttributeError, match="physics view is gone"):
        adapter.env.reset()


def test_all_envs_are_prepared_in_one_stop(og_2026):
    adapter = bring_up(num_envs=2, prepared=False)
    stops = []
    real = adapter.og.sim.stop
    adapter.og.sim.stop = lambda: (stops.append(1), real())
    adapter.prepare()
    assert len(stops) == 1
    assert [robot.base_footprint_link.mass for robot in adapter.robots] == [250.0, 250.0]
    assert [robot.sensors[HEAD].horizontal_aperture for robot in adapter.robots] == [40.0, 40.0]


@pytest.mark.parametrize(
    ("year", "when"), [("og_2025", "after creation"), ("og_2026", "at creation")]
)
def test_what_was_applied_is_json(year, when, request):
    request.getfixturevalue(year)
    applied = bring_up(prepared=False).prepare(heavy_base=year == "og_2025")
    assert json.loads(json.dumps(applied)) == {
        "base_mass_kg": 250.0,
        "base_mass_set": True,
        "head_horizontal_aperture_mm": 40.0,
        "image_sizes_px": {"head": 720, "left_wrist": 480, "right_wrist": 480},
        "image_sizes_set": when,
    }


def test_the_garbage_collector_is_on_after_the_preparation(og_2026):
    adapter = bring_up(prepared=False)
    gc.disable()  # by an extension that came with the scene
    adapter.prepare()
    assert gc.isenabled()


def test_the_head_lens_gives_the_published_focal_length():
    assert 17.0 * 720 / preparation.HEAD_APERTURE == 306.0
