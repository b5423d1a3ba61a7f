"""From settings to episodes: simulators, sessions, workers, progress."""
