"""The files of a submission beside its results: robot, wrapper, and how to evaluate the policy.

    robot.yaml    the robot's part of the simulator's config, as in the runs
    wrapper.py    the cameras of the runs, as a wrapper class for the official evaluator;
                  2025: also the robot's base, and zeros for what the track forbids
    README.md     how to run the official evaluator with both, and what was run here

Sources, repository StanfordVL/BEHAVIOR-1K: `docs/challenge/submission.md`@28ee2dfb (what the
package holds), `docs/challenge/evaluation.md`@01f0ed28 (command, `eval.camera_sensor_names`),
`OmniGibson/omnigibson/eval/r1pro.yaml`@c71025ad (form of the robot's file), and the evaluators'
wrappers: `camera_spec` of `eval/wrappers/` (2026, before the robot is made), sizes, aperture and
mass set on the finished robot in `learning/wrappers/` (2025). Neither evaluator hides what a track
forbids, so the wrapper must, for a policy that saw zeros here.

What a pass does not prove: that the official evaluator accepts the wrapper. It cannot be run here;
the wrapper does what the evaluator's own wrappers do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_letters, digits
from typing import Any

from b1k_envs.base import ProtocolYear
from b1k_envs.errors import UsageError
from b1k_envs.omnigibson.observations import DEPTH, sensor_name
from b1k_envs.omnigibson.setup.config import robot_config
from b1k_envs.omnigibson.setup.generation import GENERATIONS, ROBOT_NAME
from b1k_envs.omnigibson.setup.preparation import HEAD_APERTURE
from b1k_envs.r1pro import BASE_MASS, CAMERAS
from b1k_envs.tracks import FORBIDDEN_PROPRIO
from b1k_eval.challenge.rules import Entry
from b1k_eval.records.loading import RunData

ROBOT_FILE, WRAPPER_FILE, README_FILE = "robot.yaml", "wrapper.py", "README.md"

WRAPPER = "SubmittedWrapper"
"""Name of the class in `WRAPPER_FILE`."""

_PLAIN = frozenset(f"{ascii_letters}{digits}_:")
# YAML 1.1, which PyYAML reads, takes these for booleans or null.
_RESERVED = ("true", "false", "null", "yes", "no", "on", "off", "y", "n")


@dataclass(frozen=True, kw_only=True)
class World:
    """The part of a run's world that the wrapper sets.

    Attributes:
        protocol: Challenge year.
        base_mass_kg: Mass of the base; None for the robot's own.
        hidden: Slices of the proprioception that the policy saw as zeros.
        depth: Whether the policy was sent depth.
    """

    protocol: ProtocolYear
    base_mass_kg: float | None
    hidden: tuple[tuple[int, int], ...]
    depth: bool


def package_files(
    runs: Sequence[RunData], entry: Entry, *, draft: bool = False, image: str | None = None
) -> dict[str, str]:
    """Return the text of each file by name.

    Args:
        runs: The runs of the entry.
        entry: Who submits it.
        draft: Whether the README is that of a draft.
        image: Name of the Docker image that serves the policy, if one is written.

    Raises:
        UsageError: The runs need different wrappers.
    """
    world = _one_world(runs)
    robot = robot_config(GENERATIONS[world.protocol], depth=world.depth)
    if world.protocol == "2026":
        names = {view: sensor_name(view) for view in CAMERAS}
        robot = {**robot, "eval": {"camera_sensor_names": names}}
    return {
        ROBOT_FILE: "".join(f"{line}\n" for line in _yaml(robot)),
        WRAPPER_FILE: _WRAPPERS[world.protocol].format(**_words(world)),
        README_FILE: "\n".join(_readme(runs, entry, world, draft=draft, image=image)),
    }


def _one_world(runs: Sequence[RunData]) -> World:
    first = _world(runs[0])
    for run in runs[1:]:
        other = _world(run)
        if other != first:
            raise UsageError(
                f"{runs[0].path} and {run.path} need different wrappers ({first} against {other}): "
                "export them apart"
            )
    return first


def _world(run: RunData) -> World:
    settings = run.identity["settings"]
    protocol: ProtocolYear = settings["protocol"]
    forbidden = FORBIDDEN_PROPRIO[protocol] if settings.get("track") == "standard" else {}
    heavy = protocol == "2026" or settings["heavy_base"] is True
    return World(
        protocol=protocol,
        base_mass_kg=BASE_MASS if heavy else None,
        hidden=tuple((part.start, part.stop) for part in forbidden.values()),
        depth=bool(run.identity["policy"].get("depth")),
    )


# --- robot.yaml -----------------------------------------------------------------------------


def _yaml(value: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Yield the lines of a mapping in block style, with each list in one line."""
    for name, inner in value.items():
        key = f"{indent}{_scalar(name)}:"
        if isinstance(inner, Mapping):
            yield key
            yield from _yaml(inner, f"{indent}  ")
        elif isinstance(inner, list):
            yield f"{key} {_flow(inner)}"
        else:
            yield f"{key} {_scalar(inner)}"


def _flow(values: Sequence[Any]) -> str:
    inner = (_flow(each) if isinstance(each, list) else _scalar(each) for each in values)
    return f"[{', '.join(inner)}]"


def _scalar(value: Any) -> str:  # noqa: ANN401 - a plain JSON value
    """Write a value as JSON, which YAML reads; names without quotes where that is safe."""
    plain = isinstance(value, str) and value[:1].isalpha() and set(value) <= _PLAIN
    if plain and value.lower() not in _RESERVED and not value.endswith(":"):
        return str(value)
    return json.dumps(value)


# --- wrapper.py -----------------------------------------------------------------------------

_WRAPPER_2026 = '''\
"""Cameras as in the submitted runs: {pictures}, head {head} px, wrists {left_wrist} px.

The evaluator sets base mass and head aperture itself.
"""

from omnigibson.envs import EnvironmentWrapper


class {name}(EnvironmentWrapper):
    @classmethod
    def camera_spec(cls):
        """Read by the evaluator before it makes the robot."""
        return {{
            "modalities": {modalities},
            "resolution": {{
                "left_wrist": ({left_wrist}, {left_wrist}),
                "right_wrist": ({right_wrist}, {right_wrist}),
                "head": ({head}, {head}),
            }},
        }}
'''

_WRAPPER_2025 = '''\
"""Cameras and base as in the submitted runs.

{pictures}, head {head} px, wrists {left_wrist} px, {mass}.
"""

import omnigibson as og
from omnigibson.envs import EnvironmentWrapper

BASE_MASS_KG = {base_mass}  # None: the robot's own
HEAD_APERTURE_MM = {aperture}
SIZES_PX = {{
    "{left_wrist_sensor}": {left_wrist},
    "{right_wrist_sensor}": {right_wrist},
    "{head_sensor}": {head},
}}
HIDDEN = {hidden}  # of the proprioception: zeros, as the track wants it


class {name}(EnvironmentWrapper):
    def __init__(self, env):
        super().__init__(env=env)
        robot = env.robots[0]
        if BASE_MASS_KG is not None:
            og.sim.stop()  # a mass written while physics runs is not taken over
            robot.base_footprint_link.mass = BASE_MASS_KG
            og.sim.play()
        robot.sensors["{head_sensor}"].horizontal_aperture = HEAD_APERTURE_MM
        for sensor, size in SIZES_PX.items():
            robot.sensors[sensor].image_height = size
            robot.sensors[sensor].image_width = size
            for modality in {modalities}[1:]:
                robot.sensors[sensor].add_modality(modality)
        env.load_observation_space()  # or the next reset refuses its own observation

    def reset(self, *args, **kwargs):
        obs, *rest = super().reset(*args, **kwargs)
        return (_without_hidden(obs), *rest)

    def step(self, *args, **kwargs):
        obs, *rest = super().step(*args, **kwargs)
        return (_without_hidden(obs), *rest)


def _without_hidden(obs):
    if obs is None or not HIDDEN:
        return obs
    proprio = obs["{robot}"]["proprio"].clone()
    for start, stop in HIDDEN:
        proprio[start:stop] = 0
    return {{**obs, "{robot}": {{**obs["{robot}"], "proprio": proprio}}}}
'''

_WRAPPERS: Mapping[ProtocolYear, str] = {"2025": _WRAPPER_2025, "2026": _WRAPPER_2026}


def _words(world: World) -> dict[str, Any]:
    mass = world.base_mass_kg
    return {
        "name": WRAPPER,
        "mass": "the base's own mass" if mass is None else f"base of {mass:g} kg",
        "base_mass": mass,
        "pictures": "RGB and depth" if world.depth else "RGB",
        "modalities": json.dumps(["rgb", *([DEPTH] if world.depth else [])]),
        "aperture": HEAD_APERTURE,
        "hidden": list(world.hidden),
        "robot": ROBOT_NAME,
        **{str(view): camera.size for view, camera in CAMERAS.items()},
        **{f"{view}_sensor": sensor_name(view) for view in CAMERAS},
    }


# --- README.md ------------------------------------------------------------------------------


def _readme(
    runs: Sequence[RunData], entry: Entry, world: World, *, draft: bool, image: str | None
) -> Iterator[str]:
    yield f"# {entry.team}, {entry.affiliation}: {entry.track} track, {entry.testset} test set"
    yield ""
    if draft:
        yield "**A draft, not a submission**: DRAFT.txt says why."
        yield ""
    yield (
        f"Results in the form of the {world.protocol} BEHAVIOR challenge in `json/`, a video of "
        "each in `videos/`. "
        f"`{ROBOT_FILE}` and `{WRAPPER_FILE}` are the robot and the wrapper for the official "
        "evaluator that go with them."
    )
    yield ""
    yield "| run | policy | task | instances | simulator |"
    yield "|---|---|---|---|---|"
    for run in runs:
        settings, env = run.identity["settings"], run.identity["env"]
        instances = " ".join(map(str, sorted(settings["instances"])))
        sim = f"{settings['sim']} {env.get('sim_version', 'of an unknown version')}"
        policy = run.label.replace("|", "/")
        yield f"| {run.name} | {policy} | {run.task} | {instances} | {sim} |"
    yield ""
    yield "## Evaluating the policy"
    yield ""
    if image is None:
        yield (
            "To be added by the team: the Docker image, or the address and its ports, and how to "
            "start the policy server. Once it listens on port 8000, from a folder with this "
            "package's files:"
        )
    else:
        yield from _IMAGE.format(image=image).splitlines()
    yield ""
    yield "```bash"
    for task in dict.fromkeys(run.task for run in runs):
        yield from _EVALUATORS[world.protocol].format(task=task, wrapper=WRAPPER).splitlines()
    yield "```"
    yield ""
    yield from _checkpoints(runs)
    yield ""


_IMAGE = """\
The policy is served by the Docker image `{image}`. To be added by the team: where it can be pulled,
or its archive (`docker save {image} | gzip > {image}.tar.gz`).

```bash
docker build -t {image} .    # in the folder that has its Dockerfile
docker run --rm --gpus all -p 8000:8000 {image}
curl -f http://127.0.0.1:8000/healthz    # 200 once the checkpoint is loaded
```

It takes no key. What follows the image's name goes to `b1k-eval serve`: `--max-envs 4` for an
evaluator with `--num-envs 4`, `--device cpu` to try it without a GPU. Once it listens, from a
folder with this package's files:
"""


_EVALUATORS: Mapping[ProtocolYear, str] = {
    "2025": (
        "PYTHONPATH=. python OmniGibson/omnigibson/learning/eval.py policy=websocket \\\n"
        "    task.name={task} env_wrapper._target_=wrapper.{wrapper} log_path=outputs/{task}"
    ),
    "2026": (
        "for index in 0 1 2 3 4 5 6 7 8 9; do\n"
        "    PYTHONPATH=. python -m omnigibson.eval.eval --task-name {task} \\\n"
        "        --host 127.0.0.1 --port 8000 --instance-indices $index --num-rollouts 1 \\\n"
        "        --env-wrapper wrapper.{wrapper} --robot-config robot.yaml \\\n"
        "        --output-dir outputs/{task} --write-video\n"
        "done"
    ),
}


def _checkpoints(runs: Sequence[RunData]) -> Iterator[str]:
    """Yield lines that identify the runs' checkpoints."""
    found = {
        (one["origin"], one["weights_sha256"], one["code_sha256"]): None
        for one in (run.identity["policy"].get("checkpoint") for run in runs)
        if one is not None
    }
    if found:
        yield "Checkpoints, which `b1k-eval serve --ckpt` serves as they were run:"
        yield ""
    for origin, weights, code in found:
        yield f"- {origin}: weights {weights}, code {code} (SHA-256)"
