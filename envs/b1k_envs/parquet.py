"""A check that pyarrow imports, with an error that says why it does not."""

from __future__ import annotations

from b1k_envs.errors import UnavailableError


def require_pyarrow() -> None:
    """Check that parquet can be written and read, before hours go into a run that needs it.

    pyarrow 26 imports beside numpy 2 only, and its metadata do not say so: `pip` installs it beside
    OmniGibson's numpy 1 (docs/installing.md).

    Raises:
        UnavailableError: pyarrow is missing, or does not import.
    """
    try:
        import pyarrow.parquet  # noqa: F401 - only to see whether it imports
    except ImportError as error:
        raise UnavailableError(
            f"parquet can be neither written nor read, pyarrow does not import here ({error}); "
            "install it: pip install pyarrow, or beside numpy < 2: pip install 'pyarrow<26'"
        ) from error
