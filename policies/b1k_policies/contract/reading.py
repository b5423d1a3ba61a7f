"""What a checkpoint's own files state about its contract, key by key, understood or not.

EVAL_CONTRACT.json is read leniently because its schema is not public: keys are normalised, nested
objects entered, synonyms accepted. config.json is read by its exact keys only, since the Florence
and DA3 configurations inside it use the same words for other things.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from b1k_policies.contract import words
from b1k_policies.contract import words_control as control
from b1k_policies.contract.codecs import ContractValueError, near_miss
from b1k_policies.contract.contract import PRESETS
from b1k_policies.contract.fields import FIELDS, FORMAT, check_keys, completed, decode_value
from b1k_policies.contract.words import Found, Reader, as_is, flag, integer, view_list

CONTRACT_FILE = "EVAL_CONTRACT.json"
CONFIG_FILE = "config.json"


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One thing a file says.

    Attributes:
        name: A field, a figure of `EvalContract.derived`, or `native.VIEW` ([size, fx, fy, cx,
            cy]), or `base`.
        value: For a field its canonical value, else a JSON value.
        where: `FILE:key.of.key`.
    """

    name: str
    value: Any
    where: str


@dataclass(frozen=True, kw_only=True)
class Unread:
    """One key that may concern the contract and says nothing to this version.

    Attributes:
        file: File that has it.
        key: `key.of.key`.
        why: Its value, or why it was not read.
        statistics: Whether it speaks of normalised proprio or actions, which no field can express.
    """

    file: str
    key: str
    why: str
    statistics: bool = False


@dataclass(kw_only=True)
class Reading:
    """What was understood of a file, and what was not.

    Attributes:
        statements: Everything stated, in the order of the file.
        unread: What was not understood, likewise.
        document: The file as read.
    """

    statements: list[Statement] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    document: Mapping[str, Any] = field(default_factory=dict)

    @property
    def not_understood(self) -> list[str]:
        """`FILE:key: why` of each."""
        return [f"{each.file}:{each.key}: {each.why}" for each in self.unread]

    def value(self, dotted: str) -> Any:  # noqa: ANN401 - any JSON value
        """The value at a dotted key; None where there is none."""
        found: Any = self.document
        for segment in dotted.split("."):
            found = found.get(segment) if isinstance(found, Mapping) else None
        return found


def _table(*rows: tuple[str, Reader]) -> Mapping[str, Reader]:
    return MappingProxyType({key: reader for keys, reader in rows for key in keys.split()})


_YES, _NO = ("progress_head", True), ("progress_head", False)

_SYNONYMS: Mapping[str, Reader] = _table(
    # Pictures. `image_...` also stands for image_input, preprocessing and the like: _SEGMENTS.
    ("image_size img_size input_size input_resolution image_resolution image_hw image_shape "
     "image_input_size image_tensor_shape target_size resize_to intrinsics_resolution "
     "intrinsics_image_size", words.image_size),
    ("geometry_size da3_process_res process_res geometry_process_res",
     control.renamed(words.image_size, "image_size", "geometry_size")),
    ("image image_tensor", words.image_text),
    ("resize resize_filter resize_mode resize_method resize_interpolation image_interpolation "
     "image_resample image_filter", words.resize),
    ("antialias resize_antialias image_antialias",
     flag(("resize_antialias", True), ("resize_antialias", False))),
    ("colour_order color_order channel_order color_space image_color image_colour image_channels "
     "image_mode color_format normalization_order normalization_channel_order", words.colours),
    ("normalization image_normalization", words.normalisation),
    ("image_mean normalization_mean imagenet_mean", words.colour_triple("image_mean")),
    ("image_std normalization_std imagenet_std", words.colour_triple("image_std")),
    ("view_order views view_names cameras camera_order camera_names image_order image_views "
     "image_view_order image_keys intrinsics_order", view_list("view_order")),
    ("num_views n_views num_image_views view_count", integer("view_count")),
    # Cameras and poses.
    ("head_k head_intrinsics intrinsics_head k_head head_camera_k", words.k_matrix("head")),
    ("wrist_k wrist_intrinsics intrinsics_wrist intrinsics_wrists k_wrist wrist_camera_k",
     words.k_matrix("left_wrist", "right_wrist")),
    ("left_k left_wrist_k intrinsics_left intrinsics_left_wrist", words.k_matrix("left_wrist")),
    ("right_k right_wrist_k intrinsics_right intrinsics_right_wrist",
     words.k_matrix("right_wrist")),
    ("posed use_posed_da3 posed_da3 use_poses use_extrinsics",
     flag(("posed", True), ("posed", False))),
    ("extrinsics_rows extrinsics_order extrinsic_order extrinsics_row_order extrinsics_views "
     "extrinsics_view_order pose_order poses_order", view_list("extrinsics_rows")),
    ("parquet_to_view block_to_view extrinsics_remap extrinsics_map", words.block_to_view),
    ("extrinsics extrinsics_direction extrinsics_convention extrinsics_type extrinsics_meaning "
     "extrinsics_semantics extrinsics_frame extrinsics_format pose_convention", words.direction),
    ("camera_axes extrinsics_axes camera_convention extrinsics_camera_axes axes_convention "
     "axis_convention camera_axis_convention", words.axes),
    # Proprio and actions.
    ("proprio_dim dim_proprio state_dim proprio proprio_shape", words.width("proprio_dim")),
    ("proprio_parts proprio_order proprio_layout proprio_keys state_order state_layout",
     words.parts("proprio_parts", proprio=True)),
    ("gripper_proprio gripper_scaling proprio_gripper proprio_gripper_scaling "
     "gripper_normalization proprio_gripper_normalization gripper_state", words.gripper),
    ("base_qvel_frame base_velocity_frame base_vel_frame proprio_base_qvel_frame",
     control.base_frame),
    ("proprio_mask proprio_masked idx_for_mask_proprio mask_proprio_idx proprio_mask_idx "
     "proprio_masked_columns", control.columns("proprio_mask")),
    ("proprio_normalisation proprio_normalization proprio_norm normalize_proprio normalise_proprio "
     "normalization_proprio", control.PROPRIO_NORMALISATION),
    ("action_normalisation action_normalization action_norm normalize_actions normalize_action "
     "normalise_actions normalization_action normalization_actions", control.ACTION_NORMALISATION),
    ("action_mode", as_is("action_mode")),
    ("action_dim real_action_dim", words.width("action_dim")),
    ("action_parts action_layout action_order", words.parts("action_parts", proprio=False)),
    ("delta_spec delta_mask action_delta_mask mask_spec bool_mask make_bool_mask",
     words.delta_spec),
    ("idx_for_delta delta_indices delta_idx delta_columns delta_dims",
     words.delta_indices(offsets=True)),
    ("idx_for_abs abs_indices absolute_indices absolute_dims", words.delta_indices(offsets=False)),
    ("delta_reference action_reference decode_reference delta_base action_decode_reference "
     "action_delta_reference", words.reference),
    ("chunk_length chunk_size num_actions action_horizon action_chunk action_chunk_length "
     "action_chunk_size prediction_horizon pred_horizon", integer("chunk_length")),
    ("pred_actions output_shape pred_actions_shape action_shape actions_shape output",
     words.chunk_shape),
    ("first_action first_action_index first_executable_action first_action_to_execute "
     "execute_from execute_from_index skip_first_actions", integer("first_action")),
    ("steps_per_row control_steps_per_row control_steps_per_action", integer("steps_per_row")),
    ("row_period row_period_s row_seconds row_dt action_dt action_period action_period_s "
     "seconds_per_row chunk_dt", control.row_seconds),
    ("action_hz action_rate action_rate_hz action_frequency action_frequency_hz action_fps row_hz "
     "chunk_hz", control.row_rate),
    ("chunk_seconds chunk_duration chunk_duration_s action_duration qdur", control.chunk_seconds),
    ("gripper_threshold gripper_binarize_threshold gripper_binarization_threshold "
     "binarize_gripper_threshold action_gripper_threshold", control.threshold),
    ("gripper_binarised binarize_gripper gripper_binarize gripper_binarized binarise_gripper "
     "action_gripper_binarized",
     flag(("gripper_binarised", True), ("gripper_binarised", False))),
    # Inputs besides the pictures.
    ("domain_id", integer("domain_id")),
    ("language_length language_max_length max_language_length tokenizer_max_length "
     "text_max_length max_text_length language_max_len max_token_len", integer("language_length")),
    ("language_instruction task_instruction task_description task_prompt language_prompt",
     as_is("prompt")),
    ("denoising_steps num_denoising_steps inference_steps num_inference_steps sampling_steps "
     "flow_steps", integer("denoising_steps")),
    ("torch_dtype model_dtype inference_dtype", words.dtype),
    # What the model says of itself. 'sigmoid' alone is nobody's guess: done, or to be done?
    ("progress_output progress_head progress_head_output progress_head_type progress_type",
     words.progress),
    ("progress_is_logit progress_logits progress_head_logits progress_apply_sigmoid "
     "apply_sigmoid_to_progress progress_head_apply_sigmoid",
     flag(("progress_output", "logit"), ("progress_output", "probability"))),
    ("use_progress_head", flag(_YES, _NO)),
    ("num_skills skill_count n_skills skill_num_classes", integer("skill_count")),
    ("skill_names id_to_skill skill_to_id skill_prompt_hub", words.skills),
)  # fmt: skip

# Words that mean the whole checkpoint at the top of a file and something else further in: the
# dtype of one tensor, the skills of one task. A bare `version` may be the schema's: it counts only
# where it names a preset.
_TOP: Mapping[str, Reader] = _table(
    ("dtype precision", words.dtype),
    ("prompt instruction", as_is("prompt")),
    ("interpolation resample", words.resize),
    ("skills skill_list", words.skills),
    ("name contract model model_name model_version checkpoint checkpoint_name repo_id",
     words.version),
    ("version contract_version",
     lambda value: [f for f in words.version(value) or [] if f[1] in PRESETS] or None),
    ("base", lambda value: [("base", value)] if value in PRESETS else None),
)  # fmt: skip

_SEGMENTS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            ("image_input", "image_preprocessing", "image_preprocess", "image_processing",
             "images", "preprocessing", "preprocess", "vision", "visual", "img"),
            "image",
        ),
        **dict.fromkeys(("intrinsic", "camera_intrinsics"), "intrinsics"),
        **dict.fromkeys(("extrinsic", "camera_extrinsics", "poses"), "extrinsics"),
        **dict.fromkeys(
            ("normalisation", "normalize", "norm", "image_norm", "imagenet_norm", "imagenet"),
            "normalization",
        ),
        **dict.fromkeys(("state", "proprioception"), "proprio"),
    }
)  # fmt: skip

_OTHER_MODEL = re.compile(
    r"train|change|diff|previous|prior|legacy|deprecated|wrong|fix|history|optimi[sz]er|^old|_old$"
)
"""Parts of a file that speak of another model, or of how this one came about."""

_OF_THE_ROBOT = re.compile(r"proprio|proprioception|states?|actions?")
_OF_PICTURES = re.compile(r"images?|img|pixels?|rgb|imagenet|colou?rs?|vision|visual")
_STATISTICS = re.compile(
    r"(un|de)?norm(ali[sz]\w*)?|means?|stds?|stdev|q\d\d|quantiles?|stats?|statistics"
)
_CONFIG_KEYS: tuple[str, ...] = (
    "action_mode", "real_action_dim", "dim_proprio", "num_actions", "num_skills", "skill_names",
    "use_progress_head", "num_denoising_steps", "num_views", "num_image_views", "domain_id",
    "language_max_length", "tokenizer_max_length", "torch_dtype", "dtype", "da3_process_res",
    "use_posed_da3", "geometry_conditioning.da3_process_res",
    "geometry_conditioning.use_posed_da3", "idx_for_mask_proprio", "qdur", "action_hz",
    "gripper_threshold", "base_qvel_frame",
)  # fmt: skip


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ContractValueError: It cannot be read, is not JSON, or not an object.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ContractValueError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # not JSON, or not UTF-8
        raise ContractValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ContractValueError(f"{path} must hold a JSON object, got {type(document).__name__}")
    return document


def read_contract_file(document: Mapping[str, Any]) -> Reading:
    """Read an EVAL_CONTRACT.json: of whatever shape, unless it says that it has this project's.

    Raises:
        ContractValueError: Its `format` is this project's, and a key is unknown (with near
            misses), a value cannot be meant, or the version is another.
    """
    reading = Reading(document=document)
    if str(document.get("format", "")).startswith(FORMAT.partition("/")[0] + "/"):
        _read_own_format(reading, document)
        return reading
    versions = {seg for path, _ in _leaves(document) for seg in path if re.fullmatch(r"v\d+", seg)}
    _walk(reading, document, (), several_versions=len(versions) > 1)
    return reading


def read_config(document: Mapping[str, Any]) -> Reading:
    """Read the keys of a config.json that concern the contract; the rest is the model's own."""
    reading = Reading(document=document)
    for key in _CONFIG_KEYS:
        value = reading.value(key)
        if value is not None:
            reader = {**_SYNONYMS, **_TOP}[key.rsplit(".", 1)[-1]]
            _take(reading, reader(value), value, CONFIG_FILE, key)
    return reading


def _read_own_format(reading: Reading, document: Mapping[str, Any]) -> None:
    try:
        check_keys(document, also=("base",))
        if "base" not in document:
            document = completed(document)
        stated = {name: decode_value(name, document[name]) for name in FIELDS if name in document}
        if "base" in document:
            base = str(document["base"])
            if base not in PRESETS:
                raise ContractValueError(f"base {base!r} is no preset{near_miss(base, [*PRESETS])}")
            stated["base"] = base
    except ContractValueError as error:
        raise ContractValueError(f"{CONTRACT_FILE}: {error}") from error
    reading.statements += [
        Statement(name=name, value=value, where=f"{CONTRACT_FILE}:{name}")
        for name, value in stated.items()
    ]


def _leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:  # noqa: ANN401
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(value, (*path, _snake(str(key))))
    else:
        yield path, node


def _snake(key: str) -> str:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key)
    return re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")


def _canonical(path: tuple[str, ...]) -> list[str]:
    """Names to look a path up by, the most specific first."""
    segments = [_SEGMENTS.get(_snake(key), _snake(key)) for key in path]
    return ["_".join(segments[start:]) for start in range(len(segments))]


def _walk(
    reading: Reading, node: Mapping[str, Any], path: tuple[str, ...], *, several_versions: bool
) -> None:
    for key, value in node.items():
        here = (*path, str(key))
        dotted, snake = ".".join(here), _snake(str(key))
        if _OTHER_MODEL.search(snake) or (several_versions and re.fullmatch(r"v\d+", snake)):
            why = "not read, it may speak of another model"
            reading.unread.append(Unread(file=CONTRACT_FILE, key=dotted, why=why))
            continue
        table = _SYNONYMS if path else {**_SYNONYMS, **_TOP}
        readers = [table[name] for name in _canonical(here) if name in table]
        # The readers of a picture's statistics must not take those of the robot's numbers.
        statistics = words.gripper not in readers and _is_statistics(here)
        if statistics:
            own = (control.PROPRIO_NORMALISATION, control.ACTION_NORMALISATION)
            readers = [reader for reader in readers if reader in own]
        found: Found = None
        for reader in readers:
            found = reader(value)
            if found is not None:
                break
        if found is None and isinstance(value, Mapping):
            _walk(reading, value, here, several_versions=several_versions)
        elif found is None and isinstance(value, str) and key.startswith(("_", "$")):
            continue  # comments and schema addresses
        else:
            _take(reading, found, value, CONTRACT_FILE, dotted, statistics=statistics)


def _is_statistics(path: tuple[str, ...]) -> bool:
    """Whether a path speaks of how the robot's numbers, not the pictures, are normalised."""
    tokens = [token for segment in path for token in _snake(segment).split("_")]
    return (
        any(map(_OF_THE_ROBOT.fullmatch, tokens))
        and any(map(_STATISTICS.fullmatch, tokens))
        and not any(map(_OF_PICTURES.fullmatch, tokens))
    )


def _take(
    reading: Reading,
    found: Found,
    value: Any,  # noqa: ANN401 - any JSON value
    file: str,
    key: str,
    *,
    statistics: bool = False,
) -> None:
    if found is None:
        counts = statistics and not control.says_no(value)
        reading.unread.append(Unread(file=file, key=key, why=_short(value), statistics=counts))
        return
    try:
        stated = [(n, decode_value(n, v) if n in FIELDS else v) for n, v in found]
    except ContractValueError as error:
        reading.unread.append(Unread(file=file, key=key, why=f"{_short(value)} ({error})"))
        return
    where = f"{file}:{key}"
    reading.statements += [Statement(name=n, value=v, where=where) for n, v in stated]


def _short(value: Any) -> str:  # noqa: ANN401 - any JSON value
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
