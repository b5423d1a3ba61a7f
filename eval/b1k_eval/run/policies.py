"""The policies of a run's workers: one model for all of them, or each its own."""

from __future__ import annotations

from collections.abc import Callable

from b1k_envs.errors import EndsRunError, UnavailableError
from b1k_eval.execution import Execution
from b1k_eval.settings import MEASURED, RunSettings
from b1k_policies.base import Policy
from b1k_policies.own.source import PolicySource
from b1k_policies.registry import is_shareable, make_policy, source_files
from b1k_policies.remote.server import require_websockets
from b1k_policies.remote.sharing.model import SharedModel, share_model


def shared_models(
    make: Callable[..., Policy], settings: RunSettings, execution: Execution
) -> tuple[dict[int | None, SharedModel], tuple[str, ...]]:
    """Load a policy that several workers are to share; and a remark if they cannot.

    That is a checkpoint, or a class of the user's that says that it is stateless.

    Not where the latency is measured: there no question may wait for, or share a call with,
    another. Not for the nodes of a cluster, which do not reach a server on this one's loopback.
    """
    if (
        execution.share_policy != "auto"
        or execution.ray is not None
        or execution.workers == 1
        or settings.latency == MEASURED
        or (settings.checkpoint is None and not is_shareable(settings.policy))
    ):
        return {}, ()
    try:
        require_websockets()
    except UnavailableError as error:
        return {}, (f"each worker loads its own copy of the model ({error})",)
    clients = execution.workers * execution.num_envs
    return share_model(make, settings.protocol, clients=clients, gpus=execution.gpus), ()


def make(
    settings: RunSettings, recorded: PolicySource | None = None, *, gpu: int | None = None
) -> Policy:
    """Make the policy that the settings name; a worker's `gpu` is nothing to those made here.

    Args:
        settings: Of the run.
        recorded: The user's own code as it was when the run was started.
        gpu: Number of the worker's GPU.

    Raises:
        EndsRunError: That code has changed since.
        B1kEvalError: See `make_policy`.
    """
    then = {} if recorded is None else recorded.files
    now = {} if recorded is None else source_files(settings.policy)
    changed = sorted(name for name in {*now, *then} if now.get(name) != then.get(name))
    if changed:
        raise EndsRunError(
            f"the policy's code has changed since this run was started: {', '.join(changed)}; "
            "restore it and --resume, or start another run"
        )
    return make_policy(
        settings.policy,
        settings.checkpoint,
        settings.protocol,
        settings.task_entry().instruction,
        settings.policy_args,
    )
