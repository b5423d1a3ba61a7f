"""The command `b1k-eval VERB`.

`EXIT_CODES`, which `--help` shows, says what each exit code means. A verb's module is imported when
that verb is called, so that `--help` and `--version` answer at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
import typer.main
from typer.core import TyperCommand

VERBS = {
    "run": "Run a policy in closed loop and score it.",
    "tasks": (
        "List the challenge's tasks: human time, step limit, and whether the twin has a scene."
    ),
    "doctor": "Say what this machine can run, and what to do about the rest.",
    "smoke": "Run one short episode with pictures, goal, video and run folder; 0 if all is well.",
    "contract": "Print an evaluation contract and where each field comes from, or compare two.",
    "compare": (
        "Compare runs on the instances they share: rates with intervals, tests, verdicts in words."
    ),
    "published": "List published scores, to hold a run against: compare RUN published:NAME.",
    "report": "Make a page of runs: figures, every episode's video and timelines, contracts.",
    "view": (
        "Open the page of runs from a server of this machine, and follow runs that are going on."
    ),
    "inspect": (
        "Show a checkpoint's contract, what it is sent, what it answers, and what is wrong with it."
    ),
    "convert": "Write a checkpoint's pickled weights as safetensors, compared to the last bit.",
    "replay": (
        "Execute an episode's recorded actions again in the twin, and see whether all comes out "
        "equal."
    ),
    "qualify": (
        "Tell a bad installation from a bad checkpoint: checks, hold, pictures, demonstrations."
    ),
    "prove": (
        "Certify that running many at once changes nothing: the same episodes, compared to the bit."
    ),
    "stress": (
        "Disturb a policy along axes and measure what it costs, beside the same episodes "
        "undisturbed."
    ),
    "check-policy": "Check whether a policy keeps the interface's promises, without a simulator.",
    "serve": (
        "Serve a policy to the official evaluators, to openpi's client and to --policy "
        "ws://HOST:PORT."
    ),
    "list": "List runs: policy, task, counts, success rate, and whether one is still going.",
    "merge": "Make one run of the shards of a run, equal to the whole run.",
    "record": ("Write runs' rollouts as one LeRobotDataset v3, with the pictures of every step."),
    "export": "Write runs' results as the BEHAVIOR challenge's scorer reads them.",
    "import": "Make a run of official evaluator results, to compare and report them.",
}
"""Each verb with the first sentence of its function's docstring, as `--help` lists them."""

_ROOMS = {
    "running": ("run", "smoke", "replay", "qualify", "prove", "stress"),
    "results": ("compare", "report", "view", "list", "merge", "record", "export", "import"),
    "checkpoints": ("inspect", "check-policy", "contract", "convert", "serve"),
}
# What cannot be a name, or is one of Python's.
_FUNCTIONS = {"import": "importing", "list": "listing", "check-policy": "check_policy"}


def function_name(verb: str) -> str:
    """Return the name of a verb's function, which is also that of its module."""
    return _FUNCTIONS.get(verb, verb)


def module_name(verb: str) -> str:
    """Return the full name of the module with a verb's function."""
    rooms = [room for room, verbs in _ROOMS.items() if verb in verbs]
    return ".".join(["b1k_eval.cli", *rooms, function_name(verb)])


EXIT_CODES = """\
Exit codes: 0 done (the robot may have failed); 1 an episode ended as error, the success rate is
below --fail-under, a check of smoke failed, a replay differs from its trace, a rung of qualify
fails, prove finds a difference, or results cannot be written, as on a full disk; 2 wrong usage; 3
the contract and the checkpoint disagree, or a check of check-policy fails; 4 the simulator or the
policy cannot be had here; 130 interrupted (Ctrl-C), 138 told to end by SIGUSR1 (Slurm's warning
before a time limit), 143 terminated (SIGTERM). With --json an error is the one document on standard
output, except for an option or value that the command line cannot even read: that is told on
standard error alone, with exit code 2."""

app = typer.Typer(
    name="b1k-eval",
    help="Closed-loop evaluation of BEHAVIOR-1K robot policies.",
    no_args_is_help=True,
    # A traceback means a bug of ours, so it is plain and complete, without local variables.
    pretty_exceptions_enable=False,
)


class _Uncalled(TyperCommand):
    """The name and summary of a verb; its module is imported only for anything beyond them."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - click's signature
        """Return the context of the verb's own command, in which click then runs it."""
        try:
            return command(str(self.name)).make_context(*args, **kwargs)
        except KeyboardInterrupt as stop:  # Ctrl-C while the verb's module is imported
            from b1k_eval.cli.console import report_error, stop_code, stop_kind, stop_word

            words = [*args, *kwargs.values()]
            wants_json = any(isinstance(word, list) and "--json" in word for word in words)
            code = stop_code(stop)
            report_error(stop_word(stop), stop_kind(stop).__name__, code, wants_json=wants_json)
            raise typer.Exit(code) from stop


def command(name: str) -> Any:  # noqa: ANN401 - click's command, which typer re-exports nowhere
    """Return the command of a verb, importing its module."""
    from b1k_eval.cli.console import VerbCommand
    from b1k_eval.cli.options import spelled_out

    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    function = getattr(import_module(module_name(name)), function_name(name))
    alone.command(name, cls=VerbCommand)(spelled_out(function))
    return typer.main.get_command(alone)


def _uncalled() -> None:
    raise AssertionError("`_Uncalled.make_context` hands over to the verb itself")


for _verb, _summary in VERBS.items():
    app.command(_verb, help=_summary, cls=_Uncalled)(_uncalled)


def _print_version(wanted: bool) -> None:
    if wanted:
        import b1k_eval

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
    from b1k_eval.cli.console import hearing_signals
    from b1k_eval.streams import take_every_text

    take_every_text()
    with hearing_signals():
        app()
