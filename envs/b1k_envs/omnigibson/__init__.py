"""The adapter to BEHAVIOR-1K's own simulator, in its two challenge generations.

`env.OmniGibsonWorlds` has one env in OmniGibson v3.7.2 (2025), and one or several in v3.9.3
(2026). Nothing of OmniGibson, torch or mujoco is imported before it is built, because the first
import of OmniGibson starts a graphics application.
"""
