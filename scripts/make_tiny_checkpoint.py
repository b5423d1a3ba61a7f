"""Make a complete checkpoint folder of a few MB: config, weights, tokenizer, contract, code.

    python scripts/make_tiny_checkpoint.py v4|v17|family DIR [--seed 0]

`v4` and `v17` follow their model cards. `family` follows the public code of the X-VLA family where
that differs: no EVAL_CONTRACT.json, poses switched by an environment variable, pictures of 224 px
that the geometry encoder enlarges to 504, and weights in a pickle, as two names share a tensor.

The weights are random. The folder exists to exercise every line from the disk to the robot, and to
notice a client that sends the wrong thing; a result obtained with it says nothing about a model.
Keys and values are those of the DA3-XVLA model cards, the widths are not. The same command gives
the same weights, byte for byte, with the same torch.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from b1k_envs.errors import B1kEvalError, UsageError
from b1k_envs.r1pro import CAM_REL_POSES_ORDER
from b1k_envs.tasks.table import TASKS
from b1k_policies.contract.contract import EvalContract
from b1k_policies.contract.presets import PRESETS
from b1k_policies.xvla.silence import quietly

CODE = Path(__file__).parent / "tiny_checkpoint" / "da3_xvla"
FAMILY = "family"
FAMILY_CODE = CODE.with_name(FAMILY)
"""Files that replace those in `CODE` for the public family."""
KINDS = (*PRESETS, FAMILY)
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
"""BART's special tokens, in the order of their ids from 0; `<mask>` has the last id."""
VOCABULARY = 640
"""Number of tokens without `<mask>`: the four above, 256 bytes, and merges."""


def make_tiny_checkpoint(version: str, folder: Path, *, seed: int = 0) -> None:
    """Write a checkpoint folder.

    Args:
        version: `v4`, `v17` or `family`.
        folder: The folder to write; it is made with its parents, or must be empty.
        seed: Seed of the weights; torch's own generator is not changed.

    Raises:
        UsageError: There is no such version, or the folder is not empty.
    """
    if version not in KINDS:
        raise UsageError(f"there is no version {version!r}: choose one of {', '.join(KINDS)}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists and is not an empty folder: choose another")
    folder.mkdir(parents=True, exist_ok=True)
    package = folder / "code" / "da3_xvla"
    shutil.copytree(CODE, package, ignore=shutil.ignore_patterns("__pycache__"))
    if version == FAMILY:
        _make_family(folder, package, seed)
        return
    contract = PRESETS[version]
    config = config_json(contract, vocabulary=write_tokenizer(folder, contract))
    write_weights(folder, package, config, seed)
    _write_json(folder / "config.json", config)  # replaces the library's, which varies by version
    _write_json(folder / "EVAL_CONTRACT.json", contract_json(contract))
    (folder / "README.md").write_text(readme(contract, seed), "utf-8")


def _make_family(folder: Path, package: Path, seed: int) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(FAMILY_CODE, package, ignore=ignored, dirs_exist_ok=True)
    contract = PRESETS["v17"]  # the family stands in with v17's tokens
    config = family_config_json(write_tokenizer(folder, contract))
    write_pickle(folder, package, config, seed)
    _write_json(folder / "config.json", config)
    _write_json(folder / "preprocessor_config.json", family_preprocessor_json(contract))
    (folder / "README.md").write_text(family_readme(seed), "utf-8")


# --- config.json and EVAL_CONTRACT.json ----------------------------------------------------------


def _small(vocabulary: int) -> dict[str, Any]:
    """Return the sizes that make a model tiny, for every version."""
    return {
        "florence_config": {"image_size": 224, "patch_size": 32},
        "vocab_size": vocabulary,
        "hidden_size": 128,
        "depth": 2,
        "num_heads": 4,
        "mlp_ratio": 2,
        "num_domains": 30,
        "len_soft_prompts": 8,
    }


def config_json(contract: EvalContract, *, vocabulary: int) -> dict[str, Any]:
    """Return config.json: the card's keys and values, then the widths of this model."""
    v4 = contract.name == "v4"
    return {
        "architectures": ["XVLA"],
        "model_type": "xvla",
        "torch_dtype": contract.dtype,
        "action_mode": contract.action_mode,
        "real_action_dim": 23,
        "max_action_dim": 23,
        "dim_proprio": contract.proprio_dim,
        "num_actions": contract.chunk_length,
        "num_skills": contract.skill_count,
        "skill_classifier_weight": 0.1 if v4 else 0.5,
        "use_progress_head": True,
        "progress_head_weight": 0.1,
        "progress_head_sigmoid": contract.progress_output == "probability",
        "geometry_conditioning": {
            "da3_model_name": f"depth-anything/DA3-{'BASE' if v4 else 'LARGE'}",
            "da3_input_dim": 768 if v4 else 1024,
            "da3_process_res": contract.geometry_size,
            "num_geometry_tokens": 32 if v4 else 240,
            "use_posed_da3": contract.posed,
            "freeze_da3": True,
            "width": 64,
        },
        **_small(vocabulary),
        "num_views": len(contract.view_order),
    }


def family_config_json(vocabulary: int) -> dict[str, Any]:
    """Return the public family's config.json: nothing about poses, 504 px inside DA3."""
    return {
        "architectures": ["XVLA"],
        "model_type": "xvla",
        "torch_dtype": "float32",
        "action_mode": "auto",
        "real_action_dim": 23,
        "max_action_dim": 23,
        "dim_proprio": 23,
        "num_actions": 30,
        "num_skills": 34,
        "use_progress_head": True,
        "geometry_conditioning": {
            "da3_model_name": "depth-anything/DA3-LARGE",
            "da3_input_dim": 1024,
            "da3_process_res": 504,
            "da3_feature_layer": "last",
            "num_geometry_tokens": 32,
            "freeze_da3": True,
            "width": 64,
        },
        **_small(vocabulary),
        "num_views": 3,
    }


def family_preprocessor_json(contract: EvalContract) -> dict[str, Any]:
    """Return preprocessor_config.json, with the size of the pictures that config.json lacks."""
    return {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "XVLAProcessor",
        "do_resize": True,
        "size": {"height": 224, "width": 224},
        "resample": 3,  # PIL's number for bicubic
        "do_center_crop": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(contract.image_mean),
        "image_std": list(contract.image_std),
        "num_views": 3,
        "language_max_length": 50,
    }


def contract_json(contract: EvalContract) -> dict[str, Any]:
    """Return EVAL_CONTRACT.json: all that can be stated, in the words of the card."""
    gripper = {"signed": "2*(q1+q2)/0.10 - 1", "fraction": "(q1+q2)/0.10", "sum": "q1+q2"}
    return {
        "model": f"da3-xvla-b1k-task31-{contract.name}-tiny",
        "image_input": {
            "shape": f"[B, 3, 3, {contract.image_size}, {contract.image_size}]",
            "resize": contract.resize_filter,
            "antialias": contract.resize_antialias,
            "color_order": contract.colour_order.upper(),
            "mean": list(contract.image_mean),
            "std": list(contract.image_std),
            "view_order": list(contract.view_order),
        },
        "intrinsics": {
            "resolution": contract.image_size,
            **{view: contract.intrinsics(view).tolist() for view in contract.view_order},
        },
        "extrinsics": {
            "direction": "camera-to-base",
            "camera_axes": contract.camera_axes,
            "order": list(contract.extrinsics_rows),
            "parquet_to_view": [
                contract.extrinsics_rows.index(view) for view in CAM_REL_POSES_ORDER
            ],
        },
        "use_posed_da3": contract.posed,
        "proprio": {
            "dim": contract.proprio_dim,
            "order": list(contract.proprio_parts),
            "gripper": gripper[contract.gripper_proprio],
            "base_qvel_frame": contract.base_qvel_frame,
            "normalization": contract.proprio_normalisation,
            "mask": list(contract.proprio_mask),
        },
        "action": {
            "mode": contract.action_mode,
            "output": f"[B, {contract.chunk_length}, 23]",
            "layout": list(contract.action_parts),
            "delta_mask": f"make_bool_mask({', '.join(map(str, contract.delta_spec))})",
            "delta_reference": contract.delta_reference,
            "first_action": contract.first_action,
            "normalization": contract.action_normalisation,
            "steps_per_row": contract.steps_per_row,
            "gripper_threshold": contract.gripper_threshold,
        },
        "domain_id": contract.domain_id,
        "language": {"max_length": contract.language_length, "instruction": contract.prompt},
        "skill_progress": contract.skill_progress,
        "denoising_steps": contract.denoising_steps,
        "dtype": contract.dtype,
        "num_skills": contract.skill_count,
        "progress_head": contract.progress_output,
    }


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")


# --- tokenizer -----------------------------------------------------------------------------------


def write_tokenizer(folder: Path, contract: EvalContract) -> int:
    """Train a byte-level BPE on the instructions, write it as BART does, and return its size."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from tokenizers.trainers import BpeTrainer

    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    sentences = [*(task.instruction for task in TASKS), contract.prompt or ""]
    learner.train_from_iterator(sentences, trainer)
    learned = json.loads(learner.to_str())["model"]
    vocabulary = {**learned["vocab"], "<mask>": len(learned["vocab"])}
    # tokenizers writes merges as pairs since 0.20, and as "left right" before.
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in learned["merges"]]

    finished = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    finished.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    finished.decoder = decoders.ByteLevel()
    ends = ("</s>", vocabulary["</s>"]), ("<s>", vocabulary["<s>"])
    finished.post_processor = processors.RobertaProcessing(*ends, add_prefix_space=False)
    finished.add_special_tokens(
        [*map(AddedToken, SPECIAL_TOKENS), AddedToken("<mask>", lstrip=True)]
    )
    document = json.loads(finished.to_str())
    document["model"]["merges"] = [" ".join(pair) for pair in merges]  # all versions read this
    _write_json(folder / "tokenizer.json", document)
    in_order = dict(sorted(vocabulary.items(), key=lambda item: item[1]))
    (folder / "vocab.json").write_text(json.dumps(in_order, ensure_ascii=False), "utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges), ""]
    (folder / "merges.txt").write_text("\n".join(lines), "utf-8")
    _write_tokenizer_settings(folder, contract)
    return len(vocabulary)


def _write_tokenizer_settings(folder: Path, contract: EvalContract) -> None:
    mask = {"content": "<mask>", "lstrip": True, "normalized": False, "rstrip": False,
            "single_word": False}  # fmt: skip
    names = {
        "bos_token": "<s>",
        "cls_token": "<s>",
        "eos_token": "</s>",
        "mask_token": mask,
        "pad_token": "<pad>",
        "sep_token": "</s>",
        "unk_token": "<unk>",
    }
    _write_json(folder / "special_tokens_map.json", names)
    settings = {
        "tokenizer_class": "BartTokenizer",
        "model_max_length": 1024,  # Florence-2's; the contract says how much of it is used
        "add_prefix_space": False,
        "trim_offsets": True,
        "errors": "replace",
        **names,
        "mask_token": {"__type": "AddedToken", **mask},
    }
    _write_json(folder / "tokenizer_config.json", settings)


# --- weights -------------------------------------------------------------------------------------


@contextmanager
def imported(package: Path) -> Iterator[Callable[[str], ModuleType]]:
    """Import from a package folder under its own name, and remove it from sys.modules again.

    Args:
        package: Folder of the package, `.../da3_xvla`.

    Yields:
        Importer of a submodule: `load("models.modeling_xvla")`.
    """
    name = package.name
    spec = importlib.util.spec_from_file_location(
        name, package / "__init__.py", submodule_search_locations=[str(package)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{package} is no package")
    aside = {key: sys.modules.pop(key) for key in _modules(name)}
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        yield lambda submodule: importlib.import_module(f"{name}.{submodule}")
    finally:
        sys.dont_write_bytecode = writes_bytecode
        for key in _modules(name):
            del sys.modules[key]
        sys.modules.update(aside)


def _modules(package: str) -> list[str]:
    return [key for key in sys.modules if key.partition(".")[0] == package]


def write_weights(folder: Path, package: Path, config: dict[str, Any], seed: int) -> None:
    """Build the model with the code beside it, and save it by its own method."""
    with built(package, config, seed) as model, quietly():
        model.save_pretrained(folder, safe_serialization=True)


def write_pickle(folder: Path, package: Path, config: dict[str, Any], seed: int) -> None:
    """Write the same weights as a pickle, in which a tensor may have two names."""
    import torch

    with built(package, config, seed) as model:
        torch.save(model.state_dict(), folder / "pytorch_model.bin")


@contextmanager
def built(package: Path, config: dict[str, Any], seed: int) -> Iterator[Any]:
    """Give the model that the code makes from a configuration, with weights of the seed."""
    import torch

    with imported(package) as load, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model_config = load("models.configuration_xvla").XVLAConfig(**config)
        yield load("models.modeling_xvla").XVLA(model_config)


# --- for people ----------------------------------------------------------------------------------


def readme(contract: EvalContract, seed: int) -> str:
    """Return README.md."""
    name, size = contract.name, contract.image_size
    return f"""\
# A tiny checkpoint with the interface of DA3-XVLA {name}

**Random weights** (seed {seed}). It was never trained, it solves nothing, and a score obtained
with it says nothing about any model. It exists to exercise every line between the disk and the
robot: finding and importing the code, reading the contract, tokenizing, pictures of {size} px,
poses, denoising, decoding, driving. Its actions are bounded, so that the robot waves and does not
fling itself about: offsets below 0.15 rad, base, grippers and torso joint 4 below 0.3.

As on the {name} model card: every key of `config.json` the card names, with its value; the shapes
and the order of the batch; the 34 classes of `skill_classifier`; what `progress_head` gives
({contract.progress_output}).

Not as on it: `hidden_size` 128, `depth` 2 and the other widths are tiny. `da3_model_name` is a
label: there is no Depth Anything 3 inside, and no Florence-2, but small encoders that look at the
same inputs. `da3_input_dim` and `num_geometry_tokens` are real sizes of what they hand on. The
tokenizer is made like BART's and learnt from the challenge's instructions only.

Made by `scripts/make_tiny_checkpoint.py {name}` of b1k-eval.
"""


def family_readme(seed: int) -> str:
    """Return README.md of the family's stand-in."""
    return f"""\
# A tiny checkpoint in the shape of the public X-VLA family

**Random weights** (seed {seed}). It was never trained, it solves nothing, and a score obtained
with it says nothing about any model. It exists to meet what the family's code does and a model card
does not say:

- There is no EVAL_CONTRACT.json. `config.json` says nothing of poses: `XVLA_POSED_DA3=1` has them
  read, and without it they change nothing. `XVLA_DA3_NATIVE_INPUT=1` shows the geometry encoder the
  pictures as they are, `XVLA_ATTN_IMPL=sdpa` fuses attention.
- Pictures are 224 px always, as `preprocessor_config.json` says; `da3_process_res` 504 is what
  they are enlarged to inside.
- The weights are `pytorch_model.bin`: two names share a tensor.
- `da3_inline.reload_pretrained_weights()` takes the geometry encoder from the hub's snapshot of
  `da3_model_name`, so that its weights may be left out.
- The server, the pictures of the recordings and a second vision tower import packages that
  inference does not need.
- Training hides columns of the proprio (`idx_for_mask_proprio` in `models/action_space.py`).

Made by `scripts/make_tiny_checkpoint.py family` of b1k-eval.
"""


def main() -> int:
    """Run the command line, and return the exit status."""
    parser = argparse.ArgumentParser(description="Write a tiny checkpoint with random weights.")
    parser.add_argument("version", choices=KINDS)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--seed", type=int, default=0, help="of the weights (default 0)")
    arguments = parser.parse_args()
    try:
        make_tiny_checkpoint(arguments.version, arguments.folder, seed=arguments.seed)
    except B1kEvalError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for path in sorted(arguments.folder.rglob("*")):
        if path.is_file():
            print(f"{path.stat().st_size:>9,}  {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
