"""Checking an installation on a ladder of rungs, from the world's settings to a published score.

`rungs` has the verdicts; `world_checks`, `pictures`, `replays` and `published` are the rungs;
`demos` reads the demonstrations, `ladder` puts the rungs in order, and `page` shows the result.
"""
