"""The errors of the whole project; each class has the exit code of the command line.

Exit codes: 1 something failed to run, 2 wrong usage, 3 the contract and the checkpoint disagree,
4 the simulator or the policy cannot be had on this machine. A message says what was wrong, where,
and what to do; a traceback therefore always means a bug of ours.
"""

from __future__ import annotations


class B1kEvalError(Exception):
    """Base of every expected error. The text is written for the person at the terminal."""

    exit_code = 1


class UsageError(B1kEvalError):
    """The request makes no sense: unknown task, index out of range, contradicting options."""

    exit_code = 2


class ContractMismatchError(B1kEvalError):
    """The input that a checkpoint would be sent contradicts its own files."""

    exit_code = 3


class UnavailableError(B1kEvalError):
    """A simulator, GPU, GL library or optional package is missing; the text says how to get it."""

    exit_code = 4


class EnvError(B1kEvalError):
    """The simulator or the harness failed: the episode is an `error` and stays unscored."""


class HostFaultError(EnvError):
    """The machine failed under a policy that did nothing wrong: no memory, a lost GPU.

    The only EnvError that a policy may raise without being at fault itself.
    """


class EndsRunError(HostFaultError):
    """A host fault after which further episodes are worthless: the run ends with this reason."""


class PolicyFaultError(B1kEvalError):
    """The policy failed: the episode is a `failure` with q = 0.

    Attributes:
        reason: Machine-readable cause for `failure_reason` in result.json; the 2026 evaluator's
            words where it has one (`policy_error`, `policy_query_timeout`,
            `policy_connection_lost`).
    """

    def __init__(self, message: str, reason: str = "policy_error") -> None:
        super().__init__(message)
        self.reason = reason


class ActionError(PolicyFaultError):
    """An action or action chunk has the wrong dtype or shape, or is not finite."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="policy_invalid_action")
