"""As much of Ray as a run uses, in this process: actors are objects, and their answers are there.

With `losing`, the first so many actors are lost with their node at their second exchange.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class RayError(Exception):
    """As Ray's."""


class RayTaskError(RayError):
    """As Ray's."""


class Answer:
    """A reference to what is there already."""

    def __init__(self, value: Any = None, error: Exception | None = None) -> None:
        self.value = value
        self.error = error


class Actor:
    """Calls the methods of an object."""

    def __init__(self, made: Any, losing: bool) -> None:
        self.made = made
        self.losing = losing
        self.exchanges = 0

    def __getattr__(self, name: str) -> Any:
        def remote(*args: Any) -> Answer:
            self.exchanges += name == "exchange"
            if self.losing and self.exchanges == 2:
                self.made.stop()
                return Answer(error=RayError("The actor died.\nIts node has died."))
            return Answer(getattr(self.made, name)(*args))

        method = SimpleNamespace(remote=remote)
        method.options = lambda **_: method
        return method


class RayDouble:
    """Stands for the module."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, losing: int = 0) -> None:
        self.losing = losing
        self.names: list[str] = []
        self.actors: list[Actor] = []

    def remote(self, kind: Any) -> Any:
        def make(*args: Any) -> Actor:
            self.actors.append(Actor(kind(*args), len(self.actors) < self.losing))
            return self.actors[-1]

        def options(*, name: str, **_: Any) -> Any:
            self.names.append(name)
            return SimpleNamespace(remote=make)

        return SimpleNamespace(options=options)

    def put(self, value: Any) -> Any:
        return value

    def get(self, answer: Answer) -> Any:
        if answer.error is not None:
            raise answer.error
        return answer.value

    def wait(self, answers: list[Answer], **_: Any) -> tuple[list[Answer], list[Answer]]:
        return answers, []

    def kill(self, actor: Actor) -> None:
        actor.made.stop()

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: "id-1")

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"NodeID": "id-1", "NodeName": "10.0.0.1", "NodeManagerAddress": "10.0.0.1",
             "NodeManagerHostname": "rack-7"},
        ]  # fmt: skip
