"""Object states of the twin with OmniGibson's semantics, read through one function.

`TwinStates.holds` answers the predicates that goals, sub-goals and task progress ask for. It reads
the simulation and never changes it. A scene's own class adds the states that are not physics, such
as a toggle, and the predicates that only its objects have.

Source of the semantics: BEHAVIOR-1K, OmniGibson/omnigibson/object_states/ (on_top.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from b1k_envs import r1pro
from b1k_envs.base import Float64Array
from b1k_envs.errors import EnvError
from b1k_envs.mujoco_twin.engine import GROUP_OBJECT_COLLISION, mujoco
from b1k_envs.mujoco_twin.robot.body import BASE_BODY, EEF_SITE
from b1k_envs.mujoco_twin.robot.grasping import AssistedGrasp
from b1k_envs.mujoco_twin.shapes import BodyShapes
from b1k_envs.mujoco_twin.truth import TwinTruth
from b1k_envs.tasks.task_progress import Between

NEAR_DISTANCE = 0.80
"""`near`: the base's origin is horizontally within this distance of the object's footprint [m].
Our own predicate, for sub-goals only; no official one exists."""

AGENT, FLOOR = "agent.n.01_1", "floor.n.01_1"
_VERTICAL = {up: np.array([0.0, 0.0, up]) for up in (-1.0, 1.0)}
_OBJECT_RAYS = np.array([g == GROUP_OBJECT_COLLISION for g in range(6)], dtype=np.uint8)


class TwinStates:
    """States of one model; `update` must be called once per control step, after the physics."""

    def __init__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        grasp: AssistedGrasp,
        *,
        bodies: Mapping[str, str],
        things: Collection[str],
        footprints: Mapping[str, tuple[float, float]],
        others: Collection[str] = (),
        links: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        """Bind to a model.

        Args:
            model: The compiled twin.
            data: Its state; read anew for every question.
            grasp: Knows which hand holds what.
            bodies: The body of each BDDL instance name.
            things: Bodies whose shapes count, because they may lie inside or on top of something.
            footprints: Half sizes of bodies along x and y [m]; a body not listed is a point.
            others: BDDL instance names without a body, beside the agent and the floor.
            links: All bodies of an object that has more than one, by its body.
        """
        self._model, self._data, self._grasp = model, data, grasp
        self._names, self._others, self._footprints = bodies, others, footprints
        self._bodies = {name: int(model.body(body).id) for name, body in bodies.items()}
        self._links = {
            name: [int(model.body(link).id) for link in links.get(body, (body,))]
            for name, body in bodies.items()
        }
        self._base = model.body(BASE_BODY).id
        self._eef = [int(model.site(EEF_SITE[arm]).id) for arm in r1pro.ARMS]
        self._fingers = {
            body: BodyShapes(model, body)
            for body in (
                model.body(f"{arm}_gripper_finger_link{i}").id for arm in r1pro.ARMS for i in (1, 2)
            )
        }
        self._shapes = {
            body: BodyShapes(model, body) for body in (model.body(name).id for name in things)
        }
        self._hit = np.empty(1, dtype=np.int32)  # written by every ray: a new one costs more
        self._named: dict[str, Mapping[str, bool]] = {}
        self._predicates: dict[str, Callable[..., bool]] = {
            "ontop": self._on_top,
            "grasped": self._grasped,
            "near": self._near,
        }

    # --- the reader's interface (goals.StateReader) -----------------------------------------

    def objects(self) -> Collection[str]:
        """Return the scene's BDDL instance names."""
        return {*self._bodies, *self._others, AGENT, FLOOR}

    def holds(self, predicate: str, *instances: str) -> bool:
        """Return the truth of a predicate of BDDL instances now.

        Raises:
            EnvError: The twin has no such state.
        """
        # An unknown predicate raises: False would turn a renamed state into a lost goal.
        evaluate = self._predicates.get(predicate)
        if evaluate is None:
            raise EnvError(
                f"the twin has no state '{predicate}'; it has {', '.join(self._predicates)}"
            )
        return evaluate(*instances)

    # --- what task progress asks for (task_progress.ProgressReader) --------------------------

    def named(self, key: str) -> Mapping[str, bool]:
        """See `ProgressReader.named`; what is in this scene exists throughout."""
        found = self._named.get(key)
        if found is None:
            names = sorted(self.objects())
            found = {name: True for name in names if key in (name, name.rpartition("_")[0])}
            if not found:
                raise EnvError(f"the twin has no {key}; it has {', '.join(names)}")
            self._named[key] = found
        return found

    def distance(self, instance: str, between: Between) -> float:
        """See `ProgressReader.distance`."""
        self._body(instance)
        ours = [self._data.xpos[self._base].tolist()]
        if between == "links":
            ours += self._data.site_xpos[self._eef].tolist()
        links = self._links[instance]
        theirs = self._data.xpos[links[:1] if between == "roots" else links].tolist()
        return min(math.hypot(a[0] - b[0], a[1] - b[1]) for a in ours for b in theirs)

    def open_fraction(self, instance: str) -> float:
        """See `ProgressReader.open_fraction`; here nothing can be opened."""
        raise EnvError(f"{instance} cannot be opened in the twin")

    # --- what a scene adds ------------------------------------------------------------------

    def reset(self) -> None:
        """Reset to the beginning of an episode."""

    def update(self) -> None:
        """Advance the states that are not physics by one control step."""

    def look(self) -> frozenset[str]:
        """Return which of the scene's switches are on."""
        return frozenset()

    def truth(self, **common: Any) -> TwinTruth:  # noqa: ANN401 - the fields of TwinTruth
        """Return what a scripted expert may read, given the fields that every scene has."""
        return TwinTruth(**common)

    # --- predicates -------------------------------------------------------------------------

    def _body(self, instance: str) -> int:
        try:
            return self._bodies[instance]
        except KeyError:
            raise EnvError(f"{instance} is no body of this scene") from None

    def _on_top(self, instance: str, support: str) -> bool:
        upper, lower = self._body(instance), self._body(support)
        # As upstream: the two touch, and a ray down from the centre meets the support, none up.
        pairs = self._model.geom_bodyid[self._data.contact.geom].tolist()
        if [upper, lower] not in pairs and [lower, upper] not in pairs:
            return False
        centre = self._shapes[upper].box_centre(self._data)
        return self._ray_meets(centre, -1.0, upper, lower) and not self._ray_meets(
            centre, 1.0, upper, lower
        )

    def _ray_meets(self, start: Float64Array, up: float, skip: int, wanted: int) -> bool:
        mujoco.mj_ray(
            self._model, self._data, start, _VERTICAL[up], _OBJECT_RAYS, True, skip, self._hit
        )
        hit = int(self._hit[0])
        return hit >= 0 and bool(self._model.geom_bodyid[hit] == wanted)

    def _grasped(self, agent: str, instance: str) -> bool:
        _check_agent(agent)
        return self._grasp.holds(self._body(instance))

    def _near(self, agent: str, instance: str) -> bool:
        _check_agent(agent)
        body = self._body(instance)
        half = self._footprints.get(self._names[instance], (0.0, 0.0))
        base, centre = self._data.xpos[self._base].tolist(), self._data.xpos[body].tolist()
        outside = (max(abs(base[i] - centre[i]) - half[i], 0.0) for i in (0, 1))
        return math.hypot(*outside) <= NEAR_DISTANCE


def _check_agent(agent: str) -> None:
    if agent != AGENT:
        raise EnvError(f"{agent} is no agent of this scene; {AGENT} is")
