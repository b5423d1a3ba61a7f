"""The code that a checkpoint brings: what it needs, and how it is run."""
