"""`b1k-eval serve` as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

LONGEST_S = 120


class ServeProcess:
    """Started when entered, and told to end with SIGTERM when left.

    Attributes:
        url: Where it serves.
        document: Its line on standard output.
        pid: Its process id.
        code: Its exit code, once it has been left.
        log: What it wrote to standard error, once it has been left.
    """

    def __init__(self, folder, *arguments, prelude="", **environment):
        self._errors = folder / "stderr.txt"
        self._command = [
            *(sys.executable, "-c", f"{prelude}\nfrom b1k_eval.cli.main import main\nmain()"),
            *("serve", "--port", "0", "--json", *arguments),
        ]
        self._environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}

    def __enter__(self):
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=errors, env=self._environment
            )
        self.pid = self._process.pid
        line = self._process.stdout.readline()
        assert line, self._errors.read_text()
        self.document = json.loads(line)
        self.url = self.document["url"]
        return self

    def send(self, number):
        self._process.send_signal(number)

    def wait(self):
        self.code = self._process.wait(LONGEST_S)
        self.log = self._errors.read_text()

    def __exit__(self, *_):
        if self._process.poll() is None:
            self.send(signal.SIGTERM)
        try:
            self.wait()
        finally:
            if self._process.poll() is None:
                self._process.kill()
            self._process.stdout.close()
