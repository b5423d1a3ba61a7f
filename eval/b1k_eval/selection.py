"""Which episodes of a plan: `--instances 0-9,12` and `--shard I/N`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from b1k_envs.errors import UsageError

Planned = TypeVar("Planned")

MAX_INSTANCES = 10_000
"""Most instances of a run, far above any split's: a typo in a range must not fill the memory."""
_MAX_DIGITS = 9  # more than any index has; Python's `int` itself fails above 4300


def parse_instances(text: str) -> tuple[int, ...]:
    """Parse `0`, `0-9` or `0-9,12,15`; ascending.

    Raises:
        UsageError: Not of that form, a backward range, an index given twice, or more than
            `MAX_INSTANCES`.
    """
    form = "numbers and ranges such as 0-9,12,15"
    found: Counter[int] = Counter()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        # Not `isdigit`, which accepts superscripts, and `int` does not.
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageError(
                f"--instances {text!r}: {part!r} is not a number or range; give {form}"
            )
        if max(len(first), len(last)) > _MAX_DIGITS:
            raise UsageError(f"--instances {text[:40]!r}: no split has an index of so many digits")
        low, high = int(first), int(last) if dash else int(first)
        if high < low:
            raise UsageError(f"--instances {text!r}: the range {part.strip()} runs backwards")
        if found.total() + high - low + 1 > MAX_INSTANCES:
            raise UsageError(
                f"--instances {text!r}: more than {MAX_INSTANCES} instances; no split has so many"
            )
        found.update(range(low, high + 1))
    twice = [index for index, times in found.items() if times > 1]
    if twice:
        raise UsageError(f"--instances {text!r}: {min(twice)} is given twice")
    return tuple(sorted(found))


def parse_shard(text: str) -> str:
    """Parse `I/N`; return it with plain numbers.

    Raises:
        UsageError: Not of that form, or not 0 <= I < N.
    """
    first, _, last = (part.strip() for part in text.partition("/"))
    if not (first.isdecimal() and last.isdecimal() and len(text) <= 2 * _MAX_DIGITS):
        raise UsageError(
            f"--shard {text!r}: give I/N, such as 0/5 for the first of five shares (in a Slurm "
            "array job $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT)"
        )
    number, count = int(first), int(last)
    if number >= count:
        raise UsageError(
            f"--shard {text}: shares are counted from 0, so that N={count} has I from 0 to "
            f"{count - 1} (in Slurm --array=0-{count - 1})"
            if count
            else f"--shard {text}: N must be at least 1"
        )
    return f"{number}/{count}"


def share(plan: Sequence[Planned], shard: str | None) -> Sequence[Planned]:
    """Return the episodes of a shard; all for None.

    They are neighbours in the plan, because those share a scene, and loading one takes minutes.
    The sizes of two shards differ by one at most, and with few episodes some are empty.
    """
    if shard is None:
        return plan
    number, count = map(int, shard.split("/"))
    return plan[len(plan) * number // count : len(plan) * (number + 1) // count]
