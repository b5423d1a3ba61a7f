"""The evaluation contract: what decides the bytes that a model sees and what its numbers mean."""
