"""Floor 1, the world: environments, the robot as data, goals and sub-goals.

Importing this package loads no simulator, no GPU library and no dataset.
"""
