"""Disturbances of what a policy is shown, of its answers, and of the twin's world."""
