"""A certificate that parallelism changes nothing: the same episodes in several ways, compared.

`ways` runs them, `traces` compares, `equivalence` is for a simulator that never does the same
twice, `certificate` says what was found.
"""
