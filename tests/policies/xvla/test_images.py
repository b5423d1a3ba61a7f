"""Pictures as a checkpoint was trained on them: PIL's bicubic, numpy's arithmetic, RGB.

PIL is the independent truth of the resize (both checkpoints were trained on it), exact integer
arithmetic that of `nearest`, numpy's float32 that of the normalisation.
"""

from __future__ import annotations

import dataclasses
import warnings

import cv2
import numpy as np
import pytest
from observations import (
    CARDS,
    VIEWS,
    gripper_sights,
    image_faults,
    levels_of,
    made_observation,
    natural_picture,
    natural_pictures,
    normalised,
    picture_fault,
    pil_resized,
)
from PIL import Image

from b1k_envs.errors import EnvError
from b1k_policies.contract.presets import PRESETS, V17
from b1k_policies.xvla.images import denormalise, image_tensor

# Textures, edges, text and flat walls; the last is enlarged for v4.
CROPS = [
    ("episode.jpg", 0, 0, 720),
    ("episode.jpg", 132, 1280, 720),
    ("episode.jpg", 264, 640, 720),
    ("episode.jpg", 252, 0, 480),
    ("episode.jpg", 504, 760, 480),
    ("gloves.jpg", 0, 100, 360),
]


def everywhere(picture):
    return dict.fromkeys(VIEWS, picture)


def noise(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def opencv_resized(picture, size, filter_):
    return cv2.resize(picture, (size, size), interpolation=filter_).transpose(2, 0, 1)


# --- the resize ------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("crop", CROPS, ids=str)
def test_natural_pictures_are_pils_bicubic_but_for_ten_values_in_a_hundred_thousand(preset, crop):
    picture, card = natural_picture(*crop), CARDS[preset]
    planes = image_tensor([everywhere(picture)], PRESETS[preset])[0, 0].numpy()
    assert picture_fault(planes, picture, card.size) == ""
    exactly = levels_of(planes) == pil_resized(picture, card.size)
    assert exactly.mean() > 0.97  # no half level of bias hides in the tolerance


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("size", [720, 480])
def test_noise_is_pils_bicubic_too(preset, size):
    planes = image_tensor([everywhere(noise(size))], PRESETS[preset])[0, 0].numpy()
    assert picture_fault(planes, noise(size), CARDS[preset].size) == ""


@pytest.mark.parametrize("preset", PRESETS)
def test_what_the_twin_draws_is_pils_bicubic_in_every_view(preset, twin_2025):
    """Flat shaded walls sit on the edge of a level: 7 values in 100,000 are two off, at 504 px."""
    seen = [sight.after for sight in gripper_sights(twin_2025)]
    batch = {"image_input": image_tensor([one.images for one in seen], PRESETS[preset])}
    assert image_faults(batch, seen, CARDS[preset], beyond_one=5e-4) == []


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("crop", CROPS[:5], ids=str)
@pytest.mark.parametrize("filter_", [cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_LANCZOS4])
def test_opencvs_resize_would_not_pass_for_pils(preset, crop, filter_):
    picture, size = natural_picture(*crop), CARDS[preset].size
    planes = normalised(opencv_resized(picture, size, filter_))
    assert "levels off PIL's" in picture_fault(planes, picture, size)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("crop", CROPS, ids=str)
def test_bilinear_is_pils_as_well(preset, crop):
    contract = dataclasses.replace(PRESETS[preset], resize_filter="bilinear")
    picture, size = natural_picture(*crop), contract.image_size
    planes = image_tensor([everywhere(picture)], contract)[0, 0].numpy()
    off = np.abs(levels_of(planes) - pil_resized(picture, size, Image.Resampling.BILINEAR))
    assert off.max() <= 2
    assert (off > 1).mean() < 1e-5


@pytest.mark.parametrize("native", [720, 480, 360])
@pytest.mark.parametrize("size", [224, 504])
def test_nearest_takes_the_pixel_under_each_new_pixels_centre(native, size):
    contract = dataclasses.replace(V17, resize_filter="nearest", image_size=size)
    picture = noise(native)
    under = (2 * np.arange(size) + 1) * native // (2 * size)  # whole numbers: no rounding
    planes = image_tensor([everywhere(picture)], contract)[0, 0].numpy()
    np.testing.assert_array_equal(levels_of(planes), picture[under][:, under].transpose(2, 0, 1))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    ("name", "filter_"), [("bicubic", cv2.INTER_CUBIC), ("bilinear", cv2.INTER_LINEAR)]
)
def test_without_antialias_the_filter_is_opencvs(preset, name, filter_):
    contract = dataclasses.replace(PRESETS[preset], resize_filter=name, resize_antialias=False)
    picture = natural_picture(*CROPS[3])
    planes = image_tensor([everywhere(picture)], contract)[0, 0].numpy()
    theirs = opencv_resized(picture, contract.image_size, filter_)
    assert (np.abs(levels_of(planes) - theirs) <= 1).mean() > 0.9999


def test_a_picture_of_the_right_size_is_not_touched():
    picture = noise(224)
    planes = image_tensor([everywhere(picture)], V17)[0, 0].numpy()
    np.testing.assert_array_equal(planes, normalised(picture.transpose(2, 0, 1)))


# --- normalisation, colours, views -------------------------------------------------------------


def test_all_256_levels_of_every_colour_are_normalised_bit_for_bit_as_torchvision_does():
    picture = np.arange(224 * 224, dtype=np.uint32).reshape(224, 224, 1)
    picture = np.concatenate([picture, picture + 85, picture * 3], axis=-1).astype(np.uint8)
    assert all(len(np.unique(picture[..., colour])) == 256 for colour in range(3))
    planes = image_tensor([everywhere(picture)], V17)[0, 1].numpy()
    mean = np.array([0.485, 0.456, 0.406], np.float32)
    std = np.array([0.229, 0.224, 0.225], np.float32)
    want = picture.astype(np.float32)
    want /= np.float32(255)
    want -= mean
    want /= std
    np.testing.assert_array_equal(planes, want.transpose(2, 0, 1))


def thirds():
    """Red on the left, green in the middle, blue on the right."""
    picture = np.zeros((720, 720, 3), np.uint8)
    for third in range(3):
        picture[:, third * 240 : third * 240 + 240, third] = 255
    return picture


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("order", "plane_of"), [("rgb", (0, 1, 2)), ("bgr", (2, 1, 0))])
def test_red_is_the_first_plane_unless_the_contract_says_bgr(preset, order, plane_of):
    contract = dataclasses.replace(PRESETS[preset], colour_order=order)
    planes = image_tensor([everywhere(thirds())], contract)[0, 0].numpy()
    size = contract.image_size
    middles = planes[:, size // 2, [size // 6, size // 2, size * 5 // 6]]  # (plane, third)
    for third in range(3):
        for plane in range(3):
            value = 1.0 if plane == plane_of[third] else 0.0
            mean, std = ((0.485, 0.456, 0.406)[plane], (0.229, 0.224, 0.225)[plane])
            assert middles[plane, third] == pytest.approx((value - mean) / std, abs=1e-5)


def test_the_first_row_stays_on_top():
    picture = np.zeros((480, 480, 3), np.uint8)
    picture[:240] = 255
    planes = image_tensor([everywhere(picture)], V17)[0, 0].numpy()
    assert (planes[:, :110] > 2).all()
    assert (planes[:, -110:] < -1.7).all()


@pytest.mark.parametrize(
    "order", [VIEWS, ("right_wrist", "head", "left_wrist"), ("left_wrist", "head")]
)
def test_views_come_in_the_contracts_order(order):
    grey = {"head": 10, "left_wrist": 100, "right_wrist": 200}
    pictures = {
        view: np.full((480 if "wrist" in view else 720,) * 2 + (3,), level, np.uint8)
        for view, level in grey.items()
    }
    contract = dataclasses.replace(V17, view_order=order, extrinsics_rows=order)
    tensor = image_tensor([pictures], contract)
    assert tensor.shape == (1, len(order), 3, 224, 224)
    for place, view in enumerate(order):
        assert (levels_of(tensor[0, place].numpy()) == grey[view]).all()


# --- batches and memory --------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_a_batch_of_three_is_three_singles(preset):
    several = [
        natural_pictures(),
        {view: noise(480 if "wrist" in view else 720, seed) for seed, view in enumerate(VIEWS)},
        # of other cameras, as where one environment renders small
        {view: np.ascontiguousarray(p[:300, :300]) for view, p in natural_pictures().items()},
    ]
    contract = PRESETS[preset]
    together = image_tensor(several, contract).numpy()
    assert together.shape == (3, 3, 3, contract.image_size, contract.image_size)
    for row, pictures in enumerate(several):
        np.testing.assert_array_equal(together[row], image_tensor([pictures], contract)[0].numpy())


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("size", [720, 224, 504])
def test_the_tensor_is_contiguous_float32_on_the_cpu_and_nobodys_memory(preset, size):
    picture = noise(size)
    before = picture.copy()
    picture.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of memory it might write to
        tensor = image_tensor([everywhere(picture)], PRESETS[preset])
    assert str(tensor.dtype) == "torch.float32"
    assert tensor.is_contiguous()
    assert tensor.device.type == "cpu"
    tensor.fill_(0)
    np.testing.assert_array_equal(picture, before)


# --- the way back --------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_denormalise_gives_the_resized_pictures_back_as_rgb(preset, order):
    contract = dataclasses.replace(PRESETS[preset], colour_order=order)
    observation = made_observation()
    pictures = denormalise(image_tensor([observation.images], contract), contract)
    assert pictures.dtype == np.uint8
    assert pictures.shape == (1, 3, contract.image_size, contract.image_size, 3)
    assert pictures.flags.c_contiguous
    for place, view in enumerate(VIEWS):
        want = pil_resized(observation.images[view], contract.image_size).transpose(1, 2, 0)
        off = np.abs(pictures[0, place].astype(np.int64) - want)
        assert off.max() <= 2
        assert (off > 1).mean() < 1e-4


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_denormalise_is_exact_where_nothing_was_resized(preset, order):
    contract = dataclasses.replace(PRESETS[preset], colour_order=order)
    picture = noise(contract.image_size)
    again = denormalise(image_tensor([everywhere(picture)], contract)[0, 2], contract)
    np.testing.assert_array_equal(again, picture)


def test_denormalise_clips_and_takes_half_precision():
    import torch

    white = torch.full((3, 4, 4), 5.0)
    assert (denormalise(white, V17) == 255).all()
    assert (denormalise(-white, V17) == 0).all()
    tensor = image_tensor([natural_pictures()], V17)
    near = denormalise(tensor.to(torch.bfloat16), V17).astype(int)
    assert np.abs(near - denormalise(tensor, V17)).max() <= 1


# --- refusals ------------------------------------------------------------------------------------


def test_a_missing_view_is_named_with_those_that_are_there():
    with pytest.raises(EnvError) as refused:
        image_tensor([{"head": noise(720), "left_wrist": noise(480)}], V17)
    assert str(refused.value) == (
        "the observation has no picture of right_wrist (it has: head, left_wrist)"
    )
    with pytest.raises(EnvError, match=r"no picture of head \(it has: none\)"):
        image_tensor([{}], V17)


@pytest.mark.parametrize(
    ("picture", "came"),
    [
        (np.zeros((480, 480, 3), np.float32), r"float32 \[480, 480, 3\]"),
        (np.zeros((480, 480, 4), np.uint8), r"uint8 \[480, 480, 4\]"),
        (np.zeros((480, 640, 3), np.uint8), r"uint8 \[480, 640, 3\]"),
        (np.zeros((3, 480, 480), np.uint8), r"uint8 \[3, 480, 480\]"),
        (np.zeros((480, 480), np.uint8), r"uint8 \[480, 480\]"),
    ],
)
def test_what_is_no_square_rgb_picture_is_refused(picture, came):
    pictures = {**natural_pictures(), "left_wrist": picture}
    with pytest.raises(
        EnvError, match=rf"^the picture of left_wrist must be uint8 \[N, N, 3\], got {came}$"
    ):
        image_tensor([natural_pictures(), pictures], V17)
