"""The policy as a checkpoint folder in the v17 format, and the snapshots of its training."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import make_tiny_checkpoint as tiny
import numpy as np
import torch

from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.model import build_model
from b1k_envs.mujoco_twin.robot.body import EEF_SITE
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.scene import SCENE
from b1k_policies.xvla.silence import quietly
from b1k_policies.xvla.tokenizer import Tokenizer
from twin_policy.da3_xvla.models.configuration_xvla import XVLAConfig
from twin_policy.da3_xvla.models.modeling_xvla import XVLA
from twin_policy.demos import CONTRACT, TASK
from twin_policy.legs import LEGS, SECOND_GLOVE_FROM, SKILLS
from twin_policy.points import HEIGHTS, ROOM
from twin_policy.recipe import V17, Recipe

CODE = Path(__file__).parent / "da3_xvla"


def hand_in_camera() -> np.ndarray:
    """The left hand's tool centre in its camera's frame, float64 [3] [m], in any posture."""
    model = build_model(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    camera, site = model.camera("left_wrist").id, model.site(EEF_SITE["left"]).id
    turn = data.cam_xmat[camera].reshape(3, 3)
    return turn.T @ (data.site_xpos[site] - data.cam_xpos[camera])


def configuration(vocabulary: int, recipe: Recipe) -> dict[str, Any]:
    """config.json: the card's keys, then the widths of this model."""
    contract = recipe.contract
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
        "use_progress_head": True,
        "progress_head_sigmoid": contract.progress_output == "probability",
        "skill_classifier_weight": 0.1 if "skill-weight" in recipe else 0.5,
        "num_views": 3,
        "vocab_size": vocabulary,
        "geometry_conditioning": {
            "da3_process_res": contract.geometry_size,
            "use_posed_da3": contract.posed,
        },
        "legs": LEGS,
        "second_from": SECOND_GLOVE_FROM,
        "heights": list(HEIGHTS),
        "room": [None if place is None else list(place) for place in ROOM],
        "hand": [round(float(x), 6) for x in hand_in_camera()],
    }


def tokens() -> tuple[torch.Tensor, int]:
    """The instruction as int64 [1, L], and the size of the vocabulary."""
    with tempfile.TemporaryDirectory() as folder:
        size = tiny.write_tokenizer(Path(folder), CONTRACT)
        return Tokenizer(Path(folder), CONTRACT.language_length).ids(TASK.instruction), size


def build(seed: int, recipe: Recipe = V17) -> tuple[XVLA, torch.Tensor]:
    """A fresh model, and the instruction's tokens."""
    ids, vocabulary = tokens()
    torch.manual_seed(seed)
    return XVLA(XVLAConfig(**configuration(vocabulary, recipe))), ids


def save(model: XVLA, folder: Path, note: str, recipe: Recipe = V17) -> None:
    """Write the checkpoint folder; an older one of the same name is replaced."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    package = folder / "code" / "da3_xvla"
    shutil.copytree(CODE, package, ignore=shutil.ignore_patterns("__pycache__"))
    vocabulary = tiny.write_tokenizer(folder, CONTRACT)
    with quietly():
        model.save_pretrained(folder, safe_serialization=True)
    _write(folder / "config.json", configuration(vocabulary, recipe))
    stated = tiny.contract_json(recipe.contract)
    stated["model"] = recipe.name
    stated["proprio"]["base_qvel_frame"] = "robot"  # not read by this model
    stated["skill_progress"] = "previous"
    del stated["denoising_steps"]
    stated["skill_names"] = list(SKILLS)
    _write(folder / "EVAL_CONTRACT.json", stated)
    (folder / "README.md").write_text(f"# {recipe.name}\n\n{note}\n", "utf-8")


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")
