"""Names under which installed packages offer policies: entry points, read without importing them.

In the package's pyproject.toml:

    [project.entry-points."b1k_eval.policies"]
    my-policy = "my_package.policy:MyPolicy"
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from b1k_envs.errors import UsageError

GROUP = "b1k_eval.policies"
"""The group of entry points."""


def installed() -> dict[str, list[EntryPoint]]:
    """Return the entry points of the group by name; more than one of a name is a conflict."""
    found: dict[str, list[EntryPoint]] = {}
    for each in entry_points(group=GROUP):
        same = found.setdefault(each.name, [])
        # A package that is on the path twice, as an editable install and a wheel, is one package.
        if all((each.value, _package(each)) != (known.value, _package(known)) for known in same):
            same.append(each)
    return found


def installed_words() -> str:
    """Return a sentence with the names, for `--help`; nothing without any."""
    names = sorted(installed())
    return f" From installed packages: {', '.join(names)}." if names else ""


def of_name(name: str) -> EntryPoint | None:
    """Return the policy that a package offers under a name; None for none.

    Raises:
        UsageError: Two packages offer the name.
    """
    found = installed().get(name, [])
    if len(found) > 1:
        listed = " and ".join(f"{each.value} of {_package(each)}" for each in found)
        raise UsageError(
            f"--policy {name}: two installed packages have this name ({listed}): name the class, "
            f"--policy {found[0].value}"
        )
    return found[0] if found else None


def _package(point: EntryPoint) -> str:
    return "an unknown package" if point.dist is None else point.dist.name
