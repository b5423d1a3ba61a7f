"""From a checkout and its data to a running simulator that was checked."""
