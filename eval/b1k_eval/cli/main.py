"""The command `b1k-eval VERB`.

Exit codes: 0 done, 1 an episode failed to run, 2 wrong usage, 3 the contract and the checkpoint
disagree, 4 the simulator or the policy cannot be had here, 130 interrupted.
"""

from __future__ import annotations

import typer

import b1k_eval
from b1k_eval.cli.doctor import doctor
from b1k_eval.cli.options import Verb
from b1k_eval.cli.run import run
from b1k_eval.cli.smoke import smoke
from b1k_eval.cli.tasks import tasks

app = typer.Typer(
    name="b1k-eval",
    help="Closed-loop evaluation of BEHAVIOR-1K robot policies.",
    no_args_is_help=True,
    add_completion=False,
    # A traceback means a bug of ours: plain, complete, and without the values of local variables.
    pretty_exceptions_enable=False,
)
app.command(cls=Verb)(run)
app.command(cls=Verb)(tasks)
app.command(cls=Verb)(doctor)
app.command(cls=Verb)(smoke)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"b1k-eval {b1k_eval.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_print_version, is_eager=True
    ),
) -> None:
    """Closed-loop evaluation of BEHAVIOR-1K robot policies."""


def main() -> None:
    """Entry point of the command `b1k-eval`."""
    app()
