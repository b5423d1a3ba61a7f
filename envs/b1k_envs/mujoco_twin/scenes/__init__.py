"""The rooms of the twin, one folder a task."""
