"""Experiment trackers that a run is logged to: wandb, trackio, TensorBoard, MLflow."""
