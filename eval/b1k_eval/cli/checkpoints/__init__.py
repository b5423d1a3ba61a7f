"""Verbs about a checkpoint."""
