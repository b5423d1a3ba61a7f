"""How far the run of another process is."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from b1k_eval.records.run_files import RUN_FILE
from b1k_eval.records.state import read_state


def wait_until_begun(process: subprocess.Popen[str], run: Path, episodes: int = 1) -> None:
    """Wait until so many episodes of a run have begun, by what its folder says."""
    while True:
        assert process.poll() is None, process.communicate()
        if (run / RUN_FILE).exists():
            state = read_state(run)
            if state.done + len((state.progress or {}).get("episodes", ())) >= episodes:
                return
        time.sleep(0.02)
