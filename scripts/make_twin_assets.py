"""Draw what the MuJoCo twin looks like: MJCF files and PNG textures that its package ships.

    python scripts/make_twin_assets.py [FOLDER]

FOLDER is `envs/b1k_envs/mujoco_twin/assets` unless given. Run it after a change in `twin_assets/`,
or in what that follows: links, collision shapes and layouts of rooms. A test holds the shipped
files to what this makes. `python -m mujoco.viewer --mjcf=FILE` shows a file.
"""

from __future__ import annotations

import sys
from pathlib import Path

from twin_assets import mjcf
from twin_assets.robot import add_robot_looks

from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.looks import ASSETS
from b1k_envs.mujoco_twin.robot.body import add_robot

SUBJECTS = {"robot": (add_robot, add_robot_looks)}
"""By file name: what adds the bodies, and what dresses them."""


def make(folder: Path) -> None:
    """Write every subject's files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (build, dress) in SUBJECTS.items():
        spec = mujoco.MjSpec()
        build(spec)
        dress(spec)
        mjcf.write(spec, folder / f"{name}.xml")


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else ASSETS)
