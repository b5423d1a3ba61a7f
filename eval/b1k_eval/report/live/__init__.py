"""The page from a server of this machine, following runs."""
