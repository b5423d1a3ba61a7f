"""The keys of the protocol.

Source: BEHAVIOR-1K (StanfordVL/BEHAVIOR-1K), under `OmniGibson/omnigibson/`:
`learning/utils/network_utils.py` (2025), `eval/utils/network_utils.py` and `eval/evaluator.py`
(2026). The keys of observations are in `b1k_envs.r1pro`. `EXTENSION` is ours: the map under it
tells more to a peer that understands it, and every known client and server ignores it.
"""

from __future__ import annotations

RESET = "reset"
"""A message with this key begins an episode, and gets no answer."""
ACTION = "action"
ACTION_CHUNK = "action_chunk"
CHUNK_SIZE = "__action_chunk_size__"
"""In an observation: the number K of actions that the client executes before it asks again."""
SERVER_TIMING = "server_timing"
EXTENSION = "b1k_eval"

HOST_FAULT = "host_fault"
POLICY_FAULTS = ("policy_error", "policy_invalid_action")
"""Words before the colon of an error text from a server of ours, which say whose fault it was."""

HEALTH_PATH = "/healthz"
DEFAULT_PORT = 8000
GR00T_PORT = 5555
"""Default of GR00T's servers and clients (NVIDIA/Isaac-GR00T, gr00t/policy/server_client.py)."""
KEY_VARIABLE = "B1K_EVAL_API_KEY"
"""Environment variable with the API key, which must not be on a command line or in a record."""
