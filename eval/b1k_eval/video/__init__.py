"""Rollout videos: layout, rendering and encoding on another thread than the loop's."""
