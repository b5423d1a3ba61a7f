"""The code of a checkpoint that was learned in the twin."""
