"""Calls into a running environment, one class per generation."""
