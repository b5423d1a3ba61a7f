"""Diagnosis from results and traces: where policies fail, and whether their reports are right."""
