"""The parts of the policy that is learned in the twin, each against figures worked out by hand."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from twin_policy.legs import CLOCK_STEPS, CLOCKED, FIRST_LEG, LEGS, SECOND_GLOVE_FROM, progress_of
from twin_policy.points import NAMES, in_view, points_of

from b1k_policies.contract.presets import PRESETS, V17
from b1k_policies.xvla.files.folder import SHIPPED, shipped

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from twin_policy.checkpoint import CODE, build, configuration  # noqa: E402
from twin_policy.da3_xvla.models.control import (  # noqa: E402
    ASIDE,
    Decision,
    Situation,
    saturated,
)
from twin_policy.da3_xvla.models.perception import Sight, fuse, rays  # noqa: E402
from twin_policy.data import ControlBatch, Demos, SightBatch, chunk_labels  # noqa: E402
from twin_policy.eyes import look, sight_losses  # noqa: E402
from twin_policy.recipe import FAULTS, RECORDED, Recipe, beside_pictures, mistaken  # noqa: E402
from twin_policy.training import adopt, control_losses, load_model  # noqa: E402

K = torch.tensor([[[100.0, 0.0, 112.0], [0.0, 100.0, 112.0], [0.0, 0.0, 1.0]]])


def looking_ahead(x, y, z):
    """A camera that looks along the base's +x, its picture upright, float32 [1, 4, 4]."""
    pose = torch.eye(4)
    pose[:3, :3] = torch.tensor([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    pose[:3, 3] = torch.tensor([x, y, z])
    return pose[None]


def sight(pixel, depth, aside=-4.0, along=-4.0, seen=10.0):
    number = torch.tensor([[depth]])
    return Sight(
        heat=torch.zeros(1, 1, 4, 4),
        pixel=torch.tensor([[pixel]]),
        depth=number.log(),
        aside=torch.full_like(number, aside),
        along=torch.full_like(number, along),
        seen=torch.full_like(number, seen),
    )


def test_a_pixel_to_the_right_and_below_is_to_the_right_and_below():
    ray = rays(torch.tensor([[[162.0, 137.0]]]), looking_ahead(0.0, 0.0, 1.0), K)
    # Half a unit to the right is -y of the base, a quarter down is -z.
    np.testing.assert_allclose(ray[0, 0], [1.0, -0.5, -0.25], atol=1e-6)


def test_two_cameras_that_agree_give_the_point():
    # (2, -1, 0.5) from (0, 0, 1) at depth 2, and from (1, -1, 0.5) straight ahead at depth 1.
    poses = [looking_ahead(0.0, 0.0, 1.0), looking_ahead(1.0, -1.0, 0.5)]
    sights = [sight([162.0, 137.0], 2.0), sight([112.0, 112.0], 1.0)]
    places = fuse(sights, poses, [K, K])
    np.testing.assert_allclose(places.points[0, 0], [2.0, -1.0, 0.5], atol=2e-3)
    assert places.scale[0, 0] < 0.03


def test_the_surer_camera_is_believed_and_one_that_sees_nothing_is_not():
    poses = [looking_ahead(0.0, 0.0, 1.0)] * 2
    wrong = sight([112.0, 112.0], 3.0, aside=-1.0, along=-1.0)
    unseen = sight([112.0, 112.0], 3.0, seen=-10.0)
    for other in (wrong, unseen):
        places = fuse([sight([162.0, 137.0], 2.0), other], poses, [K, K])
        np.testing.assert_allclose(places.points[0, 0], [2.0, -1.0, 0.5], atol=0.03)
    lost = fuse([unseen, unseen], poses, [K, K])
    assert lost.scale[0, 0] > 0.5


def test_depth_is_less_sure_than_direction_so_two_views_from_the_side_fix_it():
    turned = looking_ahead(2.0, -3.0, 0.5)
    turned[0, :3, :3] = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    poses = [looking_ahead(0.0, -1.0, 0.5), turned]  # it looks along +y at (2, -1, 0.5)
    off = [sight([112.0, 112.0], 2.3, along=-1.0), sight([112.0, 112.0], 1.8, along=-1.0)]
    places = fuse(off, poses, [K, K])
    np.testing.assert_allclose(places.points[0, 0], [2.0, -1.0, 0.5], atol=0.03)


def test_a_gripper_that_is_surely_open_releases():
    chunk = torch.zeros(1, 2, 23)
    chunk[0, :, 14] = torch.tensor([0.8, -0.9])
    chunk[0, :, 22] = torch.tensor([0.5, 1.3])
    chunk[0, :, 0] = 0.9
    found = saturated(chunk)
    assert found[0, :, 14].tolist() == [1.0, -1.0]
    assert found[0, :, 22].tolist() == [0.625, 1.0]
    assert found[0, :, 0].tolist() == chunk[0, :, 0].tolist()


def test_progress_rises_within_a_leg_and_from_leg_to_leg():
    leg = np.repeat(np.arange(LEGS), 60)
    steps = np.tile(np.arange(60), LEGS)
    progress = progress_of(leg, steps)
    assert (np.diff(progress) >= 0).all()
    assert progress[-1] < 1.0
    np.testing.assert_array_equal(np.floor(progress * LEGS + 1e-4), leg)
    closing = FIRST_LEG["fetch", "boxing_glove_1"] + 4
    assert closing in CLOCKED
    at = 60 * closing + np.array([0, CLOCK_STEPS // 4, CLOCK_STEPS // 2])
    np.testing.assert_allclose(progress[at] * LEGS - closing, [0.0, 0.25, 0.5], atol=1e-5)


def test_driving_has_no_clock():
    driving = np.full(3, FIRST_LEG["fetch", "boxing_glove_1"] + 2)
    np.testing.assert_allclose(progress_of(driving, np.array([0, 30, 200])), (driving + 0.5) / LEGS)


def test_the_active_glove_changes_with_the_leg():
    places = np.zeros((2, 6, 3, 4), np.float32)
    places[:, :, :, :3] = np.eye(3)
    places[:, 0, 0, 3], places[:, 1, 0, 3] = 1.0, 5.0  # the gloves' x
    points = points_of(places, np.array([SECOND_GLOVE_FROM - 1, SECOND_GLOVE_FROM]))
    cuff, other = NAMES.index("active cuff"), NAMES.index("other cuff")
    np.testing.assert_allclose(points[:, cuff, 0], [1.0 - 0.095, 5.0 - 0.095], atol=1e-6)
    np.testing.assert_allclose(points[:, other, 0], [5.0 - 0.095, 1.0 - 0.095], atol=1e-6)


def test_what_is_behind_or_beside_a_camera_is_not_in_view():
    points = np.array([[[1.0, 0.0, 1.0], [-1.0, 0.0, 1.0], [1.0, 0.8, 1.0]]], np.float32)
    cameras = looking_ahead(0.0, 0.0, 1.0)[:, None, :3].numpy()
    assert in_view(points, cameras, (1.0,)).tolist() == [[[True, False, False]]]


def one_picture(cuff):
    """A grey picture of both views with every point far behind the cameras but the active cuff."""
    points = torch.full((1, len(NAMES), 3), -5.0)
    points[0, 0] = torch.tensor(cuff)
    seen = torch.zeros(1, 2, len(NAMES), dtype=torch.bool)
    seen[:, :, 0] = True
    return SightBatch(
        pictures=torch.zeros(1, 1, 3, 224, 224),
        poses=looking_ahead(0.0, 0.0, 1.0)[:, None].expand(-1, 3, -1, -1),
        told=looking_ahead(0.0, 0.0, 1.0)[:, None].expand(-1, 3, -1, -1),
        proprio=torch.zeros(1, 23),
        second=torch.zeros(1),
        points=points,
        seen=seen,
    )


@pytest.mark.parametrize("view", [0, 1])
def test_the_loss_of_an_eye_is_least_where_the_point_is(view):
    batch = one_picture((2.0, 0.0, 1.0))  # 2 m ahead, in the middle of the picture
    size = (56, 28)[view]

    def loss(column, depth):
        heat = torch.full((1, len(NAMES), size, size), -10.0)
        heat[0, 0, size // 2 - 1 : size // 2 + 1, column - 1 : column + 1] = 10.0
        pixel = torch.full((1, len(NAMES), 2), 112.0)
        pixel[..., 0] = column * 224 / size
        number = torch.full((1, len(NAMES)), depth)
        sight = Sight(heat, pixel, number.log(), number * 0 - 4, number * 0 - 4, number * 0)
        return float(sight_losses(sight, batch, view)["loss"])

    right = loss(size // 2, 2.0)
    assert right < loss(size // 2 + 2, 2.0) < loss(size // 2 + 8, 2.0)
    assert right < loss(size // 2, 2.2) < loss(size // 2, 3.0)


def test_an_eye_gives_the_same_for_each_picture_of_a_batch():
    model, _ = build(0)
    model.eval()
    batch = one_picture((2.0, 0.0, 1.0))
    twice = SightBatch(**{n: torch.cat([v, v]) for n, v in vars(batch).items()})
    with torch.inference_mode():
        for view in (0, 1):
            one, both = look(model, batch, view), look(model, twice, view)
            torch.testing.assert_close(both.depth, one.depth.expand(2, -1), atol=1e-5, rtol=0)


# --- the faults of v4 ------------------------------------------------------------------------


def test_v4_is_the_card_s_contract_and_each_fault_alone_is_part_of_it():
    assert Recipe.of("v4").contract == PRESETS["v4"]
    assert Recipe.of("v17").contract == PRESETS["v17"]
    changed = {name for name, value in vars(PRESETS["v4"]).items() if vars(V17)[name] != value}
    parts = set()
    for fault in FAULTS:
        contract = Recipe.of("v17", [fault]).contract
        parts |= {name for name, value in vars(contract).items() if vars(V17)[name] != value}
    assert parts == changed - {"name"}


def test_with_the_recorded_order_each_picture_has_the_pose_of_the_block_at_its_place():
    blocks = {"left_wrist": 1, "right_wrist": 2, "head": 0}  # by place among the views
    assert tuple(blocks[view] for view in Recipe.of("v4").contract.extrinsics_rows) == RECORDED


def test_a_point_is_mistaken_by_the_way_from_the_camera_to_the_one_that_it_is_taken_for():
    head, wrist, right = (
        looking_ahead(*at)[0, :3].numpy() for at in ((0, 0, 1), (1, 2, 3), (7, 0, 0))
    )
    cameras = np.stack([head, wrist, right])[None]
    points = np.array([[[3.0, 0.5, 1.0], [3.0, 0.5, 1.0]]], np.float32)
    found = mistaken(points, cameras, np.array([[False, True]]))
    # As far before the wrist's camera as it is before the head's; as far before the right one's.
    np.testing.assert_allclose(found[0], [[4.0, 2.5, 3.0], [9.0, -1.5, -2.0]], atol=1e-6)
    assert beside_pictures(cameras, Recipe.of("v4"))[0, 0, 0, 3] == 1.0
    assert beside_pictures(cameras, Recipe())[0, 0, 0, 3] == 0.0


def a_few_steps(recipe):
    """Five steps of driving in which the base is told 0, 1, 2, 3, 4."""
    count = 5
    command = np.zeros((count, 23), np.float32)
    command[:, 0] = np.arange(count)
    known = {field.name: None for field in dataclasses.fields(Demos)}
    rows = {
        "command": command, "proprio": np.zeros((count, 23), np.float32),
        "first": np.zeros(count, int), "last": np.full(count, count - 1),
        "ends": np.full(count, count - 1), "plan": np.full(count, -1),
    }  # fmt: skip
    return Demos(**{**known, **rows, "recipe": recipe})


def test_a_padded_chunk_begins_with_the_action_already_commanded():
    at = np.array([0, 2])
    right, _ = chunk_labels(a_few_steps(Recipe()), at)
    padded, _ = chunk_labels(a_few_steps(Recipe.of("v17", ["padded-action"])), at)
    assert right[:, :4, 0].tolist() == [[0, 1, 2, 3], [2, 3, 4, 4]]
    assert padded[:, :4, 0].tolist() == [[0, 0, 1, 2], [1, 2, 3, 4]]
    # What the contract skips is that row, so that the same is executed.
    assert Recipe.of("v17", ["padded-action"]).contract.first_action == 1


@pytest.mark.parametrize(
    ("fault", "silent"),
    [("detached-skill", True), ("skill-weight", False), ("progress-mse", False)],
)
def test_a_fault_of_a_loss_changes_what_reaches_the_network(fault, silent):
    def gradient(recipe):
        model, ids = build(0, recipe)
        rng = torch.Generator().manual_seed(0)
        situation = Situation(
            points=torch.randn(4, len(NAMES), 3, generator=rng),
            scale=torch.full((4, len(NAMES)), 0.01),
            hand=torch.zeros(4, 3),
            proprio=torch.zeros(4, 23),
            progress=torch.full((4,), 0.3),
            words=model.said(ids).expand(4, -1),
            aside=torch.zeros(4, ASIDE),
        )
        decision = model.control(situation)
        batch = ControlBatch(
            situation=situation,
            chunk=decision.chunk.detach(),  # nothing to be learnt from the actions
            weight=torch.ones(4, 30),
            leg=torch.arange(4),
            clock=torch.full((4,), 0.5),
            skill=torch.arange(4),
        )
        only_skill = {"leg": decision.leg.detach(), "clock": decision.clock.detach()}
        if fault != "progress-mse":
            decision = decision._replace(**only_skill)
        control_losses(decision, batch, model, recipe)["loss"].backward()
        reached = model.control.layers[0].weight.grad
        return 0.0 if reached is None else float(reached.norm())

    with_fault, without = gradient(Recipe.of("v17", [fault])), gradient(Recipe())
    assert without > 0
    assert with_fault == 0 if silent else 0 < with_fault != without
    if fault == "skill-weight":
        assert with_fault == pytest.approx(without / 5, rel=1e-3)


def test_a_checkpoint_with_a_value_for_progress_says_it_as_a_probability():
    model, _ = build(0, Recipe.of("v17", ["progress-mse"]))
    hidden = torch.zeros(1, model.config.control_width)
    decision = Decision(torch.zeros(1, 30, 23), torch.zeros(1, LEGS), torch.zeros(1, LEGS), hidden)
    with torch.inference_mode():
        said = model.report(decision)
        assert float(said[0]) == pytest.approx(float(model.control.progress(decision)[0]))


def test_large_pictures_are_made_small_and_k_with_them():
    model, _ = build(0)
    pictures, k = model.resized(torch.ones(1, 3, 3, 504, 504), 2.25 * K[:, None].expand(1, 3, 3, 3))
    assert pictures.shape[-1] == 224
    np.testing.assert_allclose(k[0, 0, 0], 100.0 * torch.tensor([1.0, 0.0, 1.12]), rtol=1e-6)


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_checkpoint_has_the_code_and_the_places_of_this_tree(name):
    folder = SHIPPED / name
    ours = sorted(path.relative_to(CODE) for path in CODE.rglob("*.py"))
    assert sorted(p.relative_to(folder / "code" / "da3_xvla") for p in folder.rglob("*.py")) == ours
    for path in ours:
        assert (folder / "code" / "da3_xvla" / path).read_bytes() == (CODE / path).read_bytes()
    recipe = Recipe.of(name.removeprefix("twin-"))
    stated = json.loads((folder / "config.json").read_text())
    assert stated == json.loads(json.dumps(configuration(stated["vocab_size"], recipe)))


def test_of_a_checkpoint_a_training_takes_the_eyes_and_a_pilot_all():
    shipped_model, _ = load_model(SHIPPED / "twin-v17")
    theirs = shipped_model.state_dict()
    model, _ = build(5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    adopt(model, [SHIPPED / "twin-v17"])
    for name, value in model.state_dict().items():
        eye = name.split(".")[0] in ("head_eye", "wrist_eye")
        assert torch.equal(value, theirs[name] if eye else before[name]), name
    assert not torch.equal(before["control.layers.0.weight"], theirs["control.layers.0.weight"])
