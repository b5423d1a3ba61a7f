"""Inspection of a checkpoint: what it is sent, and what is wrong with that."""
