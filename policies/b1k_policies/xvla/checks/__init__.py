"""Trying a loaded model before the first episode."""
