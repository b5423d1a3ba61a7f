"""One module for each kind of recording."""
