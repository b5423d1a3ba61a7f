"""One copy of a model for all workers of a run: the server, started and stopped by the run itself.

`process` is the server's process, `model` starts it, watches it and starts it again, `client` is
what the workers ask. The server listens on the loopback with a random key, and batches over
everybody who waits. If it dies, it is started again on the same address; a question that was not
answered is asked again in a new session that is told episode, step and number of inferences, so
that the answer is the same.
"""

from __future__ import annotations
