"""Comparing runs: intervals, tests of a difference, and the number of instances needed.

`intervals`, `paired`, `sequential` and `power` are statistics on plain numbers. How far each can be
trusted is measured in docs/statistics.md.
"""
