"""A small, real stand-in for the `omnigibson` package; see README.md."""
