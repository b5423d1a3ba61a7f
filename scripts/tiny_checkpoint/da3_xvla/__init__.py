"""A tiny model with the interface of DA3-XVLA. Random weights; written for tests."""
