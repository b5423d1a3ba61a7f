"""The process of one tracker: `python -m b1k_eval.trackers NAME RUN VIDEOS`, or `NAME` alone.

Its standard input is the run that started it: once that is closed, on purpose or by the end of the
process, the rest is logged and the tracker's run is finished. Without RUN the input is a comparison
as JSON. To standard output go JSON lines for the process that started it; what the tracker's own
package prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import select
import sys
from importlib import import_module
from pathlib import Path

from b1k_eval.trackers.adapters import TRACKERS
from b1k_eval.trackers.following import follow, in_words, log_comparison

_LOOK_S = 1.0
"""Time between two looks into the run folder [s]."""


def main() -> None:
    """Log a run, or a comparison."""
    os.nice(10)  # a busy machine gives its cores to the run first
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)

    def say(**what: object) -> None:
        try:
            answers.write(json.dumps(what) + "\n")
        except OSError:  # who asked has been killed
            return

    def over() -> bool:
        ready, _, _ = select.select([0], [], [], _LOOK_S)
        return bool(ready)

    name = next(name for name in TRACKERS if name == sys.argv[1])
    tracker = TRACKERS[name]()
    try:
        import_module(name)
        say(imported=True)
        if len(sys.argv) > 2:
            folder, videos = Path(sys.argv[2]), int(sys.argv[3])
            follow(name, tracker, folder, videos, over, lambda: say(started=True))
        else:
            document = json.load(sys.stdin)
            log_comparison(tracker, document)
    except Exception as error:
        say(note=in_words(name, error))
        raise SystemExit(1) from error
    finally:
        answers.flush()


main()
