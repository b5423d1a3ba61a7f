"""Paths and versions of the data."""

from omnigibson_double import touch
from omnigibson_double.asset_paths import (
    get_behavior_1k_assets_version,
    get_dataset_path,
    get_omnigibson_robot_assets_version,
)
from omnigibson_double.asset_paths import task_instance_folder_2025 as get_task_instance_path

__all__ = [
    "get_behavior_1k_assets_version",
    "get_dataset_path",
    "get_omnigibson_robot_assets_version",
    "get_task_instance_path",
]
touch.module(__name__)
