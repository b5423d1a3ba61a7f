"""The contracts known by name. A new checkpoint adds a value here, not code.

Sources: the model card of DA3-XVLA v17 (it lists what changed since v4); native cameras from
BEHAVIOR-1K (`b1k_envs.r1pro`); 50 language tokens and 10 denoising steps from the public X-VLA
code. `FIELDS` says how sure each field is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from b1k_envs.r1pro import CAMERAS
from b1k_policies.contract.codecs import ContractValueError, NativeCamera, near_miss
from b1k_policies.contract.contract import PARTS, EvalContract
from b1k_policies.contract.fields import FIELDS, check_keys, completed, decode_value

PROPRIO_GRIPPERS_INLINE = (
    "base_qvel", "trunk_qpos", "arm_left_qpos", "gripper_left_qpos", "arm_right_qpos",
    "gripper_right_qpos",
)  # fmt: skip
"""In the order of the 23 action columns; from public code of the checkpoints' group."""
PROPRIO_GRIPPERS_LAST = (
    "base_qvel", "trunk_qpos", "arm_left_qpos", "arm_right_qpos", "gripper_left_qpos",
    "gripper_right_qpos",
)  # fmt: skip
"""An older public variant, in which the right arm is one column off the action's."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of each channel of RGB in [0, 1]."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of each channel of RGB in [0, 1]."""

V17 = EvalContract(
    name="v17",
    image_size=224,
    geometry_size=224,
    resize_filter="bicubic",
    resize_antialias=True,
    colour_order="rgb",
    image_mean=IMAGENET_MEAN,
    image_std=IMAGENET_STD,
    view_order=("head", "left_wrist", "right_wrist"),
    native_intrinsics=tuple(
        NativeCamera(view=view, size=camera.size, focal=camera.focal)
        for view, camera in CAMERAS.items()
    ),
    scale_intrinsics=True,
    posed=True,
    extrinsics_rows=("head", "left_wrist", "right_wrist"),
    extrinsics_direction="camera_to_base",
    camera_axes="usd",
    proprio_parts=PROPRIO_GRIPPERS_INLINE,
    gripper_proprio="signed",
    base_qvel_frame="as_recorded",
    proprio_normalisation=None,
    proprio_mask=(),
    domain_id=19,
    language_length=50,
    prompt=(
        "Wash the two dusty boxing gloves from the countertop in the utility room "
        "in the washer until they are no longer covered with dust."
    ),
    skill_progress=None,
    denoising_steps=10,
    dtype="float32",
    action_mode="auto",
    action_parts=PARTS,
    action_normalisation=None,
    delta_spec=(-3, 3, -1, 7, -1, 7, -1),
    delta_reference="proprio",
    chunk_length=30,
    first_action=0,
    steps_per_row=1,
    gripper_threshold=None,
    progress_output="logit",
    skill_count=34,
    skill_names=None,
)
"""DA3-XVLA task 31, v17 (50k iterations)."""

V4 = replace(
    V17,
    name="v4",
    image_size=504,
    geometry_size=504,
    # The blocks as recorded, not mapped to views: v4 was trained with the left wrist's pose for
    # image 0 (head), so the correct poses would be an input it never saw.
    extrinsics_rows=("left_wrist", "right_wrist", "head"),
    first_action=1,  # row 0 is the action already commanded at the current frame
    progress_output="probability",  # the Sigmoid is inside the head
)
"""DA3-XVLA task 31, v4 (100k iterations), as it was trained, errors included."""

PRESETS: Mapping[str, EvalContract] = MappingProxyType({"v4": V4, "v17": V17})
"""The contracts known by name."""


CARD_CONFIG: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "v4": {
            "skill_classifier_weight": 0.1,
            "geometry_conditioning.da3_model_name": "depth-anything/DA3-BASE",
            "geometry_conditioning.num_geometry_tokens": 32,
        },
        "v17": {
            "skill_classifier_weight": 0.5,
            "geometry_conditioning.da3_model_name": "depth-anything/DA3-LARGE",
            "geometry_conditioning.num_geometry_tokens": 240,
        },
    }
)
"""Values of config.json that the cards state and that tell the models apart; no batch uses them."""


def read_fields(document: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Read a contract in this project's own format: whole, partial, or with a base.

    Returns:
        (name of the base preset or None, the fields that the document spells out).

    Raises:
        ContractValueError: A key is not a field, a value is not valid, the base is not a preset,
            or the format is another.
    """
    check_keys(document, also=("base",))
    base = document.get("base")
    if base is None:
        document = completed(document)
    elif base not in PRESETS:
        raise ContractValueError(f"base {base!r} is no preset{near_miss(str(base), [*PRESETS])}")
    return base, {name: decode_value(name, document[name]) for name in FIELDS if name in document}
