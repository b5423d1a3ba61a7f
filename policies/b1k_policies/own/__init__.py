"""Policies of users: found by name, made from typed arguments, and recorded.

No import of this package imports such a policy; `installed` does not even import numpy.
"""
