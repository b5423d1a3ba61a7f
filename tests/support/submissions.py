"""Runs that could be submitted, with videos: whatever is wrong with one, a test has put there."""

from __future__ import annotations

import datetime
import json
import shutil
import subprocess
from pathlib import Path

from run_folders import TASK, finished_run

from b1k_envs.tasks.table import TASKS
from b1k_eval.challenge.rules import Entry
from b1k_eval.video.recorder import ffmpeg_exe

NAMES = [task.name for task in TASKS]
HUMAN = {
    "length": 20.4,
    "distance_traveled": 28.6,
    "left_eef_displacement": 41.0,
    "right_eef_displacement": 39.5,
}
LIMIT = 30  # int(20.4 * 1.5)
OUTCOMES = {0: "success", 1: "failure", 2: "failure", 3: "success"}


def submittable(folder: Path, *, video, outcomes=OUTCOMES, **changes) -> Path:
    """A run that only its files show to be none of OmniGibson's."""
    changes = {
        "sim": "omnigibson",
        "render": "every-step",
        "max_steps": LIMIT,
        **changes,
    }
    run = finished_run(folder, outcomes, **changes)
    record = json.loads((run / "run.json").read_text())
    record["identity"]["human"] = HUMAN
    record["identity"]["env"] |= {"sim": "omnigibson", "task": TASK, "protocol": "2026"}
    (run / "run.json").write_text(json.dumps(record))
    lines = []
    for line in (run / "episodes.jsonl").read_text().splitlines():
        line = json.loads(line)
        steps = 12 + line["instance"] if line["success"] else LIMIT + 1
        q_score = 1.0 if line["success"] else line["instance"] / 4
        line |= {"steps": steps, "simulated_s": steps / 30, "q_score": q_score}
        if line["outcome"] == "error":
            line |= {"q_score": None}
        lines.append(json.dumps(line))
        episode = run / "episodes" / f"{TASK}-{line['instance']}-{line['rollout']}"
        result = json.loads((episode / "result.json").read_text()) | line
        distance = {"base": 0.0 if line["instance"] == 1 else 7.25, "left": 11.5, "right": 13.0}
        result["stalled_steps"] = 0
        result["truncated"] = not line["success"]
        result["terminated"] = bool(line["success"])
        if line["outcome"] != "error":
            result["efficiency"] = {
                "time": {
                    "simulator_steps": steps,
                    "simulator_time": steps / 30,
                    "normalized_time": HUMAN["length"] / steps,
                },
                "agent_distance": distance,
                "normalized_agent_distance": {
                    "base": HUMAN["distance_traveled"] / 7.25 if distance["base"] else None,
                    "left": HUMAN["left_eef_displacement"] / 11.5,
                    "right": HUMAN["right_eef_displacement"] / 13.0,
                },
                "notes": [],
            }
        if video is not None:
            made = shutil.copyfile(video(steps), episode / "video.mp4")
            size = made.stat().st_size
            result["recording"] = {"frames": steps + 1, "fps": 30.0, "bytes": size}
        (episode / "result.json").write_text(json.dumps(result))
    (run / "episodes.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return run


def coloured(folder: Path):
    """Videos as ours, by number of steps: head red, left wrist green, right wrist blue, white
    below; black in the picture of the start. They are made once."""

    def of(steps: int, *, fps: int = 30, pictures: int | None = None) -> Path:
        count = steps + 1 if pictures is None else pictures
        path = folder / f"{steps}-{fps}-{count}.mp4"
        boxes = (
            f"color=white:s=672x680:r={fps}[a];color=red:s=448x448:r={fps}[b];"
            f"color=0x00ff00:s=224x224:r={fps}[c];color=blue:s=224x224:r={fps}[d];"
            "[a][b]overlay=0:0[e];[e][c]overlay=448:0[f];[f][d]overlay=448:224[g];"
            "[g]drawbox=color=black:t=fill:enable='eq(n,0)'"
        )
        command = [ffmpeg_exe(), "-v", "error", "-y", "-filter_complex", boxes]
        encoder = ["-frames:v", str(count), "-preset", "ultrafast", "-pix_fmt", "yuv420p"]
        encoder += ["-movflags", "+faststart", str(path)]
        if not path.exists():
            subprocess.run([*command, *encoder], check=True)
        return path

    return of


def entry(track="standard", **changes) -> Entry:
    given = {"team": "Blue Gloves", "affiliation": "Lab", "date": datetime.date(2026, 11, 22)}
    return Entry(track=track, testset="public", **{**given, **changes})
