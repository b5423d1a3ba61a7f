"""The words of the protocol.

Source: BEHAVIOR-1K (StanfordVL/BEHAVIOR-1K), under `OmniGibson/omnigibson/`:
`learning/utils/network_utils.py` (2025), `eval/utils/network_utils.py` and `eval/evaluator.py`
(2026). The observation's own keys are in `b1k_envs.r1pro`. `EXTENSION` is ours: a map under it
tells more to whoever understands it, and every known client and server passes it over.
"""

from __future__ import annotations

RESET = "reset"
"""A message that has it begins an episode, and gets no answer."""
ACTION = "action"
ACTION_CHUNK = "action_chunk"
CHUNK_SIZE = "__action_chunk_size__"
"""In an observation: the K actions that the client will play before it asks again."""
SERVER_TIMING = "server_timing"
EXTENSION = "b1k_eval"

HOST_FAULT = "host_fault"
POLICY_FAULTS = ("policy_error", "policy_invalid_action")
"""What a text from a server of ours begins with, and a colon: whose fault it was."""

HEALTH_PATH = "/healthz"
DEFAULT_PORT = 8000
KEY_VARIABLE = "B1K_EVAL_API_KEY"
"""Environment variable with the API key; it has no place on a command line or in a record."""
