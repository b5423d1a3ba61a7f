"""The BEHAVIOR challenge's result files: written from a run, and read into one."""
