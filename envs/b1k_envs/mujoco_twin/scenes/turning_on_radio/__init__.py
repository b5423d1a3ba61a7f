"""Task 0: a living room with a radio on a low table."""
