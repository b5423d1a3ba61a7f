"""Executing an episode's recorded actions again, and comparing the result with its trace.

`recorded` reads the episode, `retrace` executes it in the twin and finds the first difference,
`rrd` writes a file for the Rerun viewer.
"""
