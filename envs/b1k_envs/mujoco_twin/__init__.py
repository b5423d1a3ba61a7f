"""The embedded default simulator: a MuJoCo twin of the BEHAVIOR-1K evaluator.

Same robot, cameras, action and proprio layouts, goal and scoring as the OmniGibson evaluator; not
the same pixels or contacts, so a score from here is never a benchmark score.
"""
