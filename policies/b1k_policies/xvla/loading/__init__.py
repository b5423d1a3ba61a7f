"""Building a checkpoint's model, and making sure that its weights have reached it."""
