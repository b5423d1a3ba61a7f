"""A policy behind a WebSocket, for the official evaluators, openpi's client and our own.

`engine` computes answers, `batching` has the one thread that calls it, `sessions` the state of a
connection, `limits` what a peer may do, `app` the server itself. `app`, `client` and `connection`
need websockets.
"""

from __future__ import annotations

from b1k_envs.errors import UnavailableError

INSTALL = "pip install '.[server]' in the checkout"


def require_websockets() -> None:
    """Check for websockets, before `app` is imported.

    Raises:
        UnavailableError: The package is missing or too old.
    """
    try:
        import websockets.asyncio.server  # noqa: F401
    except ImportError as error:
        raise UnavailableError(
            f"a policy server needs websockets 15 or newer ({error}): {INSTALL}"
        ) from error
