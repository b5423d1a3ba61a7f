"""Calls into a running environment, one class for each generation."""
