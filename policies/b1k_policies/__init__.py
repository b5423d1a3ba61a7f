"""Floor 2: from observation to action chunk. Importing it loads no model library."""
