"""What verbs share: consoles, errors in one line, exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperCommand

from b1k_envs.errors import B1kEvalError
from b1k_policies.contract_resolved import ContractConflictError, Difference, as_text

EXIT_INTERRUPTED = 130


def out_console() -> Console:
    """Standard output, for results; looked up at use, so that it can be redirected."""
    return Console(file=sys.stdout)


def err_console() -> Console:
    """Standard error, for progress and for errors."""
    return Console(file=sys.stderr)


def say_remark(text: str) -> None:
    """One line on standard error that a person should read before trusting a result."""
    err_console().print(f"note: {text}", style="dim", markup=False, highlight=False, soft_wrap=True)


def print_json(document: dict[str, Any]) -> None:
    """The one JSON document on standard output."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def show_differences(console: Console, differences: Sequence[Difference]) -> None:
    """The table of what contract and checkpoint disagree on."""
    table = Table(title="Contract and checkpoint disagree", title_justify="left")
    for name in ("field", "stated by", "value", "but", "value"):
        table.add_column(name, overflow="fold")
    for row in differences:
        texts = (row.name, row.where, as_text(row.stated), row.other_where, as_text(row.other))
        table.add_row(*map(escape, texts))
    console.print(table)


class Verb(TyperCommand):
    """A command whose expected errors are one line on standard error and an exit code.

    With `--json` the same goes to standard output as the one document. Unexpected exceptions are
    bugs and keep their traceback.
    """

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - click's own signature
        """Run the command.

        Raises:
            typer.Exit: In place of an expected error or Ctrl-C.
        """
        try:
            return super().invoke(ctx)
        except ContractConflictError as error:
            show_differences(err_console(), error.differences)
            self._report(ctx, str(error), type(error).__name__, error.exit_code)
            raise typer.Exit(error.exit_code) from error
        except B1kEvalError as error:
            self._report(ctx, str(error), type(error).__name__, error.exit_code)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            self._report(ctx, "interrupted", "KeyboardInterrupt", EXIT_INTERRUPTED)
            raise typer.Exit(EXIT_INTERRUPTED) from error

    @staticmethod
    def _report(ctx: Any, message: str, kind: str, exit_code: int) -> None:  # noqa: ANN401
        line = " ".join(message.split())
        typer.echo(f"error: {line}", err=True)
        wants_json = any("--json" in p.opts and ctx.params.get(p.name) for p in ctx.command.params)
        if wants_json:
            print_json({"error": {"type": kind, "message": line, "exit_code": exit_code}})
