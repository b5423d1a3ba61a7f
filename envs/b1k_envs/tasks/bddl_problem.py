"""The BDDL problem of an activity, compiled by whichever bddl package is installed.

Two APIs have the name `bddl`, and an environment can hold only one of them:

- PyPI's 3.6: domain `omnigibson`; conditions are compiled against a backend whose predicate
  classes evaluate themselves, and the number of ground options listed is limited
  (`bddl.config.GROUND_GOALS_MAX_OPTIONS`, `..._MAX_PERMUTATIONS`).
- StanfordVL/BEHAVIOR-1K, folder `bddl3`, since 3.7: domain `behavior-1k`; no backend, compiled
  conditions take a callback `evaluate_fn(predicate, *instances) -> bool`, where the predicate
  comes as its name or, in some commits, as a class of `bddl.predicates`.

`compile_problem` hides the difference behind `Problem`; it checks what the package offers, never
its version. It also imports the package, which importing this module does not.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import io
import itertools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from b1k_envs.errors import B1kEvalError, EnvError, UnavailableError, UsageError

Evaluate = Callable[[], bool]

Facts = Callable[..., bool]
"""`facts(predicate, *instances)` returns the truth of a ground predicate now."""

_log = logging.getLogger(__name__)

_DOMAINS = ("behavior-1k", "omnigibson")

_MAX_COMPARED = 100_000
"""Combinations searched for a dropped option, about a second, before one is assumed."""


class _Conditions(Protocol):
    """The part of a parsed problem that is read here; the same in both APIs."""

    parsed_objects: Mapping[str, Sequence[str]]
    parsed_initial_conditions: Sequence[Sequence[str]]


class _Node(Protocol):
    """A compiled expression; `children` are nodes, or rows of nodes in the pair quantifiers."""

    children: Sequence[Any]
    flattened_condition_options: Sequence[Sequence[object]]
    N: int  # of `forn` and `fornpairs` only


class _Head(_Node, Protocol):
    """The root of a compiled condition; `evaluate` takes the callback in the API that has one."""

    terms: Sequence[str]
    evaluate: Callable[..., bool]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A compiled problem, the same for both APIs.

    Attributes:
        objects: Every instance the problem declares.
        future: Those of them that do not exist yet at the start.
        goal: Evaluates the whole goal now, through the package.
        literals: By name, evaluates each distinct literal now, through the package.
        options: For each ground option, the names of its literals.
    """

    objects: tuple[str, ...]
    future: frozenset[str]
    goal: Evaluate
    literals: Mapping[str, Evaluate]
    options: tuple[tuple[str, ...], ...]


def compile_problem(activity: str, definition: int, facts: Facts) -> Problem:
    """Compile a problem with the installed package, whichever API it has.

    Args:
        activity: BDDL activity name.
        definition: Number of the problem file.
        facts: Answers the compiled problem's questions each time it is evaluated.

    Raises:
        UnavailableError: No bddl package is installed.
        UsageError: The package does not define the activity or the definition.
        EnvError: It cannot compile the problem, or lists only some of its ground options.
    """
    try:
        api = importlib.import_module("bddl.activity")
        config = importlib.import_module("bddl.config")
    except ImportError as error:
        raise UnavailableError(
            f"goals need the bddl package, which cannot be imported ({error}): "
            "pip install 'bddl>=3.6'"
        ) from error
    _check_definition(api, config, activity, definition)
    # The domain's name differs between the two packages, so its file decides.
    domain = next((d for d in _DOMAINS if Path(config.get_domain_filename(d)).is_file()), None)
    if domain is None:
        raise EnvError(
            f"the installed bddl package has neither of the domains {', '.join(_DOMAINS)}: "
            "install 'bddl>=3.6' or the one of StanfordVL/BEHAVIOR-1K"
        )
    # The package prints what it skips in a problem file; stdout is for the verb's own output.
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            conditions = api.Conditions(activity, definition, domain)
            if "backend" in inspect.signature(api.get_goal_conditions).parameters:
                problem = _compile_with_backend(activity, api, conditions, facts)
            else:
                problem = _compile_with_callback(api, conditions, facts)
    except B1kEvalError:
        raise
    except Exception as error:  # the package raises bare Exception and AssertionError
        raise EnvError(
            f"the installed bddl package cannot compile {activity}, definition {definition}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if printed.getvalue():
        _log.info("bddl on %s: %s", activity, printed.getvalue().strip())
    return problem


def _compile_with_backend(
    activity: str, api: ModuleType, conditions: _Conditions, facts: Facts
) -> Problem:
    """Compile with PyPI's API: predicates are our own classes, given by a backend."""
    logic = importlib.import_module("bddl.logic_base")

    def get_predicate_class(name: str) -> Callable[..., Any]:
        def evaluate(_node: object, *instances: str) -> bool:
            return facts(name, *instances)

        def sample(*_: object) -> bool:
            raise EnvError(f"`{name}` is evaluated here, never sampled")

        members = {"STATE_NAME": name, "_evaluate": evaluate, "_sample": sample}
        unary = type(name, (logic.UnaryAtomicFormula,), members)
        binary = type(name, (logic.BinaryAtomicFormula,), members)
        # The number of arguments is known only when a literal arrives, so the choice waits for it.
        return lambda scope, backend, body, *args, **kwargs: (unary if len(body) == 1 else binary)(
            scope, backend, body, *args, **kwargs
        )

    backend_base = importlib.import_module("bddl.backend_abc").BDDLBackend
    backend = type(
        "ReaderBackend",
        (backend_base,),
        {"get_predicate_class": staticmethod(get_predicate_class)},
    )()
    # In this API the scope maps to simulator objects; ours are the names themselves.
    scope = {name: name for name in api.get_object_scope(conditions)}
    goal = api.get_goal_conditions(conditions, backend, scope)
    # Only this API limits its enumerations; the monorepo's lists every option.
    _check_complete(activity, goal)
    options = api.get_ground_goal_state_options(conditions, backend, scope, goal)
    return _problem(
        conditions,
        goal=lambda: api.evaluate_goal_conditions(goal)[0],
        options=options,
        evaluate=lambda head: head.evaluate,
    )


def _compile_with_callback(api: ModuleType, conditions: _Conditions, facts: Facts) -> Problem:
    """Compile with the monorepo's API: predicates are names handed to a callback."""
    callback: Facts = facts
    with contextlib.suppress(ModuleNotFoundError):
        classes = importlib.import_module("bddl.predicates").TOKEN_TO_PREDICATE
        tokens = {predicate: token for token, predicate in classes.items()}

        def callback(predicate: str | type, *instances: str) -> bool:
            return facts(tokens.get(predicate, predicate), *instances)

    scope = api.get_object_scope(conditions)
    goal = api.get_goal_conditions(conditions, scope)
    options = api.get_ground_goal_state_options(conditions, scope, goal)
    return _problem(
        conditions,
        goal=lambda: api.evaluate_goal_conditions(goal, callback)[0],
        options=options,
        evaluate=lambda head: partial(head.evaluate, callback),
    )


def _problem(
    conditions: _Conditions,
    *,
    goal: Evaluate,
    options: Sequence[Sequence[_Head]],
    evaluate: Callable[[_Head], Evaluate],
) -> Problem:
    """Build the problem: name the literals and keep one compiled object of each."""
    literals: dict[str, Evaluate] = {}
    for head in itertools.chain.from_iterable(options):
        literals.setdefault(_name(head), evaluate(head))
    return Problem(
        objects=tuple(itertools.chain.from_iterable(conditions.parsed_objects.values())),
        future=frozenset(
            terms[1] for terms in conditions.parsed_initial_conditions if terms[0] == "future"
        ),
        goal=goal,
        literals=literals,
        options=tuple(tuple(map(_name, option)) for option in options),
    )


def _name(head: _Head) -> str:
    """Name a ground literal, e.g. `not covered boxing_glove.n.01_1 dust.n.01_1`."""
    return " ".join(head.terms)


def _check_definition(api: ModuleType, config: ModuleType, activity: str, definition: int) -> None:
    known = api.get_all_activities()
    if activity not in known:
        near = difflib.get_close_matches(activity, known, n=3, cutoff=0.6)
        hint = f"; did you mean {' or '.join(sorted(near))}?" if near else ""
        raise UsageError(
            f"the installed bddl package defines {len(known)} activities, and {activity!r} is "
            f"not one of them{hint}"
        )
    if not Path(config.get_definition_filename(activity, definition)).is_file():
        raise UsageError(
            f"{activity} has no definition {definition}: the installed bddl package has 0 to "
            f"{api.get_instance_count(activity) - 1}"
        )


def _check_complete(activity: str, goal: Sequence[_Node]) -> None:
    """Refuse a problem for which PyPI's bddl lists only some of the ground options.

    Its enumerations stop after a number of candidates without saying so, and the score, which is a
    maximum over the options, would be too low.
    """
    if any(map(_lists_too_few, goal)) or _drops_options(goal):
        raise EnvError(
            f"the installed bddl package lists only some of the ground goal options of "
            f"{activity}, so its partial score would be too low: install the bddl of "
            "StanfordVL/BEHAVIOR-1K, which lists all"
        )


def _drops_options(goal: Sequence[_Node]) -> bool:
    """Return whether combining the conditions' options leaves out one that could be satisfied."""
    choices = [head.flattened_condition_options for head in goal]
    utils = importlib.import_module("bddl.utils")  # builds between the two APIs have no limit
    listed = list(getattr(utils, "truncated_product", itertools.product)(*choices))
    if len(listed) == math.prod(map(len, choices)):
        return False
    satisfiable = sum(map(_is_consistent, listed))
    for number, option in enumerate(itertools.product(*choices)):
        satisfiable -= _is_consistent(option)
        if satisfiable < 0 or number >= _MAX_COMPARED:
            return True
    return False


def _is_consistent(option: Sequence[Sequence[object]]) -> bool:
    """Return whether no literal stands beside its negation; the package drops such options."""
    literals = [*itertools.chain.from_iterable(option)]
    return not any(["not", literal] in literals for literal in literals)


def _lists_too_few(node: _Node) -> bool:
    """Return whether a compiled node lists fewer options than its meaning requires."""
    children = node.children
    kind = type(node).__name__
    if kind in ("ForPairs", "ForNPairs"):
        # Count pairings of the first rows with any columns. For `fornpairs` the package has no
        # others in either API, so the official score does not know more either.
        rows = children if len(children) <= len(children[0]) else [*zip(*children, strict=True)]
        if kind == "ForNPairs":
            rows = children[: node.N]
        expected = 0
        for columns in itertools.permutations(range(len(rows[0])), len(rows)):
            expected += math.prod(
                len(row[c].flattened_condition_options)
                for row, c in zip(rows, columns, strict=True)
            )
            if expected > len(node.flattened_condition_options):
                return True
        return any(map(_lists_too_few, itertools.chain.from_iterable(children)))
    expected = 0
    if kind in ("Conjunction", "Universal", "NQuantifier"):
        expected = math.prod(len(child.flattened_condition_options) for child in children)
        if kind == "NQuantifier":
            expected *= math.comb(len(children), node.N)
    elif kind in ("Negation", "Implication"):
        expected = math.prod(map(len, children[0].flattened_condition_options))
        if kind == "Implication":
            expected += len(children[1].flattened_condition_options)
    return len(node.flattened_condition_options) < expected or any(map(_lists_too_few, children))
