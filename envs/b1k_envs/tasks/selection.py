"""Choosing tasks by words: `31`, `clean_boxing_gloves`, `31,0`, `0-49`, `b10`, `all`.

The groups b10 to b50 are those of the 2025 challenge: ten tasks each, from its table
(`OmniGibson/omnigibson/learning/utils/eval_utils.py` of BEHAVIOR-1K).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from b1k_envs.errors import UsageError
from b1k_envs.tasks.table import TASKS, Task, get_task

GROUPS: Mapping[str, range] = {
    "all": range(len(TASKS)),
    **{f"b{last}": range(last - 10, last) for last in (10, 20, 30, 40, 50)},
}
"""Indices by the name of a group, in lower case."""

_RANGE = re.compile(r"(\d{1,9})-(\d{1,9})")


def select_tasks(text: str) -> tuple[Task, ...]:
    """Return the tasks that a text names, in its order.

    Args:
        text: Indices, names, ranges such as `0-49` and groups, separated by commas.

    Raises:
        UsageError: There is no such task or group, a range runs backwards, or a task is named
            twice.
    """
    found: dict[int, Task] = {}
    for part in text.split(","):
        for task in _tasks_of(part.strip(), text):
            if task.index in found:
                raise UsageError(f"--task {text}: task {task.index} {task.name} is named twice")
            found[task.index] = task
    return tuple(found.values())


def _tasks_of(part: str, text: str) -> tuple[Task, ...]:
    group = GROUPS.get(part.lower())
    if group is not None:
        return tuple(TASKS[index] for index in group)
    ends = _RANGE.fullmatch(part)
    if ends is not None:
        first, last = (get_task(end).index for end in ends.groups())
        if last < first:
            raise UsageError(f"--task {text}: the range {part} runs backwards")
        return TASKS[first : last + 1]
    if not part:
        raise UsageError(
            f"--task {text!r} names nothing between two commas: give indices, names, ranges such "
            f"as 0-49 and groups ({', '.join(GROUPS)})"
        )
    return (get_task(part),)
