"""Keeping what other code prints off standard output, where results go."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any


@contextmanager
def quietly() -> Iterator[None]:
    """Within this context prints go to standard error, and transformers shows only errors.

    This project checks itself what the warnings are about: tensors that fit nowhere, model types.
    """
    from transformers.utils import logging as _logging

    logging: Any = _logging  # Any, because transformers' logging is untyped
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
