"""Keeping other people's prints off standard output, where results go."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any


@contextmanager
def quietly() -> Iterator[None]:
    """What is printed while it lasts goes to standard error; transformers shows errors only.

    What its warnings are about (tensors that fit nowhere, unknown model types) is checked here.
    """
    from transformers.utils import logging as _logging

    logging: Any = _logging  # untyped
    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
