"""Rollout videos: laid out, rendered and encoded off the loop."""
