"""Where 2026 keeps the controllers: one per group of alike parts, each robot a member of it."""

from typing import ClassVar

from omnigibson_double import touch
from omnigibson_double.controllers import Controller

__all__ = ["ControllerView"]


class ControllerView(metaclass=touch.TouchedMeta):
    """The groups by key. Newer states have no `get_controller`, and none has the output limits."""

    _controller_groups: ClassVar[dict[str, Controller]] = {}
    _members: ClassVar[dict[str, int]] = {}

    @classmethod
    def register(cls, body_part: str, controller: Controller) -> tuple[str, int]:
        """Key of its group and its number in there; the first member's controller serves all."""
        key = f"/World/scene_*/controllable__r1pro__*__{body_part}__{controller.fingerprint()}"
        cls._controller_groups.setdefault(key, controller)
        cls._members[key] = cls._members.get(key, -1) + 1
        return key, cls._members[key]

    @classmethod
    def get_command_input_limits(cls, key: str):
        return cls._controller_groups[key].command_input_limits


touch.module(__name__)
