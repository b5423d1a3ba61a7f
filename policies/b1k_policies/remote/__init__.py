"""Policies in another process: the wire, the client, the server."""
