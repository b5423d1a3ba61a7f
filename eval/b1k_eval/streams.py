r"""Standard output and error that take every text, whatever they are connected to.

A terminal, a pipe or a log may be ASCII or Latin-1 (`LANG`, `PYTHONIOENCODING`), and a path may
have bytes that are not text (PEP 383). Python's standard error escapes what it cannot write, as
`\u2026`; this makes standard output do the same. If the encoding is not Unicode, rich draws tables
with ASCII lines by itself.
"""

from __future__ import annotations

import io
import sys


def take_every_text() -> None:
    """Have both streams of this process escape what they cannot write; safe to call twice."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # it is None if closed, another type in a notebook
            stream.reconfigure(errors="backslashreplace")
