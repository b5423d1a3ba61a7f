"""The command `b1k-eval VERB`.

`EXIT_CODES`, which `--help` shows, says what each exit code means.
"""

from __future__ import annotations

import typer

import b1k_eval
from b1k_eval.cli.compare import compare
from b1k_eval.cli.contract import contract
from b1k_eval.cli.doctor import doctor
from b1k_eval.cli.inspect import inspect
from b1k_eval.cli.options import Verb
from b1k_eval.cli.replay import replay
from b1k_eval.cli.report import report
from b1k_eval.cli.run import run
from b1k_eval.cli.smoke import smoke
from b1k_eval.cli.tasks import tasks

EXIT_CODES = """\
Exit codes: 0 done (the robot may have failed); 1 an episode ended as error, the success rate is
below --fail-under, a check of smoke failed, a replay differs from its trace, or results cannot be
written, as on a full disk; 2 wrong usage; 3 the contract and the checkpoint disagree; 4 the
simulator or the policy cannot be had here; 130 interrupted. With --json an error is the one
document on standard output, except for an option or value that the command line cannot even read:
that is told on standard error alone, with exit code 2."""

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
app.command(cls=Verb)(contract)
app.command(cls=Verb)(compare)
app.command(cls=Verb)(report)
app.command(cls=Verb)(inspect)
app.command(cls=Verb)(replay)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"b1k-eval {b1k_eval.__version__}")
        raise typer.Exit


@app.callback(epilog=EXIT_CODES)
def _options(
    version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_print_version, is_eager=True
    ),
) -> None:
    """Closed-loop evaluation of BEHAVIOR-1K robot policies."""


def main() -> None:
    """Entry point of the command `b1k-eval`."""
    app()
