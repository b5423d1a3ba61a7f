"""Published scores as data, and a run held against them."""

PREFIX = "published:"
"""Of the name of a policy with published scores, where a run folder could stand too."""
