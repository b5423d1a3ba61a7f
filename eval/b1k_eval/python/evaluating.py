"""`b1k_eval.evaluate`: a run from Python, by the engine and the options of `b1k-eval run`.

A policy object is used in the process that calls, and is neither copied nor closed, so that a
training loop can evaluate the model that it holds.
"""

from __future__ import annotations

import difflib
import inspect
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from b1k_envs.errors import UsageError
from b1k_eval.cli.running.preparing import ready_run
from b1k_eval.execution import Execution
from b1k_eval.python.runs import Run, load_run
from b1k_eval.run.pool import session_remarks
from b1k_eval.run.progress.reporter import Reporter
from b1k_eval.settings import RunSettings
from b1k_policies.base import Policy
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.options import Declared, at_home, check_kinds, flat, parsed
from b1k_policies.registry import CHOICES, OBJECT
from b1k_policies.xvla.files.folder import shipped

_OPTIONS: Mapping[str, Declared] = {
    each.flag.partition("/")[0].lstrip("-").replace("-", "_"): each
    for each in (*flat(RunSettings), *flat(Execution))
}
"""Options of `run` that can differ from run to run, by their names on the command line."""


def evaluate(
    policy: Policy | str | os.PathLike[str] | None = None,
    task: int | str | Iterable[int | str] | None = None,
    instances: int | str | Iterable[int] | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = False,
    official: bool = False,
    skip_impossible: bool = False,
    until_decided: bool = False,
    max_instances: int | None = None,
    **options: Any,  # noqa: ANN401 - see the signature, which has the type of each
) -> Run:
    """Run a policy in closed loop and score it, as `b1k-eval run` does.

    Args:
        policy: A `b1k_policies.base.Policy`, which this process runs as it is; or a policy's name
            (`expert`, `hold`, ...), a checkpoint's folder, name or hub id, or the address of a
            server. None with `ckpt=`, and with `resume` for the run's own.
        task: Index or name, or several.
        instances: Initial states; None for 0.
        out: The run folder; None for a new one in ./results.
        resume: Do the missing episodes of the run in `out`, and retry its errors; what is not
            given is the run's own.
        progress: Show progress and remarks on standard error.
        official: As `--official`.
        skip_impossible: As `--skip-impossible`.
        until_decided: As `--until-decided`.
        max_instances: As `--max-instances`.
        options: Any other option of `b1k-eval run`, by its name: `max_steps=600` for `--max-steps
            600`. None is as not given.

    Returns:
        The run, errors included: an episode that fails to run raises nothing, see `Run.episodes`.

    Raises:
        B1kEvalError: What the command line reports as an error, in the same words.
        KeyboardInterrupt: Ctrl-C; what is finished is kept, and `resume` goes on.
    """
    typed = {"task": task, "instances": instances, **options}
    lent = policy if isinstance(policy, Policy) else None
    values: dict[str, Any] = {}
    for name, value in (typed | _named(policy)).items():
        if name not in _OPTIONS:
            raise UsageError(_unknown(name))
        if value is not None:
            values[_OPTIONS[name].name] = _as_typed(_OPTIONS[name], value)
    for kind in (RunSettings, CheckpointRequest, Execution):
        check_kinds(kind, parsed(kind, values))
    session = ready_run(
        values,
        values,
        argv=("b1k_eval.evaluate", *(f"{name}={value}" for name, value in values.items())),
        out=None if out is None else Path(at_home(os.fspath(out))),
        resume=resume,
        official=official,
        skip_impossible=skip_impossible,
        until_decided=until_decided,
        max_instances=max_instances,
        lent=lent,
    )
    folder = session.store.path
    reporter = _reporter(session.remarks) if progress else Reporter()
    try:
        session.run(reporter)
    except KeyboardInterrupt as stop:
        again = f"b1k_eval.evaluate(..., out={str(folder)!r}, resume=True)"
        raise type(stop)(f"interrupted; go on with {again}") from stop
    finally:
        reporter.close()
        session.close()
    return load_run(folder, remarks=(*session.remarks, *session_remarks(session.store)))


def _with_options(signature: inspect.Signature) -> inspect.Signature:
    """Return a signature with every option spelled out, for `help` and for editors."""
    own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    names = {each.name for each in own}
    return signature.replace(
        parameters=[
            *own,
            *(
                inspect.Parameter(
                    name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=each.hint
                )
                for name, each in _OPTIONS.items()
                if name not in names
            ),
        ]
    )


evaluate.__signature__ = _with_options(inspect.signature(evaluate))  # type: ignore[attr-defined]


def _named(policy: object) -> dict[str, str]:
    """Return the option that names a policy.

    Raises:
        UsageError: It is neither a policy nor a word for one.
    """
    if policy is None:
        return {}
    if isinstance(policy, Policy):
        missing = [name for name in ("name", "chunk_length") if not hasattr(policy, name)]
        kind = f"{type(policy).__module__}.{type(policy).__qualname__}"
        if missing:
            raise UsageError(f"the policy object of {kind} has no {' and no '.join(missing)}")
        return {"policy": f"{OBJECT}{kind}"}
    if isinstance(policy, os.PathLike):
        return {"ckpt": os.fspath(policy)}
    if not isinstance(policy, str):
        hint = ": give an object of it" if isinstance(policy, type) else ""
        raise UsageError(
            f"policy {policy!r} is no b1k_policies.base.Policy, name, checkpoint or address{hint}"
        )
    folder = policy in shipped() or Path(at_home(policy)).is_dir()
    named = policy in CHOICES or ":" in policy or policy.endswith(".py") or "/" not in policy
    return {"policy" if policy in CHOICES or (named and not folder) else "ckpt": policy}


def _unknown(name: str) -> str:
    known = list(inspect.signature(evaluate).parameters)
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(known)}"
    return f"evaluate has no option {name!r}: {hint}"


def _as_typed(each: Declared, value: Any) -> Any:  # noqa: ANN401 - whatever was given
    """Return a value as the command line would have it: numbers and lists in words."""
    option = each.option
    assert option is not None
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()  # a number of numpy's or torch's
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if option.typed is Path:
        return Path(at_home(str(value)))
    if each.hint == tuple[str, ...]:  # may be repeated on the command line
        if isinstance(value, Mapping):
            return tuple(f"{key}={inner}" for key, inner in value.items())
        return (value,) if isinstance(value, str) else tuple(value)
    worded = option.parse is not None or str in (each.hint, *getattr(each.hint, "__args__", ()))
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ",".join(map(str, value)) if worded else tuple(value)
    return str(value) if worded and not isinstance(value, bool) else value


def _reporter(remarks: Sequence[str]) -> Reporter:
    """Return a display on standard error, with the remarks that a reader should know."""
    from rich.console import Console

    from b1k_eval.run.progress.displays import make_reporter

    console = Console(
        file=sys.stderr,
        markup=False,
        emoji=False,
        highlight=False,
        force_jupyter=False,
        # A notebook's stream calls itself a terminal, and shows each redrawing below the last.
        force_terminal=False if "ipykernel" in sys.modules else None,
    )
    for text in remarks:
        console.print(f"note: {text}", style="dim", soft_wrap=True)
    return make_reporter(console)
