"""A run as it goes on, for those who watch it: displays, lines, and a file for other processes."""
