"""Rollouts as a LeRobot data set: recorded beside the episode, joined when the run is done."""
