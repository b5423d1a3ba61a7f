"""Verbs that read run folders."""
