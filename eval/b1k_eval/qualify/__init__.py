"""Is this installation right? A ladder from the world's settings to a published score.

`rungs` says what a verdict is, `world_checks`, `pictures`, `replays` and `published` climb, `demos`
reads the demonstrations, `ladder` puts the rungs in order, `page` shows what came of it.
"""
