"""What inspection says of a checkpoint, held to pictures and cameras that are known by hand.

The observation is made so that every gripper's pixel can be written down: all cameras look along
the base's +x, the arms hang in front of them.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil

import cv2
import numpy as np
import pytest
from observations import VIEWS, made_observation, natural_pictures, pil_resized

from b1k_envs.base import Observation
from b1k_policies.contract.resolved import ContractConflictError
from b1k_policies.contract.resolving import resolve
from b1k_policies.inspection.findings import would_send
from b1k_policies.inspection.geometry import SeenImage
from b1k_policies.inspection.inspection import Inspection, inspect_policy, look_at, own_contract
from b1k_policies.inspection.saved_observation import SavedObservation

# Camera positions and grippers in the base frame [m], typed off into the pixels below.
CAMERAS = {"head": (0, 0, 1.2), "left_wrist": (0.2, 0.2, 1.0), "right_wrist": (0.2, -0.2, 1.0)}
LEFT, RIGHT = (1.2, 0.25, 1.05), (1.2, -0.25, 1.05)
LOOKS_AHEAD = [[0, 0, -1], [-1, 0, 0], [0, 1, 0]]
"""USD axes in the base frame: -z is +x, +x is -y, +y is +z."""


@pytest.fixture(scope="module")
def observation() -> Observation:
    """Protocol 2026: eef_left_pos is 17:20 of the proprio, eef_right_pos 42:45."""
    made = made_observation(protocol="2026")
    proprio = made.proprio.copy()
    proprio[17:20], proprio[42:45] = LEFT, RIGHT
    poses = {}
    for view, position in CAMERAS.items():
        pose = np.eye(4, dtype=np.float32)
        pose[:3, :3], pose[:3, 3] = LOOKS_AHEAD, position
        poses[view] = pose
    return dataclasses.replace(made, proprio=proprio, camera_to_base=poses)


def by_hand(camera, point, focal, centre):
    """Pixel of a point for a camera that looks along +x, and the picture's row 0 on top."""
    x, y, z = np.subtract(point, camera)
    return centre - focal * y / x, centre - focal * z / x


def looked_at(folder, observation, *settings, contract=None) -> tuple[list[SeenImage], list]:
    found = resolve(folder, contract=contract, settings=settings, force=True)
    sent = would_send(observation, found.contract)
    images, findings = look_at(sent, observation, found, own_contract(folder))
    return list(images), findings


def texts(findings, field, level="wrong"):
    return [f.text for f in findings if (f.field, f.level) == (field, level)]


def wrong(findings):
    return [f for f in findings if f.level == "wrong"]


# --- nothing by hand -----------------------------------------------------------------------------


def test_a_v17_as_its_files_say_has_nothing_wrong_and_grippers_in_their_place(
    tiny_v17, observation
):
    images, findings = looked_at(tiny_v17, observation)
    assert findings == []
    assert [image.pose_of for image in images] == list(VIEWS)
    for image, (focal, centre) in zip(images, [(95.2, 112)] + [(181.3765, 112)] * 2, strict=True):
        for sighting, gripper in zip(image.sightings, (LEFT, RIGHT), strict=True):
            truth = by_hand(CAMERAS[image.view], gripper, focal, centre)
            assert sighting.truly == pytest.approx(truth, abs=0.01)
            assert sighting.as_sent == pytest.approx(truth, abs=0.01)
            assert sighting.agrees


def test_v4_as_trained_is_a_note_with_the_order_that_would_be_right(tiny_v4, observation):
    images, findings = looked_at(tiny_v4, observation)
    assert [f.level for f in findings] == ["note"]
    assert findings[0].text.startswith("row 0 (image head) has the pose of left_wrist, row 1 ")
    assert ", as v4 was trained;" in findings[0].text
    assert "--set extrinsics_rows=head,left_wrist,right_wrist" in findings[0].text
    # Measured all the same: the head's picture with the left wrist's pose.
    (left, _) = images[0].sightings
    assert left.as_sent == pytest.approx(by_hand(CAMERAS["left_wrist"], LEFT, 214.2, 252), abs=0.01)
    assert left.truly == pytest.approx(by_hand(CAMERAS["head"], LEFT, 214.2, 252), abs=0.01)


def test_v4_with_the_corrected_order_is_told_that_it_was_not_trained_so(tiny_v4, observation):
    images, findings = looked_at(
        tiny_v4, observation, "extrinsics_rows=head,left_wrist,right_wrist"
    )
    assert all(sighting.agrees for image in images for sighting in image.sightings)
    (stated,) = texts(findings, "extrinsics_rows")
    assert "image head gets the pose of head, in training it had that of left_wrist" in stated
    (measured,) = texts(findings, "extrinsics")
    assert "row 0 is the pose of head instead of left_wrist" in measured


# --- every mistake of a client -------------------------------------------------------------------

MISTAKES = [
    ("image_size=504", "504 px are sent", "pictures of another size than it was trained on"),
    ("scale_intrinsics=false", "K is sent unscaled (head: fx 306.0, cx 360.0 for a picture of 224 "
     "px)", "the head camera's focal length to be 3.2 times what it is"),
    ("extrinsics_rows=left_wrist,right_wrist,head", "the poses of left_wrist, right_wrist, head",
     "image head gets the pose of left_wrist, in training it had that of head"),
    ("first_action=1", "starts at row 1", "1 control step (0.033 s) too early"),
    ("progress_output=probability", "taken for a probability", "the sigmoid is missing"),
    ("progress_output=none", "is not read", "stays empty"),
    ("colour_order=bgr", "BGR is sent", "red and blue are swapped"),
    ("resize_antialias=false", "as OpenCV's INTER_CUBIC does", "jagged edges"),
    ("resize_filter=bilinear", "by bilinear", "than the bicubic ones of the training"),
    ("camera_axes=opencv", "opencv axes are sent", "looks backwards and is upside down"),
    ("extrinsics_direction=base_to_camera", "base_to_camera is sent", "change places"),
    ("view_order=left_wrist,head,right_wrist", "left_wrist, head, right_wrist is sent",
     "the left_wrist picture where it learnt head"),
    ("gripper_proprio=sum", "sum is sent", "an open one 0.1, the model learnt -1 and +1"),
    ("proprio_parts=base_qvel,trunk_qpos,arm_left_qpos,arm_right_qpos,gripper_left_qpos,"
     "gripper_right_qpos", "the state is sent as", "reads arm_right_qpos where it learnt gripper_"),
    ("delta_spec=-3,4,7,-1,7,-1", "offsets are read by (-3, 11, -1, 7, -1)",
     "the commands of trunk joint 4 are taken for offsets"),
    ("delta_spec=-3,3,-1,7,-9", "(-3, 3, -1, 7, -9)",
     "the offsets of arm_right joint 1, arm_right joint 2, arm_right joint 3 and 4 more are "
     "executed as positions"),
    ("posed=false", "no poses and no K are sent", "now works without"),
    ("domain_id=3", "3 is sent", "something else than it was trained on"),
    ("chunk_length=29", "29 is used", "read as something that they do not mean"),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "done", "follows"), MISTAKES)
def test_a_mistake_is_refused_and_when_forced_said_in_words(
    tiny_v17, observation, setting, done, follows
):
    field = setting.partition("=")[0]
    with pytest.raises(ContractConflictError):
        resolve(tiny_v17, settings=[setting])
    _, findings = looked_at(tiny_v17, observation, setting)
    (text,) = texts(findings, field)
    assert done in text
    assert re.search(r"\(--set\), EVAL_CONTRACT\.json:\S+ says ", text)
    assert follows in text


def test_the_double_sigmoid_is_told_from_the_missing_one(tiny_v4, observation):
    _, findings = looked_at(tiny_v4, observation, "progress_output=logit")
    (text,) = texts(findings, "progress_output")
    assert "the double sigmoid squeezes it into [0.5, 0.73]" in text


def test_the_next_action_too_late_is_told_from_too_early(tiny_v4, observation):
    _, findings = looked_at(tiny_v4, observation, "first_action=0")
    (text,) = texts(findings, "first_action")
    assert "already commanded is commanded again" in text
    assert "1 control step (0.033 s) too late" in text


@pytest.mark.parametrize(
    ("setting", "fields"),
    [("first_action=1", {"first_action"}), ("progress_output=probability", {"progress_output"})],
)
def test_what_does_not_act_on_the_batch_is_not_measured_in_it(
    tiny_v17, observation, setting, fields
):
    _, findings = looked_at(tiny_v17, observation, setting)
    assert {finding.field for finding in findings} == fields


# --- the figures ---------------------------------------------------------------------------------


def test_swapped_planes_are_measured_as_pil_has_them(tiny_v17, observation):
    _, findings = looked_at(tiny_v17, observation, "colour_order=bgr")
    (text,) = texts(findings, "image_input")
    resized = [pil_resized(p, 224).astype(int) for p in natural_pictures().values()]
    worst = max(int(np.abs(planes[0] - planes[2]).max()) for planes in resized)
    assert said_levels(text) == pytest.approx(worst, abs=1)


def test_no_antialiasing_is_measured_as_opencv_against_pil(tiny_v17, observation):
    _, findings = looked_at(tiny_v17, observation, "resize_antialias=false")
    (text,) = texts(findings, "image_input")
    apart = []
    for picture in natural_pictures().values():
        opencv = cv2.resize(picture, (224, 224), interpolation=cv2.INTER_CUBIC)
        pil = pil_resized(picture, 224).transpose(1, 2, 0)
        apart.append(np.abs(opencv.astype(int) - pil.astype(int)).max())
    assert max(apart) > 20
    assert said_levels(text) == pytest.approx(max(apart), abs=2)


def said_levels(text):
    return int(re.search(r"up to (\d+) of 255 levels", text).group(1))


def test_pictures_of_another_size_are_counted_not_compared(tiny_v17, observation):
    images, findings = looked_at(tiny_v17, observation, "image_size=504")
    assert texts(findings, "image_input") == [
        "measured: 3 pictures of 504 px are sent, the checkpoint's own contract sends 3 of 224 px"
    ]
    # K was scaled along: nothing is out of its place.
    (text,) = texts(findings, "intrinsics")
    assert text.endswith("(it fits the pictures as sent)")
    assert all(sighting.agrees for image in images for sighting in image.sightings)


def test_k_of_the_native_picture_puts_the_grippers_elsewhere(tiny_v17, observation):
    images, findings = looked_at(tiny_v17, observation, "scale_intrinsics=false")
    truly = by_hand(CAMERAS["head"], LEFT, 95.2, 112)
    as_sent = by_hand(CAMERAS["head"], LEFT, 306.0, 360)
    assert images[0].sightings[0].as_sent == pytest.approx(as_sent, abs=0.01)
    off = np.hypot(*np.subtract(truly, as_sent))
    assert images[0].sightings[0].distance == pytest.approx(off, abs=0.02)
    head, left, right = texts(findings, "geometry")
    assert "image head: with the pose and K that are sent" in head
    assert re.search(r"\d+ px off; K has fx 306.0, cx 360.0, the camera of a picture of 224", head)
    assert "image left_wrist" in left
    assert "image right_wrist" in right
    (text,) = texts(findings, "intrinsics")
    assert "K differs by up to 248.0 px: head is sent fx 306.0, cx 360.0" in text


def test_another_cameras_pose_is_named_with_how_far_off_it_puts_things(tiny_v17, observation):
    images, findings = looked_at(
        tiny_v17, observation, "extrinsics_rows=left_wrist,right_wrist,head"
    )
    assert [image.pose_of for image in images] == ["left_wrist", "right_wrist", "head"]
    as_sent = by_hand(CAMERAS["left_wrist"], LEFT, 95.2, 112)
    truly = by_hand(CAMERAS["head"], LEFT, 95.2, 112)
    off = np.hypot(*np.subtract(truly, as_sent))
    assert images[0].sightings[0].distance == pytest.approx(off, abs=0.02)
    # Of the two grippers the one that is farther off is told.
    assert texts(findings, "geometry")[0] == (
        "measured: image head: with the pose and K that are sent, the right gripper would be at "
        "(155, 107), it is at (132, 124): 28 px off; the pose sent is that of left_wrist"
    )
    assert by_hand(CAMERAS["left_wrist"], RIGHT, 95.2, 112) == pytest.approx((155, 107), abs=0.5)
    assert by_hand(CAMERAS["head"], RIGHT, 95.2, 112) == pytest.approx((132, 124), abs=0.5)


@pytest.mark.parametrize(
    ("setting", "written"),
    [
        ("camera_axes=opencv", "with opencv axes"),
        ("extrinsics_direction=base_to_camera", "as base_to_camera"),
    ],
)
def test_axes_and_direction_are_recognised_in_the_numbers(tiny_v17, observation, setting, written):
    images, findings = looked_at(tiny_v17, observation, setting)
    assert [image.pose_of for image in images] == [f"{view}, {written}" for view in VIEWS]
    (text,) = texts(findings, "extrinsics")
    assert f"row 0 is the pose of head, {written} instead of head" in text
    assert len(texts(findings, "geometry")) == 3


def test_flipped_axes_put_everything_behind_the_cameras(tiny_v17, observation):
    images, findings = looked_at(tiny_v17, observation, "camera_axes=opencv")
    for image in images:
        assert all(s.as_sent is None and s.truly is not None for s in image.sightings)
    assert all("would be behind the camera, it is at" in t for t in texts(findings, "geometry"))


def test_a_gripper_scaled_otherwise_is_measured_in_the_state(tiny_v17, observation):
    _, findings = looked_at(tiny_v17, observation, "gripper_proprio=sum")
    (text,) = texts(findings, "proprio")
    assert "2 of 23 numbers differ" in text
    assert re.search(r"most number (14|22): ", text)


def test_no_poses_leave_nothing_to_measure(tiny_v17, observation):
    images, findings = looked_at(tiny_v17, observation, "posed=false")
    assert [image.sightings for image in images] == [(), (), ()]
    assert {finding.field for finding in wrong(findings)} == {"posed"}


# --- how sure it is ------------------------------------------------------------------------------


@pytest.fixture
def silent(tmp_path):
    """A folder whose files say the size and nothing else of a contract."""
    (tmp_path / "config.json").write_text(
        json.dumps({"geometry_conditioning": {"da3_process_res": 224}})
    )
    return tmp_path


@pytest.mark.parametrize(
    ("setting", "level"),
    [
        ("camera_axes=opencv", "doubt"),  # open: nobody outside the files knows
        ("extrinsics_rows=left_wrist,right_wrist,head", "wrong"),  # the card says it
        ("denoising_steps=4", "note"),  # up to whoever runs it
        ("name=mine", None),
    ],
)
def test_a_departure_weighs_as_much_as_what_it_departs_from(silent, observation, setting, level):
    _, findings = looked_at(silent, observation, setting)
    field = setting.partition("=")[0]
    assert [f.level for f in findings if f.field == field] == ([level] if level else [])
    assert {f.level for f in findings} <= {level}
    if level:
        assert "preset v17 says" in findings[0].text


@pytest.mark.parametrize(
    "stated",
    [
        {"scale_intrinsics": False},
        {"extrinsics_direction": "base_to_camera", "camera_axes": "opencv"},
    ],
)
def test_a_model_that_was_trained_otherwise_is_read_as_it_was_trained(silent, observation, stated):
    document = {"format": "b1k-eval-contract/1", "name": "v18", "base": "v17", **stated}
    (silent / "EVAL_CONTRACT.json").write_text(json.dumps(document))
    images, findings = looked_at(silent, observation)
    assert findings == []
    truth = by_hand(CAMERAS["head"], LEFT, 95.2, 112)
    assert images[0].sightings[0].as_sent == pytest.approx(truth, abs=0.01)
    assert [image.pose_of for image in images] == list(VIEWS)


def test_files_that_contradict_each_other_give_no_reference_but_what_they_say(silent, observation):
    (silent / "EVAL_CONTRACT.json").write_text(json.dumps({"image_size": 504}))
    images, findings = looked_at(silent, observation, contract="v17")
    (text,) = texts(findings, "contract", "doubt")
    assert "EVAL_CONTRACT.json:image_size says 504 px, config.json:" in text
    assert "which fits no preset" in text
    (text,) = texts(findings, "image_size")
    assert "another size" in text
    assert all(sighting.agrees for image in images for sighting in image.sightings)


def test_a_figure_that_no_field_explains_is_told(silent, observation):
    (silent / "EVAL_CONTRACT.json").write_text(json.dumps({"HEAD_K": "fx=fy=120, cx=cy=112"}))
    _, findings = looked_at(silent, observation)
    (text,) = texts(findings, "intrinsics.head")
    assert "EVAL_CONTRACT.json:HEAD_K says 120.0, 120.0, 112.0, 112.0, but 95.2," in text


# --- the model's answer --------------------------------------------------------------------------


def asked(folder, saved, *settings, contract=None) -> Inspection:
    from b1k_policies.checkpoint import CheckpointRequest
    from b1k_policies.xvla.policy import XVLAPolicy

    request = CheckpointRequest(
        ckpt=str(folder), contract=contract, settings=settings, force_contract=True, device="cpu"
    )
    policy = XVLAPolicy(request, saved.observation.protocol, keep_refusal=True)
    try:
        return inspect_policy(policy, saved)
    finally:
        policy.close()


@pytest.fixture(scope="module")
def saved(observation) -> SavedObservation:
    return SavedObservation(
        observation=observation, instruction="wash", seed=5, origin="made by a test"
    )


@pytest.fixture(scope="module")
def plain(tiny_v17, saved) -> Inspection:
    return asked(tiny_v17, saved)


def test_the_batch_is_tabled_as_sent(plain):
    rows = {row.name: row for row in plain.batch}
    assert {name: (row.dtype, row.shape) for name, row in rows.items()} == {
        "input_ids": ("int64", (1, 50)),
        "image_input": ("float32", (1, 3, 3, 224, 224)),
        "image_mask": ("bool", (1, 3)),
        "proprio": ("float32", (1, 23)),
        "domain_id": ("int64", (1,)),
        "extrinsics": ("float32", (1, 3, 4, 4)),
        "intrinsics": ("float32", (1, 3, 3, 3)),
    }
    assert (rows["domain_id"].min, rows["domain_id"].max) == (19, 19)
    assert rows["intrinsics"].max == pytest.approx(181.3765, abs=1e-3)
    # ImageNet's white is 2.64 in blue, its black -2.118 in red.
    assert -2.118 <= rows["image_input"].min < rows["image_input"].max <= 2.641


def test_the_pictures_are_those_that_were_sent_as_the_model_reads_them(plain):
    for picture, native in zip(plain.pictures, natural_pictures().values(), strict=True):
        truth = pil_resized(native, 224).transpose(1, 2, 0).astype(int)
        assert np.abs(picture.astype(int) - truth).max() <= 1


def test_swapped_planes_are_shown_swapped(tiny_v17, saved, plain):
    swapped = asked(tiny_v17, saved, "colour_order=bgr")
    apart = swapped.pictures[..., ::-1].astype(int) - plain.pictures
    assert np.abs(apart).max() <= 1


def test_the_chunk_is_absolute_from_the_state_it_starts_from(plain, observation):
    chunk = plain.chunk
    assert chunk.actions.shape == (30, 23)
    assert chunk.skipped == 0
    trunk = observation.proprio[53:57]
    assert chunk.state[3:7].tolist() == trunk.tolist()
    arm = next(part for part in chunk.parts if part.part == "arm_right")
    steps = np.abs(chunk.actions[:, 15:22] - observation.proprio[28:35])
    assert (arm.first_step, arm.largest_step) == pytest.approx((steps[0].max(), steps.max()))
    assert (arm.low, arm.high) == pytest.approx(
        (chunk.actions[:, 15:22].min(), chunk.actions[:, 15:22].max())
    )
    assert [part.part for part in chunk.parts if part.offsets != "none"] == [
        "trunk", "arm_left", "arm_right",
    ]  # fmt: skip
    assert 0 <= plain.progress <= 1
    assert plain.progress == pytest.approx(1 / (1 + np.exp(-plain.progress_head)), abs=1e-6)


def test_the_document_is_json(plain):
    document = json.loads(json.dumps(plain.to_dict(), allow_nan=False))
    assert set(document) == {
        "reference", "batch", "geometry", "chunk", "skill", "progress", "progress_head", "findings",
    }  # fmt: skip
    assert document["geometry"][0]["grippers"][0]["distance_px"] < 2


def test_a_whole_v4_contract_on_v17_is_told_although_the_model_refuses_it(tiny_v17, saved):
    inspection = asked(tiny_v17, saved, contract="v4")
    fields = {finding.field for finding in wrong(inspection.findings)}
    assert fields >= {
        "image_size", "extrinsics_rows", "first_action", "progress_output",
        "image_input", "intrinsics", "extrinsics", "geometry",
    }  # fmt: skip
    assert inspection.pictures.shape == (3, 504, 504, 3)
    if inspection.chunk is None:
        assert any(
            "the model gives no chunk: " in text for text in texts(inspection.findings, "chunk")
        )


def test_a_remark_that_a_finding_says_already_is_not_said_twice(tiny_v17, saved):
    inspection = asked(tiny_v17, saved, "first_action=1")
    said = [finding.text for finding in inspection.findings]
    assert len(texts(inspection.findings, "first_action")) == 1
    assert not any("first_action is 1 (--set), against 0 of v17" in text for text in said)


def test_a_remark_that_no_finding_says_is_a_note_whatever_its_words(tiny_v17, saved, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_v17, folder)
    path = folder / "EVAL_CONTRACT.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "mystery is here": 1}))
    inspection = asked(folder, saved)
    assert (
        "EVAL_CONTRACT.json: 1 key not understood (mystery is here); see `b1k-eval contract CKPT`"
        in [finding.text for finding in inspection.findings if finding.level == "note"]
    )


def test_a_head_that_contradicts_the_contract_is_wrong_not_a_note(tiny_v17, saved):
    inspection = asked(tiny_v17, saved, "progress_output=probability")
    (text,) = texts(inspection.findings, "progress_head")
    assert "in the model: progress_head ends in a Linear" in text
    levels = [finding.level for finding in inspection.findings]
    assert levels == sorted(levels, key=["wrong", "doubt", "note"].index)
