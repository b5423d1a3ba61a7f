"""DA3-XVLA checkpoints as policies."""
