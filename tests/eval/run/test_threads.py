"""Starting children that do not hear Ctrl-C, without losing it for oneself."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading

import pytest

from b1k_envs.threads import deaf_to_ctrl_c


@pytest.fixture
def ctrl_c():
    """Sends it while another thread does not block it, as one of a numerical library's pool.

    Returns when that thread has taken it; Python's handler runs next, in the main thread.
    """
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    taken, take = os.pipe()
    os.set_blocking(take, False)
    before = signal.set_wakeup_fd(take)

    def press():
        os.kill(os.getpid(), signal.SIGINT)
        assert select.select([taken], [], [], 60) == ([taken], [], [])

    yield press
    signal.set_wakeup_fd(before)
    os.close(taken)
    os.close(take)
    done.set()
    thread.join()


def test_ctrl_c_that_another_thread_takes_waits_for_the_end(ctrl_c):
    reached = False
    with pytest.raises(KeyboardInterrupt), deaf_to_ctrl_c():  # noqa: PT012 - the end counts
        ctrl_c()
        reached = True
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_is_not_lost_behind_an_error(ctrl_c):
    with pytest.raises(KeyboardInterrupt) as caught, deaf_to_ctrl_c():  # noqa: PT012 - both of them
        ctrl_c()
        raise OSError("no such program")
    assert isinstance(caught.value.__context__, OSError)


def test_who_ignores_ctrl_c_goes_on_ignoring_it():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with deaf_to_ctrl_c():
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_child_never_gets_it_and_other_threads_may_start_one_too():
    code = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    said = []

    def start():
        with deaf_to_ctrl_c():
            said.append(subprocess.check_output([sys.executable, "-c", code], text=True).strip())

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    start()
    assert said == ["True", "True"]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
