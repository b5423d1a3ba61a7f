"""A policy behind a WebSocket, for the official evaluators, openpi's client and our own.

`engine` is what answers, `batching` the one thread that asks it, `sessions` what is remembered of a
connection, `limits` what a peer may do, `app` the server itself. Only `app` needs websockets.
"""

from __future__ import annotations

from b1k_envs.errors import UnavailableError

INSTALL = "pip install 'b1k-eval[server]'"


def require_websockets() -> None:
    """Before `app` is imported.

    Raises:
        UnavailableError: The package is missing, or older than what our client needs.
    """
    try:
        import websockets.asyncio.server  # noqa: F401
    except ImportError as error:
        raise UnavailableError(
            f"a policy server needs websockets 15 or newer ({error}): {INSTALL}"
        ) from error
