"""Policies of other packages in this process; each module imports its package when it is used."""
