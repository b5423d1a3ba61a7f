"""Whether two runs can be compared, and how they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from b1k_envs.errors import UsageError
from b1k_eval.records.loading import RunData
from b1k_eval.settings import UNKNOWN
from b1k_policies.contract.fields import FIELDS, completed

_MUST_AGREE: Mapping[str, str] = {
    "sim": "simulator",
    "protocol": "protocol",
    "task": "task",
    "split": "split",
    "max_steps": "time limit in steps",
}
"""Settings that make the numbers of two runs incomparable, whatever the policy."""

_CHOSEN: Mapping[str, str] = {
    "partial_scene": "part of the scene only",
    "heavy_base": "base of 250 kg",
}
"""The same, except that official files do not record them; then they are only notable."""

_WORTH_KNOWING: Mapping[str, str] = {
    "action_noise_resolved": "action noise",
    "disturb": "disturbance",
    "chunking": "chunking",
    "horizon": "horizon",
    "mode": "mode",
    "latency": "latency",
    "ensemble_every": "steps between inferences",
    "ensemble_decay": "ensemble decay",
    "render": "rendering",
    "render_quality": "render quality",
    "rollouts": "rollouts per instance",
    "seed": "seed",
    "human_stats": "human figures",
    "progress_variant": "variant of task progress",
    "track": "track",
}

_POLICY: Mapping[str, str] = {
    "device": "device",
    "autocast": "autocast",
    "compiled": "compiled",
    "forced_skill_id": "forced skill",
    "forced_skill_progress": "forced skill progress",
}


@dataclass(frozen=True, kw_only=True)
class RunDifference:
    """One difference between two runs: its name for display, and both JSON values."""

    name: str
    first: Any
    second: Any

    def __str__(self) -> str:
        return f"{self.name}: {_text(self.first)} against {_text(self.second)}"


@dataclass(frozen=True, kw_only=True)
class Differences:
    """How two runs differ.

    Attributes:
        blocking: Differences that make a comparison meaningless unless the user asks for it.
        notable: Others that a reader should know: declared parts of the experiment (noise, horizon,
            latency), versions, seeds.
        contract: Fields of the evaluation contracts, if both runs have one.
    """

    blocking: tuple[RunDifference, ...]
    notable: tuple[RunDifference, ...]
    contract: tuple[RunDifference, ...]


def differences(first: RunData, second: RunData) -> Differences:
    """List the differences of two runs."""
    one, two = first.identity, second.identity
    blocking = _of(one["settings"], two["settings"], _MUST_AGREE)
    worlds = [_without_instances(run.identity["env"]) for run in (first, second)]
    known = {*worlds[0], *worlds[1]}
    if any(identity.get("imported_from") is not None for identity in (one, two)):
        known = {*worlds[0]} & {*worlds[1]}  # official files do not describe the world
    blocking += _of(worlds[0], worlds[1], {name: name for name in sorted(known)})
    blocking += _numbers(one, two)
    blocking += _instances(first, second)
    chosen = _of(one["settings"], two["settings"], _CHOSEN)
    blocking += [each for each in chosen if not _is_unknown(each)]
    notable = _of(one["settings"], two["settings"], _WORTH_KNOWING)
    notable += [each for each in chosen if _is_unknown(each)]
    notable += _of(one, two, {"b1k_eval": "b1k-eval version", "privileged": "privileged"})
    notable += _of(one["env"], two["env"], {"sim_version": "simulator version"})
    notable += _of(one["policy"], two["policy"], _POLICY)
    notable += _surroundings(one["policy"], two["policy"])
    first_source, second_source = (source_facts(each["policy"]) for each in (one, two))
    names = {name: name for name in {**first_source, **second_source}}
    notable += _of(first_source, second_source, names)
    notable += _scored(first, second)
    return Differences(
        blocking=tuple(blocking), notable=tuple(notable), contract=tuple(_contracts(one, two))
    )


def settings_differences(settings: Mapping[str, Any], other: RunData) -> tuple[RunDifference, ...]:
    """List the blocking differences between a run about to start and a finished one.

    `settings` are the new run's settings as JSON values.
    """
    chosen = _of(settings, other.identity["settings"], _CHOSEN)
    return (
        *_of(settings, other.identity["settings"], _MUST_AGREE),
        *(each for each in chosen if not _is_unknown(each)),
    )


def require_comparable(runs: Sequence[RunData]) -> None:
    """Check that all runs can be compared with the first.

    Raises:
        UsageError: Two are the same folder, or different experiments; the message says how.
    """
    paths = [(run.path.resolve(), run.task) for run in runs]
    for run, path in zip(runs, paths, strict=True):
        if paths.count(path) > 1:
            raise UsageError(f"{run.path} is given twice: compare it with another run")
    for run in runs[1:]:
        blocking = differences(runs[0], run).blocking
        if blocking:
            listed = "; ".join(str(difference) for difference in blocking)
            raise UsageError(
                f"{runs[0].name} and {run.name} are not comparable ({listed}); pass --mix to "
                "show what they share anyway; the output will say so"
            )


def stopped_early(first: RunData, second: RunData) -> bool:
    """Return whether one of the two was run until a comparison was decided."""
    # Its number of instances then depends on its results, and a test for a fixed number would find
    # differences too often.
    return any(run.identity["settings"].get("against") is not None for run in (first, second))


def _of(
    first: Mapping[str, Any], second: Mapping[str, Any], names: Mapping[str, str]
) -> list[RunDifference]:
    found = []
    for name, words in names.items():
        one, two = (side.get(name) for side in (first, second))
        if one != two:
            found.append(RunDifference(name=words, first=one, second=two))
    return found


def _is_unknown(difference: RunDifference) -> bool:
    return UNKNOWN in (difference.first, difference.second)


def _numbers(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[RunDifference]:
    """List the indices that stand for different official instances in the two runs."""
    first, second = (side.get("instance_ids") or {} for side in (one, two))
    return [
        RunDifference(
            name=f"official number of instance {index}", first=first[index], second=second[index]
        )
        for index in first
        if index in second and first[index] != second[index]
    ]


def _without_instances(env: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the world, by a name for display."""
    return {f"world: {name}": value for name, value in env["settings"].items()}


def _instances(first: RunData, second: RunData) -> list[RunDifference]:
    """Compare the planned instances; not for a run that was stopped once it was decided."""
    one, two = (sorted(run.identity["settings"]["instances"]) for run in (first, second))
    if one == two or stopped_early(first, second):
        return []
    return [RunDifference(name="instances", first=ranges(one), second=ranges(two))]


def _scored(first: RunData, second: RunData) -> list[RunDifference]:
    """Compare the scored instances: errors and unfinished runs leave some out."""
    one, two = (sorted({e.key.instance for e in run.scored}) for run in (first, second))
    if one == two:
        return []
    return [RunDifference(name="instances scored", first=ranges(one), second=ranges(two))]


def _contracts(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[RunDifference]:
    """Compare the contracts as recorded: other versions of this package may have other fields."""
    documents = [identity["policy"].get("contract") for identity in (one, two)]
    if None in documents:
        return []
    first, second = (completed(document["contract"]) for document in documents)
    names = dict.fromkeys((*first, *second))
    labels = {"format", *(name for name, info in FIELDS.items() if info.effect == "label")}
    fields = {name: name.replace("_", " ") for name in names if name not in labels}
    return _of(first, second, fields)


def _surroundings(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[RunDifference]:
    """Compare environment variables and packages that a checkpoint's code may depend on.

    Older runs did not record them.
    """
    found = []
    for key, words in (("variables", "variable"), ("packages", "version of")):
        first, second = one.get(key), two.get(key)
        if first is not None and second is not None:
            names = {name: f"{words} {name}" for name in sorted({*first, *second})}
            found += _of(first, second, names)
    return found


def source_facts(policy: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a user's own policy was made from, by a name for display; {} for any other."""
    source = policy.get("source")
    if source is None:
        return {}
    return {
        "policy's class": f"{source['module']}:{source['class']}",
        "policy's package": source["package"],
        **{f"policy's argument {name}": value for name, value in source["arguments"].items()},
        **{f"policy's file {name}": digest[:12] for name, digest in source["files"].items()},
    }


def ranges(numbers: Sequence[int]) -> str:
    """Format ascending numbers as `0-9, 12`, or `none`."""
    pieces: list[list[int]] = []
    for number in numbers:
        if pieces and number == pieces[-1][-1] + 1:
            pieces[-1].append(number)
        else:
            pieces.append([number])
    texts = [f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in pieces]
    return ", ".join(texts) or "none"


def _text(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return a value in words: never a dictionary, a list or a truth as Python prints it."""
    if isinstance(value, Mapping) and "sigma" in value:
        kicks = f", kicks of {value['kick']:g} at {value['kick_rate_hz']:g} Hz"
        return f"{value['sigma']:g} over {value['correlation_s']:g} s" + (
            kicks if value["kick_rate_hz"] else ""
        )
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {_text(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
