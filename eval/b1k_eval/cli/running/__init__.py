"""Verbs that step a world."""
