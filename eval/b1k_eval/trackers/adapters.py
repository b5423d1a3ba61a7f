"""The four trackers behind one interface, each imported when it is started.

What their own environment variables say (`WANDB_MODE`, `TRACKIO_DIR`, `MLFLOW_TRACKING_URI`, ...)
holds: nothing is passed that would overrule them. Read back from wandb 0.31 (offline), trackio
0.43, tensorboard 2.21 and mlflow 3.17 (SQLite); no server was logged to.
"""

from __future__ import annotations

import inspect
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any

from b1k_eval.execution import TrackerName
from b1k_eval.frames import of_rows

PROJECT = "b1k-eval"
"""Project or experiment, where the tracker's environment names none."""

_LONGEST_PARAMETER = 500
"""Characters of a setting: MLflow's oldest limit."""

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Logged:
    """What is logged.

    Attributes:
        id: Id of the run in the tracker; the same one is gone on with.
        name: Its name for people.
        kind: `run`, or `compare`.
        folder: The run folder.
        settings: Plain values by name.
    """

    id: str
    name: str
    kind: str
    folder: Path
    settings: Row


class Tracker(ABC):
    """One run in a tracker.

    wandb and trackio hand on what a method was given in the background, until `finish`.
    """

    @abstractmethod
    def start(self, what: Logged) -> None:
        """Begin the run, or go on with the one of that id."""

    @abstractmethod
    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers."""

    @abstractmethod
    def video(self, name: str, path: Path, step: int) -> None:
        """Log an episode's video."""

    @abstractmethod
    def table(self, name: str, rows: Sequence[Row], step: int) -> None:
        """Log a table of at least one row, in place of an earlier one of that name."""

    @abstractmethod
    def text(self, name: str, text: str, step: int) -> None:
        """Log a text."""

    @abstractmethod
    def finish(self, *, complete: bool) -> None:
        """End the run; not complete if some of it is still to come."""


class _Wandb(Tracker):
    def start(self, what: Logged) -> None:
        import wandb

        self._wandb = wandb
        named = {"project": ("WANDB_PROJECT", PROJECT), "name": ("WANDB_NAME", what.name)}
        given = {name: ours for name, (key, ours) in named.items() if key not in os.environ}
        self._run = wandb.init(
            **given,
            id=what.id,
            resume="allow",
            job_type=what.kind,
            config=dict(what.settings),
            settings=wandb.Settings(console="off", silent=True),
        )
        self._run.define_metric("*", step_metric="episode")

    def log(self, values: Mapping[str, float], step: int) -> None:
        # The step is given, so that a second file of an offline run goes on where the first ended.
        self._run.log({**values, "episode": step}, step=step)

    def video(self, name: str, path: Path, step: int) -> None:
        shown = self._wandb.Video(str(path), caption=name, format="mp4")
        self._run.log({"video": shown}, step=step)

    def table(self, name: str, rows: Sequence[Row], step: int) -> None:
        columns, data = _columns(rows)
        self._run.log({name: self._wandb.Table(columns=columns, data=data)}, step=step)

    def text(self, name: str, text: str, step: int) -> None:
        self._run.summary[name] = text

    def finish(self, *, complete: bool) -> None:
        self._run.finish(exit_code=0 if complete else 1)


class _Trackio(Tracker):
    def start(self, what: Logged) -> None:
        import trackio

        self._trackio = trackio
        given: dict[str, Any] = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
        known = inspect.signature(trackio.init).parameters  # older versions have not all of them
        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT),
            name=what.id,
            resume="allow",
            config={name: value for name, value in what.settings.items() if value is not None},
            **{name: value for name, value in given.items() if name in known},
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def video(self, name: str, path: Path, step: int) -> None:
        self._run.log({"video": self._trackio.Video(str(path), caption=name)}, step=step)

    def table(self, name: str, rows: Sequence[Row], step: int) -> None:
        self._run.log({name: self._trackio.Table(dataframe=of_rows(rows))}, step=step)

    def text(self, name: str, text: str, step: int) -> None:
        self._run.log({name: text}, step=step)

    def finish(self, *, complete: bool) -> None:
        self._run.finish()


class _TensorBoard(Tracker):
    """An event file below the run folder. It has no videos: the last picture stands for one."""

    def start(self, what: Logged) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        place = Path("tensorboard") if what.kind == "run" else Path("tensorboard") / what.id
        folder = what.folder / place
        again = folder.is_dir()
        self._writer = EventFileWriter(str(folder))
        if not again:
            rows = [{"setting": name, "value": value} for name, value in what.settings.items()]
            self.table("settings", rows, 0)

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._add([{"tag": name, "simple_value": value} for name, value in values.items()], step)

    def video(self, name: str, path: Path, step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        from b1k_eval.video.recording import opened
        from b1k_eval.video.text import import_cv2

        cv2 = import_cv2()
        with opened(path) as capture:
            capture.set(cv2.CAP_PROP_POS_FRAMES, capture.get(cv2.CAP_PROP_FRAME_COUNT) - 1)
            read, picture = capture.read()
        if not read:
            raise OSError(f"{path} has no last picture")
        image = Summary.Image(
            height=picture.shape[0],
            width=picture.shape[1],
            colorspace=3,
            encoded_image_string=cv2.imencode(".png", picture)[1].tobytes(),
        )
        self._add([{"tag": f"last picture/{name}", "image": image}], step)

    def table(self, name: str, rows: Sequence[Row], step: int) -> None:
        columns, data = _columns(rows)
        cells = [columns, ["---"] * len(columns), *data]
        lines = (" | ".join("" if cell is None else str(cell) for cell in line) for line in cells)
        self.text(name, "\n".join(f"| {line} |" for line in lines), step)

    def text(self, name: str, text: str, step: int) -> None:
        import numpy as np
        from tensorboard.plugins.text.metadata import create_summary_metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        tensor = make_tensor_proto(np.array([text.encode()], dtype=object))
        about = create_summary_metadata(display_name=name, description="")
        self._add([{"tag": name, "tensor": tensor, "metadata": about}], step)

    def finish(self, *, complete: bool) -> None:
        self._writer.close()

    def _add(self, values: Sequence[Row], step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(**value) for value in values])
        self._writer.add_event(Event(wall_time=time(), step=step, summary=summary))
        self._writer.flush()


class _MLflow(Tracker):
    """By its client, which has no active run that a caller's own could be taken for."""

    def start(self, what: Logged) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = client = MlflowClient()
        experiment = os.environ.get("MLFLOW_EXPERIMENT_ID")
        if experiment is None:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
            found = client.get_experiment_by_name(name)
            experiment = client.create_experiment(name) if found is None else found.experiment_id
        runs = client.search_runs([experiment], f"tags.b1k_eval_id = '{what.id}'")
        if runs:
            self._id = runs[0].info.run_id
            client.update_run(self._id, status="RUNNING")
            return
        tags = {"b1k_eval_id": what.id, "b1k_eval_kind": what.kind}
        self._id = client.create_run(experiment, run_name=what.name, tags=tags).info.run_id
        settings = [
            Param(re.sub(r"[^\w./ -]", "_", name), str(value)[:_LONGEST_PARAMETER])
            for name, value in what.settings.items()
        ]
        for first in range(0, len(settings), 100):  # as many as a call takes
            client.log_batch(self._id, params=settings[first : first + 100])

    def log(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = round(1e3 * time())
        metrics = [Metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def video(self, name: str, path: Path, step: int) -> None:
        self._client.log_artifact(self._id, str(path), f"videos/{name}")

    def table(self, name: str, rows: Sequence[Row], step: int) -> None:
        self._client.log_text(self._id, of_rows(rows).to_csv(index=False), f"{name}.csv")

    def text(self, name: str, text: str, step: int) -> None:
        self._client.log_text(self._id, text, f"{name}.txt")
        self._client.set_tag(self._id, "mlflow.note.content", text)

    def finish(self, *, complete: bool) -> None:
        self._client.set_terminated(self._id, status="FINISHED" if complete else "KILLED")


TRACKERS: Mapping[TrackerName, type[Tracker]] = {
    "wandb": _Wandb,
    "trackio": _Trackio,
    "tensorboard": _TensorBoard,
    "mlflow": _MLflow,
}
"""The class of each name, which is also that of its package and of our extra."""


def _columns(rows: Sequence[Row]) -> tuple[list[str], list[list[Any]]]:
    """Return the names of a table's columns, and its rows as lists."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return columns, [[row.get(name) for name in columns] for row in rows]
