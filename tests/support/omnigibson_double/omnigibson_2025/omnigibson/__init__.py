"""The double of omnigibson 3.7.2; see tests/support/omnigibson_double/README.md."""

from omnigibson_double import touch
from omnigibson_double.application import import_time, shutdown
from omnigibson_double.application import launch as _launch
from omnigibson_double.environments import Environment2025 as Environment

import_time()

from omnigibson import macros, object_states, robots, transition_rules  # noqa: E402, TID253
from omnigibson.macros import gm  # noqa: E402, TID253

__version__ = "3.7.2"
__all__ = [
    "Environment",
    "app",
    "gm",
    "launch",
    "macros",
    "object_states",
    "robots",
    "shutdown",
    "sim",
    "transition_rules",
]

app = None
sim = None


def launch(**settings):
    return _launch(needs_handles=False, **settings)


touch.module(__name__)
