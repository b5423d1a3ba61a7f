"""The goal of task 31 compiled by the installed bddl package, in both generations' ways."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from typing import Any

from bddl.activity import (
    Conditions,
    evaluate_goal_conditions,
    get_goal_conditions,
    get_ground_goal_state_options,
    get_natural_goal_conditions,
    get_object_scope,
)
from bddl.backend_abc import BDDLBackend
from bddl.logic_base import BinaryAtomicFormula, UnaryAtomicFormula

from omnigibson_double.object_states import BY_PREDICATE
from omnigibson_double.touch import Touched

_DOMAIN = "omnigibson"  # of PyPI's bddl, which is what is installed


class _Backend(BDDLBackend):
    """Predicates that ask the entities of the scope, as OmniGibson's 2025 backend does."""

    def get_predicate_class(self, predicate_name: str) -> Callable[..., Any]:
        def evaluate(_: object, entity: Any, *others: Any) -> bool:
            return bool(entity.get_state(BY_PREDICATE[predicate_name], *others))

        members = {"STATE_NAME": predicate_name, "_evaluate": evaluate, "_sample": None}
        unary = type(predicate_name, (UnaryAtomicFormula,), members)
        binary = type(predicate_name, (BinaryAtomicFormula,), members)
        return lambda scope, backend, body, *args, **kwargs: (unary if len(body) == 1 else binary)(
            scope, backend, body, *args, **kwargs
        )


class CompiledGoal:
    """2025: conditions and options whose heads evaluate themselves, without arguments."""

    def __init__(self, activity: str, definition: int, scope: Mapping[str, Any]) -> None:
        backend = _Backend()
        with contextlib.redirect_stdout(io.StringIO()):
            self._conditions = Conditions(activity, definition, _DOMAIN)
            full = {name: scope[name] for name in get_object_scope(self._conditions)}
            self.goal = get_goal_conditions(self._conditions, backend, full)
            self.options = get_ground_goal_state_options(self._conditions, backend, full, self.goal)
        self.natural_language = get_natural_goal_conditions(self._conditions)

    def check(self) -> tuple[bool, dict[str, list[int]]]:
        return evaluate_goal_conditions(self.goal)


class GroundHead(Touched):
    """2026: a ground literal; without a callback it answers for env 0, whoever asks."""

    def __init__(self, terms: list[str], of_env_0: Callable[..., bool]) -> None:
        self.terms = terms
        self._of_env_0 = of_env_0

    def evaluate(self, evaluate_fn: Callable[..., bool] | None = None) -> bool:
        ask = self._of_env_0 if evaluate_fn is None else evaluate_fn
        positive = self.terms[0] != "not"
        predicate, *names = self.terms if positive else self.terms[1:]
        return bool(ask(predicate, *names)) == positive
