"""Records of a run: scores, traces, the run folder, and reading it back."""
