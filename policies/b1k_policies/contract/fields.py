"""Every field of a contract, one row each: codec, meaning, spellings, what a wrong value does.

`EvalContract` checks its values by these rows, the reader of a checkpoint's files takes the
spellings from them, `b1k-eval contract` and `inspect` print them, and a test holds
docs/contract.md to them. A new field is a row here, its value in the presets, and the code that
uses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_type_hints

from b1k_envs.base import VIEWS, View
from b1k_envs.r1pro import ACTION_SLICES, PROPRIO_2025
from b1k_policies.base import ResizeFilter
from b1k_policies.contract import consequences as does
from b1k_policies.contract.codecs import (
    ANY_NAMES,
    BOOL_MASK,
    CAMERAS,
    COLUMNS,
    FLAG,
    PROGRESS,
    TEXT,
    Codec,
    ContractValueError,
    NativeCamera,
    choice,
    names,
    near_miss,
    optional,
    real,
    real_triple,
    whole,
)
from b1k_policies.contract.normalisation import NORMALISATION, Normalisation

if TYPE_CHECKING:
    from b1k_policies.contract.contract import EvalContract

FORMAT = "b1k-eval-contract/1"
"""Value of the key `format` in the JSON of a contract."""

Effect = Literal["bytes", "meaning", "label"]
"""What a wrong value spoils: the bytes a model sees, the meaning of its numbers, or only a name."""

Sure = Literal["card", "public", "open", "choice"]
"""How a preset knows a value. `card`: the model card says it. `public`: public code of the model
family or of BEHAVIOR-1K says it. `open`: only the checkpoint's own files can say it, and they
replace the preset's default. `choice`: whoever runs it chooses."""

ColourOrder = Literal["rgb", "bgr"]
Direction = Literal["camera_to_base", "base_to_camera"]
CameraAxes = Literal["usd", "opencv"]
GripperProprio = Literal["signed", "fraction", "sum"]
BaseFrame = Literal["as_recorded", "world", "robot"]
DeltaReference = Literal["proprio"]
ProgressOutput = Literal["probability", "logit", "none"]
Dtype = Literal["float32", "bfloat16", "float16"]

_FROM_THE_FIRST = object()
_VIEW_WORDS = {"left": "left_wrist", "right": "right_wrist"}  # the card's words for the views


def spelled(text: str) -> str:
    """Normalise a text for the look-up of spellings: lower case, words joined by `_`.

    A text with digits keeps its punctuation: in `[-1, 1]` the dash is a minus, not a hyphen.
    """
    text = " ".join(text.lower().split())
    if any(character.isdigit() for character in text):
        return text
    return text.replace("-", "_").replace(" ", "_")


@dataclass(frozen=True, eq=False)
class Row:
    """Everything known about a field except its value.

    Attributes:
        effect: What a wrong value spoils.
        sure: How the presets know their value.
        meaning: One line for people, with unit and frame.
        codec: Reads and checks its values.
        keys: Other names of the field in files, separated by spaces.
        words: Other spellings of its values in files.
        wrong: What a wrong value does; None for the general sentence.
        since: The value that held before the field existed; `_FROM_THE_FIRST` if it always did.
        name: Name in the contract, in its JSON and after `--set`.
    """

    effect: Effect
    sure: Sure
    meaning: str
    codec: Codec
    keys: str = ""
    words: Mapping[Any, Any] = field(default_factory=dict)
    wrong: does.Wrong | None = None
    since: Any = _FROM_THE_FIRST
    name: str = ""

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every name of the field in files, its own first."""
        return (self.name, *self.keys.split())

    @property
    def line(self) -> str:
        """Its line in a contract's JSON, such as `"colour_order": "rgb" | "bgr"`."""
        return f'"{self.name}": {self.codec.form}'

    def known(self, word: Any) -> tuple[Any] | None:  # noqa: ANN401 - any JSON value
        """Return the value that a word of a file stands for, as a tuple; None for no known word."""
        word = spelled(word) if isinstance(word, str) else word
        for spelling, value in {
            **{spelled(o): o for o in self.codec.options},
            **self.words,
        }.items():
            # By type too: 1 == True, so a flag would be taken for a number that has a meaning here.
            if type(spelling) is type(word) and spelling == word:
                return (value,)
        return None

    def in_words(self, value: Any) -> str:  # noqa: ANN401 - the field's own type
        """Return a value as people write it."""
        return does.shown(self.codec.encode(value))

    def consequence(self, sent: EvalContract, trained: Any) -> does.Words:  # noqa: ANN401
        """Say what `sent` does in this field, and what that does to the model or the robot.

        Args:
            sent: The contract in force.
            trained: Value of the field in training.

        Returns:
            (`504 px are sent`, `the model sees pictures of another size than it was trained on`).
        """
        wrong = self.wrong or (does.SENT if self.effect == "bytes" else does.USED)
        if callable(wrong):
            return wrong(sent, trained)
        ours = self.in_words(getattr(sent, self.name))
        what, follows = wrong[trained] if isinstance(wrong, Mapping) else wrong
        return (
            what.format(ours=ours, OURS=ours.upper()),
            follows.format(trained=self.in_words(trained)),
        )


# fmt: off
@dataclass(frozen=True, kw_only=True)
class ContractFields:
    """The fields, in the order of the JSON; none has a default, so that a preset must say each."""

    name: Annotated[str, Row(
        "label", "card", "Name of this contract, for people.", TEXT)]
    image_size: Annotated[int, Row(
        "bytes", "card", "Width and height of a view as sent [px].", whole(14, 4096),
        keys="img_size input_size image_resolution image_input_size target_size "
             "intrinsics_resolution",
        wrong=("{ours} px are sent",
               "the model sees pictures of another size than it was trained on"))]
    geometry_size: Annotated[int | None, Row(
        "meaning", "card", "Width to which the geometry encoder inside the model brings its "
        "pictures [px].", optional(whole(14, 4096)), keys="da3_process_res process_res",
        wrong=("{ours} px are taken for the size inside the geometry encoder",
               "the contract is of another model"))]
    resize_filter: Annotated[ResizeFilter, Row(
        "bytes", "card", "Filter that takes the native picture to image_size.",
        choice(*get_args(ResizeFilter)), keys="resize image_resize",
        words={3: "bicubic", 2: "bilinear", 0: "nearest"},  # PIL's numbers
        wrong=("pictures are shrunk by {ours}",
               "edges and fine structure are softer or harsher than the {trained} ones of the "
               "training"))]
    resize_antialias: Annotated[bool, Row(
        "bytes", "public", "Widen the filter when shrinking, as PIL and torchvision do.", FLAG,
        keys="antialias image_antialias", wrong={
            True: ("pictures are shrunk without antialiasing, as OpenCV's INTER_CUBIC does",
                   "fine structure turns into jagged edges and stripes that the model never "
                   "learnt"),
            False: ("pictures are shrunk with antialiasing, as PIL does",
                    "they are smoother than those of the training, which were shrunk as OpenCV "
                    "does")})]
    colour_order: Annotated[ColourOrder, Row(
        "bytes", "card", "Order of the colour planes.", choice(*get_args(ColourOrder)),
        keys="color_order channel_order color_space image_color_order image_color "
             "image_channel_order image_normalization_order",
        wrong=(
            "{OURS} is sent",
            "red and blue are swapped: the model takes an orange thing for a blue one"))]
    image_mean: Annotated[tuple[float, float, float], Row(
        "bytes", "card", "Subtracted after scaling to [0, 1], in the order of the planes.",
        real_triple(0, 1), keys="normalization_mean image_normalization_mean imagenet_mean")]
    image_std: Annotated[tuple[float, float, float], Row(
        "bytes", "card", "Divided by after that, in the order of the planes.",
        real_triple(0, 1, positive=True),
        keys="normalization_std image_normalization_std imagenet_std")]
    view_order: Annotated[tuple[View, ...], Row(
        "bytes", "card", "Which view each image and each K is.", names(VIEWS), words=_VIEW_WORDS,
        keys="views view_names cameras camera_order image_order image_views image_view_order "
             "intrinsics_order",
        wrong=does.view_order)]
    native_intrinsics: Annotated[tuple[NativeCamera, ...], Row(
        "bytes", "public", "Size and focal length of each view before resizing [px].", CAMERAS)]
    scale_intrinsics: Annotated[bool, Row(
        "bytes", "card", "Send K scaled to image_size, not the native one.", FLAG,
        wrong=does.scale_intrinsics)]
    posed: Annotated[bool, Row(
        "bytes", "card", "Send extrinsics and intrinsics at all.", FLAG,
        keys="use_posed_da3 posed_da3", wrong={
            True: ("no poses and no K are sent",
                   "the model learnt with them and now works without"),
            False: ("poses and K are sent", "the model learnt without them")})]
    extrinsics_rows: Annotated[tuple[View, ...], Row(
        "bytes", "card",
        "Whose pose is in each extrinsics row, as trained (not as it should have been).",
        names(VIEWS), words=_VIEW_WORDS,
        keys="extrinsics_order extrinsics_view_order pose_order", wrong=does.extrinsics_rows)]
    extrinsics_direction: Annotated[Direction, Row(
        "bytes", "open",
        "What the 4x4 does: takes points of the camera frame to the base frame, or back.",
        choice(*get_args(Direction)),
        keys="extrinsics_convention extrinsics_type pose_convention",
        wrong=("{ours} is sent", "every pose is the inverse of what the model takes it for: cameras"
               " and robot base change places"))]
    camera_axes: Annotated[CameraAxes, Row(
        "bytes", "open",
        "Camera frame: usd (+x right, +y up, looks along -z) or opencv (+y down, along +z).",
        choice(*get_args(CameraAxes)), keys="extrinsics_axes camera_convention",
        words={"opengl": "usd"},
        wrong=("poses with {ours} axes are sent", "y and z of every camera point the other way: to "
               "the model each camera looks backwards and is upside down"))]
    proprio_parts: Annotated[tuple[str, ...], Row(
        "bytes", "open",
        "Slices of the evaluator's proprio, in order; a gripper's two fingers become one.",
        names(tuple(PROPRIO_2025)), keys="proprio_order proprio_layout proprio_keys",
        wrong=does.proprio_parts)]
    gripper_proprio: Annotated[GripperProprio, Row(
        "bytes", "open", "A gripper from its finger openings q1, q2 [m]: signed "
        "2*(q1+q2)/0.10 - 1, fraction (q1+q2)/0.10, sum q1+q2.",
        choice(*get_args(GripperProprio)),
        keys="gripper_scaling proprio_gripper proprio_gripper_scaling gripper_normalization "
             "proprio_gripper_normalization",
        words={"2*(q1+q2)/0.10 - 1": "signed", "(q1+q2)/0.10": "fraction", "q1+q2": "sum"},
        wrong=does.gripper_proprio)]
    base_qvel_frame: Annotated[BaseFrame, Row(
        "bytes", "open",
        "Frame of base_qvel: world (fixed axes), robot, or as_recorded by the protocol in force.",
        choice(*get_args(BaseFrame)),
        keys="base_velocity_frame proprio_base_qvel_frame", since="as_recorded",
        wrong=does.base_qvel_frame)]
    proprio_normalisation: Annotated[Normalisation | None, Row(
        "bytes", "open",
        "Statistics by which the proprio is normalised before it is sent, or none.", NORMALISATION,
        keys="proprio_normalization proprio_norm normalize_proprio normalization_proprio",
        words={False: None, "identity": None}, since=None, wrong=does.normalised_state)]
    proprio_mask: Annotated[tuple[int, ...], Row(
        "bytes", "open",
        "Columns of the proprio that are sent as 0; offsets are still added to what they were.",
        COLUMNS, keys="idx_for_mask_proprio proprio_masked_columns", since=[])]
    domain_id: Annotated[int, Row(
        "bytes", "card", "Embodiment index sent to the model.", whole(0))]
    language_length: Annotated[int, Row(
        "bytes", "open", "Tokens the instruction is padded or cut to.", whole(1, 4096),
        keys="language_max_length max_language_length tokenizer_max_length")]
    prompt: Annotated[str | None, Row(
        "bytes", "open", "Instruction sent, whatever the task; none sends the task's own.",
        optional(TEXT), keys="instruction language_instruction task_instruction language_prompt")]
    skill_progress: Annotated[float | str | None, Row(
        "bytes", "open", "Progress that the model is told: none, a number, or previous: its own of "
        "the inference before, 0 at the start of an episode.", PROGRESS, since=None,
        wrong=does.skill_progress)]
    denoising_steps: Annotated[int, Row(
        "bytes", "choice", "Integration steps of one inference.", whole(1, 1000),
        keys="num_denoising_steps num_inference_steps inference_steps")]
    dtype: Annotated[Dtype, Row(
        "bytes", "choice", "Floating point of weights and inference.",
        choice(*get_args(Dtype)), keys="torch_dtype model_dtype precision",
        words={"fp32": "float32", "bf16": "bfloat16", "fp16": "float16",
               "torch.float32": "float32", "torch.bfloat16": "bfloat16",
               "torch.float16": "float16"})]
    action_mode: Annotated[str, Row(
        "meaning", "card", "Action space of the model's config.", TEXT)]
    action_parts: Annotated[tuple[str, ...], Row(
        "meaning", "public", "Parts of the robot in the order of the model's columns.",
        names(tuple(ACTION_SLICES), all_of_them=True), keys="action_layout action_order")]
    action_normalisation: Annotated[Normalisation | None, Row(
        "meaning", "card",
        "Statistics by which the model's actions are normalised, undone before anything else.",
        NORMALISATION, keys="action_normalization action_norm normalize_actions normalize_action "
                            "normalization_action normalization_actions",
        words={False: None, "identity": None}, since=None, wrong=does.normalised_actions)]
    delta_spec: Annotated[tuple[int, ...], Row(
        "meaning", "card", "Runs of columns: +n are offsets, -n are commands already.", BOOL_MASK,
        keys="delta_mask action_delta_mask make_bool_mask", wrong=does.delta_spec)]
    delta_reference: Annotated[DeltaReference, Row(
        "meaning", "card", "What offsets are added to: the proprio at inference, for every row.",
        choice(*get_args(DeltaReference)),
        keys="action_delta_reference action_decode_reference action_reference")]
    chunk_length: Annotated[int, Row(
        "meaning", "card", "Rows of one chunk.", whole(1, 1000),
        keys="chunk_size num_actions action_horizon action_chunk_size action_chunk_length")]
    first_action: Annotated[int, Row(
        "meaning", "card",
        "First row to execute; 1 where row 0 is the action already commanded.", whole(0),
        keys="first_action_index first_executable_action", wrong=does.first_action)]
    steps_per_row: Annotated[int, Row(
        "meaning", "public", "Control steps of 1/30 s for which each row is commanded.",
        whole(1, 300), keys="control_steps_per_row", since=1, wrong=does.steps_per_row)]
    gripper_threshold: Annotated[float | None, Row(
        "meaning", "open", "Gripper commands from this up are executed as +1 (open), others as -1; "
        "none: as they are.", optional(real(-1, 1)),
        keys="gripper_binarize_threshold action_gripper_threshold", since=None,
        wrong=does.gripper_threshold)]
    progress_output: Annotated[ProgressOutput, Row(
        "meaning", "card",
        "What progress_head gives: a probability, a logit (one sigmoid to go), or no head.",
        choice(*get_args(ProgressOutput)),
        keys="progress_head progress_head_output progress_head_type",
        words={"bare_linear": "logit"},  # the card's; not its 'Sigmoid': done or still to do?
        wrong=does.progress_output)]
    skill_count: Annotated[int, Row(
        "meaning", "card", "Classes of skill_classifier.", whole(1),
        keys="num_skills skill_num_classes")]
    skill_names: Annotated[tuple[str, ...] | None, Row(
        "meaning", "open", "Names of the classes in order of index; none prints the index.",
        optional(ANY_NAMES))]
# fmt: on


FIELDS: Mapping[str, Row] = MappingProxyType({
    name: replace(hint.__metadata__[0], name=name)
    for name, hint in get_type_hints(ContractFields, include_extras=True).items()
})  # fmt: skip
"""Every field by name, in order."""


def json_value(name: str, value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return the JSON value of a field; that of a figure is returned as it is."""
    return FIELDS[name].codec.encode(value) if name in FIELDS else value


def completed(document: Mapping[str, Any]) -> dict[str, Any]:
    """Add to a whole contract's JSON the fields that are newer than it, as they held at its time.

    A document that lacks other fields too is returned unchanged.
    """
    # Before `geometry_size` existed, the encoder's size was taken for that of the pictures.
    later = {"geometry_size": document.get("image_size")}
    later |= {n: info.since for n, info in FIELDS.items() if info.since is not _FROM_THE_FIRST}
    if not all(name in document for name in FIELDS if name not in later):
        return dict(document)
    return {**later, **document}


def decode_value(name: str, value: Any) -> Any:  # noqa: ANN401 - the field's own type
    """Return a field's canonical value for a Python or JSON value.

    Raises:
        ContractValueError: The value is not valid; the text names the field and what it expects.
    """
    try:
        return field_info(name).codec.decode(value)
    except ContractValueError:
        raise
    except ValueError as error:
        raise ContractValueError(f"{name} {error}") from error


def field_info(name: str) -> Row:
    """Look up a field.

    Raises:
        ContractValueError: There is no such field; the text has near misses.
    """
    if name not in FIELDS:
        raise ContractValueError(f"{name!r} is no field of a contract{near_miss(name, [*FIELDS])}")
    return FIELDS[name]


def check_keys(document: Mapping[str, Any], also: tuple[str, ...] = ()) -> None:
    """Refuse a key that is not a field, and a `format` of another version.

    Raises:
        ContractValueError: The text names the key, with near misses, or the format.
    """
    for key in document:
        if key != "format" and key not in also:
            field_info(key)
    found = document.get("format", FORMAT)
    if found != FORMAT:
        raise ContractValueError(f"format is {found!r}, this version reads {FORMAT!r}")
