"""The adapter to BEHAVIOR-1K's own simulator, in its two challenge generations.

`env.OmniGibsonEnv` drives one robot in OmniGibson v3.7.2 (2025) or v3.9.3 (2026), and
`group.OmniGibsonWorlds` several at once in v3.9.3. Nothing of OmniGibson, torch or mujoco is
imported before one of them is built, because the first import of OmniGibson starts a graphics
application.
"""
