"""An episode executed again from its recorded actions, held against its trace, and shown.

`recorded` reads what was done and what came of it, `executing` does it again in the twin and says
where the two part, `rrd` writes what was seen as a file for the Rerun viewer.
"""
