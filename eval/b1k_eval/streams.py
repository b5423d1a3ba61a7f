r"""Standard output and error that take every text, whatever they are connected to.

A terminal, a pipe or a log may be ASCII or Latin-1 (`LANG`, `PYTHONIOENCODING`), and a path may be
of bytes that are no text (PEP 383). Python's own standard error spells out what it cannot write, as
in `\u2026`; so does standard output from here on. rich draws tables with ASCII lines by itself
where the encoding is not Unicode.
"""

from __future__ import annotations

import io
import sys


def take_every_text() -> None:
    """Have both streams of this process spell out what they cannot write; safe to call twice."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where it is closed, another in a notebook
            stream.reconfigure(errors="backslashreplace")
