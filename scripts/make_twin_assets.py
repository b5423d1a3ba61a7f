"""Draw what the MuJoCo twin looks like: the MJCF files and pictures that its package ships.

    python scripts/make_twin_assets.py [FOLDER]

FOLDER is `envs/b1k_envs/mujoco_twin/assets` unless given. Run it after a change in `twin_assets/`,
or in what that follows: the robot's links and the layouts of the rooms. A test holds the shipped
files to what this makes. `python -m mujoco.viewer --mjcf=FILE` shows a file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from twin_assets import gloves, living_room, mjcf, robot, utility_room

from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.looks import ASSETS
from b1k_envs.mujoco_twin.robot.body import add_robot
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout as of_gloves
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.states import DUST_POINTS
from b1k_envs.mujoco_twin.scenes.turning_on_radio import layout as of_radio

SUBJECTS = {
    "robot": (add_robot, robot.add_robot_looks),
    "clean_boxing_gloves": (of_gloves.add_scene, utility_room.add_scene_looks),
    "turning_on_radio": (of_radio.add_scene, living_room.add_scene_looks),
}
"""By file name, for rooms the task's: what adds the bodies, and what dresses them."""


def make(folder: Path) -> None:
    """Write every subject's files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (build, dress) in SUBJECTS.items():
        spec = mujoco.MjSpec()
        build(spec)
        dress(spec)
        mjcf.write(spec, folder / f"{name}.xml")
    mjcf.write_pictures(folder)
    np.savetxt(folder / DUST_POINTS.name, gloves.dust_points(), fmt="%.17g", header="x y z [m]")


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else ASSETS)
