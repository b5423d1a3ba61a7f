"""All disturbances of an episode together: what the loop asks between env and policy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from b1k_envs.base import Float32Array, Observation
from b1k_envs.errors import EnvError
from b1k_eval.disturbances.answers import Answers
from b1k_eval.disturbances.axes import Disturbance
from b1k_eval.disturbances.noise import ActionNoise, NoiseSpec
from b1k_eval.disturbances.shown import Shown


class Disturber:
    """Disturbs one episode after another; `reset` first.

    Attributes:
        changes_commands: Whether an executed action may differ from the policy's command.
    """

    def __init__(
        self, disturbances: Sequence[Disturbance] = (), noise: NoiseSpec | None = None
    ) -> None:
        """Put together.

        Args:
            disturbances: Those of the world and the latency are others' business, and ignored.
            noise: Added to the executed actions, last.
        """
        self._shown, self._answers = Shown(disturbances), Answers(disturbances)
        self._noise = None if noise is None else ActionNoise(noise)
        self.changes_commands = noise is not None or any(
            each.axis.kind == "action" and each.dose for each in disturbances
        )

    @classmethod
    def of(cls, disturbances: Sequence[Disturbance], noise: NoiseSpec | None) -> Disturber | None:
        """Return None if there is nothing to disturb."""
        nothing = noise is None and not any(each.dose for each in disturbances)
        return None if nothing else cls(disturbances, noise)

    def reset(self, seed: int) -> None:
        """Begin an episode."""
        self._shown.reset(seed)
        self._answers.reset(seed)
        if self._noise is not None:
            self._noise.reset(seed)

    def observation(self, seen: Observation) -> Observation:
        """Return the observation as the policy gets it."""
        return self._shown.observation(seen)

    def instruction(self, text: str) -> str:
        """Return the task in words, as the policy is told it."""
        return self._shown.instruction(text)

    def lost(self, step: int) -> bool:
        """Whether the answer to a question asked at this step never arrives."""
        return self._answers.lost(step)

    def command(self, action: Float32Array) -> Float32Array:
        """Return the action as it is executed, float32 [23].

        Raises:
            EnvError: The disturbance, not the policy, made the action unusable.
        """
        executed = self._answers.command(action)
        if self._noise is not None:
            executed = self._noise.apply(executed)
        if not np.isfinite(executed).all():
            raise EnvError(
                "the disturbance made an action that is not finite; lower the SIGMA or KICK of "
                "--action-noise, or the dose"
            )
        return executed
