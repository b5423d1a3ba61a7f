"""The files of a checkpoint: found, verified, read."""
