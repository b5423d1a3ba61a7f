"""Where OmniGibson looks for instance files and asset versions."""

from __future__ import annotations

import importlib
from pathlib import Path


def data_path() -> Path:
    """`gm.DATA_PATH`, read and thereby locked."""
    return Path(importlib.import_module("omnigibson.macros").gm.DATA_PATH)


def get_dataset_path(dataset_name: str) -> str:
    return str(data_path() / dataset_name)


def assets_version(dataset: str) -> str | None:
    """Content of the data set's VERSION file; None without one."""
    file = data_path() / dataset / "VERSION"
    return file.read_text().strip() if file.is_file() else None


def get_behavior_1k_assets_version() -> str | None:
    return assets_version("behavior-1k-assets")


def get_omnigibson_robot_assets_version() -> str | None:
    return assets_version("omnigibson-robot-assets")


def task_instance_folder_2025(scene_name: str) -> str | None:
    """2025's `get_task_instance_path`: the scene's folder."""
    folder = data_path() / "2025-challenge-task-instances" / "scenes" / scene_name
    return str(folder) if folder.is_dir() else None


def task_instance_file_2026(scene_name: str, instance_name: str, mode: str = "train") -> str | None:
    """2026's `get_task_instance_path`: the file of an instance in a mode."""
    folder = {
        "train": "scenes",
        "public_test": "scene_test/public",
        "hidden_test": "scene_test/private",
    }[mode]
    root = data_path() / "2026-challenge-task-instances" / folder / scene_name / "json"
    file = root / f"{instance_name}.json"
    return str(file) if file.is_file() else None
