"""The washing rule, with OmniGibson's semantics.

Source: BEHAVIOR-1K, OmniGibson/omnigibson/transition_rules.py (WasherRule).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable


class WasherRule:
    """Cleans the things in the drum when the washer becomes (on and closed).

    Dust needs neither water nor detergent (no solvent is listed for it), there is no cycle time,
    and the rule is skipped when no dust particle at all is inside the drum. It does not fire again
    until the washer has been open or off in between.
    """

    def __init__(self) -> None:
        self._was_running = False

    def reset(self) -> None:
        """Forget that the washer ran."""
        self._was_running = False

    def update(
        self,
        *,
        on: bool,
        is_open: bool,
        dust_in_drum: Callable[[], bool],
        in_drum: Callable[[], Iterable[str]],
    ) -> tuple[str, ...]:
        """Advance by one control step.

        Args:
            on: ToggledOn of the washer.
            is_open: Open of the washer.
            dust_in_drum: Whether any dust particle is inside the drum; asked only on the change.
            in_drum: Objects with any collision point inside the drum; asked only on the change.

        Returns:
            The objects that lose all their dust now.
        """
        # Stored even where no dust is inside: as upstream, the rule fires on the change only.
        running = on and not is_open
        fires = running and not self._was_running
        self._was_running = running
        if not fires or not dust_in_drum():
            return ()
        return tuple(in_drum())
