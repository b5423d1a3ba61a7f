"""A small policy, learned in the twin from its scripted expert, in the v17 format."""
