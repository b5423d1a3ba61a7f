"""What all verbs share: output streams, errors in one line, exit codes."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any, TextIO

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperCommand

from b1k_envs.errors import B1kEvalError, UsageError
from b1k_eval.files import to_json
from b1k_eval.streams import take_every_text
from b1k_policies.contract.codecs import as_text
from b1k_policies.contract.resolved import ConflictRow, ContractConflictError

_SAME_WISH_S = 2.0
"""A signal within this time of the first is the same wish, sent to process and group [s]."""


class Terminated(KeyboardInterrupt):
    """Raised for SIGTERM: ends a verb as Ctrl-C does, with its own word and exit code."""


class TimeUp(KeyboardInterrupt):
    """The same for SIGUSR1, by which Slurm warns before a job's time limit (`--signal=USR1@90`)."""


_STOPS: Mapping[type[KeyboardInterrupt], tuple[signal.Signals, str]] = {
    Terminated: (signal.SIGTERM, "terminated"),
    TimeUp: (signal.SIGUSR1, "told to end (SIGUSR1)"),
    KeyboardInterrupt: (signal.SIGINT, "interrupted"),
}


_first: list[tuple[type[KeyboardInterrupt], float]] = []
"""What `hearing_signals` has raised first, and when [s]; empty before that."""


def stop_kind(stop: KeyboardInterrupt) -> type[KeyboardInterrupt]:
    """Return how a verb was stopped: Ray raises a plain KeyboardInterrupt for any of the others."""
    return _first[0][0] if _first and type(stop) is KeyboardInterrupt else type(stop)


def stop_word(stop: KeyboardInterrupt) -> str:
    """Return the word for how a verb was stopped."""
    return _STOPS[stop_kind(stop)][1]


def stop_code(stop: KeyboardInterrupt) -> int:
    """Return the exit code of a stopped verb, by the shells' rule: 128 plus the signal's number."""
    return 128 + _STOPS[stop_kind(stop)][0]


@contextmanager
def hearing_signals() -> Iterator[None]:
    """Within this context SIGTERM and SIGUSR1, unless ignored, raise in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python lets only the main thread set a handler
        return
    _first.clear()
    kinds = {int(number): kind for kind, (number, _) in _STOPS.items()}

    def stop(number: int, _frame: FrameType | None) -> None:
        if not _first:
            _first.append((kinds[number], monotonic()))
        elif monotonic() - _first[0][1] < _SAME_WISH_S:
            return
        raise kinds[number]

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    heard = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, stop)
    try:
        yield
    finally:  # after a signal the exit code is decided, and another must not change it
        for number in heard:
            signal.signal(number, signal.SIG_IGN if _first else before[number])


def not_text(word: str) -> bool:
    """Whether a word has surrogates, which stand for bytes that are not UTF-8 (PEP 383)."""
    return any("\ud800" <= letter <= "\udfff" for letter in word)


def shell_word(path: Path) -> str:
    """Return a path quoted for a shell, whatever its bytes."""
    text = str(path)
    if not_text(text):
        return "$'" + "".join(f"\\{byte:03o}" for byte in os.fsencode(path)) + "'"  # bash's quotes
    return shlex.quote(text)


def out_console() -> Console:
    """Return a console on standard output, for results; looked up now, so it can be redirected."""
    return _console(sys.stdout)


def err_console() -> Console:
    """Return a console on standard error, for progress and errors."""
    return _console(sys.stderr)


def _console(stream: TextIO) -> Console:
    """Return a console without markup: names and messages may have brackets and colons."""
    return Console(file=stream, markup=False, emoji=False, highlight=False)


def say_remark(text: str) -> None:
    """Print a line on standard error that a person should read before trusting a result."""
    err_console().print(f"note: {text}", style="dim", soft_wrap=True)


def show_limits(console: Console, sim: str, privileged: Sequence[str]) -> None:
    """Print what limits the meaning of results, below them.

    Args:
        console: Where.
        sim: The simulator.
        privileged: The policies that read its state.
    """
    from b1k_eval.run.remarks import PRIVILEGED  # numpy, which `--help` should not wait for

    if sim == "mujoco":
        console.print("MuJoCo twin: not a benchmark score.", style="dim")
    for name in privileged:
        console.print(f"Privileged, {name}: {PRIVILEGED}", style="dim", soft_wrap=True)


def print_json(document: dict[str, Any]) -> None:
    """Print the one JSON document on standard output, in ASCII if the stream takes nothing else."""
    text = to_json(document)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:  # the stream's own escapes would not be JSON
        text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    sys.stdout.write(text)


def show_differences(console: Console, differences: Sequence[ConflictRow]) -> None:
    """Print the table of what contract and checkpoint disagree on."""
    table = Table(title="Contract and checkpoint disagree", title_justify="left")
    for name in ("field", "stated by", "value", "but", "value"):
        table.add_column(name, overflow="fold")
    for row in differences:
        texts = (row.name, row.where, as_text(row.stated), row.other_where, as_text(row.other))
        table.add_row(*texts)
    console.print(table)


OTHERS_WORDS: Mapping[str, str] = {
    **dict.fromkeys(
        ("--checkpoint", "--checkpoint-path", "--ckpt-path", "--model", "--model-path"), "--ckpt"
    ),
    **dict.fromkeys(("--policy.path", "--policy-path", "--pretrained"), "--ckpt"),
    **dict.fromkeys(("--policy-url", "--server", "--host"), "--policy"),
    **dict.fromkeys(("--task-name", "--task-id", "--env", "--env-name"), "--task"),
    **dict.fromkeys(
        ("--n-episodes", "--num-episodes", "--episodes", "--eval.n_episodes"), "--instances"
    ),
    **dict.fromkeys(("--n-rollouts", "--num-rollouts", "--num-trials", "--trials"), "--rollouts"),
    **dict.fromkeys(("--num_envs", "--n-envs", "--n_envs", "--batch-size"), "--num-envs"),
    **dict.fromkeys(
        ("--output", "--output-dir", "--output_dir", "--log-dir", "--log_path"), "--out"
    ),
    **dict.fromkeys(("--max-episode-steps", "--max_steps", "--max-timesteps"), "--max-steps"),
    **dict.fromkeys(
        ("--action-horizon", "--replan-steps", "--n-action-steps", "--chunk-size"), "--horizon"
    ),
    **dict.fromkeys(("--num-workers", "--n-workers", "--jobs"), "--workers"),
    **dict.fromkeys(("--gpu", "--cuda", "--gpu-ids"), "--gpus"),
    **dict.fromkeys(("--record", "--save-video", "--write-video", "--write_video"), "--video"),
}
"""Options of other evaluators, each with ours that does the same."""


class VerbCommand(TyperCommand):
    """A command that prints expected errors as one line on standard error and sets the exit code.

    With `--json` the same goes to standard output as the one document. Unexpected exceptions are
    bugs and keep their traceback.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - click's own
        """Parse; for an option by which other tools name one of ours, suggest that."""
        known = {name for each in self.params for name in each.opts}
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            # By attribute: typer 0.15 raises click's own class, newer ones that of their copy.
            ours = OTHERS_WORDS.get(str(getattr(error, "option_name", "")))
            if ours in known:
                error.possibilities = [ours]  # type: ignore[attr-defined]  # click's NoSuchOption
            raise

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - click's own signature
        """Run the command.

        Raises:
            typer.Exit: In place of an expected error or Ctrl-C.
        """
        take_every_text()  # `main` does, too: not every text comes from a verb
        try:
            return super().invoke(ctx)
        except ContractConflictError as error:
            show_differences(err_console(), error.differences)
            self._report(ctx, str(error), type(error).__name__, error.exit_code)
            raise typer.Exit(error.exit_code) from error
        except B1kEvalError as error:
            self._report(ctx, str(error), type(error).__name__, error.exit_code)
            raise typer.Exit(error.exit_code) from error
        except UnicodeEncodeError as error:
            if not not_text(error.object):
                raise
            message = (
                f"{error.object!r} has bytes that are no UTF-8 text, and a library that is to open "
                "it takes no others: rename it, or give a link to it with a plain name"
            )
            self._report(ctx, message, UsageError.__name__, UsageError.exit_code)
            raise typer.Exit(UsageError.exit_code) from error
        except KeyboardInterrupt as error:
            self._report(ctx, stop_word(error), stop_kind(error).__name__, stop_code(error))
            raise typer.Exit(stop_code(error)) from error

    @staticmethod
    def _report(ctx: Any, message: str, kind: str, exit_code: int) -> None:  # noqa: ANN401
        wants_json = any("--json" in p.opts and ctx.params.get(p.name) for p in ctx.command.params)
        report_error(message, kind, exit_code, wants_json=wants_json)


def report_error(message: str, kind: str, exit_code: int, *, wants_json: bool) -> None:
    """Print an error as one line on standard error, and with `--json` as the one document."""
    line = " ".join(message.split())
    sys.stderr.write(f"error: {line}\n")
    if wants_json:
        print_json({"error": {"type": kind, "message": line, "exit_code": exit_code}})
