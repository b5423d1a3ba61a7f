"""The context of the templates: findings as texts and short numbers.

Nothing here is marked safe: the templates escape every text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from b1k_envs.r1pro import ARMS, GRIPPER_OPEN
from b1k_eval import __version__
from b1k_eval.comparison.comparable import source_facts
from b1k_eval.loop.events import Outcome
from b1k_eval.loop.strategy import DEFAULT_HORIZON
from b1k_eval.records.episode import OUTCOMES
from b1k_eval.records.scoring import TIPS
from b1k_eval.report.contracts import contracts_context
from b1k_eval.report.figures import letter
from b1k_eval.report.looks import RUN_COLOURS
from b1k_eval.report.overview import Findings, RunFindings
from b1k_eval.report.selfreport_words import progress_words, skill_words
from b1k_eval.run.remarks import PRIVILEGED
from b1k_eval.settings import MEASURED, UNKNOWN
from b1k_policies.inspection.chunk import nearly_open

GLYPHS: Mapping[Outcome, str] = {"success": "●", "failure": "✕", "error": "!"}
"""Shown besides colours, for those who cannot tell them apart; the same as in dom.js."""

NOT_LIVE = "told by b1k-eval report, which reads every trace"

NONE = "-"
"""In place of a missing number."""

KEYS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("space",), "play, pause"),
    (("←", "→"), "one picture back, on"),
    (("shift ←", "shift →"), "one second back, on"),
    (("home", "end"), "first, last picture"),
    (("n", "p"), "next, previous episode of the list, as filtered and sorted"),
    (("↑", "↓", "enter"), "in the list: choose and open an episode"),
    (("+", "-", "0"), "timelines: closer, wider, all"),
    (("/",), "search the list"),
    (("esc",), "back to the list"),
    (("?",), "this help"),
)


def page_context(found: Findings) -> dict[str, Any]:
    """Return everything but figures, files and paths."""
    runs = found.runs
    return {
        "title": ", ".join(run.data.name for run in runs),
        "version": __version__,
        "colours": len(RUN_COLOURS),
        "outcomes": OUTCOMES,
        "tips": TIPS,
        "level": f"{100 * found.document['level']:g} %",
        "episode_count": sum(len(run.episodes) for run in runs),
        "honesty": list(_honesty(runs)),
        "notices": list(_notices(found)),
        "runs": [_run(run, number) for number, run in enumerate(runs)],
        "pairs": [pair_context(pair) for pair in found.document["pairs"]],
        "bottlenecks": list(_bottlenecks(runs)),
        "grid": _grid(runs),
        "checks": checks_context(runs),
        "contracts": contracts_context([run.data for run in runs]),
        "keys": KEYS,
    }


# --- what limits the meaning of the results -----------------------------------------------------


def _honesty(runs: Sequence[RunFindings]) -> Iterator[dict[str, Any]]:
    if any(run.row["sim"] == "mujoco" for run in runs):
        which = (
            "Not a benchmark score: other pixels and other contacts than the official evaluator's."
        )
        yield {"runs": [], "what": "MuJoCo twin.", "words": which}
    privileged = [_mark(number) for number, run in enumerate(runs) if run.row["privileged"]]
    if privileged:
        yield {"runs": privileged, "what": "Privileged.", "words": PRIVILEGED}
    for number, run in enumerate(runs):
        policy = run.data.identity["policy"]
        forced = [row["name"] for row in policy.get("contract", {}).get("forced", [])]
        for name in ("skill_id", "skill_progress"):
            if policy.get(f"forced_{name}") is not None:
                forced.append(name)
        if forced or policy.get("forced"):
            what = ", ".join(forced) or "see the remarks on the run"
            words = f"Against what the checkpoint states, an ablation: {what}."
            yield {"runs": [_mark(number)], "what": "Forced.", "words": words}


def _mark(number: int) -> dict[str, Any]:
    return {"index": number, "letter": letter(number)}


def _notices(found: Findings) -> Iterator[dict[str, Any]]:
    if found.document["mixed"]:
        yield {
            "text": "These runs are different experiments, and their numbers are not comparable.",
            "details": [
                f"{pair['first']} and {pair['second']}: {entry['text']}"
                for pair in found.document["pairs"]
                for entry in pair["differences"]["blocking"]
            ],
        }
    for number, run in enumerate(found.runs):
        yield from _run_notices(run, f"{letter(number)} ({run.data.name})")


def _run_notices(run: RunFindings, name: str) -> Iterator[dict[str, Any]]:
    data = run.data
    if data.pending:
        done = len(data.plan) - len(data.pending)
        yield {
            "text": f"{name} is still being written, or was stopped: {done} of {len(data.plan)} "
            "episodes are there.",
            "details": [],
        }
    if not run.row["scored"]:
        what = "errors only" if data.counts["error"] else "no finished episode yet"
        yield {"text": f"{name} has no scored episode: {what}.", "details": []}
    if data.damaged:
        yield {
            "text": f"{name}: {_count(len(data.damaged), 'episode')} left out as damaged.",
            "details": [f"{entry.name}: {entry.why}" for entry in data.damaged],
        }
    problems = [
        f"{page.row['name']}: {problem}"
        for page in run.episodes
        for problem in page.row["problems"]
    ]
    if problems:
        yield {
            "text": f"{name}: {_count(len(problems), 'file')} cannot be used as they are; "
            "the rest is complete.",
            "details": problems,
        }
    for arm in ARMS:
        highest = max((page.openest.get(arm, -1.0) for page in run.episodes), default=-1.0)
        if nearly_open(highest):
            yield {
                "text": f"{name} never commands gripper_{arm} above {highest:.4g}: "
                f"{GRIPPER_OPEN:g} alone releases what is held.",
                "details": [],
            }
    if run.no_funnel is not None:
        yield {"text": f"{name}: no funnel ({run.no_funnel}).", "details": []}


# --- runs ---------------------------------------------------------------------------------------


def _run(run: RunFindings, number: int) -> dict[str, Any]:
    row, data = run.row, run.data
    settings, policy = data.identity["settings"], data.identity["policy"]
    contract, protocol = policy.get("contract", {}), f"protocol {settings['protocol']}"
    return {
        **_mark(number),
        "name": run.name,
        "sub": " · ".join(
            name
            for name in (data.label, data.name, data.task, settings["sim"], protocol)
            if name != run.name
        ),
        "counts": row["counts"],
        "open": len(data.plan) - len(data.episodes),
        "success": share(row["success"]["rate"], row["success"]["interval"], "{:.0%}"),
        "q_score": share(row["q_score"]["mean"], row["q_score"]["interval"], "{:.2f}"),
        "task_progress": share(
            row["task_progress"]["mean"], row["task_progress"]["interval"], "{:.1%}"
        ),
        "steps": _number(row["steps"], "{:,.0f}"),
        "distance": _number(row["distance_m"]["base"], "{:.1f} m"),
        "latency": NONE if row["latency_s"] is None else seconds(row["latency_s"]),
        "skill": skill_words(run.self_report) if run.self_report else [NOT_LIVE],
        "progress": progress_words(run.self_report) if run.self_report else [NOT_LIVE],
        "facts": list(_facts(run)),
        "files": [
            {**file, "size": f"{file['size']:,}"}
            for file in policy.get("checkpoint", {}).get("files", [])
        ],
        "forced": [
            f"{row['name']}: {row['where']} says {row['stated']}, sent is {row['other']}"
            for row in contract.get("forced", [])
        ],
        "remarks": policy.get("remarks", []),
    }


def share(mean: float | None, interval: Mapping[str, Any] | None, style: str) -> dict[str, Any]:
    """Return a share in [0, 1] as text, and in per cent for the bar beside it."""
    if mean is None:
        return {"text": "", "ends": "", "at": 0, "low": None, "width": 0}
    ends, low, width = "", None, 0.0
    if interval is not None:
        ends = f"{style.format(interval['low'])}, {style.format(interval['high'])}"
        low = round(100 * interval["low"], 2)
        width = round(100 * (interval["high"] - interval["low"]), 2)
    return {
        "text": style.format(mean),
        "ends": ends,
        "at": round(100 * mean, 2),
        "low": low,
        "width": width,
    }


def _facts(run: RunFindings) -> Iterator[tuple[str, str]]:
    identity = run.data.identity
    settings, policy = identity["settings"], identity["policy"]
    yield "folder", str(run.data.path)
    yield "task, split", f"{settings['task']}, {settings['split']}"
    yield "simulator", f"{settings['sim']} {identity['env']['sim_version']}"
    yield "protocol", f"{settings['protocol']}, at most {settings['max_steps']} steps"
    yield from _world_choices(settings)
    yield (
        "episodes",
        (
            f"{_count(len(settings['instances']), 'instance')}, "
            f"{_count(settings['rollouts'], 'rollout')} each, seed {settings['seed']}"
        ),
    )
    yield "actions", f"{settings['chunking']}, {_chunking(settings, policy)}"
    if settings.get("mode", "sync") != "sync":
        latency = settings["latency"]
        unit = "" if latency == MEASURED else " ms"
        yield "mode", f"{settings['mode']}, latency {latency}{unit}"
    if settings["action_noise"] is not None:
        yield "action noise", str(settings["action_noise"])
    if "checkpoint" in policy:
        checkpoint = policy["checkpoint"]
        yield "checkpoint", f"{checkpoint['origin']}, weights {checkpoint['weights_sha256'][:12]}"
        yield "device", f"{policy['device']}, autocast {policy['autocast'] or 'none'}"
    for name, value in source_facts(policy).items():
        yield name, str(value)
    for session in run.data.sessions:
        code = session.get("policy", {})
        if code.get("source_commit"):
            changed = ", changed" if code["source_dirty"] else ""
            yield "policy's commit", f"{code['source_commit'][:12]}{changed}"
        commit = (session.get("git_commit") or "no checkout")[:12]
        dirty = ", changed" if session.get("git_dirty") else ""
        yield "made", f"{session.get('started_at', '?')}, commit {commit}{dirty}"
        yield "machine", f"{session.get('cpu', '?')}, Python {session.get('python', '?')}"
        versions = session.get("versions", {})
        yield "versions", ", ".join(f"{name} {value}" for name, value in versions.items())


def _world_choices(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the settings that the 2025 evaluator leaves open."""
    if (settings["sim"], settings["protocol"]) != ("omnigibson", "2025"):
        return
    words = {True: "the rooms of the task only", False: "the whole house"}
    yield "scene", words.get(settings["partial_scene"], UNKNOWN)
    words = {True: "250 kg", False: "the robot's own mass"}
    yield "base", words.get(settings["heavy_base"], UNKNOWN)


def _chunking(settings: Mapping[str, Any], policy: Mapping[str, Any]) -> str:
    if settings["chunking"] == "ensemble":
        return f"every {settings['ensemble_every']} steps, decay {settings['ensemble_decay']}"
    rows = settings["horizon"]
    if rows is None:
        length = policy.get("chunk_length")
        rows = "unknown" if length is None else min(DEFAULT_HORIZON, length)
    return f"{rows} of a chunk"


def _grid(runs: Sequence[RunFindings]) -> dict[str, Any]:
    """Return outcomes by episode, the runs below each other, to see where they differ."""
    keys = sorted({(key.instance, key.rollout) for run in runs for key in run.data.plan})
    several = any(rollout for _, rollout in keys)
    rows = []
    for number, run in enumerate(runs):
        known = {(page.row["instance"], page.row["rollout"]): page.row for page in run.episodes}
        cells = [_cell(number, known[key]) if key in known else None for key in keys]
        rows.append({"letter": letter(number), "cells": cells})
    columns = [f"{instance}.{rollout}" if several else str(instance) for instance, rollout in keys]
    return {"columns": columns, "rows": rows}


def _cell(run: int, row: Mapping[str, Any]) -> dict[str, str]:
    score = "" if row["q"] is None else f", q {row['q']:.2f}"
    why = f": {row['why']}" if row["why"] else ""
    return {
        "outcome": row["outcome"],
        "glyph": GLYPHS[row["outcome"]],
        "href": f"#episode/{run}/{quote(row['name'], safe='')}",
        "words": f"instance {row['instance']}: {row['outcome']}{score}{why}",
    }


def checks_context(runs: Sequence[RunFindings]) -> dict[str, Any]:
    """Return how often each check of task progress was reached, a column per run.

    Returns:
        `variants` by name, `rows` (name, words and a cell per run), and `at_once`, the checks that
        held after the first step in every episode of every run. No rows if none was counted, or
        the runs are of several tasks.
    """
    found = [run.row["task_progress"] for run in runs]
    counted = [each for each in found if each["checks"]]
    names = [[check["name"] for check in each["checks"]] for each in counted]
    rows, at_once = [], []
    for index, check in enumerate(counted[0]["checks"] if names and _alike(names) else ()):
        cells = [_check_cell(each, index) if each["checks"] else NONE for each in found]
        rows.append({"name": check["name"], "words": check["words"], "cells": cells})
        if all(each["checks"][index]["at_once"] == each["episodes"] for each in counted):
            at_once.append(check["name"])
    return {
        "variants": ", ".join(sorted({each["variant"] for each in counted})),
        "rows": rows,
        "at_once": at_once,
        "nothing": f"{len(at_once) / len(rows):.1%}" if rows else NONE,
    }


def _alike(names: Sequence[Sequence[str]]) -> bool:
    return all(each == names[0] for each in names)


def _check_cell(progress: Mapping[str, Any], index: int) -> str:
    check = progress["checks"][index]
    step = "" if check["median_step"] is None else f" ({check['median_step']:,.0f})"
    return f"{check['reached']} of {progress['episodes']}{step}"


# --- pairs of runs ------------------------------------------------------------------------------


def pair_context(pair: Mapping[str, Any]) -> dict[str, Any]:
    """Return the comparison of two runs, or of two runs over tasks, as texts."""
    rows = []
    for what, key in (
        ("success rate", "success"),
        ("q-score", "q_score"),
        ("task progress", "task_progress"),
    ):
        found = pair.get(key)
        if found is not None:
            rows.append({"what": what, "cells": _cells(found), "test": found["test"]})
    apart = pair["differences"]
    notes = [entry["text"] for kind in ("blocking", "notable") for entry in apart[kind]]
    if apart["contract"]:
        notes.append(f"contracts differ in {_count(len(apart['contract']), 'field')}")
    over_tasks = pair.get("shared_tasks")
    shared = (
        _count(pair["shared_instances"], "shared instance")
        if over_tasks is None
        else _count(over_tasks, "shared task")
    )
    for found in [pair["success"]] if pair["success"] else []:
        notes.insert(
            0,
            f"{shared}: {pair['second']} better on "
            f"{found['second_better']}, {pair['first']} on {found['first_better']}, "
            f"{found['ties']} alike",
        )
    return {
        "first": pair["first"],
        "second": pair["second"],
        "verdict": pair["verdict"],
        "decided": pair["decided"],
        "rows": rows,
        "notes": notes,
    }


def _cells(found: Mapping[str, Any]) -> list[str]:
    interval = found["interval"]
    return [
        f"{found['mean_first']:.3f}",
        f"{found['mean_second']:.3f}",
        f"{found['difference']:+.3f}",
        NONE if interval is None else f"{interval['low']:+.3f}, {interval['high']:+.3f}",
        f"{found['p_value']:.3g}",
    ]


def _bottlenecks(runs: Sequence[RunFindings]) -> Iterator[dict[str, Any]]:
    for number, run in enumerate(runs):
        if run.funnel is None or not run.funnel.scored:
            continue
        lost = run.funnel.bottleneck
        text = "No episode was lost: every stage was reached."
        if lost is not None:
            text = str(lost)
        yield {**_mark(number), "text": text}


# --- numbers ------------------------------------------------------------------------------------


def seconds(value: float) -> str:
    """Format a duration [s], in milliseconds below a second."""
    if value >= 1:
        return f"{value:.2f} s"
    return f"{1000 * value:.{0 if value >= 0.0995 else 1 if value >= 0.00995 else 2}f} ms"


def _number(value: float | None, style: str) -> str:
    return NONE if value is None else style.format(value)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' if number != 1 else ''}"
