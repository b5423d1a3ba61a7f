"""Where policies die, and whether they know, from results and traces alone."""
