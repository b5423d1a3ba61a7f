"""Running episodes: simulators, sessions, workers, progress."""
