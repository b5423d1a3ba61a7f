"""Helpers of the package."""

from omnigibson_double import touch

touch.module(__name__)
