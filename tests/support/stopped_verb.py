"""A verb that says `working` and then works for ever, to be stopped from outside.

`python stopped_verb.py VERB [ARGUMENT...]`: worlds are toys whose steps take a while; of other
verbs a part takes for ever.
"""

from __future__ import annotations

import sys
import time
from importlib import import_module

import doubles

from b1k_eval.cli.main import main
from b1k_eval.run import simulators


def work(*_arguments, **_options):
    """Say so, and do not come back."""
    sys.stderr.write("working\n")
    sys.stderr.flush()
    while True:
        time.sleep(0.01)


class Slow(doubles.ToyEnv):
    """Says so at its first step, and never ends."""

    said = False

    def step(self, action):
        if not self.said:
            self.said = True
            sys.stderr.write("working\n")
            sys.stderr.flush()
        time.sleep(0.01)
        return super().step(action)


def make_slow(settings, **_):
    """In place of `simulators.make_env`."""
    return Slow(max_steps=settings.max_steps)


ENDLESS = {
    "compare": "b1k_eval.comparison.summary.summarise_runs",
    "merge": "b1k_eval.records.merging.merge_runs",
    "list": "b1k_eval.cli.results.listing._read",
    "view": "b1k_eval.report.live.pages.LivePages",
    "record": "b1k_eval.replay.rollouts.write_rollouts",
    "published": "b1k_eval.published.table.published_scores",
    "report": "b1k_eval.report.page.write_page",
    "serve": "b1k_eval.cli.checkpoints.serve.make_policy",
    "inspect": "b1k_eval.cli.checkpoints.inspect.XVLAPolicy",
    "check-policy": "b1k_policies.inspection.conformance.check_policy",
    "doctor": "b1k_eval.doctor.examine",
    "export": "b1k_eval.challenge.export.export_runs",
    "import": "b1k_eval.challenge.importing.import_results",
    "tasks": "b1k_eval.cli.tasks._record",
    "contract": "b1k_eval.cli.checkpoints.contract.resolve",
    "convert": "b1k_policies.xvla.files.converting.convert",
    "qualify": "b1k_eval.cli.resolving.resolve_settings",
    "prove": "b1k_eval.prove.certificate.prove",
    "stress": "b1k_eval.stress.study.run_study",
    "loading": "b1k_eval.cli.main.import_module",  # of the verb, as on a slow disk
}


simulators.make_env = make_slow  # in the run's workers too, which import this file

if __name__ == "__main__":
    what = sys.argv[1]
    if what in ENDLESS:
        module, _, name = ENDLESS[what].rpartition(".")
        getattr(import_module(module), name)  # one that is not there would never be called
        setattr(import_module(module), name, work)
    if what == "loading":
        sys.argv[1] = "tasks"
    main()
