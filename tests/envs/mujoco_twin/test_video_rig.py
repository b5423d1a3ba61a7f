"""Video tickets of the twin, and the process that renders them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from b1k_envs import r1pro
from b1k_envs.errors import EnvError
from b1k_envs.mujoco_twin.rendering import video_rig
from b1k_envs.mujoco_twin.rendering.video_rig import VideoRig
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.scene import SCENE

SIZES = {"head": 448, "left_wrist": 224, "right_wrist": 224}
LIMIT_S = 120  # on a loaded machine; nothing waits as long when all is well


@pytest.fixture
def rig():
    rig = VideoRig(SCENE.task, "fast")
    yield rig
    rig.close()


@pytest.fixture
def ticket(rig, twin_2026):
    """Makes a ticket of the twin's present state from a rig of the test's own."""
    return lambda: rig.ticket(twin_2026.shown())


def drive(twin, steps, speed=0.4):
    """Forwards and turning, from the posture it stands in."""
    hold = np.zeros(23, np.float32)
    for part in ("trunk", "left_arm", "right_arm"):
        joints = r1pro.TRUNK_JOINTS if part == "trunk" else r1pro.ARM_JOINTS[part[:-4]]
        first = {"trunk": 3, "left_arm": 7, "right_arm": 15}[part]
        for offset, name in enumerate(joints):
            hold[first + offset] = r1pro.RESET_JOINT_POSITION[r1pro.JOINT_ORDER.index(name)]
    hold[0], hold[2] = speed, speed
    for _ in range(steps):
        twin.step(hold)


def has_ended(process_id):
    """Wait until a process that is not a child of this one has ended."""
    try:
        handle = os.pidfd_open(process_id)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], LIMIT_S)[0])
    finally:
        os.close(handle)


@pytest.mark.slow
def test_a_ticket_is_bit_for_bit_what_this_process_renders_of_the_state(twin_2026):
    for steps in (0, 20):
        drive(twin_2026, steps)
        pictures = twin_2026.frame(light=True).redeem()
        assert set(pictures) == set(SIZES)
        for view, size in SIZES.items():
            here = twin_2026._rig.render(twin_2026._data, view, size, size)
            np.testing.assert_array_equal(pictures[view], here, err_msg=view)
            assert here.std() > 10  # not a black picture twice


def test_a_ticket_shows_the_step_it_is_of_and_the_episode_it_is_of(twin_2026):
    early = twin_2026.frame(light=True)
    here = twin_2026._rig.render(twin_2026._data, "head", 448, 448)
    drive(twin_2026, 25)
    late = twin_2026.frame(light=True)
    twin_2026.reset(5, 0, 0)  # another instance: other colours, furniture and lights
    other = twin_2026.frame(light=True)
    here_other = twin_2026._rig.render(twin_2026._data, "head", 448, 448)
    np.testing.assert_array_equal(other.redeem()["head"], here_other)
    late_head = late.redeem()["head"]
    np.testing.assert_array_equal(early.redeem()["head"], here)
    assert (late_head != here).mean() > 0.05


def test_tickets_leave_no_trace_in_the_simulation(twin_2026):
    states = []
    for filmed in (False, True):
        twin_2026.reset(3, 0, 0)
        for _ in range(20):
            drive(twin_2026, 1)
            if filmed:
                twin_2026.frame(light=True).redeem()
        states.append(np.concatenate([twin_2026._data.qpos, twin_2026._data.qvel]))
    np.testing.assert_array_equal(*states)


@pytest.mark.slow
def test_closing_ends_the_process_and_leaves_no_zombie(rig, ticket):
    frame = ticket()
    frame.redeem()
    process = rig.process_id
    rig.close()
    rig.close()
    with pytest.raises(ProcessLookupError):  # a zombie would still have its number
        os.kill(process, 0)
    with pytest.raises(EnvError, match="asked for after the env was closed"):
        frame.redeem()


@pytest.mark.slow
def test_closing_a_process_that_still_starts_or_hangs_ends_it_too(rig, ticket):
    ticket()
    process = rig.process_id
    os.kill(process, signal.SIGSTOP)
    rig.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_no_process_is_started_for_an_episode_without_a_ticket(rig, ticket):
    assert rig.process_id is None
    ticket()
    assert rig.process_id is not None


@pytest.mark.slow
def test_it_runs_at_low_priority_in_the_session_of_the_loop(rig, ticket):
    # In a session of its own the kernel would give it half of the machine, whatever its niceness.
    ticket().redeem()
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, rig.process_id) == max(5, own)
    assert os.getsid(rig.process_id) == os.getsid(0)


@pytest.mark.slow
def test_ctrl_c_does_not_reach_it(rig, ticket):
    frame = ticket()
    os.kill(rig.process_id, signal.SIGINT)  # while it starts, which is when Python would die of it
    assert set(frame.redeem()) == set(SIZES)


def test_a_process_that_dies_is_an_error_of_ours_with_its_last_words(
    rig, ticket, monkeypatch, capfd
):
    words = "import sys; print('out'); sys.stderr.write('MESA: out of memory\\n'); sys.exit(3)"
    monkeypatch.setattr(video_rig, "_COMMAND", words)
    frame = ticket()
    with pytest.raises(
        EnvError,
        match=r"process for video pictures ended with status 3: .*MESA: out of memory.*--no-video",
    ):
        frame.redeem()
    rig.close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_process_that_is_killed_between_two_tickets_is_noticed(rig, ticket):
    ticket().redeem()
    os.kill(rig.process_id, signal.SIGKILL)
    with pytest.raises(EnvError, match="ended with status -9: it said nothing"):
        ticket().redeem()


@pytest.mark.slow
def test_a_machine_without_opengl_is_told_in_its_own_words(rig, ticket, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "off")
    with pytest.raises(EnvError, match="cannot render: no OpenGL: MUJOCO_GL=off"):
        ticket().redeem()


@pytest.mark.slow
@pytest.mark.parametrize("fate", ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(0)"])
def test_it_ends_with_a_parent_that_is_killed(fate):
    code = f"""
        import os, signal
        import numpy as np
        from b1k_envs.mujoco_twin.instances import make_instance
        from b1k_envs.mujoco_twin.rendering.studio import Shown
        from b1k_envs.mujoco_twin.rendering.video_rig import VideoRig
        from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.scene import SCENE
        instance = make_instance(SCENE, "public-test", 0)
        rig = VideoRig(SCENE.task, "fast")
        rig.ticket(Shown(instance, frozenset(), np.zeros(0)))
        print(rig.process_id, flush=True)
        {fate}
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert done.stderr == ""
    assert has_ended(int(done.stdout))
