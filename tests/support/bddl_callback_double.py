"""A small `bddl` with the callback API of StanfordVL/BEHAVIOR-1K's folder `bddl3` (3.7 and later).

Written from its signatures: `activity.Conditions(activity, definition, domain)`, with
`get_object_scope(conds)` mapping each name to itself, `get_goal_conditions(conds, scope)`,
`get_ground_goal_state_options(conds, scope, goal)`, `evaluate_goal_conditions(goal, evaluate_fn)`;
compiled heads have `terms` and `evaluate(evaluate_fn)`. It knows `and`, `or`, `not`, `forall` and
`exists`, grounds by its own rule (push the negation down, then multiply out), and shares no code
with the installed package. What it does not show: that the real package keeps to these signatures.
"""

from __future__ import annotations

import itertools
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest


class Conditions:
    def __init__(self, activity, definition, domain, predefined_problem=None):
        text = config_of(sys.modules["bddl"]).get_definition_filename(activity, definition)
        tree = _read(Path(text).read_text())
        sections = {section[0]: section[1:] for section in tree[1:]}
        if sections[":domain"] != [domain]:
            raise Exception("Different domain specified in problem file")
        self.parsed_objects = {}
        names = []
        tokens = iter(sections[":objects"])
        for token in tokens:
            if token == "-":
                self.parsed_objects[next(tokens)] = names
                names = []
            else:
                names.append(token)
        self.parsed_initial_conditions = sections[":init"]
        goal = sections[":goal"][0]
        self.parsed_goal_conditions = goal[1:] if goal[0] == "and" else [goal]


class Head:
    """One condition; `tree` is nested lists, `objects` maps categories to instances."""

    def __init__(self, tree, objects, as_class):
        self.tree, self.objects, self.as_class = tree, objects, as_class
        self.terms = re.findall(r"[^\s\[\]',?]+", str(tree))

    def evaluate(self, evaluate_fn):
        return self._true(self.tree, {}, evaluate_fn)

    def _true(self, tree, bound, evaluate_fn):
        operator, *rest = tree
        if operator == "not":
            return not self._true(rest[0], bound, evaluate_fn)
        if operator in ("and", "or"):
            return {"and": all, "or": any}[operator](
                [self._true(part, bound, evaluate_fn) for part in rest]
            )
        if operator in ("forall", "exists"):
            (label, _, category), body = rest
            return {"forall": all, "exists": any}[operator](
                [
                    self._true(body, {**bound, label.strip("?"): name}, evaluate_fn)
                    for name in self.objects[category]
                ]
            )
        names = [bound.get(term.strip("?"), term.strip("?")) for term in rest]
        return evaluate_fn(self.as_class(operator), *names)

    def options(self):
        return [list(option) for option in self._options(self.tree, {}, positive=True)]

    def _options(self, tree, bound, positive):
        operator, *rest = tree
        if operator == "not":
            return self._options(rest[0], bound, not positive)
        if operator in ("and", "or"):
            parts = [self._options(part, bound, positive) for part in rest]
            return _combine(parts, every=(operator == "and") == positive)
        if operator in ("forall", "exists"):
            (label, _, category), body = rest
            parts = [
                self._options(body, {**bound, label.strip("?"): name}, positive)
                for name in self.objects[category]
            ]
            return _combine(parts, every=(operator == "forall") == positive)
        literal = [operator, *(bound.get(term.strip("?"), term.strip("?")) for term in rest)]
        return [(literal if positive else ["not", literal],)]


def _combine(parts, every):
    if every:
        return [tuple(itertools.chain(*choice)) for choice in itertools.product(*parts)]
    return [option for part in parts for option in part]


def _read(text):
    stack = [[]]
    for token in re.findall(r"[()]|[^\s()]+", text.lower()):
        if token == "(":
            stack.append([])
        elif token == ")":
            closed = stack.pop()
            stack[-1].append(closed)
        else:
            stack[-1].append(token)
    return stack[0][0]


def config_of(package):
    return sys.modules[f"{package.__name__}.config"]


def install(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    problems: dict[str, str],
    *,
    predicate_classes: bool = False,
) -> None:
    """Put the double in the place of `bddl` until the end of the test.

    Args:
        monkeypatch: Undoes it.
        folder: Where the problem files go.
        problems: Problem text by activity.
        predicate_classes: Hand the callback classes of `bddl.predicates`, as some commits do,
            instead of names.
    """
    (folder / "domain_behavior-1k.bddl").write_text("(define (domain behavior-1k))")
    for activity, text in problems.items():
        (folder / activity).mkdir()
        (folder / activity / "problem0.bddl").write_text(text)
    package, activity_module, config = (
        ModuleType(name) for name in ("bddl", "bddl.activity", "bddl.config")
    )
    package.__path__ = []
    classes = {name: type(name.title(), (), {}) for name in ("covered", "inside", "ontop", "open")}

    def as_class(token):
        return classes[token] if predicate_classes else token

    config.get_domain_filename = lambda name: str(folder / f"domain_{name}.bddl")
    config.get_definition_filename = lambda activity, number: str(
        folder / activity / f"problem{number}.bddl"
    )

    def get_object_scope(conds):
        return {name: name for names in conds.parsed_objects.values() for name in names}

    def get_goal_conditions(conds, scope, generate_ground_options=True):
        return [Head(tree, conds.parsed_objects, as_class) for tree in conds.parsed_goal_conditions]

    def get_ground_goal_state_options(conds, scope, goal_conditions):
        return [
            [Head(literal, conds.parsed_objects, as_class) for literal in itertools.chain(*choice)]
            for choice in itertools.product(*(head.options() for head in goal_conditions))
        ]

    def evaluate_goal_conditions(goal_conditions, evaluate_fn):
        truth = [head.evaluate(evaluate_fn) for head in goal_conditions]
        numbers = {
            "satisfied": [i for i, true in enumerate(truth) if true],
            "unsatisfied": [i for i, true in enumerate(truth) if not true],
        }
        return all(truth), numbers

    activity_module.Conditions = Conditions
    activity_module.get_object_scope = get_object_scope
    activity_module.get_goal_conditions = get_goal_conditions
    activity_module.get_ground_goal_state_options = get_ground_goal_state_options
    activity_module.evaluate_goal_conditions = evaluate_goal_conditions
    activity_module.get_all_activities = lambda: list(problems)
    activity_module.get_instance_count = lambda activity: 1
    for name in [name for name in sys.modules if name == "bddl" or name.startswith("bddl.")]:
        monkeypatch.delitem(sys.modules, name)
    modules = [package, activity_module, config]
    if predicate_classes:
        predicates = ModuleType("bddl.predicates")
        predicates.TOKEN_TO_PREDICATE = classes
        modules.append(predicates)
    for module in modules:
        monkeypatch.setitem(sys.modules, module.__name__, module)
