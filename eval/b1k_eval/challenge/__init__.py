"""The BEHAVIOR challenge's result files: exporting runs and importing results."""
