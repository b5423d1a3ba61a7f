"""Where the workers of a run live: processes of this machine, or slots of a Ray cluster."""
