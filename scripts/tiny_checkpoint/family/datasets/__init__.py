"""How batches were made for training."""
