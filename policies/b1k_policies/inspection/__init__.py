"""What a checkpoint is sent, and what is wrong with it."""
