"""pyarrow, or the sentence that says why it does not import here."""

from __future__ import annotations

from b1k_envs.errors import UnavailableError


def require_pyarrow() -> None:
    """Make sure that parquet can be written and read, before hours go into what is to be written.

    pyarrow 26 imports beside numpy 2 only, and its metadata do not say so: `pip` puts it beside
    OmniGibson's numpy (docs/installing.md).

    Raises:
        UnavailableError: pyarrow is missing, or does not import.
    """
    try:
        import pyarrow.parquet  # noqa: F401 - only to see that it is there
    except ImportError as error:
        raise UnavailableError(
            f"parquet can be neither written nor read, pyarrow does not import here ({error}); "
            "install it: pip install pyarrow, or beside numpy < 2: pip install 'pyarrow<26'"
        ) from error
