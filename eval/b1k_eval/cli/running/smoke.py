"""`b1k-eval smoke`: does everything work here? One short episode, for CI."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Annotated

import numpy as np
import typer
from rich.table import Table
from rich.text import Text

from b1k_envs.base import VIEWS, Env
from b1k_envs.r1pro import ACTION_DIM, CAMERAS, PROPRIO_DIM
from b1k_eval.cli.console import err_console, out_console, print_json
from b1k_eval.cli.options import JsonOption, Options, Typed
from b1k_eval.cli.resolving import resolve_settings
from b1k_eval.execution import Execution
from b1k_eval.records.episode import RESULT_FILE, TRACE_FILE, VIDEO_FILE
from b1k_eval.records.run_files import EPISODES_FOLDER, read_episodes
from b1k_eval.records.store import StorageError
from b1k_eval.run.progress.displays import make_reporter
from b1k_eval.run.session import ReadyRun
from b1k_eval.run.simulators import resolve_sim
from b1k_eval.settings import RunSettings
from b1k_policies.checkpoint import CheckpointRequest

SMOKE_STEPS = 40
"""Time limit of the episode [control steps]; too short to reach the goal."""


@dataclass(frozen=True, kw_only=True)
class SmokeCheck:
    """The result of one check.

    Attributes:
        name: What was checked.
        passed: Whether it is as it should be.
        detail: What was found.
        seconds: How long the check took [s].
    """

    name: str
    passed: bool
    detail: str
    seconds: float


def smoke(
    task: Annotated[str, typer.Option(help="Task by index or name.")] = "31",
    policy: Annotated[
        str | None,
        typer.Option(help="As for run.", show_default="expert, in OmniGibson hold"),
    ] = None,
    sim: Annotated[str, typer.Option(help="auto, mujoco or omnigibson.")] = "auto",
    *,
    own: Annotated[Typed, Options(RunSettings, "policy_args")],
    checkpoint: Annotated[
        Typed, Options(CheckpointRequest, "ckpt", "contract", "code_dir", "trust_code", "device")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Keep the run here.", show_default="a folder that is removed"),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Run one short episode with pictures, goal, video and run folder; 0 if all is well."""
    sim = resolve_sim(sim, policy=policy)
    if policy is None and "ckpt" not in checkpoint:
        policy = "expert" if sim == "mujoco" else "hold"
    settings = resolve_settings(
        {"task": task, "policy": policy, "sim": sim, "max_steps": SMOKE_STEPS, **own, **checkpoint}
    )
    with nullcontext(out) if out is not None else _temporary_folder() as folder:
        session = ReadyRun([settings], Execution(), folder, argv=sys.argv)
        worlds = session.worlds
        try:
            checks = []
            if worlds is not None:
                (env,) = worlds.envs
                checks += [
                    _timed("pictures and proprio", lambda: check_observation(env)),
                    _timed("same actions, same world", lambda: check_determinism(env)),
                ]
            checks.append(_timed("episode and run folder", lambda: _check_episode(session)))
        finally:
            session.close()
    _report(checks, json_output=json_output)
    if not all(check.passed for check in checks):
        raise typer.Exit(1)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Make a folder that is removed afterwards.

    Raises:
        StorageError: The folder cannot be made or not be written to.
    """
    try:
        with ExitStack() as stack:
            try:
                temp = stack.enter_context(tempfile.TemporaryDirectory(prefix="b1k-eval-smoke-"))
            except OSError as error:
                raise StorageError(str(error.strerror)) from error
            yield Path(temp) / "run"
    except StorageError as error:
        said = str(error).partition(": ")[0]
        raise StorageError(
            f"smoke cannot write its episode ({said}): free some space, or set TMPDIR to a folder "
            "that can be written"
        ) from error


def _timed(name: str, check: Callable[[], tuple[bool, str]]) -> SmokeCheck:
    begun = perf_counter()
    passed, detail = check()
    return SmokeCheck(name=name, passed=passed, detail=detail, seconds=perf_counter() - begun)


def check_observation(env: Env) -> tuple[bool, str]:
    """Check an observation of the initial state: shapes, dtypes, no blank picture."""
    env.reset(0, 0, 0)
    observation = env.observe()
    problems = []
    for view in VIEWS:
        size = CAMERAS[view].size
        picture = observation.images[view]
        if picture.dtype != np.uint8 or picture.shape != (size, size, 3):
            problems.append(f"{view} is {picture.dtype} {list(picture.shape)}")
        elif picture.std() < 1.0:
            problems.append(f"{view} is blank")
        pose = observation.camera_to_base[view]
        if pose.dtype != np.float32 or pose.shape != (4, 4):
            problems.append(f"camera_to_base[{view}] is {pose.dtype} {list(pose.shape)}")
    for name, array, length in (
        ("proprio", observation.proprio, PROPRIO_DIM[env.info.protocol]),
        ("cam_rel_poses", observation.cam_rel_poses, 21),
    ):
        if array.dtype != np.float32 or array.shape != (length,) or not np.isfinite(array).all():
            problems.append(f"{name} is {array.dtype} {list(array.shape)}, or not finite")
    goal = env.goal()
    if goal.success or goal.q_score != 0.0 or not goal.predicates:
        problems.append(f"the goal at the start is {goal}")
    sizes = ", ".join(f"{CAMERAS[view].size}x{CAMERAS[view].size}" for view in VIEWS)
    return not problems, "; ".join(problems) or f"{sizes}; {len(observation.proprio)} numbers"


def check_determinism(env: Env) -> tuple[bool, str]:
    """Take two steps from the same instance twice, and compare the results bit for bit."""
    actions = np.random.default_rng(0).uniform(-0.2, 0.2, (2, ACTION_DIM)).astype(np.float32)
    seen = []
    for _ in range(2):
        env.reset(0, 0, 0)
        rows = []
        for action in actions:
            env.step(action)
            rows.append(env.observe(images=False).proprio.tobytes())
        seen.append(rows)
    moved = seen[0][0] != seen[0][1]
    same = seen[0] == seen[1]
    return same and moved, "bit for bit" if same and moved else f"same={same}, moved={moved}"


def _check_episode(session: ReadyRun) -> tuple[bool, str]:
    """Run the episode, then check the files in the run folder."""
    import pyarrow.parquet as pq

    reporter = make_reporter(err_console())
    try:
        session.run(reporter)
    finally:
        reporter.close()
    (key, line), *_ = read_episodes(session.store.path).items()
    if line["outcome"] != "failure" or line["failure_reason"] is not None:
        return False, f"{line['outcome']}: {line['failure_reason']} {line['message']}"
    if line["steps"] != SMOKE_STEPS + 1:
        return False, f"{line['steps']} steps, expected {SMOKE_STEPS + 1}: the limit and one more"
    folder = session.store.path / EPISODES_FOLDER / key.folder
    sizes = {name: (folder / name).stat().st_size for name in (RESULT_FILE, VIDEO_FILE)}
    with (folder / TRACE_FILE).open("rb") as file:
        rows = pq.read_metadata(file).num_rows
    passed = rows == line["steps"] and min(sizes.values()) > 0
    wall = line["timing"]["wall_s"]
    detail = f"{rows} steps in {wall:.1f} s, video {sizes[VIDEO_FILE] / 1000:.0f} kB"
    return passed, detail


def _report(checks: list[SmokeCheck], *, json_output: bool) -> None:
    if json_output:
        print_json(
            {
                "passed": all(check.passed for check in checks),
                "checks": [
                    {"name": c.name, "passed": c.passed, "detail": c.detail, "seconds": c.seconds}
                    for c in checks
                ],
            }
        )
        return
    table = Table(title="b1k-eval smoke")
    for name in ("check", "result", "found", "seconds"):
        table.add_column(name, justify="right" if name == "seconds" else "left")
    for check in checks:
        verdict = Text("ok", style="green") if check.passed else Text("failed", style="red")
        table.add_row(check.name, verdict, Text(check.detail), f"{check.seconds:.1f}")
    out_console().print(table)
