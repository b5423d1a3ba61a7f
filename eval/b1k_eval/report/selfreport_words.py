"""The measures of a policy's self-reports, in a few lines of text."""

from __future__ import annotations

from b1k_eval.diagnosis.selfreport import Agreement, Calibration, SelfReport


def skill_words(report: SelfReport) -> list[str]:
    """Describe the skill reports."""
    skill = report.skill
    if skill is None:
        return ["reports no skill"]
    lines = []
    if len(skill.said) == 1:
        lines.append(f"always says “{skill.said[0]}”")
    if skill.agreement is not None:
        lines.append(f"the skill called for: {_agreement(skill.agreement, 'inference')}")
    if skill.at_achievement is not None:
        text = _agreement(skill.at_achievement, "sub-goal")
        lines.append(f"when a sub-goal was reached: {text}")
    if skill.no_agreement is not None:
        lines.append(skill.no_agreement)
    if skill.association is not None:
        found = skill.association
        lines.append(
            f"association with the skill called for: mutual information "
            f"{found.mutual_information:.2f} (chance {found.mutual_information_chance:.2f}), "
            f"Cramér's V {found.cramers_v:.2f} (chance {found.cramers_v_chance:.2f})"
        )
    if skill.switches_per_s is not None:
        lines.append(f"changes its skill {skill.switches_per_s:.2f} times a second")
    return lines


def _agreement(found: Agreement, case: str) -> str:
    plural = "s" if found.of != 1 else ""
    return f"{found.share:.0%} of {found.of} {case}{plural} (chance {found.chance:.0%})"


def progress_words(report: SelfReport) -> list[str]:
    """Describe the progress reports."""
    progress = report.progress
    if progress is None:
        return ["reports no progress"]
    lines = []
    if progress.spread is not None:
        lines.append(progress.spread.verdict)
    if progress.rising is not None:
        lines.append(f"does not fall in {progress.rising:.0%} of its changes")
    if progress.with_time is not None:
        found = progress.with_time
        lines.append(f"rank correlation with time {found.rho:.2f}, {found.of} successful episodes")
    if progress.with_subgoals is not None:
        lines.append(f"rank correlation with sub-goals reached {progress.with_subgoals.rho:.2f}")
    if progress.against_subgoals is not None:
        lines.append(f"against sub-goals reached: {_brier(progress.against_subgoals)}")
    if progress.against_time is not None:
        lines.append(f"against time, successful episodes: {_brier(progress.against_time)}")
    return lines


def _brier(found: Calibration) -> str:
    return f"Brier score {found.brier:.3f} (the best constant {found.constant:.3f})"
