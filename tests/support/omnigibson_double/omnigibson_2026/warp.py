"""Stands for warp, whose generator no other library's seed reaches."""

import random as _random

_generator = _random.Random()  # by the operating system


def rand_init(seed):
    _generator.seed(int(seed))


def draw():
    """What a kernel would."""
    return _generator.random()
