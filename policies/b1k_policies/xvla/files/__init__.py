"""Finding, verifying and reading the files of a checkpoint."""
