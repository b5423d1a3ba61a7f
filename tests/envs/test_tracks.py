"""The standard track: what is zero, what is not, and that nothing else is touched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from doubles import ToyEnv

from b1k_envs.errors import EnvError
from b1k_envs.r1pro import PROPRIO_DIM
from b1k_envs.tracks import StandardTrackEnv, mask

# Of the challenge's table of the 256 numbers: the six base joints in joint_qpos (0:28),
# joint_qpos_sin (28:56) and joint_qpos_cos (56:84); robot_pos to robot_2d_ori_sin (140:152);
# base_qpos, base_qpos_sin and base_qpos_cos (244:253).
HIDDEN_2025 = {*range(6), *range(28, 34), *range(56, 62), *range(140, 152), *range(244, 253)}


class MarkedEnv(ToyEnv):
    """Every number of its proprioception is different, and none is zero."""

    def observe(self, *, images=True):
        length = PROPRIO_DIM[self.info.protocol]
        proprio = np.arange(1, length + 1, dtype=np.float32)
        proprio.setflags(write=False)
        return replace(super().observe(images=images), proprio=proprio)


def test_what_says_where_the_robot_is_becomes_zero_and_nothing_else():
    env = MarkedEnv(protocol="2025")
    before, seen = env.observe(), StandardTrackEnv(env).observe()
    assert set(np.flatnonzero(seen.proprio == 0).tolist()) == HIDDEN_2025
    rest = sorted(set(range(256)) - HIDDEN_2025)
    assert np.array_equal(seen.proprio[rest], before.proprio[rest])
    assert seen.proprio.dtype == np.float32
    assert not seen.proprio.flags.writeable
    for view, picture in before.images.items():
        assert np.array_equal(seen.images[view], picture)
    assert np.array_equal(seen.cam_rel_poses, before.cam_rel_poses)


def test_in_2026_nothing_is_hidden():
    env = MarkedEnv(protocol="2026")
    assert np.array_equal(StandardTrackEnv(env).observe().proprio, env.observe().proprio)


def test_masking_leaves_the_array_it_is_given_alone():
    proprio = np.ones(256, dtype=np.float32)
    mask(proprio, "2025")
    assert proprio.all()


def test_the_simulators_truth_is_refused():
    with pytest.raises(EnvError, match=r"^--track standard: the simulator's state is not for "):
        StandardTrackEnv(ToyEnv()).privileged_state()


def test_the_world_itself_is_the_same():
    plain, shown = ToyEnv(protocol="2025"), StandardTrackEnv(ToyEnv(protocol="2025"))
    action = np.full(23, 0.5, dtype=np.float32)
    for env in (plain, shown):
        env.reset(3, 0, 0)
    for _ in range(12):
        one, two = plain.step(action), shown.step(action)
        assert (one.step, one.terminated, one.truncated) == (
            two.step,
            two.terminated,
            two.truncated,
        )
        assert np.array_equal(one.agent.base, two.agent.base)
        assert plain.goal() == shown.goal()
        assert plain.subgoals() == shown.subgoals()
    assert shown.info == plain.info
    shown.close()
