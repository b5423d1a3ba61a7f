"""Guards every call into OmniGibson: on one thread, and none after a failure.

The application below OmniGibson is not thread-safe. Whatever OmniGibson raises becomes an EnvError
that says what was being done, and every later call is refused: after a failed step nothing is known
of the state of the world.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from b1k_envs.errors import B1kEvalError, EnvError, HostFaultError


class CallGuard:
    """See the module header. Belongs to the thread that made it."""

    def __init__(self) -> None:
        """Take this thread for that of OmniGibson."""
        self._thread = threading.get_ident()
        self._failure: str | None = None
        self._closed = False

    @contextmanager
    def calling(self, doing: str) -> Iterator[None]:
        """Guard what is done inside.

        Args:
            doing: What that is, such as `a step`.

        Raises:
            EnvError: It failed, something failed before, or this is another thread.
        """
        if threading.get_ident() != self._thread:
            raise EnvError(f"OmniGibson: {doing} was asked for on another thread than it lives on")
        self.check_sound()
        try:
            yield
        except EnvError as error:
            self._failure = str(error)
            raise
        except B1kEvalError:  # no such instance or file, found before anything was touched
            raise
        except (Exception, SystemExit) as error:  # OmniGibson's own shutdown raises SystemExit
            fault = _fault(doing, error)
            self._failure = str(fault)
            raise fault from error
        except BaseException:
            self._failure = f"interrupted during {doing}"
            raise

    def check_sound(self) -> None:
        """Raise EnvError if the world has failed; also for values that were cached before."""
        if self._failure is not None:
            raise EnvError(
                f"OmniGibson has failed ({self._failure}) and can do nothing more in this process"
            )

    def check_open(self, call: str) -> None:
        """Raise EnvError if the call comes after `close`."""
        if self._closed:
            raise EnvError(f"{call} was called after close")

    def close(self) -> bool:
        """Refuse all calls from now on.

        Returns:
            Whether the application is to be shut down: once, on its thread, and only if nothing
            failed, because a failed one would probably hang.
        """
        self._closed = True
        if self._failure is not None or threading.get_ident() != self._thread:
            return False
        self._failure = "it was closed"
        return True


def _fault(doing: str, error: BaseException) -> EnvError:
    """Turn an exception of OmniGibson into ours."""
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    if "outofmemory" in type(error).__name__.lower() or "out of memory" in str(error).lower():
        return HostFaultError(
            f"out of memory during {doing} in OmniGibson ({what}): end other programs on this "
            "GPU, or run fewer envs and workers on it"
        )
    return EnvError(f"OmniGibson failed during {doing}: {what}")
