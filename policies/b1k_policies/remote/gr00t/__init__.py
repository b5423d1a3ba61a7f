"""GR00T's protocol, both ends: a client of its servers, and a server for its clients.

One msgpack map a message, over ZeroMQ. `forms` has arrays and modality configs as it writes them,
`modality` what a server wants, `observations` the robot's names in it, `link` and `client` our side
of a server of theirs, `server` and `answering` theirs of one of ours.

Source: NVIDIA/Isaac-GR00T, `gr00t/policy/server_client.py`@38624dff (messages and endpoints),
`gr00t/policy/gr00t_policy.py`@226ca9bf (observations and actions, with and without the wrapper for
simulations) and `gr00t/eval/sim/BEHAVIOR/behavior_env.py`@97187792 (the robot's names). Servers of
N1 (2025) speak another protocol, which unpickles what it is sent, and are not asked.
"""

from __future__ import annotations

from b1k_envs.errors import UnavailableError


def require_zmq() -> None:
    """Check for pyzmq, before anything is sent.

    Raises:
        UnavailableError: The package is missing.
    """
    try:
        import zmq  # noqa: F401
    except ImportError as error:
        raise UnavailableError(
            f"GR00T's protocol needs the package pyzmq ({error}): pip install '.[gr00t]' in the "
            "checkout"
        ) from error
